//! Claims about what comes in: checked before it is seen, once, and continued where it was cut off.

use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use strata_types::media_type;

use super::*;
use crate::catalog::LayerState;
use crate::{disk, fixture};

/// A source of one blob that counts, stops and lies as told.
#[derive(Debug, Default)]
struct Source {
    bytes: Vec<u8>,
    /// Bytes after which the first answer is cut off.
    cut: Option<usize>,
    /// Offsets at which somebody began to read.
    begun: Mutex<Vec<u64>>,
    given: Arc<AtomicUsize>,
    /// The first answer waits here, once it has given what it gives.
    gate: Option<Arc<tokio::sync::Notify>>,
    is_local: bool,
    checks: bool,
}

impl Fetch for Source {
    fn fetch(&self, _: &Descriptor, prefix: Prefix) -> BoxStream<'static, Result<Bytes>> {
        let mut begun = self.begun.lock().unwrap();
        let is_first = begun.is_empty();
        begun.push(prefix.bytes);
        let end = self.cut.filter(|_| is_first).unwrap_or(self.bytes.len());
        let start = usize::try_from(prefix.bytes).unwrap();
        let given = Arc::clone(&self.given);
        let pieces: Vec<_> = self.bytes[start.min(end)..end].chunks(1000).map(Bytes::copy_from_slice).collect();
        let pieces = futures_util::stream::iter(pieces).map(move |piece| {
            given.fetch_add(piece.len(), Ordering::Relaxed);
            Ok(piece)
        });
        let gate = self.gate.clone().filter(|_| is_first);
        let is_cut = end < self.bytes.len();
        let last = futures_util::stream::once(async move {
            if let Some(gate) = gate {
                gate.notified().await;
            }
            let cut = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
            if is_cut { Some(Err(Error::io("read", "the network", cut))) } else { None }
        });
        pieces.chain(last.filter_map(std::future::ready)).boxed()
    }

    fn repository(&self) -> Option<&str> {
        Some("reg:5000/a")
    }

    fn checks(&self) -> bool {
        self.checks
    }

    fn is_local(&self) -> bool {
        self.is_local
    }
}

fn gzip(tar: &[u8]) -> Vec<u8> {
    let mut compressor = strata_image::Compressor::new(Vec::new(), strata_image::Codec::Gzip(1), None);
    compressor.write_all(tar).unwrap();
    compressor.finish().unwrap().0
}

/// Bytes that do not compress, so that a layer is many pieces.
fn noise(length: usize) -> String {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'!' + (state >> 24) as u8 % 90)
    };
    (0..length).map(|_| next()).collect()
}

struct Case {
    _root: tempfile::TempDir,
    store: Arc<Store>,
    lease: LeaseId,
    diff_id: Digest,
    blob: Descriptor,
    bytes: Vec<u8>,
}

impl Case {
    async fn new() -> Self {
        let (root, store) = fixture::store().await;
        let lease = fixture::lease(&store, "l").await;
        let tar = fixture::archive("file", &noise(100_000));
        let bytes = gzip(&tar);
        let blob = Descriptor::new(media_type::OCI_LAYER_GZIP, blob::digest(&bytes), bytes.len() as u64);
        Self { _root: root, store, lease, diff_id: blob::digest(&tar), blob, bytes }
    }

    fn source(&self) -> Source {
        Source { bytes: self.bytes.clone(), ..Source::default() }
    }

    fn order(&self, source: &Arc<Source>) -> Order {
        let fetch: Arc<dyn Fetch> = Arc::clone(source) as _;
        Order {
            fetch,
            lease: self.lease.clone(),
            report: silent(),
            blob: self.blob.clone(),
            writeback: Writeback::Ahead,
        }
    }

    async fn layer(&self, source: &Arc<Source>) -> Result<LayerRow> {
        layer(&self.store, self.order(source), self.diff_id).await
    }

    fn layers(&self) -> usize {
        disk::names(&self.store.paths.layers()).unwrap().len()
    }

    async fn partial(&self) -> Option<u64> {
        blob::partial_size(&self.store, &PartialName::Blob(self.blob.digest)).await.unwrap()
    }
}

#[tokio::test]
async fn one_pass_gives_the_layer_its_table_and_the_blob() {
    let case = Case::new().await;
    let source = Arc::new(case.source());

    let row = case.layer(&source).await.unwrap();

    assert_eq!((row.state, row.diff_id), (LayerState::Unsynced, Some(case.diff_id)));
    assert!(row.toc.is_some() && disk::exists(&case.store.paths.layer(&row.id).join("file")));
    assert_eq!(blob::read(&case.store, &case.blob.digest).await.unwrap(), case.bytes);
    assert_eq!(source.given.load(Ordering::Relaxed), case.bytes.len());
    assert_eq!(case.store.catalog.diff_id_of_blob(&case.blob.digest).await.unwrap(), Some(case.diff_id));
    assert_eq!(case.partial().await, None);
}

