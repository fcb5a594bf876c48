//! The way of the bytes: one task takes them from their source and hands each piece to two threads, one that hashes and
//! keeps it and one that unpacks it, through short queues that slow the source down to the slower of them.

use std::io::{self, Read};
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use strata_archive::Applied;
use strata_rpc::chunks::ChunkReader;
use strata_types::LayerId;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Step, Work, Writeback};
use crate::blob::Partial;
use crate::{Error, Result, layer};

/// Pieces of at most 256 KiB that wait for a thread.
const DEPTH: usize = 8;

/// The partial blob with all bytes in it, if one was given; what was unpacked, if that was asked for.
pub(super) type Outcome = (Option<Partial>, Option<Applied>);

/// A blob on its way.
pub(super) struct Flow<'a> {
    pub(super) work: &'a Work,
    /// The bytes after those that are in the partial blob; none if there are no more.
    pub(super) rest: Option<BoxStream<'static, Result<Bytes>>>,
}

/// The bytes of a file as pieces.
pub(super) fn chunks(file: impl Read + Send + 'static, path: PathBuf) -> BoxStream<'static, Result<Bytes>> {
    let chunks = strata_rpc::chunks::from_read(file);
    chunks.map(move |chunk| chunk.map_err(|source| Error::io("read", &path, source))).boxed()
}

/// The next piece, unless nobody wants it any more.
async fn next(work: &Work, pieces: &mut BoxStream<'static, Result<Bytes>>) -> Result<Option<Bytes>> {
    tokio::select! {
        biased;
        () = work.cancelled.cancelled() => Err(Error::Interrupted),
        () = work.store.drain.cancelled() => Err(Error::Interrupted),
        piece = pieces.next() => piece.transpose(),
    }
}

impl Flow<'_> {
    pub(super) async fn run(mut self, partial: Option<Partial>, layer: Option<&LayerId>) -> Result<Outcome> {
        let store = &self.work.store;
        let prefix = match &partial {
            Some(partial) if partial.offset() > 0 => {
                Some(chunks(partial.prefix()?, store.paths.blob(&self.work.order.blob.digest)))
            }
            _ => None,
        };
        // What is all here was hashed when it was opened.
        let is_checked = self.rest.is_some() && self.work.order.fetch.checks();
        let mut keeper = partial.map(|mut partial| {
            if is_checked {
                partial.rely_on_source();
            }
            let (report, digest) = (self.work.order.report.clone(), self.work.order.blob.digest);
            Stage::start(move |pieces| keep(partial, pieces, |bytes| report(&digest, Step::Kept { bytes })))
        });
        let mut unpacker = layer.map(|id| {
            let (path, backend) = (store.paths.layer(id), store.config.layer_backend);
            Stage::start(move |pieces| layer::apply(backend, &path, ChunkReader::from(pieces)))
        });
        let fed = self.feed(prefix, &mut keeper, &mut unpacker).await;
        // Both threads end here, whatever happened: nobody writes to a file or directory that is given up.
        let is_whole = fed.is_ok();
        let kept = end(keeper, is_whole).await;
        let unpacked = end(unpacker, is_whole).await;
        // What stopped the bytes is the cause of what the threads say; a disk that is full comes before a short archive.
        fed?;
        let mut kept = kept?;
        if let Some(partial) = &mut kept {
            partial.checked(self.work.order.blob.digest);
        }
        match (kept, unpacked) {
            // Wrong bytes are often no archive either; then they are why, and of no use for another try.
            (Some(partial), Err(error)) if partial.digest()? != self.work.order.blob.digest => {
                let (expected, actual) = (self.work.order.blob.digest.to_string(), partial.digest()?.to_string());
                tracing::debug!("wrong bytes could not be unpacked: {}", strata_rpc::fault::chain(&error));
                partial.discard().await?;
                Err(Error::DigestMismatch { expected, actual })
            }
            (kept, unpacked) => Ok((kept, unpacked?)),
        }
    }

    async fn feed(
        &mut self,
        prefix: Option<BoxStream<'static, Result<Bytes>>>,
        keeper: &mut Option<Stage<Partial>>,
        unpacker: &mut Option<Stage<Applied>>,
    ) -> Result<()> {
        let mut done = 0;
        if let Some(mut prefix) = prefix {
            while let Some(piece) = next(self.work, &mut prefix).await? {
                done += piece.len() as u64;
                hand(unpacker, &piece, keeper.is_some()).await?;
            }
        }
        let size = self.work.order.blob.size;
        self.work.report(Step::Fetching { bytes: done, of: size });
        if let Some(mut rest) = self.rest.take() {
            while let Some(piece) = next(self.work, &mut rest).await? {
                done += piece.len() as u64;
                if done > size {
                    return Err(self.wrong_size(size.saturating_add(1)));
                }
                hand(keeper, &piece, false).await?;
                hand(unpacker, &piece, keeper.is_some()).await?;
                if self.work.order.writeback == Writeback::Ahead {
                    self.work.store.flusher.came(piece.len() as u64);
                }
                self.work.report(Step::Fetching { bytes: done, of: size });
            }
        }
        if done != size {
            return Err(self.wrong_size(done));
        }
        self.work.report(Step::Unpacking);
        Ok(())
    }

    fn wrong_size(&self, actual: u64) -> Error {
        let blob = &self.work.order.blob;
        strata_image::Error::SizeMismatch { digest: blob.digest, expected: blob.size, actual }.into()
    }
}

