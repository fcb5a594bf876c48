//! Layers that are made again: the archive that a recipe describes, with contents of this store and contents that came.
//! It passes the ingest like one that is fetched, which says whether it is the right one.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use rustix::fs::OFlags;
use strata_archive::{Part, Recipe};
use strata_types::{Descriptor, LayerId};

use super::pack::Pack;
use super::peer::wrong;
use crate::ingest::{Fetch, Prefix};
use crate::{Error, Result, Store};

const PIECE: usize = 256 * 1024;

/// What a layer is made from.
#[derive(Clone)]
pub(super) struct Rebuild {
    pub(super) store: Arc<Store>,
    pub(super) recipe: Arc<Recipe>,
    /// Contents that this store has, held by the lease of the transfer.
    pub(super) own: Arc<HashSet<[u8; 32]>>,
    /// Contents that come.
    pub(super) pack: Arc<Pack>,
}

impl Fetch for Rebuild {
    fn fetch(&self, _blob: &Descriptor, _prefix: Prefix) -> BoxStream<'static, Result<Bytes>> {
        let this = self.clone();
        // What is local has no prefix: it is made from the start.
        let chunks = strata_rpc::chunks::from_write(move |out| this.write(out).map_err(|Failed(error)| error));
        let failed = |error: io::Error| match error.downcast::<Error>() {
            Ok(error) => error,
            Err(source) => Error::io("make", "the archive of a layer", source),
        };
        chunks.map(move |chunk| chunk.map_err(failed)).boxed()
    }

    fn is_local(&self) -> bool {
        true
    }
}

/// An error of the thread that writes, on its way through a stream of bytes.
struct Failed(io::Error);

impl From<strata_archive::Error> for Failed {
    fn from(source: strata_archive::Error) -> Self {
        Self(io::Error::other(Error::Archive { source }))
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self(io::Error::other(error))
    }
}

impl Rebuild {
    fn write(&self, out: &mut dyn Write) -> Result<(), Failed> {
        let mut layer = None;
        self.recipe.rebuild(
            |part, out| match part.size {
                0 => Ok(()),
                _ if self.own.contains(&part.blake3) => Ok(self.write_own(part, &mut layer, out)?),
                _ => Ok(self.pack.write_to(part, out)?),
            },
            out,
        )
    }

    /// Writes a content of this store; neighbours in an archive are often neighbours in a layer, so that is tried first.
    fn write_own(&self, part: &Part, layer: &mut Option<LayerId>, out: &mut dyn Write) -> Result<()> {
        let hash = blake3::Hash::from_bytes(part.blake3);
        let missing = || Error::ContentNotFound { blake3: hash.to_hex().to_string() };
        let found = self.store.contents.find(&hash, layer.as_ref()).ok_or_else(missing)?;
        let failed = |source| Error::io("read", found.path(), source);
        let mut options = File::options();
        let file = options.read(true).custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
        let file = file.open(found.path()).map_err(failed)?;
        if copy(file, part, out).map_err(failed)? != hash {
            tracing::warn!(path = %found.path().display(), "a file of a layer is not what its table of contents says");
            return Err(missing());
        }
        if file_size(found.path()).map_err(failed)? != part.size {
            return Err(wrong("a recipe gives one content two sizes"));
        }
        let name =
            found.path().strip_prefix(self.store.paths.layers()).ok().and_then(|path| path.iter().next()?.to_str());
        *layer = name.and_then(|name| LayerId::parse(name).ok()).or(layer.take());
        Ok(())
    }
}

fn file_size(path: &Path) -> io::Result<u64> {
    Ok(std::fs::symlink_metadata(path)?.len())
}

/// Copies as much as a content has, and says what the whole file is.
fn copy(mut file: File, part: &Part, out: &mut dyn Write) -> io::Result<blake3::Hash> {
    let (mut hasher, mut left) = (blake3::Hasher::new(), part.size);
    let mut piece = vec![0; PIECE.min(usize::try_from(part.size).unwrap_or(PIECE)).max(1)];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finalize()),
            count => {
                hasher.update(&piece[..count]);
                let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(count);
                out.write_all(&piece[..wanted])?;
                left -= wanted as u64;
            }
        }
    }
}
