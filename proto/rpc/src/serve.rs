//! The life of a service: listen, serve, drain, stop. A service's `main` is one call of [`run`].

mod context;
mod door;
mod fence;
mod listen;
mod reset;

use std::{
    io,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Once},
    time::Duration,
};

pub use context::Context;
use fence::fence;
pub use listen::Listen;
use tonic::service::Routes;

use crate::{
    access::{self, Access, AccessLayer, Policy, Surface, audit::Auditor},
    cli::ServiceArgs,
    config, endpoint,
    identity::{self, ServerTls},
    idle::{Drain, Idle},
    metrics::Metrics,
    notify, paths, rootless, socket, spans,
    spawn::{self, OnDemand},
    trace, version,
};

/// Streams at a time of one connection. Without a number there is no limit, and each costs memory.
pub const STREAMS: u32 = 1024;

/// How long a stopping service waits for requests and tasks.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(30);

/// How long the last parts of traces may take to be sent.
const FLUSH: Duration = Duration::from_secs(2);

/// Error of the function that makes a service's routes.
pub type BuildError = Box<dyn std::error::Error + Send + Sync>;

/// Why a service could not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listen address is none.
    #[error("invalid listen address {text:?}: it must be unix:PATH, tcp:ADDR:PORT, fd:0 or systemd")]
    Listen {
        /// What was given.
        text: String,
    },
    /// TCP is never served without client certificates.
    #[error("listening on tcp needs --tls-ca, --tls-cert and --tls-key")]
    NeedsTls,
    /// Standard input is no listening Unix socket.
    #[error("standard input is not a listening unix socket; in a unit of systemd, StandardInput=socket makes it one")]
    NotAListener {
        /// Why.
        source: io::Error,
    },
    /// The address cannot be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The socket's path.
    #[error(transparent)]
    Socket(#[from] socket::Error),
    /// Certificates.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// Configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// Who may do what.
    #[error(transparent)]
    Access(#[from] access::Error),
    /// Where traces go.
    #[error(transparent)]
    Traces(#[from] spans::Error),
    /// Another service works on this root.
    #[error("another service, process {holder}, works on {root}", root = root.display())]
    RootLocked {
        /// The root.
        root: PathBuf,
        /// Its process id; "unknown" while it is being written.
        holder: String,
    },
    /// The root cannot be used.
    #[error("cannot use the root {root}", root = root.display())]
    Root {
        /// The root.
        root: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something is mounted in the root, and would be emptied.
    #[error("something is mounted at {place}: unmount it first", place = place.display())]
    Mounted {
        /// Where.
        place: PathBuf,
    },
    /// The descriptor set that reflection serves.
    #[error("cannot serve reflection")]
    Reflection {
        /// Why.
        source: tonic_reflection::server::Error,
    },
    /// The service itself refused to start.
    #[error("cannot start")]
    Build {
        /// Why.
        source: BuildError,
    },
    /// Signals cannot be watched.
    #[error("cannot watch signals")]
    Signals {
        /// Why.
        source: io::Error,
    },
    /// The server failed.
    #[error("cannot serve")]
    Serve {
        /// Why.
        source: tonic::transport::Error,
    },
}

/// How a service serves.
#[derive(Clone)]
pub struct Config {
    /// Where.
    pub listen: Listen,
    /// Certificates; required for TCP.
    pub tls: Option<ServerTls>,
    /// Stop after so long with nothing to do.
    pub idle_timeout: Option<Duration>,
    /// How long a stop waits.
    pub drain_deadline: Duration,
}

impl Config {
    /// Serves there until told to stop.
    pub fn new(listen: Listen) -> Self {
        Self { listen, tls: None, idle_timeout: None, drain_deadline: DRAIN_DEADLINE }
    }

    fn from_args(args: &ServiceArgs, name: &str) -> Result<Self, Error> {
        let listen = match &args.listen {
            Some(text) => Listen::parse(text, args.socket_path.as_deref())?,
            None => Listen::Unix(paths::socket(name)),
        };
        let tls = match (&args.tls_ca, &args.tls_cert, &args.tls_key) {
            (Some(ca), Some(cert), Some(key)) => Some(ServerTls::load(ca, cert, key)?),
            _ => None,
        };
        let is_on_demand = matches!(listen, Listen::Stdin { .. } | Listen::Systemd) && args.idle_timeout > 0;
        let idle_timeout = is_on_demand.then(|| Duration::from_secs(args.idle_timeout));
        Ok(Self { listen, tls, idle_timeout, drain_deadline: DRAIN_DEADLINE })
    }
}

/// How a service stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Nothing was left to do.
    Idle,
    /// It was told to, and everything ended in time.
    Drained,
    /// It was told to, and some requests were cut off at the deadline.
    Deadline,
}

/// A bound service that does not serve yet: connections queue.
pub struct Server {
    name: &'static str,
    config: Config,
    bound: listen::Bound,
    idle: Idle,
    drain: Drain,
    metrics: Metrics,
}

impl Server {
    /// Binds. Needs the tokio runtime.
    pub fn new(name: &'static str, config: Config) -> Result<Self, Error> {
        let bound = listen::Bound::new(&config)?;
        let (idle, drain) = (Idle::default(), Drain::default());
        Ok(Self { name, config, bound, idle, drain, metrics: Metrics::new(name) })
    }

    /// What keeps this service from stopping when idle.
    pub fn idle(&self) -> Idle {
        self.idle.clone()
    }

    /// Starts the stop, and tells tasks of it.
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Its figures, which count calls from the first one on.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Where clients find it.
    pub fn endpoint(&self) -> endpoint::Endpoint {
        self.bound.endpoint()
    }

    /// Serves `routes`, health and reflection, until idle or drained.
    ///
    /// Who calls which of them is up to `access`.
    pub async fn serve(self, routes: Routes, surface: &Surface, access: Access) -> Result<Stopped, Error> {
        if access.has_users() {
            self.bound.open_to_users()?;
        }
        let (health, health_service) = tonic_health::server::health_reporter();
        let routes = with_reflection(routes, surface.descriptors)?.add_service(health_service);
        let mut builder = tonic::transport::Server::builder()
            .initial_stream_window_size(endpoint::STREAM_WINDOW)
            .initial_connection_window_size(endpoint::CONNECTION_WINDOW)
            .max_frame_size(endpoint::FRAME)
            .max_concurrent_streams(Some(STREAMS))
            .tcp_nodelay(true)
            .layer(trace::TraceLayer::new(self.metrics.clone(), surface))
            .layer(AccessLayer::new(access, surface));
        if self.bound.is_tcp() {
            builder = builder
                .http2_keepalive_interval(Some(Duration::from_secs(20)))
                .http2_keepalive_timeout(Some(Duration::from_secs(10)));
        }
        let router = builder.add_routes(routes);

        let Self { name, config, bound, idle, drain, metrics: _ } = self;
        let announce = drain.clone();
        // Where no connection is there, all may be over before the farewell has a turn.
        let stopping = Arc::new(Once::new());
        let farewell = stopping.clone();
        let bye = async move {
            announce.cancelled().await;
            farewell.call_once(|| notify::tell("STOPPING=1"));
            health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
            tracing::info!(service = name, "draining");
        };
        notify::tell("READY=1");
        // Serves the door's connections; ends when the door closes, or after drain, when the last connection ends.
        let served = door::serve(bound, router, config.idle_timeout, idle, drain.clone(), bye);
        let deadline = async {
            drain.cancelled().await;
            tokio::time::sleep(config.drain_deadline).await;
        };
        let stopped = tokio::select! {
            done = async {
                let stopped = served.await?;
                stopping.call_once(|| notify::tell("STOPPING=1"));
                match stopped {
                    Stopped::Idle => drain.rest(),
                    Stopped::Drained | Stopped::Deadline => drain.start(),
                }
                drain.finished().await;
                Ok::<_, Error>(stopped)
            } => done?,
            () = deadline => Stopped::Deadline,
        };
        tracing::info!(service = name, how = ?stopped, "stopped");
        Ok(stopped)
    }
}

fn with_reflection(routes: Routes, descriptor_set: &'static [u8]) -> Result<Routes, Error> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(descriptor_set)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = builder().build_v1().map_err(|source| Error::Reflection { source })?;
    let v1alpha = builder().build_v1alpha().map_err(|source| Error::Reflection { source })?;
    Ok(routes.add_service(v1).add_service(v1alpha))
}

/// A whole service: logs, root, socket, routes, serving, signals, stop. Call it in `#[tokio::main]` and return its code.
///
/// `build` makes the routes. Connections already queue while it runs. What must be put in order at the stop is a task
/// spawned on `ctx.drain` that waits for [`Drain::cancelled`].
pub async fn run<F, Fut, E>(name: &'static str, args: ServiceArgs, surface: Surface, build: F) -> ExitCode
where
    F: FnOnce(Context) -> Fut,
    Fut: Future<Output = Result<Routes, E>>,
    E: Into<BuildError>,
{
    trace::init(&args.log);
    // Credentials and secrets of builds go through memory: no core dump holds them, and no process of the same user reads
    // them there.
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "the memory of this service may end up in a core dump");
    }
    if args.wake {
        return wake(args).await;
    }
    if args.reset {
        return reset::run(name, args).await;
    }
    // Where ctl starts a user's service it does this itself; systemd does not.
    if args.listen.as_deref() == Some(listen::SYSTEMD) && spawn::is_privileged(name) && rootless::is_needed() {
        let error = rootless::enter();
        tracing::error!(service = name, "cannot enter the user namespace of the services: {error}");
        return ExitCode::FAILURE;
    }
    match try_run(name, args, surface, build).await {
        Ok(_) => ExitCode::SUCCESS,
        Err(err) => {
            tracing::error!(service = name, "{}", crate::fault::chain(&err));
            ExitCode::FAILURE
        }
    }
}

/// Starts the service, unless it runs.
async fn wake(args: ServiceArgs) -> ExitCode {
    let (Ok(binary), Some(socket), Some(root)) = (std::env::current_exe(), args.socket_path, args.root) else {
        return ExitCode::FAILURE;
    };
    // Whoever wakes it is where it was: in its user namespace, if it has one.
    let service = OnDemand { binary, args: vec![], socket, root, is_privileged: false };
    match spawn::ensure(service).await {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", crate::fault::chain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn try_run<F, Fut, E>(name: &'static str, args: ServiceArgs, surface: Surface, build: F) -> Result<Stopped, Error>
where
    F: FnOnce(Context) -> Fut,
    Fut: Future<Output = Result<Routes, E>>,
    E: Into<BuildError>,
{
    identity::init_crypto();
    let on_demand = args.listen.as_deref().is_some_and(|text| text.starts_with("fd:"));
    if on_demand {
        // Fails for the leader of a process group, which on-demand services are: the group is what matters then.
        let _ = rustix::process::setsid();
    }
    let server = Server::new(name, Config::from_args(&args, name)?)?;
    watch_signals(server.drain(), server.config.tls.clone())?;
    let root = args.root.clone().unwrap_or_else(|| paths::root(name));
    let root = std::path::absolute(&root).map_err(|source| Error::Root { root, source })?;
    // A predecessor may still be draining; whoever starts by hand wants to be told at once.
    let is_for_systemd = args.listen.as_deref() == Some(listen::SYSTEMD);
    let is_patient = on_demand || is_for_systemd;
    let patience = if is_patient { DRAIN_DEADLINE + Duration::from_secs(5) } else { Duration::ZERO };
    // Services that ctl starts have no flag for it: they read the file of this host, if there is one.
    let config = args.config.clone().or_else(|| Some(paths::config(name)).filter(|path| path.exists()));
    let context =
        Context { name, root, config, args, idle: server.idle(), drain: server.drain(), metrics: server.metrics() };
    let begun = async {
        let fence = fence(&context.root, patience).await?;
        let policy = Policy::new(access::Config::load(&context.shared_config())?)?;
        let access = Access::new(name, policy, &context.root);
        spans::start(name, &spans::Config::load(&context.shared_config())?)?;
        let audited = Auditor::server(context.root.clone());
        let root = context.root.clone();
        let routes = build(context).await.map_err(|err| Error::Build { source: err.into() })?;
        // Whoever refuses the state that it found has said so by now, and has changed nothing.
        if let Err(error) = version::note(&root) {
            tracing::warn!(%error, "cannot note in {} which version works there", root.display());
        }
        Ok::<_, Error>((fence, routes.add_service(audited), access))
    };
    let (_fence, routes, access) = match begun.await {
        Ok(begun) => begun,
        Err(err) => {
            server.bound.take_away();
            return Err(err);
        }
    };
    tracing::info!(service = name, endpoint = %server.endpoint(), "serving");
    let stopped = server.serve(routes, &surface, access).await;
    spans::flush(FLUSH).await;
    stopped
}

fn watch_signals(drain: Drain, tls: Option<ServerTls>) -> Result<(), Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let watch = |kind| signal(kind).map_err(|source| Error::Signals { source });
    let (mut terminate, mut interrupt, mut hangup) =
        (watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?, watch(SignalKind::hangup())?);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => drain.start(),
                _ = interrupt.recv() => drain.start(),
                // From an administrator: read the certificates again. The terminal of whoever started us may have gone away
                // too; that is no reason to stop.
                _ = hangup.recv() => {
                    if let Some(tls) = tls.clone() {
                        tokio::task::spawn_blocking(move || tls.renew());
                    }
                }
            }
        }
    });
    Ok(())
}
