//! `ctl container`: Docker's group. What has a name of its own at the top is that command.

use clap::{Args, Subcommand};

use super::{
    Attach, Command, Commit, Containers, Cp, Create, Diff, Exec, Export, Format, Inspect, InspectKind, Kill, Logs,
    MountFlags, Port, Ps, Rename, Restart, Rm, Run, Start, Stats, Stop, Top, Update, Wait,
};

/// `ctl container`
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Container {
    /// Attach to the streams of a running container
    Attach(Attach),
    /// Make an image of what a container wrote
    Commit(Commit),
    /// Copy files between a container and this host
    Cp(Cp),
    /// Create a container
    #[command(override_usage = "ctl container create [OPTIONS] IMAGE [COMMAND] [ARG...]", disable_help_flag = true)]
    Create(Box<Create>),
    /// Show what a container changed of its image
    Diff(Diff),
    /// Run a command in a running container
    #[command(override_usage = "ctl container exec [OPTIONS] CONTAINER COMMAND [ARG...]")]
    Exec(Exec),
    /// Write the file system of a container as a tar
    Export(Export),
    /// Show details of containers as JSON
    Inspect(ContainerInspect),
    /// Send a signal to running containers
    Kill(Kill),
    /// Show the log of a container
    Logs(Logs),
    /// List containers
    #[command(alias = "list", alias = "ps")]
    Ls(Ps),
    /// Mount something in a container, while it runs too
    Mount(ContainerMount),
    /// Let all processes of containers stand still
    Pause(Containers),
    /// Show where the ports of a container are reached
    Port(Port),
    /// Remove stopped containers
    Prune(ContainerPrune),
    /// Publish ports of a container, running or not
    Publish(Publish),
    /// Give a container another name
    Rename(Rename),
    /// Stop containers, and start them again
    Restart(Restart),
    /// Remove containers
    #[command(alias = "remove")]
    Rm(Rm),
    /// Create and start a container
    #[command(override_usage = "ctl container run [OPTIONS] IMAGE [COMMAND] [ARG...]", disable_help_flag = true)]
    Run(Box<Run>),
    /// Start stopped containers
    Start(Start),
    /// Show what containers use, again and again
    Stats(Stats),
    /// Stop running containers
    Stop(Stop),
    /// Show the processes of a container
    Top(Top),
    /// Take mounts from a container, while it runs too
    Unmount(ContainerUnmount),
    /// Let paused containers go on
    Unpause(Containers),
    /// Close published ports of a container, running or not
    Unpublish(Unpublish),
    /// Give containers other limits, or another restart policy
    Update(Update),
    /// Wait for the end of containers, then print their exit codes
    Wait(Wait),
}

impl Container {
    /// The command at the top that it stands for, where there is one.
    pub fn canonical(self) -> Command {
        match self {
            Self::Attach(args) => Command::Attach(args),
            Self::Commit(args) => Command::Commit(args),
            Self::Cp(args) => Command::Cp(args),
            Self::Create(args) => Command::Create(args),
            Self::Diff(args) => Command::Diff(args),
            Self::Exec(args) => Command::Exec(args),
            Self::Export(args) => Command::Export(args),
            Self::Inspect(ContainerInspect { format, size, containers }) => {
                let kind = Some(InspectKind::Container);
                Command::Inspect(Inspect { format, size, platform: None, kind, names: containers })
            }
            Self::Kill(args) => Command::Kill(args),
            Self::Logs(args) => Command::Logs(args),
            Self::Ls(args) => Command::Ps(args),
            Self::Pause(args) => Command::Pause(args),
            Self::Port(args) => Command::Port(args),
            Self::Rename(args) => Command::Rename(args),
            Self::Restart(args) => Command::Restart(args),
            Self::Rm(args) => Command::Rm(args),
            Self::Run(args) => Command::Run(args),
            Self::Start(args) => Command::Start(args),
            Self::Stats(args) => Command::Stats(args),
            Self::Stop(args) => Command::Stop(args),
            Self::Top(args) => Command::Top(args),
            Self::Unpause(args) => Command::Unpause(args),
            Self::Update(args) => Command::Update(args),
            Self::Wait(args) => Command::Wait(args),
            Self::Mount(_) | Self::Prune(_) | Self::Publish(_) | Self::Unmount(_) | Self::Unpublish(_) => {
                Command::Container(self)
            }
        }
    }
}

// `ctl container inspect`
#[derive(Debug, Args)]
pub struct ContainerInspect {
    /// Format of the output: "json", or a template for each
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Show how much they have written
    #[arg(short, long)]
    pub size: bool,
    /// The containers
    #[arg(required = true)]
    pub containers: Vec<String>,
}

// `ctl container mount`
#[derive(Debug, Args)]
pub struct ContainerMount {
    /// What to mount.
    #[command(flatten)]
    pub mounts: MountFlags,
    /// The container
    pub container: String,
}

// `ctl container prune`
#[derive(Debug, Args)]
pub struct ContainerPrune {
    /// Only what is so: "until=24h", "label=env=test", "label!=keep"
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
}

// `ctl container unmount`
#[derive(Debug, Args)]
pub struct ContainerUnmount {
    /// The container
    pub container: String,
    /// Paths in the container that something is mounted at
    #[arg(required = true, value_name = "TARGET")]
    pub targets: Vec<String>,
}

// `ctl container publish`
#[derive(Debug, Args)]
pub struct Publish {
    /// Close them instead
    #[arg(long)]
    pub rm: bool,
    /// The container
    pub container: String,
    /// The ports: "8080:80", "127.0.0.1::53/udp"
    #[arg(required = true, value_name = "[ADDRESS:][PORT:]PORT[/PROTOCOL]")]
    pub ports: Vec<String>,
}

// `ctl container unpublish`
#[derive(Debug, Args)]
pub struct Unpublish {
    /// The container
    pub container: String,
    /// The ports, "80": wherever it is published; "8080:80", "127.0.0.1:8080:80": only there
    #[arg(required = true, value_name = "[ADDRESS:][PORT:]PORT[/PROTOCOL]")]
    pub ports: Vec<String>,
}
