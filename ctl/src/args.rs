//! The command line: Docker's names and flags. What is not there yet is not accepted, and says so.

mod archive;
mod build;
mod builder;
mod container;
mod copy;
mod explore;
mod format;
mod image;
mod manifest;
mod network;
mod ports;
mod registry;
mod run;
mod volume;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

pub use archive::{ArchiveCompression, ArchiveFormat, Load, Save};
pub use build::{Build, Output, OutputKind, ProgressMode, fields};
pub use builder::{Builder, CacheDu, CacheExport, CacheImport, CacheLs, CacheMounts, CachePrune, CacheRm};
pub use container::{Container, ContainerMount, ContainerPrune, ContainerUnmount, Publish, Unpublish};
pub use copy::ImageCopy;
pub use explore::Explore;
pub use format::Format;
pub use image::{Image, ImagePrune, Images, Import};
pub use manifest::{
    Manifest, ManifestAdd, ManifestAnnotate, ManifestCreate, ManifestInspect, ManifestLs, ManifestPush, ManifestRemove,
    ManifestRm, Says,
};
pub use network::{
    ContainerNetwork, Network, NetworkConnect, NetworkCreate, NetworkDisconnect, NetworkInspect, NetworkLs,
    NetworkPrune, NetworkRm,
};
pub use ports::{ContainerPorts, Port};
pub use registry::{Login, Logout, ManifestFormat, Pull, PullWhen, Push, PushCompression};
pub use run::{Create, MountFlags, Run};
pub use volume::{Volume, VolumeCreate, VolumeExport, VolumeImport, VolumeInspect, VolumeLs, VolumePrune, VolumeRm};

/// Builds images layer by layer and runs containers from them.
#[derive(Debug, Parser)]
#[command(name = "ctl", version, disable_version_flag = true, max_term_width = 120, args_override_self = true)]
pub struct Cli {
    /// Print version
    #[arg(short = 'v', short_alias = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
    /// Context to use, as `ctl context ls` shows them
    #[arg(short = 'c', long, global = true, env = "STRATA_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build an image from a Dockerfile
    Build(Box<Build>),
    /// Look after the build cache
    #[command(subcommand, alias = "buildx")]
    Builder(Builder),
    /// Manage containers
    #[command(subcommand)]
    Container(Container),
    /// Manage contexts: where the services are
    #[command(subcommand)]
    Context(Context),
    /// Create a container
    #[command(override_usage = "ctl create [OPTIONS] IMAGE [COMMAND] [ARG...]", disable_help_flag = true)]
    Create(Box<Create>),
    /// Say what is open to whom, and what keeps containers from being reached
    Doctor(Doctor),
    /// Run a command in a running container
    #[command(override_usage = "ctl exec [OPTIONS] CONTAINER COMMAND [ARG...]")]
    Exec(Exec),
    /// Write the file system of a container as a tar
    Export(Export),
    /// Show the history of an image
    History(History),
    /// Manage images
    #[command(subcommand)]
    Image(Image),
    /// List images
    Images(Images),
    /// Make an image from a root file system tar
    Import(Import),
    /// Show what the services are
    Info,
    /// Show details of images and containers as JSON
    Inspect(Inspect),
    /// Send a signal to running containers
    Kill(Kill),
    /// Load images from an archive
    Load(Load),
    /// Keep the credentials for a registry
    Login(Login),
    /// Forget the credentials for a registry
    Logout(Logout),
    /// Show the log of a container
    Logs(Logs),
    /// Make lists of images for several platforms, and look at what registries have
    #[command(subcommand)]
    Manifest(Manifest),
    /// Manage networks
    #[command(subcommand)]
    Network(Network),
    /// Show where the ports of a container are reached
    Port(Port),
    /// List containers
    Ps(Ps),
    /// Fetch an image from its registry
    Pull(Pull),
    /// Send an image to its registry
    Push(Push),
    /// Give a container another name
    Rename(Rename),
    /// Stop containers, and start them again
    Restart(Restart),
    /// Remove containers
    Rm(Rm),
    /// Remove images
    Rmi(Rmi),
    /// Create and start a container
    #[command(override_usage = "ctl run [OPTIONS] IMAGE [COMMAND] [ARG...]", disable_help_flag = true)]
    Run(Box<Run>),
    /// Save images as an archive
    Save(Save),
    /// Start stopped containers
    Start(Start),
    /// Stop running containers
    Stop(Stop),
    /// Look after the services
    #[command(subcommand)]
    System(System),
    /// Give an image a further name
    Tag(Tag),
    /// Make certificates for services over TCP
    #[command(subcommand)]
    Tls(Tls),
    /// Show versions
    Version(Version),
    /// Manage volumes
    #[command(subcommand)]
    Volume(Volume),
    /// Wait until containers stop, then print their exit codes
    Wait(Containers),
}

