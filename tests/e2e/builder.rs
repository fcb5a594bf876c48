//! `ctl builder du` and `ctl builder prune`.

use strata_tests::{Context, House, Steps, Went};

fn context() -> Context {
    Context::new("FROM guest\nCOPY big /big\nRUN [\"/guest\", \"write\", \"/small\", \"x\"]\n")
        .file("big", &"b".repeat(100_000))
}

#[test]
fn the_build_cache_is_listed_with_what_it_costs() {
    let house = House::with_guest();
    house.ctl(&["builder", "du"]).ok().says(&["Total:       0B"]);
    let context = context();
    house.build(&context, "app").ok();
    house.build(&context, "app").ok();

    let listed = house.ctl(&["builder", "du"]).ok();
    let records = house.ctl(&["builder", "du", "--format", "json"]).ok();
    let details = house.ctl(&["buildx", "du", "--verbose", "--filter", "description~=COPY"]).ok();

    listed.says(&["ID", "RECLAIMABLE", "LAST ACCESSED", "Shared:      100kB", "Total:       100kB"]);
    let records: Vec<serde_json::Value> =
        records.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 2, "{records:#?}");
    let copy = records.iter().find(|record| record["Description"].as_str().unwrap().starts_with("COPY")).unwrap();
    assert_eq!((&copy["SizeBytes"], &copy["Shared"], &copy["UsageCount"]), (&100_000.into(), &true.into(), &1.into()));
    details.says(&["Usage count:  1", "Description:  COPY big /big", "Type:         regular"]);
    house.ctl(&["builder", "du", "--filter", "colour=red"]).code(125).complains(&["colour=red"]);
}

#[test]
fn a_prune_takes_what_no_image_shares_and_with_all_the_rest() {
    let house = House::with_guest();
    let context = context();
    house.build(&context, "app").ok();

    house.ctl(&["builder", "prune", "-f"]).ok().says(&["Total:\t0B"]);
    Steps::of(&house.build(&context, "app").ok()).all_cached();
    house.ctl(&["rmi", "app"]).ok();
    house.ctl(&["builder", "prune", "-f", "--filter", "until=24h"]).ok().says(&["Total:\t0B"]);
    house.ctl_with(&["builder", "prune"], b"n\n").ok().says(&["Are you sure"]);
    let pruned = house.ctl(&["buildx", "prune", "-f", "--verbose"]).ok();
    let steps = Steps::of(&house.build(&context, "app").ok());
    house.ctl(&["builder", "prune", "-af"]).ok();
    let again = Steps::of(&house.build(&context, "app").ok());

    let pruned = pruned.says(&["Description:  COPY big /big"]);
    assert!(!pruned.stdout.contains("Total:\t0B"), "{pruned:?}");
    assert_eq!((steps.went("COPY big"), again.went("COPY big")), (Went::Done, Went::Done));
    house.verify();
}

#[test]
fn policies_of_the_configuration_prune_behind() {
    let house = House::start();
    let policy = "[[build_cache.policies]]\nall = true\nmax_used_space = 1\n";
    std::fs::create_dir_all(house.root().join("etc")).unwrap();
    std::fs::write(house.root().join("etc/store.toml"), format!("garbage_delay_seconds = 0\n{policy}")).unwrap();
    house.import_guest();

    house.build(&context(), "app").ok();
    house.ctl(&["rmi", "app"]).ok();

    strata_tests::eventually("the large record is gone", std::time::Duration::from_secs(30), || {
        !house.ctl(&["builder", "du", "--format", "json"]).ok().stdout.contains("COPY big")
    });
}
