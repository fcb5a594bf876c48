//! `pause` and `unpause`, on the cgroups that this machine has.

use strata_tests::House;

fn house_with(names: &[&str]) -> House {
    let house = House::with_guest();
    for name in names {
        house.ctl(&["run", "-d", "--network", "none", "--name", name, "guest", "/guest", "stubborn"]).ok();
    }
    house
}

#[track_caller]
fn state(house: &House, name: &str) -> String {
    house.ctl(&["inspect", "-f", "{{.State.Status}} {{.State.Running}} {{.State.Paused}}", name]).ok().text().to_owned()
}

#[test]
fn a_paused_container_is_shown_as_such_and_takes_no_commands() {
    let house = house_with(&["one", "two"]);

    let paused = house.ctl(&["pause", "one", "absent", "two"]).code(1);

    assert_eq!(paused.text(), "one\ntwo");
    paused.complains(&["no such container: absent"]);
    house.ctl(&["container", "unpause", "two"]).ok().says(&["two"]);
    assert_eq!(state(&house, "one"), "paused true true");
    assert_eq!(state(&house, "two"), "running true false");
    let shown = |flags: &[&str]| {
        house.ctl(&[&["ps", "--format", "{{.Names}} {{.State}} {{.Status}}"], flags].concat()).ok().text().to_owned()
    };
    let lines = shown(&[]);
    assert!(lines.contains("one paused Up ") && lines.contains(" (Paused)"), "{lines}");
    assert!(
        shown(&["-f", "status=paused"]).starts_with("one ") && shown(&["-f", "status=running"]).starts_with("two ")
    );
    house.ctl(&["info"]).ok().says(&["Running: 1", "Paused: 1"]);
    let told = ["container one is paused", "ctl unpause"];
    house.ctl(&["exec", "one", "/guest", "noop"]).fails().complains(&told);
    house.ctl(&["start", "one"]).code(1).complains(&told);
    house.ctl(&["pause", "one"]).code(1).complains(&told);
    house.ctl(&["unpause", "two"]).code(1).complains(&["container two is not paused"]);
    house.ctl(&["rm", "one"]).code(1).complains(&["is running"]);
    house.ctl(&["unpause", "one"]).ok();
    house.ctl(&["exec", "one", "/guest", "echo", "here"]).ok().says(&["here"]);
    house.ctl(&["rm", "-f", "one", "two"]).ok();
}

#[test]
fn a_runtime_that_is_started_again_knows_who_is_paused() {
    let house = house_with(&["kept", "left"]);
    house.ctl(&["pause", "kept", "left"]).ok();

    house.crash("runtime");

    assert_eq!(state(&house, "kept"), "paused true true");
    house.ctl(&["unpause", "kept"]).ok();
    house.ctl(&["exec", "kept", "/guest", "echo", "here"]).ok().says(&["here"]);
    house.ctl(&["stop", "-t", "0", "left"]).ok();
    assert_eq!(state(&house, "left"), "exited false false");
    house.ctl(&["rm", "-f", "kept", "left"]).ok();
}

#[test]
fn whoever_is_told_to_end_does_so_though_it_is_paused() {
    let house = house_with(&["stopped", "killed", "removed", "restarted"]);
    house.ctl(&["pause", "stopped", "killed", "removed", "restarted"]).ok();

    house.ctl(&["stop", "-t", "1", "stopped"]).ok();
    house.ctl(&["kill", "-s", "USR1", "killed"]).ok();
    assert_eq!(state(&house, "killed"), "paused true true");
    house.ctl(&["kill", "killed"]).ok();
    house.ctl(&["wait", "stopped", "killed"]).ok().says(&["137\n137"]);
    house.ctl(&["restart", "-t", "0", "restarted"]).ok();
    assert_eq!(state(&house, "restarted"), "running true false");
    house.ctl(&["rm", "-f", "stopped", "killed", "removed", "restarted"]).ok();
}
