//! Carrying out a plan: from a source to a sink, what refers to a blob after the blob.

use strata_types::Descriptor;

use crate::{BlobSink, BlobSource, Checked, Error, Plan, Result};

/// What a transfer has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Blobs that the sink did not have.
    pub blobs: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// Moves the blobs of a plan, those that the sink has already excepted. Every one is checked on the way.
///
/// When it fails, the sink has some of the blobs, each of them right.
pub fn transfer(plan: &Plan, source: &dyn BlobSource, sink: &mut dyn BlobSink) -> Result<Moved> {
    let mut moved = Moved::default();
    for blob in plan.blobs().iter().rev() {
        let Descriptor { digest, size, .. } = blob.descriptor;
        if sink.has(&blob.descriptor).map_err(|source| Error::Sink { digest, source })? {
            continue;
        }
        let mut bytes = open(source, &blob.descriptor)?;
        sink.put(&blob.descriptor, &mut bytes)
            .map_err(|error| Error::unwrap_io(error, |source| Error::Sink { digest, source }))?;
        if !bytes.is_verified() {
            let source = std::io::Error::other("the sink did not read the blob to its end");
            return Err(Error::Sink { digest, source });
        }
        moved.blobs += 1;
        moved.bytes += size;
    }
    Ok(moved)
}

/// Opens a blob that a plan has found.
pub(crate) fn open<'a>(
    source: &'a dyn BlobSource,
    descriptor: &Descriptor,
) -> Result<Checked<Box<dyn std::io::Read + Send + 'a>>> {
    let digest = descriptor.digest;
    let failed = |source| Error::Source { digest, source };
    let blob = source.open(&digest).map_err(|error| Error::unwrap_io(error, failed))?;
    let missing = || Error::BlobMissing { digest, needed_by: "the image".into() };
    Ok(Checked::new(blob.ok_or_else(missing)?.reader, descriptor.clone()))
}
