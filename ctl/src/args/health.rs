//! Flags of health checks.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::input;

// How the health of a container is checked. What is not given is the image's.
#[derive(Debug, Args)]
pub struct HealthFlags {
    /// Command that says how the container is, for the image's shell: exit code 0 is well
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// Time between checks, "30s" [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub health_interval: Option<Duration>,
    /// Time of one check [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub health_timeout: Option<Duration>,
    /// Time after a start in which failures do not count [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub health_start_period: Option<Duration>,
    /// Time between checks in the start period [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub health_start_interval: Option<Duration>,
    /// Failures in a row that make it unhealthy [default: 3]
    #[arg(long, value_name = "NUMBER")]
    pub health_retries: Option<u32>,
    /// What is done with a container that has become unhealthy
    #[arg(long, value_enum, value_name = "ACTION", default_value = "none")]
    pub health_on_failure: HealthOnFailure,
    /// Check nothing, whatever the image says
    #[arg(long)]
    pub no_healthcheck: bool,
}

/// What is done with a container that has become unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum HealthOnFailure {
    /// Nothing
    #[default]
    None,
    /// It is restarted
    Restart,
    /// It is stopped
    Stop,
    /// It is killed; its restart policy applies
    Kill,
}

pub fn time(text: &str) -> Result<Duration, String> {
    let time = if text == "0" { Some(Duration::ZERO) } else { input::duration(text) };
    let time = time.ok_or("a time such as 30s, 1m30s or 500ms is expected")?;
    if !time.is_zero() && time < Duration::from_millis(1) {
        return Err("it must be 0 or at least 1ms".to_owned());
    }
    Ok(time)
}
