//! Transfers between two stores of one process, over a wire that a test can cut, read and change.

mod hostile;

use std::io::{Cursor, Write};

use futures_util::StreamExt;
use strata_archive::Compression;
use strata_image::{Format, Platforms};
use strata_types::Reference;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::fixture;
use crate::image::{self, Import, Save};
use crate::remote::Events;
use crate::{Error, Result, Store};
use std::sync::{Arc, Mutex};

const UNIT: usize = 16 * 1024;

/// Two stores.
struct Pair {
    from: Arc<Store>,
    to: Arc<Store>,
    _directories: [TempDir; 2],
}

type Sent = (u32, &'static str, usize);

/// What passed on the way from one store to the other.
#[derive(Clone, Debug, Default)]
struct Wire(Arc<Mutex<Vec<Sent>>>);

impl Wire {
    fn note(&self, answer: &Answer) {
        let (what, bytes) = match &answer.part {
            Part::Head(_) => ("head", 0),
            Part::Chunk(chunk) => ("chunk", chunk.len()),
            Part::End => ("end", 0),
        };
        self.0.lock().unwrap().push((answer.id, what, bytes));
    }

    fn bytes(&self) -> u64 {
        self.0.lock().unwrap().iter().map(|(_, _, bytes)| *bytes as u64).sum()
    }
}

async fn pair() -> Pair {
    let (one, from) = fixture::store().await;
    let (two, to) = fixture::store().await;
    Pair { from, to, _directories: [one, two] }
}

fn what(name: &str) -> Receive {
    Receive { name: Reference::parse(name).unwrap(), platforms: Platforms::Host, keep_compressed: false }
}

/// Copies an image. Each answer goes through the wire, which may change it, or end the stream by giving none.
async fn copy(
    pair: &Pair,
    reference: &str,
    what: Receive,
    wire: impl FnMut(Answer) -> Option<Vec<Answer>> + Send,
) -> Result<Received> {
    let (asking, questions) = mpsc::channel(4);
    let (answering, answers) = mpsc::channel(1);
    let peer = Arc::new(Peer::new(asking));
    let answers = ReceiverStream::new(answers).map(wire);
    let answers = answers.take_while(|passed| std::future::ready(passed.is_some()));
    let answers = answers.flat_map(|passed| futures_util::stream::iter(passed.unwrap_or_default().into_iter().map(Ok)));
    let (events, _happened) = Events::channel();
    let (told, _telling) = mpsc::channel(64);
    tokio::select! {
        biased;
        received = receive(&pair.to, what, &peer, &events, told) => received,
        why = peer.route(answers) => Err(why),
        Err(error) = send(&pair.from, reference, ReceiverStream::new(questions).map(Ok), answering) => Err(error),
    }
}

async fn simply(pair: &Pair, reference: &str) -> Received {
    copy(pair, reference, what(reference), |answer| Some(vec![answer])).await.expect("it is copied")
}

/// Bytes without any order, always the same of one seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// An archive of files with these seeds.
fn tar(seeds: impl IntoIterator<Item = u64>, modified: u64) -> Vec<u8> {
    let tree = tempfile::tempdir().unwrap();
    for (place, seed) in seeds.into_iter().enumerate() {
        let path = tree.path().join(format!("file-{place}"));
        std::fs::File::create(&path).unwrap().write_all(&noise(seed, UNIT)).unwrap();
    }
    let mut tar = std::process::Command::new("tar");
    tar.arg("-C").arg(tree.path()).arg(format!("--mtime=@{modified}")).args(["--sort=name", "-c", "."]);
    tar.output().expect("tar runs").stdout
}

async fn import(store: &Arc<Store>, name: &str, tar: Vec<u8>) -> image::Image {
    let name = Some(Reference::parse(name).unwrap());
    image::import(store, Import { name, ..Import::default() }, Cursor::new(tar)).await.unwrap()
}

/// The bytes of the layer of an image that was imported, compressed.
async fn compressed(store: &Arc<Store>, image: &image::Image) -> u64 {
    let lease = fixture::lease(store, &crate::lease::random_text(20)).await;
    let diff_id = image.layers[0].diff_id.unwrap();
    crate::layer::archive(store, &diff_id, Compression::Gzip, &lease).await.unwrap().unwrap().size
}

async fn saved(store: &Arc<Store>, reference: &str) -> Vec<u8> {
    let what = Save {
        references: vec![reference.to_owned()],
        platforms: Platforms::All,
        format: Format::OciLayout,
        compression: Compression::Gzip,
    };
    let saved = image::save(store, what).await.unwrap();
    let (saved, bytes) = crate::catalog::blocking(move || {
        let mut bytes = Vec::new();
        saved.write(&mut bytes).unwrap();
        (saved, bytes)
    })
    .await;
    saved.end().await.unwrap();
    bytes
}

/// Files of contents and blobs that came in part.
fn partials(store: &Store) -> Vec<String> {
    let directory = store.paths.partials().join(store.catalog.boot_id());
    let mut names = crate::disk::names(&directory).unwrap();
    names.sort();
    names
}

/// Layers in any state, by directory.
fn layers(store: &Store) -> usize {
    crate::disk::names(&store.paths.layers()).unwrap().len()
}

/// A base image of a hundred files on both sides, and one on the first in which five are others and all are newer.
async fn updated(pair: &Pair) -> image::Image {
    for store in [&pair.from, &pair.to] {
        import(store, "base:1", tar(0..100, 1_600_000_000)).await;
    }
    import(&pair.from, "base:2", tar((0..95).chain(1000..1005), 1_700_000_000)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_update_only_the_files_that_changed_move() {
    let pair = pair().await;
    let image = updated(&pair).await;
    let whole = compressed(&pair.from, &image).await;

    let received = simply(&pair, "base:2").await;

    assert!(received.moved * 100 <= whole * 15, "{} bytes of {whole}", received.moved);
    assert!(received.moved > 5 * UNIT as u64, "what is new cannot be had from nowhere");
    assert_eq!(received.spared, 95 * UNIT as u64);
    assert_eq!((received.image, received.target.digest), (Some(image.row.id), image.row.manifest));
    assert!(saved(&pair.from, "base:2").await == saved(&pair.to, "base:2").await, "it is the same image for others");
    assert_eq!(partials(&pair.to), [""; 0]);
    let (found, mut damage) = mpsc::channel(16);
    crate::verify::verify(&pair.to, found).await.unwrap();
    assert!(damage.recv().await.is_none(), "the store is whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_not_asked_for_again() {
    let pair = pair().await;
    updated(&pair).await;
    simply(&pair, "base:2").await;

    let again = copy(&pair, "base:2", what("other:name"), |answer| Some(vec![answer])).await.unwrap();

    assert!(again.moved < 4096, "{} bytes", again.moved);
    assert!(again.spared > 100 * UNIT as u64);
    assert!(saved(&pair.from, "base:2").await.len() == saved(&pair.to, "other:name").await.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_image_comes_as_a_whole() {
    let pair = pair().await;
    let image = import(&pair.from, "fresh:1", tar(0..20, 1)).await;
    // Something else is there, and of no use.
    import(&pair.to, "other:1", tar(500..520, 1)).await;

    let received = simply(&pair, "fresh:1").await;

    assert!(received.moved < compressed(&pair.from, &image).await * 102 / 100, "{received:?}");
    assert_eq!(received.image, Some(image.row.id));
    assert!(saved(&pair.from, "fresh:1").await == saved(&pair.to, "fresh:1").await);
    assert_eq!(partials(&pair.to), [""; 0]);
}

/// Cuts the stream after so many bytes.
fn cut_after(most: u64, wire: &Wire) -> impl FnMut(Answer) -> Option<Vec<Answer>> + Send + use<> {
    let wire = wire.clone();
    move |answer| {
        if wire.bytes() > most {
            return None;
        }
        wire.note(&answer);
        Some(vec![answer])
    }
}

/// Bytes that are on their way when the stream is cut: queues of chunks.
const UNDER_WAY: u64 = 3 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_cut_only_the_rest_comes() {
    for is_fresh in [true, false] {
        let pair = pair().await;
        let (old, new) = (0..800, 1000..1600);
        if is_fresh {
            import(&pair.from, "base:2", tar(new, 1)).await;
        } else {
            for store in [&pair.from, &pair.to] {
                import(store, "base:1", tar(old.clone(), 1)).await;
            }
            import(&pair.from, "base:2", tar(old.chain(new), 2)).await;
        }
        let all = 600 * UNIT as u64;
        let cut = copy(&pair, "base:2", what("base:2"), cut_after(all * 2 / 3, &Wire::default())).await;
        assert!(matches!(cut, Err(Error::Interrupted)), "{cut:?}");
        let mut found = image::get(&pair.to, "base:2", None).await;
        assert!(matches!(found, Err(Error::ImageNotFound { .. })), "nothing is named before it is there");
        let kept = partials(&pair.to);
        assert!(matches!(kept.as_slice(), [one] if one.starts_with(if is_fresh { "blob-" } else { "contents-" })));

        let rest = loop {
            match copy(&pair, "base:2", what("base:2"), |answer| Some(vec![answer])).await {
                // Who was cut off lets go of it a moment later.
                Err(Error::PartialBusy { .. }) => tokio::task::yield_now().await,
                received => break received.unwrap(),
            }
        };

        assert!(rest.moved < all / 3 + UNDER_WAY, "fresh {is_fresh}: {} of {all} again", rest.moved);
        found = image::get(&pair.to, "base:2", None).await;
        assert_eq!(found.unwrap().row.id, rest.image.unwrap());
        assert_eq!(partials(&pair.to), [""; 0]);
    }
}

/// Loads what another store saved: its layers are compressed, and no registry is known to have them.
async fn load(store: &Arc<Store>, archive: Vec<u8>) {
    image::load(store, Cursor::new(archive), Platforms::All, crate::ingest::silent()).await.unwrap();
}

/// As [`updated`], with compressed layers in both stores.
async fn updated_compressed(pair: &Pair) {
    let (_directory, maker) = fixture::store().await;
    import(&maker, "base:1", tar(0..100, 1)).await;
    let base = saved(&maker, "base:1").await;
    load(&pair.from, base.clone()).await;
    load(&pair.to, base).await;
    import(&maker, "base:2", tar((0..95).chain(1000..1005), 2)).await;
    load(&pair.from, saved(&maker, "base:2").await).await;
}

async fn layer_of(store: &Store, reference: &str) -> (Descriptor, Digest) {
    let reference = Reference::parse(reference).unwrap();
    let target = store.catalog.target(&reference).await.unwrap().unwrap();
    let children = store.catalog.document_children(&target.digest).await.unwrap();
    let layer = children.into_iter().find(|child| child.kind == crate::catalog::ChildKind::Layer).unwrap().descriptor;
    let diff_id = store.catalog.diff_id_of_blob(&layer.digest).await.unwrap().unwrap();
    (layer, diff_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_layer_that_no_registry_has_comes_as_it_is() {
    let pair = pair().await;
    updated_compressed(&pair).await;
    let (layer, _) = layer_of(&pair.from, "base:2").await;

    let received = simply(&pair, "base:2").await;

    assert!(received.moved >= layer.size, "{received:?}");
    assert!(saved(&pair.from, "base:2").await == saved(&pair.to, "base:2").await, "with the same manifest");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_compressed_layer_that_a_registry_has_only_the_files_move_and_where_it_is_is_known() {
    for keep_compressed in [false, true] {
        let pair = pair().await;
        updated_compressed(&pair).await;
        let (layer, diff_id) = layer_of(&pair.from, "base:2").await;
        pair.from.catalog.put_layer_blob(&layer, &diff_id, "docker.io/library/base").await.unwrap();

        let what = Receive { keep_compressed, ..what("base:2") };
        let received = copy(&pair, "base:2", what, |answer| Some(vec![answer])).await.unwrap();

        let form = pair.to.catalog.form(&layer.digest).await.unwrap().unwrap();
        assert_eq!(form.is_here, keep_compressed);
        if keep_compressed {
            assert_eq!(form.diff_id, diff_id);
        } else {
            assert!(pair.to.catalog.forms(&diff_id).await.unwrap().is_empty(), "nobody has inflated it here");
            assert!(received.moved * 100 <= layer.size * 15, "{} bytes of {}", received.moved, layer.size);
            assert_eq!(form.source, "docker.io/library/base");
        }
        assert!(crate::image::get(&pair.to, "base:2", None).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_damaged_here_comes_anew() {
    let pair = pair().await;
    let image = updated(&pair).await;
    let base = crate::image::get(&pair.to, "base:1", None).await.unwrap();
    let file = pair.to.paths.layer(&base.layers[0].id).join("file-7");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&file, bytes).unwrap();

    let received = simply(&pair, "base:2").await;

    assert_eq!(received.image, Some(image.row.id));
    let layer = crate::image::get(&pair.to, "base:2", None).await.unwrap().layers[0].id.clone();
    assert_eq!(std::fs::read(pair.to.paths.layer(&layer).join("file-7")).unwrap(), noise(7, UNIT));
    assert_eq!(partials(&pair.to), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_not_copied_onto_itself() {
    let (directory, store) = fixture::store().await;
    import(&store, "base:1", tar(0..2, 1)).await;
    let pair = Pair { from: Arc::clone(&store), to: store, _directories: [directory, tempfile::tempdir().unwrap()] };

    let refused = copy(&pair, "base:1", what("base:2"), |answer| Some(vec![answer])).await;

    assert!(matches!(refused, Err(Error::SameStore)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_there_is_named() {
    let pair = pair().await;

    let refused = copy(&pair, "none:1", what("none:1"), |answer| Some(vec![answer])).await;

    assert!(matches!(&refused, Err(Error::ImageNotFound { reference }) if reference == "none:1"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_transfers_of_one_image_share_the_work() {
    let pair = pair().await;
    let image = updated(&pair).await;

    let (one, two) = tokio::join!(simply(&pair, "base:2"), simply(&pair, "base:2"));

    assert_eq!((one.image, two.image), (Some(image.row.id), Some(image.row.id)));
    assert!(one.moved.min(two.moved) < 4096, "{one:?} {two:?}");
    assert_eq!(layers(&pair.to), 2);
}
