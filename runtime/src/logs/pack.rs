//! Compresses what rotation has put aside. The monitor moves names meanwhile: a file is known by its inode, and takes its
//! compressed form's name only while the directory is locked.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use flate2::{Compression, GzBuilder};
use rustix::fs::FlockOperation;

use super::files::{lock, names};
use crate::error::Error;

/// One at a time: it is no work to be in a hurry with.
static PACKING: Mutex<()> = Mutex::new(());

/// Compresses every older file of a log that is not compressed yet.
pub fn pack(path: &Path) -> Result<(), Error> {
    let _turn = PACKING.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(file) = first_plain(path) {
        pack_one(path, &file).map_err(|e| Error::io("compress", path, e))?;
    }
    Ok(())
}

/// The newest of the older files that is not compressed.
fn first_plain(path: &Path) -> Option<File> {
    let _lock = lock(path, FlockOperation::NonBlockingLockShared);
    for number in 1.. {
        let [plain, packed] = names(path, number);
        match File::open(plain) {
            Ok(file) => return Some(file),
            Err(_) if packed.exists() => {}
            Err(_) => return None,
        }
    }
    None
}

fn pack_one(path: &Path, file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    let temp = PathBuf::from(format!("{}.packing", path.display()));
    let made = compress(file, &temp, &format!("{}:{}", metadata.dev(), metadata.ino()));
    let placed = made.and_then(|()| place(path, &temp, metadata.ino()));
    if !matches!(placed, Ok(true)) {
        // It was rotated away meanwhile, or there is no room for it: half of it is of no use.
        let _ = fs::remove_file(&temp);
    }
    placed.map(drop)
}

fn compress(mut file: &File, temp: &Path, identity: &str) -> io::Result<()> {
    let out = File::options().create(true).truncate(true).write(true).mode(0o640).open(temp)?;
    let mut encoder = GzBuilder::new().comment(identity).write(BufWriter::new(out), Compression::default());
    io::copy(&mut file, &mut encoder)?;
    let mut out = encoder.finish()?;
    out.flush()?;
    // What it takes the place of is gone afterwards.
    out.get_ref().sync_data()
}

/// Puts the compressed form in the place of the file, wherever that is now. False: nowhere.
fn place(path: &Path, temp: &Path, inode: u64) -> io::Result<bool> {
    let _lock = lock(path, FlockOperation::NonBlockingLockExclusive).ok_or(io::ErrorKind::WouldBlock)?;
    for number in 1.. {
        let [plain, packed] = names(path, number);
        match fs::symlink_metadata(&plain) {
            Ok(metadata) if metadata.ino() == inode => {
                fs::rename(temp, packed)?;
                fs::remove_file(plain)?;
                return Ok(true);
            }
            Err(_) if !packed.exists() => return Ok(false),
            _ => {}
        }
    }
    Ok(false)
}