/// A thread that takes pieces, and what becomes of them.
struct Stage<T> {
    pieces: Option<mpsc::Sender<io::Result<Bytes>>>,
    state: State<T>,
}

enum State<T> {
    Running(JoinHandle<Result<T>>),
    Ended(Result<T>),
}

impl<T: Send + 'static> Stage<T> {
    fn start(work: impl FnOnce(mpsc::Receiver<io::Result<Bytes>>) -> Result<T> + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel(DEPTH);
        let thread = tokio::task::spawn_blocking(move || work(receiver));
        Self { pieces: Some(sender), state: State::Running(thread) }
    }

    /// Gives the thread a piece. One that has ended early takes none: it may have seen what it needs, as a decompressor
    /// has before bytes that follow its last frame. Its error is the end of all, unless it is about the bytes and they
    /// are to be seen to the end: only then it is known whether they were the right ones.
    async fn hand(self, piece: &Bytes, to_the_end: bool) -> Result<Self> {
        let Some(pieces) = &self.pieces else { return Ok(self) };
        if pieces.send(Ok(piece.clone())).await.is_ok() {
            return Ok(self);
        }
        match self.join().await {
            Err(error) if !(to_the_end && is_about_bytes(&error)) => Err(error),
            result => Ok(Self { pieces: None, state: State::Ended(result) }),
        }
    }

    /// Tells the thread that this was all, or cuts it off; returns when it has ended.
    async fn end(self, is_whole: bool) -> Result<T> {
        if let (Some(pieces), true) = (&self.pieces, is_whole) {
            // An empty piece is the end; a thread that has ended needs none.
            let _ = pieces.send(Ok(Bytes::new())).await;
        }
        self.join().await
    }

    async fn join(self) -> Result<T> {
        drop(self.pieces);
        match self.state {
            State::Ended(result) => result,
            State::Running(thread) => match thread.await {
                Ok(result) => result,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => Err(Error::Interrupted),
            },
        }
    }
}

/// Gives a piece to a stage that may not be wanted.
async fn hand<T: Send + 'static>(stage: &mut Option<Stage<T>>, piece: &Bytes, to_the_end: bool) -> Result<()> {
    if let Some(running) = stage.take() {
        *stage = Some(running.hand(piece, to_the_end).await?);
    }
    Ok(())
}

/// Says whether bytes are at fault, and not the disk that they go to.
pub(crate) fn is_about_bytes(error: &Error) -> bool {
    use strata_archive::Error as Archive;
    let Error::Archive { source } = error else { return false };
    !error.is_disk_full() && !matches!(source, Archive::Write { .. } | Archive::Disk { .. })
}

async fn end<T: Send + 'static>(stage: Option<Stage<T>>, is_whole: bool) -> Result<Option<T>> {
    match stage {
        Some(stage) => stage.end(is_whole).await.map(Some),
        None => Ok(None),
    }
}

fn keep(mut partial: Partial, mut pieces: mpsc::Receiver<io::Result<Bytes>>, kept: impl Fn(u64)) -> Result<Partial> {
    kept(partial.offset());
    while let Some(Ok(piece)) = pieces.blocking_recv() {
        if piece.is_empty() {
            return Ok(partial);
        }
        partial.write(&piece)?;
        kept(partial.offset());
    }
    Err(Error::Interrupted)
}
