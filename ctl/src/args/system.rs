//! `ctl system`, and what tells about the services.

use clap::{Args, Subcommand, ValueEnum};

use super::{Events, Format};

// `ctl doctor`
#[derive(Debug, Args)]
pub struct Doctor {
    /// Format of the output: "json", a line for each finding
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
}

// `ctl info`
#[derive(Debug, Args)]
pub struct Info {
    /// Format of the output: "json", or a template
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<Format>,
}

/// `ctl system`
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum System {
    /// Show what of the disk is used
    Df(Df),
    /// Connect standard input and output to a service of this host, which is started when nobody answers
    #[command(hide = true)]
    DialStdio {
        /// The service
        service: Service,
    },
    /// Show what happens to containers, images, networks and volumes
    Events(Events),
    /// Show what the services are
    Info(Info),
    /// The record of who was let do what
    #[command(subcommand)]
    Audit(Audit),
    /// Read everything again and name what is damaged
    Verify,
    /// Remove everything: containers, images, volumes, networks, build cache, secrets, and all other state of this user's
    /// services on this host
    Reset(Reset),
    /// Remove stopped containers, networks that nothing uses, images without a name
    Prune(Prune),
}

// `ctl system df`
#[derive(Debug, Args)]
pub struct Df {
    /// Show each thing
    #[arg(short, long)]
    pub verbose: bool,
    /// Format of the output
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
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

/// `ctl system audit`
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Audit {
    /// Check that no record of the services' audit logs was changed or taken away
    Verify(AuditVerify),
}

// `ctl system audit verify`
#[derive(Debug, Args)]
pub struct AuditVerify {
    /// A head that an earlier check showed; one of the logs must contain it still
    #[arg(long, value_name = "SERVICE:HASH", value_parser = head)]
    pub head: Vec<(String, String)>,
}

fn head(text: &str) -> Result<(String, String), String> {
    let wanted = "give a service and what was shown as its head: store:HASH, builder:HASH or runtime:HASH";
    let (service, hash) = text.split_once(':').ok_or(wanted)?;
    let is_service = ["store", "builder", "runtime"].contains(&service);
    let is_hash = hash.len() == 64 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_service && is_hash { Ok((service.to_owned(), hash.to_owned())) } else { Err(wanted.to_owned()) }
}

// `ctl system prune`
#[derive(Debug, Args)]
pub struct Prune {
    /// All images that no container uses, and the build cache
    #[arg(short, long)]
    pub all: bool,
    /// Only what is so: "until=24h", "label=env=test", "label!=keep"
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Anonymous volumes that no container uses, too
    #[arg(long)]
    pub volumes: bool,
}

// `ctl system reset`
#[derive(Debug, Args)]
pub struct Reset {
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
}

// `ctl version`
#[derive(Debug, Args)]
pub struct Version {
    /// Format of the output: "json", or a template
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}
