//! A build to show: fixed events at fixed times.

use jiff::{SignedDuration, Timestamp};
use strata_proto::builder::v1 as pb;

use super::{DEFINITION, OWN, Told};

/// So many milliseconds after the build began.
pub fn at(milliseconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1_000) + SignedDuration::from_millis(milliseconds)
}

fn wire(milliseconds: i64) -> Option<prost_types::Timestamp> {
    Some(super::wire(at(milliseconds)))
}

fn step(number: u32, name: &str, state: pb::StepState) -> pb::StepProgress {
    pb::StepProgress { step: number, name: name.to_owned(), state: state.into(), ..Default::default() }
}

/// A step that is announced.
pub fn waiting(number: u32, name: &str) -> Told {
    Told::Step(step(number, name, pb::StepState::Waiting))
}

/// A step that starts.
pub fn running(number: u32, name: &str, started: i64) -> Told {
    Told::Step(pb::StepProgress { started_at: wire(started), ..step(number, name, pb::StepState::Running) })
}

/// A step that starts, and why.
pub fn running_because(number: u32, name: &str, started: i64, reason: &str) -> Told {
    let step = step(number, name, pb::StepState::Running);
    Told::Step(pb::StepProgress { started_at: wire(started), reason: reason.to_owned(), ..step })
}

/// The end of a step.
pub fn over(number: u32, name: &str, state: pb::StepState, started: i64, ended: i64) -> Told {
    let took = ended - started;
    let took = Some(prost_types::Duration { seconds: took / 1000, nanos: (took % 1000 * 1_000_000) as i32 });
    Told::Step(pb::StepProgress { started_at: wire(started), took, ..step(number, name, state) })
}

/// A step that fails.
pub fn failed(number: u32, name: &str, error: &str, started: i64, ended: i64) -> Told {
    match over(number, name, pb::StepState::Failed, started, ended) {
        Told::Step(step) => Told::Step(pb::StepProgress { error: error.to_owned(), ..step }),
        told => told,
    }
}

/// A part of a step.
pub fn part(number: u32, name: &str, bytes: (u64, u64), started: i64, now: i64, is_over: bool) -> Told {
    Told::Part(pb::StepPart {
        step: number,
        name: name.to_owned(),
        current_bytes: bytes.0,
        total_bytes: bytes.1,
        started_at: wire(started),
        completed_at: wire(now).filter(|_| is_over),
        at: wire(now),
    })
}

/// What a step prints.
pub fn output(number: u32, text: &str, now: i64) -> Told {
    let chunk = bytes::Bytes::copy_from_slice(text.as_bytes());
    Told::Output(pb::StepOutput { step: number, is_stderr: false, chunk, at: wire(now) })
}

/// Something to tell.
pub fn warning(text: &str, line: u32) -> Told {
    Told::Warning(pb::Warning { text: text.to_owned(), line })
}

/// The beginning of every build.
pub fn beginning() -> Vec<(i64, Told)> {
    let name = format!("{DEFINITION} from Dockerfile");
    vec![
        (0, running(OWN + 1, &name, 0)),
        (1, part(OWN + 1, "transferring dockerfile:", (120, 0), 0, 1, true)),
        (2, over(OWN + 1, &name, pb::StepState::Done, 0, 2)),
        (3, waiting(1, "[1/3] FROM debian:bookworm")),
        (3, waiting(2, "[2/3] RUN make")),
        (3, waiting(3, "[3/3] COPY . .")),
    ]
}
