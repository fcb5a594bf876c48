//! What a layer leaves open in its chain: directories that its archive only implies take the attributes that they have
//! below; where a symbolic link is below them, the layer is unpacked once more, following it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, OFlags};
use rustix::io::Errno;
use strata_archive::ApplyOptions;

use super::{Chain, Chains, Error, LoadToc, Result, Shape, key, open};
use crate::tree::{self, Metadata, View};

/// The name of a lower of directories that have attributes and no files.
pub(super) const FIX: &str = "fix";
/// How often a layer is unpacked again because the last attempt met further links.
const ATTEMPTS: usize = 16;

impl Chains {
    /// Returns what stands for the layer in this chain, topmost first.
    pub(super) fn repair(
        &self,
        below: &Chain,
        ids: &[String],
        shape: &Shape,
        layer: &Path,
        load: LoadToc<'_>,
    ) -> Result<Vec<PathBuf>> {
        let made = self.directory.join(key(ids));
        if !made.join("layers").exists() {
            let view = View::open(&below.lowers, &self.empty)?;
            let found = survey(&view, &shape.implied)?;
            if found.links.is_empty() && found.directories.is_empty() {
                return Ok(vec![layer.to_path_buf()]);
            }
            self.make(&made, |new| {
                if found.links.is_empty() {
                    return fix(&view, &found.directories, layer, new);
                }
                self.unpack_again(&view, ids, shape, found.links, layer, new, load)
            })?;
            let list = ids.join("\n");
            fs::write(made.join("layers"), list).map_err(|source| tree::Error::io("write", &made, source))?;
        }
        if made.join("tree").is_dir() {
            return Ok(vec![made.join("tree")]);
        }
        Ok(vec![made.join(FIX), layer.to_path_buf()])
    }

    #[allow(clippy::too_many_arguments)]
    fn unpack_again(
        &self,
        view: &View,
        ids: &[String],
        shape: &Shape,
        mut links: BTreeMap<Vec<u8>, Vec<u8>>,
        layer: &Path,
        new: &Path,
        load: LoadToc<'_>,
    ) -> Result<()> {
        let id = ids.last().expect("a repaired chain has a layer");
        let toc = load(id).map_err(|source| Error::Toc { layer: id.clone(), source })?;
        let unpack = |source| Error::Unpack { layer: id.clone(), source: Box::new(source) };
        let io = |source: io::Error| Error::from(tree::Error::io("unpack to", new, source));
        let tree = new.join("tree");
        for _ in 0..ATTEMPTS {
            fs::create_dir(&tree).map_err(io)?;
            let (from, to) = (open(layer)?, open(&tree)?);
            if shape.has_root {
                let metadata = Metadata::of(&from).map_err(|errno| io(errno.into()))?;
                tree::copy_attributes(from.as_fd(), to.as_fd(), &metadata, &tree)?;
            }
            let options = ApplyOptions { links_below: links.clone(), ..ApplyOptions::default() };
            let (reader, writer) = io::pipe().map_err(io)?;
            let applied = std::thread::scope(|scope| {
                let toc = &toc;
                let rebuilt = scope.spawn(move || toc.rebuild(from.as_fd(), writer));
                let applied = strata_archive::apply(io::BufReader::new(reader), to.as_fd(), &options);
                // A damaged layer is the cause, the end of its archive only what the reader saw of it.
                rebuilt.join().expect("rebuilding does not panic").and(applied)
            });
            let applied = applied.map_err(unpack)?;
            let found = survey(view, &applied.implied)?;
            let before = links.len();
            links.extend(found.links);
            if links.len() == before {
                for path in &found.directories {
                    let target = tree.join(OsStr::from_bytes(path));
                    take_attributes(view, path, &open(&target)?, &target)?;
                }
                return Ok(());
            }
            fs::remove_dir_all(&tree).map_err(io)?;
        }
        Err(tree::Error::io("follow the links below", layer, Errno::LOOP).into())
    }
}

