//! From a record to a monitor that has its plan: files, cgroup, OCI spec, plan, process. Blocking, on threads for it.
//! The monitor runs a sealed copy of `strata-init` in memory: one for all, which no container can write to.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{fs::DirBuilderExt, net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use strata_init::{
    plan::{self as init, Plan},
    wire::{self, Frame},
};
use strata_net::Namespace;
use strata_oci::{
    capabilities::CapabilitySet,
    cgroup::{self, Cgroup, Layout, Version},
    default_spec::{DeviceFilter, UserNamespace},
    plan::{ExecInputs, PlanInputs},
    unprivileged,
};
use strata_types::{ContainerId, Mount};

use crate::{
    config::{Config, Waker},
    engine::Exec,
    error::Error,
    logging,
    monitor::{Launch, Monitor},
    record::{Durability, Record},
    restart::Policy,
    spec::{Spec, TerminalSize},
};

mod call;
mod change;
mod descriptors;
mod devices;
mod files;
mod fixed;
mod group;
mod insert;
mod isolation;
mod lifeline;
mod limits;
mod mounts;
mod outline;
mod parent;
mod propagation;
mod resolution;
mod spare;

pub use change::Change;
pub use devices::is_concerned as has_devices;

pub use files::{has_own_server, refresh};
use lifeline::Lifeline;
use spare::Spare;

/// Digits of an id in the name of its control socket: paths of sockets are short.
const SOCKET_DIGITS: usize = 24;

/// Paths of control sockets have at most this many bytes.
const SOCKET_PATH: usize = 100;

/// The role of the monitor of a container.
const MONITOR: &str = "monitor";

/// How long a monitor that was made ahead waits for a container.
const AHEAD: Duration = Duration::from_secs(1);

/// What every launch needs.
#[derive(Clone)]
pub struct Launcher(Arc<Inner>);

struct Inner {
    available: CapabilitySet,
    config: Config,
    /// The limit of descriptors that this service was given.
    descriptors: rustix::process::Rlimit,
    execs: AtomicU64,
    image: File,
    spares: spare::Spares,
    /// None where an ordinary user sees no cgroups.
    layout: Option<Layout>,
    /// What outlives this service hangs on it. Where this service is root of its host there is nothing of the kind.
    lifeline: Option<Lifeline>,
    device_filter: DeviceFilter,
    /// The user namespace of this service, if it is an ordinary user's.
    namespace: Option<UserNamespace>,
    /// What containers get of the OOM killer's mercy that ask for nothing.
    oom_score_adj: Option<i32>,
    thermal: Vec<String>,
}

/// A container that is about to be started.
#[derive(Debug)]
pub struct Prepared {
    /// Its record; it says where volumes are.
    pub record: Record,
    /// Its host name.
    pub hostname: String,
    /// Its root file system.
    pub mount: Mount,
    /// The snapshots that it mounts, in the order of its mounts.
    pub trees: Vec<Mount>,
    /// The users of its image.
    pub users: Users,
    /// Size of its terminal.
    pub size: TerminalSize,
    /// Its directory.
    pub dir: PathBuf,
    /// What it shares of another container.
    pub shared: Option<Arc<Shared>>,
    /// Namespaces of other containers that it joins.
    pub joined: Arc<Joined>,
}

/// Namespaces of other containers that one joins. Who makes it holds this until it has: its paths are of descriptors here.
#[derive(Debug, Default)]
pub struct Joined {
    /// Whose processes it sees.
    pub pid: Option<Namespace>,
    /// Whose shared memory it uses.
    pub ipc: Option<Namespace>,
    /// The process whose /dev/shm it has.
    pub shm: Option<crate::record::Identity>,
}

/// What a container shares of the one whose network it has.
#[derive(Debug)]
pub struct Shared {
    /// The network namespace.
    pub namespace: Namespace,
    /// Directory of the container that it is of: host name, hosts, resolv.conf.
    pub dir: PathBuf,
}

/// The files that name users and groups.
#[derive(Debug)]
pub struct Users {
    /// /etc/passwd.
    pub passwd: Vec<u8>,
    /// /etc/group.
    pub group: Vec<u8>,
}

/// A process that is about to be added to a running container.
#[derive(Debug)]
pub struct Joining {
    /// Record of the container.
    pub record: Record,
    /// Its first process.
    pub target: crate::record::Identity,
    /// What to execute.
    pub exec: Exec,
    /// Host name of the container.
    pub hostname: String,
}

