//! `ctl secret`: podman's commands and flags, and Docker's where they have a meaning without Swarm.

use clap::{Args, Subcommand};

use super::{Format, format};

/// `ctl secret`
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Secret {
    /// Keep a secret
    Create(SecretCreate),
    /// Show details of secrets as JSON, without their values
    Inspect(SecretInspect),
    /// List secrets
    #[command(alias = "list")]
    Ls(SecretLs),
    /// Remove secrets
    #[command(alias = "remove")]
    Rm(SecretRm),
}

// `ctl secret create`
#[derive(Debug, Args)]
pub struct SecretCreate {
    /// Where it is kept: "file", in the state directory of the runtime, the only one
    #[arg(short, long, value_name = "DRIVER", default_value = "file", value_parser = ["file"])]
    driver: String,
    /// The second word names an environment variable that has the value
    #[arg(short, long)]
    pub env: bool,
    /// Add a label
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Put the value in the place of what a secret of this name has; containers see it when they are started next
    #[arg(long)]
    pub replace: bool,
    /// Its name
    #[arg(value_name = "SECRET")]
    pub name: String,
    /// The file that has the value, at most 500 KiB, "-" for standard input
    #[arg(value_name = "FILE|-")]
    pub source: String,
}

// `ctl secret inspect`
#[derive(Debug, Args)]
pub struct SecretInspect {
    /// Format of the output: "json", or a template for each
    #[arg(short, long, value_name = "FORMAT", conflicts_with = "pretty")]
    pub format: Option<Format>,
    /// Print for people
    #[arg(long)]
    pub pretty: bool,
    /// Show the value too, which only an administrator may; it must be text
    #[arg(long)]
    pub showsecret: bool,
    /// The secrets
    #[arg(required = true, value_name = "SECRET")]
    pub names: Vec<String>,
}

// `ctl secret ls`
#[derive(Debug, Args)]
pub struct SecretLs {
    /// Only these: "id=START", "label=KEY[=VALUE]", "name=TEXT"
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Print ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Format of the output: "table", "json", "raw", or a template for each, in columns behind "table"
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = format::of_secrets)]
    pub format: Format,
}

// `ctl secret rm`
#[derive(Debug, Args)]
pub struct SecretRm {
    /// All of them
    #[arg(short, long, conflicts_with = "names")]
    pub all: bool,
    /// It does not matter whether there is one
    #[arg(short, long)]
    pub ignore: bool,
    /// The secrets
    #[arg(required_unless_present = "all", value_name = "SECRET")]
    pub names: Vec<String>,
}
