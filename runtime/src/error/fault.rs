//! Which fault each error becomes on the wire: the one place where codes are chosen.

use tonic::Code;

use super::{Error, network, words::is_of_the_host};

impl strata_rpc::Fault for Error {
    fn code(&self) -> Code {
        match self {
            Self::Argument { .. } | Self::NoCommand | Self::Ambiguous { .. } | Self::DependencyCycle { .. } => {
                Code::InvalidArgument
            }
            Self::NotFound { .. }
            | Self::ImageNotFound { .. }
            | Self::PlatformNotFound { .. }
            | Self::SourceNotFound { .. }
            | Self::FileNotFound { .. } => Code::NotFound,
            Self::NameTaken { .. } | Self::IdTaken { .. } => Code::AlreadyExists,
            Self::NotRunning { .. }
            | Self::SharedNotRunning { .. }
            | Self::Running { .. }
            | Self::Removing { .. }
            | Self::Paused { .. }
            | Self::NotPaused { .. }
            | Self::PauseFailed { .. }
            | Self::Start { .. }
            | Self::Limit { .. }
            | Self::User { .. }
            | Self::Group { .. }
            | Self::Join { .. }
            | Self::StoreRefused { .. }
            | Self::Later { .. }
            | Self::RootLocked { .. }
            | Self::Propagation { .. }
            | Self::NoDirectory { .. }
            | Self::File { .. }
            | Self::KernelFile { .. }
            | Self::Overwrite { .. }
            | Self::ReadOnly { .. }
            | Self::Required { .. }
            | Self::NotHealthy { .. }
            | Self::NoLog { .. }
            | Self::Receiver { .. } => Code::FailedPrecondition,
            Self::StopPending { .. } => Code::DeadlineExceeded,
            Self::Unsupported { .. } | Self::NoCgroup { .. } | Self::NoPs => Code::Unimplemented,
            Self::StoreUnavailable { .. } => Code::Unavailable,
            Self::Network(error) => network::code(error),
            Self::Secret(error) => error.code(),
            Self::Volume(error) => error.code(),
            Self::Connected { .. } | Self::Mounted { .. } => Code::AlreadyExists,
            Self::NotMounted { .. } => Code::NotFound,
            Self::NotConnected { .. } | Self::NetworkMode { .. } | Self::NotPublished { .. } => {
                Code::FailedPrecondition
            }
            Self::Io { .. } | Self::Archive { .. } if self.is_disk_full() => Code::ResourceExhausted,
            Self::Archive { source } if is_of_the_host(source) => Code::Internal,
            Self::Archive { .. } => Code::InvalidArgument,
            Self::Record { .. }
            | Self::Io { .. }
            | Self::Monitor { .. }
            | Self::Host { .. }
            | Self::Cgroup { .. }
            | Self::Plan { .. }
            | Self::Resolver { .. }
            | Self::Lost { .. } => Code::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Argument { .. } | Self::NoCommand => "FAULT_INVALID_ARGUMENT",
            Self::NotFound { .. } => "FAULT_CONTAINER_NOT_FOUND",
            Self::Ambiguous { .. } => "FAULT_CONTAINER_AMBIGUOUS",
            Self::NameTaken { .. } | Self::IdTaken { .. } => "FAULT_NAME_TAKEN",
            Self::NotRunning { .. } | Self::SharedNotRunning { .. } | Self::Join { .. } | Self::Removing { .. } => {
                "FAULT_NOT_RUNNING"
            }
            Self::Running { .. } => "FAULT_RUNNING",
            Self::Paused { .. } => "FAULT_PAUSED",
            Self::NotPaused { .. } => "FAULT_NOT_PAUSED",
            Self::PauseFailed { .. } => "FAULT_PAUSE_FAILED",
            Self::ImageNotFound { .. } => "FAULT_IMAGE_NOT_FOUND",
            Self::PlatformNotFound { .. } => "FAULT_PLATFORM_NOT_FOUND",
            Self::Start { .. }
            | Self::User { .. }
            | Self::Group { .. }
            | Self::Propagation { .. }
            | Self::Receiver { .. } => "FAULT_START_FAILED",
            Self::Limit { .. } => "FAULT_LIMIT_NOT_APPLIED",
            Self::StopPending { .. } => "FAULT_STOP_PENDING",
            Self::Unsupported { .. } | Self::NoCgroup { .. } | Self::NoPs => "FAULT_UNSUPPORTED",
            Self::StoreUnavailable { .. } => "FAULT_STORE_UNAVAILABLE",
            Self::StoreRefused { .. } => "FAULT_STORE_REFUSED",
            Self::SourceNotFound { .. } => "FAULT_SOURCE_NOT_FOUND",
            Self::RootLocked { .. } => "FAULT_ROOT_LOCKED",
            Self::Network(error) => network::reason(error),
            Self::Secret(error) => error.reason(),
            Self::Volume(error) => error.reason(),
            Self::Connected { .. } => "FAULT_ALREADY_CONNECTED",
            Self::NotConnected { .. } => "FAULT_NOT_CONNECTED",
            Self::Mounted { .. } => "FAULT_ALREADY_MOUNTED",
            Self::NotMounted { .. } => "FAULT_NOT_MOUNTED",
            Self::NetworkMode { .. } => "FAULT_NETWORK_MODE",
            Self::DependencyCycle { .. } => "FAULT_DEPENDENCY_CYCLE",
            Self::Required { .. } => "FAULT_REQUIREMENT",
            Self::NotHealthy { .. } => "FAULT_NOT_HEALTHY",
            Self::NoLog { .. } => "FAULT_NO_LOG",
            Self::NotPublished { .. } => "FAULT_PORT_NOT_PUBLISHED",
            Self::Io { .. } | Self::Archive { .. } if self.is_disk_full() => "FAULT_DISK_FULL",
            Self::Archive { source } if is_of_the_host(source) => "FAULT_INTERNAL",
            Self::Archive { .. } => "FAULT_ARCHIVE_INVALID",
            Self::FileNotFound { .. } => "FAULT_PATH_NOT_FOUND",
            Self::NoDirectory { .. } => "FAULT_NOT_A_DIRECTORY",
            Self::File { .. } => "FAULT_FILE_UNAVAILABLE",
            Self::KernelFile { .. } => "FAULT_KERNEL_FILE",
            Self::Overwrite { .. } => "FAULT_OVERWRITE",
            Self::ReadOnly { .. } => "FAULT_READ_ONLY",
            Self::Record { .. }
            | Self::Later { .. }
            | Self::Io { .. }
            | Self::Monitor { .. }
            | Self::Host { .. }
            | Self::Cgroup { .. }
            | Self::Plan { .. }
            | Self::Resolver { .. }
            | Self::Lost { .. } => "FAULT_INTERNAL",
        }
    }

