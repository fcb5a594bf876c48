//! The builder as a process: flags, configuration, serve, drain.

use std::process::ExitCode;
use std::sync::Arc;

use strata_builder::{Config, Tally, service};
use strata_rpc::{Context, ServiceArgs, access::Surface};

#[tokio::main]
async fn main() -> ExitCode {
    strata_rpc::run("builder", ServiceArgs::from_command_line(), Surface::STRATA, build).await
}

async fn build(context: Context) -> Result<tonic::service::Routes, strata_rpc::serve::BuildError> {
    let config: Config = context.load_config()?;
    let (root, metrics) = (context.root.display().to_string(), config.metrics.clone());
    let tally = Arc::new(Tally::default());
    tally.add_to(&context.metrics);
    context.serve_metrics(metrics.as_deref()).await?;
    Ok(service(config, root, tally, context.idle.clone(), context.drain.clone())?)
}
