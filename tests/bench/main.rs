//! Measures ours against each peer found on PATH: the same image, the same Dockerfiles, one after the other in every round.
//!
//! A benchmark, not a timed test: nothing here fails because something was slow. What cannot be measured is named, with its reason.

use std::{
    env,
    error::Error,
    fs, io, panic,
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use clap::Parser;

mod archive;
mod catalog;
mod cgroups;
mod contexts;
mod disk;
mod engine;
mod hub;
mod layout;
mod machine;
mod measure;
mod memory;
mod processor;
mod report;
mod room;
mod unpack;
mod update;
mod work;

use disk::Disk;
use engine::{Buildah, Bundles, Containerd, Docker, Engine, Floor, Ours, Podman, Skopeo};
use hub::Hub;
use measure::Measure;
use report::Report;
use room::{Room, Tenant};
use work::Work;

/// Errors are read by the person who runs it, not by programs.
type Outcome<T> = Result<T, Box<dyn Error>>;

/// Starts an engine.
type Start<'a> = Box<dyn FnOnce() -> Outcome<Box<dyn Engine>> + 'a>;

/// Measures Strata against the peers found on PATH.
#[derive(Debug, Parser)]
#[command(name = "strata-bench")]
struct Options {
    /// Rounds of each measure; slow ones stop when their time is used up, after three at least
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Measure only these; may be repeated
    #[arg(long, value_name = "NAME", value_enum)]
    only: Vec<Measure>,
    /// Measure only these engines (ctl, ctl-erofs, strata-oci, floor, docker, podman, buildah, crun, runc,
    /// skopeo+umoci, containerd); may be repeated
    #[arg(long, value_name = "ENGINE")]
    engine: Vec<String>,
    /// File for the figures [default: target/bench/bench.json]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let mut words = env::args_os().skip(1);
    if words.next().is_some_and(|word| word == unpack::WORD) {
        return match unpack::main(words) {
            Ok(()) => ExitCode::SUCCESS,
            Err(err) => {
                eprintln!("{}: {err}", unpack::WORD);
                ExitCode::FAILURE
            }
        };
    }
    match bench(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("strata-bench: {err}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: &Options) -> Outcome<()> {
    if !rustix::process::geteuid().is_root() {
        return Err("containers need root here; run it with sudo".into());
    }
    room::leave_network()?;
    hear_interrupts();
    let cgroups = cgroups::Before::look();
    let has_state = fs::exists(room::STATE_OF_NETWORKS)?;
    let dir = tempfile::Builder::new().prefix("strata-bench-").tempdir_in("/var/tmp")?;
    let work = Work::new(dir.path())?;
    let mut report = Report::new(options.runs);
    let measured = measure_all(options, &work, &mut report);
    // Whatever went wrong, what was measured is worth printing.
    report.leftovers(cgroups.sweep());
    if let Err(err) = dir.close() {
        report.leftovers(vec![err.to_string()]);
    }
    // A directory that rooms needed to mount on.
    if !has_state
        && let Err(err) = fs::remove_dir(room::STATE_OF_NETWORKS)
        && err.kind() != io::ErrorKind::NotFound
    {
        report.leftovers(vec![format!("{}: {err}", room::STATE_OF_NETWORKS)]);
    }
    println!("{}", report.tables());
    // Half the figures are not to replace those of a whole run.
    measured?;
    let json = options.json.clone().unwrap_or_else(|| strata_tests::target().join("bench/bench.json"));
    if let Some(parent) = json.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&json, report.json())?;
    println!("written: {}", json.display());
    Ok(())
}

fn measure_all(options: &Options, work: &Work, report: &mut Report) -> Outcome<()> {
    let (of_images, of_containers): (Vec<_>, Vec<_>) =
        Measure::chosen(&options.only).into_iter().partition(|measure| measure.is_of_images());
    let disk = if of_images.is_empty() { None } else { Some(Disk::new(&work.home("disk")?)) };
    let mut measured = Ok(());
    if !of_containers.is_empty() {
        measured = with_engines(options, work, report, &of_containers, &ALL);
    }
    match disk {
        None => {}
        Some(Err(err)) => report.not_measured("images", &format!("there is no disk for them: {err}")),
        Some(Ok(disk)) => {
            if measured.is_ok() {
                measured = of_images_on(&disk, options, work, report, &of_images);
            }
            if let Err(err) = disk.close() {
                report.leftovers(vec![err.to_string()]);
            }
        }
    }
    measured
}

/// Measures images on a disk of their own, with a registry where one is asked for.
fn of_images_on(disk: &Disk, options: &Options, work: &Work, report: &mut Report, measures: &[Measure]) -> Outcome<()> {
    let needs_hub = measures.iter().any(|measure| measure.needs_hub());
    let hub = needs_hub.then(|| Hub::start(&work.hub_directory())).transpose()?;
    with_engines(options, &work.of_images(disk.path(), hub), report, measures, &OF_IMAGES)
}

/// Those that are compared. Ours comes first: ratios are to it.
const ALL: [&str; 8] = ["ctl", "strata-oci", "floor", "docker", "podman", "buildah", "crun", "runc"];
/// Those that do something with images by a command of their own.
const OF_IMAGES: [&str; 7] = ["ctl", "ctl-erofs", "floor", "docker", "podman", "containerd", "skopeo+umoci"];

fn start<'a>(name: &'a str, work: &'a Work, room: &'a Room) -> Start<'a> {
    match name {
        "ctl" => Box::new(|| Ok(Box::new(Ours::start("ctl", "", work, room)?) as Box<dyn Engine>)),
        "ctl-erofs" => {
            let settings = "layer_backend = \"erofs\"\n";
            Box::new(move || Ok(Box::new(Ours::start("ctl-erofs", settings, work, room)?)))
        }
        "strata-oci" => Box::new(|| Ok(Box::new(Bundles::strata_oci(work, room)?))),
        "floor" => Box::new(|| Ok(Box::new(Floor::start(work, room)?))),
        "docker" => Box::new(|| Ok(Box::new(Docker::start(work, room)?))),
        "podman" => Box::new(|| Ok(Box::new(Podman::start(work, room)?))),
        "containerd" => Box::new(|| Ok(Box::new(Containerd::start(work, room)?))),
        "skopeo+umoci" => Box::new(|| Ok(Box::new(Skopeo::start(work, room)?))),
        "buildah" => Box::new(|| Ok(Box::new(Buildah::start(work, room)?))),
        runtime => Box::new(move || Ok(Box::new(Bundles::of_peer(runtime, work, room)?))),
    }
}