    fn metadata(&self) -> Vec<(String, String)> {
        let pairs: Vec<(&str, String)> = match self {
            Self::Start { step, errno, exit_code, .. } => {
                vec![("step", step.clone()), ("errno", errno.to_string()), ("exit_code", exit_code.to_string())]
            }
            Self::Propagation { .. } => {
                vec![("step", "mount".into()), ("errno", "0".into()), ("exit_code", self.exit_code().to_string())]
            }
            Self::Receiver { .. } => {
                vec![("step", "log".into()), ("errno", "0".into()), ("exit_code", self.exit_code().to_string())]
            }
            Self::User { .. } | Self::Group { .. } => {
                vec![("step", "user".into()), ("errno", "0".into()), ("exit_code", self.exit_code().to_string())]
            }
            Self::NameTaken { holder, .. } => vec![("holder", holder.clone())],
            Self::Required { required, .. } => vec![("container", required.clone())],
            Self::IdTaken { id } => vec![("holder", id.clone())],
            Self::Limit { field, .. } => vec![("field", field.clone())],
            Self::StoreRefused { reason, .. } => vec![("reason", reason.clone())],
            Self::SourceNotFound { path } => vec![("path", path.display().to_string())],
            Self::Network(error) => network::metadata(error),
            Self::Secret(error) => error.metadata(),
            Self::Volume(error) => error.metadata(),
            Self::ImageNotFound { image } => vec![("image", image.clone())],
            _ => Vec::new(),
        };
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn field(&self) -> Option<(String, String)> {
        match self {
            Self::Argument { field, problem } => Some((field.clone(), problem.clone())),
            Self::NoCommand => Some(("spec.command".into(), self.to_string())),
            Self::Network(strata_net::Error::Argument { field, problem }) => {
                Some(((*field).to_owned(), problem.clone()))
            }
            _ => None,
        }
    }

    fn resource(&self) -> Option<(String, String)> {
        match self {
            Self::NotFound { name } => Some(("container".into(), name.clone())),
            Self::ImageNotFound { image } => Some(("image".into(), image.clone())),
            Self::Network(strata_net::Error::NotFound { name } | strata_net::Error::NameTaken { name, .. }) => {
                Some(("network".into(), name.clone()))
            }
            Self::SourceNotFound { path } => Some(("path".into(), path.display().to_string())),
            Self::NameTaken { name, .. } => Some(("container".into(), name.clone())),
            Self::Secret(error) => error.resource().map(|name| ("secret".into(), name.to_owned())),
            Self::Volume(error) => error.resource().map(|name| ("volume".into(), name.to_owned())),
            _ => None,
        }
    }
}
