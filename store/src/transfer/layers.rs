//! How each layer comes: not at all where it is here, as the blob that its manifest names where that is what others will
//! ask for, else made from contents of both stores, or as a whole where little of it is here.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use strata_archive::{Compression, Limits, Part, Recipe};
use strata_image::layer_type;
use strata_rpc::chunks::{self, ChunkReader};
use strata_types::{Descriptor, Digest, LeaseId, media_type};
use tokio::sync::mpsc;

use super::pack::{Pack, of_the_stream};
use super::peer::{Peer, Reply, wrong};
use super::rebuild::Rebuild;
use super::{Head, MOST_RECIPE, Question, Spared};
use crate::blob::{Partial, PartialName};
use crate::catalog::blocking;
use crate::ingest::{self, Fetch, Key, Order, Prefix, Report, Step, Writeback};
use crate::{Error, Result, Store, content};

/// A layer of so many bytes comes as a whole: to ask takes longer.
const SMALL: u64 = 64 << 10;
/// How often and after which pause contents are asked for that somebody else has open.
const BUSY_TRIES: u32 = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// Contents that are looked up at a time.
const ASKED: usize = 4096;

/// The layers of one image on their way here.
pub(super) struct Layers {
    pub(super) store: Arc<Store>,
    pub(super) peer: Arc<Peer>,
    pub(super) lease: LeaseId,
    pub(super) report: Report,
    pub(super) told: mpsc::Sender<Spared>,
    /// Compressed layers come as they are.
    pub(super) keep_compressed: bool,
    /// Bytes that did not have to come.
    pub(super) spared: AtomicU64,
}

/// Contents of a layer, by who has them.
struct Sorted {
    recipe: Arc<Recipe>,
    own: HashSet<[u8; 32]>,
    pack: Pack,
    /// Those that nobody has here, each once, by their places in the recipe.
    missing: Vec<usize>,
    spared_bytes: u64,
    missing_bytes: u64,
}

impl Layers {
    /// Brings a layer here and unpacks it, unless it is.
    pub(super) async fn layer(&self, blob: &Descriptor, diff_id: &Digest) -> Result<()> {
        (self.report)(&blob.digest, Step::Waiting);
        let _turn = self.store.ingests.turn(Key::Contents(*diff_id)).await;
        let is_compressed = is_compressed(blob);
        let is_unpacked = self.store.catalog.hold_layer_by_diff_id(diff_id, &self.lease).await?.is_some();
        let is_kept = !is_compressed || self.store.catalog.hold_blob(&blob.digest, &self.lease).await?.is_some();
        if is_unpacked && is_kept {
            return self.exists(blob);
        }
        let question = Question::Layer { diff_id: *diff_id, digest: blob.digest };
        let known = self.peer.ask(question).await?.head;
        // Without a registry that has it, the blob is what makes the image the same for others.
        let needs_blob = is_compressed && (self.keep_compressed || known.source.is_empty());
        match (is_unpacked, needs_blob && known.is_blob_here) {
            (_, true) => self.take(blob, blob.clone(), diff_id).await?,
            (true, false) => self.exists(blob)?,
            (false, false) if known.is_absent => return Err(Error::BlobNotFound { digest: blob.digest }),
            (false, false) => self.make(blob, diff_id, &known).await?,
        }
        if is_compressed && !known.source.is_empty() {
            self.store.catalog.note_layer_blob(blob, &known.source).await?;
        }
        Ok(())
    }

    /// Brings a blob here as it is.
    pub(super) async fn blob(&self, blob: &Descriptor) -> Result<()> {
        if self.store.catalog.hold_blob(&blob.digest, &self.lease).await?.is_some() {
            return self.exists(blob);
        }
        let order = self.order(blob, blob.clone(), Arc::new(Whole(Arc::clone(&self.peer))));
        ingest::blob(&self.store, order).await.map(drop)
    }

    fn exists(&self, blob: &Descriptor) -> Result<()> {
        self.spared.fetch_add(blob.size, Ordering::Relaxed);
        (self.report)(&blob.digest, Step::Exists);
        Ok(())
    }

    /// Makes a layer from contents, or takes it as a whole.
    async fn make(&self, blob: &Descriptor, diff_id: &Digest, known: &Head) -> Result<()> {
        if !known.is_unpacked || blob.size <= SMALL || !self.has_contents().await? {
            return self.whole(blob, diff_id, known).await;
        }
        let Some(recipe) = self.recipe(blob, diff_id).await? else { return self.whole(blob, diff_id, known).await };
        let sorted = self.sort(diff_id, Arc::new(recipe)).await?;
        let all = sorted.spared_bytes.saturating_add(sorted.missing_bytes);
        // Not where some of it has come already: that would come again.
        if sorted.spared_bytes < all / 10 * 3 && sorted.pack.is_empty() {
            sorted.pack.discard()?;
            drop(sorted);
            return self.whole(blob, diff_id, known).await;
        }
        match self.rebuild(blob, diff_id, sorted).await {
            // A file here is damaged: the other store has it whole.
            Err(Error::ContentNotFound { .. }) => self.whole(blob, diff_id, known).await,
            made => made,
        }
    }

