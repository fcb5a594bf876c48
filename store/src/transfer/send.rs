//! The store that sends: questions about one image are answered side by side, from the moment at which the image is held.

use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use strata_archive::{Compression, Toc};
use strata_types::{Digest, LeaseId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Answer, Head, MOST_RECIPE, Part, Question, is_set};
use crate::catalog::{LayerRow, blocking};
use crate::lease::Session;
use crate::{Error, Result, Store, blob, document, image, layer};

/// What a transfer still holds for a moment after its end: the next try finds what was compressed for it.
const GRACE: Duration = Duration::from_secs(600);
/// Questions that may be open at a time.
const MOST_OPEN: usize = 64;

/// Answers the questions about an image, until there are no more.
pub async fn send(
    store: &Arc<Store>,
    reference: &str,
    questions: impl Stream<Item = Result<(u32, Question)>>,
    answers: mpsc::Sender<Answer>,
) -> Result<()> {
    let session = Session::begin(store, "sending an image", GRACE).await?;
    let lease = session.lease().id.clone();
    let (root, _) = store.catalog.locate_document(image::wanted(store, reference).await?).await?;
    let held = store.catalog.hold_document(&root, &lease).await?;
    held.ok_or_else(|| Error::ImageNotFound { reference: reference.to_owned() })?;
    let sending = Arc::new(Sending { store: Arc::clone(store), lease, root, answers });
    // Dropped, it ends them all.
    let mut open = JoinSet::new();
    let mut questions = std::pin::pin!(questions);
    loop {
        tokio::select! {
            question = questions.next() => {
                let Some(question) = question else { return Ok(()) };
                let (id, question) = question?;
                if open.len() >= MOST_OPEN {
                    return Err(Error::invalid("question", format!("more than {MOST_OPEN} are open")));
                }
                let sending = Arc::clone(&sending);
                open.spawn(async move { sending.answer(id, question).await });
            }
            Some(ended) = open.join_next() => match ended {
                Ok(answered) => answered?,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => return Err(Error::Interrupted),
            },
        }
    }
}

struct Sending {
    store: Arc<Store>,
    lease: LeaseId,
    root: Digest,
    answers: mpsc::Sender<Answer>,
}

/// One answer on its way.
struct Reply<'a> {
    id: u32,
    answers: &'a mpsc::Sender<Answer>,
}

impl Reply<'_> {
    async fn part(&self, part: Part) -> Result<()> {
        self.answers.send(Answer { id: self.id, part }).await.map_err(|_| Error::Interrupted)
    }

    /// Says all that there is to say.
    async fn head(&self, head: Head) -> Result<()> {
        let is_absent = head.is_absent;
        self.part(Part::Head(head)).await?;
        if is_absent { Ok(()) } else { self.part(Part::End).await }
    }

    async fn absent(&self) -> Result<()> {
        self.head(Head { is_absent: true, ..Head::default() }).await
    }

    async fn bytes(&self, head: Head, bytes: Vec<u8>) -> Result<()> {
        self.part(Part::Head(head)).await?;
        let bytes = Bytes::from(bytes);
        for start in (0..bytes.len()).step_by(strata_rpc::chunks::MAX_CHUNK) {
            let end = bytes.len().min(start + strata_rpc::chunks::MAX_CHUNK);
            self.part(Part::Chunk(bytes.slice(start..end))).await?;
        }
        self.part(Part::End).await
    }

    async fn chunks(&self, mut chunks: impl Stream<Item = std::io::Result<Bytes>> + Unpin) -> Result<()> {
        self.part(Part::Head(Head::default())).await?;
        while let Some(chunk) = chunks.next().await {
            let failed = |error: std::io::Error| match error.downcast::<Error>() {
                Ok(error) => error,
                Err(source) => Error::io("read", "what is sent", source),
            };
            self.part(Part::Chunk(chunk.map_err(failed)?)).await?;
        }
        self.part(Part::End).await
    }
}

impl Sending {
    async fn answer(&self, id: u32, question: Question) -> Result<()> {
        let reply = Reply { id, answers: &self.answers };
        match question {
            Question::Image => self.document(&reply, &self.root).await,
            Question::Document(digest) => self.document(&reply, &digest).await,
            Question::Blob { digest, offset } => self.blob(&reply, &digest, offset).await,
            Question::Layer { diff_id, digest } => self.layer(&reply, &diff_id, &digest).await,
            Question::Recipe(diff_id) => self.recipe(&reply, &diff_id).await,
            Question::Contents { diff_id, wanted } => self.contents(&reply, &diff_id, wanted).await,
            Question::Archive(diff_id) => {
                let made = layer::archive(&self.store, &diff_id, Compression::Zstd, &self.lease).await?;
                match made {
                    Some(descriptor) => reply.head(Head { descriptor: Some(descriptor), ..Head::default() }).await,
                    None => reply.absent().await,
                }
            }
        }
    }

