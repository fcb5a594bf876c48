//! Reads logs that monitors write: Docker's json-file lines in `log.json`, older ones in `log.json.1`, `.2`, ...
//! Files are held open while they are read, so that a rotation meanwhile loses and repeats nothing.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader},
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use rustix::fs::inotify;
use serde::Deserialize;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
};

use crate::{
    container::{Container, Phase},
    error::Error,
};

/// More rotated files than anybody keeps.
const MOST_FILES: u32 = 1000;

/// A line of the log with its end, or a part of a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// It came from standard error.
    pub is_stderr: bool,
    /// When it was written.
    pub written_at: Option<Timestamp>,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// One line of the file.
#[derive(Deserialize)]
struct Entry {
    log: String,
    stream: String,
    time: String,
}

type Lines = mpsc::Sender<Result<Line, Error>>;

/// Sends a log, or its last `tail` lines, and what a running container adds to it if `follow` is given.
pub async fn read(
    path: PathBuf,
    tail: Option<u64>,
    follow: Option<Arc<Container>>,
    lines: &Lines,
) -> Result<(), Error> {
    let watch = match &follow {
        Some(_) => Some(Watch::new(&path)?),
        None => None,
    };
    let mut log = Log::open(&path)?;
    log = log.pass(tail, lines.clone()).await?;
    let (Some(container), Some(watch)) = (follow, watch) else { return Ok(()) };
    let mut phases = container.phases();
    loop {
        // Asked before reading: what is written before the end is read after it.
        let is_over = !matches!(*phases.borrow_and_update(), Phase::Running);
        log = log.advance()?.pass(None, lines.clone()).await?;
        if is_over || lines.is_closed() {
            return Ok(());
        }
        tokio::select! {
            changed = watch.changed() => changed.map_err(|e| Error::io("watch", &path, e))?,
            _ = phases.changed() => {}
        }
    }
}

/// Open files of a log, oldest first; the last is the current one.
struct Log {
    path: PathBuf,
    files: Vec<Part>,
}

/// One open file.
struct Part {
    reader: BufReader<File>,
    identity: (u64, u64),
    /// The start of a line whose end is not written yet.
    rest: Vec<u8>,
}

impl Log {
    /// Opens all files. Newest first: what moves meanwhile is then met twice, not missed.
    fn open(path: &Path) -> Result<Self, Error> {
        let mut log = Self { path: path.to_owned(), files: Vec::new() };
        log.files = log.newer_than(None)?;
        Ok(log)
    }

    /// Adds the files that rotation made since, and drops those that are read.
    fn advance(mut self) -> Result<Self, Error> {
        let current = self.files.pop();
        let identity = current.as_ref().map(|part| part.identity);
        let newer = self.newer_than(identity)?;
        self.files = current.into_iter().chain(newer).collect();
        Ok(self)
    }

    /// Opens the files that are newer than one, oldest first.
    fn newer_than(&self, known: Option<(u64, u64)>) -> Result<Vec<Part>, Error> {
        let mut found: Vec<Part> = Vec::new();
        for number in 0..MOST_FILES {
            let path = match number {
                0 => self.path.clone(),
                number => PathBuf::from(format!("{}.{number}", self.path.display())),
            };
            let Some(part) = Part::open(&path)? else { break };
            if Some(part.identity) == known {
                break;
            }
            if !found.iter().any(|other| other.identity == part.identity) {
                found.push(part);
            }
        }
        found.reverse();
        Ok(found)
    }

    /// Sends what is in the files from where they were left, on a thread for it.
    async fn pass(mut self, tail: Option<u64>, lines: Lines) -> Result<Self, Error> {
        let passing = move || {
            match tail {
                None => self.pass_all(&lines)?,
                Some(count) => self.pass_last(count, &lines)?,
            }
            Ok(self)
        };
        tokio::task::spawn_blocking(passing).await.map_err(|_| Error::Lost { what: "reading a log" })?
    }

    fn pass_all(&mut self, lines: &Lines) -> Result<(), Error> {
        for part in &mut self.files {
            while let Some(line) = part.next().map_err(|e| Error::io("read", &self.path, e))? {
                if lines.blocking_send(Ok(line)).is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Reads files newest first until there are enough lines.
    fn pass_last(&mut self, count: u64, lines: &Lines) -> Result<(), Error> {
        let mut last: VecDeque<Line> = VecDeque::new();
        let mut ends = 0u64;
        for part in self.files.iter_mut().rev() {
            let mut of_part = Vec::new();
            while let Some(line) = part.next().map_err(|e| Error::io("read", &self.path, e))? {
                of_part.push(line);
            }
            for line in of_part.into_iter().rev() {
                // A part of a long line belongs to the end that follows it.
                let is_end = line.bytes.ends_with(b"\n");
                if ends == count && is_end || count == 0 {
                    ends = count + 1;
                    break;
                }
                // A last line without its end is a line too.
                ends += u64::from(is_end || last.is_empty());
                last.push_front(line);
            }
            if ends > count {
                break;
            }
        }
        if count == 0 {
            // Nothing of what is there, all of what follows.
            for part in &mut self.files {
                while part.next().map_err(|e| Error::io("read", &self.path, e))?.is_some() {}
            }
        }
        for line in last {
            if lines.blocking_send(Ok(line)).is_err() {
                break;
            }
        }
        Ok(())
    }
}

impl Part {
    fn open(path: &Path) -> Result<Option<Self>, Error> {
        let no_follow = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
        let file = match File::options().read(true).custom_flags(no_follow).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open", path, error)),
        };
        let metadata = file.metadata().map_err(|e| Error::io("open", path, e))?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Some(Self { reader: BufReader::with_capacity(64 << 10, file), identity, rest: Vec::new() }))
    }

    /// The next whole line; `None`: there is none yet. Lines that are no JSON are passed on as they are.
    fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            self.reader.read_until(b'\n', &mut self.rest)?;
            if !self.rest.ends_with(b"\n") {
                return Ok(None);
            }
            let raw = std::mem::take(&mut self.rest);
            if raw.len() > 1 {
                return Ok(Some(parse(raw)));
            }
        }
    }
}

fn parse(raw: Vec<u8>) -> Line {
    match serde_json::from_slice::<Entry>(&raw) {
        Ok(entry) => Line {
            is_stderr: entry.stream == "stderr",
            written_at: entry.time.parse().ok(),
            bytes: entry.log.into_bytes(),
        },
        Err(_) => Line { is_stderr: false, written_at: None, bytes: raw },
    }
}

/// Tells when something in the log's directory changes.
struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    fn new(path: &Path) -> Result<Self, Error> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        let failed = |e: io::Error| Error::io("watch", dir, e);
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let fd = inotify::init(flags).map_err(|e| failed(e.into()))?;
        let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVE;
        inotify::add_watch(&fd, dir, events).map_err(|e| failed(e.into()))?;
        #[expect(deprecated, reason = "the new form is unsafe to call; an OwnedFd never changes its descriptor")]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE).map_err(failed)?;
        Ok(Self(fd))
    }

    async fn changed(&self) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        let mut events = [0u8; 4096];
        // What changed does not matter, only that the queue is empty afterwards.
        while rustix::io::read(self.0.get_ref(), &mut events[..]).is_ok_and(|count| count > 0) {}
        ready.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