    async fn has_contents(&self) -> Result<bool> {
        let store = Arc::clone(&self.store);
        Ok(blocking(move || store.contents.is_indexed()).await?)
    }

    /// What the layer is made of; none where it is too much to say.
    async fn recipe(&self, blob: &Descriptor, diff_id: &Digest) -> Result<Option<Recipe>> {
        let reply = self.peer.ask(Question::Recipe(*diff_id)).await?;
        if reply.head.is_absent {
            return Ok(None);
        }
        let bytes = reply.whole(MOST_RECIPE).await?;
        let most = Limits::default().max_bytes;
        let recipe = blocking(move || Recipe::decode(&bytes, most)).await;
        let recipe = recipe.map_err(|source| Error::Archive { source })?;
        if !is_compressed(blob) && recipe.tar_size() != blob.size {
            return Err(wrong(format!("the recipe of layer {diff_id} is that of another archive")));
        }
        Ok(Some(recipe))
    }

    /// What has come of a layer before. The thread of a transfer that was cut off may hold it for a moment.
    async fn pack(&self, diff_id: &Digest) -> Result<Pack> {
        let mut tries = 0;
        loop {
            let (store, id) = (Arc::clone(&self.store), *diff_id);
            match blocking(move || Pack::open(&store, &id)).await {
                Err(Error::PartialBusy { .. }) if tries < BUSY_TRIES => {
                    tries += 1;
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                opened => return opened,
            }
        }
    }

    /// Looks which contents are here.
    async fn sort(&self, diff_id: &Digest, recipe: Arc<Recipe>) -> Result<Sorted> {
        let pack = self.pack(diff_id).await?;
        let mut seen = HashSet::new();
        let is_first = |(_, part): &(usize, &Part)| part.size > 0 && seen.insert(part.blake3);
        let first: Vec<usize> = recipe.parts().iter().enumerate().filter(is_first).map(|(place, _)| place).collect();
        let mut sorted =
            Sorted { recipe, own: HashSet::new(), pack, missing: Vec::new(), spared_bytes: 0, missing_bytes: 0 };
        for places in first.chunks(ASKED) {
            let part = |place: usize| sorted.recipe.parts()[place];
            let hashes = places.iter().map(|place| blake3::Hash::from_bytes(part(*place).blake3)).collect();
            let missing: HashSet<u32> = content::missing(&self.store, &self.lease, hashes).await?.into_iter().collect();
            for (at, place) in (0_u32..).zip(places) {
                let part = sorted.recipe.parts()[*place];
                let is_own = !missing.contains(&at);
                if is_own {
                    sorted.own.insert(part.blake3);
                } else if !sorted.pack.has(&part.blake3) {
                    sorted.missing.push(*place);
                    sorted.missing_bytes += part.size;
                    continue;
                }
                sorted.spared_bytes += part.size;
            }
        }
        Ok(sorted)
    }

    /// Asks for what is missing, and makes the archive while it comes.
    async fn rebuild(&self, blob: &Descriptor, diff_id: &Digest, sorted: Sorted) -> Result<()> {
        let Sorted { recipe, own, pack, missing, spared_bytes: spared, missing_bytes } = sorted;
        let _ = self.told.try_send(Spared { digest: blob.digest, spared, missing: missing_bytes });
        let pack = Arc::new(pack);
        let came = async {
            // Also where nobody waits for this any more: a thread may wait for the pack.
            let _end = EndOnDrop(&pack);
            self.contents(diff_id, &recipe, missing, Arc::clone(&pack)).await
        };
        let fetch = Rebuild {
            store: Arc::clone(&self.store),
            recipe: Arc::clone(&recipe),
            own: Arc::new(own),
            pack: Arc::clone(&pack),
        };
        let tar = Descriptor::new(media_type::OCI_LAYER, *diff_id, recipe.tar_size());
        let order = self.order(blob, tar, Arc::new(fetch));
        let made = ingest::layer(&self.store, order, *diff_id);
        // Both to their ends: neither thread may touch the pack when it is given up.
        let result = match tokio::join!(came, made) {
            // What came is why nothing could be made of it.
            (Err(error), Err(_)) => Err(error),
            (Ok(()), Err(error)) | (Err(error), Ok(_)) => Err(error),
            (Ok(()), Ok(_)) => Ok(()),
        };
        match &result {
            Ok(()) => {
                self.spared.fetch_add(spared, Ordering::Relaxed);
            }
            // It is whole, and goes on from there.
            Err(error) if !is_suspect(error) => return result,
            Err(_) => {}
        }
        pack.discard()?;
        result
    }

    /// Takes the contents that are missing.
    async fn contents(
        &self,
        diff_id: &Digest,
        recipe: &Arc<Recipe>,
        missing: Vec<usize>,
        pack: Arc<Pack>,
    ) -> Result<()> {
        if missing.is_empty() {
            return Ok(());
        }
        let mut wanted = vec![0; recipe.parts().len().div_ceil(8)];
        missing.iter().for_each(|place| wanted[place / 8] |= 1 << (place % 8));
        let reply = self.peer.ask(Question::Contents { diff_id: *diff_id, wanted: Bytes::from(wanted) }).await?;
        if reply.head.is_absent {
            return Err(wrong(format!("layer {diff_id} is gone there")));
        }
        let parts: Vec<Part> = missing.iter().map(|place| recipe.parts()[*place]).collect();
        let bytes = limited(reply, parts.iter().map(|part| part.size).sum());
        blocking(move || unpack(bytes, &parts, &pack)).await
    }

    /// Takes a layer as a whole.
    async fn whole(&self, blob: &Descriptor, diff_id: &Digest, known: &Head) -> Result<()> {
        if is_compressed(blob) && known.is_blob_here {
            return self.take(blob, blob.clone(), diff_id).await;
        }
        let answer = self.peer.ask(Question::Archive(*diff_id)).await?.head;
        if answer.is_absent {
            return Err(Error::BlobNotFound { digest: blob.digest });
        }
        let form = answer.descriptor.ok_or_else(|| wrong("a layer has no descriptor"))?;
        let most = if is_compressed(blob) { Limits::default().max_bytes } else { bound(blob.size) };
        if !is_compressed(&form) || form.size > most {
            return Err(wrong(format!("{} bytes of {} are no form of layer {diff_id}", form.size, form.media_type)));
        }
        self.take(blob, form, diff_id).await
    }

    /// Takes a compressed form of a layer. Wrong bytes are not kept for another try.
    async fn take(&self, blob: &Descriptor, form: Descriptor, diff_id: &Digest) -> Result<()> {
        let name = PartialName::Blob(form.digest);
        let order = self.order(blob, form, Arc::new(Whole(Arc::clone(&self.peer))));
        match ingest::layer(&self.store, order, *diff_id).await {
            Err(error) if is_suspect(&error) => {
                if let Ok(partial) = Partial::open(&self.store, &name).await {
                    partial.discard().await?;
                }
                Err(error)
            }
            taken => taken.map(drop),
        }
    }

    /// Orders a form of a layer, told of as the blob that its manifest names.
    fn order(&self, blob: &Descriptor, form: Descriptor, fetch: Arc<dyn Fetch>) -> Order {
        let (report, digest) = (Arc::clone(&self.report), blob.digest);
        let report: Report = Arc::new(move |_, step| report(&digest, step));
        Order { fetch, lease: self.lease.clone(), report, blob: form, writeback: Writeback::Ahead }
    }
}

/// Tells who waits for contents that no more come.
struct EndOnDrop<'a>(&'a Pack);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn is_compressed(blob: &Descriptor) -> bool {
    layer_type(&blob.media_type).is_none_or(|found| found.compression != Compression::None)
}

