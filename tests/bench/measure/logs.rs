//! The end of a long log: a container has written it, and its engine keeps it in files, without a bound that it reaches.

use std::{collections::BTreeMap, fs, time::Instant};

use super::{
    Engines, FEWEST, State, TIME,
    line::{clear, line},
    milliseconds, order,
};
use crate::{
    Outcome,
    engine::{Engine, GUEST, IMAGE},
    report::{Cell, Report, Samples, Unit},
};

/// Name of the container.
const NAME: &str = "bench-log";
/// What it writes at least; a log has more around each line.
const BYTES: u64 = 1 << 30;
/// Of a line, with its end.
const LINE: u64 = 1000;
const LINES: u64 = BYTES / LINE + 1;
const TAIL: u64 = 10;

/// Flags for a file that nothing cuts, and where to find it.
struct Kept {
    flags: &'static [&'static str],
    path: &'static str,
}

fn kept(engine: &dyn Engine) -> Option<Kept> {
    engine.line()?;
    Some(match engine.name() {
        "podman" => Kept { flags: &["--log-driver", "k8s-file"], path: "{{.HostConfig.LogConfig.Path}}" },
        "docker" => Kept { flags: &["--log-driver", "json-file"], path: "{{.LogPath}}" },
        _ => Kept { flags: &["--log-driver", "json-file", "--log-opt", "max-size=2g"], path: "{{.LogPath}}" },
    })
}

/// `logs --tail 10` of such a log.
pub(super) fn measure(engines: &Engines, runs: u32, report: &mut Report) -> Outcome<()> {
    let mut states = vec![];
    let measured = sample(engines, runs, &mut states);
    let mut cells = BTreeMap::new();
    for (engine, state) in engines.iter().zip(states) {
        let cell = match state {
            State::Absent => Cell::Absent,
            State::Sampled(samples) if samples.is_empty() => Cell::Failed("it was not its turn yet".to_owned()),
            State::Sampled(samples) => Cell::Samples(samples),
            State::Failed(reason) => Cell::Failed(reason),
        };
        if !matches!(cell, Cell::Absent)
            && let Err(err) = clear(engine.as_ref(), NAME)
        {
            report.leftovers(vec![format!("{}: {err}", engine.name())]);
        }
        cells.insert(engine.name().to_owned(), cell);
    }
    report.row("logs --tail 10, of 1 GiB", Unit::Milliseconds, cells);
    measured
}

fn sample(engines: &Engines, runs: u32, states: &mut Vec<State>) -> Outcome<()> {
    for engine in engines {
        crate::go_on()?;
        states.push(match kept(engine.as_ref()).map(|kept| write(engine.as_ref(), &kept)) {
            None => State::Absent,
            Some(Ok(())) => State::Sampled(Samples::default()),
            Some(Err(err)) => State::Failed(err.to_string()),
        });
    }
    // A gigabyte on its way to the disk is not for those who read to wait for.
    rustix::fs::sync();
    let start = Instant::now();
    for round in 0..runs {
        if round >= FEWEST && start.elapsed() > TIME {
            break;
        }
        for index in order(engines.len(), round) {
            if let State::Sampled(samples) = &mut states[index] {
                crate::go_on()?;
                match tail(engines[index].as_ref()) {
                    Ok(figure) => samples.push(figure),
                    Err(err) => states[index] = State::Failed(err.to_string()),
                }
            }
        }
    }
    Ok(())
}

/// Has a container write the log, looks whether all of it is there, and reads its end once unmeasured.
fn write(engine: &dyn Engine, kept: &Kept) -> Outcome<()> {
    let (lines, bytes) = (LINES.to_string(), LINE.to_string());
    let run = [&["run", "-d", "--name", NAME, "--network", "none"], kept.flags].concat();
    line(engine, &[&run[..], &[IMAGE, GUEST, "lines", &lines, &bytes]].concat())?;
    let code = line(engine, &["wait", NAME])?.stdout;
    if code.trim() != "0" {
        return Err(format!("the container that writes ended with {code:?}").into());
    }
    let path = line(engine, &["inspect", "-f", kept.path, NAME])?.stdout;
    let length = fs::metadata(path.trim()).map_err(|err| format!("no log at {path:?}: {err}"))?.len();
    if length < BYTES {
        return Err(format!("of {BYTES} bytes the log has {length}").into());
    }
    tail(engine).map(drop)
}

fn tail(engine: &dyn Engine) -> Outcome<f64> {
    let done = line(engine, &["logs", "--tail", &TAIL.to_string(), NAME])?;
    let numbers: Vec<Option<u64>> = done.stdout.lines().map(|text| text.parse().ok()).collect();
    if !numbers.iter().copied().eq((LINES - TAIL..LINES).map(Some)) {
        return Err(format!("these are not the last {TAIL} lines: {numbers:?}").into());
    }
    Ok(milliseconds(done))
}
