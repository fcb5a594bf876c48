//! What a cache is filled from, exchanged for a link that leads out of it while it is opened: 300 rounds, or as many as
//! STRATA_ROUNDS says. A round is one cache; it meets many exchanges.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;

fn rounds() -> usize {
    std::env::var("STRATA_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300_usize)
}

/// A thread that exchanges two names until this is dropped.
struct Swapper {
    is_over: Arc<AtomicBool>,
    swaps: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Swapper {
    fn new(one: PathBuf, other: PathBuf) -> Self {
        let (is_over, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ends, counted) = (Arc::clone(&is_over), Arc::clone(&swaps));
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                std::thread::yield_now();
            }
        });
        Self { is_over, swaps, thread: Some(thread) }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn write(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// Row 103 (CVE-2024-23651), row 111 (CVE-2024-11218): a source is looked up once, inside its tree.
#[tokio::test]
async fn row_103_row_111_a_source_that_is_exchanged_for_a_link_while_it_is_opened_stays_inside() {
    let (root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "racer").await;
    let layer = fixture::layer(&store, &lease, "content").await;
    let (outside, tree) = (root.path().join("outside"), store.paths.layer(&layer));
    write(&outside.join("deep/found"), "canary");
    write(&tree.join("sub/deep/found"), "by its name");
    // What the link says, in a tree that is the root: where it may lead.
    write(&tree.join(outside.strip_prefix("/").unwrap()).join("deep/found"), "by the link");
    symlink(&outside, tree.join("link")).unwrap();
    let swapper = Swapper::new(tree.join("sub"), tree.join("link"));
    let seed = Seed { base: "0".repeat(64), layers: vec![layer], path: "/sub/deep".into(), ..Seed::default() };
    let mut filled = [0; 2];

    for round in 0..rounds() {
        let wanted = Wanted { seed: seed.clone(), ..wanted(&round.to_string(), Sharing::Shared) };
        // It may fail; what it may not is reach what is outside.
        let Ok(held) = hold(&store, &wanted).await else { continue };
        match std::fs::read_to_string(held.path().join("found")).unwrap().as_str() {
            "by its name" => filled[0] += 1,
            "by the link" => filled[1] += 1,
            other => panic!("{other:?} was found in round {round}"),
        }
    }

    assert!(filled.iter().all(|count| *count > 0), "both were met: {filled:?}");
    assert!(swapper.swaps.load(Ordering::Relaxed) > rounds());
    drop(swapper);
    assert_eq!(std::fs::read_to_string(outside.join("deep/found")).unwrap(), "canary");
}
