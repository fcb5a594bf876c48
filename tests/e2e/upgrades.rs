//! State of another version: an older one is brought up to date, with what it was beside it, and a later one is refused and
//! left alone.

use std::{fs, path::PathBuf};

use serde_json::Value;
use strata_tests::House;

/// The record of a container, whose services do not run.
fn record_of(house: &House, id: &str) -> PathBuf {
    house.root().join("runtime/containers").join(id).join("record.json")
}

/// Changes a record as another version would have written it.
fn rewrite(path: &PathBuf, change: impl FnOnce(&mut Value)) {
    let mut record: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut record);
    fs::write(path, serde_json::to_vec(&record).unwrap()).unwrap();
}

#[test]
fn a_container_of_the_version_before_goes_on() {
    let house = House::with_guest();
    let run = ["run", "-d", "--name", "long", "--network", "none", "guest", "/guest", "sleep", "300"];
    let id = house.ctl(&run).ok().text().to_owned();
    let pid = house.ctl(&["inspect", "-f", "{{.State.Pid}}", "long"]).ok().text().to_owned();
    assert!(house.stop().is_empty());
    let record = record_of(&house, &id);
    rewrite(&record, |record| {
        record["version"] = 1.into();
        record["state"]["running"].as_object_mut().unwrap().remove("conversation");
    });
    let before = fs::read(&record).unwrap();

    assert_eq!(house.ctl(&["inspect", "-f", "{{.State.Pid}}", "long"]).ok().text(), pid);

    house.ctl(&["exec", "long", "/guest", "noop"]).ok();
    assert_eq!(fs::read(record.with_file_name("record.json.v1")).unwrap(), before);
    house.ctl(&["rm", "-f", "long"]).ok();
    assert!(!record.parent().unwrap().exists(), "what is kept of a record goes with its container");
}

#[test]
fn containers_of_a_later_version_are_refused_with_who_wrote_them_and_left_alone() {
    let house = House::with_guest();
    let id = house.ctl(&["create", "--name", "made", "guest", "/guest", "noop"]).ok().text().to_owned();
    assert!(house.stop().is_empty());
    let (record, version) = (record_of(&house, &id), house.root().join("runtime/version"));
    let own = fs::read_to_string(&version).unwrap();
    assert_eq!(own.trim(), env!("CARGO_PKG_VERSION"));
    let good = fs::read(&record).unwrap();
    rewrite(&record, |record| record["version"] = 99.into());
    fs::write(&version, "99.0.0\n").unwrap();
    let later = fs::read(&record).unwrap();

    let refused = house.ctl(&["ps", "-a"]).fails();

    refused.complains(&["record.json", "has version 99", "strata 99.0.0 wrote it", "ctl system reset"]);
    assert_eq!(fs::read(&record).unwrap(), later);
    assert_eq!(fs::read_to_string(&version).unwrap(), "99.0.0\n");
    // With the right program it is all there.
    fs::write(&record, good).unwrap();
    house.ctl(&["start", "-a", "made"]).ok();
    assert_eq!(fs::read_to_string(&version).unwrap(), own);
    house.ctl(&["rm", "made"]).ok();
}
