//! The life of containers: start, look, enter, stop, remove.

use std::time::Duration;

use strata_tests::{House, eventually};

fn detached(house: &House, flags: &[&str], words: &[&str]) -> String {
    house.ctl(&[&["run", "-d"], flags, &["guest", "/guest"], words].concat()).ok().text().to_owned()
}

fn wait_for_log(house: &House, container: &str, words: &str) {
    eventually(&format!("{words:?} in the log of {container}"), Duration::from_secs(20), || {
        house.ctl(&["logs", container]).ok().both().contains(words)
    });
}

#[test]
fn writable_layers_are_apart_and_stay_with_their_container() {
    let house = House::with_guest();

    house
        .ctl(&[
            "run",
            "--name",
            "one",
            "guest",
            "/guest",
            "then",
            "append",
            "/note",
            "mine;",
            "+",
            "read",
            "/note",
            "+",
            "rm",
            "/etc/group",
        ])
        .ok()
        .says(&["mine;"]);
    house.guest(&["exists", "/note"]).code(1);
    house.guest(&["exists", "/etc/group"]).ok();
    let again = house.ctl(&["start", "-a", "one"]).fails();
    assert_eq!(again.stdout, "mine;mine;", "its own change is there again: {again:?}");
}

#[test]
fn ps_lists_what_runs_and_with_a_what_ended() {
    let house = House::with_guest();
    let runs = detached(&house, &["--name", "runs"], &["sleep", "60"]);
    let ended = detached(&house, &["--name", "ended"], &["exit", "3"]);
    house.ctl(&["wait", "ended"]).ok();

    let list = house.ctl(&["ps"]).ok();
    let header = list.stdout.lines().next().unwrap();
    for column in ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"] {
        assert!(header.contains(column), "{column} in {list:?}");
    }
    assert!(list.stdout.contains("runs") && list.stdout.contains("Up ") && !list.stdout.contains("ended"), "{list:?}");
    house.ctl(&["ps", "-a"]).ok().says(&["runs", "ended", "Exited (3)", &ended[..12]]);
    let ids = house.ctl(&["ps", "-aq", "--no-trunc"]).ok();
    assert!(ids.stdout.lines().count() == 2 && ids.stdout.contains(&runs), "{ids:?}");
}

#[test]
fn a_name_belongs_to_one_container() {
    let house = House::with_guest();
    detached(&house, &["--name", "mine"], &["sleep", "60"]);

    house.ctl(&["run", "--name", "mine", "guest", "/guest", "noop"]).code(125).complains(&["mine"]);
    house.ctl(&["rm", "mine"]).fails().complains(&["mine"]);
    house.ctl(&["rm", "-f", "mine"]).ok();
    house.ctl(&["run", "--rm", "--name", "mine", "guest", "/guest", "noop"]).ok();
}

#[test]
fn logs_are_kept_whole_and_can_be_cut() {
    let house = House::with_guest();
    let id = detached(&house, &[], &["spam", "5000"]);
    house.ctl(&["wait", &id]).ok();

    assert_eq!(house.ctl(&["logs", &id]).ok().stdout.lines().count(), 5000);
    assert_eq!(house.ctl(&["logs", "--tail", "3", &id]).ok().stdout, "line 4997\nline 4998\nline 4999\n");
    assert_eq!(house.ctl(&["logs", "--tail", "0", &id]).ok().stdout, "");
    let stamped = house.ctl(&["logs", "-t", "--tail", "1", &id]).ok();
    assert!(
        stamped.stdout.starts_with("20") && stamped.stdout.contains("T") && stamped.stdout.ends_with("line 4999\n"),
        "{stamped:?}"
    );
    let two = detached(&house, &[], &["say", "left", "right"]);
    house.ctl(&["wait", &two]).ok();
    let two = house.ctl(&["logs", &two]).ok();
    assert_eq!((two.stdout.as_str(), two.stderr.as_str()), ("left\n", "right\n"), "streams stay apart");
}

