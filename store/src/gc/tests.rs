//! Claims about what a collection takes and leaves.

use super::*;
use crate::fixture;

#[tokio::test]
async fn an_image_keeps_its_parts_until_it_is_removed() {
    let (_root, store) = fixture::store().await;
    let image = fixture::import(&store, "a:1", "content").await.unwrap();
    let layer = store.paths.layer(&image.row.layers[0]);

    let (freed, _) = collect(&store, Duration::ZERO).await.unwrap();
    assert_eq!((freed, disk::exists(&layer)), (0, true));
    crate::image::remove(&store, "a:1", false).await.unwrap();
    let (freed, _) = collect(&store, Duration::ZERO).await.unwrap();

    assert!(freed > 0 && !disk::exists(&layer));
    assert_eq!(store.catalog.totals().await.unwrap()[..3], [0, 0, 0]);
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
