//! What is mounted of another tree, exchanged for a link that leads out of it while it is opened: 250 rounds, or as many as
//! STRATA_ROUNDS says. A round is one mount; each container makes many.

#[path = "../../../../tests/src/swapper.rs"]
mod swapper;

use crate::harness::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use strata_init::plan::*;
use swapper::Swapper;

const ROUNDS_EACH: usize = 25;

fn containers() -> usize {
    let rounds = std::env::var("STRATA_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(250_usize);
    rounds.div_ceil(ROUNDS_EACH)
}

fn write(path: PathBuf, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Rows 108 and 111 (CVE-2024-1753, CVE-2024-11218): the source of a mount is looked up once, inside its tree.
#[test]
fn row_108_row_111_a_source_that_is_exchanged_for_a_link_while_it_is_mounted_stays_inside() {
    let bench = Bench::new();
    let outside = bench.path("outside");
    write(outside.join("deep/found"), "canary\n");
    write(bench.path("other/sub/deep/found"), "name\n");
    // What the link says, in a tree that is the root: where it may lead.
    write(bench.path("other").join(outside.strip_prefix("/").unwrap()).join("deep/found"), "link\n");
    symlink(&outside, bench.path("other/link")).unwrap();
    let mut plan = bench.shell("cat /m*/found");
    for number in 0..ROUNDS_EACH {
        let [upper, work] = ["upper", "work"].map(|name| bench.path(&format!("{name}-{number}")));
        [&upper, &work].into_iter().for_each(|path| fs::create_dir(path).unwrap());
        let tree = Root::Overlay { lowers: vec![bench.path("other")], upper, work, options: vec![] };
        let target = format!("/m{number}").into();
        plan.steps.push(Step::Overlay { tree, path: "/sub/deep".into(), target, attributes: attribute::RDONLY });
    }
    let swapper = Swapper::new(bench.path("other/sub"), bench.path("other/link"));
    let mut seen = [0; 2];

    for _ in 0..containers() {
        let _ = fs::remove_file(bench.path("log"));
        let (code, text) = bench.run(&plan);

        // It may fail; what it may not is reach what is outside.
        assert!(!text.contains("canary"), "{code} {text}");
        for (count, word) in seen.iter_mut().zip(["name\n", "link\n"]) {
            *count += text.matches(word).count();
        }
    }

    assert!(seen.iter().all(|count| *count > 0), "both were met: {seen:?}");
    assert!(swapper.count() > containers() as u64);
    drop(swapper);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(bench.directory.path().to_str().unwrap()), "{mounts}");
}
