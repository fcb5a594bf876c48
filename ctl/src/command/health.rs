//! Health checks as flags say them, and as `ctl inspect` and `ctl ps` show them.

use std::time::Duration;

use serde_json::{Value, json};
use strata_proto::runtime::v1 as pb;

use crate::args::{HealthFlags, HealthOnFailure};
use crate::error::{Error, Result};
use crate::render::time;

/// Puts into a spec what the flags say.
pub fn of_container(flags: &HealthFlags, spec: &mut pb::ContainerSpec) -> Result<()> {
    let wire = |time: Option<Duration>| time.and_then(|time| prost_types::Duration::try_from(time).ok());
    let on_failure = match flags.health_on_failure {
        HealthOnFailure::None => pb::HealthAction::Unspecified,
        HealthOnFailure::Restart => pb::HealthAction::Restart,
        HealthOnFailure::Stop => pb::HealthAction::Stop,
        HealthOnFailure::Kill => pb::HealthAction::Kill,
    };
    let mut check = pb::HealthCheck {
        test: flags.health_cmd.iter().flat_map(|command| ["CMD-SHELL".to_owned(), command.clone()]).collect(),
        interval: wire(flags.health_interval),
        timeout: wire(flags.health_timeout),
        start_period: wire(flags.health_start_period),
        start_interval: wire(flags.health_start_interval),
        retries: flags.health_retries.unwrap_or(0),
        on_failure: on_failure.into(),
    };
    if flags.no_healthcheck {
        if check != pb::HealthCheck::default() {
            return Err(Error::usage("--no-healthcheck conflicts with --health-* options"));
        }
        check.test = vec!["NONE".to_owned()];
    }
    spec.health_check = (check != pb::HealthCheck::default()).then_some(check);
    Ok(())
}

/// The check as Docker shows it, if there is one.
pub fn inspected_check(check: Option<&pb::HealthCheck>) -> Value {
    let Some(check) = check else { return Value::Null };
    let nanos = |time: &Option<prost_types::Duration>| {
        time.as_ref().map_or(0, |time| time.seconds * 1_000_000_000 + i64::from(time.nanos))
    };
    json!({
        "Test": check.test,
        "Interval": nanos(&check.interval),
        "Timeout": nanos(&check.timeout),
        "StartPeriod": nanos(&check.start_period),
        "StartInterval": nanos(&check.start_interval),
        "Retries": check.retries,
    })
}

/// podman's word for what is done with a container that has become unhealthy.
pub fn action(check: Option<&pb::HealthCheck>) -> &'static str {
    match check.map(pb::HealthCheck::on_failure).unwrap_or_default() {
        pb::HealthAction::Unspecified | pb::HealthAction::None => "none",
        pb::HealthAction::Kill => "kill",
        pb::HealthAction::Restart => "restart",
        pb::HealthAction::Stop => "stop",
    }
}

/// How it is with a container, as Docker shows it.
pub fn inspected(container: &pb::Container) -> Value {
    let Some(health) = &container.health else { return Value::Null };
    let at = |time: &Option<prost_types::Timestamp>| {
        time.as_ref().and_then(time::timestamp).map(|at| at.to_string()).unwrap_or_default()
    };
    let probe = |probe: &pb::HealthProbe| {
        json!({
            "Start": at(&probe.started_at), "End": at(&probe.ended_at), "ExitCode": probe.exit_code,
            "Output": probe.output,
        })
    };
    json!({
        "Status": word(container),
        "FailingStreak": health.failing_streak,
        "Log": health.log.iter().map(probe).collect::<Vec<_>>(),
    })
}

/// Docker's word for how it is with a container; "none" where nobody checks.
pub fn word(container: &pb::Container) -> &'static str {
    match container.health.as_ref().map(pb::Health::status).unwrap_or_default() {
        pb::HealthStatus::Unspecified => "none",
        pb::HealthStatus::Starting => "starting",
        pb::HealthStatus::Healthy => "healthy",
        pb::HealthStatus::Unhealthy => "unhealthy",
    }
}

/// What `ctl ps` says of it behind the time that it has been up.
pub fn remark(container: &pb::Container) -> String {
    match word(container) {
        "none" => String::new(),
        "starting" => " (health: starting)".to_owned(),
        word => format!(" ({word})"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        health: HealthFlags,
    }

    fn check(words: &[&str]) -> Result<Option<pb::HealthCheck>> {
        let flags = Flags::try_parse_from([&["x"], words].concat()).unwrap_or_else(|error| panic!("{error}"));
        let mut spec = pb::ContainerSpec::default();
        of_container(&flags.health, &mut spec).map(|()| spec.health_check)
    }

    #[test]
    fn flags_become_a_check_and_none_of_them_none() {
        assert_eq!(check(&[]).unwrap(), None);
        assert_eq!(check(&["--no-healthcheck"]).unwrap().unwrap().test, ["NONE"]);
        let words = ["--health-cmd", "a || b", "--health-interval", "1m30s", "--health-timeout=500ms"];
        let further = ["--health-retries", "5", "--health-on-failure", "stop", "--health-start-period", "0s"];
        let made = check(&[&words[..], &further].concat()).unwrap().unwrap();
        let shown = inspected_check(Some(&made));
        assert_eq!(
            shown,
            json!({
                "Test": ["CMD-SHELL", "a || b"], "Interval": 90_000_000_000_i64, "Timeout": 500_000_000,
                "StartPeriod": 0, "StartInterval": 0, "Retries": 5,
            })
        );
        assert_eq!(action(Some(&made)), "stop");
        let refused = check(&["--no-healthcheck", "--health-retries", "2"]).unwrap_err();
        assert_eq!(refused.message, "--no-healthcheck conflicts with --health-* options");
    }

    #[test]
    fn times_that_are_none_are_refused() {
        for text in ["5", "x", "-1s", "1us", ""] {
            assert!(Flags::try_parse_from(["x", &format!("--health-interval={text}")]).is_err(), "{text:?}");
        }
    }
}
