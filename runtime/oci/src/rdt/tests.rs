//! Against a tree of ordinary directories: the kernel's would fill a new group with files by itself.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

fn tree() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    group(root.path(), "L3:0=fff;1=fff\nMB:0=100;1=100\n");
    root
}

fn group(path: &Path, schemata: &str) {
    fs::create_dir_all(path.join("mon_groups")).unwrap();
    fs::write(path.join("schemata"), schemata).unwrap();
    fs::write(path.join("tasks"), "").unwrap();
}

fn make(root: &TempDir, spec: Value) -> Result<Groups, Error> {
    Groups::make_below(root.path(), &serde_json::from_value(spec).unwrap(), "c1")
}

/// Spec: config-linux.md, IntelRdt: an existing class is joined, and stays when the container goes
#[test]
fn a_class_that_exists_is_joined_compared_and_kept() {
    let root = tree();
    group(&root.path().join("gold"), "    L3:0=00f;1=0f0\n    MB:0= 20;1= 70\n");

    let plain = make(&root, json!({"closID": "gold"})).unwrap();
    let same =
        make(&root, json!({"closID": "gold", "l3CacheSchema": "L3:0=f;1=f0", "memBwSchema": "MB:1=70"})).unwrap();
    let other = make(&root, json!({"closID": "gold", "schemata": ["L3:0=1"]})).unwrap_err().to_string();

    assert_eq!(plain, same);
    assert_eq!(same.tasks(), [root.path().join("gold/tasks")]);
    assert!(other.starts_with("linux.intelRdt.closID: ") && other.contains("L3:0=1"), "{other}");
    same.remove().unwrap();
    assert!(root.path().join("gold").is_dir());
}

/// Spec: config-linux.md, IntelRdt: without closID the class has the container's name and goes with it
#[test]
fn a_class_of_the_containers_own_is_made_and_removed() {
    let root = tree();

    let groups = make(&root, json!({})).unwrap();

    assert_eq!(groups.tasks(), [root.path().join("c1/tasks")]);
    assert!(root.path().join("c1").is_dir());
    groups.remove().unwrap();
    groups.remove().unwrap();
    assert!(!root.path().join("c1").exists());
}

/// Spec: config-linux.md, IntelRdt: schemata are written in order, l3CacheSchema, memBwSchema, schemata
#[test]
fn schemata_are_written_line_by_line_in_order() {
    let root = tree();

    make(
        &root,
        json!({"closID": "/", "schemata": ["L2:0=f", "MB:0=10"], "memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=7"}),
    )
    .unwrap();

    let text = fs::read_to_string(root.path().join("schemata")).unwrap();
    assert!(text.ends_with("L3:0=7\nMB:0=20\nL2:0=f\nMB:0=10\n"), "{text}");
}

#[test]
fn a_class_that_cannot_be_filled_is_removed_again() {
    let root = tree();

    let error = make(&root, json!({"schemata": ["L3:0=7"]})).unwrap_err().to_string();

    assert!(error.starts_with("linux.intelRdt.schemata: cannot write "), "{error}");
    assert!(!root.path().join("c1").exists());
}

/// Spec: config-linux.md, IntelRdt: a class without schemata must exist
#[test]
fn a_class_that_is_missing_needs_schemata() {
    let root = tree();

    let error = make(&root, json!({"closID": "none"})).unwrap_err().to_string();

    assert!(error.starts_with("linux.intelRdt.closID: ") && error.contains("does not exist"), "{error}");
    assert!(!root.path().join("none").exists());
}

/// Spec: config-linux.md, IntelRdt: enableMonitoring makes a group of the container's own, which goes with it
#[test]
fn monitoring_has_a_group_of_its_own() {
    let root = tree();

    let groups = make(&root, json!({"closID": "/", "enableMonitoring": true})).unwrap();

    let monitoring = root.path().join("mon_groups/c1");
    assert_eq!(groups.tasks(), [root.path().join("tasks"), monitoring.join("tasks")]);
    assert!(make(&root, json!({"closID": "/", "enableMonitoring": true})).is_err(), "a name is used once");
    assert!(monitoring.is_dir(), "the failed attempt must not remove the group of the other");
    groups.remove().unwrap();
    assert!(!monitoring.exists());
}

#[test]
fn names_stay_in_the_file_system_and_lines_are_lines() {
    let root = tree();
    for (spec, field) in [
        (json!({"closID": "../x"}), "closID"),
        (json!({"closID": "a/b"}), "closID"),
        (json!({"closID": ".."}), "closID"),
        (json!({"closID": "info"}), "closID"),
        (json!({"schemata": ["L3:0=1\nMB:0=1"]}), "schemata"),
        (json!({"l3CacheSchema": "L3:0=1\n"}), "l3CacheSchema"),
        (json!({"memBwSchema": "L3:0=1"}), "memBwSchema"),
    ] {
        let error = make(&root, spec.clone()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("linux.intelRdt.{field}: ")), "{spec}: {error}");
    }
    assert!(!root.path().join("c1").exists());
}

#[test]
fn the_mount_point_is_that_of_the_first_resctrl() {
    let line = |point: &str, kind: &str| format!("36 35 98:0 / {point} rw,noatime master:1 - {kind} {kind} rw\n");

    let mounts = line("/sys", "sysfs") + &line("/sys/fs/resctrl", "resctrl") + &line("/other", "resctrl");

    assert_eq!(mount_point(&mounts), Some("/sys/fs/resctrl".into()));
    assert_eq!(mount_point(&line("/sys", "sysfs")), None);
}
