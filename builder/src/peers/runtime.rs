//! The runtime, as a build sees it: one stream per RUN. Dropping it kills the step and removes its container.

use std::sync::Arc;

use strata_proto::runtime::v1 as pb;
use strata_proto::types::v1::HostEntry;
use strata_rpc::spans::Channel;
use tokio::sync::{OnceCell, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::Peers;
use crate::config::StepNetwork;
use crate::error::Error;
use crate::secret::{Secret, SecretEnv};

mod limits;

pub use limits::StepLimits;

/// Host name of steps.
const HOSTNAME: &str = "strata-build";

/// The network that every runtime has that can have any.
const BRIDGE: &str = "bridge";

/// The runtime of a build.
#[derive(Debug, Clone)]
pub struct Runtime {
    peers: Arc<Peers>,
    channel: Arc<OnceCell<Channel>>,
    /// The network of steps that do not say; asked for once.
    usual: Arc<OnceCell<StepNetwork>>,
}

/// Network of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The usual one of this builder.
    Default,
    /// The host's.
    Host,
    /// A loopback device only.
    None,
}

impl Network {
    /// Its name in flags and keys.
    pub fn name(self) -> &'static str {
        match self {
            Network::Default => "default",
            Network::Host => "host",
            Network::None => "none",
        }
    }
}

/// A RUN step.
#[derive(Debug, Clone)]
pub struct RunStep {
    /// Snapshot to run in.
    pub snapshot: String,
    /// Program and arguments.
    pub args: Vec<String>,
    /// Environment, KEY=VALUE.
    pub env: Vec<String>,
    /// Working directory.
    pub working_directory: String,
    /// User.
    pub user: String,
    /// Network.
    pub network: Network,
    /// Host name. Empty: the usual.
    pub hostname: String,
    /// Names in /etc/hosts beyond the usual ones, with their addresses.
    pub extra_hosts: Vec<(String, String)>,
    /// Size of /dev/shm in bytes; 0: the usual.
    pub shm_size: u64,
    /// Limits of each process.
    pub ulimits: Vec<Ulimit>,
    /// Limits of its container.
    pub limits: StepLimits,
    /// All capabilities and devices, no filter of system calls, nothing hidden.
    pub is_insecure: bool,
    /// What is mounted.
    pub mounts: Vec<StepMount>,
    /// Devices by their full names.
    pub devices: Vec<String>,
    /// Variables that only its process knows.
    pub secret_env: SecretEnv,
}

/// A device of the runtime's host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its full name, `vendor.com/class=name`.
    pub name: String,
    /// The class that its annotations say it is of. Empty: none.
    pub class: String,
    /// Its annotations say that any build may have it.
    pub is_auto_allowed: bool,
}

impl Device {
    /// Vendor and class.
    pub fn kind(&self) -> &str {
        self.name.split('=').next().unwrap_or(&self.name)
    }
}

/// The devices of the runtime's host.
#[derive(Debug, Clone, Default)]
pub struct Devices {
    /// By name.
    pub devices: Vec<Device>,
    /// Why files that may describe others do not count.
    pub problems: Vec<String>,
}

/// A limit of each process of a step: getrlimit(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// Its name, "nofile".
    pub name: String,
    /// What is in force.
    pub soft: u64,
    /// How far it may be raised.
    pub hard: u64,
}

impl From<strata_proto::types::v1::Ulimit> for Ulimit {
    fn from(message: strata_proto::types::v1::Ulimit) -> Self {
        Self { name: message.name, soft: message.soft, hard: message.hard }
    }
}

/// A mount of a step.
#[derive(Debug, Clone)]
pub struct StepMount {
    /// Absolute path in the container.
    pub target: String,
    /// It cannot be written to.
    pub is_read_only: bool,
    /// What is mounted.
    pub source: MountSource,
}

