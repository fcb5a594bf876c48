//! Claims about archives of images: what is saved is loaded as the same, byte for byte, and by its own digests.

mod laws;
mod streams;
mod variants;

use std::io::Cursor;
use std::time::Duration;

use serde_json::json;
use strata_archive::{Compression, MemberWriter};
use strata_image::{Codec, Compressor};
use strata_types::{Platform, Reference, media_type};

use super::*;
use crate::image::{self, Save};
use crate::ingest::silent;
use crate::{disk, fixture, gc};

/// A layout under construction.
#[derive(Default)]
struct Layout {
    blobs: Vec<Vec<u8>>,
}

impl Layout {
    fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> serde_json::Value {
        let entry = json!({"mediaType": media_type, "digest": blob::digest(&bytes).to_string(), "size": bytes.len()});
        if !self.blobs.contains(&bytes) {
            self.blobs.push(bytes);
        }
        entry
    }

    /// An image of one layer with this content, uncompressed or in gzip.
    fn image(&mut self, architecture: &str, content: &str, codec: Option<Codec>) -> serde_json::Value {
        let tar = fixture::archive("file", content);
        let diff_id = blob::digest(&tar).to_string();
        let layer = match codec {
            None => self.blob(media_type::OCI_LAYER, tar),
            Some(codec) => {
                let mut compressor = Compressor::new(Vec::new(), codec, None);
                std::io::Write::write_all(&mut compressor, &tar).unwrap();
                self.blob(media_type::OCI_LAYER_GZIP, compressor.finish().unwrap().0)
            }
        };
        let config = json!({
            "os": "linux", "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": [diff_id]}
        });
        let config = self.blob(media_type::OCI_CONFIG, config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [layer],
            "annotations": {"kept": "as it came"}
        });
        self.blob(media_type::OCI_MANIFEST, manifest.to_string().into_bytes())
    }

    fn index(&mut self, entries: &[(&serde_json::Value, &str)]) -> serde_json::Value {
        let manifests: Vec<_> = entries
            .iter()
            .map(|(entry, architecture)| {
                let mut entry = (*entry).clone();
                entry["platform"] = json!({"os": "linux", "architecture": architecture});
                entry
            })
            .collect();
        let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests});
        self.blob(media_type::OCI_INDEX, index.to_string().into_bytes())
    }

    fn tar(&self, mut root: serde_json::Value, name: &str) -> Vec<u8> {
        root["annotations"] = json!({"io.containerd.image.name": name});
        let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [root]}).to_string();
        let mut writer = MemberWriter::new(Vec::new());
        let mut file = |path: &str, bytes: &[u8]| writer.file(path, bytes.len() as u64, &mut &bytes[..]).unwrap();
        file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        file("index.json", index.as_bytes());
        for bytes in &self.blobs {
            file(&format!("blobs/sha256/{}", blob::digest(bytes).as_hex()), bytes);
        }
        writer.finish().unwrap()
    }
}

async fn save(store: &Arc<Store>, references: &[&str], format: Format, platforms: Platforms) -> Vec<u8> {
    let references = references.iter().map(|text| text.to_string()).collect();
    let what = Save { references, platforms, format, compression: Compression::Gzip };
    let saved = image::save(store, what).await.unwrap();
    let (saved, bytes) = blocking(move || {
        let mut bytes = Vec::new();
        saved.write(&mut bytes).unwrap();
        (saved, bytes)
    })
    .await;
    saved.end().await.unwrap();
    bytes
}

async fn load_all(store: &Arc<Store>, bytes: &[u8]) -> Result<Vec<Loaded>> {
    load(store, Cursor::new(bytes.to_vec()), Platforms::All, silent()).await
}

async fn forget(store: &Arc<Store>, name: &str) {
    image::remove(store, name, true).await.unwrap();
    gc::collect(store, Duration::ZERO).await.unwrap();
    assert_eq!(store.catalog.totals().await.unwrap(), [0; 4]);
}

fn host() -> String {
    Platform::host().architecture
}

/// An architecture that no host of ours runs.
const FOREIGN: &str = "s390x";

