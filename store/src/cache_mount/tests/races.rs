//! What a cache is filled from, exchanged for a link that leads out of it while it is opened: 300 rounds, or as many as
//! STRATA_ROUNDS says. A round is one cache; it meets many exchanges.

#[path = "../../../../tests/src/swapper.rs"]
mod swapper;

use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use swapper::Swapper;

fn rounds() -> usize {
    std::env::var("STRATA_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300_usize)
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
    assert!(swapper.count() > rounds() as u64);
    drop(swapper);
    assert_eq!(std::fs::read_to_string(outside.join("deep/found")).unwrap(), "canary");
}
