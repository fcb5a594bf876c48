//! All files of a log, oldest first. While they are opened their directory is locked, as for rotation: no name moves.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use super::{
    Wish,
    entry::Line,
    part::{Identity, Part, Tail},
};
use crate::error::Error;

/// More rotated files than anybody keeps.
const MOST_FILES: u32 = 1000;

/// How often the lock is tried for, and the pause in between: a rotation takes less than a millisecond.
const ATTEMPTS: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

/// Open files of a log; the last is the current one.
pub struct Files {
    path: PathBuf,
    parts: VecDeque<Part>,
}

impl Files {
    /// None are open yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, parts: VecDeque::new() }
    }

    /// The current file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens what is wanted. If it is not to be followed, it ends where it ends now.
    pub fn open(&mut self, wish: &Wish, is_followed: bool) -> Result<(), Error> {
        let mut all = self.newer_than(None)?;
        let mut tail = wish.tail.map(Tail::new);
        let mut is_current = true;
        // The newest first: those before a border are not touched.
        while let Some(mut part) = all.pop_back() {
            let path = part.path().to_owned();
            let ends = match (is_current, is_followed) {
                (false, _) => Ends::Rotated,
                (true, false) => Ends::Now,
                (true, true) => Ends::Open,
            };
            let begins = choose(&mut part, wish, tail.as_mut(), ends);
            let begins = begins.map_err(|e| Error::io("read", path, e))?;
            self.parts.push_front(part);
            if begins {
                break;
            }
            is_current = false;
        }
        Ok(())
    }

    /// Adds the files that rotation made since, and drops those that are read.
    pub fn advance(&mut self) -> Result<(), Error> {
        let known = self.parts.back().map(|part| part.identity);
        let named = fs::symlink_metadata(&self.path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        if known.is_some() && known == named {
            return Ok(());
        }
        let newer = self.newer_than(known)?;
        self.parts.extend(newer);
        Ok(())
    }

    /// The next line of the oldest file that has one. Files that are read to their end go, but for the current one.
    pub fn next(&mut self) -> Result<Option<Line>, Error> {
        loop {
            let is_current = self.parts.len() < 2;
            let Some(part) = self.parts.front_mut() else { return Ok(None) };
            match part.next() {
                Ok(Some(line)) => return Ok(Some(line)),
                Ok(None) if is_current => return Ok(None),
                Ok(None) => drop(self.parts.pop_front()),
                Err(error) => return Err(Error::io("read", part.path(), error)),
            }
        }
    }

    /// Opens the files that are newer than one, oldest first. One that is gone was the oldest.
    fn newer_than(&self, known: Option<Identity>) -> Result<VecDeque<Part>, Error> {
        let _lock = lock(&self.path, FlockOperation::NonBlockingLockShared);
        let mut found = VecDeque::new();
        for number in 0..MOST_FILES {
            let part = match number {
                0 => open(&self.path, Part::open)?,
                number => {
                    let [plain, packed] = names(&self.path, number);
                    match open(&plain, Part::open)? {
                        None => open(&packed, Part::open_packed)?,
                        part => part,
                    }
                }
            };
            match part {
                Some(part) if Some(part.identity) == known => break,
                Some(part) => found.push_front(part),
                // Between a crash amid a rotation and the next run there is no current file.
                None if number == 0 => {}
                None => break,
            }
        }
        Ok(found)
    }
}

fn open(path: &Path, open: impl Fn(&Path) -> io::Result<Option<Part>>) -> Result<Option<Part>, Error> {
    open(path).map_err(|e| Error::io("open", path, e))
}

/// Where a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// Where it does: nobody writes to it any more.
    Rotated,
    /// Where it does now, though it may grow.
    Now,
    /// Where it will.
    Open,
}

/// Narrows a file down to what is wanted of it; says whether that begins in it. One that is wanted whole is not touched.
fn choose(part: &mut Part, wish: &Wish, tail: Option<&mut Tail>, ends: Ends) -> io::Result<bool> {
    if ends == Ends::Now {
        part.freeze()?;
    }
    match wish.until {
        // What grows is looked at line by line.
        Some(until) if ends != Ends::Open => part.end_after(until)?,
        _ => {}
    }
    let mut begins = wish.since.map_or(Ok(false), |since| part.begin_at(since))?;
    if let Some(tail) = tail {
        begins |= part.begin_with(tail)?;
    }
    Ok(begins)
}

/// The names that an old file can have: as it was, and compressed.
pub(super) fn names(path: &Path, number: u32) -> [PathBuf; 2] {
    let path = path.display();
    [PathBuf::from(format!("{path}.{number}")), PathBuf::from(format!("{path}.{number}.gz"))]
}

/// Keeps names from moving, as long as what it returns is held. None where somebody else does so for too long: then they may
/// move, and that is better than to wait for somebody who was stopped.
pub(super) fn lock(path: &Path, operation: FlockOperation) -> Option<File> {
    let dir = File::open(path.parent()?).ok()?;
    for _ in 0..ATTEMPTS {
        match flock(&dir, operation) {
            Ok(()) => return Some(dir),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => thread::sleep(PAUSE),
            Err(_) => return None,
        }
    }
    None
}

/// Empties the log of a container that does not run.
pub fn clear(path: &Path) -> Result<(), Error> {
    let _lock = lock(path, FlockOperation::NonBlockingLockExclusive);
    let remove = |path: &Path| match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("remove", path, error)),
    };
    remove(path)?;
    for number in 1..MOST_FILES {
        let [plain, packed] = names(path, number);
        if !(remove(&plain)? | remove(&packed)?) {
            break;
        }
    }
    Ok(())
}
