//! Commands of every day with containers: what `ctl container` has too.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{DetachKeys, Format, format};

/// The most seconds that a container is given to end: a century, which stands for ever too.
pub const MOST_SECONDS: i64 = 100 * 365 * 24 * 3600;

// `ctl diff`
#[derive(Debug, Args)]
pub struct Diff {
    /// The container
    pub container: String,
}

// `ctl exec`
#[derive(Debug, Args)]
pub struct Exec {
    /// Run in the background
    #[arg(short, long)]
    pub detach: bool,
    #[command(flatten)]
    pub keys: DetachKeys,
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

// `ctl export`
#[derive(Debug, Args)]
pub struct Export {
    /// The file to write [default: standard output]
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// The container
    pub container: String,
}

// `ctl kill`
#[derive(Debug, Args)]
pub struct Kill {
    /// Signal to send
    #[arg(short, long, default_value = "KILL")]
    pub signal: String,
    /// The containers
    #[arg(required = true)]
    pub containers: Vec<String>,
}

// `ctl ps`
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
    /// Show how much each has written, and how much there is with its image
    #[arg(short, long)]
    pub size: bool,
    /// Format of the output: "table", "json", "raw", or a template for each, in columns behind "table"
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = format::of_containers)]
    pub format: Format,
}

// `ctl rename`
#[derive(Debug, Args)]
pub struct Rename {
    /// The container
    pub container: String,
    /// The name to give
    pub name: String,
}

// `ctl restart`
#[derive(Debug, Args)]
pub struct Restart {
    /// Seconds until the kill; -1: there is none [default: its own, else 10]
    #[arg(short, long, alias = "time", value_name = "SECONDS", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(-1..=MOST_SECONDS))]
    pub timeout: Option<i64>,
    /// Signal to send first
    #[arg(short, long)]
    pub signal: Option<String>,
    /// The containers
    #[arg(required = true)]
    pub containers: Vec<String>,
}

// `ctl rm`
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

// `ctl start`
#[derive(Debug, Args)]
pub struct Start {
    /// Attach to output and signals
    #[arg(short, long)]
    pub attach: bool,
    /// Attach to standard input
    #[arg(short, long)]
    pub interactive: bool,
    #[command(flatten)]
    pub keys: DetachKeys,
    /// The containers
    #[arg(required = true)]
    pub containers: Vec<String>,
}

// `ctl stats`
#[derive(Debug, Args)]
pub struct Stats {
    /// Those that do not run too
    #[arg(short, long)]
    pub all: bool,
    /// Look once, not again and again
    #[arg(long)]
    pub no_stream: bool,
    /// Show everything in full
    #[arg(long)]
    pub no_trunc: bool,
    /// Format of the output: "table", "json" or a template
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
    /// The containers [default: all that run]
    pub containers: Vec<String>,
}

// `ctl stop`
#[derive(Debug, Args)]
pub struct Stop {
    /// Seconds until the kill; -1: there is none [default: its own, else 10]
    #[arg(short, long, alias = "time", value_name = "SECONDS", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(-1..=MOST_SECONDS))]
    pub timeout: Option<i64>,
    /// Signal to send first
    #[arg(short, long)]
    pub signal: Option<String>,
    /// The containers
    #[arg(required = true)]
    pub containers: Vec<String>,
}

// `ctl top`
#[derive(Debug, Args)]
pub struct Top {
    /// The container
    pub container: String,
    /// Options of ps on the host, "-o pid,comm,rss" [default: -ef]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PS OPTIONS")]
    pub ps_args: Vec<String>,
}

// `ctl wait`
#[derive(Debug, Args)]
pub struct Wait {
    /// What to wait for
    #[arg(long, value_enum, value_name = "CONDITION", default_value = "not-running")]
    pub condition: WaitFor,
    /// The containers
    #[arg(required = true)]
    pub containers: Vec<String>,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WaitFor {
    /// It does not run, or not yet
    NotRunning,
    /// A run of it ends from now on
    NextExit,
    /// It is removed
    Removed,
    /// Its health check says that it is well
    Healthy,
}

// Names of containers.
#[derive(Debug, Args)]
pub struct Containers {
    /// The containers
    #[arg(required = true)]
    pub containers: Vec<String>,
}