#[tokio::test]
async fn the_disk_is_left_alone_for_who_waits_until_all_is_here() {
    for (writeback, is_ahead) in [(Writeback::Ahead, true), (Writeback::Behind, false)] {
        let case = Case::new().await;
        let order = Order { writeback, ..case.order(&Arc::new(case.source())) };

        layer(&case.store, order, case.diff_id).await.unwrap();

        assert_eq!(case.store.flusher.unwritten() > 0, is_ahead, "{writeback:?}");
    }
}

/// CVE-2021-20291, row 70: after a cut no lock is held, and the next pull works.
#[tokio::test]
async fn a_cut_is_continued_where_it_was_and_only_there() {
    // Who checks what it gives, and who leaves that to the store.
    for checks in [true, false] {
        let case = Case::new().await;
        let source = Arc::new(Source { cut: Some(50_000), checks, ..case.source() });

        let cut = case.layer(&source).await;
        assert!(matches!(cut, Err(Error::Io { .. })), "{cut:?}");
        assert_eq!((case.layers(), case.partial().await), (0, Some(50_000)));
        case.layer(&source).await.unwrap();

        assert_eq!(*source.begun.lock().unwrap(), [0, 50_000]);
        assert_eq!(source.given.load(Ordering::Relaxed), case.bytes.len());
        assert_eq!(blob::read(&case.store, &case.blob.digest).await.unwrap(), case.bytes);
    }
}

#[tokio::test]
async fn a_blob_that_lacked_only_its_last_check_is_not_fetched_again() {
    let case = Case::new().await;
    let mut partial = Partial::open(&case.store, &PartialName::Blob(case.blob.digest)).await.unwrap();
    partial.append(case.bytes.clone().into()).await.unwrap();
    drop(partial);
    let source = Arc::new(case.source());

    case.layer(&source).await.unwrap();

    assert!(source.begun.lock().unwrap().is_empty());
}

#[tokio::test]
async fn requests_for_one_layer_at_the_same_time_fetch_it_once() {
    let case = Case::new().await;
    let source = Arc::new(case.source());

    let (one, two, three) = tokio::join!(case.layer(&source), case.layer(&source), case.layer(&source));

    assert_eq!((one.unwrap().id, case.layers()), (two.unwrap().id, 1));
    three.unwrap();
    assert_eq!(source.given.load(Ordering::Relaxed), case.bytes.len());
}

#[tokio::test]
async fn two_forms_of_one_layer_are_one_tree_and_two_blobs() {
    let case = Case::new().await;
    let other = {
        let mut tar = Vec::new();
        strata_archive::decompress(&case.bytes[..]).unwrap().1.read_to_end(&mut tar).unwrap();
        let mut compressor = strata_image::Compressor::new(Vec::new(), strata_image::Codec::Zstd(3), None);
        compressor.write_all(&tar).unwrap();
        compressor.finish().unwrap().0
    };
    let blob = Descriptor::new(media_type::OCI_LAYER_ZSTD, blob::digest(&other), other.len() as u64);
    let second = Order {
        fetch: Arc::new(Source { bytes: other, ..Source::default() }),
        blob: blob.clone(),
        ..case.order(&Arc::new(case.source()))
    };

    let source = Arc::new(case.source());
    let (one, two) = tokio::join!(case.layer(&source), layer(&case.store, second, case.diff_id));

    assert_eq!((one.unwrap().id, case.layers()), (two.unwrap().id, 1));
    case.store.catalog.blob(&case.blob.digest).await.unwrap();
    case.store.catalog.blob(&blob.digest).await.unwrap();
}

#[tokio::test]
async fn whoever_leaves_is_followed_by_the_next_who_continues() {
    let case = Case::new().await;
    let gate = Arc::new(tokio::sync::Notify::new());
    let source = Arc::new(Source { cut: Some(60_000), gate: Some(gate), ..case.source() });
    let (sender, mut steps) = tokio::sync::mpsc::unbounded_channel();
    let report: Report = Arc::new(move |_, step| {
        let _ = sender.send(step);
    });
    let (store, order, diff_id) = (Arc::clone(&case.store), case.order(&source), case.diff_id);
    let first = tokio::spawn(async move { layer(&store, Order { report, ..order }, diff_id).await });
    while steps.recv().await.unwrap() != (Step::Fetching { bytes: 60_000, of: case.blob.size }) {}

    first.abort();
    case.layer(&source).await.unwrap();

    assert_eq!(*source.begun.lock().unwrap(), [0, 60_000]);
    assert_eq!(case.layers(), 1);
}