/// What stands below the implied directories of a layer.
#[derive(Debug, Default)]
struct Survey {
    /// Implied directories that are directories below.
    directories: BTreeSet<Vec<u8>>,
    /// Implied directories that are symbolic links below, with their targets.
    links: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Looks up implied directories in the view below.
fn survey(view: &View, implied: &[Vec<u8>]) -> Result<Survey> {
    let listed: BTreeSet<&[u8]> = implied.iter().map(Vec::as_slice).collect();
    let mut found = Survey::default();
    for path in implied {
        for prefix in prefixes(path) {
            let below = Path::new(OsStr::from_bytes(prefix));
            let metadata = match Metadata::at(view.root(), below) {
                Ok(metadata) => metadata,
                Err(Errno::NOENT | Errno::NOTDIR) => break,
                Err(source) => return Err(tree::Error::lookup(below, source).into()),
            };
            match metadata.kind() {
                FileType::Directory if listed.contains(prefix) => {
                    found.directories.insert(prefix.to_vec());
                }
                FileType::Directory => {}
                FileType::Symlink if listed.contains(prefix) => {
                    let target = rustix::fs::readlinkat(view.root(), below, Vec::new())
                        .map_err(|source| tree::Error::lookup(below, source))?;
                    found.links.insert(prefix.to_vec(), target.into_bytes());
                    break;
                }
                // The layer's own directory replaces it.
                _ => break,
            }
        }
    }
    Ok(found)
}

/// Lists `a`, `a/b` and `a/b/c` of `a/b/c`.
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(index, _)| index);
    slashes.chain(std::iter::once(path.len())).map(|end| &path[..end])
}

/// Makes the lower that carries attributes of implied directories.
fn fix(view: &View, directories: &BTreeSet<Vec<u8>>, layer: &Path, new: &Path) -> Result<()> {
    let root = new.join(FIX);
    fs::create_dir(&root).map_err(|source| tree::Error::io("make directory", &root, source))?;
    let from = open(layer)?;
    let metadata = Metadata::of(&from).map_err(|source| tree::Error::lookup(layer, source))?;
    let mut made: BTreeMap<Vec<u8>, (i64, u32)> = BTreeMap::new();
    tree::copy_attributes(from.as_fd(), open(&root)?.as_fd(), &metadata, &root)?;
    made.insert(Vec::new(), metadata.modified);
    for path in directories {
        for prefix in prefixes(path) {
            if made.contains_key(prefix) {
                continue;
            }
            let target = root.join(OsStr::from_bytes(prefix));
            fs::create_dir(&target).map_err(|source| tree::Error::io("make directory", &target, source))?;
            let opened = open(&target)?;
            let modified = if directories.contains(prefix) {
                take_attributes(view, prefix, &opened, &target)?
            } else {
                // The layer has an entry for this one: its own attributes stay.
                let own = open(&layer.join(OsStr::from_bytes(prefix)))?;
                let metadata = Metadata::of(&own).map_err(|source| tree::Error::lookup(&target, source))?;
                tree::copy_attributes(own.as_fd(), opened.as_fd(), &metadata, &target)?;
                metadata.modified
            };
            made.insert(prefix.to_vec(), modified);
        }
    }
    // Deepest first is not needed: nothing is made any more.
    for (path, modified) in made {
        let target = root.join(OsStr::from_bytes(&path));
        set_time(&target, modified)?;
    }
    Ok(())
}

/// Gives an open directory the attributes that its path has below; returns the time of change there.
fn take_attributes(view: &View, path: &[u8], to: &OwnedFd, shown: &Path) -> Result<(i64, u32)> {
    let below = Path::new(OsStr::from_bytes(path));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let from = view.lookup(below, flags).map_err(|source| tree::Error::lookup(below, source))?;
    let metadata = Metadata::of(&from).map_err(|source| tree::Error::lookup(below, source))?;
    tree::copy_attributes(from.as_fd(), to.as_fd(), &metadata, shown)?;
    set_time(shown, metadata.modified)?;
    Ok(metadata.modified)
}

fn set_time(path: &Path, modified: (i64, u32)) -> Result<()> {
    let times = tree::timestamps(modified.into());
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|source| tree::Error::io("set the time of", path, source).into())
}
