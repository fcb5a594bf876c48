//! Claims about compressed layers that are let go: one store serves as the registry of another.

use std::io::Read;
use std::time::Duration;

use strata_archive::Compression;
use strata_image::{Format, Platforms};
use strata_registry::Registries;

use super::*;
use crate::config::{Blobs, Keep};
use crate::ingest::Writeback;
use crate::remote::{Events, Pull, Push, pull, push};
use crate::{Config, disk, fixture, gc, image};

struct Registry {
    _root: tempfile::TempDir,
    store: Arc<Store>,
    host: String,
}

/// A store that serves an image of one layer as `app:1`.
async fn registry() -> Registry {
    let (root, store) = fixture::store().await;
    let address = crate::serve::start(&store, Some("127.0.0.1:0"), None).await.unwrap().unwrap();
    let host = address.to_string();
    fixture::import(&store, "docker.io/team/app:1", "content").await.unwrap();
    Registry { _root: root, store, host }
}

/// A store that lets go of what registries have.
async fn keeping(keep: Keep) -> (tempfile::TempDir, Arc<Store>) {
    let root = tempfile::tempdir_in("/var/tmp").unwrap();
    let config = Config {
        blobs: Blobs { keep },
        garbage_grace_seconds: 0,
        registries: Some(Registries::default()),
        ..Config::default()
    };
    let (idle, drain) = Default::default();
    let store = Store::open_in_boot(&root.path().join("store"), config, idle, drain, "boot-1").await.unwrap();
    (root, store)
}

async fn fetch(store: &Arc<Store>, reference: &str) -> crate::remote::Pulled {
    let reference = Reference::parse(reference).unwrap();
    let what = Pull {
        reference,
        platforms: Platforms::Host,
        identity: Identity::default(),
        lease: None,
        known: None,
        writeback: Writeback::Ahead,
    };
    pull(store, what, &Events::channel().0).await.unwrap()
}

async fn send(store: &Arc<Store>, reference: &str) -> Result<()> {
    let what = Push {
        reference: Reference::parse(reference).unwrap(),
        source: None,
        platform: None,
        compression: None,
        force: false,
        form: None,
        identity: Identity::default(),
    };
    push(store, what, &Events::channel().0).await.map(drop)
}

async fn archive(store: &Arc<Store>, reference: &str) -> Result<Vec<u8>> {
    let what = image::Save {
        references: vec![reference.to_owned()],
        platforms: Platforms::All,
        format: Format::OciLayout,
        compression: Compression::Gzip,
    };
    let saved = image::save(store, what).await?;
    let (bytes, saved) = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        saved.write(&mut bytes).map(|()| (bytes, saved))
    })
    .await
    .unwrap()?;
    saved.end().await?;
    Ok(bytes)
}

/// The compressed layer of the one image.
async fn layer(store: &Arc<Store>, reference: &str) -> Form {
    let image = image::get(store, reference, None).await.unwrap();
    store.catalog.forms(&image.layers[0].diff_id.unwrap()).await.unwrap().remove(0)
}

/// Collects what may go now.
async fn collect(store: &Arc<Store>) {
    gc::collect(store, Duration::ZERO).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pulled_blob_is_kept_unless_the_policy_says_otherwise() {
    let registry = registry().await;
    let name = format!("{}/team/app:1", registry.host);
    for (keep, is_kept) in [(Keep::Always, true), (Keep::WithoutSource, false)] {
        let (_root, store) = keeping(keep).await;
        fetch(&store, &name).await;
        let form = layer(&store, &name).await;

        collect(&store).await;

        let path = store.paths.blob(&form.descriptor.digest);
        assert_eq!((form.source.as_str(), disk::exists(&path)), (name.trim_end_matches(":1"), is_kept), "{keep:?}");
        let again = fetch(&store, &name).await;
        assert!(again.was_current && again.image.is_some());
        assert_eq!(layer(&store, &name).await.is_here, is_kept, "nothing is fetched that is not needed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_registry_has_is_kept_by_any_policy() {
    let registry = registry().await;
    let name = format!("{}/team/app:1", registry.host);
    let (_root, store) = keeping(Keep::Always).await;
    fetch(&store, &name).await;
    let saved = archive(&store, &name).await.unwrap();
    let (_root, store) = keeping(Keep::WithoutSource).await;
    image::load(&store, std::io::Cursor::new(saved), Platforms::All, silent()).await.unwrap();

    collect(&store).await;

    let form = layer(&store, &name).await;
    assert_eq!((form.source.as_str(), form.is_here), ("", true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn save_push_and_the_registry_bring_it_again_by_digest() {
    let first = registry().await;
    let name = format!("{}/team/app:1", first.host);
    let (_root, store) = keeping(Keep::WithoutSource).await;
    fetch(&store, &name).await;
    let digest = layer(&store, &name).await.descriptor.digest;
    let (_other, kept) = keeping(Keep::Always).await;
    fetch(&kept, &name).await;
    let is_here = async || store.catalog.blob(&digest).await.is_ok();

    collect(&store).await;
    assert!(!is_here().await);
    assert_eq!(archive(&store, &name).await.unwrap(), archive(&kept, &name).await.unwrap(), "byte for byte");
    collect(&store).await;
    assert!(!is_here().await, "what was fetched for an archive goes with it");

    let (_third, other) = fixture::store().await;
    let host = crate::serve::start(&other, Some("127.0.0.1:0"), None).await.unwrap().unwrap();
    let target = format!("{host}/team/copy:1");
    image::tag(&store, &name, &target).await.unwrap();
    send(&store, &target).await.unwrap();
    assert_eq!(other.catalog.blob(&digest).await.unwrap().digest, digest);

    collect(&store).await;
    let own = crate::serve::start(&store, Some("127.0.0.1:0"), None).await.unwrap().unwrap();
    let (_fourth, reader) = keeping(Keep::Always).await;
    // The host of the image is in the path of the registry that serves it, and a port does not fit there.
    image::tag(&store, &name, "docker.io/team/served:1").await.unwrap();
    fetch(&reader, &format!("{own}/team/served:1")).await;
    assert_eq!(reader.catalog.blob(&digest).await.unwrap().digest, digest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_gone_is_named_with_registry_repository_and_digest() {
    let registry = registry().await;
    let name = format!("{}/team/app:1", registry.host);
    let (_root, store) = keeping(Keep::WithoutSource).await;
    fetch(&store, &name).await;
    collect(&store).await;
    let digest = layer(&store, &name).await.descriptor.digest;
    image::remove(&registry.store, "docker.io/team/app:1", true).await.unwrap();
    // The form that was served is let go with it.
    assert_eq!(registry.store.catalog.expire_exports(-1000).await.unwrap(), 1);
    gc::prune(&registry.store, gc::Prune { all_images: true, ..gc::Prune::default() }).await.unwrap();

    assert!(registry.store.catalog.blob(&digest).await.is_err());

    let refused = archive(&store, &name).await.unwrap_err();

    let text = strata_rpc::fault::chain(&refused);
    for part in [registry.host.as_str(), "team/app", &digest.to_string()] {
        assert!(text.contains(part), "{text} does not name {part}");
    }
    assert!(matches!(refused, Error::BlobGone { .. }), "{refused:?}");
    // The image itself is as it was.
    let image = image::get(&store, &name, None).await.unwrap();
    let path = store.paths.layer(&image.row.layers[0]).join("file");
    let mut content = String::new();
    std::fs::File::open(path).unwrap().read_to_string(&mut content).unwrap();
    assert_eq!(content, "content");
}
