//! The directories of cache mounts: made, filled, measured, and as archives.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Gid, Mode, OFlags, Uid};
use strata_archive::{ApplyOptions, Whiteouts};

use super::{Hold, Seed};
use crate::catalog::{MountRow, blocking};
use crate::tree::View;
use crate::{Error, Result, Store, layer};

/// Name of what is mounted, in the directory of a mount.
pub(super) const DATA: &str = "data";

/// Makes the directory of a mount, unless it is there. It has its name when it is whole.
pub(super) async fn make(store: &Arc<Store>, number: u64, seed: &Seed) -> Result<()> {
    let directory = store.paths.cache_mount(number);
    if directory.join(DATA).is_dir() {
        return Ok(());
    }
    // Steps that share it may come at once.
    let _making = store.cache_mounts.making.lock().await;
    if directory.join(DATA).is_dir() {
        return Ok(());
    }
    let source = match seed.layers.is_empty() {
        true => None,
        false => Some(source(store, seed).await?),
    };
    let (mode, owner, trash) = (seed.mode, seed.owner, store.trash.clone());
    let new = directory.join("new");
    blocking(move || {
        trash.discard(&new)?;
        create(&directory)?;
        create(&new)?;
        set(&new, mode.unwrap_or(0o755), owner.unwrap_or_default())?;
        if let Some(source) = source {
            let out = io::pipe().map_err(|error| Error::io("fill", &new, error))?;
            copy(source, &new, out)?;
            // The archive has brought those of the source.
            if mode.is_some() || owner.is_some() {
                let found = fs::metadata(&new).map_err(|error| Error::io("look at", &new, error))?;
                let owner = owner.unwrap_or((found.uid(), found.gid()));
                set(&new, mode.unwrap_or(found.mode() & 0o7777), owner)?;
            }
        }
        fs::rename(&new, directory.join(DATA)).map_err(|error| Error::io("rename", new, error))
    })
    .await
}

fn create(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Error::io("make directory", path, error)),
        _ => Ok(()),
    }
}

fn set(path: &Path, mode: u32, (uid, gid): (u32, u32)) -> Result<()> {
    rustix::fs::chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .map_err(|error| Error::io("change the owner of", path, error))?;
    // Whatever the mask of this process is; and a change of owner takes set-id bits away.
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|error| Error::io("restrict", path, error))
}

/// The directory that a mount is filled from, inside its tree.
async fn source(store: &Arc<Store>, seed: &Seed) -> Result<(View, OwnedFd)> {
    let view = layer::view(store, &seed.layers).await?;
    let path = seed.path.clone();
    blocking(move || {
        let found = view.lookup(&path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|error| {
            Error::invalid("seed.path", format!("{} is no directory of these layers: {error}", path.display()))
        })?;
        Ok((view, found))
    })
    .await
}

fn copy(
    (_view, source): (View, OwnedFd),
    target: &Path,
    (reader, writer): (io::PipeReader, io::PipeWriter),
) -> Result<()> {
    std::thread::scope(|scope| {
        let exporting = scope.spawn(move || strata_archive::export(source.as_fd(), io::BufWriter::new(writer)));
        let applied = apply(reader, target);
        let exported =
            exporting.join().map_err(|_| Error::io("fill", target, io::Error::other("a thread panicked")))?;
        // A reader that gave up is why the writer did.
        applied.and(exported.map(drop).map_err(|source| Error::Archive { source }))
    })
}

/// Puts the entries of an archive into a directory.
fn apply(archive: impl Read, target: &Path) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(target, flags, Mode::empty()).map_err(|error| Error::io("open", target, error))?;
    let options = ApplyOptions { whiteouts: Whiteouts::Literal, ..ApplyOptions::default() };
    strata_archive::apply(archive, root.as_fd(), &options).map(drop).map_err(|source| Error::Archive { source })
}

/// Writes what is in a mount as one tar, on a thread that may block. Whoever has it may go on writing to it.
pub fn export(store: &Arc<Store>, row: &MountRow, out: impl Write) -> Result<()> {
    let path = store.paths.cache_mount(row.directory).join(DATA);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&path, flags, Mode::empty()).map_err(|error| Error::io("open", &path, error))?;
    strata_archive::export(root.as_fd(), out).map(drop).map_err(|source| Error::Archive { source })
}

/// Makes a mount of an archive, in place of the ones of its id that nobody has; one that is in use is an error.
pub async fn import(store: &Arc<Store>, id: &str, archive: impl Read + Send + 'static) -> Result<MountRow> {
    super::check_id(id)?;
    let before = store.catalog.mounts_of(id, "").await?;
    if before.iter().any(|row| store.cache_mounts.has(row)) {
        return Err(Error::CacheMountInUse { id: id.to_owned() });
    }
    let row = store.catalog.create_mount(id, "").await?;
    if !store.cache_mounts.take_alone(&row) {
        return Err(Error::CacheMountInUse { id: id.to_owned() });
    }
    let held = Hold::new(store, row.clone(), true);
    make(store, row.directory, &Seed::default()).await?;
    let path = held.path();
    let applied = blocking(move || apply(archive, &path)).await;
    if applied.is_ok() {
        for old in &before {
            super::remove(store, old).await?;
        }
    }
    drop(held);
    if let Err(error) = applied {
        // Half of an archive is worse than none.
        super::remove(store, &row).await?;
        return Err(error);
    }
    Ok(row)
}
