//! Stages side by side: each is built once, when the target, another stage or a trigger needs it. The first failure ends
//! every other stage; dropping the future cancels everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use strata_dockerfile::{Instruction, Span, parse_trigger};
use strata_rpc::spans::carry;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::error::Error;
use crate::graph::{self, Origin, leads_to};
use crate::image::Draft;
use crate::progress::StepState;
use crate::scope::Scope;
use crate::solve::{Build, StageWork};
use crate::step;
use crate::steps::{self, Place};

/// A finished stage; none while it is being built.
type Outcome = Option<Arc<StageWork>>;

/// A stage that somebody needs, and where its result goes.
pub type Wanted = (usize, watch::Sender<Outcome>);

/// The stages that are being built or have been.
#[derive(Debug)]
pub struct Stages {
    results: Mutex<BTreeMap<usize, watch::Receiver<Outcome>>>,
    wanted: mpsc::Sender<Wanted>,
    /// Which stage waits, or waited, for which.
    waits: Mutex<BTreeMap<usize, BTreeSet<usize>>>,
}

impl Stages {
    /// The stages of a file with so many of them. Those that somebody needs come out of the receiver, each once.
    pub fn new(count: usize) -> (Self, mpsc::Receiver<Wanted>) {
        let (wanted, receiver) = mpsc::channel(count.max(1));
        (Self { results: Mutex::default(), wanted, waits: Mutex::default() }, receiver)
    }

    /// Has a stage built, if it is not yet.
    fn want(&self, index: usize) -> watch::Receiver<Outcome> {
        let mut results = self.results.lock().expect("no holder of this lock panics");
        let start = || {
            let (sender, receiver) = watch::channel(None);
            // There is room for every stage, and each comes here once.
            let _ = self.wanted.try_send((index, sender));
            receiver
        };
        results.entry(index).or_insert_with(start).clone()
    }

    /// The result of stage `index` for stage `asker`, which names it at `span`.
    pub async fn wait(&self, build: &Build, asker: usize, index: usize, span: Span) -> Result<Arc<StageWork>, Error> {
        {
            let mut waits = self.waits.lock().expect("no holder of this lock panics");
            if leads_to(&waits, index, asker) {
                let name = graph::title(&build.file.stages[index]);
                return Err(build.mistake(span, format!("stage {name} needs this stage itself")));
            }
            waits.entry(asker).or_default().insert(index);
        }
        let mut receiver = self.want(index);
        // The sender goes without a value only when its stage failed: that failure is what the build reports.
        let result = receiver.wait_for(Option::is_some).await.map_err(|_| Error::Cancelled)?;
        result.clone().ok_or(Error::Cancelled)
    }
}

/// Builds the target and all that it needs.
pub async fn run(build: &Arc<Build>, mut wanted: mpsc::Receiver<Wanted>) -> Result<Arc<StageWork>, Error> {
    for &index in &build.graph.needed {
        build.stages.want(index);
    }
    let target = build.stages.want(build.graph.target);
    let mut tasks = JoinSet::new();
    loop {
        // What a task asks for is in the channel before it ends.
        while let Ok(one) = wanted.try_recv() {
            tasks.spawn(carry(one_stage(build.clone(), one)));
        }
        let ended = tokio::select! {
            Some(one) = wanted.recv() => {
                tasks.spawn(carry(one_stage(build.clone(), one)));
                continue;
            }
            ended = tasks.join_next() => ended,
        };
        match ended {
            None => break,
            Some(Ok(result)) => result?,
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Some(Err(_)) => return Err(Error::Cancelled),
        }
    }
    let result = target.borrow().clone();
    result.ok_or(Error::Cancelled)
}

async fn one_stage(build: Arc<Build>, (index, sender): Wanted) -> Result<(), Error> {
    let done = stage(&build, index).await?;
    // Whoever waits is a task of the same build.
    let _ = sender.send(Some(Arc::new(done)));
    Ok(())
}

