//! Directories of a cache that a parallel stage exchanges for a link all the time, while steps mount below them.
//! A round is one mount; there are 100, or a tenth of what STRATA_ROUNDS says. Sources that are exchanged while they are
//! opened are raced where that is done: `store/src/cache_mount/tests/races.rs`, `runtime/init/tests/container/races.rs`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use strata_tests::{Context, House};

use super::mounts::run;

/// Mounts of one step; there are four for each.
const EACH: usize = 6;

fn builds() -> usize {
    let rounds = std::env::var("STRATA_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1000_usize);
    rounds.div_ceil(10).div_ceil(EACH * 4)
}

/// Names, kinds, times and owners of all that is below a directory.
fn manifest(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        found.push(format!("{} {:o} {}:{} {times:?}", entry.path().display(), meta.mode(), meta.uid(), meta.gid()));
        if meta.is_dir() {
            found.extend(manifest(&entry.path()));
        }
    }
    found.sort();
    found
}

/// A step with mounts of every kind below a directory of the cache that is exchanged.
fn racing(round: usize) -> String {
    let mut flags = format!("--mount=type=cache,target=/c,id=race-{round}");
    for number in 0..EACH {
        flags += &format!(
            " --mount=from=base,source=/data/sub,target=/c/sub/bind-{number} \
             --mount=type=cache,id=seed-{round}-{number},from=base,source=/data/sub,target=/c/sub/cache-{number} \
             --mount=type=secret,id=s,target=/c/sub/secret-{number} \
             --mount=type=tmpfs,target=/c/sub/tmpfs-{number}"
        );
    }
    run(&flags, "mounts + ls /c/sub")
}

/// Row 103 (CVE-2024-23651), row 111 (CVE-2024-11218).
#[test]
fn row_103_row_111_a_cache_that_a_parallel_stage_exchanges_for_a_link_leads_nowhere() {
    let house = House::with_guest();
    let sentinel = house.path("sentinel");
    fs::create_dir_all(sentinel.join("deep")).unwrap();
    fs::write(sentinel.join("canary-103"), "canary-103").unwrap();
    fs::write(house.path("secret"), "x").unwrap();
    let (place, before) = (sentinel.display(), manifest(&sentinel));
    let secret = format!("id=s,src={}", house.path("secret").display());
    let mut made = 0;

    for round in 0..builds() {
        let cache = format!("--mount=type=cache,target=/c,id=race-{round}");
        let exchange = format!(
            "mkdir /c/sub + link {place} /c/out + write /c/ready x + exchange /c/sub /c/out /c/end + write /swapped x"
        );
        let text = format!(
            "FROM guest AS base\nCOPY there /data/sub/there\nFROM guest AS racer\n{}FROM guest\n{}{}{}COPY --from=racer /swapped /\n",
            run(&cache, &exchange),
            run(&cache, "await /c/ready"),
            racing(round),
            run(&cache, "write /c/end x"),
        );
        let context = Context::new(&text).file("there", "of the stage");
        let words = ["build", "--progress", "plain", "--secret", &secret, "-t", "app", context.arg()];

        let output = house.ctl(&words);

        // It may fail; what it may not is reach what is outside.
        assert!(!output.both().contains("canary-103"), "{output:?}");
        assert_eq!(manifest(&sentinel), before, "{output:?}");
        made += usize::from(output.code == 0);
    }

    assert!(made > 0, "at least one step had its mounts");
}
