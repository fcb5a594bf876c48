//! Claims about the catalog alone.

use strata_types::{Digest, LayerId, LeaseId, SnapshotKey};

use super::*;

async fn catalog() -> (tempfile::TempDir, Catalog, LeaseId) {
    let directory = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(&directory.path().join("catalog.db"), "boot-1").unwrap();
    let lease = LeaseId::parse("lease").unwrap();
    catalog.create_lease(&lease, "test", None).await.unwrap();
    (directory, catalog, lease)
}

async fn usable(catalog: &Catalog, lease: &LeaseId) -> LayerId {
    let id = catalog.create_layer(lease).await.unwrap();
    catalog.mark_layer_usable(&id).await.unwrap();
    id
}

fn record(key: &str, family: &str, layer: Option<LayerId>) -> CacheRecord {
    let description = "RUN x".to_owned();
    CacheRecord { key: key.into(), family: family.into(), layer, description, ..Default::default() }
}

fn query(key: &str, family: &str, lease: &LeaseId) -> CacheQuery {
    CacheQuery { key: key.into(), operation: String::new(), family: family.into(), lease: lease.clone() }
}

fn snapshot(key: &str, layers: &[LayerId], lease: Option<LeaseId>) -> NewSnapshot {
    NewSnapshot {
        key: SnapshotKey::parse(key).unwrap(),
        layer_ids: layers.to_vec(),
        image_id: None,
        lease,
        durability: Durability::Full,
    }
}

#[tokio::test]
async fn an_ended_lease_is_as_good_as_none() {
    let (_directory, catalog, _) = catalog().await;
    let session = LeaseId::parse("session").unwrap();
    catalog.create_lease(&session, "test", Some(-1)).await.unwrap();
    catalog.check_lease(&session).await.unwrap();

    catalog.end_session(&session).await.unwrap();

    assert!(matches!(catalog.check_lease(&session).await, Err(Error::LeaseNotFound { .. })));
    assert!(matches!(catalog.create_layer(&session).await, Err(Error::LeaseNotFound { .. })));
    assert_eq!(catalog.expire_leases().await.unwrap().0, 1);
}

#[tokio::test]
async fn an_incomplete_layer_is_found_by_nobody() {
    let (_directory, catalog, lease) = catalog().await;

    let id = catalog.create_layer(&lease).await.unwrap();

    assert!(matches!(catalog.hold_layers(std::slice::from_ref(&id), &lease).await, Err(Error::LayerNotFound { .. })));
    let refused = catalog.put_cache_record(record("k", "", Some(id))).await;
    assert!(matches!(refused, Err(Error::LayerNotFound { .. })));
}

#[tokio::test]
async fn the_newest_record_of_a_family_is_the_previous_one() {
    let (_directory, catalog, lease) = catalog().await;
    let layer = usable(&catalog, &lease).await;
    catalog.put_cache_record(record("old", "f", None)).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    catalog.put_cache_record(record("new", "f", Some(layer.clone()))).await.unwrap();

    let other = catalog.cache_record(query("other", "f", &lease)).await.unwrap();
    let hit = catalog.cache_record(query("old", "f", &lease)).await.unwrap();

    assert_eq!((other.record, other.previous.unwrap().layer), (None, Some(layer)));
    assert_eq!((hit.record.unwrap().key.as_str(), hit.previous), ("old", None));
}

