//! The file that grows.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::{DIRECTORY, Draft, Entry, Error, Inner, Subject, verify};

/// Name of the file that is written to. Those set aside have the number of their first record before it.
pub(super) const CURRENT: &str = "audit.log";

/// Bytes from which on a file is set aside.
const FULL: u64 = 64 << 20;

/// The audit log of one service.
#[derive(Debug)]
pub struct Log {
    service: &'static str,
    directory: PathBuf,
    full: u64,
    end: Mutex<Option<End>>,
}

/// Where the next record goes, and what it follows.
#[derive(Debug)]
struct End {
    file: File,
    bytes: u64,
    /// Number of the first record of the file.
    first: u64,
    /// Number of the next record.
    next: u64,
    head: String,
}

impl Log {
    /// The log of a service with this root. It is opened with the first record.
    pub fn new(service: &'static str, root: &Path) -> Self {
        Self { service, directory: root.join(DIRECTORY), full: FULL, end: Mutex::new(None) }
    }

    #[cfg(test)]
    pub(super) fn with_files_of(mut self, bytes: u64) -> Self {
        self.full = bytes;
        self
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A request that is to be recorded.
    pub(in crate::access) fn entry(self: &Arc<Self>, subject: Subject) -> Entry {
        let inner = Inner { log: self.clone(), subject, began: Instant::now(), is_open: false.into() };
        Entry { inner: Arc::new(inner) }
    }

    /// Adds a record.
    pub(super) fn append(&self, draft: &Draft<'_>) -> Result<(), Error> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = match end.take() {
            Some(open) => open,
            None => self.open()?,
        };
        if open.bytes >= self.full {
            open = self.set_aside(open)?;
        }
        let (line, hash) = verify::line(&draft.at(open.next, self.service, &open.head));
        // One write of the whole line. A part of one, on a disk that is full, is cut off with the next opening.
        open.file.write_all(line.as_bytes()).map_err(|source| self.failed("write", CURRENT, source))?;
        open.bytes += line.len() as u64;
        open.next += 1;
        open.head = hash;
        *end = Some(open);
        Ok(())
    }

    fn failed(&self, action: &'static str, name: &str, source: io::Error) -> Error {
        Error::File { action, path: self.directory.join(name), source }
    }

    fn open(&self) -> Result<End, Error> {
        crate::socket::private_dir(&self.directory)
            .map_err(|error| self.failed("create", "", io::Error::other(crate::fault::chain(&error))))?;
        let path = self.directory.join(CURRENT);
        let mut options = OpenOptions::new();
        options.create(true).read(true).append(true).mode(0o600);
        let mut file = options.open(&path).map_err(|source| self.failed("open", CURRENT, source))?;
        let (whole, first, last) = ends(&file).map_err(|source| self.failed("read", CURRENT, source))?;
        // What a crash left of a line was never answered for.
        file.set_len(whole).map_err(|source| self.failed("repair", CURRENT, source))?;
        file.seek(SeekFrom::End(0)).map_err(|source| self.failed("read", CURRENT, source))?;
        let damaged = || Error::Damaged { path: path.clone() };
        let (first, next, head) = match (first, last) {
            (Some(first), Some(last)) => {
                let first = verify::parse(&first).ok_or_else(damaged)?.sequence;
                let last = verify::parse(&last).ok_or_else(damaged)?;
                (first, last.sequence + 1, last.hash)
            }
            _ => self.after_the_last_file()?,
        };
        Ok(End { file, bytes: whole, first, next, head })
    }

    /// Where an empty file continues: after the newest that was set aside, or at the start.
    fn after_the_last_file(&self) -> Result<(u64, u64, String), Error> {
        let files = verify::files(&self.directory).map_err(|source| self.failed("read", "", source))?;
        let Some(name) = files.iter().rev().find(|name| *name != CURRENT) else { return Ok((1, 1, String::new())) };
        let path = self.directory.join(name);
        let last =
            File::open(&path).and_then(|file| ends(&file)).map_err(|source| self.failed("read", name, source))?.2;
        let last = last.and_then(|line| verify::parse(&line)).ok_or(Error::Damaged { path })?;
        Ok((last.sequence + 1, last.sequence + 1, last.hash))
    }

    fn set_aside(&self, open: End) -> Result<End, Error> {
        let name = format!("{:020}-{CURRENT}", open.first);
        open.file.sync_all().map_err(|source| self.failed("write", CURRENT, source))?;
        drop(open);
        let (from, to) = (self.directory.join(CURRENT), self.directory.join(&name));
        fs::rename(from, to).map_err(|source| self.failed("set aside", &name, source))?;
        self.open()
    }
}

/// Bytes of the whole lines of a file, its first line and its last.
fn ends(mut file: &File) -> io::Result<(u64, Option<String>, Option<String>)> {
    file.seek(SeekFrom::Start(0))?;
    let (mut whole, mut first, mut last) = (0, None, None);
    let mut reader = BufReader::new(file);
    let mut line = String::new();
    loop {
        line.clear();
        let read = reader.read_line(&mut line)?;
        if read == 0 || !line.ends_with('\n') {
            return Ok((whole, first, last));
        }
        whole += read as u64;
        if first.is_none() {
            first = Some(line.clone());
        }
        last = Some(line.clone());
    }
}
