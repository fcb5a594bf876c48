//! `ctl cp`: files between this host and a container, with Docker's rules for names. `place` decides what they mean, `local`
//! is this host's side; the runtime finds paths in the container, and the way is a tar.

mod local;
mod place;

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use strata_proto::runtime::v1::{self as pb, file_service_client::FileServiceClient, write_files_request::Part};
use strata_rpc::spans::Channel;
use strata_rpc::{chunks, fault};

use place::{Destination, Source, Target, parent};

use crate::args::Cp;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::render::{self, size};
use crate::{receiving, sending, terminal};

/// As many links as the kernel follows in one path.
const MOST_LINKS: usize = 40;

/// Type bits of stat(2).
const KIND: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
/// Sockets, and devices of both kinds: what has no content to copy.
const NOT_COPIED: [u32; 3] = [0o140_000, 0o020_000, 0o060_000];

/// Copies in one direction.
pub async fn run(platform: &Platform, args: &Cp) -> Result<u8> {
    let (from, to) = (place::split(&args.source), place::split(&args.destination));
    let (copied, shown) = match (from, to) {
        (Some(_), Some(_)) => {
            return Err(Error::usage("copying between containers is not supported")
                .hint("`ctl cp ONE:PATH - | ctl cp - OTHER:DIRECTORY` copies in two steps"));
        }
        (None, None) => {
            return Err(Error::usage("must specify at least one container source")
                .hint("a path in a container is CONTAINER:PATH"));
        }
        (None, Some((container, path))) => {
            let client = platform.files().await?;
            let copied = Inside { client, container, args }.take_in(path).await?;
            (copied, args.destination.clone())
        }
        (Some((container, path)), None) => {
            let client = platform.files().await?;
            let inside = Inside { client, container, args };
            if args.destination == "-" {
                return inside.show(path).await.map(|()| 0);
            }
            (inside.bring_out(path).await?, args.destination.clone())
        }
    };
    if !args.quiet {
        render::note(format!("Successfully copied {} to {shown}", size::human(copied)));
    }
    Ok(0)
}

/// One end of a copy that is in a container.
struct Inside<'a> {
    client: FileServiceClient<Channel>,
    container: &'a str,
    args: &'a Cp,
}

impl Inside<'_> {
    async fn stat(&self, path: &str) -> Result<pb::FileStat> {
        let request = pb::StatFileRequest { container: self.container.to_owned(), path: path.to_owned() };
        let found = self.client.clone().stat_file(request).await?.into_inner().file;
        found.ok_or_else(|| super::incomplete("a file"))
    }

    /// Where a path leads when links at its end are followed, and what is there. Nothing may be there.
    async fn followed(&self, path: &str) -> Result<(String, Option<pb::FileStat>)> {
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            let found = match self.stat(&path).await {
                Err(error) if error.reason == "FAULT_PATH_NOT_FOUND" => return Ok((path, None)),
                found => found?,
            };
            if found.link_target.is_empty() {
                return Ok((path, Some(found)));
            }
            path = match found.link_target.starts_with('/') {
                true => found.link_target,
                false => place::join(parent(&path), &found.link_target),
            };
        }
        Err(Error::new(format!("too many links from {path} on in container {}", self.container)))
    }

    /// What is to be read, and what it is called.
    async fn source(&self, path: &str) -> Result<(String, Source)> {
        let path = place::absolute(path);
        let (place, found) = match self.args.follow_link {
            true => self.followed(&path).await?,
            false => (path.clone(), Some(self.stat(&path).await?)),
        };
        let found = match found {
            Some(found) => found,
            // It says of what is missing that it is.
            None => self.stat(&place).await?,
        };
        if NOT_COPIED.contains(&(found.mode & KIND)) {
            return Err(Error::new(format!("{path} in container {} has no content to copy", self.container)));
        }
        let source = Source { name: place::name(&path), is_directory: found.mode & KIND == DIRECTORY };
        Ok((place, source))
    }

    async fn read(
        &self,
        path: String,
        name: String,
    ) -> Result<impl Stream<Item = Result<Bytes, tonic::Status>> + use<>> {
        let request = pb::ReadFilesRequest { container: self.container.to_owned(), path, name };
        let chunks = self.client.clone().read_files(request).await?.into_inner();
        Ok(chunks.map(|reply| reply.map(|reply| reply.chunk)))
    }

    /// Writes a tar to standard output.
    async fn show(&self, path: &str) -> Result<()> {
        if terminal::is_output() {
            return Err(Error::usage("an archive is nothing to look at: standard output is a terminal")
                .hint("`ctl cp CONTAINER:PATH - > FILE` writes it to a file, `| tar t` lists it"));
        }
        let (path, source) = self.source(path).await?;
        let archive = chunks::to_read(self.read(path, source.name).await?);
        receiving::archive(archive, None).await
    }

    /// Copies to this host; returns the bytes of the archive.
    async fn bring_out(&self, path: &str) -> Result<u64> {
        let destination = local::destination(&self.args.destination)?;
        let (path, source) = self.source(path).await?;
        let Target { directory, name } = place::target(&source, &destination)?;
        let archive = chunks::to_read(self.read(path, name).await?);
        let keeps_all = self.args.archive;
        let unpacked = tokio::task::spawn_blocking(move || local::unpack(archive, &directory, keeps_all)).await;
        unpacked.map_err(|error| Error::of(&error))?
    }

    /// Copies from this host; returns the bytes of the archive.
    async fn take_in(&self, path: &str) -> Result<u64> {
        let path = place::absolute(path);
        let (place, found) = self.followed(&path).await?;
        let is_directory = found.as_ref().map(|found| found.mode & KIND == DIRECTORY);
        if self.args.source == "-" {
            if is_directory != Some(true) {
                let shown = &self.args.destination;
                return Err(Error::new(format!("destination \"{shown}\" must be a directory")));
            }
            if terminal::is_input() {
                return Err(Error::usage("an archive is expected, and standard input is a terminal"));
            }
            let archive = chunks::from_async(tokio::io::stdin());
            return self.write(place, None, Box::pin(archive)).await;
        }
        let (origin, source) = local::source(&self.args.source, self.args.follow_link)?;
        let destination = Destination { path: place, is_directory };
        let Target { directory, name } = place::target(&source, &destination)?;
        let owner = (!self.args.archive).then_some(pb::FileOwner { uid: 0, gid: 0 });
        let archive = chunks::from_write(move |out| local::pack(&origin, &name, out));
        self.write(directory, owner, Box::pin(archive)).await
    }

    async fn write(
        &self,
        path: String,
        owner: Option<pb::FileOwner>,
        archive: Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>,
    ) -> Result<u64> {
        let message = |part| pb::WriteFilesRequest { part: Some(part) };
        let header = pb::WriteFilesHeader { container: self.container.to_owned(), path, owner };
        let first = message(Part::Header(header));
        let copied = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counter = copied.clone();
        let wrap = move |chunk: Bytes| {
            counter.fetch_add(chunk.len() as u64, std::sync::atomic::Ordering::Relaxed);
            message(Part::Chunk(chunk))
        };
        let (parts, failure) = sending::messages(archive, wrap);
        let requests = futures_util::stream::once(std::future::ready(first)).chain(parts);
        let mut client = self.client.clone();
        tokio::select! {
            reply = client.write_files(requests) => drop(reply?),
            Ok(error) = failure => return Err(Error::new(format!("cannot read {}: {}", self.args.source, fault::chain(&error)))),
        }
        Ok(copied.load(std::sync::atomic::Ordering::Relaxed))
    }
}
