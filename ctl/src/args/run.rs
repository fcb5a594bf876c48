//! Flags of `ctl run` and `ctl create`. The words from the image on are kept whole, so that flags after it reach the container.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};

use super::{
    Attaching, ContainerNetwork, ContainerPorts, FixedLimitFlags, HealthFlags, IsolationFlags, LimitFlags, LogFlags,
    PullWhen, StreamName,
};

// `ctl run`
#[derive(Debug, Args)]
pub struct Run {
    /// Run in the background and print the container's id
    #[arg(short, long)]
    pub detach: bool,
    #[command(flatten)]
    pub attaching: Attaching,
    /// With -d: wait until the container is healthy, or runs where nothing checks it; at most so long
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, value_parser = super::health::time)]
    pub wait: Option<Option<Duration>>,
    #[command(flatten)]
    pub container: Create,
}

// `ctl create`: what a container shall be.
#[derive(Debug, Args)]
pub struct Create {
    /// Attach to these only, several times [default: stdout and stderr, with -i stdin]
    #[arg(short, long, value_enum, value_name = "STREAM", ignore_case = true)]
    pub attach: Vec<StreamName>,
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the process a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Remove the container when it has stopped
    #[arg(long)]
    pub rm: bool,
    /// What follows its end: "no", "on-failure[:ATTEMPTS]", "always", "unless-stopped" [default: no]
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    #[command(flatten)]
    pub health: HealthFlags,
    /// Start another container first, and be started only where that runs
    #[arg(long, value_name = "CONTAINER")]
    pub requires: Vec<String>,
    /// Be started after another container, where both are started with the host
    #[arg(long, value_name = "CONTAINER")]
    pub after: Vec<String>,
    /// Name of the container
    #[arg(long)]
    pub name: Option<String>,
    /// Write the container's id to a file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    /// Set an environment variable; without a value it is taken from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User, "name|uid[:group|gid]"
    #[arg(short, long)]
    pub user: Option<String>,
    /// Program to run instead of the image's entry point
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// What to mount.
    #[command(flatten)]
    pub mounts: MountFlags,
    /// Mount what another container has mounted: binds, volumes and images
    #[arg(long, value_name = "CONTAINER[:ro]")]
    pub volumes_from: Vec<String>,
    /// Give it a secret, as a file in memory or as a variable:
    /// "NAME[,type=mount|env][,target=PATH|VARIABLE][,uid=…,gid=…,mode=…]"
    #[arg(long, value_name = "SECRET")]
    pub secret: Vec<String>,
    /// Size of /dev/shm [default: 64m]
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
    /// Limit what the container writes to its root file system: "size=10G"
    #[arg(long, value_name = "OPTION=VALUE")]
    pub storage_opt: Vec<String>,
    /// Make the root file system read-only
    #[arg(long)]
    pub read_only: bool,
    #[command(flatten)]
    pub network: ContainerNetwork,
    #[command(flatten)]
    pub ports: ContainerPorts,
    #[command(flatten)]
    pub limits: LimitFlags,
    #[command(flatten)]
    pub fixed_limits: FixedLimitFlags,
    #[command(flatten)]
    pub isolation: IsolationFlags,
    #[command(flatten)]
    pub log: LogFlags,
    /// Add a capability
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// All capabilities and devices
    #[arg(long)]
    pub privileged: bool,
    /// Host name
    #[arg(short = 'h', long)]
    pub hostname: Option<String>,
    /// Print help
    #[arg(long, action = ArgAction::HelpShort)]
    help: Option<bool>,
    /// Add a label
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Read labels from a file, one a line
    #[arg(long, value_name = "FILE")]
    pub label_file: Vec<PathBuf>,
    /// Add an annotation to its OCI spec, for hooks of devices
    #[arg(long, value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,
    /// Runtime to run it with: "strata", the only one
    #[arg(long, value_name = "NAME", value_parser = own_runtime)]
    runtime: Option<()>,
    /// Signal to send first when it is stopped [default: the image's, else TERM]
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Seconds between that and the kill [default: 10]
    #[arg(long, value_name = "SECONDS")]
    pub stop_timeout: Option<u32>,
    /// When to pull the image
    #[arg(long, value_enum, value_name = "WHEN", default_value = "missing")]
    pub pull: PullWhen,
    /// Platform that the image must be for
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", env = "DOCKER_DEFAULT_PLATFORM")]
    pub platform: Option<String>,
    /// Do not show the pull
    #[arg(short, long)]
    pub quiet: bool,
    /// The image, then the command and its arguments: flags among them are the command's
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE", hide = true)]
    words: Vec<String>,
}

/// Docker's daemon has runtimes in its configuration, by name. Here the runtime is the service that keeps containers.
fn own_runtime(text: &str) -> Result<(), String> {
    match text {
        "" | "strata" => Ok(()),
        _ => {
            Err("Strata runs containers itself, and its name is \"strata\": other OCI runtimes are not called"
                .to_owned())
        }
    }
}

impl Create {
    /// The image.
    pub fn image(&self) -> &str {
        // clap requires one word at least.
        self.words.first().map_or("", String::as_str)
    }

    /// Command and arguments.
    pub fn command(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }
}

// Flags that say what to mount.
#[derive(Debug, Args)]
pub struct MountFlags {
    /// Mount a volume, or a path of the host: "name:/path", "/host:/path:ro", "/path"
    #[arg(short, long, value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    pub volume: Vec<String>,
    /// Driver of volumes that are made: "local", the only one
    #[arg(long, value_name = "DRIVER")]
    pub volume_driver: Option<String>,
    /// Mount something: "type=bind|volume|tmpfs|image,source=…,target=…"
    #[arg(long, value_name = "KEY=VALUE,…")]
    pub mount: Vec<String>,
    /// Mount memory, "/path[:size=64m,mode=1770,exec]"
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    pub tmpfs: Vec<String>,
}
