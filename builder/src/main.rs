//! The builder as a process: flags, configuration, serve, drain.

use std::process::ExitCode;

use strata_builder::{Config, service};
use strata_rpc::{Context, ServiceArgs, access::Surface};

#[tokio::main]
async fn main() -> ExitCode {
    strata_rpc::run("builder", ServiceArgs::from_command_line(), Surface::STRATA, build).await
}

async fn build(context: Context) -> Result<tonic::service::Routes, strata_rpc::serve::BuildError> {
    let config: Config = context.load_config()?;
    let root = context.root.display().to_string();
    Ok(service(config, root, context.idle.clone(), context.drain.clone())?)
}
