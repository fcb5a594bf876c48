//! The roles that are one call of the kernel: their exit status is the error number.

use std::fs;
use std::path::Path;
use std::process::Command;

fn role(words: &[&str]) -> Option<i32> {
    Command::new(env!("CARGO_BIN_EXE_strata-init")).args(words).status().expect("it can be executed").code()
}

fn is_mounted(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    table.lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

#[test]
fn a_file_system_is_mounted_and_unmounted_and_a_refusal_has_its_number() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let place = directory.path().to_str().expect("an ASCII path");

    assert_eq!(role(&["mount", "nosuchfs", "x", place, "0", ""]), Some(libc::ENODEV));
    assert_eq!(role(&["mount", "tmpfs", "x", place, "0", "colour=red"]), Some(libc::EINVAL));
    assert_eq!(role(&["mount", "tmpfs", "x", place, "0"]), Some(125), "a word is missing");
    assert_eq!(role(&["unmount", place, "0"]), Some(libc::EINVAL), "nothing is mounted");
    assert!(!is_mounted(directory.path()));

    assert_eq!(role(&["mount", "tmpfs", "x", place, "0", "size=1m"]), Some(0));
    assert!(is_mounted(directory.path()));
    assert_eq!(role(&["unmount", place, "0"]), Some(0));
    assert!(!is_mounted(directory.path()));
}
