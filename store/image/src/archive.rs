//! Archives of images as sources of blobs: OCI layouts and docker-archives, as a tar stream, compressed as a whole or
//! not. What is inside is listed and checked; no name inside ever becomes a path.

mod docker;
mod files;
pub(crate) mod layout;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use strata_types::Digest;

use crate::spool::spool;
use crate::{Blob, BlobSource, Error, Limits, Result, Root};
use files::{Files, Part};

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
    /// Opens an archive that is read once, front to back. Memory stays small; the disk takes all of it.
    pub fn from_stream(stream: impl Read, spool_directory: &Path, limits: &Limits) -> Result<Self> {
        let (_, mut plain) = strata_archive::decompress(stream)?;
        let file = spool(&mut plain, spool_directory, limits.max_archive)?;
        Self::new(Files::tar(file, limits)?, limits)
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

    fn part(&self, digest: &Digest) -> io::Result<Option<Part>> {
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
            Some(Place::Bytes(bytes)) => {
                Ok(Some(Blob { size: bytes.len() as u64, reader: Box::new(bytes.as_slice()) }))
            }
            _ => Ok(self.part(digest)?.map(|part| Blob { size: part.size(), reader: Box::new(part.reader()) })),
        }
    }
}