#[test]
fn following_a_log_ends_with_the_container() {
    let house = House::with_guest();
    let id = detached(&house, &[], &["tick", "10", "100"]);

    let followed = house.ctl(&["logs", "-f", &id]).ok();

    let expected: String = (0..10).map(|number| format!("tick {number}\n")).collect();
    assert_eq!(followed.stdout, expected);
}

#[test]
fn exec_enters_the_same_container() {
    let house = House::with_guest();
    detached(&house, &["--name", "box", "--hostname", "inside", "-e", "OUTER=1"], &["sleep", "60"]);
    let exec = |flags: &[&str], words: &[&str]| house.ctl(&[&["exec"], flags, &["box", "/guest"], words].concat());

    exec(&[], &["write", "/tmp/note", "seen"]).ok();
    assert_eq!(exec(&[], &["read", "/tmp/note"]).ok().stdout, "seen");
    assert_eq!(exec(&[], &["hostname"]).ok().text(), "inside");
    assert_eq!(exec(&["-u", "alice"], &["id"]).ok().text(), "uid 1000 gid 1000 groups 50,1000");
    assert_eq!(exec(&["-w", "/tmp"], &["cwd"]).ok().text(), "/tmp");
    let env = exec(&["-e", "MORE=2"], &["env"]).ok();
    assert!(env.stdout.contains("MORE=2\n") && env.stdout.contains("OUTER=1\n"), "{env:?}");
    assert_eq!(exec(&[], &["exit", "17"]).code(17).stdout, "");
    house.ctl(&["exec", "box", "/no-such"]).code(127).complains(&["/no-such"]);
    house.ctl(&["exec", "box", "/etc"]).code(126);
    let caps = exec(&[], &["caps"]).ok();
    assert!(
        caps.stdout.contains("CapEff 00000000a80425fb") && caps.stdout.contains("Seccomp 2"),
        "no more than the container: {caps:?}"
    );
    let piped = house.ctl_with(&["exec", "-i", "box", "/guest", "cat"], b"through\n").ok();
    assert_eq!(piped.stdout, "through\n");
    exec(&["-d"], &["write", "/tmp/behind", "done"]).ok();
    eventually("the detached process wrote", Duration::from_secs(10), || {
        exec(&[], &["exists", "/tmp/behind"]).code == 0
    });
    house.ctl(&["kill", "box"]).ok();
    house.ctl(&["wait", "box"]).ok();
    exec(&[], &["noop"]).fails().complains(&["box"]);
    house.ctl(&["exec", "no-such-box", "/guest", "noop"]).fails().complains(&["no-such-box"]);
}

#[test]
fn stop_asks_first_and_kills_later() {
    let house = House::with_guest();
    detached(&house, &["--name", "polite"], &["trap", "5", "SIGTERM"]);
    detached(&house, &["--name", "stubborn"], &["stubborn"]);
    wait_for_log(&house, "polite", "ready");
    wait_for_log(&house, "stubborn", "ready");

    let polite = house.ctl(&["stop", "polite"]).ok();
    assert!(polite.took < Duration::from_secs(5), "{polite:?}");
    assert_eq!(house.ctl(&["wait", "polite"]).ok().text(), "5");
    wait_for_log(&house, "polite", "SIGTERM");
    let stubborn = house.ctl(&["stop", "-t", "1", "stubborn"]).ok();
    assert!(stubborn.took >= Duration::from_millis(900), "it had its second: {stubborn:?}");
    assert_eq!(house.ctl(&["wait", "stubborn"]).ok().text(), "137");
    house.ctl(&["stop", "stubborn"]).ok();
}