#[tokio::test]
async fn an_image_made_here_is_saved_to_equal_bytes_and_loaded_as_itself() {
    for format in [Format::OciLayout, Format::DockerArchive] {
        let (_root, store) = fixture::store().await;
        let lease = fixture::lease(&store, "l").await;
        let layers = [fixture::layer(&store, &lease, "one").await, fixture::layer(&store, &lease, "two").await];
        let made = fixture::create(&store, &lease, &layers, &["a:1", "b:2"]).await.unwrap();
        store.catalog.delete_lease(&lease).await.unwrap();

        let first = save(&store, &["a:1", "b:2"], format, Platforms::All).await;
        let again = save(&store, &["a:1", "b:2"], format, Platforms::All).await;
        assert!(first == again, "{format:?}: equal images give equal bytes");
        image::remove(&store, "a:1", true).await.unwrap();
        forget(&store, "b:2").await;
        let loaded = load_all(&store, &first).await.unwrap();

        assert_eq!(loaded.len(), 1);
        let names: Vec<String> = loaded[0].names.iter().map(Reference::to_string).collect();
        assert_eq!(names, ["docker.io/library/a:1", "docker.io/library/b:2"]);
        let image = image::get(&store, "a:1", None).await.unwrap();
        assert_eq!((image.row.id, image.layers.len()), (made.row.id, 2));
        assert_eq!(loaded[0].image.as_ref().map(|row| row.id), Some(made.row.id));
        assert!(disk::exists(&store.paths.layer(&image.row.layers[1]).join("file")));
        let third = save(&store, &["a:1", "b:2"], format, Platforms::All).await;
        assert!(third == first, "{format:?}: what was loaded is saved as it came");
        assert!(store.catalog.leases("", 10).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_came_from_elsewhere_keeps_its_digests_compressed_or_not() {
    for codec in [None, Some(Codec::Gzip(3))] {
        let (_root, store) = fixture::store().await;
        let mut layout = Layout::default();
        let manifest = layout.image(&host(), "content", codec);
        let digest = manifest["digest"].as_str().unwrap().to_owned();

        let loaded = load_all(&store, &layout.tar(manifest, "reg:5000/a/b:1")).await.unwrap();
        let saved = save(&store, &["reg:5000/a/b:1"], Format::OciLayout, Platforms::All).await;
        forget(&store, "reg:5000/a/b:1").await;
        let again = load_all(&store, &saved).await.unwrap();

        assert_eq!(loaded[0].target.digest.to_string(), digest);
        assert_eq!(again[0].target, loaded[0].target);
        assert_eq!(image::get(&store, &format!("reg:5000/a/b@{digest}"), None).await.unwrap().layers.len(), 1);
        let bytes = blob::read(&store, &again[0].target.digest).await.unwrap();
        assert_eq!(bytes, *layout.blobs.last().unwrap());
    }
}

#[tokio::test]
async fn of_an_index_the_image_of_this_host_is_unpacked_and_another_when_it_is_asked_for() {
    let (_root, store) = fixture::store().await;
    let mut layout = Layout::default();
    let foreign = layout.image(FOREIGN, "foreign", Some(Codec::Gzip(1)));
    let own = layout.image(&host(), "own", Some(Codec::Gzip(1)));
    let index = layout.index(&[(&foreign, FOREIGN), (&own, &host())]);

    let loaded = load_all(&store, &layout.tar(index.clone(), "multi:1")).await.unwrap();

    let image = image::get(&store, "multi:1", None).await.unwrap();
    assert_eq!((image.row.platform.architecture, store.catalog.totals().await.unwrap()[2]), (host(), 1));
    assert_eq!(loaded[0].target.digest.to_string(), index["digest"]);
    let platform = Platform::parse(&format!("linux/{FOREIGN}")).unwrap();
    let only = Platforms::Only(platform.clone());
    let other = image::get_on(&store, "multi:1", only.clone(), None).await.unwrap();
    assert_eq!(other.row.platform, platform);
    assert_eq!(image::get(&store, "multi:1", None).await.unwrap().row.platform.architecture, host());
    let one = save(&store, &["multi:1"], Format::OciLayout, only).await;
    let whole = save(&store, &["multi:1"], Format::OciLayout, Platforms::All).await;
    assert_eq!(image::remove(&store, "multi:1", false).await.unwrap().deleted.len(), 2);
    gc::collect(&store, Duration::ZERO).await.unwrap();
    assert_eq!(load_all(&store, &one).await.unwrap()[0].target.digest.to_string(), foreign["digest"]);
    assert_eq!(load_all(&store, &whole).await.unwrap()[0].target.digest.to_string(), index["digest"]);
}

#[tokio::test]
async fn an_image_that_was_only_stored_is_unpacked_when_it_is_asked_for() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;
    let mut layout = Layout::default();
    let manifest = layout.image(&host(), "content", Some(Codec::Gzip(1)));
    let bytes = layout.blobs.pop().unwrap();
    for blob in &layout.blobs {
        crate::blob::put(&store, blob.clone(), &lease, Durability::Full).await.unwrap();
    }
    let row = document::put(&store, bytes, "", &lease, Durability::Full).await.unwrap();
    store.catalog.set_name(&Reference::parse("pushed:1").unwrap(), &row.digest).await.unwrap();
    store.catalog.delete_lease(&lease).await.unwrap();

    let image = image::get(&store, "pushed:1", None).await.unwrap();

    assert_eq!(image.row.manifest.to_string(), manifest["digest"]);
    assert_eq!(image.row.names, ["docker.io/library/pushed:1"]);
    assert!(disk::exists(&store.paths.layer(&image.row.layers[0]).join("file")));
}

#[tokio::test]
async fn two_names_of_two_images_are_one_archive_and_an_id_has_no_name() {
    let (_root, store) = fixture::store().await;
    let one = fixture::import(&store, "one:1", "one").await.unwrap().row;
    fixture::import(&store, "two:1", "two").await.unwrap();

    let bytes = save(&store, &[&one.id.to_string(), "two:1"], Format::DockerArchive, Platforms::All).await;
    image::remove(&store, "one:1", false).await.unwrap();
    forget(&store, "two:1").await;
    let loaded = load_all(&store, &bytes).await.unwrap();

    let names: Vec<Vec<String>> =
        loaded.iter().map(|loaded| loaded.names.iter().map(Reference::familiar).collect()).collect();
    assert_eq!(names, [vec![], vec!["two:1".to_owned()]]);
    assert!(image::get(&store, &one.id.to_string(), None).await.unwrap().row.names.is_empty());
}

#[tokio::test]
async fn an_archive_that_is_cut_off_or_damaged_leaves_nothing() {
    let (_root, store) = fixture::store().await;
    let mut layout = Layout::default();
    let manifest = layout.image(&host(), &"content ".repeat(1000), Some(Codec::Gzip(1)));
    let whole = layout.tar(manifest, "a:1");
    let mut cut = whole.clone();
    cut.truncate(whole.len() / 2);
    let mut damaged = whole.clone();
    // The layer is the first blob; its header and some of its content stay.
    let place = whole.windows(2).position(|pair| pair == [0x1f, 0x8b]).unwrap();
    damaged[place + 60] ^= 0xff;

    for (name, bytes) in [("cut", cut), ("damaged", damaged), ("empty", Vec::new()), ("noise", vec![7; 5000])] {
        let refused = load_all(&store, &bytes).await;

        assert!(refused.is_err(), "{name}");
        gc::collect(&store, Duration::ZERO).await.unwrap();
        assert_eq!(store.catalog.totals().await.unwrap(), [0; 4], "{name}");
        assert!(disk::names(&store.paths.layers()).unwrap().is_empty(), "{name}");
        assert!(store.catalog.leases("", 10).await.unwrap().is_empty(), "{name}");
    }
    load_all(&store, &whole).await.unwrap();
}

#[tokio::test]
async fn a_platform_that_is_not_there_is_named_with_those_that_are() {
    let (_root, store) = fixture::store().await;
    fixture::import(&store, "a:1", "one").await.unwrap();
    let platforms = Platforms::Only(Platform::parse(&format!("linux/{FOREIGN}")).unwrap());
    let references = vec!["a:1".to_owned()];
    let what = Save { references, platforms, format: Format::OciLayout, compression: Compression::Gzip };

    let refused = image::save(&store, what).await;

    let is_platform = matches!(refused, Err(Error::Image(strata_image::Error::NoPlatform { .. })));
    assert!(is_platform, "{refused:?}");
}
