//! Restart policies, and which container is started before which: across ends, stops, services and boots.

use std::{fs, path::PathBuf, thread, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use strata_tests::{House, eventually};

const SOON: Duration = Duration::from_secs(30);

/// What a template says of a container.
#[track_caller]
fn seen(house: &House, name: &str, template: &str) -> String {
    house.ctl(&["inspect", "-f", template, name]).ok().text().to_owned()
}

fn status(house: &House, name: &str) -> String {
    seen(house, name, "{{.State.Status}}")
}

/// Runs a container in the background that has the house's directory as /shared.
fn run(house: &House, name: &str, flags: &[&str], words: &[&str]) {
    let shared = format!("{}:/shared", house.root().display());
    let run = ["run", "-d", "--network", "none", "-v", &shared, "--name", name];
    house.ctl(&[&run[..], flags, &["guest", "/guest"], words].concat()).ok();
}

/// How often something wrote a line.
fn lines(house: &House, file: &str) -> Vec<String> {
    let text = fs::read_to_string(house.root().join(file)).unwrap_or_default();
    text.chars().map(String::from).collect()
}

#[test]
fn what_fails_is_started_again_as_often_as_its_policy_says() {
    let house = House::with_guest();
    let failing = ["then", "append", "/shared/runs", ".", "+", "exit", "3"];
    run(&house, "twice", &["--restart", "on-failure:2"], &failing);

    eventually("it was given up", SOON, || status(&house, "twice") == "exited");

    assert_eq!(lines(&house, "runs").len(), 3);
    assert_eq!(seen(&house, "twice", "{{.RestartCount}} {{.State.ExitCode}}"), "2 3");
    assert_eq!(
        seen(&house, "twice", "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}"),
        "on-failure 2"
    );
    run(&house, "good", &["--restart", "on-failure"], &["exit", "0"]);
    assert_eq!(house.ctl(&["wait", "good"]).ok().text(), "0");
    assert_eq!(seen(&house, "good", "{{.State.Status}} {{.RestartCount}}"), "exited 0");
    // A start by hand begins to count anew.
    house.ctl(&["start", "twice"]).ok();
    eventually("it was given up again", SOON, || lines(&house, "runs").len() == 6);
    house.ctl(&["rm", "-f", "twice", "good"]).ok();
}

#[test]
fn what_waits_to_be_started_again_can_be_stopped_killed_started_and_removed() {
    let house = House::with_guest();
    for name in ["one", "two", "three"] {
        run(&house, name, &["--restart", "always"], &["exit", "1"]);
    }
    // After some runs the pauses are long enough to be seen.
    let waits = |name: &str| {
        eventually("it waits", SOON, || {
            let count: u32 = seen(&house, name, "{{.RestartCount}}").parse().unwrap();
            count >= 6 && status(&house, name) == "restarting"
        });
    };
    ["one", "two", "three"].iter().for_each(|name| waits(name));

    house.ctl(&["ps"]).ok().says(&["Restarting (1)", "ago"]);
    house.ctl(&["ps", "-q", "--filter", "status=restarting"]).ok();
    house.ctl(&["rm", "one"]).code(1).complains(&["one", "stop it first"]);
    house.ctl(&["container", "prune", "-f"]).ok();
    house.ctl(&["exec", "one", "/guest", "noop"]).fails().complains(&["not running"]);
    house.ctl(&["stop", "one"]).ok();
    house.ctl(&["kill", "two"]).ok();
    house.ctl(&["rm", "-f", "three"]).ok();

    for name in ["one", "two"] {
        assert_eq!(status(&house, name), "exited", "{name}");
        let count = seen(&house, name, "{{.RestartCount}}");
        thread::sleep(Duration::from_secs(2));
        assert_eq!(seen(&house, name, "{{.State.Status}} {{.RestartCount}}"), format!("exited {count}"), "{name}");
    }
    house.ctl(&["start", "one"]).ok();
    eventually("it counts from the start", SOON, || {
        let count: u32 = seen(&house, "one", "{{.RestartCount}}").parse().unwrap();
        (1..6).contains(&count)
    });
    house.ctl(&["rm", "-f", "one", "two"]).ok();
}

#[test]
fn a_stop_and_a_deadly_signal_are_no_reason_to_start_again_and_an_end_by_itself_is() {
    let house = House::with_guest();
    for name in ["stopped", "killed", "gone"] {
        run(&house, name, &["--restart", "unless-stopped"], &["sleep", "300"]);
    }
    let pid = seen(&house, "gone", "{{.State.Pid}}");

    house.ctl(&["stop", "-t", "0", "stopped"]).ok();
    house.ctl(&["kill", "-s", "KILL", "killed"]).ok();
    kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();

    eventually("it runs again", SOON, || {
        status(&house, "gone") == "running" && seen(&house, "gone", "{{.State.Pid}}") != pid
    });
    assert_eq!(seen(&house, "gone", "{{.RestartCount}}"), "1");
    eventually("the killed one has ended", SOON, || status(&house, "killed") == "exited");
    assert_eq!((status(&house, "stopped"), seen(&house, "killed", "{{.RestartCount}}")), ("exited".into(), "0".into()));
    house.ctl(&["rm", "-f", "stopped", "killed", "gone"]).ok();
}

#[test]
fn of_those_that_were_stopped_only_always_is_started_by_a_new_runtime() {
    let house = House::with_guest();
    for (name, policy) in [("always", "always"), ("unless", "unless-stopped"), ("kept", "unless-stopped"), ("no", "no")]
    {
        run(&house, name, &["--restart", policy], &["sleep", "300"]);
    }
    house.ctl(&["create", "--restart", "always", "--name", "fresh", "guest", "/guest", "sleep", "300"]).ok();
    house.ctl(&["stop", "-t", "0", "always", "unless", "no"]).ok();
    let kept = seen(&house, "kept", "{{.State.Pid}}");

    assert!(house.crash("runtime"));

    eventually("it runs again", SOON, || status(&house, "always") == "running");
    assert_eq!(["unless", "no", "fresh"].map(|name| status(&house, name)), ["exited", "exited", "created"]);
    assert_eq!(seen(&house, "kept", "{{.State.Pid}}"), kept);
    house.ctl(&["rm", "-f", "always", "unless", "kept", "no", "fresh"]).ok();
}

#[test]
fn a_nap_of_the_runtime_starts_nothing_that_was_stopped() {
    let mut house = House::with_guest();
    run(&house, "always", &["--restart", "always"], &["sleep", "300"]);
    house.ctl(&["stop", "-t", "0", "always"]).ok();
    assert!(house.stop().is_empty());
    house.set("STRATA_IDLE_TIMEOUT", "1");
    // Told to stop, it comes back as after any restart; stopped again, it has nothing to do.
    eventually("it runs again", SOON, || status(&house, "always") == "running");
    house.ctl(&["stop", "-t", "0", "always"]).ok();

    eventually("the services went to sleep", SOON, || house.services().is_empty());
    assert_eq!(status(&house, "always"), "exited");
    thread::sleep(Duration::from_millis(500));

    assert_eq!(status(&house, "always"), "exited");
    house.ctl(&["rm", "always"]).ok();
}

#[test]
fn a_runtime_that_is_gone_is_back_when_a_restart_is_due() {
    let house = House::with_guest();
    let words = [
        "then",
        "append",
        "/shared/runs",
        ".",
        "+",
        "await",
        "/shared/end",
        "+",
        "rm",
        "/shared/end",
        "+",
        "exit",
        "1",
    ];
    run(&house, "web", &["--restart", "on-failure"], &words);
    assert!(house.crash("runtime"));
    assert!(house.crash("store"));

    // Nobody asks the runtime anything: the monitor notices that it is gone.
    fs::write(house.root().join("end"), "").unwrap();
    eventually("it runs again", SOON, || lines(&house, "runs").len() == 2);

    assert_eq!(seen(&house, "web", "{{.State.Status}} {{.RestartCount}}"), "running 1");
    // One without a policy wakes nobody.
    run(&house, "plain", &[], &["then", "await", "/shared/over", "+", "exit", "1"]);
    house.ctl(&["rm", "-f", "web"]).ok();
    assert!(house.crash("runtime"));
    let pid = |house: &House| house.services().iter().any(|trace| trace.program() == "strata-runtime");
    fs::write(house.root().join("over"), "").unwrap();
    thread::sleep(Duration::from_secs(1));
    assert!(!pid(&house));
    assert_eq!(house.ctl(&["wait", "plain"]).ok().text(), "1");
    house.ctl(&["rm", "plain"]).ok();
}

/// Ends everything that a boot ends, and makes the records those of another boot.
fn reboot(house: &House) {
    assert!(house.crash("runtime"));
    for path in records(house) {
        let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let Some(running) = record["state"].get_mut("running") else { continue };
        for process in ["monitor", "init"] {
            let pid = running[process]["pid"].as_i64().unwrap();
            let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL);
            running[process]["boot_id"] = "another".into();
        }
        fs::write(&path, record.to_string()).unwrap();
    }
}

