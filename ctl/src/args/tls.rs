//! `ctl tls`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use strata_rpc::access::Role;

/// `ctl tls`
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Tls {
    /// Make a certificate authority, and certificates for services and an administrator
    Init(TlsInit),
    /// Make one more certificate, signed by an authority that `tls init` made
    Issue(TlsIssue),
}

// `ctl tls init`
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

// `ctl tls issue`
#[derive(Debug, Args)]
pub struct TlsIssue {
    /// Directory that has ca.pem and ca.key; NAME.pem and NAME.key are written there
    pub directory: PathBuf,
    /// Who will show it
    pub name: String,
    /// What they may do
    #[arg(long, value_enum)]
    pub role: Role,
    /// Names and addresses of a host, for a service that runs there
    #[arg(long, value_name = "NAME|ADDRESS")]
    pub host: Vec<String>,
    /// Days that it is valid
    #[arg(long, default_value_t = 365)]
    pub days: u16,
}
