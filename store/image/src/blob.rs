//! Where blobs come from, by digest; and the reader that lets no wrong byte pass unnoticed.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};
use strata_types::{Descriptor, Digest};

use crate::{Error, Result};

/// The digest of some bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256_bytes(Sha256::digest(bytes).into())
}

/// A blob that can be read.
pub struct Blob<'a> {
    /// Its size in bytes, as its keeper knows it.
    pub size: u64,
    /// Its bytes from the start.
    pub reader: Box<dyn Read + Send + 'a>,
    /// Where the bytes are not those of the digest, their reader itself ends with an error: hashing them once more would
    /// show nothing.
    is_verified: bool,
}

impl<'a> Blob<'a> {
    /// A blob whose bytes nobody has looked at.
    pub fn new(size: u64, reader: impl Read + Send + 'a) -> Self {
        Self { size, reader: Box::new(reader), is_verified: false }
    }

    /// A blob whose reader gives the bytes of its digest, or an error.
    pub fn verified(size: u64, reader: impl Read + Send + 'a) -> Self {
        Self { is_verified: true, ..Self::new(size, reader) }
    }
}

/// Something that holds blobs: a store, a registry, an archive. Need not be trusted: what it gives is checked.
pub trait BlobSource {
    /// Returns the size of a blob; none if it is not here.
    fn size(&self, digest: &Digest) -> io::Result<Option<u64>>;

    /// Opens a blob from its start; none if it is not here.
    fn open(&self, digest: &Digest) -> io::Result<Option<Blob<'_>>>;
}

/// Opens a blob that a plan has found, for whoever looks at its length.
pub(crate) fn open<'a>(source: &'a dyn BlobSource, descriptor: &Descriptor) -> Result<Box<dyn Read + Send + 'a>> {
    let digest = descriptor.digest;
    let failed = |source| Error::Source { digest, source };
    let blob = source.open(&digest).map_err(|error| Error::unwrap_io(error, failed))?;
    let missing = || Error::BlobMissing { digest, needed_by: "the image".into() };
    let Blob { reader, is_verified, .. } = blob.ok_or_else(missing)?;
    Ok(if is_verified { reader } else { Box::new(Checked::new(reader, descriptor.clone())) })
}

/// A reader that gives exactly the bytes of a descriptor: where size or digest differ, its end is an error that
/// carries an [`Error`].
pub struct Checked<R> {
    reader: R,
    expected: Descriptor,
    hasher: Sha256,
    left: u64,
    is_verified: bool,
}

impl<R: Read> Checked<R> {
    /// Checks what `reader` gives against `expected`.
    pub fn new(reader: R, expected: Descriptor) -> Self {
        let left = expected.size;
        Self { reader, expected, hasher: Sha256::new(), left, is_verified: false }
    }

    fn size_mismatch(&self, actual: u64) -> io::Error {
        let Descriptor { digest, size: expected, .. } = self.expected;
        io::Error::new(io::ErrorKind::InvalidData, Error::SizeMismatch { digest, expected, actual })
    }

    /// Looks at the end whether it is one, and whether the digest is right.
    fn end(&mut self) -> io::Result<usize> {
        let mut surplus = [0];
        loop {
            match self.reader.read(&mut surplus) {
                Ok(0) => break,
                Ok(_) => return Err(self.size_mismatch(self.expected.size.saturating_add(1))),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let actual = Digest::from_sha256_bytes(self.hasher.clone().finalize().into());
        if actual != self.expected.digest {
            let what = format!("blob {}", self.expected.digest);
            let error = Error::DigestMismatch { what, expected: self.expected.digest, actual };
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        self.is_verified = true;
        Ok(0)
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.is_verified {
            return Ok(0);
        }
        if self.left == 0 {
            return self.end();
        }
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.reader.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(self.size_mismatch(self.expected.size - self.left));
        }
        self.hasher.update(&buffer[..count]);
        self.left -= count as u64;
        Ok(count)
    }
}

/// Reads a whole document and checks it; none if it is not there.
///
/// The descriptor's size must have been compared with a limit before: that much memory is taken.
pub(crate) fn read(source: &dyn BlobSource, descriptor: &Descriptor) -> Result<Option<Vec<u8>>> {
    let failed = |source| Error::Source { digest: descriptor.digest, source };
    let Some(blob) = source.open(&descriptor.digest).map_err(|error| Error::unwrap_io(error, failed))? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    Checked::new(blob.reader, descriptor.clone())
        .read_to_end(&mut bytes)
        .map_err(|error| Error::unwrap_io(error, failed))?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &[u8], size: u64) -> Result<Vec<u8>> {
        let descriptor = Descriptor::new("x", digest(expected), size);
        let mut read = Vec::new();
        let mut checked = Checked::new(bytes, descriptor);
        let result = checked.read_to_end(&mut read);
        assert_eq!(result.is_ok(), checked.is_verified);
        match result {
            Ok(_) => Ok(read),
            Err(error) => Err(Error::unwrap_io(error, |source| Error::io("read", "x", source))),
        }
    }

    #[test]
    fn only_the_announced_bytes_pass() {
        assert_eq!(check(b"hello", b"hello", 5).unwrap(), b"hello");
        assert_eq!(check(b"", b"", 0).unwrap(), b"");
        assert!(matches!(check(b"hellO", b"hello", 5), Err(Error::DigestMismatch { .. })));
        assert!(matches!(check(b"hell", b"hello", 5), Err(Error::SizeMismatch { expected: 5, actual: 4, .. })));
        assert!(matches!(check(b"hello!", b"hello", 5), Err(Error::SizeMismatch { expected: 5, actual: 6, .. })));
        assert!(matches!(check(b"hello", b"hello", 4), Err(Error::SizeMismatch { expected: 4, actual: 5, .. })));
        assert!(matches!(check(b"x", b"", 0), Err(Error::SizeMismatch { .. })));
    }
}