/// What is mounted.
#[derive(Debug, Clone)]
pub enum MountSource {
    /// A file in memory.
    Bytes {
        /// What it holds.
        data: Secret,
        /// Permission bits.
        mode: u32,
        /// User and group.
        owner: (u32, u32),
    },
    /// Memory.
    Tmpfs {
        /// Bytes at most; 0: half of the memory.
        size: u64,
    },
    /// A path of the host that store, runtime and builder share.
    Host(String),
    /// A path of a snapshot.
    Snapshot {
        /// Its key.
        key: String,
        /// The path in it.
        path: String,
    },
}

/// Output of a step.
#[derive(Debug, Clone)]
pub struct Output {
    /// It came from standard error.
    pub is_stderr: bool,
    /// The bytes.
    pub chunk: bytes::Bytes,
}

/// A mount point that had to be made.
#[derive(Debug, Clone)]
pub struct MountPoint {
    /// Its path.
    pub path: String,
    /// Its inode.
    pub inode: u64,
}

/// The end of a step.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit code; 128 + n for a signal. `None`: nobody knows.
    pub code: Option<u32>,
    /// Mount points that had to be made.
    pub stubs: Vec<MountPoint>,
}

impl Runtime {
    /// A runtime that nobody speaks to yet. Steps that do not say have the network `usual`; `None`: the bridge where the
    /// runtime has containers on it by default, else the host's.
    pub fn new(peers: Arc<Peers>, usual: Option<StepNetwork>) -> Self {
        Self { peers, channel: Arc::default(), usual: Arc::new(OnceCell::new_with(usual)) }
    }

    /// The connection, made when it is first needed: a build that runs nothing needs no runtime.
    async fn channel(&self) -> Result<Channel, Error> {
        let connect = || self.peers.connect("runtime", &self.peers.runtime);
        self.channel.get_or_try_init(connect).await.cloned()
    }

    /// The network of steps that do not say.
    async fn usual(&self) -> Result<StepNetwork, Error> {
        let ask = async || {
            let refused = |status| Error::peer("runtime", "say which network is the default", status);
            let mut client = pb::system_service_client::SystemServiceClient::new(self.channel().await?);
            let info = client.get_info(pb::GetInfoRequest {}).await.map_err(refused)?.into_inner();
            Ok(if info.default_network == BRIDGE { StepNetwork::Bridge } else { StepNetwork::Host })
        };
        self.usual.get_or_try_init(ask).await.copied()
    }

    /// Lists the devices of its host.
    pub async fn devices(&self) -> Result<Devices, Error> {
        let refused = |status| Error::peer("runtime", "list devices", status);
        let mut client = pb::device_service_client::DeviceServiceClient::new(self.channel().await?);
        let mut known = Devices::default();
        let mut page_token = String::new();
        loop {
            let request = pb::ListDevicesRequest { page_size: 0, page_token };
            let page = client.list_devices(request).await.map_err(refused)?.into_inner();
            known.devices.extend(page.devices.into_iter().map(|device| Device {
                name: device.name,
                class: device.device_class,
                is_auto_allowed: device.is_auto_allowed,
            }));
            let problems = page.problems.into_iter().map(|one| format!("{}: {}", one.spec_path, one.problem));
            known.problems = problems.collect();
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(known);
            }
        }
    }

    /// Runs a step and hands its output to `output`.
    pub async fn run(&self, step: RunStep, output: mpsc::Sender<Output>) -> Result<Finished, Error> {
        let refused = |status| Error::peer("runtime", "run the step", status);
        let (requests, receiver) = mpsc::channel(1);
        let network = match step.network {
            Network::Default => match self.usual().await? {
                StepNetwork::Host => pb::NetworkMode::Host,
                StepNetwork::Bridge => pb::NetworkMode::Networks,
            },
            Network::Host => pb::NetworkMode::Host,
            Network::None => pb::NetworkMode::None,
        };
        let start = pb::run_request::Event::Start(start(step, network));
        // The sender is kept until the end: a stream that closes early is a cancelled step.
        requests.send(pb::RunRequest { event: Some(start) }).await.map_err(|_| Error::Cancelled)?;
        let mut client = pb::stream_service_client::StreamServiceClient::new(self.channel().await?);
        let mut events = client.run(ReceiverStream::new(receiver)).await.map_err(refused)?.into_inner();
        let mut exited = None;
        while let Some(event) = events.message().await.map_err(refused)? {
            match event.event {
                Some(pb::run_response::Event::Output(pb::Output { stream: Some(stream) })) => {
                    let (is_stderr, chunk) = match stream {
                        pb::output::Stream::Stdout(chunk) => (false, chunk),
                        pb::output::Stream::Stderr(chunk) => (true, chunk),
                    };
                    output.send(Output { is_stderr, chunk }).await.map_err(|_| Error::Cancelled)?;
                }
                Some(pb::run_response::Event::Exited(event)) => exited = Some(event),
                _ => {}
            }
        }
        drop(requests);
        let exited = exited.ok_or(Error::Answer { peer: "runtime", what: "an exit status" })?;
        let code = match exited.exit.and_then(|exit| exit.kind) {
            Some(pb::exit_status::Kind::Code(code)) => Some(code),
            Some(pb::exit_status::Kind::Signal(signal)) => Some(128 + signal),
            Some(pb::exit_status::Kind::Unknown(_)) | None => None,
        };
        let stubs = exited.created_mount_points.into_iter();
        let stubs = stubs.map(|point| MountPoint { path: point.path, inode: point.inode }).collect();
        Ok(Finished { code, stubs })
    }
}

