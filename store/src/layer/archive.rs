//! Archives of layers: the exact tar that a layer came from or will be known by, made from its tree and its table of
//! contents, compressed where that is wanted. Equal layers give equal bytes.

use std::io::{self, Read, Write};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use strata_archive::{Compression, Toc};
use strata_image::{Codec, Compressor};
use strata_types::{Descriptor, Digest, LeaseId, media_type};

use crate::catalog::{Durability, LayerRow, blocking};
use crate::disk::{Sync, Temporary};
use crate::{Error, Result, Store, blob};

/// The level of gzip: the fastest, a twentieth larger than what streams of zlib make at their usual level.
const GZIP_LEVEL: i32 = 1;
/// The level of zstd.
const ZSTD_LEVEL: i32 = 3;

/// Where the tar comes from.
enum From {
    /// The unpacked layer.
    Tree(LayerRow),
    /// Another compressed form of it.
    Blob(Digest),
}

/// Makes the blob of a layer in this form, or finds it; the lease holds it. None: neither the layer nor any form of it
/// is here.
pub async fn archive(
    store: &Arc<Store>,
    diff_id: &Digest,
    compression: Compression,
    lease: &LeaseId,
) -> Result<Option<Descriptor>> {
    if compression == Compression::None
        && let Some(row) = store.catalog.hold_blob(diff_id, lease).await?
    {
        return Ok(Some(Descriptor::new(media_type::OCI_LAYER, *diff_id, row.size)));
    }
    let forms = store.catalog.forms(diff_id).await?;
    for form in forms.iter().filter(|form| form.is_here && is_in(&form.descriptor, compression)) {
        if store.catalog.hold_blob(&form.descriptor.digest, lease).await?.is_some() {
            return Ok(Some(form.descriptor.clone()));
        }
    }
    let from = match store.catalog.hold_layer_by_diff_id(diff_id, lease).await? {
        Some(layer) if layer.toc.is_some() => From::Tree(layer),
        _ => match forms.iter().find(|form| form.is_here) {
            Some(form) => From::Blob(form.descriptor.digest),
            None => return Ok(None),
        },
    };
    make(store, diff_id, compression, from, lease).await.map(Some)
}

/// Is the blob in this form?
fn is_in(descriptor: &Descriptor, compression: Compression) -> bool {
    strata_image::layer_type(&descriptor.media_type).is_some_and(|kind| kind.compression == compression)
}

async fn make(
    store: &Arc<Store>,
    diff_id: &Digest,
    compression: Compression,
    from: From,
    lease: &LeaseId,
) -> Result<Descriptor> {
    let toc = match &from {
        From::Tree(LayerRow { toc: Some(toc), .. }) => Some(blob::read(store, toc).await?),
        From::Tree(_) | From::Blob(_) => None,
    };
    let temporary = Temporary::create(store.paths.ingest().join(crate::lease::random_text(16)))?;
    let (this, expected) = (Arc::clone(store), *diff_id);
    let (temporary, digest, size) = blocking(move || {
        let codec = match compression {
            Compression::None => {
                let mut out = Hashed::new(temporary);
                write_tar(&this, &expected, &from, toc.as_deref(), &mut out)?;
                return Ok::<_, Error>(out.finish());
            }
            Compression::Zstd => Codec::Zstd(ZSTD_LEVEL),
            _ => Codec::Gzip(GZIP_LEVEL),
        };
        let mut compressor = Compressor::new(temporary, codec, None);
        write_tar(&this, &expected, &from, toc.as_deref(), &mut compressor)?;
        let failed = |source| Error::io("compress a layer in", this.paths.ingest(), source);
        let (temporary, made) = compressor.finish().map_err(failed)?;
        Ok((temporary, made.digest, made.size))
    })
    .await?;
    let media_type = match compression {
        Compression::Zstd => media_type::OCI_LAYER_ZSTD,
        Compression::None => media_type::OCI_LAYER,
        _ => media_type::OCI_LAYER_GZIP,
    };
    let target = store.paths.blob(&digest);
    {
        // Nobody may collect the same digest between rename and row.
        let _guard = store.placing.read().await;
        blocking(move || temporary.place(&target, Sync::Later)).await?;
        store.catalog.put_blob(&digest, size, lease, Durability::Relaxed).await?;
    }
    let descriptor = Descriptor::new(media_type, digest, size);
    if compression != Compression::None {
        store.catalog.put_layer_blob(&descriptor, diff_id, "").await?;
    }
    Ok(descriptor)
}

/// Writes the tar, and checks that it is the one of this diff-id.
fn write_tar(store: &Store, diff_id: &Digest, from: &From, toc: Option<&[u8]>, out: &mut dyn Write) -> Result<()> {
    let mut hashed = Hashing { out, hasher: Sha256::new() };
    match (from, toc) {
        (From::Tree(layer), Some(toc)) => {
            let toc = Toc::decode(toc).map_err(|source| Error::Archive { source })?;
            super::write_archive(&store.paths.layer(&layer.id), &toc, &mut hashed)?;
        }
        (From::Tree(layer), None) => {
            let problem = "it has no table of contents".to_owned();
            return Err(Error::LayerDamaged { id: layer.id.clone(), problem });
        }
        (From::Blob(digest), _) => {
            let path = store.paths.blob(digest);
            let failed = |source| Error::io("read", &path, source);
            let file = std::fs::File::open(&path).map_err(failed)?;
            let (_, mut tar) = strata_archive::decompress(file).map_err(|source| Error::Archive { source })?;
            let mut piece = vec![0; 256 * 1024];
            loop {
                let count = tar.read(&mut piece).map_err(failed)?;
                if count == 0 {
                    break;
                }
                hashed.write_all(&piece[..count]).map_err(failed)?;
            }
        }
    }
    let actual = Digest::from_sha256_bytes(hashed.hasher.finalize().into());
    if actual != *diff_id {
        return Err(Error::DigestMismatch { expected: diff_id.to_string(), actual: actual.to_string() });
    }
    Ok(())
}

/// Hashes what passes.
struct Hashing<'a> {
    out: &'a mut dyn Write,
    hasher: Sha256,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A file that is written and hashed at once.
struct Hashed {
    temporary: Temporary,
    hasher: Sha256,
    size: u64,
}

impl Hashed {
    fn new(temporary: Temporary) -> Self {
        Self { temporary, hasher: Sha256::new(), size: 0 }
    }

    fn finish(self) -> (Temporary, Digest, u64) {
        (self.temporary, Digest::from_sha256_bytes(self.hasher.finalize().into()), self.size)
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temporary.write(bytes).map_err(io::Error::other)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
