//! Services started on demand: whoever needs one connects, and starts it where nobody answers.
//!
//! The starter binds the socket and hands it over as standard input, so clients queue in the kernel from the first moment;
//! starting and stopping hold the same lock, so two starters make one service and none is lost to one that stops.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::{
        fd::OwnedFd,
        unix::{fs::OpenOptionsExt, net::UnixListener},
    },
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, process::Child};
use tonic::transport::{Channel, Uri};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::service_fn;

use crate::{endpoint, paths, rootless, socket};

/// Longest wait for a service that starts.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// So often a service is looked for that breaks the connection.
const ATTEMPTS: u32 = 3;
/// A log longer than this is put aside at the next start.
const LOG_LIMIT: u64 = 4 << 20;

/// Why a service is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The binary is not where it should be.
    #[error("cannot find the service binary {path}", path = path.display())]
    Binary {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its socket.
    #[error(transparent)]
    Socket(#[from] socket::Error),
    /// Its log.
    #[error("cannot open the log {path}", path = path.display())]
    Log {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process could not be made.
    #[error("cannot start {path}", path = path.display())]
    Spawn {
        /// The binary.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It started and ended.
    #[error("{path} ended at its start ({status}): {said}", path = path.display())]
    Ended {
        /// The binary.
        path: PathBuf,
        /// How it ended.
        status: String,
        /// The end of its log.
        said: String,
    },
    /// It started and does not answer.
    #[error("{path} does not answer; its log is {log}", path = path.display(), log = log.display())]
    Silent {
        /// The binary.
        path: PathBuf,
        /// Its log.
        log: PathBuf,
    },
    /// Its state could not be removed.
    #[error("cannot remove the state in {root}: {said}", root = root.display())]
    Reset {
        /// Its state directory.
        root: PathBuf,
        /// Why, as it said.
        said: String,
    },
    /// It runs and cannot be reached.
    #[error("cannot connect to {path}", path = path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: BoxError,
    },
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A service that can be started.
#[derive(Debug, Clone)]
pub struct OnDemand {
    /// Its binary.
    pub binary: PathBuf,
    /// Flags besides --listen, --socket-path and --root.
    pub args: Vec<OsString>,
    /// Its socket.
    pub socket: PathBuf,
    /// Its state directory; its log is there too.
    pub root: PathBuf,
    /// Whether it needs root's privileges; where the starter has none, it gets a user namespace.
    pub is_privileged: bool,
}

impl OnDemand {
    /// The service "store", "builder" or "runtime" at its usual places, its binary beside this one.
    pub fn service(name: &str) -> Result<Self, Error> {
        let file = format!("strata-{name}");
        let binary = paths::sibling(&file).map_err(|source| Error::Binary { path: file.into(), source })?;
        let (socket, root) = (paths::socket(name), paths::root(name));
        Ok(Self { binary, args: vec![], socket, root, is_privileged: is_privileged(name) })
    }

    /// Ends the service, if it runs, and removes its state. What is started meanwhile begins with none.
    pub async fn reset(&self) -> Result<(), Error> {
        let failed = |source| Error::Spawn { path: self.binary.clone(), source };
        if !self.root.exists() {
            return Ok(());
        }
        let mut command = self.command()?;
        command.arg("--reset").arg("--socket-path").arg(&self.socket).arg("--root").arg(&self.root);
        command.current_dir("/").stdin(Stdio::null());
        let done = command.output().await.map_err(failed)?;
        if done.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        Err(Error::Reset {
            root: self.root.clone(),
            said: if said.is_empty() { done.status.to_string() } else { said },
        })
    }

    /// A command of its program, where it has the privileges that it needs.
    fn command(&self) -> Result<tokio::process::Command, Error> {
        let failed = |source| Error::Spawn { path: self.binary.clone(), source };
        match self.is_privileged && rootless::is_needed() {
            true => rootless::command(&self.binary).map_err(failed),
            false => Ok(tokio::process::Command::new(&self.binary)),
        }
    }

    /// Its log.
    pub fn log_path(&self) -> PathBuf {
        self.root.join("service.log")
    }
}

/// Whether a service mounts, or owns files of many ids.
pub(crate) fn is_privileged(name: &str) -> bool {
    matches!(name, "store" | "runtime")
}

/// A channel to the service, started where it does not run; see [`ensure`].
pub async fn ensure_running(binary: &Path, args: &[OsString], socket: &Path, root: &Path) -> Result<Channel, Error> {
    let (binary, socket, root) = (binary.into(), socket.into(), root.into());
    ensure(OnDemand { binary, args: args.to_vec(), socket, root, is_privileged: false }).await
}

/// A channel to the service, started where it does not run. The channel starts it again should it go away.
/// A service that was started here has answered; if it ended instead, the error has its last words.
pub async fn ensure(service: OnDemand) -> Result<Channel, Error> {
    let mut left = ATTEMPTS;
    loop {
        let started = Started::default();
        let channel = {
            let (service, started) = (Arc::new(service.clone()), started.clone());
            let connector = service_fn(move |_: Uri| {
                let (service, started) = (service.clone(), started.clone());
                async move { dial(&service, &started).await.map(TokioIo::new) }
            });
            endpoint::local_target().connect_with_connector(connector).await
        };
        left -= 1;
        return match (channel, started.take()) {
            (Ok(channel), None) => Ok(channel),
            (Ok(channel), Some(child)) => answered(&service, child, channel).await,
            // What was started ended before the connection was there: its own words say why, the broken connection does not.
            (Err(err), Some(child)) => match ending(child).await {
                Some(status) => Err(not_there(&service, Some(status))),
                None => Err(connect_error(&service, err)),
            },
            (Err(err), None) if left > 0 && is_broken(&err) => continue,
            (Err(err), None) => Err(connect_error(&service, err)),
        };
    }
}

/// Whether a connection was taken and broke: a service that ends does that, and the next look finds it gone.
fn is_broken(err: &(dyn std::error::Error + 'static)) -> bool {
    let is_it = |err: &(dyn std::error::Error + 'static)| {
        err.downcast_ref::<io::Error>()
            .is_some_and(|err| matches!(err.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset))
    };
    std::iter::successors(Some(err), |err| err.source()).any(is_it)
}

/// A stream to the service, started where it does not run.
pub async fn stream(service: OnDemand) -> Result<UnixStream, Error> {
    dial(&Arc::new(service), &Started::default()).await
}

/// A channel that connects at its first call, and starts the service where it does not run.
pub fn lazy(service: OnDemand) -> Channel {
    let service = Arc::new(service);
    endpoint::local_target().connect_with_connector_lazy(service_fn(move |_: Uri| {
        let service = service.clone();
        // A child that nobody waits for is reaped by tokio.
        async move { dial(&service, &Started::default()).await.map(TokioIo::new) }
    }))
}

/// The process that a dial started.
#[derive(Clone, Default)]
struct Started(Arc<Mutex<Option<Child>>>);

impl Started {
    fn put(&self, child: Child) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
    }
    fn take(&self) -> Option<Child> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

async fn dial(service: &Arc<OnDemand>, started: &Started) -> Result<UnixStream, Error> {
    match socket::dial(&service.socket).await {
        Ok(stream) => return Ok(stream),
        Err(err) if absent(&err) => {}
        Err(err) => return Err(Error::Connect { path: service.socket.clone(), source: err.into() }),
    }
    let path = service.socket.clone();
    let lock = tokio::task::spawn_blocking(move || socket::lock(&path))
        .await
        .map_err(|err| Error::Connect { path: service.socket.clone(), source: err.into() })??;
    // Somebody else may have started it while we waited.
    if let Ok(stream) = socket::dial(&service.socket).await {
        return Ok(stream);
    }
    let listener = socket::bind(&lock, &service.socket)?;
    match start(service, listener) {
        Ok(child) => started.put(child),
        Err(err) => {
            let _ = fs::remove_file(&service.socket);
            return Err(err);
        }
    }
    let stream = socket::dial(&service.socket).await;
    drop(lock);
    stream.map_err(|err| Error::Connect { path: service.socket.clone(), source: err.into() })
}

/// Whether nobody is there; a reset is one who was, and ended with the connection in its queue.
fn absent(err: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound};
    matches!(err.kind(), NotFound | ConnectionRefused | ConnectionReset)
}

fn start(service: &OnDemand, listener: UnixListener) -> Result<Child, Error> {
    fs::metadata(&service.binary).map_err(|source| Error::Binary { path: service.binary.clone(), source })?;
    socket::private_dir(&service.root)?;
    let log = open_log(&service.log_path())?;
    let mut command = service.command()?;
    command.arg("--listen").arg("fd:0").arg("--socket-path").arg(&service.socket).arg("--root").arg(&service.root);
    command.args(&service.args).current_dir("/");
    for (name, _) in std::env::vars_os().filter(|(name, _)| !name.to_str().is_some_and(is_for_services)) {
        command.env_remove(name);
    }
    // Requests hop between threads: with an arena for each, and thresholds that grow with what was freed, glibc keeps
    // several times the memory that is used. mallopt(3)
    command.env("MALLOC_ARENA_MAX", "2");
    command.env("MALLOC_MMAP_THRESHOLD_", "131072").env("MALLOC_TRIM_THRESHOLD_", "131072");
    command.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).stderr(log).process_group(0);
    command.spawn().map_err(|source| Error::Spawn { path: service.binary.clone(), source })
}

/// Whether a service gets a variable of whoever starts it: it lives longer than the command, and what else is there is none
/// of its business: secrets of a build, say.
fn is_for_services(name: &str) -> bool {
    let names = ["DBUS_SESSION_BUS_ADDRESS", "DOCKER_CONFIG", "HOME", "LANG", "LOGNAME", "PATH", "REGISTRY_AUTH_FILE"];
    let others = ["SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR", "TZ", "USER"];
    let beginnings = ["BUILDKIT_", "LC_", "RUST_", "STRATA_", "XDG_"];
    names.contains(&name)
        || others.contains(&name)
        || crate::spans::VARIABLES.contains(&name)
        || beginnings.iter().any(|beginning| name.starts_with(beginning))
        || name.to_ascii_uppercase().ends_with("_PROXY")
}

fn open_log(path: &Path) -> Result<File, Error> {
    if fs::metadata(path).is_ok_and(|meta| meta.len() > LOG_LIMIT) {
        // Should that fail, the old log goes on.
        let _ = fs::rename(path, path.with_extension("log.1"));
    }
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600);
    options.open(path).map_err(|source| Error::Log { path: path.into(), source })
}

/// Waits until the service answers, or has ended.
async fn answered(service: &OnDemand, mut child: Child, channel: Channel) -> Result<Channel, Error> {
    let mut health = HealthClient::new(channel.clone());
    let ended = tokio::select! {
        biased;
        answer = health.check(HealthCheckRequest::default()) => match answer {
            Ok(_) => return Ok(channel),
            Err(_) => ending(child).await,
        },
        status = child.wait() => status.ok(),
        () = tokio::time::sleep(START_DEADLINE) => None,
    };
    Err(not_there(service, ended))
}

/// How a service ended whose connection broke: it is ending, and has a moment to do so.
async fn ending(mut child: Child) -> Option<ExitStatus> {
    tokio::time::timeout(Duration::from_secs(2), child.wait()).await.ok()?.ok()
}

/// A service that was started and is not there: it ended, or does not answer.
fn not_there(service: &OnDemand, ended: Option<ExitStatus>) -> Error {
    let path = service.binary.clone();
    match ended {
        Some(status) => Error::Ended { path, status: status.to_string(), said: last_words(&service.log_path()) },
        None => Error::Silent { path, log: service.log_path() },
    }
}

/// The last lines of a log.
fn last_words(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(2048)))?;
        let mut bytes = vec![];
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let mut lines: VecDeque<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    while lines.len() > 3 {
        lines.pop_front();
    }
    if lines.is_empty() { "it said nothing".into() } else { lines.make_contiguous().join("; ") }
}

/// The connector's own error, taken out of the transport's.
fn connect_error(service: &OnDemand, err: tonic::transport::Error) -> Error {
    let path = service.socket.clone();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&err);
    while let Some(inner) = cause {
        if let Some(ours) = inner.downcast_ref::<Error>() {
            return Error::Connect { path, source: crate::fault::chain(ours).into() };
        }
        cause = inner.source();
    }
    Error::Connect { path, source: Box::new(err) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_get_what_says_where_things_are_and_nothing_else() {
        for name in [
            "PATH",
            "STRATA_ROOT",
            "XDG_RUNTIME_DIR",
            "https_proxy",
            "NO_PROXY",
            "BUILDKIT_PROGRESS",
            "RUST_LOG",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ] {
            assert!(is_for_services(name), "{name}");
        }
        for name in [
            "MY_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "SSH_AUTH_SOCK",
            "GITHUB_TOKEN",
            "LD_PRELOAD",
            "OTEL_EXPORTER_OTLP_HEADERS",
            "",
        ] {
            assert!(!is_for_services(name), "{name}");
        }
    }
}
