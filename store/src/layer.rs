//! Layers: trees that are stacked. A layer is unpacked once, from an archive that never was on disk itself, or made
//! by a build; its directory is visible to others only when its row says so.
//!
//! A built layer is usable before its archive is known. What its diff-id is is computed behind, in the order in which
//! layers were made, on as many threads as there are cores; [`describe`](fn@describe) waits for it.

mod archive;
mod backend;
pub mod chain;
mod describe;
mod growing;

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags};
use strata_archive::{Applied, Toc};
use strata_types::{Digest, LayerId, LeaseId};
use tokio::sync::{Semaphore, watch};

use crate::catalog::{CacheRecord, LayerPart, LayerRow, NewLayer, blocking};
use crate::trash::Trash;
use crate::tree::{self, Hashes, View};
use crate::{Error, Paths, Result, Store};
pub use archive::archive;
pub(crate) use archive::archive_growing;
pub use backend::{Backend, Images};
pub(crate) use backend::{table_of, verify, write_archive};
use chain::{Chain, Chains, Link, Shape};
pub(crate) use describe::start;
pub use describe::{describe, resume, table_of_contents};
pub(crate) use growing::{Growing, growing};

/// The kernel stacks at most so many directories: fs/overlayfs/params.h, OVL_MAX_STACK.
const MOST_LOWERS: usize = 500;

/// What the store remembers of layers while it runs.
#[derive(Debug)]
pub struct Layers {
    /// The chains made of layers.
    pub(crate) chains: Chains,
    /// Contents hashed for listings.
    pub(crate) hashes: Hashes,
    /// Layers whose archive is being computed, or could not be.
    describing: Mutex<HashMap<LayerId, watch::Receiver<describe::Progress>>>,
    /// Descriptions on their way to the catalog.
    batch: describe::Batch,
    permits: Arc<Semaphore>,
    /// Chains are made flat one at a time.
    flattening: Semaphore,
}

impl Layers {
    /// Opens what belongs to the layers of a store.
    pub fn open(paths: &Paths, boot_id: &str, trash: &Trash) -> Result<Self> {
        let chains = Chains::open(paths.root(), &paths.layers(), boot_id, trash.clone())?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            chains,
            hashes: Hashes::default(),
            describing: Mutex::default(),
            batch: describe::Batch::default(),
            permits: Arc::new(Semaphore::new(cores)),
            flattening: Semaphore::new(1),
        })
    }

    /// Returns where the tree of a layer is to be seen; see [`Images::tree`].
    pub(crate) fn tree(&self, id: &LayerId) -> Result<PathBuf> {
        self.chains.images().tree(id.as_str())
    }
}

/// Unpacks an archive, compressed or not, into a new layer held by the lease.
///
/// If a layer with the same diff-id exists, that one is returned instead and the new one is dropped.
pub async fn ingest(store: &Arc<Store>, reader: impl Read + Send + 'static, lease: &LeaseId) -> Result<LayerRow> {
    let id = store.catalog.create_layer(lease).await?;
    let result = unpack(store, &id, reader, lease).await;
    if result.as_ref().is_ok_and(|row| row.id == id) {
        return result;
    }
    give_up(store, &id).await;
    result
}

/// Removes a layer that could not be finished, or is not needed.
pub(crate) async fn give_up(store: &Arc<Store>, id: &LayerId) {
    let (directory, trash) = (store.paths.layer(id), store.trash.clone());
    if blocking(move || trash.discard(&directory)).await.is_ok() {
        // Why it is given up matters more than what this says; the next start tries again.
        let _ = store.catalog.abandon_layer(id).await;
    }
}

async fn unpack(
    store: &Arc<Store>,
    id: &LayerId,
    reader: impl Read + Send + 'static,
    lease: &LeaseId,
) -> Result<LayerRow> {
    let (path, backend) = (store.paths.layer(id), store.config.layer_backend);
    let applied = blocking(move || apply(backend, &path, reader)).await?;
    adopt(store, id, applied, lease).await
}

/// Unpacks an archive, compressed or not, under a new name, on a thread that may block.
pub(crate) fn apply(backend: Backend, path: &Path, reader: impl Read + Send + 'static) -> Result<Applied> {
    let (_, tar) = strata_archive::decompress_ahead(reader).map_err(|source| Error::Archive { source })?;
    match backend.apply(path, tar)? {
        // Even an archive of nothing has its end marks; no bytes at all are a lost one.
        applied if applied.tar_size == 0 => {
            Err(Error::Archive { source: strata_archive::Error::Truncated { offset: 0 } })
        }
        applied => Ok(applied),
    }
}