impl Launcher {
    /// Copies `strata-init` into memory and looks at the host once.
    pub fn open(config: Config) -> Result<Self, Error> {
        let beside = || strata_rpc::paths::sibling("strata-init").map_err(|e| Error::io("find", "strata-init", e));
        let binary = config.file.init.clone().map_or_else(beside, Ok)?;
        let dir = config.run.join("c");
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|e| Error::io("create", dir, e))?;
        let problem = |source: Box<dyn std::error::Error + Send + Sync>| Error::Host { source };
        let layout = match Layout::detect() {
            Err(cgroup::Error::NoHierarchy) if unprivileged::is_limited() => None,
            layout => Some(layout.map_err(|e| problem(e.into()))?),
        };
        let namespace = unprivileged::own_namespace();
        let line = config.run.join("lifeline");
        let lifeline = namespace.as_ref().map(|_| Lifeline::open(&line)).transpose();
        let lifeline = lifeline.map_err(|e| Error::io("open", line, e))?;
        let filters_devices = namespace.is_none() && layout.as_ref().is_some_and(Layout::filters_devices);
        let inner = Inner {
            available: CapabilitySet::of_this_process().map_err(|e| problem(e.into()))?,
            execs: AtomicU64::new(0),
            spares: spare::Spares::default(),
            image: strata_init::sealed_copy(&binary, "strata-init").map_err(|e| problem(e.into()))?,
            device_filter: if filters_devices { DeviceFilter::Enforced } else { DeviceFilter::Absent },
            layout,
            lifeline,
            namespace,
            oom_score_adj: outline::own_score(),
            thermal: strata_oci::default_spec::thermal_paths(),
            config,
            descriptors: descriptors::raise(),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// "1" or "2": what `ctl info` shows.
    pub fn cgroup_version(&self) -> &'static str {
        match &self.0.layout {
            Some(layout) if layout.version() == Version::V2 => "2",
            Some(_) => "1",
            None => "none",
        }
    }

    /// Whether containers may be without a cgroup, so that their processes are known by the first of them alone.
    pub fn is_limited(&self) -> bool {
        self.0.namespace.is_some()
    }

    /// Whether the rules of a container for devices will be in force.
    fn device_filter(&self) -> DeviceFilter {
        self.0.device_filter
    }

    /// Refuses what could never be started: capabilities that this service does not have.
    pub fn check(&self, spec: &Spec) -> Result<(), Error> {
        outline::check(self, spec)
    }

    /// Where the monitor of a container listens.
    pub fn control(&self, id: &ContainerId) -> PathBuf {
        self.0.config.run.join("c").join(&id.as_str()[..SOCKET_DIGITS])
    }

    /// Where the monitor of a container leaves the exit status: not on disk for one that does not outlive the host.
    pub fn exit_record(&self, record: &Record, dir: &Path) -> PathBuf {
        match record.durability() {
            Durability::Synced => dir.join("exit.json"),
            Durability::Unsynced => self.control(&record.id).with_extension("exit"),
        }
    }

    /// Makes files and cgroup of a container, spawns its monitor and sends the plan. Nothing is left on failure.
    pub fn launch(&self, job: &Prepared) -> Result<Launch, Error> {
        let id = &job.record.id;
        let result = self.try_launch(job);
        if result.is_err()
            && let Err(error) = self.clear(id)
        {
            tracing::warn!(container = %id, %error, "cannot clear up after a failed launch");
        }
        result
    }

