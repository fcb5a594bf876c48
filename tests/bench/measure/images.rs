//! Measures with a large image: loaded, saved, removed, pulled, pushed. What makes room for it is not measured.

use std::{collections::BTreeSet, fs, io, path::Path, path::PathBuf, thread, time::Duration};

use super::{Measure, Places, milliseconds, task};
use crate::{
    Outcome,
    archive::LARGE,
    engine::{Engine, Task},
    memory,
    work::Work,
};

/// What the last removal left to do behind is not the next one's to wait for.
const SETTLE: Duration = Duration::from_millis(500);

/// What has to be there before, each time.
fn before(measure: Measure, places: &Places) -> Option<Task<'_>> {
    match measure {
        Measure::Rmi | Measure::RmiLarge | Measure::Push => Some(Task::Load(&places.archive)),
        Measure::PullShared => Some(Task::Pull(&places.shared[0])),
        _ => None,
    }
}

/// What puts it away again.
fn after(measure: Measure, places: &Places) -> Vec<Task<'_>> {
    match measure {
        Measure::Load | Measure::Unpack => vec![Task::RemoveImage(LARGE)],
        Measure::Pull | Measure::PullPeak => vec![Task::RemoveImage(&places.one)],
        Measure::PullMany => vec![Task::RemoveImage(&places.many)],
        Measure::PullPeakLarge => vec![Task::RemoveImage(&places.large_image)],
        Measure::PullShared => places.shared.iter().map(|name| Task::RemoveImage(name)).collect(),
        Measure::Push => vec![Task::RemoveImage(&places.pushed)],
        _ => vec![],
    }
}

/// Makes what a round starts from: images that nobody has seen.
pub(super) fn renew(measure: Measure, work: &Work, round: u32) -> Outcome<()> {
    let hub = || work.hub().ok_or("there is no registry");
    match measure {
        Measure::Load | Measure::Rmi => work.renew_archive(LARGE, round),
        Measure::RmiLarge => work.renew_larger_archive(LARGE, round),
        Measure::Save if round == 0 => work.renew_archive(LARGE, round),
        Measure::Push => work.renew_archive(&hub()?.pushed(), round),
        Measure::Pull | Measure::PullMany | Measure::PullPeak => hub()?.renew(&format!("{measure:?} {round}")),
        Measure::PullPeakLarge => hub()?.renew_large(&format!("{measure:?} {round}")),
        Measure::PullShared => hub()?.renew_shared(&format!("{measure:?} {round}")),
        Measure::Unpack => hub()?.write_large(&work.archive(), LARGE, &format!("round {round}")),
        _ => Ok(()),
    }
}

/// All tasks of one time, in their order.
pub(super) fn tasks(measure: Measure, places: &Places) -> Vec<Task<'_>> {
    let save = (measure == Measure::Save).then_some(Task::Load(&places.archive));
    let before = save.or(before(measure, places));
    before.into_iter().chain([task(measure, places)]).chain(after(measure, places)).collect()
}

/// Does it once with the large image; what makes room for it or puts it away again is not measured.
pub(super) fn perform(measure: Measure, engine: &dyn Engine, places: &Places, work: &Work) -> Option<Outcome<f64>> {
    if measure == Measure::Save {
        // Not every engine replaces a file.
        match fs::remove_file(&places.saved) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Some(Err(err.into())),
            _ => {}
        }
    }
    if let Some(task) = before(measure, places)
        && let Err(err) = engine.perform(task)?
    {
        return Some(Err(err));
    }
    thread::sleep(SETTLE);
    rustix::fs::sync();
    let task = task(measure, places);
    let figure = match measure {
        Measure::PullPeak | Measure::PullPeakLarge => peak_of_services(engine, task)?,
        Measure::PullShared => fetched(engine, task, work)?,
        _ => engine.perform(task)?.map(milliseconds),
    };
    if figure.is_ok() {
        for task in after(measure, places) {
            if let Err(err) = engine.perform(task)? {
                return Some(Err(err));
            }
        }
    }
    Some(figure)
}

/// What a pull fetches, in per cent of the one layer that is new; None: it cannot pull.
fn fetched(engine: &dyn Engine, task: Task<'_>, work: &Work) -> Option<Outcome<f64>> {
    let Some(hub) = work.hub() else { return Some(Err("there is no registry".into())) };
    hub.count();
    Some(engine.perform(task)?.and_then(|_| hub.counted()))
}

/// Of all services, together, while they do a task; None: it has none, or cannot.
fn peak_of_services(engine: &dyn Engine, task: Task<'_>) -> Option<Outcome<f64>> {
    let services = engine.services();
    if services.is_empty() {
        return None;
    }
    services.iter().for_each(|pid| memory::forget_peak(*pid));
    let done = engine.perform(task)?;
    Some(done.map(|_| engine.services().into_iter().map(memory::peak).sum()))
}

/// Looks whether what was saved is whole, and removes it and the image.
pub(super) fn check_saved(engine: &dyn Engine, work: &Work) -> Outcome<()> {
    let saved = work.saved(engine.name());
    let mut archive = tar::Archive::new(fs::File::open(&saved)?);
    let entries = archive.entries()?.map(|entry| Ok(entry?.path()?.into_owned()));
    let names = entries.collect::<io::Result<BTreeSet<PathBuf>>>()?;
    let (length, wanted) = (saved.metadata()?.len(), work.archive().metadata()?.len() / 2);
    if !names.contains(Path::new("manifest.json")) || length < wanted {
        return Err(format!("the saved archive is not whole: {length} bytes, {:?}", names).into());
    }
    fs::remove_file(saved)?;
    engine.perform(Task::RemoveImage(LARGE)).map_or(Ok(()), |done| done.map(drop))
}
