//! `ctl context`, Docker's group.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Format;

/// `ctl context`
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Context {
    /// Name the endpoints of a node or a fleet
    Create(ContextCreate),
    /// Write a context, with its certificates, to a file
    Export(ContextExport),
    /// Take a context in that `export` wrote
    Import(ContextImport),
    /// Show details of contexts as JSON
    Inspect(ContextInspect),
    /// List contexts
    #[command(alias = "list")]
    Ls(ContextLs),
    /// Remove contexts
    #[command(alias = "remove")]
    Rm(ContextRm),
    /// Print the name of the context in use
    Show,
    /// Change the endpoints of a context, or its description
    Update(ContextUpdate),
    /// Choose the context of later commands
    Use {
        /// Name; "default" is this host
        #[arg(value_name = "CONTEXT")]
        name: String,
    },
}

// What a context says.
#[derive(Debug, Clone, Default, Args)]
pub struct ContextFlags {
    /// What it is for, in words
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// Host of all three services: "ssh://[USER@]HOST[:PORT]", "unix:///DIRECTORY" of their sockets, or "tcp://HOST[:PORT]"
    /// with the store there (port 7001), the runtime one above and the builder two above
    #[arg(long, value_name = "URL")]
    pub host: Option<String>,
    /// The same as Docker has it: "host=URL", and "ca=FILE,cert=FILE,key=FILE" for tcp
    #[arg(long, value_name = "KEY=VALUE,…", conflicts_with = "host")]
    pub docker: Option<String>,
    /// Endpoint of the store: unix:PATH, tcp:HOST:PORT, or ssh://[USER@]HOST[:PORT]
    #[arg(long, value_name = "ENDPOINT")]
    pub store: Option<String>,
    /// Endpoint of the builder
    #[arg(long, value_name = "ENDPOINT")]
    pub builder: Option<String>,
    /// Endpoint of the runtime
    #[arg(long, value_name = "ENDPOINT")]
    pub runtime: Option<String>,
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

// `ctl context create`
#[derive(Debug, Args)]
pub struct ContextCreate {
    /// What it says.
    #[command(flatten)]
    pub flags: ContextFlags,
    /// What the flags do not say is as this context has it
    #[arg(long, value_name = "CONTEXT")]
    pub from: Option<String>,
    /// Its name
    #[arg(value_name = "CONTEXT")]
    pub name: String,
}

// `ctl context export`
#[derive(Debug, Args)]
pub struct ContextExport {
    /// The context
    #[arg(value_name = "CONTEXT")]
    pub name: String,
    /// The file, which must not be there; "-" is standard output [default: CONTEXT.context]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

// `ctl context import`
#[derive(Debug, Args)]
pub struct ContextImport {
    /// Name of the context
    #[arg(value_name = "CONTEXT")]
    pub name: String,
    /// The file; "-" is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

// `ctl context inspect`
#[derive(Debug, Args)]
pub struct ContextInspect {
    /// Format of the output: "json", or a template for each
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// The contexts [default: the one in use]
    #[arg(value_name = "CONTEXT")]
    pub names: Vec<String>,
}

// `ctl context ls`
#[derive(Debug, Args)]
pub struct ContextLs {
    /// Format of the output: "table", "json", or a template for each
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
    /// Print names only
    #[arg(short, long)]
    pub quiet: bool,
}

// `ctl context rm`
#[derive(Debug, Args)]
pub struct ContextRm {
    /// Also the one in use; and it does not matter whether there is one
    #[arg(short, long)]
    pub force: bool,
    /// The contexts
    #[arg(required = true, value_name = "CONTEXT")]
    pub names: Vec<String>,
}

// `ctl context update`
#[derive(Debug, Args)]
pub struct ContextUpdate {
    /// What it says.
    #[command(flatten)]
    pub flags: ContextFlags,
    /// The context
    #[arg(value_name = "CONTEXT")]
    pub name: String,
}
