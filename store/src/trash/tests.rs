//! Claims about what is unlinked when: by counts, never by the clock.

use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use super::*;
use crate::{disk, fixture};

/// A directory for a trash, with a tree of `files` files in it.
fn filled(files: usize) -> (tempfile::TempDir, Trash) {
    let root = tempfile::tempdir_in("/var/tmp").unwrap();
    let (directory, tree) = (root.path().join("trash"), root.path().join("tree"));
    fs::create_dir(&directory).unwrap();
    for number in 0..files {
        let parent = tree.join(format!("{}/{}", number % 7, number % 3));
        fs::create_dir_all(&parent).unwrap();
        fs::write(parent.join(number.to_string()), "x").unwrap();
    }
    let trash = Trash::new(directory);
    assert_eq!((trash.discard(&tree).unwrap(), trash.discard(&tree).unwrap()), (true, false));
    assert!(!disk::exists(&tree));
    (root, trash)
}

/// Names in the trash, directories included.
fn count(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| 1 + if entry.file_type().unwrap().is_dir() { count(&entry.path()) } else { 0 }).sum()
}

#[tokio::test]
async fn a_sweep_rests_after_every_batch_of_names() {
    let (_root, trash) = filled(1000);
    let names = count(&trash.inner.directory);
    let rests = Arc::new(Mutex::new(Vec::new()));

    let (directory, seen) = (trash.inner.directory.clone(), rests.clone());
    let swept = trash.sweep(move |_| {
        seen.lock().unwrap().push(count(&directory));
        ControlFlow::Continue(())
    });

    assert_eq!(swept.await.unwrap(), Swept::All);
    let left: Vec<usize> = (1..=names / BATCH).map(|batches| names - batches * BATCH).collect();
    assert_eq!(*rests.lock().unwrap(), left);
}

#[tokio::test]
async fn a_sweep_that_is_stopped_leaves_the_rest_for_the_next() {
    let (_root, trash) = filled(1000);
    let names = count(&trash.inner.directory);

    let stopped = trash.sweep(|_| ControlFlow::Break(())).await.unwrap();

    assert_eq!((stopped, count(&trash.inner.directory)), (Swept::Part, names - BATCH));
    assert_eq!(trash.empty().await.unwrap(), Swept::All);
    assert_eq!(count(&trash.inner.directory), 0);
}

#[tokio::test]
async fn what_a_link_in_the_trash_points_at_stays() {
    let (root, trash) = filled(1);
    let kept = root.path().join("kept");
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("file"), "x").unwrap();
    let tree = root.path().join("tree");
    fs::create_dir(&tree).unwrap();
    std::os::unix::fs::symlink(&kept, tree.join("link")).unwrap();
    trash.discard(&tree).unwrap();

    trash.empty().await.unwrap();

    assert_eq!((count(&trash.inner.directory), fs::read_to_string(kept.join("file")).unwrap()), (0, "x".to_owned()));
}

#[tokio::test]
async fn a_tree_deeper_than_any_path_goes_with_few_descriptors() {
    let (root, trash) = filled(1);
    let tree = root.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let mut deepest = open(CWD, &tree).unwrap();
    for _ in 0..3000 {
        rustix::fs::mkdirat(&deepest, "directory", Mode::RWXU).unwrap();
        deepest = open(deepest.as_fd(), "directory").unwrap();
    }
    drop(deepest);
    trash.discard(&tree).unwrap();

    assert_eq!(trash.empty().await.unwrap(), Swept::All);

    assert_eq!(count(&trash.inner.directory), 0);
}

#[tokio::test]
async fn what_cannot_be_unlinked_is_told_and_keeps_nothing_else() {
    let (root, trash) = filled(300);
    let tree = root.path().join("tree");
    fs::create_dir_all(tree.join("a/b/c")).unwrap();
    fs::set_permissions(tree.join("a"), fs::Permissions::from_mode(0o700)).unwrap();
    let stuck = fs::File::create(tree.join("a/b/c/stuck")).unwrap();
    let flags = rustix::fs::ioctl_getflags(&stuck).unwrap();
    if rustix::fs::ioctl_setflags(&stuck, flags | rustix::fs::IFlags::IMMUTABLE).is_err() {
        eprintln!("skipped: nothing can be made immutable here");
        return;
    }
    trash.discard(&tree).unwrap();

    let refused = trash.empty().await;
    rustix::fs::ioctl_setflags(&stuck, flags).unwrap();

    assert!(refused.is_err());
    assert_eq!(count(&trash.inner.directory), 5, "the file and the directories above it");
    assert_eq!(trash.empty().await.unwrap(), Swept::All);
}

#[tokio::test]
async fn nobody_rests_while_somebody_waits_for_the_room() {
    let (_root, trash) = filled(1);
    let rest = trash.rest(Duration::from_secs(1));
    // A test runs on any disk: a full one never rests.
    assert_eq!(rest, if trash.has_little_room() { Duration::ZERO } else { LONGEST_REST });

    trash.inner.waiting.fetch_add(1, Ordering::Relaxed);

    assert_eq!(trash.rest(Duration::from_secs(1)), Duration::ZERO);
}

#[tokio::test]
async fn a_start_takes_up_what_the_last_process_left() {
    let (_root, store) = fixture::store().await;
    let tree = store.paths.ingest().join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    store.trash.discard(&tree).unwrap();
    let (root, trash) = (store.paths.root().to_path_buf(), store.paths.trash());
    drop(store);
    assert_eq!(disk::names(&trash).unwrap().len(), 1);

    let store = fixture::open_in(&root, "boot-1").await.unwrap();
    let running = tokio::spawn(run(store.clone(), store.drain.clone()));
    while !disk::names(&trash).unwrap().is_empty() {
        tokio::task::yield_now().await;
    }

    let tree = store.paths.ingest().join("later");
    fs::create_dir_all(&tree).unwrap();
    store.trash.discard(&tree).unwrap();
    while !disk::names(&trash).unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    store.drain.start();
    running.await.unwrap();
}
