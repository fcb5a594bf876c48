//! Resident memory: of services with nothing to do, and of what each container has beside its own process.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
};

use strata_tests::House;

use super::{Engines, FEWEST, Measure, QUIET, SLEEP, failed};
use crate::{
    Outcome,
    engine::{Engine, GUEST, IMAGE, Task},
    memory::{self, Part},
    report::{Cell, Report, Samples, Unit},
    room::{Room, Tenant},
    work::Work,
};

/// Containers that run at once.
const CONTAINERS: usize = 5;
/// `ctl` has so many services.
const SERVICES: usize = 3;

/// The services with nothing to do, after all the work that was asked for; and what each container costs beside its own process.
pub(super) fn measure(engines: &Engines, report: &mut Report) -> Outcome<()> {
    let (mut idle, mut heap, mut each) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for engine in engines.iter() {
        crate::go_on()?;
        // Starts services that stopped for want of work.
        if let Some(Err(err)) = engine.perform(Task::Run(IMAGE, &["noop"])) {
            idle.insert(engine.name().to_owned(), failed(err));
            continue;
        }
        thread::sleep(QUIET);
        let services = engine.services();
        for (cells, part) in [(&mut idle, Part::All), (&mut heap, Part::Anonymous)] {
            let sum = Samples::of(memory::mebibytes(services.iter().copied(), part));
            cells.insert(engine.name().to_owned(), if services.is_empty() { Cell::Absent } else { Cell::Samples(sum) });
        }
        each.insert(engine.name().to_owned(), per_container(engine.as_ref()));
    }
    report.row("idle services after the above, PSS", Unit::Mebibytes, idle);
    report.row("of that, not of files", Unit::Mebibytes, heap);
    report.row("per container, PSS", Unit::Mebibytes, each);
    Ok(())
}

fn per_container(engine: &dyn Engine) -> Cell {
    let names: Vec<String> = (0..CONTAINERS).map(|number| format!("bench-memory-{number}")).collect();
    let mut cell = None;
    for name in &names {
        match engine.perform(Task::Start(name, SLEEP)) {
            Some(Ok(_)) => {}
            Some(Err(err)) => cell = Some(failed(err)),
            None => return Cell::Absent,
        }
    }
    thread::sleep(QUIET);
    let guests = memory::with_words(&[GUEST, "sleep", SLEEP]);
    let keepers = keepers(engine, &guests);
    let sum = memory::mebibytes(keepers.iter().copied(), Part::All) / CONTAINERS as f64;
    if guests.len() != CONTAINERS && cell.is_none() {
        cell = Some(Cell::Failed(format!("{} processes in {CONTAINERS} containers", guests.len())));
    }
    for name in &names {
        if let Some(Err(err)) = engine.perform(Task::Remove(name)) {
            cell = Some(failed(err));
        }
    }
    cell.unwrap_or_else(|| if keepers.is_empty() { Cell::Absent } else { Cell::Samples(Samples::of(sum)) })
}

/// What keeps these processes of an engine, beside its services.
pub(super) fn keepers(engine: &dyn Engine, guests: &[i32]) -> BTreeSet<i32> {
    let own = std::process::id() as i32;
    // What is above this program may adopt what a peer leaves behind, and keeps nothing of it.
    let mut ends = memory::keepers(&[own], &BTreeSet::new());
    ends.insert(own);
    ends.extend(engine.services());
    memory::keepers(guests, &ends)
}

/// The three services that have just started and were asked one thing each. Ours only: peers' daemons have their images
/// in them already.
pub(super) fn fresh(engines: &Engines, work: &Work, report: &mut Report) -> Outcome<()> {
    let Some(ours) = engines.iter().find(|engine| engine.name() == "ctl") else { return Ok(()) };
    let cell = just_started(ours.as_ref(), work).map_or_else(failed, Cell::Samples);
    report.row(Measure::Fresh.title(), Unit::Mebibytes, BTreeMap::from([("ctl".to_owned(), cell)]));
    crate::go_on()
}

fn just_started(ours: &dyn Engine, work: &Work) -> Outcome<Samples> {
    // What the same programs have mapped elsewhere would count half here.
    ours.rest()?;
    let room = Room::open(Tenant::Ours, true)?;
    let house = House::with_root(Some(&work.home("fresh")?.join("state")));
    // It has a host of its own, with the networks that it has elsewhere.
    house.configure_runtime("");
    let mut samples = Samples::default();
    for _ in 0..FEWEST {
        crate::go_on()?;
        // It asks each for its own.
        room.finish(house.ctl_command(&["version"]))?;
        thread::sleep(QUIET);
        let services = house.services();
        if services.len() != SERVICES {
            return Err(format!("these run, and not {SERVICES} services: {services:?}").into());
        }
        samples.push(memory::mebibytes(services.iter().map(|trace| trace.pid), Part::All));
        let left = house.stop();
        if !left.is_empty() {
            return Err(format!("services do not stop: {left:?}").into());
        }
    }
    let complaints = house.close();
    if complaints.is_empty() { Ok(samples) } else { Err(format!("left behind: {complaints:?}").into()) }
}
