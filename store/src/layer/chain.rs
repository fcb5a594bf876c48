//! Chains: what a list of layers means together.
//!
//! A layer is unpacked once, without knowing its parents, so a directory that its archive only implies (a parent
//! without an entry) has made-up attributes, and hides a symbolic link below it. Both are repaired (`repair`), for one
//! chain at a time: attributes from below go into a small lower of directories just above the layer; where a link is
//! in the way, the layer is unpacked once more, following it. A property test says that the outcome is what applying
//! the archives one after the other gives. What is long becomes one directory or image behind: `flat`. Both live below
//! `chains/`, can always be made again, and are dropped when one of their layers is.

mod flat;
mod repair;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use strata_archive::Toc;

use super::Images;
use crate::trash::Trash;
use crate::tree::{self, View};

/// A chain is made flat where that saves as many lowers as this.
pub const FLAT_ABOVE: usize = 30;

/// What the name of an unfinished directory begins with.
const UNFINISHED: &str = "new-";

/// Chains remembered; about a kilobyte each.
const REMEMBERED: usize = 4096;

/// Why a chain could not be assembled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A view of the layers below failed.
    #[error(transparent)]
    Tree(#[from] tree::Error),
    /// The image of a layer cannot be mounted.
    #[error(transparent)]
    Image(#[from] Box<crate::Error>),
    /// A layer could not be unpacked again.
    #[error("cannot unpack layer {layer} for its chain")]
    Unpack {
        /// Id of the layer.
        layer: String,
        /// Why.
        source: Box<strata_archive::Error>,
    },
    /// A layer's table of contents is not to be had.
    #[error("cannot load the table of contents of layer {layer}")]
    Toc {
        /// Id of the layer.
        layer: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

type Result<T, E = Error> = std::result::Result<T, E>;

/// What a chain needs to know of a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Directories without an entry, sorted, without those that hide what is below.
    pub implied: Vec<Vec<u8>>,
    /// The root's attributes are the layer's own.
    pub has_root: bool,
    /// Nothing of the layers below is seen.
    pub is_root_opaque: bool,
}

impl Shape {
    /// Describes a layer that was written over its parents, so that nothing in it is made up.
    pub fn exact() -> Self {
        Self { implied: Vec::new(), has_root: true, is_root_opaque: false }
    }
}

/// A layer of a chain.
#[derive(Clone, Debug)]
pub struct Link {
    /// Id, which is also the name of its directory.
    pub id: String,
    /// What it leaves to its chain.
    pub shape: Arc<Shape>,
}

/// An assembled chain.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// Directories to stack, topmost first.
    pub lowers: Vec<PathBuf>,
    /// Directory that has the attributes of the merged root.
    pub root: Option<PathBuf>,
}

/// The chains of a store.
#[derive(Debug)]
pub struct Chains {
    directory: PathBuf,
    empty: PathBuf,
    images: Arc<Images>,
    trash: Trash,
    known: Mutex<HashMap<Vec<String>, Arc<Chain>>>,
    /// Chains that are being made flat, or cannot be.
    flattening: Mutex<Vec<Vec<String>>>,
    next: AtomicU64,
}

/// Loads the table of contents of a layer.
pub type LoadToc<'a> = &'a dyn Fn(&str) -> Result<Toc, Box<dyn std::error::Error + Send + Sync>>;

impl Chains {
    /// Opens the chains below `root`; `layers` is the directory of layers. What another boot has made is dropped, since
    /// nothing of it was synced, and what was not finished.
    pub fn open(root: &Path, layers: &Path, boot_id: &str, trash: Trash) -> crate::Result<Self> {
        let directory = root.join("chains");
        let failed = |attempt, source| crate::Error::io(attempt, &directory, source);
        let mark = directory.join("boot");
        if fs::read_to_string(&mark).is_ok_and(|found| found != boot_id) {
            trash.discard(&directory)?;
        }
        let empty = directory.join("empty");
        fs::create_dir_all(&empty).map_err(|source| failed("make", source))?;
        fs::write(&mark, boot_id).map_err(|source| failed("write in", source))?;
        for name in crate::disk::names(&directory)?.iter().filter(|name| name.starts_with(UNFINISHED)) {
            trash.discard(&directory.join(name))?;
        }
        let (known, flattening, next) = (Mutex::default(), Mutex::default(), AtomicU64::new(0));
        let images = Arc::new(Images::new(layers));
        Ok(Self { directory, empty, images, trash, known, flattening, next })
    }

    /// Returns the images among the layers.
    pub fn images(&self) -> &Arc<Images> {
        &self.images
    }

    /// Returns an empty directory, for views.
    pub fn empty(&self) -> &Path {
        &self.empty
    }

    /// Returns a chain that was assembled before.
    pub fn known(&self, ids: &[String]) -> Option<Arc<Chain>> {
        if ids.is_empty() {
            return Some(Arc::default());
        }
        self.known.lock().unwrap_or_else(|poison| poison.into_inner()).get(ids).cloned()
    }

    /// Assembles a chain of layers, bottom first.
    pub fn assemble(&self, links: &[Link], load: LoadToc<'_>) -> Result<Arc<Chain>> {
        let ids: Vec<String> = links.iter().map(|link| link.id.clone()).collect();
        let mut start = 0;
        let mut chain = Arc::new(Chain::default());
        {
            let known = self.known.lock().unwrap_or_else(|poison| poison.into_inner());
            for length in (1..=ids.len()).rev() {
                if let Some(found) = known.get(&ids[..length]) {
                    (start, chain) = (length, Arc::clone(found));
                    break;
                }
            }
        }
        for index in start..links.len() {
            let stacked = self.extend(&chain, &ids[..=index], &links[index].shape, load)?;
            // The stack is as good as a flat form that cannot be used.
            chain = Arc::new(match self.if_flat(&ids[..=index]).unwrap_or_default() {
                Some(lowers) => Chain { lowers, root: stacked.root },
                None => stacked,
            });
            let mut known = self.known.lock().unwrap_or_else(|poison| poison.into_inner());
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(ids[..=index].to_vec(), Arc::clone(&chain));
        }
        Ok(chain)
    }

    /// Drops what was made for chains with layers that are gone.
    pub fn sweep(&self, exists: impl Fn(&str) -> bool) -> crate::Result<()> {
        let mut known = self.known.lock().unwrap_or_else(|poison| poison.into_inner());
        known.retain(|ids, _| ids.iter().all(|id| exists(id)));
        for name in crate::disk::names(&self.directory)?.iter().filter(|name| !name.starts_with(UNFINISHED)) {
            let path = self.directory.join(name);
            let Ok(ids) = fs::read_to_string(path.join("layers")) else { continue };
            if !ids.lines().all(&exists) {
                self.trash.discard(&path)?;
            }
        }
        Ok(())
    }

    /// Says whether a chain should be made flat now: it is long, and no beginning of it is on its way or cannot be.
    /// [`Chains::flatten`] follows.
    pub fn begin_flat(&self, ids: &[String], chain: &Chain) -> bool {
        let lowers = chain.lowers.len();
        if lowers <= FLAT_ABOVE || lowers - flat::runs(&chain.lowers, &self.images).len() < FLAT_ABOVE {
            return false;
        }
        let mut flattening = self.flattening.lock().unwrap_or_else(|poison| poison.into_inner());
        let is_under_way = flattening.iter().any(|other| ids.starts_with(other));
        if !is_under_way {
            flattening.push(ids.to_vec());
        }
        !is_under_way
    }

    /// Makes an assembled chain flat, and what is known of longer ones. `goes_on` says now and then whether it shall;
    /// what was made until then is thrown away. Says whether it is flat. One that fails is not tried again.
    pub fn flatten(&self, ids: &[String], goes_on: &dyn Fn() -> bool) -> Result<bool> {
        let Some(chain) = self.known(ids).filter(|chain| chain.lowers.len() > 1) else { return Ok(false) };
        let made = self.flat_path(ids);
        let mut end = flat::End::Whole;
        if self.if_flat(ids)?.is_none() {
            self.make(&made, |new| {
                end = self.merge(&chain, new, &made, goes_on)?;
                let failed = |source| tree::Error::io("write in", new, source);
                if end == flat::End::GivenUp {
                    // Not under its name, so that nobody takes it for whole.
                    return Err(failed(io::ErrorKind::Interrupted.into()).into());
                }
                fs::write(new.join("layers"), ids.join("\n")).map_err(failed)?;
                Ok(())
            })
            .or_else(|error| if end == flat::End::GivenUp { Ok(()) } else { Err(error) })?;
        }
        if end == flat::End::Whole {
            self.use_flat(ids, &chain.lowers)?;
        }
        self.flattening.lock().unwrap_or_else(|poison| poison.into_inner()).retain(|other| other != ids);
        Ok(end == flat::End::Whole)
    }

    /// Merges each run of a chain in `new`, which will be `made`, and writes there what the chain's lowers then are: a
    /// directory or an image a line, topmost first, by its path from the store's root.
    fn merge(&self, chain: &Chain, new: &Path, made: &Path, goes_on: &dyn Fn() -> bool) -> Result<flat::End> {
        let root = chain.root.as_deref().unwrap_or(&chain.lowers[0]);
        let runs = flat::runs(&chain.lowers, &self.images);
        let (mut stack, mut rest) = (Vec::new(), &chain.lowers[..]);
        for (number, run) in runs.iter().enumerate() {
            rest = &rest[run.lowers.len()..];
            let place = match run.lowers {
                [only] => self.images.image_at(only).unwrap_or_else(|| only.clone()),
                _ => {
                    let (target, place) = (new.join(number.to_string()), made.join(number.to_string()));
                    let below = (!rest.is_empty()).then(|| View::open(rest, &self.empty)).transpose()?;
                    let at = flat::Place { target: &target, root, below: below.as_ref(), uuid: uuid(&place) };
                    if flat::merge(run, &at, &self.images, goes_on)? == flat::End::GivenUp {
                        return Ok(flat::End::GivenUp);
                    }
                    place
                }
            };
            stack.extend_from_slice(place.strip_prefix(self.root()).unwrap_or(&place).as_os_str().as_bytes());
            stack.push(b'\n');
        }
        let list = new.join("stack");
        fs::write(&list, stack).map_err(|source| tree::Error::io("write", &list, source))?;
        Ok(flat::End::Whole)
    }

    fn root(&self) -> &Path {
        self.directory.parent().expect("it was joined to the root")
    }

    /// Where a flat chain is.
    fn flat_path(&self, ids: &[String]) -> PathBuf {
        self.directory.join(format!("{}-merged", key(ids)))
    }

    /// The lowers of the flat form of a long chain, if there is one. One that cannot be used is an error once.
    fn if_flat(&self, ids: &[String]) -> Result<Option<Vec<PathBuf>>> {
        let path = self.flat_path(ids);
        let Ok(stack) = fs::read(path.join("stack")) else { return Ok(None) };
        let places = stack.split(|byte| *byte == b'\n').filter(|place| !place.is_empty());
        let lowers = places.map(|place| self.images.tree_at(&self.root().join(OsStr::from_bytes(place))));
        match lowers.collect::<crate::Result<_>>() {
            Ok(lowers) => Ok(Some(lowers)),
            Err(error) => {
                // Why it cannot be used is what to say; a leftover goes with its layers.
                let _ = self.trash.discard(&path);
                Err(Box::new(error).into())
            }
        }
    }

    /// Lets all chains that begin with this one stand on its flat form.
    fn use_flat(&self, ids: &[String], stacked: &[PathBuf]) -> Result<()> {
        let mut known = self.known.lock().unwrap_or_else(|poison| poison.into_inner());
        // A layer that went meanwhile was swept before this had its name.
        if !ids.iter().all(|id| self.images.has(id)) {
            let path = self.flat_path(ids);
            let discarded = self.trash.discard(&path);
            return discarded.map(drop).map_err(|_| tree::Error::io("discard", &path, Errno::IO).into());
        }
        let Some(flat) = self.if_flat(ids)? else { return Ok(()) };
        for (_, chain) in known.iter_mut().filter(|(other, _)| other.starts_with(ids)) {
            if let Some(own) = chain.lowers.strip_suffix(stacked) {
                let lowers = own.iter().chain(&flat).cloned().collect();
                *chain = Arc::new(Chain { lowers, root: chain.root.clone() });
            }
        }
        Ok(())
    }

    /// Puts one layer on a chain. The last of `ids` is the layer's.
    fn extend(&self, below: &Chain, ids: &[String], shape: &Shape, load: LoadToc<'_>) -> Result<Chain> {
        let nothing = Chain::default();
        let below = if shape.is_root_opaque { &nothing } else { below };
        let layer = self.images.tree(ids.last().expect("a chain that is extended has a layer")).map_err(Box::new)?;
        let mut own = vec![layer.clone()];
        if !shape.implied.is_empty() && !below.lowers.is_empty() {
            own = self.repair(below, ids, shape, &layer, load)?;
        }
        let root = if shape.has_root { Some(layer) } else { below.root.clone() };
        own.extend(below.lowers.iter().cloned());
        Ok(Chain { lowers: own, root })
    }

    /// Makes a directory of repairs visible only when it is whole.
    fn make(&self, made: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let name = format!("{UNFINISHED}{}-{}", std::process::id(), self.next.fetch_add(1, Ordering::Relaxed));
        let new = self.directory.join(name);
        let failed = |source: io::Error| tree::Error::io("make", &new, source);
        fs::create_dir(&new).map_err(failed)?;
        let filled = fill(&new).and_then(|()| match fs::rename(&new, made) {
            Ok(()) => Ok(()),
            // Somebody else has made the same, or an earlier process died before it named the layers.
            Err(_) if made.is_dir() => self.trash.discard(&new).map(drop).map_err(|_| failed(Errno::IO.into()).into()),
            Err(source) => Err(failed(source).into()),
        });
        if filled.is_err() {
            // What failed is said; a leftover goes at the next start.
            let _ = self.trash.discard(&new);
        }
        filled
    }
}

/// The name of what is made for a chain.
fn key(ids: &[String]) -> String {
    blake3::hash(ids.join("\n").as_bytes()).to_hex()[..16].to_owned()
}

/// The name of an image for the kernel, by where it is.
fn uuid(place: &Path) -> [u8; 16] {
    let hash = blake3::hash(place.as_os_str().as_bytes());
    *hash.as_bytes().first_chunk().expect("a digest has 32 bytes")
}

fn open(directory: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(directory, flags, Mode::empty())
        .map_err(|source| tree::Error::io("open", directory, source).into())
}

#[cfg(test)]
mod tests;
