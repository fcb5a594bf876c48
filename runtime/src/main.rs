//! strata-runtime: the service that keeps containers, and the process that keeps open what they need of it. Everything is in
//! the library.

use std::process::ExitCode;

use strata_rpc::{ServiceArgs, access::Surface};
use strata_runtime::proxy;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(word) if word == proxy::ROLE => match proxy::run(args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!(%error, "the proxy of names and ports ends");
                ExitCode::FAILURE
            }
        },
        _ => serve(),
    }
}

#[tokio::main]
async fn serve() -> ExitCode {
    let args = ServiceArgs::from_command_line();
    strata_rpc::run("runtime", args, Surface::STRATA, strata_runtime::routes).await
}
