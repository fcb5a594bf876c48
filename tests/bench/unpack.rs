//! The floor of unpacking: inflates layers with the library that ours uses, and writes what is in them, with the
//! attributes it has. Nothing is fetched, hashed, checked, kept or recorded.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, chmod, chownat, makedev, mknodat, utimensat,
};
use tar::EntryType;

use crate::Outcome;

/// The word that makes this program the floor.
pub(crate) const WORD: &str = "floor-of-unpacking";
/// Of buffers between the two threads; and how many there are.
const LENGTH: usize = 256 << 10;
const BUFFERS: usize = 16;

/// Does what the words after [`WORD`] say: a directory, then layers, each unpacked to a directory of its own in it.
pub(crate) fn main(mut words: impl Iterator<Item = OsString>) -> Outcome<()> {
    let directory = PathBuf::from(words.next().ok_or("a directory")?);
    thread::scope(|scope| {
        let layers: Vec<_> = words
            .enumerate()
            .map(|(index, layer)| {
                let to = directory.join(index.to_string());
                scope.spawn(move || unpack(Path::new(&layer), &to).map_err(|err| err.to_string()))
            })
            .collect();
        layers.into_iter().try_for_each(|layer| layer.join().map_err(|_| "a layer panics".to_owned())?)
    })?;
    rustix::fs::syncfs(File::open(&directory)?)?;
    Ok(())
}

fn unpack(layer: &Path, to: &Path) -> Outcome<()> {
    fs::create_dir_all(to)?;
    let file = File::open(layer)?;
    let (sender, receiver) = sync_channel(BUFFERS);
    thread::scope(|scope| {
        let inflated = scope.spawn(move || -> io::Result<()> {
            let (_, mut inflate) = strata_archive::decompress(file).map_err(io::Error::other)?;
            loop {
                let mut buffer = Vec::with_capacity(LENGTH);
                if inflate.by_ref().take(LENGTH as u64).read_to_end(&mut buffer)? == 0 {
                    return Ok(());
                }
                if sender.send(buffer).is_err() {
                    // The archive has ended before its file.
                    return Ok(());
                }
            }
        });
        let mut archive = tar::Archive::new(Buffers { receiver, current: vec![], offset: 0 });
        let written = write(&mut archive, to);
        drop(archive);
        inflated.join().map_err(|_| "inflating panics")??;
        written
    })
}

/// Writes all entries. Of attributes of directories, later ones change only times: that is not worth a second pass here.
fn write(archive: &mut tar::Archive<Buffers>, to: &Path) -> Outcome<()> {
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = to.join(entry.path()?);
        let header = entry.header().clone();
        let mode = Mode::from_raw_mode(header.mode()?);
        if path.parent().is_some_and(|parent| !parent.exists()) {
            fs::create_dir_all(path.parent().unwrap_or(to))?;
        }
        match header.entry_type() {
            EntryType::Directory => match fs::create_dir(&path) {
                Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(err.into()),
                _ => {}
            },
            EntryType::Symlink => symlink(entry.link_name()?.ok_or("a link leads somewhere")?, &path)?,
            EntryType::Link => {
                fs::hard_link(to.join(entry.link_name()?.ok_or("a link leads somewhere")?), &path)?;
                continue;
            }
            EntryType::Char | EntryType::Block => {
                let is_char = header.entry_type() == EntryType::Char;
                let kind = if is_char { FileType::CharacterDevice } else { FileType::BlockDevice };
                let (major, minor) = (header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0));
                mknodat(CWD, &path, kind, mode, makedev(major, minor))?;
            }
            EntryType::Regular => drop(io::copy(&mut entry, &mut File::create_new(&path)?)?),
            other => return Err(format!("{}: the floor has no {other:?}", path.display()).into()),
        }
        let (user, group) = (Uid::from_raw(header.uid()? as u32), Gid::from_raw(header.gid()? as u32));
        chownat(CWD, &path, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
        if header.entry_type() != EntryType::Symlink {
            chmod(&path, mode)?;
        }
        let time = Timespec { tv_sec: header.mtime()? as i64, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

struct Buffers {
    receiver: Receiver<Vec<u8>>,
    current: Vec<u8>,
    offset: usize,
}

impl Read for Buffers {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.offset == self.current.len() {
            let Ok(next) = self.receiver.recv() else { return Ok(0) };
            (self.current, self.offset) = (next, 0);
        }
        let count = to.len().min(self.current.len() - self.offset);
        to[..count].copy_from_slice(&self.current[self.offset..self.offset + count]);
        self.offset += count;
        Ok(count)
    }
}
