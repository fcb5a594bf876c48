//! Flags about logs: how they are kept, and how they are read.

use clap::Args;

// How the output of a container is kept.
#[derive(Debug, Args)]
pub struct LogFlags {
    /// Who keeps the output: "json-file", "local", "journald", "syslog", "none" [default: as the runtime is configured]
    #[arg(long, value_name = "DRIVER")]
    pub log_driver: Option<String>,
    /// How: "max-size=10m", "max-file=3", "tag={{.Name}}", "syslog-address=udp://HOST:514"
    #[arg(long, value_name = "NAME=VALUE")]
    pub log_opt: Vec<String>,
}

// `ctl logs`
#[derive(Debug, Args)]
pub struct Logs {
    /// Show what the log's options say of each line: labels, variables, a tag
    #[arg(long)]
    pub details: bool,
    /// Wait for more
    #[arg(short, long)]
    pub follow: bool,
    /// Only what was written since: "2026-01-02T13:23:37Z", or "42m" ago
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only so many of the last lines, or "all"
    #[arg(short = 'n', long, default_value = "all", allow_hyphen_values = true)]
    pub tail: String,
    /// Show when each line was written
    #[arg(short, long)]
    pub timestamps: bool,
    /// Only what was written until: "2026-01-02T13:23:37Z", or "42m" ago
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Empty the log, and show nothing
    #[arg(long, conflicts_with_all = ["details", "follow", "since", "tail", "timestamps", "until"])]
    pub clear: bool,
    /// The container
    pub container: String,
}