/// Makes a layer of a directory that was unpacked, unless there is one with the same diff-id: then it is that one.
pub(crate) async fn adopt(store: &Arc<Store>, id: &LayerId, applied: Applied, lease: &LeaseId) -> Result<LayerRow> {
    let diff_id = describe::diff_id(id, &applied)?;
    if let Some(existing) = store.catalog.hold_layer_by_diff_id(&diff_id, lease).await? {
        return Ok(existing);
    }
    let shape =
        Shape { implied: applied.implied.clone(), has_root: applied.has_root, is_root_opaque: applied.is_root_opaque };
    store.catalog.set_layer_shape(id, shape.encode()).await?;
    describe::record(store, id, diff_id, applied).await?;
    store.catalog.mark_layer_usable(id).await?;
    store.catalog.layer(id).await
}

/// Writes a layer over its parents, bottom first: what COPY and ADD do; with what the build cache is to know of it.
pub async fn write_tree(
    store: &Arc<Store>,
    parents: &[LayerId],
    lease: &LeaseId,
    (settings, record): (TreeSettings, Option<CacheRecord>),
    lots: impl IntoIterator<Item = tree::Result<Vec<tree::Entry>>> + Send + 'static,
) -> Result<LayerRow> {
    let chain = chain(store, parents).await?;
    let id = store.catalog.new_layer_id(lease).await?;
    let plan = tree::Plan {
        lowers: chain.lowers.clone(),
        upper: store.paths.layer(&id),
        work: store.paths.ingest().join(format!("tree-{}", id.as_str())),
        empty: store.layers.chains.empty().to_path_buf(),
        working_directory: settings.working_directory,
        // It only saves work; without it the layer is the same.
        previous: settings.previous,
        modified: settings.modified,
        made: settings.made,
    };
    let this = Arc::clone(store);
    let written = blocking(move || {
        make_directory(&plan.upper)?;
        take_root(&chain, &plan.upper)?;
        make_directory(&plan.work)?;
        let written = tree::write(&plan, &this.contents, lots).map_err(Error::from);
        let removed = fs::remove_dir_all(&plan.work).map_err(|source| Error::io("remove", &plan.work, source));
        written.and(removed)
    })
    .await;
    let cached = record.clone();
    let added = match written {
        Ok(()) => {
            // On nothing, it may stand on any other layer, whose root it leaves as it is.
            let shape = parents.is_empty().then(|| Shape { has_root: false, ..Shape::exact() }.encode());
            store.catalog.add_layer(NewLayer { id: id.clone(), lease: lease.clone(), record, shape }).await
        }
        Err(error) => Err(error),
    };
    if added.is_err() {
        let (directory, trash) = (store.paths.layer(&id), store.trash.clone());
        // The first error is the one to tell; a start finds what is left.
        let _ = blocking(move || trash.discard(&directory)).await;
        return added;
    }
    describe::start(store, &id);
    store.recorded(cached, parents);
    added
}

/// Assembles the chain of usable layers, bottom first.
pub async fn chain(store: &Arc<Store>, ids: &[LayerId]) -> Result<Arc<Chain>> {
    if ids.len() > MOST_LOWERS {
        return Err(too_long(ids, ids.len()));
    }
    let chain = assemble(store, ids).await?;
    if chain.lowers.len() > MOST_LOWERS {
        return Err(too_long(ids, chain.lowers.len()));
    }
    flatten_behind(store, ids, &chain);
    Ok(chain)
}

fn too_long(ids: &[LayerId], directories: usize) -> Error {
    let count = ids.len();
    Error::invalid(
        "layer_ids",
        format!("{count} layers make {directories} directories, and the kernel stacks at most {MOST_LOWERS}"),
    )
}

/// Makes a long chain flat, without making anybody wait.
fn flatten_behind(store: &Arc<Store>, ids: &[LayerId], chain: &Chain) {
    let names: Vec<String> = ids.iter().map(|id| id.as_str().to_owned()).collect();
    if !store.layers.chains.begin_flat(&names, chain) {
        return;
    }
    let (store, busy) = (Arc::clone(store), store.idle.busy());
    let drain = store.drain.clone();
    drain.clone().spawn(async move {
        // It is never closed.
        let _turn = store.layers.flattening.acquire().await;
        let this = Arc::clone(&store);
        let flat = blocking(move || this.layers.chains.flatten(&names, &|| !drain.is_draining())).await;
        if let Err(error) = flat {
            // The stack goes on to be what it was.
            tracing::warn!("cannot make a long chain of layers flat: {}", strata_rpc::fault::chain(&error));
        }
        drop(busy);
    });
}