fn start(step: RunStep, network: pb::NetworkMode) -> pb::RunStart {
    let bridge = pb::NetworkAttachment { network: BRIDGE.to_owned(), ..Default::default() };
    let spec = pb::ContainerSpec {
        networks: if network == pb::NetworkMode::Networks { vec![bridge] } else { Vec::new() },
        root: Some(pb::container_spec::Root::SnapshotKey(step.snapshot)),
        entry_point: Some(pb::EntryPoint { args: Vec::new() }),
        command: step.args,
        env: step.env,
        working_directory: step.working_directory,
        user: step.user,
        hostname: if step.hostname.is_empty() { HOSTNAME.to_owned() } else { step.hostname },
        network: network.into(),
        extra_hosts: step.extra_hosts.into_iter().map(|(name, address)| HostEntry { name, address }).collect(),
        shm_size_bytes: step.shm_size,
        ulimits: step.ulimits.into_iter().map(limit).collect(),
        limits: Some(step.limits.into()),
        is_privileged: step.is_insecure,
        mounts: step.mounts.into_iter().map(mount).collect(),
        cdi_devices: step.devices,
        secret_env: step.secret_env.into_pairs().into_iter().map(variable).collect(),
        auto_remove: true,
        is_volatile: true,
        has_no_log: true,
        ..pb::ContainerSpec::default()
    };
    pb::RunStart { id: String::new(), spec: Some(spec), terminal_size: None }
}

fn limit(Ulimit { name, soft, hard }: Ulimit) -> strata_proto::types::v1::Ulimit {
    strata_proto::types::v1::Ulimit { name, soft, hard }
}

fn variable((name, value): (String, String)) -> pb::SecretVariable {
    pb::SecretVariable { name, value }
}

fn mount(mount: StepMount) -> pb::MountSpec {
    use pb::mount_spec::Source;
    let source = match mount.source {
        MountSource::Bytes { data, mode, owner: (uid, gid) } => {
            Source::Bytes(pb::BytesSource { data: data.into_bytes(), mode, uid, gid })
        }
        MountSource::Tmpfs { size } => {
            Source::Tmpfs(pb::TmpfsSource { size_bytes: size, may_execute: true, ..Default::default() })
        }
        MountSource::Host(path) => Source::Bind(pb::BindSource { path, ..Default::default() }),
        MountSource::Snapshot { key, path } => Source::Snapshot(pb::SnapshotSource { key, path }),
    };
    let (target, is_read_only) = (mount.target, mount.is_read_only);
    pb::MountSpec { target, is_read_only, source: Some(source), ..Default::default() }
}
