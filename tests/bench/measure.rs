//! The measures. In each round every engine does the same once, in an order that changes: none always follows the same one.

use std::{
    collections::BTreeMap,
    error::Error,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use clap::ValueEnum;

use crate::{
    Outcome,
    archive::LARGE,
    catalog,
    engine::{Cache, Engine, IMAGE, Task},
    hub::Hub,
    report::{Cell, Report, Samples, Section, Unit},
    room::Done,
    update,
    work::{CHANGED, STEPS, Work},
};

mod builds;
mod crowds;
mod images;
mod line;
mod logs;
mod networks;
mod resident;

/// Rounds that even a slow measure gets.
const FEWEST: u32 = 3;
/// A measure stops after this, if it had so many.
const TIME: Duration = Duration::from_secs(40);
/// Containers that are started at once.
const TOGETHER: usize = 100;
/// Long enough for what the last run left in the kernel to settle.
const IDLE: Duration = Duration::from_millis(150);
/// Name of the container for `exec`.
const NAME: &str = "bench-exec";
/// Unlikely words, so that its processes are found.
const SLEEP: &str = "86399";
/// After this much quiet, what services keep is what they need.
const QUIET: Duration = Duration::from_secs(2);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Measure {
    /// `run --rm --network none` of a static no-op
    Run,
    /// The same by runtimes alone, just after another one
    Again,
    /// The same after a while without any
    Idle,
    /// A hundred of them at once
    Together,
    /// What a runtime has in memory at most while it runs one
    Peak,
    /// `run --rm` of it on the network that containers have without being told
    Bridge,
    /// `run -d` with a published port
    Publish,
    /// Streams and connections between two containers, and through a published port
    Paths,
    /// A look-up of another container's name
    Names,
    /// `network connect` to a network with nobody in it, and with 300 containers
    Crowd,
    /// `exec` of it in a running container
    Exec,
    /// A build of 1,000 files, all cached
    Cached,
    /// The same with one file changed
    Changed,
    /// A build of 100,000 files, all cached
    Many,
    /// One of 10,000 files and a RUN, with one file changed
    One,
    /// Of 20 stages side by side, with 20 RUN and 29 COPY, without cache
    Graph,
    /// Of 500 MB that nobody has seen
    Large,
    /// What builds has in memory at most, with 100,000 files and without cache
    BuildPeak,
    /// A build of 20 RUN steps without cache; after those with: what it leaves slows peers down when they search their cache
    Steps,
    /// What a step costs in a short chain and in the longest
    PerStep,
    /// What a cached build costs with few records in the cache and with a million
    Records,
    /// Resident memory, idle and per container
    Memory,
    /// The next container among 300 that run, and what those cost
    Running,
    /// A hundred `run -d` at once
    Starts,
    /// `logs --tail 10` of a log of 1 GiB
    Tail,
    /// Resident memory of services that have just started
    Fresh,
    /// `load` of a Debian image that is new in every round
    Load,
    /// `save` of it
    Save,
    /// `rmi` of it
    Rmi,
    /// `rmi` of an image of 500 MB
    RmiLarge,
    /// Pull of an image in one layer, until a container of it has run
    Pull,
    /// The same in ten layers
    PullMany,
    /// What is fetched of an image of ten layers when another one is there that shares nine
    PullShared,
    /// What the services have in memory at most during the first of these
    PullPeak,
    /// The same during a pull of 425 MB
    PullPeakLarge,
    /// `push` of a loaded image
    Push,
    /// `load` of a larger image in one compressed layer
    Unpack,
    /// What `image cp` moves of a security update of a base image
    Update,
    /// A store with 10,000 images
    Catalog,
}

impl Measure {
    /// Those that were asked for, or all.
    pub(crate) fn chosen(only: &[Self]) -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        all.filter(|measure| only.is_empty() || only.contains(measure)).collect()
    }

    /// Is it about runtimes alone?
    fn is_of_runtimes(self) -> bool {
        matches!(self, Self::Again | Self::Idle | Self::Together | Self::Peak)
    }

    /// Is it about images on disk? Those are measured on a disk of their own.
    pub(crate) fn is_of_images(self) -> bool {
        let is_local = matches!(self, Self::Load | Self::Save | Self::Rmi | Self::RmiLarge);
        is_local || self.needs_hub() || matches!(self, Self::Update | Self::Catalog)
    }

    /// Does it need a registry, or its layers?
    pub(crate) fn needs_hub(self) -> bool {
        let is_pull = matches!(self, Self::Pull | Self::PullMany | Self::PullShared | Self::PullPeak);
        is_pull || matches!(self, Self::PullPeakLarge | Self::Push | Self::Unpack)
    }

    /// Whose table it is in.
    pub(crate) fn section(self) -> Section {
        match self {
            Self::Bridge | Self::Publish | Self::Paths | Self::Names | Self::Crowd => Section::Networks,
            Self::Cached | Self::Changed | Self::Many | Self::One | Self::Graph | Self::Large => Section::Builds,
            Self::BuildPeak | Self::Steps | Self::PerStep | Self::Records => Section::Builds,
            Self::Running | Self::Starts | Self::Tail | Self::Fresh => Section::Lives,
            _ if self.is_of_images() => Section::Images,
            _ => Section::Containers,
        }
    }

    /// As the table names it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Run => "run --rm --network none",
            Self::Again => "bundle, back to back",
            Self::Idle => "bundle, after 150 ms of idle",
            Self::Together => "100 bundles at once",
            Self::Peak => "bundle, peak memory of the runtime",
            Self::Bridge => "run --rm, default network",
            Self::Publish => "run -d -p",
            Self::Paths => "paths of networks",
            Self::Names => "look-up of a name",
            Self::Crowd => "network connect",
            Self::Exec => "exec",
            Self::Steps => "build, 20 RUN steps, no cache",
            Self::Cached => "build, 1,000 files, all cached",
            Self::Changed => "build, 1,000 files, one changed",
            Self::Many => "build, 100,000 files, all cached",
            Self::One => "build, 10,000 files, one changed, and RUN",
            Self::Graph => "build, 20 stages, 20 RUN, 29 COPY, no cache",
            Self::Large => "build, COPY of 500 MB",
            Self::BuildPeak => "build, 100,000 files, peak memory",
            Self::PerStep => "build, per step",
            Self::Records => "build, records of the cache",
            Self::Memory => "memory",
            Self::Running => "300 containers that run",
            Self::Starts => "run -d, 100 at once",
            Self::Tail => "logs --tail 10, of 1 GiB",
            Self::Fresh => "idle services, just started, PSS",
            Self::Load => "load, Debian in one plain layer",
            Self::Save => "save, Debian",
            Self::Rmi => "rmi, Debian",
            Self::RmiLarge => "rmi, 500 MB",
            Self::Pull => "pull and run, 1 layer of 196 MB",
            Self::PullMany => "pull and run, 10 layers of that",
            Self::PullShared => "pull, 9 of 10 there: of the 10th",
            Self::PullPeak => "pull, peak memory of services",
            Self::PullPeakLarge => "pull of 425 MB, peak of services",
            Self::Push => "push, Debian, not compressed yet",
            Self::Unpack => "load, 425 MB in one gzip layer",
            Self::Update => "image cp, an update: of its layer",
            Self::Catalog => "a store with 10,000 images",
        }
    }
}

