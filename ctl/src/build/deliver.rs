//! Where the result of a build goes once it is there: registries, archives, directories. Each place is a step of the
//! progress.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use strata_archive::{ApplyOptions, Whiteouts};
use strata_proto::builder::v1 as pb;
use strata_proto::store::v1 as store;
use strata_proto::types::v1::Descriptor;
use strata_rpc::chunks::{self, ChunkReader};
use tonic::Status;

use crate::args::{ArchiveCompression, ArchiveFormat, Build, Output, OutputKind};
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::registries::{self, Registries};
use crate::render::progress::{Own, Progress};
use crate::{command, receiving, terminal};

/// How often the bytes that came are shown.
const TICK: Duration = Duration::from_millis(100);
/// Number of the first step of a delivery.
const FIRST: u32 = 100;

/// The places for the result of a build.
#[derive(Debug)]
pub struct Outputs {
    all: Vec<Output>,
    /// Names of the image.
    pub names: Vec<String>,
}

/// What a delivery adds to what the builder said.
#[derive(Debug, Default)]
pub struct Delivered {
    /// The manifest as a registry has it.
    pub pushed: Option<Descriptor>,
}

impl Outputs {
    /// What the flags say: the image goes to the store unless they say otherwise.
    pub fn of(args: &Build) -> Result<Self> {
        let mut all = args.output.clone();
        let plain = |kind| Output { kind, dest: None, compression: None, force_compression: false, names: Vec::new() };
        if args.load {
            all.push(plain(OutputKind::Image));
        }
        if args.push {
            match all.iter_mut().find(|output| output.kind == OutputKind::Image) {
                Some(image) => image.kind = OutputKind::Registry,
                None => all.push(plain(OutputKind::Registry)),
            }
        }
        if all.is_empty() {
            all.push(plain(OutputKind::Image));
        }
        let names = args.tag.iter().chain(all.iter().flat_map(|output| &output.names)).cloned().collect();
        let outputs = Self { all, names };
        outputs.check(args)?;
        Ok(outputs)
    }

    fn check(&self, args: &Build) -> Result<()> {
        let has = |wanted: &dyn Fn(&Output) -> bool| self.all.iter().filter(|output| wanted(output)).count();
        if self.names.is_empty() && has(&|output| output.kind == OutputKind::Registry) > 0 {
            return Err(Error::usage("a push needs a name for the image").hint("`-t REGISTRY/NAME:TAG` gives it one"));
        }
        match has(&Output::writes_to_stdout) {
            0 => {}
            1 if terminal::is_output() => {
                return Err(Error::usage("an archive is nothing to look at: standard output is a terminal")
                    .hint("`-o type=tar,dest=FILE` writes a file, `ctl build -o - ... > FILE` does as well"));
            }
            1 => {}
            _ => return Err(Error::usage("only one --output can go to standard output")),
        }
        if args.iidfile.is_some() && !self.needs_image() {
            return Err(Error::usage("--iidfile needs an image, and --output makes none"));
        }
        Ok(())
    }

    /// An image must be made.
    pub fn needs_image(&self) -> bool {
        self.all.iter().any(Output::needs_image)
    }

    /// The files must be kept until they are fetched.
    pub fn needs_tree(&self) -> bool {
        self.all.iter().any(Output::needs_tree)
    }

    /// Takes the result to each of the places.
    pub async fn deliver(
        &self,
        platform: &Platform,
        built: &pb::BuildCompleted,
        progress: &mut Progress,
    ) -> Result<Delivered> {
        let mut delivered = Delivered::default();
        let mut number = FIRST;
        for output in &self.all {
            match output.kind {
                OutputKind::Image | OutputKind::CacheOnly => {}
                OutputKind::Registry => {
                    for name in &self.names {
                        number += 1;
                        let own = Own::start(number, format!("pushing {name}"));
                        delivered.pushed = step(own, progress, async |own, progress| {
                            push(platform, name, output, own, progress).await
                        })
                        .await?;
                    }
                }
                OutputKind::Archive(format) => {
                    number += 1;
                    let own = Own::start(number, format!("exporting to {} image format", word(format)));
                    step(own, progress, async |own, progress| {
                        self.save(platform, built, output, (own, progress)).await
                    })
                    .await?;
                }
                OutputKind::Local | OutputKind::Tar => {
                    number += 1;
                    let what = if output.kind == OutputKind::Tar { "client tarball" } else { "client directory" };
                    let own = Own::start(number, format!("exporting to {what}"));
                    step(own, progress, async |own, progress| fetch(platform, built, output, (own, progress)).await)
                        .await?;
                }
            }
        }
        Ok(delivered)
    }

