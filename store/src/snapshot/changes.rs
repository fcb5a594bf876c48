//! What a snapshot's writable layer changes of what is below it: names that are added, changed and gone, as Docker's `diff`
//! tells them. Its holder may be writing to it: what goes away in the middle is passed over. Nothing follows a link here.
//!
//! A directory is changed where its attributes are others, or where names in it come or go. One that was only copied up on
//! the way to something is not told.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;
use strata_types::SnapshotKey;

use super::stub::{self, Stub, Stubs};
use super::{export::found, make_upper};
use crate::catalog::blocking;
use crate::tree::{self, Metadata, View};
use crate::{Result, Store, layer};

/// How something differs from what is below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// There was nothing of its name.
    Added,
    /// It is something else, or was written to.
    Changed,
    /// It is gone.
    Removed,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub kind: Kind,
    /// Absolute path.
    pub path: PathBuf,
}

/// A snapshot that is about to be compared with what is below it.
#[derive(Debug)]
pub struct Comparison {
    upper: PathBuf,
    below: View,
    stubs: Vec<Stub>,
}

/// Opens a snapshot, free or held, to say what it changes. Mount stubs that nobody touched are no change.
pub async fn compare(store: &Arc<Store>, key: &SnapshotKey, stubs: Vec<Stub>) -> Result<Comparison> {
    let row = found(store, key).await?;
    let chain = layer::chain(store, &row.layer_ids).await?;
    let (this, place) = (Arc::clone(store), store.paths.snapshot(row.directory));
    blocking(move || {
        let upper = make_upper(&place, &chain)?;
        let below = View::open(&chain.lowers, this.layers.chains.empty())?;
        Ok(Comparison { upper, below, stubs })
    })
    .await
}

impl Comparison {
    /// Tells every change, parents before what is in them, until `tell` says that it is enough. For a thread that may block.
    pub fn tell(&self, tell: impl FnMut(Change) -> bool) -> Result<()> {
        let root = stub::root(&self.upper)?;
        let stubs = stub::untouched(root.as_fd(), &self.below, &self.stubs)?;
        let mut walk = Walk { root, below: &self.below, stubs, tell, is_enough: false };
        Ok(walk.run()?)
    }
}

/// What is still to be told.
enum Pending {
    Leaf(Kind, PathBuf),
    /// None: unless names in it came or went, there is nothing to tell of itself.
    Directory(Option<Kind>, PathBuf),
}

struct Walk<'a, F> {
    root: OwnedFd,
    below: &'a View,
    stubs: Stubs,
    tell: F,
    is_enough: bool,
}