fn records(house: &House) -> Vec<PathBuf> {
    let dirs = fs::read_dir(house.root().join("runtime/containers")).unwrap();
    dirs.map(|dir| dir.unwrap().path().join("record.json")).collect()
}

#[test]
fn after_a_boot_containers_are_started_in_their_order() {
    let house = House::with_guest();
    let says = |letter: &'static str| vec!["then", "append", "/shared/order", letter, "+", "sleep", "300"];
    // The oldest comes last: it depends on what was made again after it.
    run(&house, "db", &["--restart", "always"], &says("d"));
    run(&house, "web", &["--restart", "always", "--requires", "db"], &says("w"));
    run(&house, "proxy", &["--restart", "unless-stopped", "--after", "web"], &says("p"));
    run(&house, "stopped", &["--restart", "unless-stopped"], &says("s"));
    run(&house, "plain", &[], &says("x"));
    house.ctl(&["rm", "-f", "db"]).ok();
    run(&house, "db", &["--restart", "always"], &says("d"));
    house.ctl(&["stop", "-t", "0", "stopped"]).ok();
    fs::remove_file(house.root().join("order")).unwrap();

    reboot(&house);

    eventually("all of them run", SOON, || ["db", "web", "proxy"].iter().all(|name| status(&house, name) == "running"));
    assert_eq!(lines(&house, "order").concat(), "dwp");
    assert_eq!([status(&house, "stopped"), status(&house, "plain")], ["exited", "exited"]);
    // Nobody saw how it ended: that is no exit code 0.
    house.ctl(&["ps", "-a", "--filter", "name=plain"]).ok().says(&["Exited (unknown)"]);
    house.ctl(&["rm", "-f", "db", "web", "proxy", "stopped", "plain"]).ok();
}