#[tokio::test]
async fn what_a_lease_record_or_snapshot_needs_is_not_garbage() {
    let (_directory, catalog, lease) = catalog().await;
    let (by_lease, by_record, by_snapshot, by_none) = (
        usable(&catalog, &lease).await,
        usable(&catalog, &lease).await,
        usable(&catalog, &lease).await,
        usable(&catalog, &lease).await,
    );
    let other = LeaseId::parse("other").unwrap();
    catalog.create_lease(&other, "test", None).await.unwrap();
    catalog.hold_layers(std::slice::from_ref(&by_lease), &other).await.unwrap();
    catalog.put_cache_record(record("k", "", Some(by_record.clone()))).await.unwrap();
    catalog.prepare_snapshot(snapshot("s", std::slice::from_ref(&by_snapshot), None)).await.unwrap();

    catalog.delete_lease(&lease).await.unwrap();

    assert_eq!(catalog.garbage(0).await.unwrap().layers, std::slice::from_ref(&by_none));
    for kept in [by_lease, by_record, by_snapshot] {
        assert_eq!(catalog.reclaim_layer(&kept, || panic!("it is in use")).await.unwrap(), Reclaim::Kept);
    }
    assert_eq!(catalog.reclaim_layer(&by_none, || Ok(())).await.unwrap(), Reclaim::Freed(0));
    assert!(matches!(catalog.layers_usable(&[by_none]).await, Err(Error::LayerNotFound { .. })));
}

#[tokio::test]
async fn young_garbage_is_left_alone() {
    let (_directory, catalog, lease) = catalog().await;
    usable(&catalog, &lease).await;
    catalog.delete_lease(&lease).await.unwrap();

    let garbage = catalog.garbage(60_000).await.unwrap();

    assert!(garbage.layers.is_empty() && garbage.is_young_left);
}

/// A snapshot of a step: it ends with its lease and is in memory alone.
fn of_step(key: &str, layers: &[LayerId], lease: &LeaseId) -> NewSnapshot {
    NewSnapshot { durability: Durability::Relaxed, ..snapshot(key, layers, Some(lease.clone())) }
}

/// How often something was written to the catalog: frames of its log that end a transaction (fileformat2.html, "WAL").
fn commits(directory: &tempfile::TempDir) -> usize {
    let log = std::fs::read(directory.path().join("catalog.db-wal")).unwrap();
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    let frames = log[32..].chunks_exact(24 + page);
    // Frames of an earlier round have another salt.
    frames.filter(|frame| frame[8..16] == log[16..24] && frame[4..8] != [0; 4]).count()
}

#[tokio::test]
async fn a_step_is_one_commit() {
    let (directory, catalog, lease) = catalog().await;
    let below = usable(&catalog, &lease).await;
    let before = commits(&directory);

    let missed = catalog.cache_record(query("k", "f", &lease)).await.unwrap();
    let key = catalog.prepare_snapshot(of_step("s", &[below], &lease)).await.unwrap().key;
    catalog.acquire_snapshot(&key, "container").await.unwrap();
    catalog.release_snapshot(&key, "container").await.unwrap();
    catalog.begin_commit(&key).await.unwrap();
    let id = catalog.new_layer_id(&lease).await.unwrap();
    let new = NewLayer { id: id.clone(), lease: lease.clone(), record: Some(record("k", "f", None)), shape: None };
    let layer = catalog.finish_commit(&key, new).await.unwrap();

    assert_eq!((missed, layer.state), (CacheFound::default(), LayerState::Unsynced));
    assert_eq!(commits(&directory) - before, 1);
    assert!(matches!(catalog.snapshot(&key).await, Err(Error::SnapshotNotFound { .. })));
    let found = catalog.cache_record(query("k", "f", &lease)).await.unwrap();
    assert_eq!(found.record.and_then(|record| record.layer), Some(id));
    assert_eq!(commits(&directory) - before, 1, "what the lease holds is not written again");
}

