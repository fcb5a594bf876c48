//! The smallest service: what every service's `main` looks like. The tests start it on demand.

use std::process::ExitCode;

use strata_rpc::{Context, ServiceArgs, run};
use tonic::service::Routes;

#[allow(dead_code)]
#[path = "../tests/sample/lamp.rs"]
mod lamp;

#[tokio::main]
async fn main() -> ExitCode {
    run("lamp", ServiceArgs::from_command_line(), lamp::SURFACE, |ctx: Context| async move {
        if ctx.root.join("refuse").exists() {
            return Err("the root says no");
        }
        // One line per life, for the test that counts them.
        let lives = std::fs::read_to_string(ctx.root.join("lives")).unwrap_or_default();
        let life = format!("{lives}{}\n", std::process::id());
        std::fs::write(ctx.root.join("lives"), life).map_err(|_| "cannot write lives")?;
        Ok(Routes::new(lamp::Lamp { drain: ctx.drain, ..Default::default() }))
    })
    .await
}
