//! strata-runtime: the service that keeps containers. Everything is in the library.

use std::process::ExitCode;

use strata_rpc::{ServiceArgs, access::Surface};

#[tokio::main]
async fn main() -> ExitCode {
    let args = ServiceArgs::from_command_line();
    strata_rpc::run("runtime", args, Surface::STRATA, strata_runtime::routes).await
}
