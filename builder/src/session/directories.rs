//! Directories of contexts: those of earlier builds, those that were asked for, and those on their way. A directory comes in
//! parts where it is large; it counts when all of it is there, under the digest of all of it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::context::{Blake3, Directory, Node};
use crate::error::Error;

/// Bytes of directories that are kept for later builds, at most.
const KEPT: usize = 16 << 20;
/// Bytes of the encoding of one directory, at most.
const LARGEST: usize = 256 << 20;

/// Directories seen in any build, oldest forgotten first.
#[derive(Debug, Default)]
pub struct DirectoryCache {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    directories: HashMap<Blake3, Arc<Directory>>,
    by_age: VecDeque<Blake3>,
    bytes: usize,
}

impl DirectoryCache {
    fn get(&self, digest: &Blake3) -> Option<Arc<Directory>> {
        self.known().directories.get(digest).cloned()
    }

    fn insert(&self, digest: Blake3, directory: Arc<Directory>) {
        let mut known = self.known();
        let bytes = weight(&directory);
        if known.directories.insert(digest, directory).is_none() {
            known.by_age.push_back(digest);
            known.bytes += bytes;
        }
        while known.bytes > KEPT {
            let Some(oldest) = known.by_age.pop_front() else { break };
            let gone = known.directories.remove(&oldest).map_or(0, |directory| weight(&directory));
            known.bytes -= gone;
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no holder of this lock panics")
    }
}

/// Bytes that a directory takes in memory, more or less.
fn weight(directory: &Directory) -> usize {
    let of_node = |node: &Node| if let Node::Symlink(target) = node { target.len() } else { 0 };
    let each = directory.entries.iter().map(|entry| size_of_val(entry) + entry.name.len() + of_node(&entry.node));
    64 + each.sum::<usize>()
}

/// The directories of one build that are, or were, on their way.
#[derive(Debug)]
pub(super) struct Arrivals {
    cache: Arc<DirectoryCache>,
    asked: Mutex<HashMap<Blake3, Asked>>,
    /// What has come of a directory that is not all there.
    part: Mutex<Vec<u8>>,
}

/// A directory that was asked for.
#[derive(Debug, Default)]
struct Asked {
    /// How many wait for it.
    waiting: usize,
    /// It, when it is there.
    directory: Option<Arc<Directory>>,
}

/// What somebody waits for.
#[derive(Debug, Default)]
pub(super) struct Wait {
    found: HashMap<Blake3, Arc<Directory>>,
    missing: HashSet<Blake3>,
}

impl Arrivals {
    pub(super) fn new(cache: Arc<DirectoryCache>) -> Self {
        Self { cache, asked: Mutex::default(), part: Mutex::default() }
    }

    /// Begins to wait for directories. Those that nobody asked for yet are returned, too.
    pub(super) fn begin(&self, digests: &[Blake3]) -> (Wait, Vec<Blake3>) {
        let (mut wait, mut new) = (Wait::default(), Vec::new());
        let mut asked = self.asked();
        for digest in digests {
            if wait.found.contains_key(digest) || wait.missing.contains(digest) {
                continue;
            }
            match self.cache.get(digest) {
                Some(directory) => drop(wait.found.insert(*digest, directory)),
                None => {
                    let entry = asked.entry(*digest).or_insert_with(|| {
                        new.push(*digest);
                        Asked::default()
                    });
                    entry.waiting += 1;
                    wait.missing.insert(*digest);
                }
            }
        }
        (wait, new)
    }

    /// The directories in the order given, if all are there.
    pub(super) fn collect(&self, wait: &mut Wait, digests: &[Blake3]) -> Option<Vec<Arc<Directory>>> {
        let mut asked = self.asked();
        wait.missing.retain(|digest| {
            let Some(entry) = asked.get_mut(digest) else { return true };
            let Some(directory) = &entry.directory else { return true };
            wait.found.insert(*digest, directory.clone());
            entry.waiting -= 1;
            if entry.waiting == 0 {
                asked.remove(digest);
            }
            false
        });
        digests.iter().map(|digest| wait.found.get(digest).cloned()).collect()
    }

    /// Takes in encodings that the client sent. The last one goes on in the next message, if `continues` says so.
    pub(super) fn take(&self, mut encodings: Vec<Vec<u8>>, continues: bool) -> Result<(), Error> {
        let mut part = self.part.lock().expect("no holder of this lock panics");
        if let Some(first) = encodings.first_mut() {
            part.append(first);
            std::mem::swap(&mut *part, first);
        }
        if continues && let Some(last) = encodings.pop() {
            if last.len() > LARGEST {
                let problem = format!("a directory of more than {} MiB of names", LARGEST >> 20);
                return Err(Error::Context { problem });
            }
            *part = last;
        }
        drop(part);
        for encoding in encodings {
            self.take_one(&encoding)?;
        }
        Ok(())
    }