    fn try_launch(&self, job: &Prepared) -> Result<Launch, Error> {
        let record = &job.record;
        let own = files::prepare(job)?;
        let identity = outline::identity(self, &record.process.user, &record.spec.group_add, &job.users)?;
        let mut spec = outline::container(self, job, identity, own)?;
        let around = devices::prepare(&self.0.config.file.cdi.spec_dirs, job, &mut spec)?;
        let exit_record = self.exit_record(record, &job.dir);
        remove_file(&exit_record)?;
        let group = self.make_cgroup(record, &spec)?;
        let file = &self.0.config.file;
        // The input of a build step has one source.
        let streams = init::Streams { stdin: record.spec.has_stdin, stdin_once: record.is_run, terminal: None };
        let rules = logging::rules(&record.spec.log, file)?;
        let facts = logging::Facts { record, hostname: &job.hostname };
        let has_log = !record.spec.has_no_log;
        let log = logging::file(&rules, &facts, job.dir.join("log.json")).filter(|_| has_log);
        let receiver = if has_log { logging::receiver(&rules, &facts, &file.logs.journald_socket)? } else { None };
        let inputs = around.add_to(PlanInputs {
            cgroups: group.as_ref().map(Cgroup::to_plan).unwrap_or_default(),
            cgroup_view: group.as_ref().map(Cgroup::view).unwrap_or_default(),
            device_nodes: unprivileged::device_nodes(),
            exit_record: Some(exit_record.clone()),
            keyring: Some(keyring(&record.id)),
            log,
            root: root_of(&job.mount),
            streams,
            ..PlanInputs::default()
        });
        let mut plan = outline::plan(&spec, &inputs)?;
        if record.process.args.is_empty() {
            // Its mounts are wanted, and nothing is executed.
            plan.process.args.clear();
        }
        around.keep(job, &spec)?;
        insert::mounts(&mut plan.steps, &record.spec.mounts, &job.trees)?;
        if let Some(process) = &job.joined.shm {
            insert::shm(&mut plan.steps, process);
        }
        plan.process.has_init = record.spec.has_init;
        plan.is_exit_record_durable = record.durability() == Durability::Synced;
        plan.waker = self.waker(&record.spec.restart);
        plan.log_receiver = receiver;
        self.spawn(MONITOR, &record.id, plan, self.control(&record.id), exit_record)
    }

    /// What the monitor of a container starts this service with, should it be gone when a restart is due.
    pub fn waker(&self, policy: &Policy) -> Option<init::Waker> {
        let Waker { program, args, env } = self.0.config.waker.clone().filter(|_| policy.is_set())?;
        Some(init::Waker { program, args, env, only_after_failure: matches!(policy, Policy::OnFailure { .. }) })
    }

    /// Does what the devices of a container want done when its program runs; after a failure it is to be killed.
    pub fn started(&self, dir: &Path, pid: u32) -> Result<(), Error> {
        devices::started(dir, pid)
    }

    /// Does what the devices of a container want done at its end.
    pub fn ended(&self, dir: &Path, id: &ContainerId) {
        devices::ended(dir, id);
    }

    /// Spawns the monitor of a further process in a running container.
    pub fn join(&self, job: &Joining) -> Result<Launch, Error> {
        let record = &job.record;
        let users = files::users_of(job.target.pid)?;
        let user = if job.exec.user.is_empty() { &record.process.user } else { &job.exec.user };
        let identity = outline::identity(self, user, &record.spec.group_add, &users)?;
        let spec = outline::exec(self, job, identity)?;
        let group = self.cgroup(&record.id)?;
        let inputs = ExecInputs {
            cgroups: group.as_ref().map(Cgroup::to_plan).unwrap_or_default(),
            keyring: Some(keyring(&record.id)),
            pid: job.target.pid,
            start_time: job.target.started,
            streams: init::Streams { stdin: job.exec.has_stdin, stdin_once: true, terminal: None },
            ..ExecInputs::default()
        };
        let mut plan = outline::plan_exec(&spec, &inputs)?;
        let number = self.0.execs.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{number}", &record.id.as_str()[..SOCKET_DIGITS], std::process::id());
        let control = self.0.config.run.join("c").join(name);
        let exit_record = control.with_extension("exit");
        plan.exit_record = Some(exit_record.clone());
        self.spawn("exec", &record.id, plan, control, exit_record)
    }

    /// Removes what the monitor of an exec leaves.
    pub fn forget_exec(&self, monitor: &Monitor) {
        // A socket that is left is swept when its container ends.
        let _gone = remove_file(&monitor.control).and_then(|()| remove_file(&monitor.control.with_extension("exit")));
    }

