//! Many containers at once: what the next one costs among 300 that run, what a list costs there, and what those cost that do
//! nothing; and a hundred that are started together. They have the network that each engine gives them by default.

use std::{
    collections::BTreeMap,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::{
    Engines, QUIET, SLEEP, TOGETHER,
    line::{clear, line},
    milliseconds, resident,
};
use crate::{
    Outcome,
    engine::{Engine, GUEST, IMAGE, Task},
    memory::{self, Part},
    processor,
    report::{Cell, Report, Samples, Unit},
};

/// Containers that run while the next one starts.
const RUNNING: usize = 300;
/// Whoever has not started them by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(240);
/// Rounds of a figure at most: some take a second.
const ROUNDS: u32 = 10;
/// Times that idle processes are looked at, and for how long each.
const LOOKS: u32 = 3;
const LOOK: Duration = Duration::from_secs(5);
/// How names begin.
const PREFIX: &str = "bench-lives-";
const NEXT: &str = "bench-lives-next";

/// What is looked at.
const ROWS: [(&str, Unit); 5] = [
    ("run -d, the first", Unit::Milliseconds),
    ("run -d, with 300 running", Unit::Milliseconds),
    ("ps -a, 300 running", Unit::Milliseconds),
    ("idle cpu, 300 running, of a core", Unit::Percent),
    ("per container of 300, PSS", Unit::Mebibytes),
];

/// One engine after the other: all at once, each would run among the containers of all.
pub(super) fn measure(engines: &Engines, runs: u32, report: &mut Report) -> Outcome<()> {
    let mut rows: [BTreeMap<String, Cell>; 5] = Default::default();
    for engine in engines {
        if crate::go_on().is_err() {
            break;
        }
        let mut samples: [Samples; 5] = Default::default();
        let measured = engine.line().map(|_| look(engine.as_ref(), runs.min(ROUNDS), &mut samples));
        if measured.is_some()
            && let Err(err) = clear(engine.as_ref(), PREFIX)
        {
            report.leftovers(vec![format!("{}: {err}", engine.name())]);
        }
        for (cells, samples) in rows.iter_mut().zip(samples) {
            let cell = match &measured {
                None => Cell::Absent,
                // What was measured before something failed stays true.
                Some(Err(err)) if samples.is_empty() => Cell::Failed(err.to_string()),
                Some(_) => Cell::Samples(samples),
            };
            cells.insert(engine.name().to_owned(), cell);
        }
    }
    for ((title, unit), cells) in ROWS.into_iter().zip(rows) {
        report.row(title, unit, cells);
    }
    crate::go_on()
}

fn look(engine: &dyn Engine, rounds: u32, samples: &mut [Samples; 5]) -> Outcome<()> {
    let [first, next, list, idle, each] = samples;
    // Starts services that stopped for want of work.
    another(engine)?;
    for _ in 0..rounds {
        first.push(another(engine)?);
    }
    thread::sleep(QUIET);
    let before: BTreeMap<i32, f64> = engine.services().into_iter().map(|pid| (pid, mebibytes(pid))).collect();

    fill(engine)?;
    thread::sleep(QUIET);
    let guests = sleepers();
    if guests.len() != RUNNING {
        return Err(format!("{} processes in {RUNNING} containers", guests.len()).into());
    }
    let (services, mut processes) = (engine.services(), resident::keepers(engine, &guests));
    let kept = memory::mebibytes(processes.iter().copied(), Part::All);
    let grown: f64 = services.iter().map(|pid| mebibytes(*pid) - before.get(pid).unwrap_or(&0.0)).sum();
    // Services that shrank meanwhile do not make containers cheaper.
    each.push((kept + grown.max(0.0)) / RUNNING as f64);
    processes.extend(services);
    for _ in 0..LOOKS {
        crate::go_on()?;
        idle.push(processor::share(&processes, LOOK));
    }

    for _ in 0..rounds {
        next.push(another(engine)?);
    }
    for _ in 0..rounds {
        crate::go_on()?;
        let done = line(engine, &["ps", "-a"])?;
        // It has a line of titles.
        if done.stdout.lines().count() <= RUNNING {
            return Err(format!("ps -a shows {} lines", done.stdout.lines().count()).into());
        }
        list.push(milliseconds(done));
    }
    Ok(())
}

fn mebibytes(pid: i32) -> f64 {
    memory::mebibytes([pid], Part::All)
}

fn sleepers() -> Vec<i32> {
    memory::with_words(&[GUEST, "sleep", SLEEP])
}

fn start(engine: &dyn Engine, name: &str) -> Option<Command> {
    let mut run = engine.line()?;
    run.args(["run", "-d", "--name", name, IMAGE, GUEST, "sleep", SLEEP]);
    Some(run)
}

/// Starts one more and removes it; how long the first of both takes.
fn another(engine: &dyn Engine) -> Outcome<f64> {
    crate::go_on()?;
    // What the last removal has not written yet is not the next start's to wait for.
    rustix::fs::sync();
    let done = engine.finish(start(engine, NEXT).ok_or("it has no command line")?)?;
    engine.perform(Task::Remove(NEXT)).transpose()?;
    Ok(milliseconds(done))
}

fn fill(engine: &dyn Engine) -> Outcome<()> {
    let begin = Instant::now();
    for number in 0..RUNNING {
        crate::go_on()?;
        if begin.elapsed() > PATIENCE {
            return Err(format!("it started {number} of {RUNNING} containers in {PATIENCE:?}").into());
        }
        engine.finish(start(engine, &format!("{PREFIX}{number}")).ok_or("it has no command line")?)?;
    }
    Ok(())
}

/// Starts a hundred at once and removes them; how long it takes until all commands have ended. None: it cannot.
pub(super) fn at_once(engine: &dyn Engine) -> Option<Outcome<f64>> {
    let commands =
        (0..TOGETHER).map(|number| start(engine, &format!("{PREFIX}{number}"))).collect::<Option<Vec<_>>>()?;
    let started = engine.room()?.finish_all(commands);
    let running = sleepers().len();
    let cleared = clear(engine, PREFIX);
    Some(started.and_then(|done| {
        if running != TOGETHER {
            return Err(format!("{running} of {TOGETHER} run").into());
        }
        cleared.map(|()| milliseconds(done))
    }))
}