type Engines = [Box<dyn Engine>];

/// Measures with all engines.
pub(crate) fn measure(measure: Measure, engines: &Engines, work: &Work, runs: u32, report: &mut Report) -> Outcome<()> {
    match measure {
        Measure::Memory => return resident::measure(engines, report),
        Measure::Running => return crowds::measure(engines, runs, report),
        Measure::Tail => return logs::measure(engines, runs, report),
        Measure::Fresh => return resident::fresh(engines, work, report),
        Measure::Update => return update::measure(work, report),
        Measure::Catalog => return catalog::measure(work, runs, report),
        Measure::Paths => return networks::paths(engines, runs, report),
        Measure::Names => return networks::names(engines, runs, report),
        Measure::Crowd => return networks::crowds(engines, runs, report),
        Measure::PerStep => return builds::chains(engines, work, runs, report),
        Measure::Records => return builds::records(work, runs, report),
        _ => {}
    }
    images::renew(measure, work, 0)?;
    builds::renew(measure, work, 0)?;
    let mut states: Vec<State> = engines.iter().map(|engine| prepare(measure, engine.as_ref(), work)).collect();
    let start = Instant::now();
    let mut last = 0;
    for round in 0..runs {
        if round >= FEWEST && start.elapsed() > TIME {
            break;
        }
        if measure == Measure::Changed {
            work.change(round + 1)?;
        }
        images::renew(measure, work, round + 1)?;
        builds::renew(measure, work, round + 1)?;
        last = round + 1;
        for index in order(engines.len(), round) {
            if let State::Sampled(samples) = &mut states[index] {
                crate::go_on()?;
                // What one has not written yet is not the next one's to wait for.
                rustix::fs::sync();
                match perform(measure, engines[index].as_ref(), work) {
                    Some(Ok(figure)) => samples.push(figure),
                    Some(Err(err)) => states[index] = State::Failed(err.to_string()),
                    None => states[index] = State::Absent,
                }
            }
        }
    }
    let mut cells = BTreeMap::new();
    for (engine, state) in engines.iter().zip(states) {
        let checked = match state {
            State::Sampled(samples) => finish(measure, engine.as_ref(), work, last).map(|()| Cell::Samples(samples)),
            State::Failed(reason) => Ok(Cell::Failed(reason)),
            State::Absent => Ok(Cell::Absent),
        };
        cells.insert(engine.name().to_owned(), checked.unwrap_or_else(failed));
    }
    let unit = match measure {
        Measure::Peak | Measure::PullPeak | Measure::PullPeakLarge | Measure::BuildPeak => Unit::Mebibytes,
        Measure::PullShared => Unit::Percent,
        _ => Unit::Milliseconds,
    };
    report.row(measure.title(), unit, cells);
    Ok(())
}

