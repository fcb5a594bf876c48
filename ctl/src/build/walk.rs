//! Looks at a directory and all below it, on all cores: names, kinds and stat data. Nothing is read.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use strata_dockerfile::ignore::{IgnoreFile, Match};

use super::parallel;

/// Entries of one directory that are looked at in one go: those of a larger one are shared.
const TOGETHER: usize = 512;
/// Threads at most: the disk's cache is what limits more of them.
const THREADS: usize = 8;

/// Cannot look at something.
#[derive(Debug)]
pub struct Failure {
    /// Where.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// A directory.
#[derive(Debug)]
pub struct Directory {
    /// Its path.
    pub path: PathBuf,
    /// What stat(2) says of it.
    pub metadata: fs::Metadata,
    /// The same below the top, for patterns; "" for the top.
    pub relative: String,
    /// Its path below the top, in bytes.
    pub bytes: Vec<u8>,
    /// What is in it, ordered by name, without what is excluded with all below it.
    pub entries: Vec<Entry>,
}

/// Something in a directory.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: OsString,
    /// What stat(2) says of it, or of the link that it is.
    pub metadata: fs::Metadata,
    /// It is excluded, but what is in it may not be.
    pub is_excluded: bool,
    /// Its number, if it is a directory.
    pub directory: Option<usize>,
}

impl Directory {
    /// The path below the top of what has this name in it.
    pub fn below(&self, name: &OsStr) -> Vec<u8> {
        match self.bytes.is_empty() {
            true => name.as_bytes().to_vec(),
            false => [&self.bytes, &b"/"[..], name.as_bytes()].concat(),
        }
    }
}

/// Looks at all that `ignore` does not exclude. The top is the first of the directories; entries name others by number.
pub fn walk(top: &Path, ignore: &IgnoreFile) -> Result<Vec<Directory>, Failure> {
    let metadata = fs::metadata(top).map_err(|source| Failure { path: top.to_owned(), source })?;
    let (relative, bytes) = Default::default();
    let first = Directory { path: top.to_owned(), metadata, relative, bytes, entries: Vec::new() };
    let walk = Walk {
        ignore,
        state: Mutex::new(State { found: vec![first], jobs: vec![Job::List(0)], working: 0, failure: None }),
        changed: Condvar::new(),
    };
    let threads = THREADS.min(*parallel::CORES);
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| walk.work());
        }
        walk.work();
    });
    let State { mut found, failure, .. } = walk.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(failure) = failure {
        return Err(failure);
    }
    for directory in &mut found {
        directory.entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    }
    Ok(found)
}

struct Walk<'a> {
    ignore: &'a IgnoreFile,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    found: Vec<Directory>,
    jobs: Vec<Job>,
    /// Threads that have a job.
    working: usize,
    failure: Option<Failure>,
}

enum Job {
    /// Reads the names of the directory of this number.
    List(usize),
    /// Looks at some of its entries.
    Look(usize, Vec<fs::DirEntry>),
}

