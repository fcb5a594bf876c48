mod races;

use std::time::Duration;

use super::*;
use crate::fixture;

fn wanted(id: &str, sharing: Sharing) -> Wanted {
    Wanted { id: id.to_owned(), sharing, seed: Seed::default() }
}

async fn reopened(root: &std::path::Path) -> Arc<Store> {
    loop {
        match fixture::open_in(&root.join("store"), "boot-1").await {
            Err(Error::RootLocked { .. }) => tokio::task::yield_now().await,
            opened => return opened.unwrap(),
        }
    }
}

async fn waits(store: &Arc<Store>, wanted: &Wanted) -> bool {
    tokio::time::timeout(Duration::from_millis(200), hold(store, wanted)).await.is_err()
}

#[tokio::test]
async fn those_who_share_have_the_same_one_and_the_others_their_own() {
    let (_root, store) = fixture::store().await;
    let store = &store;

    let first = hold(store, &wanted("a", Sharing::Shared)).await.unwrap();
    let second = hold(store, &wanted("a", Sharing::Shared)).await.unwrap();
    let private = hold(store, &wanted("a", Sharing::Private)).await.unwrap();
    let other = hold(store, &wanted("b", Sharing::Shared)).await.unwrap();

    assert_eq!(first.path(), second.path());
    assert_ne!(first.path(), private.path());
    assert_ne!(first.path(), other.path());
    // One that is locked waits for all that there are.
    assert!(waits(store, &wanted("a", Sharing::Locked)).await);
    let freed = private.path();
    drop(private);
    assert_eq!(hold(store, &wanted("a", Sharing::Locked)).await.unwrap().path(), freed);
}

#[tokio::test]
async fn a_locked_one_goes_from_hand_to_hand() {
    let (_root, store) = fixture::store().await;
    let (store, want) = (&store, wanted("a", Sharing::Locked));
    let first = hold(store, &want).await.unwrap();
    std::fs::write(first.path().join("kept"), "x").unwrap();
    assert!(waits(store, &want).await);

    let next = tokio::spawn({
        let (store, want) = (Arc::clone(store), want.clone());
        async move { hold(&store, &want).await }
    });
    tokio::task::yield_now().await;
    drop(first);

    let next = next.await.unwrap().unwrap();
    assert!(next.path().join("kept").exists());
    // Who waited and went away leaves it free.
    assert!(waits(store, &want).await);
    drop(next);
    hold(store, &want).await.unwrap();
}

#[tokio::test]
async fn its_root_is_as_it_is_wanted_and_it_survives_a_restart() {
    let (root, store) = fixture::store().await;
    let seed = Seed { base: "0".repeat(64), mode: Some(0o1700), owner: Some((5, 6)), ..Seed::default() };
    let wanted = Wanted { seed, ..wanted("a", Sharing::Shared) };
    let path = hold(&store, &wanted).await.unwrap().path();
    std::fs::write(path.join("kept"), "x").unwrap();

    // The use is written down behind, and keeps the store open until then.
    while store.catalog.mounts_of("a", &"0".repeat(64)).await.unwrap()[0].uses == 0 {
        tokio::task::yield_now().await;
    }
    drop(store);

    let store = reopened(root.path()).await;

    let again = hold(&store, &wanted).await.unwrap();
    assert_eq!(again.path(), path);
    assert!(path.join("kept").exists());
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(&path).unwrap();
    assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o1700, 5, 6));
}

/// Row 110 (CVE-2024-9675): an id is a name, never a path.
#[tokio::test]
async fn row_110_ids_cannot_leave_their_root() {
    let (_root, store) = fixture::store().await;
    let root = store.paths.cache_mounts();
    for id in ["..", "/", "/etc", "a/../../b", "../../../../../../../tmp/x", "a\nb", &"x".repeat(4096)] {
        let held = hold(&store, &wanted(id, Sharing::Shared)).await.unwrap();
        let below = held.path().strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let number = below.strip_suffix("/data").unwrap();
        assert!(number.bytes().all(|byte| byte.is_ascii_digit()), "{id:?} is at {below}");
    }
    for id in ["", "a\0b", &"x".repeat(4097)] {
        let refused = hold(&store, &wanted(id, Sharing::Shared)).await.unwrap_err();
        assert!(matches!(refused, Error::Invalid { field: "id", .. }), "{refused}");
    }
}

#[tokio::test]
async fn one_that_cannot_be_filled_leaves_nothing() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "filler").await;
    let layer = fixture::layer(&store, &lease, "content").await;
    let seed =
        |path: &str| Seed { base: "0".repeat(64), layers: vec![layer.clone()], path: path.into(), ..Seed::default() };

    for path in ["/file", "/absent"] {
        let wanted = Wanted { seed: seed(path), ..wanted("a", Sharing::Shared) };
        let refused = hold(&store, &wanted).await.unwrap_err();
        assert!(matches!(refused, Error::Invalid { field: "seed.path", .. }), "{refused}");
    }
    assert!(store.catalog.mounts("", 10).await.unwrap().is_empty());
    assert_eq!(std::fs::read_dir(store.paths.cache_mounts()).unwrap().count(), 0);
    let filled = hold(&store, &Wanted { seed: seed("/"), ..wanted("a", Sharing::Shared) }).await.unwrap();
    std::fs::write(filled.path().join("file"), "mine").unwrap();
    let below = store.paths.layer(&layer).join("file");
    assert_eq!(std::fs::read_to_string(below).unwrap(), "content", "the layer is its own");
}

#[tokio::test]
async fn one_in_use_stays_and_one_that_is_free_goes_with_its_directory() {
    let (_root, store) = fixture::store().await;
    let store = &store;
    let held = hold(store, &wanted("a", Sharing::Shared)).await.unwrap();
    let (row, path) = (held.row().clone(), held.path());

    assert!(!remove(store, &row).await.unwrap());
    assert!(path.exists());
    drop(held);
    assert!(remove(store, &row).await.unwrap());

    assert!(!path.exists());
    assert!(store.catalog.mounts_of("a", "").await.unwrap().is_empty());
}

#[tokio::test]
async fn an_archive_of_one_makes_another() {
    let (_root, store) = fixture::store().await;
    let store = &store;
    let held = hold(store, &wanted("a", Sharing::Shared)).await.unwrap();
    std::fs::create_dir(held.path().join("d")).unwrap();
    std::fs::write(held.path().join("d/f"), "content").unwrap();
    std::fs::write(held.path().join(".wh.x"), "a name like any other").unwrap();
    let mut tar = Vec::new();
    export(store, held.row(), &mut tar).unwrap();

    let row = import(store, "b", std::io::Cursor::new(tar.clone())).await.unwrap();

    let made = store.paths.cache_mount(row.directory).join("data");
    assert_eq!(std::fs::read_to_string(made.join("d/f")).unwrap(), "content");
    assert!(made.join(".wh.x").exists());
    let refused = import(store, "a", std::io::Cursor::new(tar)).await.unwrap_err();
    assert!(matches!(refused, Error::CacheMountInUse { .. }), "{refused}");
    let broken = import(store, "b", std::io::Cursor::new(vec![b'x'; 2000])).await.unwrap_err();
    assert!(matches!(broken, Error::Archive { .. }), "{broken}");
    assert_eq!(std::fs::read_to_string(made.join("d/f")).unwrap(), "content", "what was there stays");
    assert_eq!(store.catalog.mounts_of("b", "").await.unwrap().len(), 1);
}
