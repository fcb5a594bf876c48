//! The life of a snapshot, with the mounts made detached and gone with the test.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::layer::tests::Bench;
use crate::tree::View;

fn key(text: &str) -> SnapshotKey {
    SnapshotKey::parse(text).unwrap()
}

/// Acquires a snapshot, lets `work` change its mounted root, and releases it.
async fn run(bench: &Bench, name: &str, work: impl FnOnce(&Path)) {
    let (_, mount) = acquire(&bench.store, &key(name), "test", Writing::of(Keep::Volatile)).await.unwrap();
    let view = View::open_writable(&mount.lowers, &mount.upper, &mount.work).unwrap();
    let root = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&view.root())));
    work(&root);
    drop(view);
    release(&bench.store, &key(name), "test").await.unwrap();
}

async fn prepared(bench: &Bench, name: &str, layers: &[LayerId]) -> SnapshotRow {
    prepare(&bench.store, key(name), layers.to_vec(), None, Some(bench.lease.clone()), Writing::of(Keep::Volatile))
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_step_writes_is_a_layer_over_its_parents() {
    let bench = Bench::new().await;
    let base = bench.base_layer().await;
    prepared(&bench, "step", std::slice::from_ref(&base)).await;

    run(&bench, "step", |root| {
        fs::write(root.join("lib/new"), "new").unwrap();
        fs::remove_file(root.join("usr/lib/old")).unwrap();
    })
    .await;
    let layer = commit(&bench.store, &key("step"), &bench.lease, Vec::new(), None).await.unwrap();
    let described = layer::describe(&bench.store, &layer.id).await.unwrap();

    assert!(described.diff_id.is_some());
    let view = layer::view(&bench.store, &[base, layer.id]).await.unwrap();
    let (file, size) = crate::tree::open_file(&view, Path::new("/usr/lib/new"), 10).unwrap();
    assert_eq!((io::read_to_string(file).unwrap().as_str(), size), ("new", 3));
    assert!(crate::tree::open_file(&view, Path::new("/usr/lib/old"), 10).is_err());
    assert!(matches!(bench.store.catalog.snapshot(&key("step")).await, Err(Error::SnapshotNotFound { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn preparing_again_is_the_same_and_with_other_parents_refused() {
    let bench = Bench::new().await;
    let base = bench.base_layer().await;

    let one = prepared(&bench, "a", std::slice::from_ref(&base)).await;
    let two = prepared(&bench, "a", std::slice::from_ref(&base)).await;
    let other =
        prepare(&bench.store, key("a"), Vec::new(), None, Some(bench.lease.clone()), Writing::of(Keep::Volatile)).await;

    assert_eq!(one, two);
    assert!(matches!(other, Err(Error::SnapshotExists { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_snapshot_is_neither_committed_nor_removed_nor_taken_by_another() {
    let bench = Bench::new().await;
    prepared(&bench, "a", &[]).await;
    let (_, first) = acquire(&bench.store, &key("a"), "one", Writing::of(Keep::Durable)).await.unwrap();
    let (_, again) = acquire(&bench.store, &key("a"), "one", Writing::of(Keep::Durable)).await.unwrap();

    assert_ne!(first.work, again.work);
    assert!(again.work.is_dir() && !first.work.exists());
    let committed = commit(&bench.store, &key("a"), &bench.lease, Vec::new(), None).await;
    assert!(matches!(committed, Err(Error::SnapshotHeld { .. })), "{committed:?}");
    assert!(matches!(remove(&bench.store, &key("a"), "").await, Err(Error::SnapshotHeld { .. })));
    let other = acquire(&bench.store, &key("a"), "two", Writing::of(Keep::Durable)).await;
    assert!(matches!(other, Err(Error::SnapshotHeld { .. })));
    assert!(matches!(release(&bench.store, &key("a"), "two").await, Err(Error::SnapshotHeld { .. })));
    release(&bench.store, &key("a"), "one").await.unwrap();
    assert!(remove(&bench.store, &key("a"), "").await.unwrap());
    assert!(!remove(&bench.store, &key("a"), "").await.unwrap());
    assert!(!again.upper.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writable_root_is_like_the_root_below() {
    let bench = Bench::new().await;
    let base = bench.base_layer().await;
    let root = bench.store.paths.layer(&base);
    fs::set_permissions(&root, fs::Permissions::from_mode(0o711)).unwrap();
    prepared(&bench, "a", &[base]).await;

    let (_, mount) = acquire(&bench.store, &key("a"), "one", Writing::of(Keep::Durable)).await.unwrap();

    assert_eq!(fs::metadata(&mount.upper).unwrap().mode() & 0o7777, 0o711);
    assert_eq!(mount.options, ["index=off", "redirect_dir=nofollow", "metacopy=off"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mount_stubs_are_not_part_of_the_layer() {
    let bench = Bench::new().await;
    let base = bench.base_layer().await;
    prepared(&bench, "a", &[base]).await;
    let mut stubs = Vec::new();

    run(&bench, "a", |root| {
        fs::create_dir(root.join("proc")).unwrap();
        fs::write(root.join("usr/lib/resolv.conf"), "").unwrap();
        for path in ["proc", "usr/lib/resolv.conf"] {
            stubs.push(Stub { path: Path::new("/").join(path), inode: fs::metadata(root.join(path)).unwrap().ino() });
        }
        fs::write(root.join("kept"), "").unwrap();
    })
    .await;
    let layer = commit(&bench.store, &key("a"), &bench.lease, stubs, None).await.unwrap();

    let names: Vec<_> = fs::read_dir(bench.store.paths.layer(&layer.id)).unwrap().flatten().collect();
    assert_eq!(names.iter().map(|entry| entry.file_name()).collect::<Vec<_>>(), ["kept"]);
}

fn exported(export: &Export) -> Vec<String> {
    let mut bytes = Vec::new();
    export.write(&mut bytes).unwrap();
    let root = tempfile::tempdir_in("/var/tmp").unwrap();
    let target = fs::File::open(root.path()).unwrap();
    strata_archive::apply(
        bytes.as_slice(),
        std::os::fd::AsFd::as_fd(&target),
        &strata_archive::ApplyOptions::default(),
    )
    .unwrap();
    let mut names: Vec<_> = walk(root.path()).into_iter().map(|path| path.display().to_string()).collect();
    names.sort();
    names
}

fn walk(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            }
            found.push(entry.path().strip_prefix(root).unwrap().to_path_buf());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_shows_what_is_there_and_not_what_was_removed() {
    let bench = Bench::new().await;
    let base = bench.base_layer().await;
    prepared(&bench, "box", std::slice::from_ref(&base)).await;
    let before = exported(&export(&bench.store, &key("box"), None).await.unwrap());
    let (_, mount) = acquire(&bench.store, &key("box"), "test", Writing::of(Keep::Volatile)).await.unwrap();
    let view = View::open_writable(&mount.lowers, &mount.upper, &mount.work).unwrap();
    let root = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&view.root())));
    fs::write(root.join("usr/lib/new"), "new").unwrap();
    fs::remove_file(root.join("usr/lib/old")).unwrap();

    let mounted = exported(&export(&bench.store, &key("box"), None).await.unwrap());

    assert!(before.contains(&"usr/lib/old".to_owned()) && !before.contains(&"usr/lib/new".to_owned()), "{before:?}");
    assert!(!mounted.contains(&"usr/lib/old".to_owned()) && mounted.contains(&"usr/lib/new".to_owned()), "{mounted:?}");
    drop(view);
    release(&bench.store, &key("box"), "test").await.unwrap();
    assert_eq!(exported(&export(&bench.store, &key("box"), None).await.unwrap()), mounted);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_what_was_removed_meanwhile_fails_at_its_end() {
    let bench = Bench::new().await;
    prepared(&bench, "box", &[]).await;
    let kept = export(&bench.store, &key("box"), None).await.unwrap();
    kept.write(io::sink()).unwrap();
    kept.end().await.unwrap();
    let lost = export(&bench.store, &key("box"), None).await.unwrap();
    assert!(remove(&bench.store, &key("box"), "").await.unwrap());

    lost.write(io::sink()).unwrap();

    assert!(matches!(lost.end().await, Err(Error::SnapshotNotFound { .. })));
    assert!(matches!(export(&bench.store, &key("box"), None).await, Err(Error::SnapshotNotFound { .. })));
}
