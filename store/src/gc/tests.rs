//! Claims about what a collection takes and leaves.

use super::*;
use crate::{disk, fixture};

#[tokio::test]
async fn an_image_keeps_its_parts_until_it_is_removed() {
    let (_root, store) = fixture::store().await;
    let image = fixture::import(&store, "a:1", "content").await.unwrap();
    let layer = store.paths.layer(&image.row.layers[0]);

    let (freed, _) = collect(&store, Duration::ZERO).await.unwrap();
    assert_eq!((freed, disk::exists(&layer)), (0, true));
    crate::image::remove(&store, "a:1", false).await.unwrap();
    assert!(disk::exists(&layer), "the answer waits for no file");
    let (freed, _) = collect(&store, Duration::ZERO).await.unwrap();

    assert!(freed > 0 && !disk::exists(&layer));
    assert_eq!(store.catalog.totals().await.unwrap()[..3], [0, 0, 0]);
}

#[tokio::test]
async fn what_is_collected_is_renamed_and_unlinked_only_behind() {
    use std::os::unix::fs::MetadataExt;
    let (_root, store) = fixture::store().await;
    let image = fixture::import(&store, "a:1", "content").await.unwrap();
    let layer = store.paths.layer(&image.row.layers[0]);
    let inodes = |path: &std::path::Path| path.metadata().unwrap().ino();
    let moved =
        [inodes(&layer), inodes(&store.paths.blob(&image.row.id)), inodes(&store.paths.blob(&image.row.manifest))];

    crate::image::remove(&store, "a:1", false).await.unwrap();
    collect(&store, Duration::ZERO).await.unwrap();

    let trash = store.paths.trash();
    let names = disk::names(&trash).unwrap();
    let found: Vec<u64> = names.iter().map(|name| inodes(&trash.join(name))).collect();
    assert!(moved.iter().all(|inode| found.contains(inode)), "{moved:?} are not all of {found:?}");
    let is_layer = |name: &&String| trash.join(name).join("file").exists();
    assert_eq!(names.iter().filter(is_layer).count(), 1, "nothing in it is gone yet");
    store.trash.empty().await.unwrap();
    assert_eq!(disk::names(&trash).unwrap().len(), 0);
}

#[tokio::test]
async fn a_kill_between_the_rename_and_its_transaction_leaves_nothing_in_the_way() {
    let (_root, store) = fixture::store().await;
    let image = fixture::import(&store, "a:1", "content").await.unwrap();
    let layer = image.row.layers[0].clone();
    crate::image::remove(&store, "a:1", false).await.unwrap();
    // The file system has seen both renames, the catalog neither.
    store.trash.discard(&store.paths.layer(&layer)).unwrap();
    store.trash.discard(&store.paths.blob(&image.row.id)).unwrap();
    let root = store.paths.root().to_path_buf();
    while std::sync::Arc::strong_count(&store) > 1 {
        tokio::task::yield_now().await;
    }
    drop(store);

    let store = fixture::open_in(&root, "boot-1").await.unwrap();

    assert!(store.catalog.layer(&layer).await.is_err());
    collect(&store, Duration::ZERO).await.unwrap();
    assert_eq!(store.catalog.totals().await.unwrap()[..3], [0, 0, 0]);
    fixture::import(&store, "a:1", "content").await.unwrap();
    crate::image::get(&store, "a:1", None).await.unwrap();
}

#[tokio::test]
async fn a_prune_answers_when_the_room_is_free() {
    let (_root, store) = fixture::store().await;
    fixture::import(&store, "a:1", "one").await.unwrap();

    prune(&store, Prune { all_images: true, ..Prune::default() }).await.unwrap();

    assert!(disk::names(&store.paths.trash()).unwrap().is_empty());
}

#[tokio::test]
async fn a_prune_without_all_leaves_named_images() {
    let (_root, store) = fixture::store().await;
    let first = fixture::import(&store, "a:1", "one").await.unwrap();
    fixture::import(&store, "a:1", "two").await.unwrap();

    let pruned = prune(&store, Prune::default()).await.unwrap();

    assert_eq!(pruned.deleted, [first.row.id]);
    assert!(pruned.reclaimed > 0);
    crate::image::get(&store, "a:1", None).await.unwrap();
}

#[tokio::test]
async fn the_end_of_a_lease_ends_its_snapshots() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;
    let key = strata_types::SnapshotKey::parse("step").unwrap();
    let new = crate::catalog::NewSnapshot {
        key: key.clone(),
        layer_ids: vec![],
        image_id: None,
        lease: Some(lease.clone()),
        durability: crate::catalog::Durability::Full,
    };
    let row = store.catalog.prepare_snapshot(new).await.unwrap();
    store.catalog.acquire_snapshot(&key, "step").await.unwrap();
    std::fs::create_dir_all(store.paths.snapshot(row.directory).join("upper")).unwrap();

    store.catalog.delete_lease(&lease).await.unwrap();
    collect(&store, Duration::ZERO).await.unwrap();

    assert!(!disk::exists(&store.paths.snapshot(row.directory)));
    assert!(store.catalog.snapshots("", 10).await.unwrap().is_empty());
}
