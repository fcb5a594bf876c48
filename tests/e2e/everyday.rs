//! What is done to containers that are there: `restart`, `rename`, `top`, `stats`, `wait`.

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

#[test]
fn an_ordinary_user_without_cgroups_is_told_why_nothing_is_paused() {
    let tenant = Tenant::new(Ids::Single);
    tenant.ctl(&["run", "-d", "--network", "none", "--name", "one", "guest", "/guest", "sleep", "300"]).ok();

    tenant.ctl(&["pause", "one"]).code(1).complains(&["container one has no cgroup"]);

    tenant.ctl(&["ps"]).ok().says(&["one", "Up "]);
    tenant.ctl(&["rm", "-f", "one"]).ok();
}

#[test]
fn top_shows_the_processes_with_their_numbers_on_the_host() {
    let house = House::with_guest();
    house.ctl(&["run", "-d", "--network", "none", "--name", "box", "guest", "/guest", "sleep", "300"]).ok();
    let pid = seen(&house, "box", "{{.State.Pid}}");
    house.ctl(&["exec", "-d", "box", "/guest", "sleep", "301"]).ok();
    house.ctl(&["pause", "box"]).ok();

    let shown = house.ctl(&["top", "box"]).ok();

    let words: Vec<Vec<&str>> = shown.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
    assert!(words.len() == 3 && words[1][1] == pid && words[1][7..] == ["/guest", "sleep", "300"], "{shown:?}");
    assert_eq!(words[2][7..], ["/guest", "sleep", "301"], "what was executed in it too");
    let columns = house.ctl(&["container", "top", "box", "-o", "pid,comm"]).ok();
    assert_eq!(columns.stdout.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(), ["PID", "COMMAND"]);
    house.ctl(&["top", "box", "-o", "comm"]).code(1).complains(&["column PID"]);
    house.ctl(&["rm", "-f", "box"]).ok();
    house.ctl(&["top", "box"]).code(1).complains(&["no such container: box"]);
}

#[test]
fn an_ordinary_user_sees_processes_too() {
    let tenant = Tenant::new(Ids::Single);
    tenant.ctl(&["run", "-d", "--network", "none", "--name", "one", "guest", "/guest", "sleep", "300"]).ok();

    tenant.ctl(&["top", "one"]).ok().says(&["/guest sleep 300"]);

    tenant.ctl(&["rm", "-f", "one"]).ok();
}

#[test]
fn stats_show_what_containers_use() {
    let house = House::with_guest();
    let spin = ["guest", "/guest", "spin", "300000"];
    house.ctl(&[&["run", "-d", "--network", "none", "--name", "busy", "-m", "64m"], &spin[..]].concat()).ok();
    house.ctl(&["create", "--network", "none", "--name", "made", "guest", "/guest", "noop"]).ok();

    let shown = house.ctl(&["stats", "--no-stream", "-a"]).ok();

    let lines: Vec<&str> = shown.stdout.lines().collect();
    let head = "CONTAINER ID   NAME   CPU %   MEM USAGE / LIMIT   MEM %   NET I/O   BLOCK I/O   PIDS";
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(lines[0]), words(head));
    let [busy, made] = lines[1..] else { panic!("{shown:?}") };
    assert!(busy.contains("busy") && busy.contains(" / 64MiB") && busy.contains("0B / 0B"), "{busy}");
    assert_eq!(words(made)[1..], words("made -- -- / -- -- -- / -- -- / -- --"));
    let one = house.ctl(&["stats", "--no-stream", "--format", "json", "busy"]).ok().json();
    let share: f64 = one["CPUPerc"].as_str().and_then(|text| text.strip_suffix('%')).unwrap().parse().unwrap();
    assert!(share > 5.0, "{one:#}");
    assert_eq!((&one["Name"], &one["Container"], &one["PIDs"]), (&"busy".into(), &"busy".into(), &"1".into()));
    house.ctl(&["container", "stats", "--no-stream", "absent"]).code(1).complains(&["no such container: absent"]);
    house.ctl(&["rm", "-f", "busy", "made"]).ok();
}

#[test]
fn stats_are_drawn_anew_until_they_are_interrupted() {
    let house = House::with_guest();
    house.ctl(&["run", "-d", "--network", "none", "--name", "box", "guest", "/guest", "sleep", "300"]).ok();

    let mut terminal = strata_tests::Terminal::run(&house.ctl_command(&["stats"]), 24, 120);

    terminal.wait_for("box");
    let before = terminal.shown().len();
    house.ctl(&["kill", "box"]).ok();
    terminal.wait_for_after(before, "\u{1b}[HCONTAINER ID");
    house.ctl(&["start", "box"]).ok();
    let before = terminal.shown().len();
    terminal.wait_for_after(before, "box");
    terminal.press("\u{3}");
    assert_eq!(terminal.finish(), 130);
    house.ctl(&["rm", "-f", "box"]).ok();
}

#[test]
fn wait_is_for_ends_of_this_run_or_the_next_or_for_the_removal() {
    let house = House::with_guest();
    let create = ["create", "--network", "none", "--name"];
    house.ctl(&[&create[..], &["three", "guest", "/guest", "exit", "3"]].concat()).ok();
    house.ctl(&[&create[..], &["four", "guest", "/guest", "exit", "4"]].concat()).ok();
    assert_eq!(house.ctl(&["wait", "three"]).ok().text(), "0", "it does not run");
    let next = house.ctl_running(&["wait", "--condition", "next-exit", "four", "three"]);
    let removed = house.ctl_running(&["container", "wait", "--condition", "removed", "three"]);
    std::thread::sleep(Duration::from_secs(1));

    house.ctl(&["start", "three"]).ok();
    house.ctl(&["wait", "three"]).ok().says(&["3"]);
    house.ctl(&["start", "four"]).ok();

    assert_eq!(next.finish().ok().text(), "4\n3", "in the order of the names");
    house.ctl(&["rm", "three"]).ok();
    assert_eq!(removed.finish().ok().text(), "3");
    let absent = house.ctl(&["wait", "three", "four"]).code(1);
    assert_eq!(absent.text(), "4");
    absent.complains(&["no such container: three"]);
    house.ctl(&["wait", "--condition", "bored", "four"]).code(125).complains(&["bored", "next-exit"]);
    house.ctl(&["rm", "four"]).ok();
}
