//! Archives of images as sources of blobs: OCI layouts and docker-archives, as a tar file or stream, compressed as a
//! whole or not, or as a directory. What is inside is listed and checked; no name inside ever becomes a path outside.

mod docker;
mod files;
pub(crate) mod layout;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use strata_archive::Compression;
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
    /// Opens an archive by path: a directory, a file, or anything that can be read, such as a named pipe.
    ///
    /// `spool` is a directory for what cannot be read in place: streams and compressed archives.
    pub fn open(path: &Path, spool: &Path, limits: &Limits) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|source| Error::io("open", path.display(), source))?;
        Self::from_file(File::from(file), spool, limits)
    }

    /// As [`Archive::open`], of an open file: standard input, for example. A regular file is read from its start.
    pub fn from_file(file: File, spool: &Path, limits: &Limits) -> Result<Self> {
        let failed = |source| Error::io("read", "the archive", source);
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Self::new(Files::directory(file.into()), limits);
        }
        if !metadata.is_file() {
            return Self::from_stream(file, spool, limits);
        }
        let mut start = [0; 6];
        let count = read_at(&file, &mut start, 0).map_err(failed)?;
        if Compression::detect(&start[..count]) == Compression::None {
            return Self::new(Files::tar(file, limits)?, limits);
        }
        // Whoever opened it may have read from it.
        let whole = Part::whole(file, metadata.len());
        Self::from_stream(whole.reader(), spool, limits)
    }

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

/// Reads at an offset until the buffer is full or the file ends.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