enum State {
    Sampled(Samples),
    Failed(String),
    Absent,
}

fn failed(err: Box<dyn Error>) -> Cell {
    Cell::Failed(err.to_string())
}

/// A permutation of the engines, different in each round and the same in each run.
fn order(number: usize, round: u32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..number).collect();
    let mut state = u64::from(round) + 1;
    for last in (1..number).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(last, (state >> 33) as usize % (last + 1));
    }
    order
}

/// Makes what the measure starts from, and does it once unmeasured, so that caches are warm for all; the slow one does without.
fn prepare(measure: Measure, engine: &dyn Engine, work: &Work) -> State {
    if measure.is_of_runtimes() && !engine.is_runtime() {
        return State::Absent;
    }
    if matches!(measure, Measure::Bridge | Measure::Publish) {
        return match perform(measure, engine, work) {
            Some(Ok(_)) => State::Sampled(Samples::default()),
            Some(Err(err)) => State::Failed(err.to_string()),
            None => State::Absent,
        };
    }
    let places = Places::of(work, engine);
    let mut tasks = vec![];
    if measure == Measure::Exec {
        tasks.push(Task::Start(NAME, SLEEP));
    }
    if measure.is_of_images() {
        tasks.extend(images::tasks(measure, &places));
    } else if !matches!(measure, Measure::Steps | Measure::Graph | Measure::BuildPeak) {
        tasks.push(task(measure, &places));
    }
    for task in tasks {
        match engine.perform(task) {
            Some(Ok(_)) => {}
            Some(Err(err)) => return State::Failed(err.to_string()),
            None => return State::Absent,
        }
    }
    State::Sampled(Samples::default())
}

/// Paths that tasks name.
struct Places {
    files: PathBuf,
    steps: PathBuf,
    many_files: PathBuf,
    ten_files: PathBuf,
    graph: PathBuf,
    large: PathBuf,
    archive: PathBuf,
    saved: PathBuf,
    one: String,
    many: String,
    large_image: String,
    shared: [String; 2],
    pushed: String,
}

impl Places {
    fn of(work: &Work, engine: &dyn Engine) -> Self {
        let name = |of: fn(&Hub) -> String| work.hub().map(of).unwrap_or_default();
        Self {
            files: work.files(),
            steps: work.steps(),
            many_files: work.many(),
            ten_files: work.ten(),
            graph: work.graph(),
            large: work.large(),
            archive: work.archive(),
            saved: work.saved(engine.name()),
            one: name(Hub::one),
            many: name(Hub::many),
            large_image: name(Hub::large),
            shared: work.hub().map(Hub::shared).unwrap_or_default(),
            pushed: name(Hub::pushed),
        }
    }
}

