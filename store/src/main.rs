//! The store service: configuration, the store, its routes, serving until it is told to stop or has nothing to do.

use std::process::ExitCode;

use strata_rpc::{Context, ServiceArgs};
use strata_store::{Store, gc, grpc};

#[tokio::main]
async fn main() -> ExitCode {
    let args = ServiceArgs::from_command_line();
    strata_rpc::run("store", args, strata_proto::DESCRIPTORS, build).await
}

async fn build(context: Context) -> Result<tonic::service::Routes, strata_rpc::serve::BuildError> {
    let config = context.load_config()?;
    let store = Store::open(&context.root, config, context.idle.clone(), context.drain.clone()).await?;
    context.drain.spawn(gc::run(store.clone(), context.drain.clone()));
    Ok(grpc::routes(store))
}
