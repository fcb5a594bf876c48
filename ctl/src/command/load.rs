//! `ctl load`

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use strata_archive::DiffOptions;
use strata_proto::store::v1 as pb;
use strata_rpc::chunks;
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
    let chunks = open(args.input.as_deref()).await?;
    let wanted = args.platform.as_deref().map(input::platform).transpose()?;
    let is_shown = !args.quiet && terminal::is_live();
    let chunks = if is_shown { shown(chunks) } else { chunks };
    let what = args.input.as_deref().unwrap_or(Path::new("standard input"));
    let loaded = load(platform, chunks, wanted, &what.display().to_string()).await;
    if is_shown {
        clear();
    }
    let loaded = loaded.map_err(|error| super::of_archive(args.input.as_deref(), error))?;
    for image in loaded {
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

/// Has the store load an archive; `what` names it in messages.
pub async fn load(
    platform: &Platform,
    chunks: Chunks,
    wanted: Option<strata_proto::types::v1::Platform>,
    what: &str,
) -> Result<Vec<pb::LoadedImage>> {
    let header = pb::LoadImagesRequest {
        part: Some(pb::load_images_request::Part::Header(pb::LoadImagesHeader { platform: wanted })),
    };
    let mut client = platform.archives().await?;
    let (parts, failure) = sending::messages(chunks, |chunk| pb::LoadImagesRequest {
        part: Some(pb::load_images_request::Part::Chunk(chunk)),
    });
    let requests = futures_util::stream::once(std::future::ready(header)).chain(parts);
    tokio::select! {
        reply = client.load_images(requests) => Ok(reply?.into_inner().images),
        Ok(error) = failure => Err(Error::new(format!("cannot read {what}: {error}"))),
    }
}

async fn open(path: Option<&Path>) -> Result<Chunks> {
    let Some(path) = path.filter(|path| *path != Path::new("-")) else {
        if terminal::is_input() {
            let hint = "`ctl load -i FILE` reads a file, `ctl load < FILE` does as well";
            return Err(Error::usage("the archive is missing: standard input is a terminal").hint(hint));
        }
        return Ok(Box::pin(chunks::from_async(tokio::io::stdin())));
    };
    let failed = |error| Error::new(format!("cannot open {}: {error}", path.display()));
    let opened = tokio::fs::File::open(path).await.map_err(failed)?;
    if !opened.metadata().await.map_err(failed)?.is_dir() {
        return Ok(Box::pin(chunks::from_async(opened)));
    }
    // A layout as a directory travels as a tar.
    let directory = opened.into_std().await;
    Ok(Box::pin(chunks::from_write(move |out| {
        let packed = strata_archive::pack(directory.as_fd(), &DiffOptions::default(), out);
        packed.map(drop).map_err(|error| match error {
            strata_archive::Error::Write { source } => source,
            error => io::Error::other(strata_rpc::fault::chain(&error)),
        })
    })))
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
