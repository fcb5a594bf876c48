//! The store service: configuration, the store, its routes, the registry, serving until it is told to stop or has
//! nothing to do.

use std::process::ExitCode;

use clap::Parser;
use strata_registry::Shared;
use strata_rpc::{Context, ServiceArgs, access::Surface, identity::Files};
use strata_store::{Config, Store, figures, gc, grpc, serve, trash};

#[derive(Parser)]
#[command(version, about = "The store of Strata. ctl starts it on demand; or start it yourself.")]
struct Args {
    #[command(flatten)]
    service: ServiceArgs,

    /// Serve a registry there, ADDRESS:PORT; without certificates only on a loopback address
    #[arg(long, value_name = "ADDRESS")]
    registry: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { service, registry } = Args::parse();
    strata_rpc::run("store", service, Surface::STRATA, |context| build(context, registry)).await
}

async fn build(
    context: Context,
    registry: Option<String>,
) -> Result<tonic::service::Routes, strata_rpc::serve::BuildError> {
    let mut config: Config = context.load_config()?;
    if config.registries.is_none() {
        config.registries = Some(context.load_shared::<Shared>()?.registries);
    }
    let store = Store::open(&context.root, config, context.idle.clone(), context.drain.clone()).await?;
    figures::add(&context.metrics, &store);
    context.serve_metrics(store.config.metrics.as_deref()).await?;
    context.drain.spawn(gc::run(store.clone(), context.drain.clone()));
    context.drain.spawn(trash::run(store.clone(), context.drain.clone()));
    let args = &context.args;
    let own = match (&args.tls_cert, &args.tls_key, &args.tls_ca) {
        (Some(certificate), Some(key), authority) => {
            Some(Files { authority: authority.clone(), certificate: certificate.clone(), key: key.clone() })
        }
        _ => None,
    };
    serve::start(&store, registry.as_deref(), own).await?;
    Ok(grpc::routes(store))
}