    fn take_one(&self, encoding: &[u8]) -> Result<(), Error> {
        let digest = *blake3::hash(encoding).as_bytes();
        // What was asked for and does not come would be waited for for ever.
        let not_asked = || Error::Context { problem: "a directory came that was not asked for".to_owned() };
        if !self.asked().contains_key(&digest) {
            return Err(not_asked());
        }
        let directory = Arc::new(Directory::decode(encoding)?);
        self.asked().get_mut(&digest).ok_or_else(not_asked)?.directory = Some(directory.clone());
        self.cache.insert(digest, directory);
        Ok(())
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<Blake3, Asked>> {
        self.asked.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use strata_proto::builder::v1 as pb;

    use super::*;

    /// A directory of so many files, encoded, and its digest.
    fn directory(files: usize) -> (Vec<u8>, Blake3) {
        let file = |number: usize| pb::ContextEntry {
            name: format!("{number:08}").into_bytes().into(),
            mode: 0o644,
            node: Some(pb::context_entry::Node::File(pb::ContextFile { blake3: vec![1; 32].into(), size_bytes: 1 })),
            ..Default::default()
        };
        let encoding = pb::ContextDirectory { entries: (0..files).map(file).collect() }.encode_to_vec();
        let digest = *blake3::hash(&encoding).as_bytes();
        (encoding, digest)
    }

    #[test]
    fn a_directory_in_parts_counts_when_all_of_it_is_there() {
        let arrivals = Arrivals::new(Arc::default());
        let ((large, digest), (small, other)) = (directory(100), directory(1));
        let (mut wait, new) = arrivals.begin(&[digest, other]);
        assert_eq!(new, [digest, other]);
        let entry = large.len() / 100;

        arrivals.take(vec![large[..entry * 40].to_vec()], true).expect("a part");
        arrivals.take(vec![large[entry * 40..entry * 41].to_vec()], true).expect("a part");
        assert!(arrivals.collect(&mut wait, &[digest, other]).is_none());
        arrivals.take(vec![large[entry * 41..].to_vec(), small], false).expect("the rest, and another one");

        let found = arrivals.collect(&mut wait, &[digest, other]).expect("both are there");
        assert_eq!((found[0].entries.len(), found[1].entries.len()), (100, 1));
        assert!(arrivals.asked().is_empty());
    }

    #[test]
    fn what_was_not_asked_for_is_refused() {
        let arrivals = Arrivals::new(Arc::default());
        let (encoding, digest) = directory(1);
        arrivals.take(vec![encoding.clone()], false).expect_err("nobody asked");

        let (_wait, _) = arrivals.begin(&[digest]);
        arrivals.take(vec![[&encoding[..], &encoding].concat()], false).expect_err("it is another one");
        arrivals.take(vec![encoding], false).expect("it was asked for");
    }

    #[test]
    fn what_is_asked_for_is_had_however_much_comes_after_it() {
        let cache = Arc::new(DirectoryCache::default());
        let arrivals = Arrivals::new(cache.clone());
        let (first, digest) = directory(1);
        let (mut wait, _) = arrivals.begin(&[digest]);
        arrivals.take(vec![first], false).expect("it was asked for");
        for files in (20_000..).take(20) {
            let (encoding, digest) = directory(files);
            let (_wait, _) = arrivals.begin(&[digest]);
            arrivals.take(vec![encoding], false).expect("it was asked for");
        }

        assert!(cache.get(&digest).is_none(), "it is too old to be kept");
        assert!(cache.known().bytes <= KEPT);
        assert!(arrivals.collect(&mut wait, &[digest]).is_some());
    }

    #[test]
    fn two_who_want_the_same_ask_once_and_both_have_it() {
        let arrivals = Arrivals::new(Arc::default());
        let (encoding, digest) = directory(3);
        let (mut one, first) = arrivals.begin(&[digest, digest]);
        let (mut two, second) = arrivals.begin(&[digest]);

        arrivals.take(vec![encoding], false).expect("it was asked for");

        assert_eq!((first.len(), second.len()), (1, 0));
        assert_eq!(arrivals.collect(&mut one, &[digest, digest]).map(|found| found.len()), Some(2));
        assert_eq!(arrivals.collect(&mut two, &[digest]).map(|found| found.len()), Some(1));
    }
}