/// May what the other store sent be to blame?
fn is_suspect(error: &Error) -> bool {
    let is_about_content = matches!(error, Error::Content(content::Error::DigestMismatch { .. }));
    let is_about_bytes = matches!(
        error,
        Error::Transfer { .. }
            | Error::DigestMismatch { .. }
            | Error::DiffIdMismatch { .. }
            | Error::Archive { .. }
            | Error::Image(_)
            // Thrown away as well: a file here is damaged, and the layer comes as a whole.
            | Error::ContentNotFound { .. }
    );
    (is_about_content || is_about_bytes) && !error.is_disk_full()
}

/// As many bytes as compressing so many may take, and some.
fn bound(size: u64) -> u64 {
    size.saturating_add(size / 64).saturating_add(1 << 20)
}

/// The bytes of an answer, which has no reason to be longer than what it holds uncompressed.
fn limited(reply: Reply, size: u64) -> ChunkReader {
    let (mut left, most) = (bound(size), bound(size));
    let chunks = reply.chunks().and_then(move |chunk| {
        let rest = left.checked_sub(chunk.len() as u64);
        left = rest.unwrap_or(0);
        let chunk = rest.map(|_| chunk).ok_or_else(|| wrong(format!("{size} bytes of contents take more than {most}")));
        std::future::ready(chunk)
    });
    chunks::to_read(chunks)
}

/// Takes contents one after the other, and nothing behind them.
fn unpack(bytes: ChunkReader, parts: &[Part], pack: &Pack) -> Result<()> {
    let mut contents = strata_archive::decoder(bytes).map_err(of_the_stream)?;
    for part in parts {
        pack.append(part, &mut contents)?;
    }
    match std::io::Read::read(&mut contents, &mut [0]).map_err(of_the_stream)? {
        0 => Ok(()),
        _ => Err(wrong("more contents come than were asked for")),
    }
}

/// Blobs of the other store.
struct Whole(Arc<Peer>);

impl Fetch for Whole {
    fn fetch(&self, blob: &Descriptor, prefix: Prefix) -> BoxStream<'static, Result<Bytes>> {
        let (peer, digest) = (Arc::clone(&self.0), blob.digest);
        let asking = async move {
            let reply = peer.ask(Question::Blob { digest, offset: prefix.bytes }).await?;
            match reply.head.is_absent {
                true => Err(Error::BlobNotFound { digest }),
                false => Ok(reply.chunks()),
            }
        };
        stream::once(asking).try_flatten().boxed()
    }
}
