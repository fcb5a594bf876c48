//! The command line that the three services share.

use std::path::PathBuf;

/// Flags of a service.
#[derive(Debug, Clone, clap::Parser)]
#[command(version, about = "A service of Strata. ctl starts it on demand; or start it yourself.")]
pub struct ServiceArgs {
    /// Where to listen: unix:PATH, tcp:ADDR:PORT (needs the --tls flags), fd:0 for a listening socket as stdin, or systemd
    /// for one that its unit keeps
    #[arg(long, value_name = "WHERE")]
    pub listen: Option<String>,

    /// Directory of the service's state
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Configuration file (TOML) [default: /etc/strata/NAME.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Certificate authority that clients must be signed by (PEM). It, certificate and key are read again when they change
    #[arg(long, value_name = "FILE", requires_all = ["tls_cert", "tls_key"])]
    pub tls_ca: Option<PathBuf>,

    /// Certificate of this service (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    pub tls_cert: Option<PathBuf>,

    /// Private key of this service (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_cert"])]
    pub tls_key: Option<PathBuf>,

    /// Stop after so many seconds with nothing to do; 0 is never. Only with --listen fd:0 or systemd
    #[arg(long, value_name = "SECONDS", env = "STRATA_IDLE_TIMEOUT", default_value_t = 300)]
    pub idle_timeout: u64,

    /// Path of the socket that --listen fd:0 hands over
    #[arg(long, value_name = "PATH")]
    pub socket_path: Option<PathBuf>,

    /// Only start the service of --socket-path and --root, where nobody answers, and end: what its containers do for it
    #[arg(long, hide = true, requires_all = ["socket_path", "root"])]
    pub wake: bool,

    /// Only end the service that works on --root, remove what is there, and end: what `ctl system reset` does
    #[arg(long, hide = true, requires_all = ["socket_path", "root"], conflicts_with = "wake")]
    pub reset: bool,

    /// Serve metrics for Prometheus there, ADDRESS:PORT, or a PORT on loopback [default: the key "metrics", else nowhere]
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<String>,

    /// What to log: a level, or directives of tracing's EnvFilter
    #[arg(long, value_name = "FILTER", env = "STRATA_LOG", default_value = "info")]
    pub log: String,
}

impl ServiceArgs {
    /// Reads the command line of the process; prints help or a usage error and exits where that is asked for.
    pub fn from_command_line() -> Self {
        clap::Parser::parse()
    }
}
