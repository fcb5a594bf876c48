//! The order in which files of this service reach the disk: temporary file, data, rename, directory.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::{error::Error, record::Durability};

/// Writes a file for this service's user alone, in place of the one before: it is there as a whole or not at all. Until then
/// it has the name `temp`, in the same directory.
pub fn replace(path: &Path, temp: &Path, bytes: &[u8], durability: Durability) -> Result<(), Error> {
    let opened = File::options().create(true).truncate(true).write(true).mode(0o600).open(temp);
    let mut file = opened.map_err(|e| Error::io("open", temp, e))?;
    if let Err(error) = file.write_all(bytes) {
        // What was before stays; half of what is new would only take space.
        let _ = fs::remove_file(temp);
        return Err(Error::io("write", temp, error));
    }
    if durability == Durability::Synced {
        file.sync_data().map_err(|e| Error::io("sync", temp, e))?;
    }
    fs::rename(temp, path).map_err(|e| Error::io("rename", temp, e))?;
    match (durability, path.parent()) {
        (Durability::Synced, Some(directory)) => sync_dir(directory),
        _ => Ok(()),
    }
}

/// Brings a file that was written, and its name, to the disk.
pub fn sync(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|file| file.sync_data()).map_err(|e| Error::io("sync", path, e))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Brings the names in a directory to the disk.
pub fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| Error::io("sync", dir, e))
}
