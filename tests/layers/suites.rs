//! Tests of other folders, run again with images as layers.

use std::process::Command;

/// Runs the tests whose names begin with one of `filters`; all must pass, and for each filter there must be some.
#[track_caller]
fn passes(source: &str, filters: &[&str]) {
    let output = Command::new(strata_tests::test_binary(source))
        .args(filters)
        .arg("--color=never")
        .env("STRATA_TEST_LAYERS", "erofs")
        .env("STRATA_TARGET", strata_tests::target())
        .output()
        .expect("a test binary runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);

    assert!(output.status.success(), "{text}");
    for filter in filters {
        assert!(text.contains(&format!("test {filter}")), "no test of {filter} ran:\n{text}");
    }
}

#[test]
fn the_contracts_about_layers_hold_over_images() {
    let modules = [
        "archives::",
        "builds::",
        "containers::",
        "contents::",
        "entries::",
        "images::",
        "registries::",
        "snapshots::",
        "trees::",
    ];
    passes("tests/contract/main.rs", &modules);
}

#[test]
fn commands_do_over_images_what_they_do_over_directories() {
    let filters =
        ["archives::", "build::", "crashes::a_store_that_dies", "formats::", "images::", "registries::", "run::"];
    passes("tests/e2e/main.rs", &filters);
}
