//! The engine room: containers. `grpc` translates, `engine` decides, `launch` and `monitor` speak to `strata-init`,
//! `peers` to the node's store. A container outlives this service: its monitor keeps it.

use std::{ffi::OsStr, sync::Arc};

use strata_proto::runtime::v1::{
    container_service_server::ContainerServiceServer, device_service_server::DeviceServiceServer,
    event_service_server::EventServiceServer, file_service_server::FileServiceServer,
    network_service_server::NetworkServiceServer, secret_service_server::SecretServiceServer,
    stream_service_server::StreamServiceServer, system_service_server::SystemServiceServer,
    volume_service_server::VolumeServiceServer,
};
use strata_rpc::{Context, Drain, paths};
use tonic::service::Routes;

use crate::{
    config::{Config, Waker},
    engine::Engine,
    grpc::{
        containers::Containers, devices::Devices, events::Events, files::Files, networks::NetworkDoor,
        secrets::SecretDoor, streams::Streams, system::System, volumes::Volumes,
    },
    launch::Launcher,
    peers::StorePeer,
    presence::Presence,
};

pub mod cdi;
pub mod config;
pub mod container;
mod disk;
pub mod doctor;
pub mod engine;
pub mod error;
mod figures;
mod files;
mod grpc;
pub mod health;
pub mod identity;
pub mod launch;
mod logging;
pub mod logs;
pub mod monitor;
mod names;
pub mod networks;
mod peers;
pub mod presence;
mod process;
mod processes;
pub mod proxy;
pub mod record;
pub mod restart;
pub mod secret;
mod session;
mod signal;
pub mod spec;
pub mod store;
pub mod stream;
mod table;
pub mod tally;
mod tree;
mod usage;
pub mod volume;

/// The largest message that is taken: a container of many bytes mounts.
const LARGEST: usize = 8 << 20;

/// Makes the routes of the service.
pub async fn routes(context: Context) -> Result<Routes, strata_rpc::serve::BuildError> {
    let file: config::File = context.load_config()?;
    let metrics = file.metrics.clone();
    let store = StorePeer::new(file.store.as_deref(), file.tls.as_ref())?;
    let run = paths::run_dir().join("runtime");
    let env = std::env::vars_os().map(|(name, value)| [name, value].join(OsStr::new("="))).collect();
    let waker = context.waker().map(|(program, args)| Waker { program, args, env });
    // What runs now, whatever is installed in its place meanwhile.
    let (program, log) = ("/proc/self/exe".into(), context.args.log.clone());
    let config = Config { root: context.root.clone(), run, file, waker, program, log };
    let launcher = Launcher::open(config.clone())?;
    let (idle, peer) = (context.idle.clone(), store.clone());
    let presence = Presence::new(move || Box::new(idle.busy()), move |until| peer.hold_session(until));
    let engine = Engine::open(config, store, launcher, presence).await?;
    figures::add(&context.metrics, &engine);
    context.serve_metrics(metrics.as_deref()).await?;
    let (resting, drain) = (engine.clone(), context.drain.clone());
    context.drain.spawn(async move {
        drain.cancelled().await;
        if drain.is_resting() {
            resting.note_nap();
        }
    });
    Ok(routes_of(&engine, &context.drain))
}

/// Makes the routes over an engine; streams end with `drain`.
pub fn routes_of(engine: &Arc<Engine>, drain: &Drain) -> Routes {
    let containers = Containers::new(engine.clone(), drain.clone());
    let devices = Devices::new(engine.clone());
    let events = Events::new(engine.clone(), drain.clone());
    let streams = Streams::new(engine.clone(), drain.clone());
    let system = System::new(engine.clone());
    let files = Files::new(engine.clone());
    let networks = NetworkDoor::new(engine.clone());
    let secrets = SecretDoor::new(engine.clone());
    let volumes = Volumes::new(engine.clone());
    Routes::new(ContainerServiceServer::new(containers).max_decoding_message_size(LARGEST))
        .add_service(DeviceServiceServer::new(devices))
        .add_service(EventServiceServer::new(events))
        .add_service(FileServiceServer::new(files))
        .add_service(StreamServiceServer::new(streams).max_decoding_message_size(LARGEST))
        .add_service(NetworkServiceServer::new(networks))
        .add_service(SecretServiceServer::new(secrets))
        .add_service(SystemServiceServer::new(system))
        .add_service(VolumeServiceServer::new(volumes))
}
