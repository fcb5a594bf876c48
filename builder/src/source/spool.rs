//! A file on its way from a server to the store: without a name on the disk, hashed while it comes.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;

use sha2::{Digest, Sha256, Sha384, Sha512};
use strata_dockerfile::remote::Algorithm;

use super::Failure;
use crate::context::Blake3;

/// A file that has come.
#[derive(Debug)]
pub struct Spooled {
    /// Its bytes, from the start.
    pub file: File,
    /// Digest of its content.
    pub blake3: Blake3,
    /// Size in bytes.
    pub size: u64,
    /// Digest that was asked for, in hex; else SHA-256.
    pub checksum: String,
}

/// A file that comes.
#[derive(Debug)]
pub struct Spool {
    file: File,
    place: std::path::PathBuf,
    blake3: blake3::Hasher,
    checksum: Hasher,
    size: u64,
}

#[derive(Debug)]
enum Hasher {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Spool {
    /// Starts a file in a directory.
    pub fn new(directory: &Path, algorithm: Algorithm) -> Result<Self, Failure> {
        let failed = |source| Failure::Local { attempt: "make a file in", path: directory.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let checksum = match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            Algorithm::Sha384 => Hasher::Sha384(Sha384::new()),
            Algorithm::Sha512 => Hasher::Sha512(Sha512::new()),
        };
        let file = tempfile::tempfile_in(directory).map_err(failed)?;
        Ok(Self { file, place: directory.to_owned(), blake3: blake3::Hasher::new(), checksum, size: 0 })
    }

    /// So many bytes have come.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// More bytes come.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.blake3.update(bytes);
        match &mut self.checksum {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha384(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
        self.size += bytes.len() as u64;
        let place = &self.place;
        self.file.write_all(bytes).map_err(|source| Failure::Local {
            attempt: "write to a file in",
            path: place.clone(),
            source,
        })
    }

    /// All has come.
    pub fn finish(mut self) -> Result<Spooled, Failure> {
        let place = self.place;
        self.file.rewind().map_err(|source| Failure::Local { attempt: "read a file in", path: place, source })?;
        let checksum = match self.checksum {
            Hasher::Sha256(hasher) => hex::encode(hasher.finalize()),
            Hasher::Sha384(hasher) => hex::encode(hasher.finalize()),
            Hasher::Sha512(hasher) => hex::encode(hasher.finalize()),
        };
        Ok(Spooled { file: self.file, blake3: *self.blake3.finalize().as_bytes(), size: self.size, checksum })
    }
}
