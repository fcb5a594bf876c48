//! Measures of builds beyond the small ones: large contexts, a graph, long chains, a cache with many records.

use std::{collections::BTreeMap, fs};

use strata_tests::House;

use super::{Measure, milliseconds};
use crate::{
    Outcome, contexts,
    engine::{Cache, Engine, Task},
    memory,
    report::{Cell, Report, Samples, Unit},
    room,
    work::Work,
};

/// Lengths of chains whose cost per step is compared. The kernel stacks 500 directories, and the base is one.
const CHAINS: [(usize, &str); 2] =
    [(100, "build, per RUN step, 100 of them"), (499, "build, per RUN step, 499 of them")];
/// Records of a large build cache.
const RECORDS: u64 = 1_000_000;

/// Makes what a round starts from.
pub(super) fn renew(measure: Measure, work: &Work, round: u32) -> Outcome<()> {
    match measure {
        Measure::Many | Measure::BuildPeak if !work.many().exists() => contexts::many(&work.many()),
        Measure::One if round == 0 => contexts::ten(&work.ten()),
        Measure::One => Ok(fs::write(work.ten().join(contexts::name(4242)), changed(round))?),
        Measure::Graph => contexts::graph(&work.graph()),
        Measure::Large => contexts::large(&work.large(), round),
        _ => Ok(()),
    }
}

fn changed(round: u32) -> String {
    format!("changed in round {round}\n")
}

/// A file of the image that was built, and how it begins, in the round that was the last.
pub(super) fn result(measure: Measure, round: u32) -> Option<(&'static str, String, String)> {
    let app = |name: String| format!("/app/{name}");
    Some(match measure {
        Measure::One if round > 0 => ("ten", app(contexts::name(4242)), changed(round)),
        Measure::Graph => ("graph", "/out19".to_owned(), "x".to_owned()),
        _ => return None,
    })
}

/// Of what builds, while it builds; None: it has no service.
pub(super) fn peak_of_builders(engine: &dyn Engine, task: Task<'_>, small: Task<'_>) -> Option<Outcome<f64>> {
    // A builder that had nothing to do has ended.
    if engine.builders().is_empty()
        && let Err(err) = engine.perform(small)?
    {
        return Some(Err(err));
    }
    let builders = engine.builders();
    if builders.is_empty() {
        return None;
    }
    builders.iter().for_each(|pid| memory::forget_peak(*pid));
    let done = engine.perform(task)?;
    Some(done.map(|_| engine.builders().into_iter().map(memory::peak).sum()))
}

/// What a step costs in short chains and in long ones. Ours only: peers stack 127 layers.
pub(super) fn chains(engines: &[Box<dyn Engine>], work: &Work, runs: u32, report: &mut Report) -> Outcome<()> {
    let Some(ours) = engines.iter().find(|engine| engine.name() == "ctl") else { return Ok(()) };
    for (length, title) in CHAINS {
        let context = work.chain(length);
        contexts::steps(&context, length)?;
        let mut samples = Samples::default();
        for _ in 0..runs.min(super::FEWEST) {
            crate::go_on()?;
            rustix::fs::sync();
            let Some(done) = ours.perform(Task::Build(&context, "chain", Cache::Ignored)) else { return Ok(()) };
            samples.push(milliseconds(done?) / length as f64);
        }
        report.row(title, Unit::Milliseconds, BTreeMap::from([("ctl".to_owned(), Cell::Samples(samples))]));
    }
    Ok(())
}

/// What a cached build costs with few records in the cache, and with many. Ours only.
pub(super) fn records(work: &Work, runs: u32, report: &mut Report) -> Outcome<()> {
    let house = House::with_root(Some(&work.home("records")?.join("state")));
    let mut import = house.ctl_command(&["import"]);
    import.arg(work.image()).arg("guest");
    room::finish(import)?;
    let mut build = house.ctl_command(&["build", "-q", "--network", "none", "-t", "steps", "--no-cache"]);
    build.arg(work.steps());
    room::finish(build)?;
    let few = cached(&house, work, runs)?;
    let left = house.stop();
    if !left.is_empty() {
        return Err(format!("the store does not stop: {left:?}").into());
    }
    eprintln!("filling the cache: {RECORDS} records");
    fill(&house)?;
    let many = cached(&house, work, runs)?;
    for (title, samples) in
        [("build, 20 steps cached, 20 records", few), ("build, 20 steps cached, 1,000,020 records", many)]
    {
        report.row(title, Unit::Milliseconds, BTreeMap::from([("ctl".to_owned(), Cell::Samples(samples))]));
    }
    let complaints = house.close();
    if complaints.is_empty() { Ok(()) } else { Err(format!("left behind: {complaints:?}").into()) }
}

fn cached(house: &House, work: &Work, runs: u32) -> Outcome<Samples> {
    let mut samples = Samples::default();
    for round in 0..=runs {
        crate::go_on()?;
        let mut build = house.ctl_command(&["build", "-q", "--network", "none", "-t", "steps"]);
        build.arg(work.steps());
        let done = room::finish(build)?;
        // The first starts the services.
        if round > 0 {
            samples.push(milliseconds(done));
        }
    }
    Ok(samples)
}

/// Puts records of other steps into the catalog of a store that does not run.
fn fill(house: &House) -> Outcome<()> {
    let catalog = rusqlite::Connection::open(house.root().join("store/catalog.db"))?;
    catalog.execute(
        "WITH RECURSIVE n(at) AS (SELECT 1 UNION ALL SELECT at + 1 FROM n WHERE at < ?1)
         INSERT INTO cache_records (project, key, operation, content, family, description, created)
         SELECT 'default', lower(hex(randomblob(32))), lower(hex(randomblob(32))), lower(hex(randomblob(32))),
                lower(hex(randomblob(32))), 'RUN step ' || at, unixepoch() * 1000 FROM n",
        [RECORDS],
    )?;
    Ok(())
}