#[test]
fn what_a_container_requires_is_started_first_and_cycles_are_refused() {
    let house = House::with_guest();
    let create = |name: &str, flags: &[&str]| {
        let words =
            [&["create", "--network", "none", "--name", name], flags, &["guest", "/guest", "sleep", "300"]].concat();
        house.ctl(&words)
    };
    create("cache", &[]).ok();
    create("db", &["--requires", "cache"]).ok();
    create("web", &["--requires", "db", "--after", "cache"]).ok();

    house.ctl(&["start", "web"]).ok();
    assert_eq!(["cache", "db", "web"].map(|name| status(&house, name)), ["running", "running", "running"]);

    create("other", &["--requires", "absent"]).code(1).complains(&["no such container: absent"]);
    house.ctl(&["rm", "-f", "cache"]).ok();
    create("cache", &["--after", "web"]).code(1).complains(&["depend on each other: cache -> web -> cache"]);
    house.ctl(&["stop", "-t", "0", "db"]).ok();
    house.ctl(&["start", "db"]).code(1).complains(&["db requires container cache", "no such container"]);
    create("new", &["--after", "web"]).ok();
    house.ctl(&["rename", "new", "cache"]).code(1).complains(&["cache -> web"]);
    // Who depends on a container follows it to its new name.
    create("cache", &[]).ok();
    house.ctl(&["rename", "cache", "memory"]).ok();
    house.ctl(&["start", "db"]).ok();
    assert_eq!(status(&house, "memory"), "running");
    house.ctl(&["rm", "-f", "memory", "db", "web", "new"]).ok();
}