fn task(measure: Measure, places: &Places) -> Task<'_> {
    match measure {
        Measure::Exec => Task::Exec(NAME, &["noop"]),
        Measure::Steps => Task::Build(&places.steps, "steps", Cache::Ignored),
        Measure::Cached | Measure::Changed => Task::Build(&places.files, "files", Cache::Used),
        Measure::Many => Task::Build(&places.many_files, "many", Cache::Used),
        Measure::One => Task::Build(&places.ten_files, "ten", Cache::Used),
        Measure::Graph => Task::Build(&places.graph, "graph", Cache::Ignored),
        Measure::Large => Task::Build(&places.large, "large", Cache::Used),
        Measure::BuildPeak => Task::Build(&places.many_files, "many", Cache::Ignored),
        Measure::Load => Task::Load(&places.archive),
        Measure::Save => Task::Save(LARGE, &places.saved),
        Measure::Rmi | Measure::RmiLarge => Task::RemoveImage(LARGE),
        Measure::Pull | Measure::PullPeak => Task::Pull(&places.one),
        Measure::PullMany => Task::Pull(&places.many),
        Measure::PullShared => Task::Pull(&places.shared[1]),
        Measure::PullPeakLarge => Task::Pull(&places.large_image),
        Measure::Push => Task::Push(&places.pushed),
        Measure::Unpack => Task::LoadLayout(&places.archive),
        _ => Task::Run(IMAGE, &["noop"]),
    }
}

/// Does it once; returns its figure.
fn perform(measure: Measure, engine: &dyn Engine, work: &Work) -> Option<Outcome<f64>> {
    let places = Places::of(work, engine);
    let task = task(measure, &places);
    match measure {
        Measure::Bridge => return networks::bridged(engine),
        Measure::Publish => return networks::published(engine),
        _ if measure.is_of_images() => return images::perform(measure, engine, &places, work),
        Measure::Again => {
            if let Err(err) = engine.perform(task)? {
                return Some(Err(err));
            }
        }
        Measure::Idle => thread::sleep(IDLE),
        Measure::Together => return Some(engine.together(TOGETHER)?.map(milliseconds)),
        Measure::Starts => return crowds::at_once(engine),
        Measure::Peak => return Some(peak(engine, task)),
        Measure::BuildPeak => {
            let small = Task::Build(&places.files, "files", Cache::Used);
            return builds::peak_of_builders(engine, task, small);
        }
        _ => {}
    }
    Some(engine.perform(task)?.map(milliseconds))
}

fn milliseconds(done: Done) -> f64 {
    done.took.as_secs_f64() * 1000.0
}

/// Runs a task below the guest, which is smaller than what it measures; this program is not.
fn peak(engine: &dyn Engine, task: Task<'_>) -> Outcome<f64> {
    let command = engine.command(task).ok_or("it runs no-ops")?;
    let mut below = Command::new(strata_tests::guest());
    below.arg("peak").arg(command.get_program()).args(command.get_args());
    let done = engine.finish(below)?;
    let kibibytes: f64 = done.stdout.trim().strip_prefix("peak ").ok_or("the guest tells the peak")?.parse()?;
    Ok(kibibytes / 1024.0)
}

/// Looks whether the work was done, and puts things away.
fn finish(measure: Measure, engine: &dyn Engine, work: &Work, round: u32) -> Outcome<()> {
    let says = |image: &str, path: &str, wanted: &str| {
        let mut said = String::new();
        // Under load, attaching to what ends at once has lost its output: podman did once. A wrong image stays wrong.
        for _ in 0..3 {
            let Some(done) = engine.perform(Task::Run(image, &["read", path])) else { return Ok(()) };
            said = done?.stdout;
            if said.trim_end() == wanted.trim_end() {
                return Ok(());
            }
        }
        said.truncate(said.floor_char_boundary(80));
        Err(format!("{path} of the built image {image} is wrong: {said:?}").into())
    };
    match measure {
        Measure::Exec => engine.perform(Task::Remove(NAME)).map_or(Ok(()), |done| done.map(drop)),
        Measure::Save => images::check_saved(engine, work),
        Measure::Steps => says("steps", &format!("/f{STEPS}"), "x"),
        Measure::Cached | Measure::Changed => {
            let inside = CHANGED.strip_prefix("/app/").ok_or("it lies below /app")?;
            says("files", CHANGED, &std::fs::read_to_string(work.files().join(inside))?)
        }
        _ => match builds::result(measure, round) {
            Some((image, path, wanted)) => says(image, &path, &wanted),
            None => Ok(()),
        },
    }
}
