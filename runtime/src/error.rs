//! What can go wrong in the runtime. Texts name the thing; causes stay in `source`. `fault` says what each becomes on the wire.

use std::{io, path::PathBuf};

use strata_types::Invalid;

mod fault;
mod network;
mod secret;
mod volume;
mod words;

pub use secret::SecretError;
pub use volume::VolumeError;
use words::{of_archive, of_hanging};

/// Why the runtime refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of a request is malformed or missing.
    #[error("{field}: {problem}")]
    Argument {
        /// Field of the request, as in the proto.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Neither image nor request say what to run.
    #[error("no command specified")]
    NoCommand,
    /// No container has this id or name.
    #[error("no such container: {name}")]
    NotFound {
        /// As asked for.
        name: String,
    },
    /// Several ids start so.
    #[error("{prefix:?} is the start of several container ids: {}", candidates.join(", "))]
    Ambiguous {
        /// As asked for.
        prefix: String,
        /// Some of them, short, with their names.
        candidates: Vec<String>,
    },
    /// The name is in use.
    #[error("the container name {name:?} is already in use by container {holder}")]
    NameTaken {
        /// The name.
        name: String,
        /// Id of its holder.
        holder: String,
    },
    /// The id is in use.
    #[error("the container id {id} is already in use")]
    IdTaken {
        /// The id.
        id: String,
    },
    /// It does not run.
    #[error("container {name} is not running")]
    NotRunning {
        /// Name of the container, or its id.
        name: String,
    },
    /// Another container wants its network, and it does not run.
    #[error("cannot join the network of container {name}, which is not running: start it first")]
    SharedNotRunning {
        /// Name of the container, or its id.
        name: String,
    },
    /// It runs.
    #[error("container {name} is running: stop it first, or use force")]
    Running {
        /// Name of the container, or its id.
        name: String,
    },
    /// It is paused.
    #[error("container {name} is paused")]
    Paused {
        /// Name of the container.
        name: String,
    },
    /// It is not paused.
    #[error("container {name} is not paused")]
    NotPaused {
        /// Name of the container.
        name: String,
    },
    /// A process of it does not stand still.
    #[error("cannot pause container {name}: a process of it does not stand still, and so all of them go on")]
    PauseFailed {
        /// Name of the container.
        name: String,
        /// Why.
        #[source]
        source: strata_oci::cgroup::Error,
    },
    /// What is done to a cgroup cannot be done to a container without one.
    #[error("container {name} has no cgroup: the user whose runtime it is was given none")]
    NoCgroup {
        /// Name of the container.
        name: String,
    },
    /// Columns of one's own need ps.
    #[error("the host of the runtime has no program ps (package procps): without options it is not needed")]
    NoPs,
    /// It is being removed.
    #[error("container {id} is being removed")]
    Removing {
        /// Id of the container.
        id: String,
    },
    /// The process could not be started.
    #[error("{text}")]
    Start {
        /// The step of init, or of the runtime, that failed.
        step: String,
        /// Error number of the kernel; 0: none.
        errno: i32,
        /// Exit code in Docker's terms: 126, 127 or 128.
        exit_code: u32,
        /// For people.
        text: String,
    },
    /// A limit cannot be applied.
    #[error("cannot apply limit {field}")]
    Limit {
        /// Field of the limits.
        field: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Killed, but not ended.
    #[error("container {id} was killed and has not ended{}", of_hanging(hanging))]
    StopPending {
        /// Id of the container.
        id: String,
        /// Those of its processes that hang in the kernel, and where.
        hanging: Vec<String>,
    },
    /// Not there yet.
    #[error("{what} is not supported yet")]
    Unsupported {
        /// What was asked for.
        what: String,
    },
    /// The store has no such image.
    #[error("no such image: {image}")]
    ImageNotFound {
        /// As asked for.
        image: String,
    },
    /// The store has the image, but not for the platform.
    #[error("{problem}")]
    PlatformNotFound {
        /// The store's words: which image, what was asked for, what there is.
        problem: String,
    },
    /// The store cannot be reached.
    #[error("cannot reach the store at {endpoint}: {problem}")]
    StoreUnavailable {
        /// Where it should be.
        endpoint: String,
        /// What happened.
        problem: String,
    },
    /// The store refused.
    #[error("the store refused to {attempt}: {message}")]
    StoreRefused {
        /// What was attempted.
        attempt: &'static str,
        /// Reason of the fault: a name of the store's `Fault`.
        reason: String,
        /// The store's message.
        message: String,
    },
    /// A host path to mount does not exist.
    #[error("bind source path does not exist: {}", path.display())]
    SourceNotFound {
        /// The path.
        path: PathBuf,
    },
    /// Mounts cannot travel so from where a path is.
    #[error("{} is on {point}, which is no {wanted}: bind-propagation={propagation} needs one", path.display())]
    Propagation {
        /// The path.
        path: PathBuf,
        /// Where the mount is that it is on.
        point: String,
        /// What was asked for.
        propagation: &'static str,
        /// What the mount would have to be.
        wanted: &'static str,
    },
    /// Nothing is at a path of a container.
    #[error("could not find the file {path} in container {container}")]
    FileNotFound {
        /// The path.
        path: String,
        /// Name of the container.
        container: String,
    },
    /// Something else than a directory is at a path of a container, or on the way.
    #[error("{path} in container {container} is not a directory")]
    NoDirectory {
        /// The path.
        path: String,
        /// Name of the container.
        container: String,
    },
    /// A file of a container cannot be looked at.
    #[error("cannot open {path} in container {container}")]
    File {
        /// The path.
        path: String,
        /// Name of the container.
        container: String,
        /// Why.
        source: io::Error,
    },
    /// What is at a path of a container is the kernel's.
    #[error("{path} is on a file system of the kernel, which is not copied")]
    KernelFile {
        /// The path.
        path: String,
    },
    /// A directory would take the place of something else, or the other way round.
    #[error("cannot copy to container {container}")]
    Overwrite {
        /// Name of the container.
        container: String,
        /// What would be overwritten.
        source: strata_archive::Error,
    },
    /// A container cannot write at a path.
    #[error("{path} in container {container} is read-only")]
    ReadOnly {
        /// The path.
        path: String,
        /// Name of the container.
        container: String,
    },
    /// An archive cannot be read or unpacked, or a tree cannot be written as one.
    #[error("{}", of_archive(source))]
    Archive {
        /// Why.
        source: strata_archive::Error,
    },
    /// A later version has written this, and it stays as it is.
    #[error("{} has version {found}, and this runtime knows up to {known}: {advice}", path.display())]
    Later {
        /// The record.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// Ours.
        known: u64,
        /// Who wrote it, and what to do.
        advice: String,
    },
    /// Another service works on this root.
    #[error("another runtime works on {}", root.display())]
    RootLocked {
        /// The directory.
        root: PathBuf,
    },
    /// The user string cannot be resolved in the image.
    #[error("unable to find user {user:?}")]
    User {
        /// The string.
        user: String,
        /// Why.
        #[source]
        source: strata_oci::user::Error,
    },
    /// A group cannot be resolved in the image.
    #[error("unable to find group {group:?}")]
    Group {
        /// As asked for.
        group: String,
        /// Why.
        #[source]
        source: strata_oci::user::Error,
    },
    /// Another container's namespaces are wanted, and it does not run or does not share them.
    #[error("cannot join the {what} of container {name}, {why}")]
    Join {
        /// "processes" or "shared memory".
        what: &'static str,
        /// Name of the container.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// A record on disk cannot be understood.
    #[error("cannot read record {}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file operation failed.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// What was attempted.
        verb: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The monitor broke off the conversation.
    #[error("the monitor of container {id} {problem}")]
    Monitor {
        /// Id of the container.
        id: String,
        /// What it did.
        problem: String,
    },
    /// The host does not have what containers need.
    #[error("this host cannot run containers")]
    Host {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The cgroup of a container cannot be used.
    #[error("cannot use the cgroup of container {id}")]
    Cgroup {
        /// Id of the container.
        id: String,
        /// Why.
        #[source]
        source: strata_oci::cgroup::Error,
    },
    /// A spec could not be turned into a plan.
    #[error("cannot plan container {id}")]
    Plan {
        /// Id of the container.
        id: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A network could not be made, used or removed.
    #[error(transparent)]
    Network(#[from] strata_net::Error),
    /// The container is connected already.
    #[error("container {container} is already connected to network {network}")]
    Connected {
        /// Name of the container.
        container: String,
        /// Name of the network.
        network: String,
    },
    /// The container is not connected.
    #[error("container {container} is not connected to network {network}")]
    NotConnected {
        /// Name of the container.
        container: String,
        /// Name of the network.
        network: String,
    },
    /// The container has no network of its own that others could join.
    #[error("container {container} was made with --network {mode}: it has no networks and no ports of its own")]
    NetworkMode {
        /// Name of the container.
        container: String,
        /// "host", "none" or "container:…".
        mode: &'static str,
    },
    /// Names cannot be served to a container.
    #[error("cannot open the resolver of container {container}")]
    Resolver {
        /// Name of the container.
        container: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Containers would wait for each other.
    #[error("containers would depend on each other: {}", way.join(" -> "))]
    DependencyCycle {
        /// Their names, from one of them back to it.
        way: Vec<String>,
    },
    /// What a container requires does not run, and cannot be started.
    #[error("container {container} requires container {required}, which cannot be started")]
    Required {
        /// Name of the container.
        container: String,
        /// Name of the one that it requires.
        required: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// It was waited for to be healthy.
    #[error("container {name} is not healthy: {why}")]
    NotHealthy {
        /// Name of the container.
        name: String,
        /// Why it will not be.
        why: String,
    },
    /// Nobody knows where the output of a container is to be sent.
    #[error("cannot find {address}, which its log is to be sent to: its name leads nowhere, or --log-opt has another")]
    Receiver {
        /// As asked for.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// Nothing is kept of its output that could be read.
    #[error("container {name} keeps no log here: {why}")]
    NoLog {
        /// Name of the container.
        name: String,
        /// Why it does not.
        why: String,
    },
    /// Something is mounted there already.
    #[error("container {container} has a mount at {target} already: take it away first (ctl container unmount)")]
    Mounted {
        /// Name of the container.
        container: String,
        /// Mount point.
        target: String,
    },
    /// Nothing is mounted there that could be taken away.
    #[error("container {container} has no mount at {target}")]
    NotMounted {
        /// Name of the container.
        container: String,
        /// Mount point.
        target: String,
    },
    /// The port is not published there.
    #[error("port {port} of container {container} is not published")]
    NotPublished {
        /// Name of the container.
        container: String,
        /// As asked for.
        port: String,
    },
    /// A secret is not there, in the way, in use or unfit.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A volume is not there, in the way, in use or cannot be had.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// A thread of the runtime ended without an answer: it panicked.
    #[error("{what} ended without an answer")]
    Lost {
        /// The work.
        what: &'static str,
    },
}

impl Error {
    /// A file operation that failed.
    pub fn io(verb: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Io { verb, path: path.into(), source: source.into() }
    }

    /// It failed because no space is left.
    pub fn is_disk_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        match self {
            Self::Io { source, .. } | Self::Archive { source: strata_archive::Error::Disk { source, .. } } => {
                full.contains(&source.kind())
            }
            _ => false,
        }
    }

    /// A malformed field.
    pub fn argument(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Argument { field: field.into(), problem: problem.into() }
    }

    /// A field that breaks the rule of its noun.
    pub fn invalid(field: &'static str, invalid: Invalid) -> Self {
        Self::argument(field, invalid.to_string())
    }

    /// The exit code that `docker run` would show for a failed start.
    pub fn exit_code(&self) -> u32 {
        match self {
            Self::Start { exit_code, .. } => *exit_code,
            _ => 128,
        }
    }
}
