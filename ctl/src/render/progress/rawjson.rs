//! One JSON object per event, as BuildKit's `SolveStatus` is in JSON: what reads `docker build --progress rawjson` reads
//! this. Fields, names and what is left out when it is empty are BuildKit's.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use sha2::{Digest, Sha256};
use strata_proto::builder::v1 as pb;

use super::{DEFINITION, Told, View, step};

/// The view.
#[derive(Debug, Default)]
pub struct RawJson {
    /// Digests of the steps, by number.
    digests: BTreeMap<u32, String>,
    /// The step that read the Dockerfile: warnings are about it.
    definition: Option<u32>,
}

#[derive(Debug, Default, Serialize)]
struct SolveStatus<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vertexes: Vec<Vertex<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    statuses: Vec<VertexStatus<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logs: Vec<VertexLog<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<VertexWarning<'a>>,
}

#[derive(Debug, Serialize)]
struct Vertex<'a> {
    digest: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<&'a str>,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cached: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

#[derive(Debug, Serialize)]
struct VertexStatus<'a> {
    id: &'a str,
    vertex: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    total: u64,
    current: u64,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<String>,
}

#[derive(Debug, Serialize)]
struct VertexLog<'a> {
    vertex: &'a str,
    stream: u8,
    data: String,
    timestamp: String,
}

#[derive(Debug, Serialize)]
struct VertexWarning<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    vertex: &'a str,
    level: u8,
    short: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    range: Vec<Range>,
}

#[derive(Debug, Serialize)]
struct Range {
    start: Position,
    end: Position,
}

#[derive(Debug, Serialize)]
struct Position {
    line: u32,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Names a step in all its events: a digest over its place and its name.
fn digest(number: u32, name: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(number.to_le_bytes());
    hash.update(name);
    strata_types::Digest::from_sha256_bytes(hash.finalize().into()).to_string()
}

fn text(at: Option<&prost_types::Timestamp>) -> Option<String> {
    step::time(at).map(|at| at.to_string())
}

/// What programs take for a step that was given up.
const CANCELLED: &str = "context canceled";

impl RawJson {
    fn write(status: &SolveStatus<'_>, out: &mut Vec<u8>) {
        // A structure of texts and numbers is always JSON, and a Vec takes every write.
        if serde_json::to_writer(&mut *out, status).is_ok() {
            out.push(b'\n');
        }
    }

    fn digest(&self, number: u32) -> &str {
        self.digests.get(&number).map_or("", String::as_str)
    }

    fn vertex(&mut self, told: &pb::StepProgress, out: &mut Vec<u8>) {
        if told.name.starts_with(DEFINITION) {
            self.definition = Some(told.step);
        }
        self.digests.entry(told.step).or_insert_with(|| digest(told.step, &told.name));
        let started = step::time(told.started_at.as_ref());
        let took = told.took.as_ref().map(|took| SignedDuration::new(took.seconds, took.nanos));
        let completed = started.zip(took).and_then(|(started, took)| started.checked_add(took).ok());
        let error = match told.state() {
            pb::StepState::Cancelled => CANCELLED,
            _ => &told.error,
        };
        let vertex = Vertex {
            digest: self.digest(told.step),
            inputs: told.inputs.iter().filter_map(|input| self.digests.get(input)).map(String::as_str).collect(),
            name: &told.name,
            started: started.map(|at| at.to_string()),
            completed: completed.map(|at: Timestamp| at.to_string()),
            cached: told.state() == pb::StepState::Cached,
            error,
        };
        Self::write(&SolveStatus { vertexes: vec![vertex], ..SolveStatus::default() }, out);
    }
}

impl View for RawJson {
    fn told(&mut self, told: Told, now: Timestamp, out: &mut Vec<u8>) {
        match told {
            Told::Step(told) => self.vertex(&told, out),
            Told::Part(told) => {
                let status = VertexStatus {
                    id: &told.name,
                    vertex: self.digest(told.step),
                    total: told.total_bytes,
                    current: told.current_bytes,
                    timestamp: text(told.at.as_ref()).unwrap_or_else(|| now.to_string()),
                    started: text(told.started_at.as_ref()),
                    completed: text(told.completed_at.as_ref()),
                };
                Self::write(&SolveStatus { statuses: vec![status], ..SolveStatus::default() }, out);
            }
            Told::Output(told) => {
                let log = VertexLog {
                    vertex: self.digest(told.step),
                    stream: if told.is_stderr { 2 } else { 1 },
                    data: BASE64_STANDARD.encode(&told.chunk),
                    timestamp: text(told.at.as_ref()).unwrap_or_else(|| now.to_string()),
                };
                Self::write(&SolveStatus { logs: vec![log], ..SolveStatus::default() }, out);
            }
            Told::Warning(told) => {
                let line = || Position { line: told.line };
                let warning = VertexWarning {
                    vertex: self.definition.map_or("", |number| self.digest(number)),
                    level: 1,
                    short: BASE64_STANDARD.encode(&told.text),
                    range: if told.line == 0 { Vec::new() } else { vec![Range { start: line(), end: line() }] },
                };
                Self::write(&SolveStatus { warnings: vec![warning], ..SolveStatus::default() }, out);
            }
            Told::End(_) => {}
        }
    }

