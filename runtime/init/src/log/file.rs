//! The file of a log: Docker's json-file lines, put aside by size as `<path>.1`, `<path>.2` and so on. Every rotation makes a
//! new file under the old name, so that whoever reads the one before has it whole. While names move, the directory is
//! locked (flock(2)): who compresses old files, or opens them all, does that in between.

use super::{Stream, push_json};
use crate::plan;
use crate::record::{now_nanos, rfc3339};
use rustix::fs::{FlockOperation, flock};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions, rename};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub(super) struct File {
    settings: plan::Log,
    file: fs::File,
    size: u64,
    lost_bytes: usize,
    was_rotated: bool,
}

impl File {
    /// Goes on where the run before ended: a line that a crash of the host tore ends here, and files that are no longer to
    /// be kept go.
    pub(super) fn open(settings: &plan::Log) -> io::Result<Self> {
        let mut file = append_to(&settings.path)?;
        let mut size = file.metadata()?.len();
        let mut last = [b'\n'];
        let is_torn = size > 0 && file.read_exact_at(&mut last, size - 1).is_ok() && last != *b"\n";
        // On a full disk the torn line takes the next one along; that is no reason not to start.
        if is_torn && file.write_all(b"\n").is_ok() {
            size += 1;
        }
        let log = Self { settings: settings.clone(), file, size, lost_bytes: 0, was_rotated: false };
        log.remove_from(settings.max_files.max(1));
        Ok(log)
    }

    /// Adds the entry of one line.
    pub(super) fn push_entry(&self, out: &mut String, line: &[u8], stream: Stream, time: &str) {
        out.push_str("{\"log\":\"");
        push_json(out, &String::from_utf8_lossy(line));
        let stream = if stream == Stream::Stdout { "stdout" } else { "stderr" };
        let _ = write!(out, "\",\"stream\":\"{stream}\"");
        if !self.settings.attributes.is_empty() {
            let _ = write!(out, ",\"attrs\":{}", self.settings.attributes);
        }
        let _ = writeln!(out, ",\"time\":\"{time}\"}}");
    }

    /// Writes a line of our own.
    pub(super) fn note(&mut self, text: &str, now_nanos: u64) {
        let mut entry = String::new();
        self.push_entry(&mut entry, format!("[strata: {text}]\n").as_bytes(), Stream::Stderr, &rfc3339(now_nanos));
        self.append(&entry);
    }

    /// Appends whole entries, rotating between them.
    pub(super) fn append(&mut self, entries: &str) {
        let mut rest = entries;
        while !rest.is_empty() {
            let room = match self.settings.max_size {
                0 => usize::MAX,
                max_size => usize::try_from(max_size.saturating_sub(self.size)).unwrap_or(usize::MAX),
            };
            let fitting = match rest.len() <= room {
                true => rest.len(),
                false => rest.as_bytes()[..room].iter().rposition(|&byte| byte == b'\n').map_or(0, |index| index + 1),
            };
            if fitting == 0 && self.size > 0 && self.rotate().is_ok() {
                continue;
            }
            // A single entry over the limit, or a directory that cannot be renamed in, still gets its line.
            let count = match fitting {
                0 => rest.find('\n').map_or(rest.len(), |index| index + 1),
                fitting => fitting,
            };
            self.append_whole(&rest[..count]);
            rest = &rest[count..];
        }
    }

    fn append_whole(&mut self, entries: &str) {
        let mut bytes = entries.as_bytes();
        let mut with_loss = String::new();
        if self.lost_bytes > 0 {
            let note = format!("[strata: {} bytes of log were lost]\n", self.lost_bytes);
            self.push_entry(&mut with_loss, note.as_bytes(), Stream::Stderr, &rfc3339(now_nanos()));
            with_loss.push_str(entries);
            bytes = with_loss.as_bytes();
        }
        if self.file.write_all(bytes).is_ok() {
            self.lost_bytes = 0;
            self.size += bytes.len() as u64;
        } else {
            self.lost_bytes += entries.len();
            // No half entry stays behind.
            let _ = self.file.set_len(self.size);
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        // Whoever has the names locked has them for a moment only, unless somebody stopped it: then the size counts more.
        let is_overdue = self.size / 2 >= self.settings.max_size;
        let _lock = match self.lock() {
            Err(error) if !is_overdue => return Err(error),
            lock => lock,
        };
        // Made before anything moves: on a disk without room for it all stays as it is.
        let (fresh, file) = self.fresh()?;
        let path = &self.settings.path;
        let last = self.settings.max_files.saturating_sub(1);
        self.remove_from(last.max(1));
        for number in (1..last).rev() {
            for (from, to) in names(path, number).into_iter().zip(names(path, number + 1)) {
                let _ = rename(from, to);
            }
        }
        if last > 0 {
            let [old, _] = names(path, 1);
            match rename(path, old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        rename(fresh, path)?;
        (self.file, self.size) = (file, 0);
        self.was_rotated = self.settings.is_compressed && last > 0;
        Ok(())
    }

    /// Begins a new file, and keeps none of the old ones.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        let _lock = self.lock()?;
        let (fresh, file) = self.fresh()?;
        self.remove_from(1);
        rename(fresh, &self.settings.path)?;
        (self.file, self.size, self.lost_bytes) = (file, 0, 0);
        Ok(())
    }

    pub(super) fn take_rotated(&mut self) -> bool {
        std::mem::take(&mut self.was_rotated)
    }

    fn lock(&self) -> io::Result<fs::File> {
        let directory = fs::File::open(self.settings.path.parent().unwrap_or(Path::new("/")))?;
        flock(&directory, FlockOperation::NonBlockingLockExclusive)?;
        Ok(directory)
    }

    /// An empty file under a name that nobody reads.
    fn fresh(&self) -> io::Result<(PathBuf, fs::File)> {
        let path = with_suffix(&self.settings.path, ".new");
        let _left_by_a_crash = fs::remove_file(&path);
        let file = append_to(&path)?;
        Ok((path, file))
    }

    /// Removes old files from a number on, up to the first number that none has.
    fn remove_from(&self, first: u32) {
        for number in first..u32::MAX {
            let removed = names(&self.settings.path, number).map(|name| fs::remove_file(name).is_ok());
            if removed == [false, false] {
                return;
            }
        }
    }
}

fn append_to(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)
}

/// The names that an old file can have: as it was, and compressed.
fn names(path: &Path, number: u32) -> [PathBuf; 2] {
    [with_suffix(path, &format!(".{number}")), with_suffix(path, &format!(".{number}.gz"))]
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
