//! What can go wrong with volumes.

use std::io;

use rustix::io::Errno;
use tonic::Code;

/// Why something about a volume was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// No volume has this name.
    #[error("no such volume: {name}")]
    NotFound {
        /// As asked for.
        name: String,
    },
    /// A volume of this name has other options.
    #[error("there is a volume {name} with other options")]
    Exists {
        /// The name.
        name: String,
    },
    /// Containers use the volume.
    #[error("volume {name} is in use by {}", super::words::holders_of(holders))]
    InUse {
        /// The name.
        name: String,
        /// Ids and names of the containers.
        holders: Vec<(String, String)>,
    },
    /// The volume has content, which nobody said may go.
    #[error("volume {name} is not empty")]
    NotEmpty {
        /// The name.
        name: String,
    },
    /// There is no such driver of volumes.
    #[error("there is no volume driver {driver:?}: \"local\" is the only one")]
    Driver {
        /// As asked for.
        driver: String,
    },
    /// The file system that a volume is cannot be mounted.
    #[error("cannot mount volume {name}, {kind} of {device:?}{}", of_mount(kind, source))]
    Mount {
        /// Name of the volume.
        name: String,
        /// The option `type`.
        kind: String,
        /// The option `device`.
        device: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is in a volume cannot be read or replaced: there is nothing while no container runs.
    #[error(
        "volume {name} is a file system of type {kind} that containers mount: its files are read and written in one"
    )]
    Away {
        /// Name of the volume.
        name: String,
        /// The option `type`.
        kind: String,
    },
}

impl VolumeError {
    /// The code on the wire.
    pub(super) fn code(&self) -> Code {
        match self {
            Self::NotFound { .. } => Code::NotFound,
            Self::Exists { .. } => Code::AlreadyExists,
            Self::InUse { .. } | Self::Mount { .. } | Self::Away { .. } | Self::NotEmpty { .. } => {
                Code::FailedPrecondition
            }
            Self::Driver { .. } => Code::Unimplemented,
        }
    }

    /// The reason on the wire.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "FAULT_VOLUME_NOT_FOUND",
            Self::Exists { .. } => "FAULT_NAME_TAKEN",
            Self::InUse { .. } => "FAULT_VOLUME_IN_USE",
            Self::NotEmpty { .. } => "FAULT_VOLUME_NOT_EMPTY",
            Self::Mount { .. } | Self::Away { .. } => "FAULT_VOLUME_UNAVAILABLE",
            Self::Driver { .. } => "FAULT_UNSUPPORTED",
        }
    }

    /// What a program needs to know.
    pub(super) fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::InUse { holders, .. } => {
                let ids: Vec<&str> = holders.iter().map(|(id, _)| id.as_str()).collect();
                vec![("holders", ids.join(","))]
            }
            Self::NotFound { .. }
            | Self::Exists { .. }
            | Self::NotEmpty { .. }
            | Self::Driver { .. }
            | Self::Mount { .. }
            | Self::Away { .. } => Vec::new(),
        }
    }

    /// The name that is missing or in the way.
    pub(super) fn resource(&self) -> Option<&str> {
        match self {
            Self::NotFound { name } | Self::Exists { name } => Some(name),
            Self::InUse { .. }
            | Self::NotEmpty { .. }
            | Self::Driver { .. }
            | Self::Mount { .. }
            | Self::Away { .. } => None,
        }
    }
}

/// Nobody is there.
const NO_ANSWER: &str = ": its server does not answer at its address (-o o=addr=…)";

/// What to do about it, where that is known.
fn of_mount(kind: &str, error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NODEV) => format!(": the kernel has no such file system (modprobe {kind})"),
        Some(Errno::INVAL) => ": it does not take these options (-o o=…)".to_owned(),
        Some(Errno::PERM) => ": only root of the host may mount it, where its server lets the host".to_owned(),
        Some(Errno::ACCESS) => ": its server does not let this host have it".to_owned(),
        Some(Errno::NOENT) => ": there is no such path at its server".to_owned(),
        Some(Errno::PROTONOSUPPORT) => ": its server does not speak this version (-o o=vers=…)".to_owned(),
        Some(Errno::CONNREFUSED | Errno::HOSTDOWN | Errno::HOSTUNREACH | Errno::NETUNREACH) => NO_ANSWER.to_owned(),
        _ if error.kind() == io::ErrorKind::TimedOut => NO_ANSWER.to_owned(),
        _ => String::new(),
    }
}
