//! Claims about a start after a crash: files without rows, rows without files, other boots, damage.

use super::*;
use crate::fixture;
use crate::verify::{self, Damage};

async fn damage(store: &Arc<Store>) -> Vec<Damage> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(100);
    let summary = verify::verify(store, sender).await.unwrap();
    let mut found = Vec::new();
    while let Some(damage) = receiver.recv().await {
        found.push(damage);
    }
    assert_eq!(summary.damaged, found.len() as u64);
    found
}

/// Opens again what `store` had open, as after a crash.
async fn reopen(store: Arc<Store>, boot_id: &str) -> Arc<Store> {
    let root = store.paths.root().to_path_buf();
    for _ in 0..200 {
        if Arc::strong_count(&store) == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop(store);
    fixture::open_in(&root, boot_id).await.expect("the store opens again")
}

#[tokio::test]
async fn a_second_service_is_refused_by_the_pid_of_the_first() {
    let (_root, store) = fixture::store().await;

    let refused = fixture::open_in(store.paths.root(), "boot-1").await;

    let pid = std::process::id().to_string();
    assert!(matches!(refused, Err(Error::RootLocked { pid: found, .. }) if found == pid));
}

#[tokio::test]
async fn an_acknowledged_image_survives_a_reboot_and_files_without_rows_go() {
    let (_root, store) = fixture::store().await;
    let image = fixture::import(&store, "a:1", "x").await.unwrap();
    let orphan = store.paths.blob(&crate::blob::digest(b"orphan"));
    fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    fs::write(&orphan, "orphan").unwrap();
    fs::create_dir_all(store.paths.layers().join("orphan/usr")).unwrap();
    fs::create_dir_all(store.paths.snapshots().join("7/upper")).unwrap();
    fs::write(store.paths.ingest().join("half"), "half").unwrap();

    let store = reopen(store, "boot-2").await;

    for gone in
        [orphan, store.paths.layers().join("orphan"), store.paths.snapshot(7), store.paths.ingest().join("half")]
    {
        assert!(!disk::exists(&gone), "{}", gone.display());
    }
    assert_eq!(crate::image::get(&store, "a:1", None).await.unwrap().row, image.row);
    assert_eq!(damage(&store).await, []);
}

#[tokio::test]
async fn an_unsynced_layer_survives_the_service_but_not_the_host() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;
    let layer = fixture::layer(&store, &lease, "x").await;

    let store = reopen(store, "boot-1").await;
    store.catalog.layers_usable(std::slice::from_ref(&layer)).await.unwrap();
    assert_eq!(damage(&store).await, []);
    let store = reopen(store, "boot-2").await;

    assert!(matches!(store.catalog.layer(&layer).await, Err(Error::LayerNotFound { .. })));
    assert!(!disk::exists(&store.paths.layer(&layer)));
}

#[tokio::test]
async fn a_row_without_its_file_does_not_stop_the_start() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;
    let image = fixture::import(&store, "a:1", "x").await.unwrap();
    let digest = fixture::blob(&store, &lease, "abc").await;
    fs::remove_file(store.paths.blob(&digest)).unwrap();
    let layer = image.row.layers[0].clone();
    fs::remove_dir_all(store.paths.layer(&layer)).unwrap();

    let store = reopen(store, "boot-1").await;

    assert!(matches!(store.catalog.blob(&digest).await, Err(Error::BlobNotFound { .. })));
    let kinds: Vec<_> = damage(&store).await.into_iter().map(|damage| (damage.kind, damage.object)).collect();
    assert!(kinds.contains(&("layer", layer.to_string())), "{kinds:?}");
}

#[tokio::test]
async fn a_blob_of_the_wrong_size_goes_to_quarantine() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;
    let digest = fixture::blob(&store, &lease, "abc").await;
    fs::write(store.paths.blob(&digest), "abcd").unwrap();

    let store = reopen(store, "boot-1").await;

    assert_eq!(disk::names(&store.paths.quarantine()).unwrap(), [digest.as_hex()]);
    assert!(matches!(store.catalog.blob(&digest).await, Err(Error::BlobNotFound { .. })));
}

#[tokio::test]
async fn verify_names_each_damaged_object_and_repairs_none() {
    let (_root, store) = fixture::store().await;
    let image = fixture::import(&store, "a:1", "content").await.unwrap();
    let layer = &image.row.layers[0];
    fs::write(store.paths.layer(layer).join("file"), "CONTENT").unwrap();
    let config = store.paths.blob(&image.row.id);
    let mut bytes = fs::read(&config).unwrap();
    bytes[0] ^= 1;
    fs::write(&config, bytes).unwrap();

    let found = damage(&store).await;

    let named: Vec<_> = found.iter().map(|damage| (damage.kind, damage.object.clone())).collect();
    assert!(named.contains(&("blob", image.row.id.to_string())), "{found:?}");
    assert!(named.contains(&("layer", layer.to_string())), "{found:?}");
    assert!(named.contains(&("image", "docker.io/library/a:1".to_owned())), "{found:?}");
    assert!(found.iter().any(|damage| damage.path.ends_with("file")), "{found:?}");
    assert!(disk::exists(&config));
}

#[tokio::test]
async fn a_blob_in_pieces_survives_the_service_but_not_the_host() {
    let (_root, store) = fixture::store().await;
    let name = crate::blob::PartialName::upload("a").unwrap();
    let mut partial = crate::blob::Partial::open(&store, &name).await.unwrap();
    partial.append(bytes::Bytes::from_static(b"abc")).await.unwrap();
    drop(partial);

    let store = reopen(store, "boot-1").await;
    assert_eq!(crate::blob::partial_size(&store, &name).await.unwrap(), Some(3));
    let store = reopen(store, "boot-2").await;

    assert_eq!(crate::blob::partial_size(&store, &name).await.unwrap(), None);
}
