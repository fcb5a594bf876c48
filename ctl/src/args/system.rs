//! `ctl system`, and what tells about the services.

use clap::{Args, Subcommand};

use super::Format;

/// `ctl doctor`
#[derive(Debug, Args)]
pub struct Doctor {
    /// Format of the output: "json", a line for each finding
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
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

/// `ctl version`
#[derive(Debug, Args)]
pub struct Version {
    /// Format of the output
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}
