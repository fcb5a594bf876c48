//! Tests of other folders, run again with images as layers.

use std::process::Command;

/// Runs the tests whose names begin with one of `modules`; all must pass, and of each module there must be some.
#[track_caller]
fn passes(source: &str, modules: &[&str]) {
    let filters = modules.iter().map(|module| format!("{module}::"));
    let output = Command::new(strata_tests::test_binary(source))
        .args(filters)
        .arg("--color=never")
        .env("STRATA_TEST_LAYERS", "erofs")
        .env("STRATA_TARGET", strata_tests::target())
        .output()
        .expect("a test binary runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);

    assert!(output.status.success(), "{text}");
    for module in modules {
        assert!(text.contains(&format!("test {module}::")), "no test of {module} ran:\n{text}");
    }
}

#[test]
fn the_contracts_about_layers_hold_over_images() {
    let modules = ["archives", "builds", "containers", "contents", "entries", "images", "registries", "snapshots", "trees"];
    passes("tests/contract/main.rs", &modules);
}

#[test]
fn commands_do_over_images_what_they_do_over_directories() {
    passes("tests/e2e/main.rs", &["archives", "build", "crashes", "formats", "images", "registries", "run"]);
}