impl<F: FnMut(Change) -> bool> Walk<'_, F> {
    /// Depth first, names in byte order. Directories are opened by their paths: a tree may be deeper than a process has
    /// descriptors.
    fn run(&mut self) -> tree::Result<()> {
        let mut pending = vec![Pending::Directory(None, PathBuf::new())];
        while let Some(next) = pending.pop() {
            match next {
                Pending::Leaf(kind, path) => self.say(kind, &path),
                Pending::Directory(kind, path) => self.directory(kind, &path, &mut pending)?,
            }
            if self.is_enough {
                return Ok(());
            }
        }
        Ok(())
    }

    fn say(&mut self, kind: Kind, path: &Path) {
        self.is_enough |= !(self.tell)(Change { kind, path: Path::new("/").join(path) });
    }

    fn directory(&mut self, kind: Option<Kind>, path: &Path, pending: &mut Vec<Pending>) -> tree::Result<()> {
        let Some(directory) = stub::open(self.root.as_fd(), path)? else { return Ok(()) };
        let below = match kind {
            Some(Kind::Added) => None,
            _ => stub::open(self.below.root(), path)?,
        };
        let mut inside = self.inside(&directory, below.as_ref(), path)?;
        let come_and_go = |one: &Pending| {
            let (Pending::Leaf(kind, _) | Pending::Directory(Some(kind), _)) = one else { return false };
            matches!(kind, Kind::Added | Kind::Removed)
        };
        let kind = kind.or_else(|| inside.iter().any(come_and_go).then_some(Kind::Changed));
        if let Some(kind) = kind.filter(|_| !path.as_os_str().is_empty()) {
            self.say(kind, path);
        }
        inside.reverse();
        pending.append(&mut inside);
        Ok(())
    }

    /// What there is to tell of what is in a directory, in the order of names.
    fn inside(&self, directory: &OwnedFd, below: Option<&OwnedFd>, path: &Path) -> tree::Result<Vec<Pending>> {
        let mut found: HashMap<OsString, Pending> = HashMap::new();
        let mut names: BTreeSet<OsString> = list(directory, path)?.into_iter().collect();
        for name in &names {
            let place = path.join(name);
            let failed = |source| tree::Error::io("read", &place, source);
            let here = match Metadata::at(directory.as_fd(), Path::new(name)) {
                Err(Errno::NOENT) => continue,
                here => here.map_err(failed)?,
            };
            let there = match below.map(|below| Metadata::at(below.as_fd(), Path::new(name))) {
                None | Some(Err(Errno::NOENT)) => None,
                Some(there) => Some(there.map_err(failed)?),
            };
            found.extend(self.one(place, &here, there.as_ref()).map(|one| (name.clone(), one)));
        }
        // What an opaque directory has not is gone.
        if let Some(below) = below
            && tree::is_opaque(directory.as_fd())
        {
            for name in list(below, path)?.into_iter().filter(|name| !names.contains(name)).collect::<Vec<_>>() {
                found.insert(name.clone(), Pending::Leaf(Kind::Removed, path.join(&name)));
                names.insert(name);
            }
        }
        Ok(names.iter().filter_map(|name| found.remove(name)).collect())
    }

    fn one(&self, place: PathBuf, here: &Metadata, there: Option<&Metadata>) -> Option<Pending> {
        if here.is_whiteout() {
            return there.map(|_| Pending::Leaf(Kind::Removed, place));
        }
        if self.stubs.has(&place) {
            return None;
        }
        let kind = if there.is_some() { Kind::Changed } else { Kind::Added };
        if here.kind() != FileType::Directory {
            return Some(Pending::Leaf(kind, place));
        }
        let is_same = there.is_some_and(|there| {
            let of = |one: &Metadata| (one.mode, one.uid, one.gid);
            of(here) == of(there) && (here.modified == there.modified || self.stubs.explain(&place, here.modified))
        });
        Some(Pending::Directory((!is_same).then_some(kind), place))
    }
}

