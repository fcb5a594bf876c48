//! Instructions: what each does to the stage. `run` and `copy` make layers, through the cache; `meta` changes the
//! config only.

mod copy;
mod meta;
mod owner;
mod printed;
mod run;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use strata_dockerfile::{Instruction, Kind};

use crate::context::Blake3;
use crate::error::Error;
use crate::graph;
use crate::key::Key;
use crate::peers::CacheRecord;
use crate::progress::{Running, StepState};
use crate::solve::{Build, StageWork};
use crate::steps::{self, Place};

/// A step that makes a layer: what the cache knows it by.
#[derive(Debug)]
struct Keyed {
    /// What it does and reads.
    key: Blake3,
    /// The step across versions of what it reads.
    family: Blake3,
    /// The history entry.
    created_by: String,
}

/// Performs one instruction of a stage.
pub async fn perform(
    build: &Arc<Build>,
    work: &mut StageWork,
    place: Place,
    instruction: &Instruction,
) -> Result<(), Error> {
    if !graph::makes_layer(&instruction.kind) {
        return meta::apply(build, work, instruction).await;
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
    let result = match &instruction.kind {
        Kind::Run(run) => run::perform(build, work, instruction, run, &running).await,
        Kind::Workdir(word) => copy::working_directory(build, work, instruction, word, &running).await,
        Kind::Copy(copy) => copy::perform(build, work, instruction, copy::Transfer::from(copy), &running).await,
        Kind::Add(add) => copy::perform(build, work, instruction, copy::Transfer::from(add), &running).await,
        _ => meta::apply(build, work, instruction).await,
    };
    match result {
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

/// Takes the layer of a step from the cache, or has it made and remembers it.
async fn through_cache(
    build: &Arc<Build>,
    work: &mut StageWork,
    keyed: Keyed,
    running: &Running,
    make: impl AsyncFnOnce(&StageWork, Option<String>) -> Result<String, Error>,
) -> Result<(), Error> {
    let (key, family) = (hex::encode(keyed.key), hex::encode(keyed.family));
    let (found, previous) = build.store.cached(&key, &family, &build.lease).await?;
    let uncached = uncached(build, work.index);
    if let (Some(record), None) = (&found, uncached) {
        build.cached.fetch_add(1, Ordering::Relaxed);
        work.draft.push_layer(record.layer.clone(), keyed.key, record.created, keyed.created_by);
        running.end(StepState::Cached).await;
        return Ok(());
    }
    let reason = match (uncached, &previous) {
        (Some(flag), _) => flag,
        (None, Some(_)) => "what it reads has changed",
        (None, None) => "",
    };
    let slot = build.slots.acquire().await.map_err(|_| Error::Cancelled)?;
    running.begin(reason).await;
    let layer = make(work, previous.map(|record| record.layer)).await?;
    drop(slot);
    // Whole milliseconds: what the cache gives back must be what the image was made with.
    let created = Timestamp::from_millisecond(Timestamp::now().as_millisecond()).unwrap_or_default();
    let description = keyed.created_by.clone();
    build.store.remember(CacheRecord { key, layer: layer.clone(), description, family, created }).await?;
    work.draft.push_layer(layer, keyed.key, created, keyed.created_by);
    running.end(StepState::Done).await;
    Ok(())
}