    fn spawn(
        &self,
        role: &str,
        id: &ContainerId,
        mut plan: Plan,
        control: PathBuf,
        exit_record: PathBuf,
    ) -> Result<Launch, Error> {
        if control.as_os_str().len() > SOCKET_PATH {
            let problem = io::Error::new(io::ErrorKind::InvalidInput, "the path of a control socket is too long");
            return Err(Error::io("listen on", control, problem));
        }
        remove_file(&control)?;
        plan.control_socket = Some(control.clone());
        let spare = if role == MONITOR { self.0.spares.take() } else { None };
        let Spare { mut child, mut stream } = match spare {
            Some(spare) => spare,
            None => self.execute(role)?,
        };
        if let Err(error) = wire::send(&mut stream, &Frame::Plan { bytes: plan.encode() }) {
            let _ended_already = child.kill();
            let _status = child.wait();
            return Err(Error::Monitor { id: id.to_string(), problem: format!("did not take its plan: {error}") });
        }
        let packed_log = plan.log.filter(|log| log.is_compressed).map(|log| log.path);
        Ok(Launch { id: id.to_string(), child, stream, control, exit_record, packed_log })
    }

    /// Executes `strata-init`, which waits for its plan.
    fn execute(&self, role: &str) -> Result<Spare, Error> {
        let image = format!("/proc/self/fd/{}", self.0.image.as_raw_fd());
        let failed = |e: io::Error| Error::io("execute", "strata-init", e);
        let (stream, theirs) = UnixStream::pair().map_err(failed)?;
        // What hangs on the lifeline is there for the container; the monitor itself says nothing.
        let held = self.0.lifeline.as_ref().map(|line| line.hold().map(Stdio::from)).transpose().map_err(failed)?;
        // No process group of its own: the monitor calls setsid(2), which a group's leader may not.
        let child = Command::new(image)
            .arg0("strata-init")
            .arg(role)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(held.unwrap_or_else(Stdio::null))
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        Ok(Spare { child, stream })
    }

    /// Starts a program that lives as long as this service or one of its monitors, and complains to a file.
    pub fn tether(&self, words: &[OsString], log: &Path) -> Result<tokio::process::Child, Error> {
        let failed = |e: io::Error| Error::io("execute", "strata-init", e);
        let line = self.0.lifeline.as_ref().ok_or_else(|| failed(io::ErrorKind::Unsupported.into()))?;
        let complaints = File::create(log).map_err(|e| Error::io("create", log, e))?;
        tokio::process::Command::new(format!("/proc/self/fd/{}", self.0.image.as_raw_fd()))
            .arg0("strata-init")
            .arg("tether")
            .args(words)
            .env_clear()
            .current_dir("/")
            .stdin(line.hang().map_err(failed)?)
            .stdout(complaints.try_clone().map_err(failed)?)
            .stderr(complaints)
            .spawn()
            .map_err(failed)
    }

    /// Makes the monitor of the next container ahead, on a thread for it. It waits for a moment.
    pub fn make_ahead(&self) {
        if self.0.spares.is_there() {
            return;
        }
        let this = self.clone();
        tokio::spawn(async move {
            let launcher = this.clone();
            // What cannot be made now is told when it is needed.
            let made = tokio::task::spawn_blocking(move || {
                launcher.execute(MONITOR).map(|spare| launcher.0.spares.keep(spare))
            });
            let Ok(Ok(number)) = made.await else { return };
            tokio::time::sleep(AHEAD).await;
            let _ended = tokio::task::spawn_blocking(move || this.0.spares.expire(number)).await;
        });
    }

    /// Kills what is left of a container's processes and removes cgroup and sockets.
    pub fn clear(&self, id: &ContainerId) -> Result<(), Error> {
        if self.cgroup(id)?.is_some_and(|group| !group.remove_empty()) {
            self.kill(id)?;
            self.remove_cgroup(id)?;
        }
        self.sweep(id)
    }

    /// Removes the sockets of a container.
    pub fn sweep(&self, id: &ContainerId) -> Result<(), Error> {
        remove_file(&self.control(id))?;
        remove_file(&self.control(id).with_extension("exit"))?;
        remove_file(&self.cgroup_record(id))
    }
}

/// The session keyring of a container's processes: not that of the service, whose keys they would have.
fn keyring(id: &ContainerId) -> String {
    format!("_ses.{id}")
}

fn root_of(mount: &Mount) -> init::Root {
    init::Root::Overlay {
        lowers: mount.lowers.clone(),
        upper: mount.upper.clone().unwrap_or_default(),
        work: mount.work.clone().unwrap_or_default(),
        options: mount.options.clone(),
    }
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, error)),
        _ => Ok(()),
    }
}
