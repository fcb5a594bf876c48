//! Configuration: `runtime.toml`, all of it optional.

use std::{collections::BTreeMap, ffi::OsString, net::IpAddr, path::PathBuf};

use serde::Deserialize;

use crate::{logging, spec::Driver};

/// The configuration file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// The node's store, as "unix:PATH" or "tcp:HOST:PORT". Absent: the usual socket, started when it is gone.
    pub store: Option<String>,
    /// Certificates for a store over TCP.
    pub tls: Option<Tls>,
    /// The `strata-init` binary. Absent: beside this one.
    pub init: Option<PathBuf>,
    /// Cgroup below which containers get theirs.
    pub cgroup_parent: String,
    /// A log file is rotated at this size; 0: never.
    pub log_max_bytes: u64,
    /// Log files kept per container.
    pub log_max_files: u32,
    /// What becomes of the output of containers.
    pub logs: Logs,
    /// What a container gets when nothing is said.
    pub profile: Profile,
    /// Devices of the Container Device Interface.
    pub cdi: Cdi,
    /// Networks of containers.
    pub networks: Networks,
    /// Where metrics are served: "ADDRESS:PORT", or a port on loopback. Absent: nowhere.
    pub metrics: Option<String>,
}

/// What becomes of the output of containers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawLogs")]
pub struct Logs {
    /// The log driver of a container when nothing is said.
    pub driver: Driver,
    /// Options of containers with that driver, unless they have others.
    pub options: BTreeMap<String, String>,
    /// Where systemd's journal listens.
    pub journald_socket: PathBuf,
}

impl Default for Logs {
    fn default() -> Self {
        let journald_socket = PathBuf::from("/run/systemd/journal/socket");
        Self { driver: Driver::JsonFile, options: BTreeMap::new(), journald_socket }
    }
}

/// What the file says of it, before it is checked.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLogs {
    driver: Option<String>,
    options: BTreeMap<String, String>,
    journald_socket: Option<PathBuf>,
}

impl TryFrom<RawLogs> for Logs {
    type Error = String;

    fn try_from(raw: RawLogs) -> Result<Self, String> {
        let usual = Self::default();
        let driver = raw.driver.as_deref().map_or(Ok(usual.driver), Driver::parse)?;
        logging::check(driver, &raw.options)?;
        let journald_socket = raw.journald_socket.unwrap_or(usual.journald_socket);
        Ok(Self { driver, options: raw.options, journald_socket })
    }
}

/// Devices of the Container Device Interface.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cdi {
    /// Directories of spec files; a later one counts before an earlier one. None: no container has such a device.
    pub spec_dirs: Vec<PathBuf>,
}

impl Default for Cdi {
    /// Those of the specification: what an administrator writes, and what programs write until the next start of the host.
    fn default() -> Self {
        Self { spec_dirs: ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).into() }
    }
}

/// Networks of containers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Networks {
    /// The network of a container when nothing is said.
    pub default: DefaultNetwork,
    /// Where ports are published when neither they nor their network say so.
    pub publish: PublishOn,
    /// What carries packets of an ordinary user's networks to the world.
    pub helper: Helper,
}

/// A program that carries packets of networks to the world, where this service is not root of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Helper {
    /// pasta, and slirp4netns where that is not there or does not work.
    #[default]
    Any,
    /// pasta(1).
    Pasta,
    /// slirp4netns(1).
    Slirp4netns,
    /// None: containers reach each other.
    None,
}

/// Where ports are published when nothing is said: "all", "loopback", or an address of the host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PublishOn(Vec<IpAddr>);

impl PublishOn {
    /// The addresses of the host; 0.0.0.0 and :: are all of their version of the protocol.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.0
    }
}

impl Default for PublishOn {
    /// All addresses of both versions.
    fn default() -> Self {
        Self(vec![IpAddr::from([0_u8; 4]), IpAddr::from([0_u8; 16])])
    }
}

impl TryFrom<String> for PublishOn {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "all" => Ok(Self::default()),
            "loopback" => {
                Ok(Self(vec![IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)]))
            }
            address => match address.parse() {
                Ok(address) => Ok(Self(vec![address])),
                Err(_) => Err(format!("{address:?} is neither \"all\" nor \"loopback\" nor an address")),
            },
        }
    }
}

/// The network of a container when nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefaultNetwork {
    /// That of the name `bridge`; none where an ordinary user's has no way to the world.
    #[default]
    Bridge,
    /// A loopback device only.
    None,
}

/// Files of a client certificate, PEM.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate authority of the store.
    pub ca: PathBuf,
    /// Certificate of this runtime.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// How much a container gets when nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Docker's defaults.
    #[default]
    Docker,
    /// Fewer capabilities, and set-user-ID programs gain nothing.
    Strict,
}

impl Default for File {
    fn default() -> Self {
        Self {
            store: None,
            tls: None,
            init: None,
            cgroup_parent: "strata".to_owned(),
            log_max_bytes: 10 << 20,
            log_max_files: 3,
            logs: Logs::default(),
            profile: Profile::default(),
            cdi: Cdi::default(),
            networks: Networks::default(),
            metrics: None,
        }
    }
}

/// What the engine works with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Records and logs.
    pub root: PathBuf,
    /// Control sockets; gone after a reboot.
    pub run: PathBuf,
    /// The file.
    pub file: File,
    /// What starts this service again when it is gone. Absent: somebody else looks after it.
    pub waker: Option<Waker>,
    /// This program, which has a role beside this service: see `proxy`.
    pub program: PathBuf,
    /// What to log: a level, or directives.
    pub log: String,
}

/// What starts this service again.
#[derive(Debug, Clone)]
pub struct Waker {
    /// A program that does so, and ends.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its environment, KEY=VALUE.
    pub env: Vec<OsString>,
}
