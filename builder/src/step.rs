//! Instructions: what each does to the stage. `run` and `copy` make layers, through the cache; `meta` changes the
//! config only.

mod copy;
mod meta;
mod owner;
mod printed;
mod run;
mod workdir;

pub use copy::{ContextLayer, is_archive};

use std::sync::Arc;

use strata_dockerfile::{Instruction, Kind};

use crate::context::Blake3;
use crate::error::Error;
use crate::graph;
use crate::image::Draft;
use crate::key::Key;
use crate::peers::{ByContent, Identity, Outcome};
use crate::progress::{Running, StepState};
use crate::solve::{Build, StageWork};
use crate::steps::{self, Place};

/// A step that makes a layer: what the cache knows it by.
#[derive(Debug)]
struct Keyed {
    /// What it does and reads, whatever it stands on.
    operation: Blake3,
    /// The step across versions of what it reads.
    family: Blake3,
    /// The history entry.
    created_by: String,
    /// Its layer is the same whatever is below: the key has nothing of that.
    is_linked: bool,
}

/// Performs one instruction of a stage.
pub async fn perform(
    build: &Arc<Build>,
    work: &mut StageWork,
    place: Place,
    instruction: &Instruction,
) -> Result<(), Error> {
    if !graph::makes_layer(&instruction.kind) {
        return meta::apply(build, work, instruction);
    }
    let step = build.steps.number(work.index, place);
    let base = &build.graph.plans[work.index].base;
    let name = steps::name(&build.file, base, work.index, (place, &work.triggers), &instruction.original);
    let line = match place {
        Place::Instruction(_) => instruction.line,
        Place::From | Place::Trigger(_) => build.file.stages[work.index].line,
    };
    let running = build.progress.running(step, &name, line as u32);
    running.builds_on(work.draft.step);
    let performed = async {
        match &instruction.kind {
            Kind::Run(run) => run::perform(build, work, instruction, run, &running).await,
            Kind::Workdir(word) => workdir::perform(build, work, instruction, word, &running).await,
            Kind::Copy(copy) => copy::perform(build, work, instruction, copy::Transfer::from(copy), &running).await,
            Kind::Add(add) => copy::perform(build, work, instruction, copy::Transfer::from(add), &running).await,
            _ => meta::apply(build, work, instruction),
        }
    };
    match running.within(performed).await {
        Ok(()) => {
            work.draft.step = Some(step);
            Ok(())
        }
        Err(error) => {
            let error = build.blame(instruction, error);
            running.fail(&error);
            Err(error)
        }
    }
}

/// The name of a step across versions of what it reads.
fn family(build: &Build, work: &StageWork, instruction: &Instruction) -> Blake3 {
    let place = graph::title(&build.file.stages[work.index]);
    Key::root("family")
        .part(build.request.names.first().map_or("", String::as_str))
        .part(&build.request.dockerfile_name)
        .part(place)
        .part(&instruction.original)
        .finish()
}

/// The flag for which a stage takes nothing from the cache, if there is one.
fn uncached(build: &Build, stage: usize) -> Option<&'static str> {
    let stage = &build.file.stages[stage];
    let is_named = |wanted: &String| {
        stage.name.as_ref().is_some_and(|name| name.value.eq_ignore_ascii_case(wanted))
            || *wanted == stage.index.to_string()
    };
    match build.request.no_cache {
        true => Some("--no-cache"),
        false => build.request.no_cache_filter.iter().any(is_named).then_some("--no-cache-filter"),
    }
}

/// Takes the layer of a step from the cache, or has it made and remembered. The layer of the step's newest version is given
/// to whoever makes it.
async fn through_cache(
    build: &Arc<Build>,
    work: &mut StageWork,
    keyed: Keyed,
    running: &Running,
    make: impl AsyncFnOnce(&StageWork, &Identity, Option<String>) -> Result<Outcome, Error>,
) -> Result<(), Error> {
    let Keyed { operation, family, created_by, is_linked } = keyed;
    let below = if is_linked { Some(Vec::new()) } else { work.draft.here() };
    let key = if is_linked { Key::alone(&operation) } else { Key::step(&work.draft.key, &operation) };
    // What later steps stand on, if the layer is that of a step with this key.
    let tip = |draft: &Draft, key: Blake3| if is_linked { Key::step(&draft.key, &key) } else { key };
    let step = Identity { key, operation, family, description: created_by.clone() };
    let uncached = uncached(build, work.index);
    let flight = match uncached {
        None => Some(build.flights.enter(key, running).await),
        // What is to be made anew is nobody else's.
        Some(_) => None,
    };
    let is_by_content = !is_linked && !work.draft.is_new && uncached.is_none();
    let by_content = if is_by_content { ByContent::Yes } else { ByContent::No };
    let found = match &below {
        Some(below) => build.store.cached(&step, below, by_content, &build.lease).await?,
        None => {
            let found = build.store.cached(&step, &[], ByContent::No, &build.lease).await?;
            match (&found.record, uncached) {
                (Some(_), None) => found,
                // Nobody did this after what the base is by name: its files are needed now, and tell more.
                _ => {
                    let below = build.files(&work.draft, running).await?;
                    build.store.cached(&step, &below, by_content, &build.lease).await?
                }
            }
        }
    };
    if let (Some(record), None) = (found.record, uncached) {
        build.count(StepState::Cached);
        // Its key and not the one asked for: what comes next is found by its key then.
        let tip = tip(&work.draft, record.key);
        work.draft.push_layer(record.layer, tip, record.created, created_by);
        running.end(StepState::Cached);
        return Ok(());
    }
    let reason = match (uncached, &found.previous) {
        (Some(flag), _) => flag,
        (None, Some(_)) => "what it reads has changed",
        (None, None) => "",
    };
    if let Some(flight) = &flight {
        flight.work(running);
    }
    let slot = build.slots.acquire().await.map_err(|_| Error::Cancelled)?;
    running.begin(reason);
    let made = make(work, &step, found.previous).await.inspect_err(|error| {
        let is_given_up = matches!(error, Error::Cancelled);
        build.count(if is_given_up { StepState::Cancelled } else { StepState::Failed });
    });
    let Outcome { layer, created } = made?;
    drop((slot, flight));
    work.draft.is_new |= !found.is_operation_known;
    let tip = tip(&work.draft, key);
    work.draft.push_layer(layer, tip, created, created_by);
    build.count(StepState::Done);
    running.end(StepState::Done);
    Ok(())
}