fn list(directory: &OwnedFd, path: &Path) -> tree::Result<Vec<OsString>> {
    let failed = |source| tree::Error::io("list", path, source);
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What a writable layer changes, as Docker prints it.
    fn told(upper: &Path, low: &Path, empty: &Path, stubs: Vec<Stub>) -> Vec<String> {
        let below = View::open(&[low.to_path_buf()], empty).unwrap();
        let comparison = Comparison { upper: upper.to_path_buf(), below, stubs };
        let mut told = Vec::new();
        comparison
            .tell(|change| {
                let letter = match change.kind {
                    Kind::Added => 'A',
                    Kind::Changed => 'C',
                    Kind::Removed => 'D',
                };
                told.push(format!("{letter} {}", change.path.display()));
                true
            })
            .unwrap();
        told
    }

    /// A mount of an overlay over a lower tree, in which something is done.
    fn after(make: impl FnOnce(&Path), change: impl FnOnce(&View)) -> Vec<String> {
        let base = tempfile::tempdir_in("/var/tmp").unwrap();
        let [low, upper, work, empty] = ["low", "upper", "work", "empty"].map(|name| {
            fs::create_dir(base.path().join(name)).unwrap();
            base.path().join(name)
        });
        make(&low);
        let view = View::open_writable(std::slice::from_ref(&low), &upper, &work).unwrap();
        change(&view);
        drop(view);
        told(&upper, &low, &empty, Vec::new())
    }

    fn at(view: &View, path: &str) -> PathBuf {
        use std::os::fd::AsRawFd;
        PathBuf::from(format!("/proc/self/fd/{}/{path}", view.root().as_raw_fd()))
    }

    #[test]
    fn added_changed_and_removed_names_are_told_with_their_directories() {
        let told = after(
            |low| {
                fs::create_dir_all(low.join("etc/sub")).unwrap();
                for file in ["etc/passwd", "etc/gone", "etc/sub/kept", "top"] {
                    fs::write(low.join(file), "x").unwrap();
                }
            },
            |view| {
                fs::write(at(view, "etc/sub/kept"), "changed").unwrap();
                fs::remove_file(at(view, "etc/gone")).unwrap();
                fs::create_dir(at(view, "new")).unwrap();
                fs::write(at(view, "new/file"), "x").unwrap();
                std::os::unix::fs::symlink("nowhere", at(view, "new/link")).unwrap();
                fs::write(at(view, "top"), "y").unwrap();
            },
        );

        assert_eq!(
            told,
            ["C /etc", "D /etc/gone", "C /etc/sub/kept", "A /new", "A /new/file", "A /new/link", "C /top"]
        );
    }

    #[test]
    fn a_directory_that_was_made_anew_hides_what_was_in_it() {
        let told = after(
            |low| {
                fs::create_dir_all(low.join("data/old")).unwrap();
                fs::write(low.join("data/file"), "x").unwrap();
                fs::write(low.join("data/both"), "x").unwrap();
                fs::write(low.join("was-file"), "x").unwrap();
            },
            |view| {
                fs::remove_dir_all(at(view, "data")).unwrap();
                fs::create_dir(at(view, "data")).unwrap();
                fs::write(at(view, "data/both"), "y").unwrap();
                fs::remove_file(at(view, "was-file")).unwrap();
                fs::create_dir(at(view, "was-file")).unwrap();
            },
        );

        assert_eq!(told, ["C /data", "C /data/both", "D /data/file", "D /data/old", "C /was-file"]);
    }

    #[test]
    fn nothing_is_told_of_what_is_only_read_or_copied_up() {
        let told = after(
            |low| {
                fs::create_dir_all(low.join("a/b")).unwrap();
                fs::write(low.join("a/b/file"), "x").unwrap();
            },
            |view| {
                assert_eq!(fs::read_to_string(at(view, "a/b/file")).unwrap(), "x");
                let file = fs::File::options().append(true).open(at(view, "a/b/file")).unwrap();
                drop(file);
            },
        );

        assert_eq!(told, ["C /a/b/file"], "the file was opened to be written to, its directories were not");
    }

    #[test]
    fn mount_stubs_that_nobody_touched_are_no_change() {
        use std::os::unix::fs::MetadataExt;
        let base = tempfile::tempdir_in("/var/tmp").unwrap();
        let [low, upper, empty] = ["low", "upper", "empty"].map(|name| {
            fs::create_dir(base.path().join(name)).unwrap();
            base.path().join(name)
        });
        for directory in ["data", "data/deep", "used"] {
            fs::create_dir(upper.join(directory)).unwrap();
        }
        fs::write(upper.join("hosts"), "").unwrap();
        fs::write(upper.join("used/file"), "x").unwrap();
        let stub = |path: &str| {
            let inode = fs::metadata(upper.join(path)).unwrap().ino();
            Stub { path: Path::new("/").join(path), inode }
        };
        let stubs = ["data", "data/deep", "hosts", "used"].map(stub).to_vec();

        assert_eq!(told(&upper, &low, &empty, stubs), ["A /used", "A /used/file"]);
    }
}
