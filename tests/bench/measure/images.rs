//! Measures with a large image: loaded, saved, removed. What makes room for it is not measured.

use std::{collections::BTreeSet, fs, io, path::Path, path::PathBuf};

use super::{Measure, Places, milliseconds, task};
use crate::{
    Outcome,
    archive::LARGE,
    engine::{Engine, Task},
    work::Work,
};

/// Does it once with the large image; what makes room for it or puts it away again is not measured.
pub(super) fn perform(measure: Measure, engine: &dyn Engine, places: &Places) -> Option<Outcome<f64>> {
    if measure == Measure::Save {
        // Not every engine replaces a file.
        match fs::remove_file(&places.saved) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Some(Err(err.into())),
            _ => {}
        }
    }
    if measure == Measure::Rmi {
        if let Err(err) = engine.perform(Task::Load(&places.archive))? {
            return Some(Err(err));
        }
        rustix::fs::sync();
    }
    let figure = match engine.perform(task(measure, places))? {
        Ok(done) => milliseconds(done),
        Err(err) => return Some(Err(err)),
    };
    if measure == Measure::Load
        && let Err(err) = engine.perform(Task::RemoveImage(LARGE))?
    {
        return Some(Err(err));
    }
    Some(Ok(figure))
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