impl Cli {
    /// With the command by its own name.
    pub fn canonical(self) -> Self {
        Self { command: self.command.canonical(), ..self }
    }
}

impl Command {
    /// The command that another name of it stands for, or the command itself.
    fn canonical(self) -> Self {
        match self {
            Self::Builder(Builder::Build(args)) => Self::Build(args),
            Self::Container(container) => container.canonical(),
            Self::Image(image) => image.canonical(),
            other => other,
        }
    }
}

/// `ctl doctor`
#[derive(Debug, Args)]
pub struct Doctor {
    /// Format of the output: "json", a line for each finding
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

/// Networks of RUN steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StepNetwork {
    /// As the builder is configured: the bridge, where containers are on it
    Default,
    /// The host's network
    Host,
    /// A loopback device only
    None,
}

/// `ctl context`
#[derive(Debug, Subcommand)]
pub enum Context {
    /// Name the endpoints of a node or a fleet
    Create(ContextCreate),
    /// Choose the context of later commands
    Use {
        /// Name; "default" is this host
        name: String,
    },
    /// List contexts
    Ls,
}

/// `ctl context create`
#[derive(Debug, Args)]
pub struct ContextCreate {
    /// Its name
    pub name: String,
    /// Endpoint of the store, unix:PATH or tcp:HOST:PORT
    #[arg(long, value_name = "ENDPOINT")]
    pub store: String,
    /// Endpoint of the builder
    #[arg(long, value_name = "ENDPOINT")]
    pub builder: String,
    /// Endpoint of the runtime
    #[arg(long, value_name = "ENDPOINT")]
    pub runtime: String,
    /// Certificate authority of the services (PEM); needed for tcp
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Certificate of this client (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
}

/// `ctl exec`
#[derive(Debug, Args)]
pub struct Exec {
    /// Run in the background
    #[arg(short, long)]
    pub detach: bool,
    /// Set an environment variable
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the process all capabilities
    #[arg(long)]
    pub privileged: bool,
    /// Give the process a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// User, "name|uid[:group|gid]"
    #[arg(short, long)]
    pub user: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// The container, then the command and its arguments: flags among them are the command's
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_name = "CONTAINER COMMAND", hide = true)]
    words: Vec<String>,
}

impl Exec {
    /// The container.
    pub fn container(&self) -> &str {
        // clap requires two words at least.
        self.words.first().map_or("", String::as_str)
    }

    /// The command.
    pub fn command(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }
}

/// `ctl export`
#[derive(Debug, Args)]
pub struct Export {
    /// The file to write [default: standard output]
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// The container
    pub container: String,
}

