//! How it is with a container that runs: Docker's health checks. What a check is and what its results mean is here, pure;
//! `engine/health.rs` runs them.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strata_types::Healthcheck;

/// Results that are kept.
const KEPT: usize = 5;

/// Bytes of output that are kept of one result.
pub const MAX_OUTPUT: usize = 4096;

/// The exit code of a check that did not end by itself, or could not be begun.
pub const NO_CODE: i32 = -1;

/// What was asked for beside the image's check. What is absent is the image's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Wish {
    /// What runs. Absent: the image's.
    pub test: Option<Test>,
    /// Between checks.
    pub interval: Option<Duration>,
    /// Of one check.
    pub timeout: Option<Duration>,
    /// In which failures do not count.
    pub start_period: Option<Duration>,
    /// Between checks in the start period.
    pub start_interval: Option<Duration>,
    /// Failures in a row that make it unhealthy.
    pub retries: Option<u32>,
    /// What follows.
    pub on_failure: OnFailure,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// Nothing: there is no check.
    None,
    /// A program and its arguments.
    Program(Vec<String>),
    /// A command for the image's shell.
    Shell(String),
}

/// What is done with a container that has become unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Nothing.
    #[default]
    None,
    /// It is killed; its restart policy applies.
    Kill,
    /// It is restarted.
    Restart,
    /// It is stopped.
    Stop,
}

/// A check as it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What runs; never [`Test::None`].
    pub test: Test,
    /// Program and arguments, the shell put in.
    pub args: Vec<String>,
    /// Between checks.
    pub interval: Duration,
    /// Of one check.
    pub timeout: Duration,
    /// In which failures do not count.
    pub start_period: Duration,
    /// Between checks in the start period.
    pub start_interval: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// What follows.
    pub on_failure: OnFailure,
}

/// Docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// No check was well yet, and not enough were not.
    Starting,
    /// The last ones were well.
    Healthy,
    /// Too many in a row were not.
    Unhealthy,
}

/// How it is with a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// In a word.
    pub status: Status,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last results, the oldest first.
    pub log: VecDeque<Probe>,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// When it began.
    pub start: Timestamp,
    /// When it was over.
    pub end: Timestamp,
    /// Exit code of the program; [`NO_CODE`]: it had none.
    pub exit_code: i32,
    /// What it wrote, [`MAX_OUTPUT`] bytes at most.
    pub output: String,
}

impl Default for Health {
    fn default() -> Self {
        Self { status: Status::Starting, failing_streak: 0, log: VecDeque::new() }
    }
}

impl Check {
    /// The check of a container: what was asked for, over the image's.
    pub fn merge(wish: &Wish, image: Option<&Healthcheck>, shell: Option<&[String]>) -> Option<Self> {
        let unset = Healthcheck::default();
        let image = image.unwrap_or(&unset);
        let test = match &wish.test {
            Some(test) => test.clone(),
            None => Test::of_image(&image.test),
        };
        let args = match &test {
            Test::None => return None,
            Test::Program(args) => args.clone(),
            Test::Shell(command) => {
                let usual = ["/bin/sh".to_owned(), "-c".to_owned()];
                [shell.filter(|shell| !shell.is_empty()).unwrap_or(&usual), std::slice::from_ref(command)].concat()
            }
        };
        let time = |asked: Option<Duration>, image: i64, usual: u64| {
            let image = u64::try_from(image).ok().map(Duration::from_nanos);
            let chosen = asked.filter(|asked| !asked.is_zero()).or(image.filter(|image| !image.is_zero()));
            chosen.unwrap_or(Duration::from_secs(usual))
        };
        let retries = u32::try_from(image.retries).ok().filter(|retries| *retries > 0);
        Some(Self {
            test,
            args,
            interval: time(wish.interval, image.interval, 30),
            timeout: time(wish.timeout, image.timeout, 30),
            start_period: time(wish.start_period, image.start_period, 0),
            start_interval: time(wish.start_interval, image.start_interval, 5),
            retries: wish.retries.filter(|retries| *retries > 0).or(retries).unwrap_or(3),
            on_failure: wish.on_failure,
        })
    }

    /// How long after a start the next check waits, from the end of the one before.
    pub fn pause(&self, status: Status, since_start: Duration) -> Duration {
        if status == Status::Starting && since_start < self.start_period { self.start_interval } else { self.interval }
    }
}

impl Test {
    /// What an image's config means.
    fn of_image(test: &[String]) -> Self {
        match test {
            [kind, args @ ..] if kind == "CMD" && !args.is_empty() => Self::Program(args.to_vec()),
            [kind, command, ..] if kind == "CMD-SHELL" => Self::Shell(command.clone()),
            _ => Self::None,
        }
    }
}

