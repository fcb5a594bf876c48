//! `ctl tls`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `ctl tls`
#[derive(Debug, Subcommand)]
pub enum Tls {
    /// Make a certificate authority, and certificates for services and a client
    Init(TlsInit),
}

/// `ctl tls init`
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