impl Walk<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes jobs until there are none, and nobody works who could bring more.
    fn work(&self) {
        let mut state = self.state();
        loop {
            if state.failure.is_some() {
                break;
            }
            let Some(job) = state.jobs.pop() else {
                if state.working == 0 {
                    break;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.working += 1;
            let number = match &job {
                Job::List(number) | Job::Look(number, _) => *number,
            };
            let (path, relative) = (state.found[number].path.clone(), state.found[number].relative.clone());
            drop(state);
            let done = match job {
                Job::List(_) => list(&path).and_then(|names| self.share(number, &relative, names)),
                Job::Look(_, names) => self.look(&relative, names),
            };
            state = self.state();
            state.working -= 1;
            match done {
                Ok(entries) => state.add(number, &path, &relative, entries),
                Err(failure) => state.failure = Some(failure),
            }
            self.changed.notify_all();
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Looks at the first entries, and leaves the rest to whoever has nothing to do.
    fn share(&self, number: usize, relative: &str, mut names: Vec<fs::DirEntry>) -> Result<Vec<Entry>, Failure> {
        while names.len() > TOGETHER {
            let rest = names.split_off(names.len() - TOGETHER);
            self.state().jobs.push(Job::Look(number, rest));
            self.changed.notify_one();
        }
        self.look(relative, names)
    }

    fn look(&self, relative: &str, names: Vec<fs::DirEntry>) -> Result<Vec<Entry>, Failure> {
        let mut entries = Vec::with_capacity(names.len());
        let mut inside = String::with_capacity(relative.len() + 64);
        for found in names {
            let failed = |source| Failure { path: found.path(), source };
            let name = found.file_name();
            below(&mut inside, relative, &name.to_string_lossy());
            let kind = found.file_type().map_err(failed)?;
            let is_excluded = match self.ignore.matches(&inside) {
                Match::Included => false,
                Match::Excluded { whole } if whole || !kind.is_dir() => continue,
                Match::Excluded { .. } => true,
            };
            let metadata = found.metadata().map_err(failed)?;
            entries.push(Entry { name, metadata, is_excluded, directory: None });
        }
        Ok(entries)
    }
}

impl State {
    /// Takes in entries of a directory; those that are directories are work.
    fn add(&mut self, number: usize, path: &Path, relative: &str, mut entries: Vec<Entry>) {
        for entry in entries.iter_mut().filter(|entry| entry.metadata.is_dir()) {
            let mut inside = String::new();
            below(&mut inside, relative, &entry.name.to_string_lossy());
            entry.directory = Some(self.found.len());
            self.jobs.push(Job::List(self.found.len()));
            let (path, bytes) = (path.join(&entry.name), self.found[number].below(&entry.name));
            let metadata = entry.metadata.clone();
            self.found.push(Directory { path, metadata, relative: inside, bytes, entries: Vec::new() });
        }
        self.found[number].entries.append(&mut entries);
    }
}

fn list(path: &Path) -> Result<Vec<fs::DirEntry>, Failure> {
    let failed = |source| Failure { path: path.to_owned(), source };
    fs::read_dir(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)
}

fn below(inside: &mut String, relative: &str, name: &str) {
    inside.clear();
    if !relative.is_empty() {
        inside.push_str(relative);
        inside.push('/');
    }
    inside.push_str(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(found: &[Directory]) -> Vec<String> {
        let below = |directory: &Directory| {
            let names = directory.entries.iter().map(|entry| directory.below(&entry.name));
            names.map(|path| String::from_utf8(path).unwrap()).collect::<Vec<_>>()
        };
        let mut all: Vec<String> = found.iter().flat_map(below).collect();
        all.sort();
        all
    }

    #[test]
    fn all_is_found_in_order_however_many_there_are_in_one_directory() {
        let top = tempfile::tempdir().unwrap();
        let mut wanted = Vec::new();
        for directory in 0..20 {
            let name = format!("d{directory:02}");
            fs::create_dir(top.path().join(&name)).unwrap();
            for file in 0..if directory == 7 { 3 * TOGETHER + 1 } else { 5 } {
                let path = format!("{name}/f{file:05}");
                fs::write(top.path().join(&path), "x").unwrap();
                wanted.push(path);
            }
            wanted.push(name);
        }
        wanted.sort();

        let found = walk(top.path(), &IgnoreFile::default()).unwrap();

        assert_eq!(paths(&found), wanted);
        assert!(found.iter().all(|directory| directory.entries.is_sorted_by_key(|entry| &entry.name)));
        for entry in &found[0].entries {
            let directory = &found[entry.directory.unwrap()];
            assert_eq!(directory.relative, entry.name.to_string_lossy());
        }
    }

    #[test]
    fn what_is_excluded_is_not_entered_unless_something_in_it_may_come_back() {
        let top = tempfile::tempdir().unwrap();
        for path in ["out", "kept/deep", "kept/gone"] {
            fs::create_dir_all(top.path().join(path)).unwrap();
            fs::write(top.path().join(path).join("file"), "x").unwrap();
        }
        let ignore = IgnoreFile::parse("out\nkept\n!kept/deep\n").unwrap();

        let found = walk(top.path(), &ignore).unwrap();

        assert_eq!(paths(&found), ["kept", "kept/deep", "kept/deep/file"]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let top = tempfile::tempdir().unwrap();

        let failure = walk(&top.path().join("missing"), &IgnoreFile::default()).unwrap_err();

        assert!(failure.path.ends_with("missing"));
    }
}