#[test]
fn a_policy_is_changed_while_a_container_runs_and_kept_over_services() {
    let house = House::with_guest();
    for name in ["one", "two"] {
        run(&house, name, &[], &["sleep", "300"]);
    }
    run(&house, "passing", &["--rm"], &["sleep", "300"]);

    let done = house.ctl(&["update", "--restart", "unless-stopped", "one", "passing", "two"]).code(1);

    assert_eq!(done.text(), "one\ntwo");
    done.complains(&["restart policy cannot be updated because AutoRemove is enabled for the container"]);
    house.ctl(&["update", "--restart", "no", "passing"]).ok();
    assert!(house.crash("runtime"));
    assert_eq!(seen(&house, "one", "{{.HostConfig.RestartPolicy.Name}}"), "unless-stopped");
    let pid = seen(&house, "one", "{{.State.Pid}}");
    kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
    eventually("it runs again", SOON, || {
        status(&house, "one") == "running" && seen(&house, "one", "{{.State.Pid}}") != pid
    });
    house.ctl(&["update", "--restart", "on-failure:3", "two"]).ok();
    assert_eq!(
        seen(&house, "two", "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}"),
        "on-failure 3"
    );
    house.ctl(&["update", "--restart", "sometimes", "two"]).code(125).complains(&["\"sometimes\" for --restart"]);
    house.ctl(&["rm", "-f", "one", "two", "passing"]).ok();
}

#[test]
fn a_monitor_wakes_the_runtime_as_the_policy_of_the_moment_says() {
    let house = House::with_guest();
    let words = |end: &'static str| {
        ["then", "append", "/shared/runs", ".", "+", "await", end, "+", "rm", end, "+", "exit", "1"]
    };
    run(&house, "given", &[], &words("/shared/given"));
    run(&house, "taken", &["--restart", "always"], &words("/shared/taken"));
    house.ctl(&["update", "--restart", "on-failure", "given"]).ok();
    house.ctl(&["update", "--restart", "no", "taken"]).ok();
    assert!(house.crash("runtime"));

    fs::write(house.root().join("taken"), "").unwrap();
    thread::sleep(Duration::from_secs(1));
    assert!(!house.services().iter().any(|trace| trace.program() == "strata-runtime"), "nobody needs it");
    fs::write(house.root().join("given"), "").unwrap();

    eventually("it runs again", SOON, || lines(&house, "runs").len() == 3);
    assert_eq!(["given", "taken"].map(|name| status(&house, name)), ["running", "exited"]);
    house.ctl(&["rm", "-f", "given", "taken"]).ok();
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_made() {
    let house = House::with_guest();
    for (flags, words) in [
        (&["--rm", "--restart", "always"][..], &["--restart and --rm"][..]),
        (&["--restart", "sometimes"], &["\"sometimes\" for --restart", "unless-stopped"]),
        (&["--restart", "always:3"], &["on-failure"]),
    ] {
        let refused = house.ctl(&[&["run", "-d"], flags, &["guest", "/guest", "noop"]].concat());
        refused.code(125).complains(words);
    }
    assert_eq!(house.ctl(&["ps", "-aq"]).ok().text(), "");
}
