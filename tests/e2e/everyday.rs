//! What is done to containers that are there: `restart`, `rename`.

use std::time::Duration;

use strata_tests::{House, eventually};

use crate::tenant::{Ids, Tenant};

const SOON: Duration = Duration::from_secs(20);

/// What a template says of a container.
#[track_caller]
fn seen(house: &House, name: &str, template: &str) -> String {
    house.ctl(&["inspect", "-f", template, name]).ok().text().to_owned()
}

#[test]
fn restart_starts_what_runs_and_what_does_not() {
    let house = House::with_guest();
    let run = ["run", "-d", "--network", "none", "--name"];
    let sleep = ["guest", "/guest", "sleep", "300"];
    let id = house.ctl(&[&run[..], &["up"], &sleep].concat()).ok().text().to_owned();
    house.ctl(&[&["create", "--network", "none", "--name", "made"], &sleep[..]].concat()).ok();
    house.ctl(&[&run[..], &["brief", "--rm"], &sleep].concat()).ok();
    let before = ["up", "brief"].map(|name| seen(&house, name, "{{.State.Pid}}"));

    let done = house.ctl(&["restart", "-t", "0", "up", "made", "absent", "brief"]).code(1);

    assert_eq!(done.text(), "up\nmade\nbrief");
    done.complains(&["no such container: absent"]);
    let after = ["up", "brief"].map(|name| seen(&house, name, "{{.State.Pid}}"));
    assert!(before[0] != after[0] && before[1] != after[1], "{before:?} {after:?}");
    assert_eq!(seen(&house, "made", "{{.State.Running}}"), "true");
    assert_eq!(seen(&house, "up", "{{.Id}}"), id);
    house.ctl(&["container", "restart", "--signal", "KILL", "up"]).ok();
    house.ctl(&["restart", "-s", "NOSUCH", "up"]).fails().complains(&["signal"]);
    house.ctl(&["kill", "brief"]).ok();
    eventually("it removes itself after all", SOON, || house.ctl(&["inspect", "brief"]).code != 0);
    house.ctl(&["rm", "-f", "up", "made"]).ok();
}

#[test]
fn a_container_is_known_by_its_new_name_only() {
    let house = House::with_guest();
    let sleep = ["guest", "/guest", "sleep", "300"];
    house.ctl(&[&["run", "-d", "--network", "none", "--name", "one"], &sleep[..]].concat()).ok();
    house.ctl(&[&["create", "--network", "none", "--name", "two"], &sleep[..]].concat()).ok();

    assert_eq!(house.ctl(&["rename", "one", "web"]).ok().both(), "");
    house.ctl(&["container", "rename", "two", "one"]).ok();

    assert_eq!(house.ctl(&["ps", "-a", "--format", "{{.Names}}"]).ok().text(), "one\nweb");
    assert_eq!(seen(&house, "web", "{{.Name}}"), "/web");
    house.ctl(&["inspect", "two"]).fails();
    house.ctl(&["rename", "one", "web"]).code(1).complains(&["web", "already in use"]);
    house.ctl(&["rename", "web", "web"]).code(1).complains(&["the name web already"]);
    house.ctl(&["rename", "web", "a b"]).code(1).complains(&["name"]);
    house.ctl(&["rename", "absent", "new"]).code(1).complains(&["no such container: absent"]);
    // A runtime that is started again reads it from the disk.
    house.crash("runtime");
    assert_eq!(house.ctl(&["ps", "-a", "--format", "{{.Names}}"]).ok().text(), "one\nweb");
    house.ctl(&["stop", "-t", "0", "web"]).ok();
    house.ctl(&["rm", "web", "one"]).ok();
}

#[test]
fn an_ordinary_user_restarts_and_renames() {
    let tenant = Tenant::new(Ids::Single);
    tenant.ctl(&["run", "-d", "--network", "none", "--name", "one", "guest", "/guest", "sleep", "300"]).ok();

    tenant.ctl(&["restart", "-t", "0", "one"]).ok();
    tenant.ctl(&["rename", "one", "web"]).ok();

    tenant.ctl(&["ps"]).ok().says(&["web", "Up "]);
    tenant.ctl(&["rm", "-f", "web"]).ok();
}