async fn stage(build: &Arc<Build>, index: usize) -> Result<StageWork, Error> {
    let mut work = base(build, index).await?;
    if build.graph.plans[index].is_replaced {
        return Ok(work);
    }
    work.draft.set_default_path();
    work.triggers = triggers(build, &mut work).await?;
    for (at, trigger) in work.triggers.clone().iter().enumerate() {
        let done = step::perform(build, &mut work, Place::Trigger(at), trigger).await;
        done.map_err(|error| build.blame_base(index, &trigger.original, error))?;
    }
    for (at, instruction) in build.file.stages[index].instructions.iter().enumerate() {
        step::perform(build, &mut work, Place::Instruction(at), instruction).await?;
    }
    Ok(work)
}

async fn base(build: &Arc<Build>, index: usize) -> Result<StageWork, Error> {
    let plan = &build.graph.plans[index];
    let span = build.file.stages[index].base.span;
    match &plan.base {
        // Docker takes no notice of --platform here.
        Origin::Scratch => Ok(StageWork::new(index, Draft::scratch(&build.platform), Scope::new(&build.globals))),
        Origin::Stage(earlier) => {
            let earlier = build.stages.wait(build, index, *earlier, span).await?;
            Ok(StageWork::new(index, earlier.draft.derive(), earlier.scope.clone()))
        }
        Origin::Context(name) => {
            let stage = &build.file.stages[index];
            let step = build.steps.number(index, Place::From);
            let shown = steps::name(&build.file, &plan.base, index, (Place::From, &[]), &format!("FROM {name}"));
            let running = build.progress.running(step, &shown, stage.line as u32);
            running.begin("");
            match running.within(build.whole_context(name, span, &running)).await {
                Ok(layer) => {
                    let mut draft = Draft::scratch(&build.platform);
                    draft.start_from(layer);
                    draft.step = Some(step);
                    running.end(StepState::Done);
                    Ok(StageWork::new(index, draft, Scope::new(&build.globals)))
                }
                Err(error) => {
                    running.fail(&error);
                    Err(error)
                }
            }
        }
        Origin::Image(name) => {
            let stage = &build.file.stages[index];
            let step = build.steps.number(index, Place::From);
            let shown = steps::name(&build.file, &plan.base, index, (Place::From, &[]), &format!("FROM {name}"));
            let running = build.progress.running(step, &shown, stage.line as u32);
            let platform = plan.platform.as_ref().or(build.request.platform.as_ref());
            match running.within(build.image(name, platform, span, &running)).await {
                Ok((mut draft, state)) => {
                    build.count(state);
                    draft.step = Some(step);
                    running.end(state);
                    let scope = Scope::new(&build.globals);
                    Ok(StageWork::new(index, draft, scope))
                }
                Err(error) => {
                    running.fail(&error);
                    Err(error)
                }
            }
        }
    }
}

/// Takes the triggers of what a stage starts from: they are instructions of this stage, before its own. Stages that they
/// read are asked for at once, so that those are built beside this one.
async fn triggers(build: &Arc<Build>, work: &mut StageWork) -> Result<Vec<Instruction>, Error> {
    let expressions = std::mem::take(&mut work.draft.config.config.on_build);
    let mut triggers = Vec::with_capacity(expressions.len());
    for expression in &expressions {
        let refused = |error| build.blame_base(work.index, expression, error);
        let parsed = parse_trigger(expression, &build.request.dockerfile_name);
        let (_, trigger) = parsed.map_err(|problem| refused(Error::Dockerfile(Box::new(problem))))?;
        for other in graph::read_stages(&build.file, &build.contexts, work.index, &trigger).map_err(refused)? {
            build.stages.want(other);
        }
        triggers.push(trigger);
    }
    let base = &build.graph.plans[work.index].base;
    for (at, trigger) in triggers.iter().enumerate().filter(|(_, trigger)| graph::makes_layer(&trigger.kind)) {
        let place = Place::Trigger(at);
        let name = steps::name(&build.file, base, work.index, (place, &triggers), &trigger.original);
        let line = build.file.stages[work.index].line as u32;
        build.progress.waiting(build.steps.number(work.index, place), &name, line);
    }
    Ok(triggers)
}