#[test]
fn stop_and_restart_take_the_time_by_its_new_and_its_old_name() {
    let house = House::with_guest();
    detached(&house, &["--name", "stubborn"], &["stubborn"]);
    wait_for_log(&house, "stubborn", "ready");

    for flags in [&["--timeout", "0"][..], &["--timeout=0"], &["--time", "0"], &["-t", "0"]] {
        let restarted = house.ctl(&[&["restart"], flags, &["stubborn"]].concat()).ok();
        assert!(restarted.took < Duration::from_secs(8), "{flags:?}: {restarted:?}");
    }

    let stopped = house.ctl(&["container", "stop", "--timeout", "0", "stubborn"]).ok();
    assert!(stopped.took < Duration::from_secs(8), "{stopped:?}");
    house.ctl(&["start", "stubborn"]).ok();
    house.ctl(&["stop", "--time", "0", "stubborn"]).ok();
    // Without an end to the patience a container that ends by itself is waited for.
    detached(&house, &["--name", "polite"], &["trap", "5", "SIGTERM"]);
    wait_for_log(&house, "polite", "ready");
    house.ctl(&["stop", "--timeout", "-1", "polite"]).ok();
    assert_eq!(house.ctl(&["wait", "polite"]).ok().text(), "5");
    house.ctl(&["stop", "--timeout", "-2", "polite"]).code(125).complains(&["--timeout"]);
}

#[test]
fn start_runs_it_once_more() {
    let house = House::with_guest();
    house.ctl(&["run", "--name", "again", "guest", "/guest", "then", "echo", "hello", "+", "exit", "4"]).code(4);

    let attached = house.ctl(&["start", "-a", "again"]).code(4);
    assert_eq!(attached.stdout, "hello\n");
    house.ctl(&["start", "again"]).ok();
    assert_eq!(house.ctl(&["wait", "again"]).ok().text(), "4");
    assert_eq!(house.ctl(&["logs", "again"]).ok().stdout, "hello\n".repeat(3));
}

#[test]
fn wait_returns_when_the_end_comes() {
    let house = House::with_guest();
    let id = detached(&house, &[], &["then", "sleep", "1", "+", "exit", "9"]);

    let waited = house.ctl(&["wait", &id]).ok();

    assert_eq!(waited.text(), "9");
}

#[test]
fn inspect_shows_state_and_configuration() {
    let house = House::with_guest();
    let id = detached(&house, &["--name", "seen", "-e", "A=b", "-m", "64m"], &["sleep", "60"]);

    let shown = house.ctl(&["inspect", "seen"]).ok().json();

    assert_eq!(shown[0]["Id"], id.as_str());
    assert_eq!(shown[0]["State"]["Running"], true, "{shown:#}");
    assert!(shown[0]["State"]["Pid"].as_u64().is_some_and(|pid| pid > 1));
    assert!(shown[0]["Config"]["Env"].as_array().unwrap().iter().any(|pair| pair == "A=b"), "{shown:#}");
    assert_eq!(shown[0]["HostConfig"]["Memory"], 64 << 20, "{shown:#}");
    house.ctl(&["inspect", "no-such-thing"]).fails().complains(&["no-such-thing"]);
}

#[test]
fn signals_to_ctl_reach_the_process() {
    let house = House::with_guest();
    let mut run = house.ctl_running(&["run", "--rm", "guest", "/guest", "trap", "6", "SIGTERM", "SIGINT"]);
    run.wait_for("ready");

    run.signal(nix::sys::signal::Signal::SIGTERM);

    let ended = run.finish().code(6);
    assert!(ended.stdout.contains("SIGTERM"), "{ended:?}");
    assert_eq!(house.ctl(&["ps", "-aq"]).ok().stdout, "");
}

#[test]
fn prune_removes_what_has_ended_only() {
    let house = House::with_guest();
    detached(&house, &["--name", "runs"], &["sleep", "60"]);
    detached(&house, &["--name", "ended"], &["noop"]);
    house.ctl(&["wait", "ended"]).ok();

    house.ctl(&["system", "prune", "-f"]).ok();

    let left = house.ctl(&["ps", "-a"]).ok();
    assert!(left.stdout.contains("runs") && !left.stdout.contains("ended"), "{left:?}");
    house.ctl(&["images"]).ok().says(&["guest"]);
    house.ctl(&["exec", "runs", "/guest", "noop"]).ok();
}