/// Starts engines, measures with them, and puts them away.
fn with_engines(
    options: &Options,
    work: &Work,
    report: &mut Report,
    measures: &[Measure],
    names: &[&str],
) -> Outcome<()> {
    let mut engines: Vec<Box<dyn Engine>> = vec![];
    for name in names {
        go_on()?;
        if !options.engine.is_empty() && !options.engine.iter().any(|engine| engine == name) {
            report.not_measured(name, "not asked for");
            continue;
        }
        eprintln!("preparing {name}");
        // Those that share a registry share its network.
        let tenant = if name.starts_with("ctl") { Tenant::Ours } else { Tenant::Peer };
        let room = Room::open(tenant, work.hub().is_none())?;
        match start(name, work, &room)() {
            Ok(engine) => {
                report.engine(engine.name(), engine.version());
                engines.push(engine);
            }
            Err(err) => report.not_measured(name, &err.to_string()),
        }
    }
    let measured = measures.iter().try_for_each(|measure| {
        eprintln!("measuring {}", measure.title());
        report.section(measure.section());
        measure::measure(*measure, &engines, work, options.runs, report)
    });
    for mut engine in engines {
        if let Err(err) = engine.close() {
            report.leftovers(vec![format!("{}: {err}", engine.name())]);
        }
        // A house that finds leaks panics when it is dropped; the report has them already.
        let _ = panic::catch_unwind(panic::AssertUnwindSafe(|| drop(engine)));
    }
    measured
}

/// Set by Ctrl-C, which also reaches the command that runs: this program lives on to put things away.
static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Fails after Ctrl-C.
fn go_on() -> Outcome<()> {
    if IS_INTERRUPTED.load(Ordering::Relaxed) { Err("interrupted".into()) } else { Ok(()) }
}

fn hear_interrupts() {
    thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            while tokio::signal::ctrl_c().await.is_ok() {
                IS_INTERRUPTED.store(true, Ordering::Relaxed);
            }
        });
    });
}