#[tokio::test]
async fn layers_are_kept_without_a_commit_until_their_lease_ends() {
    let (directory, catalog, lease) = catalog().await;
    let (one, two) = (usable(&catalog, &lease).await, usable(&catalog, &lease).await);
    let other = LeaseId::parse("other").unwrap();
    catalog.create_lease(&other, "test", None).await.unwrap();
    let before = commits(&directory);
    catalog.keep_layers(&[one.clone(), one.clone()], &other).await.unwrap();
    assert_eq!(commits(&directory), before);

    catalog.delete_lease(&lease).await.unwrap();
    assert_eq!(catalog.garbage(-1).await.unwrap().layers, std::slice::from_ref(&two));
    assert_eq!(catalog.reclaim_layer(&one, || Ok(())).await.unwrap(), Reclaim::Kept);
    assert!(matches!(catalog.reclaim_layer(&two, || Ok(())).await.unwrap(), Reclaim::Freed(_)));
    let refused = catalog.keep_layers(std::slice::from_ref(&two), &other).await;
    assert!(matches!(&refused, Err(Error::LayerNotFound { id }) if *id == two), "{refused:?}");

    catalog.delete_lease(&other).await.unwrap();
    assert!(matches!(catalog.reclaim_layer(&one, || Ok(())).await.unwrap(), Reclaim::Freed(_)));
    let refused = catalog.keep_layers(&[one], &other).await;
    assert!(matches!(refused, Err(Error::LeaseNotFound { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_lease_whose_time_is_over_keeps_no_layer() {
    let (_directory, catalog, lease) = catalog().await;
    let one = usable(&catalog, &lease).await;
    let session = LeaseId::parse("session").unwrap();
    catalog.create_lease(&session, "test", Some(0)).await.unwrap();
    catalog.keep_layers(std::slice::from_ref(&one), &session).await.unwrap();
    catalog.delete_lease(&lease).await.unwrap();
    assert_eq!(catalog.garbage(-1).await.unwrap().layers, []);

    catalog.end_session(&session).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    assert_eq!(catalog.expire_leases().await.unwrap(), (1, None));
    assert_eq!(catalog.garbage(-1).await.unwrap().layers, [one]);
}

#[tokio::test]
async fn a_layer_whose_lease_has_ended_is_not_there_nor_its_record() {
    let (_directory, catalog, lease) = catalog().await;
    let id = catalog.new_layer_id(&lease).await.unwrap();
    catalog.delete_lease(&lease).await.unwrap();

    let new = NewLayer { id: id.clone(), lease: lease.clone(), record: Some(record("k", "", None)), shape: None };
    let refused = catalog.add_layer(new).await;

    assert!(matches!(refused, Err(Error::LeaseNotFound { .. })), "{refused:?}");
    assert!(matches!(catalog.layer(&id).await, Err(Error::LayerNotFound { .. })));
    assert!(catalog.cache_uses("", 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn snapshots_of_steps_are_listed_with_the_others_and_end_with_their_lease() {
    let (_directory, catalog, lease) = catalog().await;
    let (layer, other) = (usable(&catalog, &lease).await, LeaseId::parse("other").unwrap());
    catalog.create_lease(&other, "test", None).await.unwrap();
    for new in [snapshot("a", &[], None), of_step("b", std::slice::from_ref(&layer), &other), snapshot("c", &[], None)]
    {
        catalog.prepare_snapshot(new).await.unwrap();
    }
    let keys = |rows: Vec<SnapshotRow>| rows.into_iter().map(|row| row.key.as_str().to_owned()).collect::<Vec<_>>();

    assert_eq!(keys(catalog.snapshots("", 2).await.unwrap()), ["a", "b"]);
    assert_eq!(keys(catalog.snapshots("a", 9).await.unwrap()), ["b", "c"]);
    let again = catalog.prepare_snapshot(of_step("b", std::slice::from_ref(&layer), &other)).await.unwrap();
    assert!(matches!(catalog.prepare_snapshot(of_step("b", &[], &other)).await, Err(Error::SnapshotExists { .. })));
    assert!(matches!(catalog.prepare_snapshot(of_step("a", &[], &other)).await, Err(Error::SnapshotExists { .. })));
    assert!(catalog.snapshots_ended().await.unwrap().is_empty());
    // The lease of who prepares it holds what it stands on.
    catalog.delete_lease(&lease).await.unwrap();
    assert_eq!(catalog.reclaim_layer(&layer, || panic!("it is in use")).await.unwrap(), Reclaim::Kept);

    catalog.delete_lease(&other).await.unwrap();

    assert_eq!(keys(catalog.snapshots_ended().await.unwrap()), ["b"]);
    catalog.end_snapshot(&again.key).await.unwrap();
    assert!(matches!(catalog.snapshot(&again.key).await, Err(Error::SnapshotNotFound { .. })));
    catalog.forget_snapshot(&again.key).await.unwrap();
    assert_eq!(keys(catalog.snapshots("", 9).await.unwrap()), ["a", "c"]);
}

#[tokio::test]
async fn a_held_snapshot_is_neither_taken_committed_nor_removed() {
    let (_directory, catalog, lease) = catalog().await;
    for new in [snapshot("s", &[], None), of_step("t", &[], &lease)] {
        held_is_held(&catalog, new).await;
    }
}

async fn held_is_held(catalog: &Catalog, new: NewSnapshot) {
    let key = catalog.prepare_snapshot(new).await.unwrap().key;
    let first = catalog.acquire_snapshot(&key, "a").await.unwrap();

    let again = catalog.acquire_snapshot(&key, "a").await.unwrap();

    assert_eq!(again.work, first.work + 1);
    assert!(
        matches!(catalog.acquire_snapshot(&key, "b").await, Err(Error::SnapshotHeld { holder, .. }) if holder == "a")
    );
    assert!(matches!(catalog.begin_commit(&key).await, Err(Error::SnapshotHeld { .. })));
    assert!(matches!(catalog.remove_snapshot(&key, "").await, Err(Error::SnapshotHeld { .. })));
    assert!(matches!(catalog.remove_snapshot(&key, "b").await, Err(Error::SnapshotHeld { .. })));
    assert!(matches!(catalog.release_snapshot(&key, "b").await, Err(Error::SnapshotHeld { .. })));
    catalog.release_snapshot(&key, "a").await.unwrap();
    catalog.remove_snapshot(&key, "").await.unwrap();
}

#[tokio::test]
async fn a_holder_removes_what_it_holds() {
    let (_directory, catalog, _) = catalog().await;
    let volatile = NewSnapshot { durability: Durability::Relaxed, ..snapshot("s", &[], None) };
    let key = catalog.prepare_snapshot(volatile).await.unwrap().key;
    catalog.acquire_snapshot(&key, "a").await.unwrap();

    catalog.remove_snapshot(&key, "a").await.unwrap();

    assert!(matches!(catalog.acquire_snapshot(&key, "a").await, Err(Error::SnapshotNotFound { .. })));
}

#[tokio::test]
async fn commit_of_a_committed_key_is_refused_and_frees_the_key_at_the_end() {
    let (_directory, catalog, lease) = catalog().await;
    for new in [snapshot("s", &[], None), of_step("t", &[], &lease)] {
        committed_is_committed(&catalog, new, &lease).await;
    }
}

async fn committed_is_committed(catalog: &Catalog, new: NewSnapshot, lease: &LeaseId) {
    let key = catalog.prepare_snapshot(new).await.unwrap().key;
    catalog.begin_commit(&key).await.unwrap();

    assert!(matches!(catalog.begin_commit(&key).await, Err(Error::SnapshotCommitted { .. })));
    assert!(matches!(catalog.acquire_snapshot(&key, "a").await, Err(Error::SnapshotCommitted { .. })));

    let layer = catalog.new_layer_id(lease).await.unwrap();
    let new = NewLayer { id: layer.clone(), lease: lease.clone(), record: None, shape: None };
    catalog.finish_commit(&key, new).await.unwrap();
    assert!(matches!(catalog.snapshot(&key).await, Err(Error::SnapshotNotFound { .. })));
    catalog.layers_usable(&[layer]).await.unwrap();
}

#[tokio::test]
async fn the_same_key_over_other_parents_is_taken() {
    let (_directory, catalog, lease) = catalog().await;
    let layer = usable(&catalog, &lease).await;
    let first = catalog.prepare_snapshot(snapshot("s", &[layer], None)).await.unwrap();

    let same = catalog.prepare_snapshot(snapshot("s", &first.layer_ids, None)).await.unwrap();
    let other = catalog.prepare_snapshot(snapshot("s", &[], None)).await;

    assert_eq!(same, first);
    assert!(matches!(other, Err(Error::SnapshotExists { .. })));
}

#[tokio::test]
async fn another_boot_drops_what_was_not_synced_and_keeps_what_was() {
    let (directory, catalog, lease) = catalog().await;
    let (unsynced, synced) = (usable(&catalog, &lease).await, usable(&catalog, &lease).await);
    let incomplete = catalog.create_layer(&lease).await.unwrap();
    catalog.mark_layers_synced(std::slice::from_ref(&synced)).await.unwrap();
    catalog.put_cache_record(record("k", "", Some(unsynced.clone()))).await.unwrap();
    let volatile = Digest::from_sha256_bytes([1; 32]);
    catalog.put_blob(&volatile, 1, &lease, Durability::Relaxed).await.unwrap();
    drop(catalog);

    let same = Catalog::open(&directory.path().join("catalog.db"), "boot-1").unwrap();
    let after_crash = same.recover().await.unwrap();
    drop(same);
    let other = Catalog::open(&directory.path().join("catalog.db"), "boot-2").unwrap();
    let after_boot = other.recover().await.unwrap();

    assert!(after_crash.layers.contains(&unsynced) && !after_crash.layers.contains(&incomplete));
    assert_eq!(after_crash.blobs, [(volatile, 1)]);
    assert_eq!((after_boot.layers.as_slice(), after_boot.blobs.len()), ([synced].as_slice(), 0));
    assert_eq!(other.cache_record(query("k", "", &lease)).await.unwrap(), CacheFound::default());
}

#[tokio::test]
async fn a_catalog_of_another_version_is_refused() {
    let (directory, catalog, _) = catalog().await;
    drop(catalog);
    let path = directory.path().join("catalog.db");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();

    let refused = Catalog::open(&path, "boot-1");

    assert!(matches!(refused, Err(Error::CatalogVersion { found: 99, .. })), "{refused:?}");
}

#[tokio::test]
async fn a_directory_number_is_never_given_twice() {
    let (_directory, catalog, _) = catalog().await;
    let first = catalog.prepare_snapshot(snapshot("s", &[], None)).await.unwrap();
    catalog.remove_snapshot(&first.key, "").await.unwrap();
    catalog.forget_snapshot(&first.key).await.unwrap();

    let second = catalog.prepare_snapshot(snapshot("s", &[], None)).await.unwrap();

    assert_ne!(first.directory, second.directory);
}

#[tokio::test]
async fn the_log_has_its_space_from_the_start_and_keeps_it() {
    use std::os::unix::fs::MetadataExt;
    let (directory, catalog, lease) = catalog().await;
    let path = directory.path().join("catalog.db-wal");
    let space = || std::fs::metadata(&path).unwrap().blocks() * 512;
    assert!(space() >= reserve::SIZE, "{}", space());

    usable(&catalog, &lease).await;
    drop(catalog);

    assert!(space() >= reserve::SIZE, "{}", space());
    Catalog::open(&directory.path().join("catalog.db"), "boot-1").unwrap().check_lease(&lease).await.unwrap();
}

#[tokio::test]
async fn a_catalog_of_version_1_keeps_its_images_and_names() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.db");
    let [config, manifest, diff_id] = [1, 2, 3].map(|byte| Digest::from_sha256_bytes([byte; 32]));
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(&format!(
        "{}; PRAGMA user_version = 1;
         INSERT INTO blobs VALUES ('default', '{config}', 11, NULL, 1), ('default', '{manifest}', 22, NULL, 1);
         INSERT INTO layers (id, project, state, diff_id, tar_size, created)
             VALUES ('layer', 'default', 'ready', '{diff_id}', 33, 1);
         INSERT INTO images VALUES ('default', '{config}', '{manifest}', 22, NULL, 5, 'linux', 'amd64', '', 1);
         INSERT INTO image_layers VALUES ('default', '{config}', 0, 'layer');
         INSERT INTO image_names VALUES ('default', 'reg:5000/a/b:1', '{config}');",
        include_str!("schema.sql")
    ))
    .unwrap();
    drop(old);

    let catalog = Catalog::open(&path, "boot-1").unwrap();

    let names = catalog.names("reg:5000/a/b", "", 10).await.unwrap();
    assert_eq!(names, [NameRow { name: "reg:5000/a/b:1".into(), target: manifest }]);
    let image = catalog.image(crate::image::Wanted::parse("reg:5000/a/b:1").unwrap(), None).await.unwrap().0;
    assert_eq!((image.id, image.manifest, image.names.len(), image.layers.len()), (config, manifest, 1, 1));
    let children: Vec<_> = catalog.document_children(&manifest).await.unwrap();
    let found: Vec<_> =
        children.iter().map(|child| (child.kind, child.descriptor.digest, child.descriptor.size)).collect();
    assert_eq!(found, [(ChildKind::Config, config, 11), (ChildKind::Layer, diff_id, 33)]);
    assert_eq!(catalog.check().await.unwrap(), Vec::<String>::new());
    drop(catalog);
    Catalog::open(&path, "boot-1").unwrap();
}

#[test]
fn a_catalog_of_a_later_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();

    let refused = Catalog::open(&path, "boot-1");

    assert!(matches!(refused, Err(Error::CatalogVersion { found: 99, .. })), "{refused:?}");
}

/// How SQLite goes about a query in a catalog of which it knows no sizes, as ours always is.
fn plan(query: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.db");
    Catalog::open(&path, "boot-1").unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
    let rows = statement
        .query_map(rusqlite::params_from_iter(["x", "x", "x"].iter().take(parameters(query))), |row| row.get(3));
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

fn parameters(query: &str) -> usize {
    (1..=3).rev().find(|number| query.contains(&format!("?{number}"))).unwrap_or(0)
}

#[test]
fn what_is_asked_for_each_of_many_objects_reads_few_rows() {
    let blobs = format!("SELECT b.digest FROM blobs b WHERE NOT {}", garbage::BLOB_IN_USE);
    let documents = format!("SELECT 1 FROM documents WHERE project = ?1 AND {}", garbage::DOCUMENT_NOT_IN_USE);
    // What is read once as a whole, and what is found already.
    let whole = ["SCAN b", "SCAN a", "SCAN l", "SCAN live", "SCAN CONSTANT ROW"];
    for query in [names::OF_IMAGE, names::IN_REPOSITORY, &blobs, &documents] {
        let plan = plan(query);

        let searches = plan.iter().filter(|line| line.starts_with("SCAN") || line.starts_with("SEARCH"));
        for line in searches {
            let is_found = line.contains("=? AND ") || line.contains("(toc=?)");
            let is_list = documents == query && line.ends_with("(project=?)");
            assert!(is_found || is_list || whole.contains(&line.as_str()), "{line} in {plan:#?}");
        }
    }
    for query in [layers::USABLE, layers::HELD] {
        let plan = plan(query);
        assert!(plan[0].starts_with("SCAN wanted") && plan[1].contains("=?"), "the list is read once: {plan:#?}");
    }
    let above = plan(names::OF_IMAGE);
    assert!(above.iter().any(|line| line.contains("document_children_by_child")), "{above:#?}");
}
