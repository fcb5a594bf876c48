//! `ctl events`

use clap::Args;

use super::Format;

// `ctl events`
#[derive(Debug, Args)]
pub struct Events {
    /// Only those that are so: "container=web", "event=die", "type=volume", "label=env=test"
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Format of the output: "json", or a template for each
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Also what happened since then: "10m" ago, "2026-11-30T12:00:00Z", or seconds since 1970
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// What happens until then, and no longer
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}
