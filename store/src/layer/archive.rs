//! Archives of layers: the exact tar that a layer came from or will be known by, made from its tree and its table of
//! contents, compressed where that is wanted. Equal layers give equal bytes.

use std::io::{self, Read, Write};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use strata_archive::Compression;
use strata_image::{Codec, Compressor};
use strata_types::{Descriptor, Digest, LeaseId, media_type};

use super::backend::table_of;
use super::growing::{Grower, Told};
use crate::catalog::{Durability, LayerRow, blocking};
use crate::disk::{Sync, Temporary};
use crate::{Error, Result, Store, blob};

/// The level of gzip: the fastest, a tenth larger than what streams of zlib make at their usual level.
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
    find_or_make(store, diff_id, compression, lease, None).await
}

/// As [`archive`], for whoever reads the blob while it is made; where it is found, nothing is told.
pub(crate) async fn archive_growing(
    store: &Arc<Store>,
    diff_id: &Digest,
    compression: Compression,
    lease: &LeaseId,
    grower: Grower,
) -> Result<Option<Descriptor>> {
    find_or_make(store, diff_id, compression, lease, Some(grower)).await
}

async fn find_or_make(
    store: &Arc<Store>,
    diff_id: &Digest,
    compression: Compression,
    lease: &LeaseId,
    grower: Option<Grower>,
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
    make(store, diff_id, compression, (from, grower), lease).await.map(Some)
}

/// Is the blob in this form?
fn is_in(descriptor: &Descriptor, compression: Compression) -> bool {
    strata_image::layer_type(&descriptor.media_type).is_some_and(|kind| kind.compression == compression)
}

async fn make(
    store: &Arc<Store>,
    diff_id: &Digest,
    compression: Compression,
    (from, grower): (From, Option<Grower>),
    lease: &LeaseId,
) -> Result<Descriptor> {
    let toc = match &from {
        From::Tree(LayerRow { toc: Some(toc), .. }) => Some(blob::read(store, toc).await?),
        From::Tree(_) | From::Blob(_) => None,
    };
    let temporary = Temporary::create(store.paths.ingest().join(crate::lease::random_text(16)))?;
    if let Some(grower) = &grower {
        grower.begin(temporary.reader()?);
    }
    let (this, expected) = (Arc::clone(store), *diff_id);
    let (temporary, descriptor) = blocking(move || {
        let told = Told { out: temporary, grower: grower.as_ref() };
        let codec = match compression {
            Compression::None => None,
            Compression::Zstd => Some(Codec::Zstd(ZSTD_LEVEL)),
            _ => Some(Codec::Gzip(GZIP_LEVEL)),
        };
        let (told, digest, size) = match codec {
            None => {
                let mut out = Hashed::new(told);
                write_tar(&this, &expected, &from, toc.as_deref(), &mut out)?;
                out.finish()
            }
            Some(codec) => {
                let mut compressor = Compressor::new(told, codec, None);
                write_tar(&this, &expected, &from, toc.as_deref(), &mut compressor)?;
                let failed = |source| Error::io("compress a layer in", this.paths.ingest(), source);
                let (told, made) = compressor.finish().map_err(failed)?;
                (told, made.digest, made.size)
            }
        };
        let temporary = told.out;
        let descriptor = Descriptor::new(media_type(compression), digest, size);
        if let Some(grower) = grower {
            grower.end(&descriptor);
        }
        Ok::<_, Error>((temporary, descriptor))
    })
    .await?;
    let Descriptor { digest, size, .. } = descriptor;
    let target = store.paths.blob(&digest);
    {
        // Nobody may collect the same digest between rename and row.
        let _guard = store.placing.read().await;
        blocking(move || temporary.place(&target, Sync::Later)).await?;
        store.catalog.put_blob(&digest, size, lease, Durability::Relaxed).await?;
    }
    if compression != Compression::None {
        store.catalog.put_layer_blob(&descriptor, diff_id, "").await?;
    }
    Ok(descriptor)
}

fn media_type(compression: Compression) -> &'static str {
    match compression {
        Compression::Zstd => media_type::OCI_LAYER_ZSTD,
        Compression::None => media_type::OCI_LAYER,
        _ => media_type::OCI_LAYER_GZIP,
    }
}

/// Writes the tar, and checks that it is the one of this diff-id.
fn write_tar(store: &Store, diff_id: &Digest, from: &From, toc: Option<&[u8]>, out: &mut impl Write) -> Result<()> {
    match (from, toc) {
        (From::Tree(layer), Some(toc)) => {
            super::write_archive(&store.paths.layer(&layer.id), &table_of(toc, diff_id)?, out)
        }
        (From::Tree(layer), None) => {
            let problem = "it has no table of contents".to_owned();
            Err(Error::LayerDamaged { id: layer.id.clone(), problem })
        }
        (From::Blob(digest), _) => {
            let path = store.paths.blob(digest);
            let failed = |source| Error::io("read", &path, source);
            let file = std::fs::File::open(&path).map_err(failed)?;
            let (_, mut tar) = strata_archive::decompress(file).map_err(|source| Error::Archive { source })?;
            let mut hashed = Hashed::new(out);
            let mut piece = vec![0; 256 * 1024];
            loop {
                let count = tar.read(&mut piece).map_err(failed)?;
                if count == 0 {
                    break;
                }
                hashed.write_all(&piece[..count]).map_err(failed)?;
            }
            match hashed.finish() {
                (_, actual, _) if actual == *diff_id => Ok(()),
                (_, actual, _) => {
                    Err(Error::DigestMismatch { expected: diff_id.to_string(), actual: actual.to_string() })
                }
            }
        }
    }
}

/// Hashes what is written on.
struct Hashed<W> {
    out: W,
    hasher: Sha256,
    size: u64,
}

impl<W> Hashed<W> {
    fn new(out: W) -> Self {
        Self { out, hasher: Sha256::new(), size: 0 }
    }

    fn finish(self) -> (W, Digest, u64) {
        (self.out, Digest::from_sha256_bytes(self.hasher.finalize().into()), self.size)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
