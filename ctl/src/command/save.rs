//! `ctl save`

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use strata_archive::{ApplyOptions, Whiteouts};
use strata_proto::store::v1 as pb;
use strata_rpc::chunks::{self, ChunkReader};
use strata_rpc::fault;

use crate::args::{ArchiveCompression, ArchiveFormat, Save};
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::receiving::Whole;
use crate::{input, receiving, sending, terminal};

/// Asks for the archive and writes it.
pub async fn run(platform: &Platform, args: &Save) -> Result<u8> {
    let target = Target::of(args)?;
    let format = match args.format {
        ArchiveFormat::DockerArchive => pb::ArchiveFormat::Docker,
        ArchiveFormat::Oci | ArchiveFormat::OciDir => pb::ArchiveFormat::Oci,
    };
    let layers = match args.compression {
        ArchiveCompression::Gzip => pb::ArchiveLayers::Gzip,
        ArchiveCompression::Zstd => pb::ArchiveLayers::Zstd,
        ArchiveCompression::None => pb::ArchiveLayers::Plain,
    };
    let mut request = pb::SaveImagesRequest {
        references: args.images.clone(),
        platform: args.platform.as_deref().map(input::platform).transpose()?,
        format: format.into(),
        layers: layers.into(),
        file: None,
    };
    let mut client = platform.archives().await?;
    if let Target::File(path) = &target
        && let Some(whole) = Whole::begin(path)?
    {
        let failed = |error: io::Error| Error::new(format!("cannot write {}: {error}", path.display()));
        request.file = Some(sending::handed(&whole.file).map_err(failed)?);
        match client.save_images(request.clone()).await {
            Ok(reply) => {
                let mut end = reply.into_inner();
                while end.message().await?.is_some() {}
                return whole.place().map(|()| 0);
            }
            Err(status) if sending::is_unreachable(&status) => request.file = None,
            Err(status) => return Err(status.into()),
        }
    }
    let chunks = client.save_images(request).await?.into_inner();
    let chunks = chunks.map(|message| message.map(|message| message.chunk));
    let archive = chunks::to_read(chunks);
    let written = tokio::task::spawn_blocking(move || target.write(archive)).await;
    written.map_err(|error| Error::of(&error))??;
    Ok(0)
}

/// Where an archive goes.
#[derive(Debug)]
enum Target {
    Output,
    File(PathBuf),
    Directory(PathBuf),
}

impl Target {
    fn of(args: &Save) -> Result<Self> {
        let wants_directory = args.format == ArchiveFormat::OciDir;
        match &args.output {
            None if wants_directory => Err(Error::usage("a directory needs a place: `ctl save -o DIRECTORY`")),
            None if terminal::is_output() => {
                Err(Error::usage("an archive is nothing to look at: standard output is a terminal")
                    .hint("`ctl save -o FILE` writes a file, `ctl save ... > FILE` does as well"))
            }
            None => Ok(Self::Output),
            Some(path) if wants_directory || path.is_dir() || ends_in_slash(path) => Ok(Self::Directory(path.clone())),
            Some(path) => Ok(Self::File(path.clone())),
        }
    }

    /// Writes the archive. What failed leaves nothing, but on standard output.
    fn write(self, mut archive: ChunkReader) -> Result<()> {
        match self {
            Self::Output => receiving::output(&mut archive),
            Self::File(path) => receiving::file(&mut archive, &path),
            Self::Directory(path) => write_directory(archive, &path),
        }
    }
}

fn ends_in_slash(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// Unpacks the archive into a directory, which must be absent or empty.
pub fn write_directory(archive: ChunkReader, path: &Path) -> Result<()> {
    let failed = |error: io::Error| Error::new(format!("cannot save to {}: {error}", path.display()));
    let is_new = match fs::create_dir(path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(failed(error)),
    };
    if fs::read_dir(path).map_err(failed)?.next().is_some() {
        return Err(failed(io::ErrorKind::DirectoryNotEmpty.into()));
    }
    let root = File::open(path).map_err(failed)?;
    let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let options = ApplyOptions { whiteouts: Whiteouts::Literal, owner: Some(owner), ..ApplyOptions::default() };
    let applied = strata_archive::apply(archive, root.as_fd(), &options).map(drop).map_err(|error| match error {
        strata_archive::Error::Read { source } => receiving::of_the_store(source),
        error => Error::new(format!("cannot save to {}: {}", path.display(), fault::chain(&error))),
    });
    if applied.is_err() {
        // It was empty: whatever is there came with the archive.
        let _ = match is_new {
            true => fs::remove_dir_all(path),
            false => empty(path),
        };
    }
    applied
}

fn empty(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}
