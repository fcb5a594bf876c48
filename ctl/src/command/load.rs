//! `ctl load`

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use strata_archive::DiffOptions;
use strata_proto::store::v1 as pb;
use strata_proto::store::v1::archive_service_client::ArchiveServiceClient;
use strata_rpc::chunks;
use strata_rpc::spans::Channel;
use strata_types::Reference;

use crate::args::Load;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::{input, render, sending, terminal};

/// An archive as it is read.
pub type Chunks = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// How often progress is shown.
const PAUSE: Duration = Duration::from_millis(200);

/// Sends the archive and prints what was loaded.
pub async fn run(platform: &Platform, args: &Load) -> Result<u8> {
    let archive = open(args.input.as_deref())?;
    let header =
        pb::LoadImagesHeader { platform: args.platform.as_deref().map(input::platform).transpose()?, file: None };
    let load = Loading {
        client: platform.archives().await?,
        header,
        what: args.input.as_deref().unwrap_or(Path::new("standard input")).display().to_string(),
        is_shown: !args.quiet && terminal::is_live(),
    };
    let reply = load.send(archive).await;
    if !args.quiet && terminal::is_live() {
        clear();
    }
    let reply = reply.map_err(|error| super::of_archive(args.input.as_deref(), error))?;
    for image in reply.images {
        for name in &image.names {
            let familiar = Reference::parse(name).map_or_else(|_| name.clone(), |name| name.familiar());
            render::line(format!("Loaded image: {familiar}"))?;
        }
        if image.names.is_empty() {
            let digest = image.target.map(|target| target.digest).unwrap_or_default();
            let id = if image.image_id.is_empty() { digest } else { image.image_id };
            render::line(format!("Loaded image ID: {id}"))?;
        }
    }
    Ok(0)
}

/// Has the store load an archive that comes in chunks; `what` names it in messages.
pub async fn load(
    platform: &Platform,
    chunks: Chunks,
    wanted: Option<strata_proto::types::v1::Platform>,
    what: &str,
) -> Result<Vec<pb::LoadedImage>> {
    let header = pb::LoadImagesHeader { platform: wanted, file: None };
    let client = platform.archives().await?;
    let load = Loading { client, header, what: what.to_owned(), is_shown: false };
    Ok(load.send(Archive::Chunks(chunks)).await?.images)
}

/// An archive that was opened.
enum Archive {
    /// A regular file, at its start.
    File(File),
    /// What can only be read to its end.
    Chunks(Chunks),
}

/// A load under way.
struct Loading {
    client: ArchiveServiceClient<Channel>,
    header: pb::LoadImagesHeader,
    what: String,
    is_shown: bool,
}

impl Loading {
    /// Has the store read a file itself where it can, and streams everything else.
    async fn send(mut self, archive: Archive) -> Result<pb::LoadImagesResponse> {
        let chunks = match archive {
            Archive::Chunks(chunks) => chunks,
            Archive::File(file) => match self.hand(&file).await? {
                Some(reply) => return Ok(reply),
                None => Box::pin(chunks::from_async(tokio::fs::File::from_std(file))),
            },
        };
        let chunks = if self.is_shown { shown(chunks) } else { chunks };
        let (parts, failure) = sending::messages(chunks, |chunk| pb::LoadImagesRequest {
            part: Some(pb::load_images_request::Part::Chunk(chunk)),
        });
        let header = message(self.header);
        let requests = futures_util::stream::once(std::future::ready(header)).chain(parts);
        tokio::select! {
            reply = self.client.load_images(requests) => Ok(reply?.into_inner()),
            Ok(error) = failure => Err(Error::new(format!("cannot read {}: {error}", self.what))),
        }
    }

    /// Hands an open file to the store; none if that cannot use it.
    async fn hand(&mut self, file: &File) -> Result<Option<pb::LoadImagesResponse>> {
        let failed = |error: io::Error| Error::new(format!("cannot read {}: {error}", self.what));
        if self.is_shown {
            eprint!("\r\x1b[KLoading: {}", render::size::human(file.metadata().map_err(failed)?.len()));
        }
        let header = pb::LoadImagesHeader { file: Some(sending::handed(file).map_err(failed)?), ..self.header.clone() };
        match self.client.load_images(futures_util::stream::iter([message(header)])).await {
            Ok(reply) => Ok(Some(reply.into_inner())),
            Err(status) if sending::is_unreachable(&status) => Ok(None),
            Err(status) => Err(status.into()),
        }
    }
}

fn message(header: pb::LoadImagesHeader) -> pb::LoadImagesRequest {
    pb::LoadImagesRequest { part: Some(pb::load_images_request::Part::Header(header)) }
}

fn open(path: Option<&Path>) -> Result<Archive> {
    let Some(path) = path.filter(|path| *path != Path::new("-")) else {
        if terminal::is_input() {
            let hint = "`ctl load -i FILE` reads a file, `ctl load < FILE` does as well";
            return Err(Error::usage("the archive is missing: standard input is a terminal").hint(hint));
        }
        let file = standard_input();
        return Ok(
            file.map_or_else(|| Archive::Chunks(Box::pin(chunks::from_async(tokio::io::stdin()))), Archive::File)
        );
    };
    let failed = |error| Error::new(format!("cannot open {}: {error}", path.display()));
    let opened = File::open(path).map_err(failed)?;
    let kind = opened.metadata().map_err(failed)?.file_type();
    if kind.is_file() {
        return Ok(Archive::File(opened));
    }
    if !kind.is_dir() {
        return Ok(Archive::Chunks(Box::pin(chunks::from_async(tokio::fs::File::from_std(opened)))));
    }
    // A layout as a directory travels as a tar.
    Ok(Archive::Chunks(Box::pin(chunks::from_write(move |out| {
        let packed = strata_archive::pack(opened.as_fd(), &DiffOptions::default(), out);
        packed.map(drop).map_err(|error| match error {
            strata_archive::Error::Write { source } => source,
            error => io::Error::other(strata_rpc::fault::chain(&error)),
        })
    }))))
}

/// Standard input, if it is a regular file at its start.
fn standard_input() -> Option<File> {
    let file = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    let is_whole = file.metadata().ok()?.is_file() && rustix::fs::tell(&file) == Ok(0);
    is_whole.then_some(file)
}

/// Shows on the terminal how many bytes were sent.
fn shown(chunks: Chunks) -> Chunks {
    let (mut sent, mut last) = (0_u64, Instant::now());
    Box::pin(chunks.inspect(move |chunk| {
        sent += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if last.elapsed() >= PAUSE {
            last = Instant::now();
            eprint!("\r\x1b[KLoading: {} sent", render::size::human(sent));
        }
    }))
}

fn clear() {
    eprint!("\r\x1b[K");
}