    async fn save(
        &self,
        platform: &Platform,
        built: &pb::BuildCompleted,
        output: &Output,
        shown: (&Own, &mut Progress),
    ) -> Result<()> {
        let OutputKind::Archive(format) = output.kind else { return Ok(()) };
        let references = if self.names.is_empty() { vec![built.image_id.clone()] } else { self.names.clone() };
        let request = store::SaveImagesRequest {
            references,
            platform: None,
            format: match format {
                ArchiveFormat::DockerArchive => store::ArchiveFormat::Docker.into(),
                ArchiveFormat::Oci | ArchiveFormat::OciDir => store::ArchiveFormat::Oci.into(),
            },
            layers: match (output.compression, format) {
                (Some(ArchiveCompression::Zstd), _) => store::ArchiveLayers::Zstd.into(),
                (Some(ArchiveCompression::None), _) | (None, ArchiveFormat::DockerArchive) => {
                    store::ArchiveLayers::Plain.into()
                }
                _ => store::ArchiveLayers::Gzip.into(),
            },
            file: None,
        };
        let reply = platform.archives().await?.save_images(request).await?.into_inner();
        let chunks = reply.map(|message| message.map(|message| message.chunk));
        let target = match (format, &output.dest) {
            (ArchiveFormat::OciDir, Some(path)) => Target::NewDirectory(path.clone()),
            (_, Some(path)) => Target::File(path.clone()),
            (_, None) => Target::Output,
        };
        receive(chunks, target, "sending tarball", shown).await
    }
}

impl Output {
    fn writes_to_stdout(&self) -> bool {
        self.dest.is_none() && matches!(self.kind, OutputKind::Tar | OutputKind::Archive(_))
    }
}

fn word(format: ArchiveFormat) -> &'static str {
    match format {
        ArchiveFormat::DockerArchive => "docker",
        ArchiveFormat::Oci | ArchiveFormat::OciDir => "oci",
    }
}

/// Shows the work as a step.
async fn step<T>(
    own: Own,
    progress: &mut Progress,
    work: impl AsyncFnOnce(&Own, &mut Progress) -> Result<T>,
) -> Result<T> {
    progress.step(own.running());
    let result = work(&own, progress).await;
    progress.step(match &result {
        Ok(_) => own.end(pb::StepState::Done),
        Err(error) => own.fail(error),
    });
    result
}

async fn push(
    platform: &Platform,
    name: &str,
    output: &Output,
    own: &Own,
    progress: &mut Progress,
) -> Result<Option<Descriptor>> {
    let reference = registries::reference(name)?;
    let request = store::PushImageRequest {
        reference: reference.to_string(),
        compression: match output.compression {
            None => store::LayerCompression::Unspecified.into(),
            Some(ArchiveCompression::Gzip) => store::LayerCompression::Gzip.into(),
            Some(ArchiveCompression::Zstd) => store::LayerCompression::Zstd.into(),
            Some(ArchiveCompression::None) => store::LayerCompression::None.into(),
        },
        force_compression: output.force_compression,
        credentials: Registries::load()?.credentials(&reference).await?,
        ..Default::default()
    };
    let mut events = platform.registry().await?.push_image(request).await?.into_inner();
    let mut parts = std::collections::HashMap::new();
    loop {
        let Some(reply) = events.message().await? else {
            return Err(Error::new("the store ended the stream before the push ended"));
        };
        match reply.event {
            Some(store::push_image_response::Event::Progress(told)) => {
                let what = match told.state() {
                    store::TransferState::Compressing => "compressing",
                    store::TransferState::Moving | store::TransferState::Unpacking | store::TransferState::Done => {
                        "pushing layer"
                    }
                    _ => continue,
                };
                let is_over = told.state() == store::TransferState::Done;
                let name = format!("{what} {}", told.digest);
                let part = parts.entry(name.clone()).or_insert_with(|| own.begin(name));
                progress.part(part.at(told.offset_bytes, told.size_bytes, is_over));
            }
            Some(store::push_image_response::Event::Completed(completed)) => return Ok(completed.target),
            None => {}
        }
    }
}