/// `ctl history`
#[derive(Debug, Args)]
pub struct History {
    /// The image
    pub image: String,
    /// Show everything in full
    #[arg(long)]
    pub no_trunc: bool,
    /// Print image ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Format of the output
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

/// `ctl inspect`
#[derive(Debug, Args)]
pub struct Inspect {
    /// Images or containers
    #[arg(required = true)]
    pub names: Vec<String>,
    /// Format of the output: "json", or a template for each
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Look only for "image" or "container"
    #[arg(long = "type", value_parser = ["image", "container"])]
    pub kind: Option<String>,
}

/// `ctl kill`
#[derive(Debug, Args)]
pub struct Kill {
    /// Signal to send
    #[arg(short, long, default_value = "KILL")]
    pub signal: String,
    /// The containers
    #[arg(required = true)]
    pub containers: Vec<String>,
}

/// `ctl logs`
#[derive(Debug, Args)]
pub struct Logs {
    /// Wait for more
    #[arg(short, long)]
    pub follow: bool,
    /// Only so many of the last lines, or "all"
    #[arg(short = 'n', long, default_value = "all")]
    pub tail: String,
    /// Show when each line was written
    #[arg(short, long)]
    pub timestamps: bool,
    /// The container
    pub container: String,
}

/// `ctl ps`
#[derive(Debug, Args)]
pub struct Ps {
    /// Those that do not run too
    #[arg(short, long)]
    pub all: bool,
    /// Only those that are so: "name=web", "status=exited", "label=env=test"
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Only so many of those made last, whether they run or not; below 1: all
    #[arg(short = 'n', long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub last: Option<i64>,
    /// Only the one made last, whether it runs or not
    #[arg(short, long)]
    pub latest: bool,
    /// Print ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Show everything in full
    #[arg(long)]
    pub no_trunc: bool,
    /// Format of the output
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

/// `ctl rename`
#[derive(Debug, Args)]
pub struct Rename {
    /// The container
    pub container: String,
    /// The name to give
    pub name: String,
}

/// `ctl restart`
#[derive(Debug, Args)]
pub struct Restart {
    /// Seconds until the kill
    #[arg(short, long, alias = "timeout", value_name = "SECONDS")]
    pub time: Option<u32>,
    /// Signal to send first
    #[arg(short, long)]
    pub signal: Option<String>,
    /// The containers
    #[arg(required = true)]
    pub containers: Vec<String>,
}

/// `ctl rm`
#[derive(Debug, Args)]
pub struct Rm {
    /// Kill running containers first
    #[arg(short, long)]
    pub force: bool,
    /// Remove anonymous volumes that no other container uses, too
    #[arg(short, long)]
    pub volumes: bool,
    /// The containers
    #[arg(required = true)]
    pub containers: Vec<String>,
}

/// `ctl rmi`
#[derive(Debug, Args)]
pub struct Rmi {
    /// Remove images with several names, or that stopped containers use
    #[arg(short, long)]
    pub force: bool,
    /// The images
    #[arg(required = true)]
    pub images: Vec<String>,
}

/// `ctl start`
#[derive(Debug, Args)]
pub struct Start {
    /// Attach to output and signals
    #[arg(short, long)]
    pub attach: bool,
    /// Attach to standard input
    #[arg(short, long)]
    pub interactive: bool,
    /// The containers
    #[arg(required = true)]
    pub containers: Vec<String>,
}

/// `ctl stop`
#[derive(Debug, Args)]
pub struct Stop {
    /// Seconds until the kill
    #[arg(short, long, value_name = "SECONDS")]
    pub time: Option<u32>,
    /// Signal to send first
    #[arg(short, long)]
    pub signal: Option<String>,
    /// The containers
    #[arg(required = true)]
    pub containers: Vec<String>,
}

/// Names of containers.
#[derive(Debug, Args)]
pub struct Containers {
    /// The containers
    #[arg(required = true)]
    pub containers: Vec<String>,
}

/// `ctl system`
#[derive(Debug, Subcommand)]
pub enum System {
    /// Read everything again and name what is damaged
    Verify,
    /// Remove stopped containers, images without a name and what nothing uses
    Prune(Prune),
}

/// `ctl system prune`
#[derive(Debug, Args)]
pub struct Prune {
    /// All images that no container uses, and the build cache
    #[arg(short, long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Anonymous volumes that no container uses, too
    #[arg(long)]
    pub volumes: bool,
}

/// `ctl tag`
#[derive(Debug, Args)]
pub struct Tag {
    /// The image
    pub source: String,
    /// The name to give
    pub target: String,
}

/// `ctl tls`
#[derive(Debug, Subcommand)]
pub enum Tls {
    /// Make a certificate authority, and certificates for services and a client
    Init(TlsInit),
}

/// `ctl tls init`
#[derive(Debug, Args)]
pub struct TlsInit {
    /// Directory to write to
    pub directory: PathBuf,
    /// Names and addresses of the hosts that services run on
    #[arg(long, required = true, value_name = "NAME|ADDRESS")]
    pub host: Vec<String>,
    /// Days that the certificates are valid
    #[arg(long, default_value_t = 365)]
    pub days: u16,
}

/// `ctl version`
#[derive(Debug, Args)]
pub struct Version {
    /// Format of the output
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}