impl Health {
    /// Takes a result of a container that was started then; whether its status has changed.
    pub fn take(&mut self, probe: Probe, check: &Check, started_at: Timestamp) -> bool {
        let before = self.status;
        if probe.exit_code == 0 {
            self.failing_streak = 0;
            self.status = Status::Healthy;
        } else {
            let since = Duration::try_from(probe.start.duration_since(started_at)).unwrap_or_default();
            let counts = before != Status::Starting || since >= check.start_period;
            self.failing_streak += u32::from(counts);
            if counts && self.failing_streak >= check.retries {
                self.status = Status::Unhealthy;
            }
        }
        self.log.push_back(probe);
        while self.log.len() > KEPT {
            self.log.pop_front();
        }
        self.status != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> Check {
        Check::merge(&Wish { test: Some(Test::Shell("x".into())), ..Wish::default() }, None, None).unwrap()
    }

    fn probe(second: i64, exit_code: i32) -> Probe {
        let at = Timestamp::from_second(second).unwrap();
        Probe { start: at, end: at, exit_code, output: second.to_string() }
    }

    #[test]
    fn a_check_is_the_images_where_nothing_else_is_asked_for() {
        let strings = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        let image = Healthcheck {
            test: strings(&["CMD-SHELL", "curl localhost"]),
            interval: 5_000_000_000,
            retries: 7,
            ..Healthcheck::default()
        };
        let wish = Wish { interval: Some(Duration::from_secs(1)), ..Wish::default() };
        let bash = strings(&["/bin/bash", "-ec"]);

        let merged = Check::merge(&wish, Some(&image), Some(&bash)).unwrap();

        assert_eq!(merged.args, strings(&["/bin/bash", "-ec", "curl localhost"]));
        assert_eq!((merged.interval, merged.timeout), (Duration::from_secs(1), Duration::from_secs(30)));
        assert_eq!((merged.start_interval, merged.retries), (Duration::from_secs(5), 7));
        let off = Wish { test: Some(Test::None), ..Wish::default() };
        assert_eq!(Check::merge(&off, Some(&image), None), None);
        let own = Wish { test: Some(Test::Program(strings(&["true"]))), retries: Some(0), ..Wish::default() };
        let merged = Check::merge(&own, Some(&image), None).unwrap();
        assert_eq!((merged.args, merged.retries), (strings(&["true"]), 7));
        for test in [&["NONE"][..], &["CMD"], &[]] {
            let image = Healthcheck { test: strings(test), ..Healthcheck::default() };
            assert_eq!(Check::merge(&Wish::default(), Some(&image), None), None, "{test:?}");
        }
        assert_eq!(Check::merge(&Wish::default(), None, None), None);
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
        let (check, start) = (check(), Timestamp::from_second(0).unwrap());
        let mut health = Health::default();
        let mut seen = Vec::new();
        for (second, code) in [(1, 1), (2, 1), (3, 0), (4, 1), (5, NO_CODE), (6, 1), (7, 1), (8, 0)] {
            let changed = health.take(probe(second, code), &check, start);
            seen.push((health.status, health.failing_streak, changed));
        }
        use Status::{Healthy, Starting, Unhealthy};
        assert_eq!(
            seen,
            [
                (Starting, 1, false),
                (Starting, 2, false),
                (Healthy, 0, true),
                (Healthy, 1, false),
                (Healthy, 2, false),
                (Unhealthy, 3, true),
                (Unhealthy, 4, false),
                (Healthy, 0, true),
            ]
        );
        let kept: Vec<_> = health.log.iter().map(|probe| probe.output.as_str()).collect();
        assert_eq!(kept, ["4", "5", "6", "7", "8"]);
    }

    #[test]
    fn failures_of_the_start_period_do_not_count_until_it_was_once_well() {
        let check = Check { start_period: Duration::from_secs(10), retries: 1, ..check() };
        let start = Timestamp::from_second(0).unwrap();
        let mut health = Health::default();
        health.take(probe(9, 1), &check, start);
        assert_eq!((health.status, health.failing_streak), (Status::Starting, 0));
        let mut once_well = health.clone();
        health.take(probe(10, 1), &check, start);
        assert_eq!(health.status, Status::Unhealthy);
        once_well.take(probe(9, 0), &check, start);
        once_well.take(probe(9, 1), &check, start);
        assert_eq!(once_well.status, Status::Unhealthy);
        let second = Duration::from_secs(1);
        assert_eq!(check.pause(Status::Starting, second), check.start_interval);
        assert_eq!(check.pause(Status::Healthy, second), check.interval);
        assert_eq!(check.pause(Status::Starting, second * 10), check.interval);
    }
}