    async fn document(&self, reply: &Reply<'_>, digest: &Digest) -> Result<()> {
        if self.store.catalog.hold_document(digest, &self.lease).await?.is_none() {
            return reply.absent().await;
        }
        let (row, bytes) = document::read(&self.store, digest).await?;
        let head = Head {
            store_id: self.store.instance.clone(),
            descriptor: Some(row.descriptor()),
            is_made_here: row.is_made_here,
            ..Head::default()
        };
        reply.bytes(head, bytes).await
    }

    async fn blob(&self, reply: &Reply<'_>, digest: &Digest, offset: u64) -> Result<()> {
        if self.store.catalog.hold_blob(digest, &self.lease).await?.is_none() {
            // An uncompressed layer is kept as a tree, and its digest is its diff-id.
            return self.tar(reply, digest, offset).await;
        }
        let (mut file, row) = blob::open(&self.store, digest).await?;
        if offset > row.size {
            return Err(Error::invalid("question.blob.offset_bytes", "it is behind the end of the blob"));
        }
        let path = self.store.paths.blob(digest);
        file.seek(SeekFrom::Start(offset)).map_err(|source| Error::io("read", path, source))?;
        reply.chunks(strata_rpc::chunks::from_read(file)).await
    }

    async fn tar(&self, reply: &Reply<'_>, diff_id: &Digest, offset: u64) -> Result<()> {
        let Some(layer) = self.unpacked(diff_id).await? else { return reply.absent().await };
        let toc = layer::table_of_contents(&self.store, &layer.id).await?;
        let path = self.store.paths.layer(&layer.id);
        let chunks = strata_rpc::chunks::from_write(move |out| {
            layer::write_archive(&path, &toc, &mut After { out, skipped: offset }).map_err(std::io::Error::other)
        });
        reply.chunks(chunks).await
    }

    /// The layer, if it is unpacked and can give its files.
    async fn unpacked(&self, diff_id: &Digest) -> Result<Option<LayerRow>> {
        let found = self.store.catalog.hold_layer_by_diff_id(diff_id, &self.lease).await?;
        Ok(found.filter(|layer| layer.toc.is_some()))
    }

    async fn layer(&self, reply: &Reply<'_>, diff_id: &Digest, digest: &Digest) -> Result<()> {
        let is_unpacked = self.unpacked(diff_id).await?.is_some();
        let is_blob_here = self.store.catalog.hold_blob(digest, &self.lease).await?.is_some();
        // A form of another layer says nothing about this one; of what form it is may not be known yet.
        let is_its_own = |form: &crate::catalog::Form| form.diff_id == *diff_id || form.diff_id == *digest;
        let form = self.store.catalog.form(digest).await?.filter(is_its_own);
        let source = form.map(|form| form.source).unwrap_or_default();
        let is_absent = !is_unpacked && !is_blob_here && source.is_empty();
        reply.head(Head { is_absent, source, is_blob_here, is_unpacked, ..Head::default() }).await
    }

    async fn recipe(&self, reply: &Reply<'_>, diff_id: &Digest) -> Result<()> {
        let Some(layer) = self.unpacked(diff_id).await? else { return reply.absent().await };
        let toc = layer::table_of_contents(&self.store, &layer.id).await?;
        let recipe = blocking(move || toc.recipe().map(|recipe| recipe.encode())).await;
        let recipe = recipe.map_err(|source| Error::Archive { source })?;
        match recipe.len() as u64 > MOST_RECIPE {
            true => reply.absent().await,
            false => reply.bytes(Head::default(), recipe).await,
        }
    }

    async fn contents(&self, reply: &Reply<'_>, diff_id: &Digest, wanted: Bytes) -> Result<()> {
        let Some(layer) = self.unpacked(diff_id).await? else { return reply.absent().await };
        let toc = layer::table_of_contents(&self.store, &layer.id).await?;
        let store = Arc::clone(&self.store);
        let chunks = strata_rpc::chunks::from_write(move |out| {
            let tree = store.layers.tree(&layer.id).map_err(std::io::Error::other)?;
            let root = layer::open_directory(&tree).map_err(std::io::Error::other)?;
            let mut packed = strata_archive::encoder(out)?;
            write_contents(&toc, root.as_fd(), &wanted, &mut packed).map_err(std::io::Error::other)?;
            packed.finish().map(drop)
        });
        reply.chunks(chunks).await
    }
}

/// Writes what follows the first bytes.
struct After<W> {
    out: W,
    skipped: u64,
}

impl<W: Write> Write for After<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let before = bytes.len().min(usize::try_from(self.skipped).unwrap_or(usize::MAX));
        self.out.write_all(&bytes[before..])?;
        self.skipped -= before as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

fn write_contents(toc: &Toc, root: std::os::fd::BorrowedFd<'_>, wanted: &[u8], out: &mut dyn Write) -> Result<()> {
    toc.write_contents(root, |place| is_set(wanted, place), out).map_err(|source| Error::Archive { source })
}