/// CVE-2014-8178, row 57: nothing of wrong bytes is kept, and the right ones are taken afterwards.
#[tokio::test]
async fn wrong_bytes_are_told_as_such_and_thrown_away() {
    let case = Case::new().await;
    // In the middle of the deflate stream, and in the checksum behind it.
    for place in [case.bytes.len() / 2, case.bytes.len() - 6] {
        let mut wrong = case.source();
        wrong.bytes[place] ^= 0x55;

        let refused = case.layer(&Arc::new(wrong)).await;

        assert!(matches!(refused, Err(Error::DigestMismatch { .. })), "{place}: {refused:?}");
        assert_eq!((case.layers(), case.partial().await), (0, None));
        assert!(matches!(case.store.catalog.blob(&case.blob.digest).await, Err(Error::BlobNotFound { .. })));
    }
    case.layer(&Arc::new(case.source())).await.unwrap();
}

#[tokio::test]
async fn a_source_that_gives_too_much_or_too_little_is_refused() {
    let case = Case::new().await;
    let mut long = case.source();
    long.bytes.push(0);
    let mut short = case.source();
    short.bytes.pop();

    let too_much = case.layer(&Arc::new(long)).await;
    case.store.catalog.totals().await.unwrap();
    let too_little = case.layer(&Arc::new(short)).await;

    let is_size =
        |result: &Result<LayerRow>| matches!(result, Err(Error::Image(strata_image::Error::SizeMismatch { .. })));
    assert!(is_size(&too_much) && is_size(&too_little), "{too_much:?} {too_little:?}");
    assert_eq!(case.layers(), 0);
}

/// CVE-2014-8178, row 57: the right blob under a diff-id that is not its own.
#[tokio::test]
async fn a_layer_that_is_not_what_its_config_says_is_never_seen() {
    let case = Case::new().await;
    let claimed = Digest::from_sha256_bytes([9; 32]);
    let source = Arc::new(case.source());

    let refused = layer(&case.store, case.order(&source), claimed).await;

    assert!(matches!(refused, Err(Error::DiffIdMismatch { .. })), "{refused:?}");
    assert_eq!((case.layers(), case.store.catalog.totals().await.unwrap()[1]), (0, 0));
    assert_eq!(case.store.catalog.diff_id_of_blob(&case.blob.digest).await.unwrap(), None);
}

#[tokio::test]
async fn a_right_blob_that_is_no_archive_says_that() {
    let mut case = Case::new().await;
    case.bytes =
        gzip(b"no archive at all, though it is compressed, and longer than a header block ".repeat(20).as_slice());
    case.blob = Descriptor::new(media_type::OCI_LAYER_GZIP, blob::digest(&case.bytes), case.bytes.len() as u64);

    let refused = case.layer(&Arc::new(case.source())).await;

    assert!(matches!(refused, Err(Error::Archive { .. })), "{refused:?}");
    assert_eq!(case.layers(), 0);
}

#[tokio::test]
async fn an_uncompressed_layer_from_near_by_is_kept_as_a_tree_alone() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;
    let tar = fixture::archive("file", "content");
    let blob = Descriptor::new(media_type::OCI_LAYER, blob::digest(&tar), tar.len() as u64);
    for is_local in [true, false] {
        let fetch: Arc<dyn Fetch> = Arc::new(Source { bytes: tar.clone(), is_local, ..Source::default() });
        let order =
            Order { fetch, lease: lease.clone(), report: silent(), blob: blob.clone(), writeback: Writeback::Ahead };

        let row = layer(&store, order, blob.digest).await.unwrap();

        assert_eq!(row.diff_id, Some(blob.digest));
        assert!(matches!(store.catalog.blob(&blob.digest).await, Err(Error::BlobNotFound { .. })));
        assert_eq!(blob::partial_size(&store, &PartialName::Blob(blob.digest)).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_blob_alone_is_kept_unread_and_unpacked_from_here_later() {
    let case = Case::new().await;
    let source = Arc::new(case.source());

    blob(&case.store, case.order(&source)).await.unwrap();
    assert_eq!(case.layers(), 0);
    blob(&case.store, case.order(&source)).await.unwrap();
    case.layer(&source).await.unwrap();

    assert_eq!(*source.begun.lock().unwrap(), [0]);
    assert_eq!(case.layers(), 1);
}
