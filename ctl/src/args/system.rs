//! `ctl system`, and what tells about the services.

use clap::{Args, Subcommand, ValueEnum};

use super::Format;

/// `ctl doctor`
#[derive(Debug, Args)]
pub struct Doctor {
    /// Format of the output: "json", a line for each finding
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

/// `ctl info`
#[derive(Debug, Args)]
pub struct Info {
    /// Format of the output: "json", or a template
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<Format>,
}

/// `ctl system`
#[derive(Debug, Subcommand)]
pub enum System {
    /// Connect standard input and output to a service of this host, which is started when nobody answers
    #[command(hide = true)]
    DialStdio {
        /// The service
        service: Service,
    },
    /// Show what the services are
    Info(Info),
    /// Read everything again and name what is damaged
    Verify,
    /// Remove stopped containers, images without a name and what nothing uses
    Prune(Prune),
}

/// A service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Service {
    /// Builds images
    Builder,
    /// Runs containers
    Runtime,
    /// Keeps images
    Store,
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

/// `ctl version`
#[derive(Debug, Args)]
pub struct Version {
    /// Format of the output: "json", or a template
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}