    fn tick(&mut self, _: Timestamp, _: &mut Vec<u8>) {}
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::story::{at, failed, output, over, part, running, warning};
    use super::*;

    fn shown(told: impl IntoIterator<Item = Told>) -> Vec<Value> {
        let (mut view, mut out) = (RawJson::default(), Vec::new());
        told.into_iter().for_each(|told| view.told(told, at(0), &mut out));
        let text = String::from_utf8(out).expect("JSON is text");
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    #[test]
    fn events_are_objects_as_buildkit_writes_them() {
        let digest = digest(2, "[2/3] RUN make");
        let cached = super::digest(1, "[1/3] FROM a");
        let mut last = failed(2, "[2/3] RUN make", "exit code: 2", 10, 1_010);
        if let Told::Step(step) = &mut last {
            step.inputs = vec![1, 77];
        }

        let objects = shown([
            over(1, "[1/3] FROM a", pb::StepState::Cached, 5, 5),
            running(2, "[2/3] RUN make", 10),
            part(2, "sha256:abc", (3, 9), 10, 20, false),
            output(2, "hi\n", 30),
            last,
        ]);

        let expected = [
            json!({"vertexes": [{"digest": cached, "name": "[1/3] FROM a", "started": "1970-02-11T16:00:00.005Z",
                "completed": "1970-02-11T16:00:00.005Z", "cached": true}]}),
            json!({"vertexes": [{"digest": digest, "name": "[2/3] RUN make", "started": "1970-02-11T16:00:00.01Z"}]}),
            json!({"statuses": [{"id": "sha256:abc", "vertex": digest, "total": 9, "current": 3,
                "timestamp": "1970-02-11T16:00:00.02Z", "started": "1970-02-11T16:00:00.01Z"}]}),
            json!({"logs": [{"vertex": digest, "stream": 1, "data": "aGkK", "timestamp": "1970-02-11T16:00:00.03Z"}]}),
            json!({"vertexes": [{"digest": digest, "inputs": [cached], "name": "[2/3] RUN make",
                "started": "1970-02-11T16:00:00.01Z", "completed": "1970-02-11T16:00:01.01Z", "error": "exit code: 2"}]}),
        ];
        assert_eq!(objects, expected);
    }

    #[test]
    fn warnings_are_about_the_step_that_read_the_dockerfile() {
        let name = format!("{DEFINITION} from Dockerfile");

        let objects = shown([running(7, &name, 0), warning("odd", 3)]);

        let expected = json!({"warnings": [{"vertex": digest(7, &name), "level": 1, "short": "b2Rk",
            "range": [{"start": {"line": 3}, "end": {"line": 3}}]}]});
        assert_eq!(objects[1], expected);
    }

    #[test]
    fn a_step_that_was_given_up_has_the_error_that_programs_know() {
        let objects = shown([over(2, "a", pb::StepState::Cancelled, 0, 1)]);

        assert_eq!(objects[0]["vertexes"][0]["error"], CANCELLED);
    }
}