async fn assemble(store: &Arc<Store>, ids: &[LayerId]) -> Result<Arc<Chain>> {
    let names: Vec<String> = ids.iter().map(|id| id.as_str().to_owned()).collect();
    if store.catalog.are_layers_usable(ids).await?
        && let Some(known) = store.layers.chains.known(&names)
    {
        return Ok(known);
    }
    let parts = store.catalog.layer_parts(ids).await?;
    let mut links = Vec::with_capacity(parts.len());
    let mut tocs = HashMap::new();
    for (id, LayerPart { toc, shape }) in ids.iter().zip(parts) {
        let shape = match shape {
            Some(bytes) => Shape::decode(&bytes).ok_or_else(|| Error::LayerDamaged {
                id: id.clone(),
                problem: "its row does not say which directories it implies".to_owned(),
            })?,
            // Written over its parents, so nothing in it is made up.
            None => Shape::exact(),
        };
        links.push(Link { id: id.as_str().to_owned(), shape: Arc::new(shape) });
        tocs.extend(toc.map(|toc| (id.as_str().to_owned(), toc)));
    }
    let this = Arc::clone(store);
    blocking(move || {
        let load = |id: &str| -> Result<Toc, Box<dyn std::error::Error + Send + Sync>> {
            let digest = Digest::parse(tocs.get(id).ok_or("it has none")?)?;
            let bytes = fs::read(this.paths.blob(&digest))?;
            if crate::blob::digest(&bytes) != digest {
                return Err(format!("blob {digest} is damaged").into());
            }
            Ok(Toc::decode(&bytes)?)
        };
        this.layers.chains.assemble(&links, &load).map_err(Error::from)
    })
    .await
}

/// Opens the merged view of a chain, bottom first.
pub async fn view(store: &Arc<Store>, ids: &[LayerId]) -> Result<View> {
    let chain = chain(store, ids).await?;
    let this = Arc::clone(store);
    blocking(move || View::open(&chain.lowers, this.layers.chains.empty()).map_err(Error::from)).await
}

/// How a tree is written, beside what.
#[derive(Clone, Debug, Default)]
pub struct TreeSettings {
    /// Directory that relative destinations start from.
    pub working_directory: PathBuf,
    /// Layer of an earlier run of the same step.
    pub previous: Option<LayerId>,
    /// Time of directories that have to be made. Unset: now.
    pub modified: Option<tree::Time>,
    /// What else they become.
    pub made: tree::Made,
}

impl From<chain::Error> for Error {
    fn from(error: chain::Error) -> Self {
        match error {
            chain::Error::Tree(source) => Self::Tree(source),
            chain::Error::Image(source) => *source,
            chain::Error::Unpack { ref layer, .. } | chain::Error::Toc { ref layer, .. } => match LayerId::parse(layer)
            {
                Ok(id) => Self::LayerDamaged { id, problem: strata_rpc::fault::chain(&error) },
                Err(_) => Self::CatalogCorrupt { noun: "layer id", text: layer.clone() },
            },
        }
    }
}

impl Shape {
    /// Encodes the shape for the catalog: flags, then paths, each ended by a NUL.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.has_root) | u8::from(self.is_root_opaque) << 1];
        for path in &self.implied {
            bytes.extend_from_slice(path);
            bytes.push(0);
        }
        bytes
    }

    /// Reads what [`Shape::encode`] wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (flags, paths) = bytes.split_first()?;
        let implied = match paths.split_last() {
            None => Vec::new(),
            Some((0, paths)) => paths.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect(),
            Some(_) => return None,
        };
        Some(Self { implied, has_root: flags & 1 != 0, is_root_opaque: flags & 2 != 0 })
    }
}

/// Makes a directory with the attributes of a root that nobody described.
pub(crate) fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|source| Error::io("make directory", path, source))?;
    // Not subject to the umask of the service.
    rustix::fs::chmod(path, Mode::from_raw_mode(0o755)).map_err(|source| Error::io("change the mode of", path, source))
}

/// Gives a fresh directory the attributes of a chain's merged root.
pub(crate) fn take_root(chain: &Chain, directory: &Path) -> Result<()> {
    let Some(root) = &chain.root else { return Ok(()) };
    let (from, to) = (open_directory(root)?, open_directory(directory)?);
    let metadata = tree::Metadata::of(&from).map_err(|source| Error::io("read", root, source))?;
    tree::copy_attributes(from.as_fd(), to.as_fd(), &metadata, directory)?;
    rustix::fs::futimens(&to, &tree::timestamps(metadata.modified.into()))
        .map_err(|source| Error::io("set the time of", directory, source))
}

/// Opens a directory.
pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|source| Error::io("open", path, source))
}

#[cfg(test)]
pub(crate) mod tests;
