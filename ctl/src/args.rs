//! The command line: Docker's names and flags. What is not there yet is not accepted, and says so.

mod archive;
mod attach;
mod build;
mod builder;
mod commit;
mod config;
mod container;
mod context;
mod copy;
mod cp;
mod events;
mod explore;
mod fixed;
mod format;
mod health;
mod image;
mod inspect;
mod isolation;
mod lifecycle;
mod limits;
mod log;
mod manifest;
mod network;
mod ports;
mod registry;
mod run;
mod secret;
mod shell;
mod system;
mod tls;
mod volume;

use std::path::PathBuf;

use clap::{ArgAction, CommandFactory, Parser, Subcommand};

pub use archive::{ArchiveCompression, ArchiveFormat, Load, Save};
pub use attach::{Attach, Attaching, DetachKeys, StreamName};
pub use build::{Build, Output, OutputKind, ProgressMode, StepNetwork, fields};
pub use builder::{Builder, CacheDu, CacheExport, CacheImport, CacheLs, CacheMounts, CachePrune, CacheRm};
pub use commit::Commit;
pub use config::{Config, ConfigShow};
pub use container::{Container, ContainerMount, ContainerPrune, ContainerUnmount, Publish, Unpublish};
pub use context::{
    Context, ContextCreate, ContextExport, ContextFlags, ContextImport, ContextInspect, ContextLs, ContextRm,
    ContextUpdate,
};
pub use copy::ImageCopy;
pub use cp::Cp;
pub use events::Events;
pub use explore::Explore;
pub use fixed::FixedLimitFlags;
pub use format::Format;
pub use health::{HealthFlags, HealthOnFailure};
pub use image::{History, Image, ImagePrune, Images, Import, Rmi, Tag};
pub use inspect::{Inspect, InspectKind};
pub use isolation::{CgroupNamespace, IsolationFlags};
pub use lifecycle::{
    Containers, Diff, Exec, Export, Kill, MOST_SECONDS, Ps, Rename, Restart, Rm, Start, Stats, Stop, Top, Wait, WaitFor,
};
pub use limits::{LimitFlags, RealTimeFlags, SharedLimitFlags, Update};
pub use log::{LogFlags, Logs};
pub use manifest::{
    Manifest, ManifestAdd, ManifestAnnotate, ManifestCreate, ManifestInspect, ManifestLs, ManifestPush, ManifestRemove,
    ManifestRm, Says,
};
pub use network::{
    ContainerNetwork, Network, NetworkConnect, NetworkCreate, NetworkDisconnect, NetworkLs, NetworkPrune, NetworkRm,
};
pub use ports::{ContainerPorts, Port};
pub use registry::{Login, Logout, ManifestFormat, Pull, PullWhen, Push, PushCompression, Search};
pub use run::{Create, MountFlags, Run};
pub use secret::{Secret, SecretCreate, SecretInspect, SecretLs, SecretRm};
pub use shell::{Completion, CompletionShell, Man};
pub use system::{Audit, AuditVerify, Df, Doctor, Info, Prune, Reset, Service, System, Version};
pub use tls::{Tls, TlsInit, TlsIssue};
pub use volume::{Volume, VolumeCreate, VolumeExport, VolumeImport, VolumeLs, VolumePrune, VolumeRm};

/// Builds images layer by layer and runs containers from them.
#[derive(Debug, Parser)]
#[command(name = "ctl", version, disable_version_flag = true, max_term_width = 120, args_override_self = true)]
pub struct Cli {
    /// Print version
    #[arg(short = 'v', short_alias = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
    /// Directory of contexts and credentials [default: strata in $XDG_CONFIG_HOME, and Docker's for credentials]
    #[arg(long, value_name = "DIR")]
    pub config: Option<PathBuf>,
    /// Context to use, as `ctl context ls` shows them
    #[arg(short = 'c', long, env = "STRATA_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,
    /// Say on standard error what goes on: as "--log-level debug"
    #[arg(short = 'D', long)]
    debug: bool,
    /// Host of the services: "ssh://[USER@]HOST[:PORT]", "unix:///DIRECTORY" of their sockets
    #[arg(short = 'H', long, value_name = "URL")]
    pub host: Option<String>,
    /// What is said on standard error: "debug", "info", "warn", "error" or "fatal"
    #[arg(short = 'l', long, value_name = "LEVEL", value_parser = ["debug", "info", "warn", "error", "fatal"])]
    log_level: Option<String>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands. Here as in all groups, the arguments of those that are not called are not made: it is a tenth of what the start
/// of `ctl` costs. Structs of arguments therefore have plain comments: clap would show a doc comment instead of what is said here.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Attach to the streams of a running container
    Attach(Attach),
    /// Build an image from a Dockerfile
    Build(Box<Build>),
    /// Look after the build cache
    #[command(subcommand, alias = "buildx")]
    Builder(Builder),
    /// Make an image of what a container wrote
    Commit(Commit),
    /// Print what makes a shell complete commands and names
    Completion(Completion),
    /// Show settings
    #[command(subcommand)]
    Config(Config),
    /// Manage containers
    #[command(subcommand)]
    Container(Container),
    /// Manage contexts: where the services are
    #[command(subcommand)]
    Context(Context),
    /// Copy files between a container and this host
    Cp(Cp),
    /// Create a container
    #[command(override_usage = "ctl create [OPTIONS] IMAGE [COMMAND] [ARG...]", disable_help_flag = true)]
    Create(Box<Create>),
    /// Show what a container changed of its image
    Diff(Diff),
    /// Say what is open to whom, and what keeps containers from being reached
    Doctor(Doctor),
    /// Show what happens to containers, images, networks, secrets and volumes
    Events(Events),
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
    Info(Info),
    /// Show details of containers, images, networks and volumes as JSON
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
    /// Write manual pages
    Man(Man),
    /// Make lists of images for several platforms, and look at what registries have
    #[command(subcommand)]
    Manifest(Manifest),
    /// Manage networks
    #[command(subcommand)]
    Network(Network),
    /// Let all processes of containers stand still
    Pause(Containers),
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
    /// Look for images in a registry
    Search(Search),
    /// Manage secrets: what containers are told and nobody else
    #[command(subcommand)]
    Secret(Secret),
    /// Start stopped containers
    Start(Start),
    /// Show what containers use, again and again
    Stats(Stats),
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
    /// Show the processes of a container
    Top(Top),
    /// Show containers, logs, stats, images and layers on the whole screen
    Ui,
    /// Let paused containers go on
    Unpause(Containers),
    /// Give containers other limits, or another restart policy
    Update(Update),
    /// Show versions
    Version(Version),
    /// Manage volumes
    #[command(subcommand)]
    Volume(Volume),
    /// Wait for the end of containers, then print their exit codes
    Wait(Wait),
}

impl Cli {
    /// The command line with the arguments of all commands, to look at.
    pub fn whole() -> clap::Command {
        let mut all = Self::command();
        all.build();
        all
    }

    /// What is logged; none: nothing is.
    pub fn log_level(&self) -> Option<&str> {
        match self.log_level.as_deref() {
            _ if self.debug => Some("debug"),
            Some("fatal") => Some("error"),
            level => level,
        }
    }

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
