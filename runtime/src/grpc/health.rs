//! Health checks on the wire, and back.

use std::time::Duration;

use strata_proto::runtime::v1 as wire;

use super::convert;
use crate::{
    error::Error,
    health::{Check, Health, OnFailure, Probe, Status, Test, Wish},
};

/// The longest time that a check may have anywhere: a year.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Parses what is asked for beside the image's check.
pub fn wish(check: Option<wire::HealthCheck>) -> Result<Wish, Error> {
    let Some(check) = check else { return Ok(Wish::default()) };
    let on_failure = match check.on_failure() {
        wire::HealthAction::Unspecified | wire::HealthAction::None => OnFailure::None,
        wire::HealthAction::Kill => OnFailure::Kill,
        wire::HealthAction::Restart => OnFailure::Restart,
        wire::HealthAction::Stop => OnFailure::Stop,
    };
    convert::texts("spec.health_check.test", &check.test)?;
    Ok(Wish {
        test: test(check.test)?,
        interval: time("spec.health_check.interval", check.interval)?,
        timeout: time("spec.health_check.timeout", check.timeout)?,
        start_period: time("spec.health_check.start_period", check.start_period)?,
        start_interval: time("spec.health_check.start_interval", check.start_interval)?,
        retries: Some(check.retries).filter(|retries| *retries > 0),
        on_failure,
    })
}

fn test(words: Vec<String>) -> Result<Option<Test>, Error> {
    let wrong = |problem: &str| Err(Error::argument("spec.health_check.test", problem));
    let mut words = words.into_iter();
    match (words.next().as_deref(), words.len()) {
        (None, _) => Ok(None),
        (Some("NONE"), 0) => Ok(Some(Test::None)),
        (Some("CMD"), 1..) => Ok(Some(Test::Program(words.collect()))),
        (Some("CMD-SHELL"), 1) => Ok(words.next().map(Test::Shell)),
        _ => wrong("it is \"NONE\", \"CMD\" and a program, or \"CMD-SHELL\" and one command"),
    }
}

fn time(field: &'static str, time: Option<prost_types::Duration>) -> Result<Option<Duration>, Error> {
    let Some(time) = time else { return Ok(None) };
    let wrong = |problem: &str| Error::argument(field, problem);
    let time = Duration::try_from(time).map_err(|_| wrong("it is negative or not a duration"))?;
    match time {
        Duration::ZERO => Ok(None),
        // As in Docker.
        time if time < Duration::from_millis(1) => Err(wrong("it must be at least a millisecond")),
        time if time > LONGEST => Err(wrong("it is too long")),
        time => Ok(Some(time)),
    }
}

/// The check of a container as the wire shows it; of one that was not made yet, what was asked for.
pub fn wire_check(check: Option<&Check>, wish: &Wish) -> Option<wire::HealthCheck> {
    let words = |test: &Test| match test {
        Test::None => vec!["NONE".to_owned()],
        Test::Program(args) => [&["CMD".to_owned()], args.as_slice()].concat(),
        Test::Shell(command) => vec!["CMD-SHELL".to_owned(), command.clone()],
    };
    let Some(check) = check else {
        let test = wish.test.as_ref().filter(|test| **test == Test::None)?;
        return Some(wire::HealthCheck { test: words(test), ..Default::default() });
    };
    let action = match check.on_failure {
        OnFailure::None => wire::HealthAction::None,
        OnFailure::Kill => wire::HealthAction::Kill,
        OnFailure::Restart => wire::HealthAction::Restart,
        OnFailure::Stop => wire::HealthAction::Stop,
    };
    let time = |time: Duration| prost_types::Duration::try_from(time).ok();
    Some(wire::HealthCheck {
        test: words(&check.test),
        interval: time(check.interval),
        timeout: time(check.timeout),
        start_period: time(check.start_period),
        start_interval: time(check.start_interval),
        retries: check.retries,
        on_failure: action.into(),
    })
}

/// How it is with a container, as the wire shows it.
pub fn wire_health(health: Health) -> wire::Health {
    let status = match health.status {
        Status::Starting => wire::HealthStatus::Starting,
        Status::Healthy => wire::HealthStatus::Healthy,
        Status::Unhealthy => wire::HealthStatus::Unhealthy,
    };
    let log = health.log.into_iter().map(wire_probe).collect();
    wire::Health { status: status.into(), failing_streak: health.failing_streak, log }
}

fn wire_probe(probe: Probe) -> wire::HealthProbe {
    wire::HealthProbe {
        started_at: Some(convert::timestamp(probe.start)),
        ended_at: Some(convert::timestamp(probe.end)),
        exit_code: probe.exit_code,
        output: probe.output,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| word.to_string()).collect()
    }

    #[test]
    fn a_check_is_parsed_and_shown_as_it_came() {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        for test in [&["CMD", "a", "b"][..], &["CMD-SHELL", "a || b"]] {
            let asked = wire::HealthCheck {
                test: words(test),
                interval: seconds(1),
                timeout: seconds(2),
                start_period: seconds(3),
                start_interval: seconds(4),
                retries: 5,
                on_failure: wire::HealthAction::Stop.into(),
            };
            let wish = wish(Some(asked.clone())).unwrap();
            let check = Check::merge(&wish, None, None);
            assert_eq!(wire_check(check.as_ref(), &wish), Some(asked));
        }
        let none = wish(Some(wire::HealthCheck { test: words(&["NONE"]), ..Default::default() })).unwrap();
        assert_eq!(wire_check(None, &none).unwrap().test, ["NONE"]);
        assert_eq!(wire_check(None, &Wish::default()), None);
    }

    #[test]
    fn what_is_no_check_is_refused() {
        for test in [&["CMD"][..], &["NONE", "x"], &["CMD-SHELL"], &["CMD-SHELL", "a", "b"], &["true"]] {
            let check = wire::HealthCheck { test: words(test), ..Default::default() };
            assert!(wish(Some(check)).is_err(), "{test:?}");
        }
        for (seconds, nanos) in [(-1, 0), (0, 999_999), (i64::MAX, 0)] {
            let interval = Some(prost_types::Duration { seconds, nanos });
            assert!(wish(Some(wire::HealthCheck { interval, ..Default::default() })).is_err(), "{seconds} {nanos}");
        }
    }
}
