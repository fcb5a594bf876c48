//! `ctl context`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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
