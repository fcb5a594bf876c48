//! Layers large enough to be taken from a stream as they come.

use super::*;

/// More than what is written down whatever it is, and gzip makes it no smaller.
fn large(seed: u8) -> String {
    let mut bytes = vec![0; 1 << 20];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn nothing_is_left(store: &Arc<Store>, what: &str) {
    gc::collect(store, Duration::ZERO).await.unwrap();
    assert_eq!(store.catalog.totals().await.unwrap(), [0; 4], "{what}");
    assert!(disk::names(&store.paths.layers()).unwrap().is_empty(), "{what}");
    assert!(disk::names(&store.paths.ingest()).unwrap().is_empty(), "{what}");
    assert!(store.catalog.leases("", 10).await.unwrap().is_empty(), "{what}");
}

/// The file of a blob in an archive is found by where the name of its member stands; its content follows a header.
fn content_at(archive: &[u8], digest: &serde_json::Value) -> usize {
    let name = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
    let needle = format!("blobs/sha256/{name}\0");
    archive.windows(needle.len()).position(|window| window == needle.as_bytes()).unwrap() + 512
}

#[tokio::test]
async fn layers_are_taken_as_they_come_and_are_the_same_as_from_a_file() {
    for codec in [None, Some(Codec::Gzip(1))] {
        let (_root, store) = fixture::store().await;
        let mut layout = Layout::default();
        let manifest = layout.image(&host(), &large(1), codec);
        let archive = layout.tar(manifest.clone(), "a:1");

        let loaded = load_all(&store, &archive).await.unwrap();

        let digest = loaded[0].target.digest;
        assert_eq!(digest.to_string(), manifest["digest"]);
        let image = image::get(&store, "a:1", None).await.unwrap();
        assert!(disk::exists(&store.paths.layer(&image.row.layers[0]).join("file")));
        let saved = save(&store, &["a:1"], Format::OciLayout, Platforms::All).await;
        // What is here is not taken again.
        load_all(&store, &archive).await.unwrap();
        assert_eq!(store.catalog.totals().await.unwrap()[1], 1);
        forget(&store, "a:1").await;
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &saved).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let token = tokio_util::sync::CancellationToken::new();
        let again = load_file(&store, file, Platforms::All, silent(), token).await.unwrap();
        assert_eq!(again[0].target.digest, digest);
        assert!(saved == save(&store, &["a:1"], Format::OciLayout, Platforms::All).await);
    }
}

#[tokio::test]
async fn layers_of_other_hosts_and_of_nobody_are_put_in_order() {
    for codec in [None, Some(Codec::Gzip(1))] {
        let (_root, store) = fixture::store().await;
        let mut layout = Layout::default();
        let foreign = layout.image(FOREIGN, &large(1), codec);
        let own = layout.image(&host(), &large(2), codec);
        let index = layout.index(&[(&foreign, FOREIGN), (&own, &host())]);
        // Named by no manifest.
        layout.blob("x", fixture::archive("file", &large(3)));

        let loaded = load_all(&store, &layout.tar(index.clone(), "multi:1")).await.unwrap();

        assert_eq!(loaded[0].target.digest.to_string(), index["digest"]);
        gc::collect(&store, Duration::ZERO).await.unwrap();
        assert_eq!(store.catalog.totals().await.unwrap()[2], 1, "one image is unpacked");
        let platform = Platforms::Only(Platform::parse(&format!("linux/{FOREIGN}")).unwrap());
        let other = image::get_on(&store, "multi:1", platform, None).await.unwrap();
        let path = store.paths.layer(&other.row.layers[0]).join("file");
        assert_eq!(std::fs::read_to_string(path).unwrap(), large(1));
        assert_eq!(store.catalog.totals().await.unwrap()[1], 2, "what nobody names has gone");
        image::remove(&store, "multi:1", true).await.unwrap();
        nothing_is_left(&store, &format!("{codec:?}")).await;
    }
}

#[tokio::test]
async fn what_is_wrong_in_a_stream_is_told_as_such_and_leaves_nothing() {
    for codec in [None, Some(Codec::Gzip(1))] {
        let (_root, store) = fixture::store().await;
        let mut layout = Layout::default();
        let manifest = layout.image(&host(), &large(1), codec);
        let layer = blob::digest(&layout.blobs[0]).to_string();
        let whole = layout.tar(manifest, "a:1");
        let at = content_at(&whole, &layer.into());

        let mut other = whole.clone();
        other[at + 700_000] ^= 1;
        let refused = load_all(&store, &other).await.unwrap_err();
        let is_digest =
            matches!(&refused, Error::DigestMismatch { .. } | Error::Image(strata_image::Error::DigestMismatch { .. }));
        assert!(is_digest, "{codec:?}: {refused:?}");
        nothing_is_left(&store, "another content").await;

        let refused = load_all(&store, &whole[..at + 700_000]).await.unwrap_err();
        assert!(matches!(&refused, Error::Image(strata_image::Error::Tar { .. })), "{codec:?}: {refused:?}");
        nothing_is_left(&store, "a cut").await;

        // The header of the second entry, or the middle of a member: no archive any more.
        let mut damaged = whole.clone();
        let second = at + if codec.is_none() { 512 + (2 << 20) } else { 100 };
        damaged[second..second + 64].fill(0x5a);
        let refused = load_all(&store, &damaged).await;
        assert!(refused.is_err(), "{codec:?}");
        nothing_is_left(&store, "damage").await;

        load_all(&store, &whole).await.unwrap();
    }
}

#[tokio::test]
async fn a_reader_that_fails_in_a_layer_is_the_cause() {
    struct Broken(Cursor<Vec<u8>>);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(std::io::Error::other(Error::SameStore)),
                count => Ok(count),
            }
        }
    }
    let (_root, store) = fixture::store().await;
    let mut layout = Layout::default();
    let manifest = layout.image(&host(), &large(1), None);
    let mut cut = layout.tar(manifest, "a:1");
    cut.truncate(1 << 20);

    let refused = load(&store, Broken(Cursor::new(cut)), Platforms::All, silent()).await.unwrap_err();

    assert!(matches!(refused, Error::SameStore), "{refused:?}");
    nothing_is_left(&store, "a broken reader").await;
}

#[tokio::test]
async fn a_load_of_a_file_that_is_given_up_leaves_nothing() {
    for codec in [None, Some(Codec::Gzip(1))] {
        let (_root, store) = fixture::store().await;
        let mut layout = Layout::default();
        let manifest = layout.image(&host(), &large(1), codec);
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &layout.tar(manifest, "a:1")).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let given_up = tokio_util::sync::CancellationToken::new();
        given_up.cancel();

        let refused = load_file(&store, file, Platforms::All, silent(), given_up).await;

        assert!(matches!(refused, Err(Error::Interrupted)), "{codec:?}: {refused:?}");
        nothing_is_left(&store, &format!("{codec:?}")).await;
        let partials = store.paths.partials().join(store.catalog.boot_id());
        assert!(disk::names(&partials).unwrap().is_empty(), "{codec:?}");
    }
}