/// Fetches the files of the result.
async fn fetch(
    platform: &Platform,
    built: &pb::BuildCompleted,
    output: &Output,
    shown: (&Own, &mut Progress),
) -> Result<()> {
    let request = store::ExportSnapshotRequest { key: built.snapshot_key.clone(), path: String::new() };
    let reply = platform.snapshots().await?.export_snapshot(request).await?.into_inner();
    let chunks = reply.map(|message| message.map(|message| message.chunk));
    let (target, what) = match (output.kind, &output.dest) {
        (OutputKind::Local, Some(path)) => (Target::Directory(path.clone()), "copying files"),
        (_, Some(path)) => (Target::File(path.clone()), "sending tarball"),
        (_, None) => (Target::Output, "sending tarball"),
    };
    receive(chunks, target, what, shown).await
}

/// Where an archive goes.
enum Target {
    Output,
    File(PathBuf),
    /// Unpacked, into a directory that may have files already.
    Directory(PathBuf),
    /// Unpacked, into a directory that is absent or empty.
    NewDirectory(PathBuf),
}

impl Target {
    fn write(self, mut archive: ChunkReader) -> Result<()> {
        match self {
            Self::Output => receiving::output(&mut archive),
            Self::File(path) => {
                if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                    std::fs::create_dir_all(parent).map_err(|error| unwritable(parent, &error))?;
                }
                receiving::file(&mut archive, &path)
            }
            Self::Directory(path) => unpack(archive, &path),
            Self::NewDirectory(path) => command::save::write_directory(archive, &path),
        }
    }
}

fn unwritable(path: &Path, error: &dyn std::error::Error) -> Error {
    Error::new(format!("cannot write {}: {}", path.display(), strata_rpc::fault::chain(error)))
}

/// The files belong to who asked for them, as those of buildx do.
fn unpack(archive: ChunkReader, path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| unwritable(path, &error))?;
    let root = std::fs::File::open(path).map_err(|error| unwritable(path, &error))?;
    let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let options = ApplyOptions { whiteouts: Whiteouts::Literal, owner: Some(owner), ..ApplyOptions::default() };
    strata_archive::apply(archive, root.as_fd(), &options).map(drop).map_err(|error| match error {
        strata_archive::Error::Read { source } => receiving::of_the_store(source),
        error => unwritable(path, &error),
    })
}

/// Writes a stream to its target, and shows how much came.
async fn receive(
    chunks: impl Stream<Item = Result<Bytes, Status>> + Send + Unpin + 'static,
    target: Target,
    what: &str,
    (own, progress): (&Own, &mut Progress),
) -> Result<()> {
    let came = Arc::new(AtomicU64::new(0));
    let counted = came.clone();
    let chunks = chunks.inspect(move |chunk: &Result<Bytes, Status>| {
        if let Ok(chunk) = chunk {
            counted.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
    });
    let archive = chunks::to_read(chunks);
    let part = own.begin(what);
    let written = tokio::task::spawn_blocking(move || target.write(archive));
    tokio::pin!(written);
    let mut tick = tokio::time::interval(TICK);
    let result = loop {
        tokio::select! {
            result = &mut written => break result,
            _ = tick.tick() => progress.part(part.at(came.load(Ordering::Relaxed), 0, false)),
        }
    };
    progress.part(part.at(came.load(Ordering::Relaxed), 0, true));
    result.map_err(|error| Error::of(&io::Error::other(error)))?
}
