//! Archives of images as sources of blobs: OCI layouts and docker-archives, as a tar stream, compressed as a whole or
//! not. What is inside is listed and checked; no name inside ever becomes a path.

mod docker;
mod files;
pub(crate) mod layout;
mod stream;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use strata_archive::Compression;
use strata_types::Digest;

use crate::{Blob, BlobSource, Error, Limits, Result, Root};
use files::Files;
pub use files::{Part, PartReader};
pub use stream::{Passing, Taken, Taker};

/// The form of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// image-spec, "OCI Image Layout Specification"; what `docker save` writes since Docker 25 is one too.
    OciLayout,
    /// What `docker save` wrote before, and podman writes by default: manifest.json, and layers by any name.
    DockerArchive,
}

/// An opened archive.
#[derive(Debug)]
pub struct Archive {
    files: Files,
    format: Format,
    roots: Vec<Root>,
    /// Blobs that do not stand where an OCI layout has them.
    places: BTreeMap<Digest, Place>,
}

/// Where a blob is.
#[derive(Debug)]
enum Place {
    /// Made while the archive was opened.
    Bytes(Vec<u8>),
    /// In the file of this name.
    File(String),
}

impl Archive {
    /// Opens an archive in a file, which is read where it stands; only one that is compressed as a whole is written down
    /// first. The file need not stay as it is: what changes is noticed by its digest.
    pub fn from_file(mut file: File, spool_directory: &Path, limits: &Limits, taker: &mut dyn Taker) -> Result<Self> {
        let failed = |source| Error::io("read", "the archive", source);
        let mut start = Vec::new();
        file.by_ref().take(6).read_to_end(&mut start).map_err(failed)?;
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        match Compression::detect(&start) {
            Compression::None => Self::new(Files::tar(file, BTreeMap::new(), limits)?, limits),
            _ => Self::from_stream(file, spool_directory, limits, taker),
        }
    }

    /// Opens an archive that is read once, front to back. Memory stays small; the disk takes all of it but the contents
    /// that are taken.
    pub fn from_stream(
        stream: impl Read,
        spool_directory: &Path,
        limits: &Limits,
        taker: &mut dyn Taker,
    ) -> Result<Self> {
        let (_, mut plain) = strata_archive::decompress(stream)?;
        let (file, taken) = stream::read(&mut plain, spool_directory, limits, taker)?;
        Self::new(Files::tar(file, taken, limits)?, limits)
    }

    fn new(files: Files, limits: &Limits) -> Result<Self> {
        let mut places = BTreeMap::new();
        if let Some(roots) = layout::roots(&files, &mut places, limits)? {
            return Ok(Self { files, format: Format::OciLayout, roots, places });
        }
        if let Some(roots) = docker::roots(&files, &mut places, limits)? {
            return Ok(Self { files, format: Format::DockerArchive, roots, places });
        }
        let reason = if files.has("repositories")? {
            "it was saved by a Docker before 1.10, which this does not read; load and save it with a newer Docker"
        } else {
            "it has neither oci-layout and index.json nor manifest.json; a root file system is taken in by import"
        };
        Err(Error::NotAnArchive { reason })
    }

    /// The form of the archive.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The images in it, each with all its names, in the order of the archive.
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// The file of a blob, which can be read by several at once; none if it is in none.
    pub fn part(&self, digest: &Digest) -> io::Result<Option<Part>> {
        let path = match self.places.get(digest) {
            Some(Place::File(path)) => path.clone(),
            _ => layout::blob_path(digest),
        };
        self.files.part(&path).map_err(io::Error::other)
    }
}

impl BlobSource for Archive {
    fn size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        match self.places.get(digest) {
            Some(Place::Bytes(bytes)) => Ok(Some(bytes.len() as u64)),
            _ => Ok(self.part(digest)?.map(|part| part.size())),
        }
    }

    fn open(&self, digest: &Digest) -> io::Result<Option<Blob<'_>>> {
        match self.places.get(digest) {
            Some(Place::Bytes(bytes)) => Ok(Some(Blob::new(bytes.len() as u64, bytes.as_slice()))),
            _ => Ok(self.part(digest)?.map(|part| Blob::new(part.size(), part.reader()))),
        }
    }
}
