//! strata-runtime: the service that keeps containers. Everything is in the library.

use std::process::ExitCode;

use strata_rpc::ServiceArgs;

#[tokio::main]
async fn main() -> ExitCode {
    let args = ServiceArgs::from_command_line();
    strata_rpc::run("runtime", args, strata_proto::DESCRIPTORS, strata_runtime::routes).await
}
