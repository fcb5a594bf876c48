//! `ctl logs`: what of a log is shown, how it is followed, how it is emptied.

use std::time::Duration;

use strata_tests::{House, eventually};

const SOON: Duration = Duration::from_secs(30);

/// Runs a container in the background; its id.
fn run(house: &House, name: &str, flags: &[&str], words: &[&str]) -> String {
    let run = ["run", "-d", "--name", name];
    house.ctl(&[&run[..], flags, &["guest", "/guest"], words].concat()).ok().text().to_owned()
}

fn logs(house: &House, flags: &[&str], name: &str) -> String {
    house.ctl(&[&["logs"], flags, &[name]].concat()).ok().stdout
}

#[test]
fn logs_are_cut_by_time_and_by_number_of_lines() {
    let house = House::with_guest();
    run(&house, "web", &[], &["tick", "5", "50"]);
    house.ctl(&["wait", "web"]).ok();
    let stamped = logs(&house, &["-t"], "web");
    let times: Vec<&str> = stamped.lines().map(|line| line.split_once(' ').unwrap().0).collect();
    let ticks = |range: std::ops::Range<u32>| range.map(|number| format!("tick {number}\n")).collect::<String>();

    assert_eq!(times.len(), 5, "{stamped}");
    assert_eq!(logs(&house, &["--since", times[2]], "web"), ticks(2..5), "that moment is meant too");
    assert_eq!(logs(&house, &["--until", times[2]], "web"), ticks(0..3), "that moment is meant too");
    assert_eq!(logs(&house, &["--since", times[1], "--until", times[3]], "web"), ticks(1..4));
    assert_eq!(logs(&house, &["--until", times[3], "-n", "2"], "web"), ticks(2..4));
    assert_eq!(logs(&house, &["--since", "1h", "--tail", "all"], "web"), ticks(0..5));
    assert_eq!(logs(&house, &["--since", "0s"], "web"), "");
    assert_eq!(logs(&house, &["--tail", "-1"], "web"), ticks(0..5));
    assert_eq!(logs(&house, &["-f", "--until", times[0]], "web"), ticks(0..1), "nothing is to be waited for");
    house.ctl(&["logs", "--since", "yesterday", "web"]).code(125).complains(&["--since", "yesterday", "42m"]);
    house.ctl(&["logs", "--tail", "some", "web"]).code(125).complains(&["--tail", "some"]);
}

#[test]
fn following_misses_and_repeats_nothing_while_files_rotate() {
    let house = House::with_guest();
    let flags = ["--log-opt", "max-size=2k", "--log-opt", "max-file=20"];
    let id = run(&house, "web", &flags, &["tick", "150", "10"]);

    let followed = house.ctl(&["logs", "-f", "web"]).ok();

    let expected: String = (0..150).map(|number| format!("tick {number}\n")).collect();
    assert_eq!(followed.stdout, expected);
    assert_eq!(logs(&house, &[], "web"), expected);
    let dir = house.root().join("runtime/containers").join(id);
    let older = (1..20).take_while(|number| dir.join(format!("log.json.{number}")).exists()).count();
    assert!(older >= 4, "{older} files were put aside");
    assert_eq!(logs(&house, &["--tail", "100"], "web").lines().next().unwrap(), "tick 50");
}

#[test]
fn following_goes_on_over_restarts_and_ends_with_a_stop() {
    let house = House::with_guest();
    run(&house, "web", &[], &["trap", "0", "SIGTERM"]);
    let mut followed = house.ctl_running(&["logs", "-f", "web"]);
    followed.wait_for("ready");

    house.ctl(&["restart", "web"]).ok();
    eventually("it is ready again", SOON, || followed.stdout().matches("ready").count() == 2);
    assert!(followed.is_running());
    house.ctl(&["stop", "web"]).ok();

    assert_eq!(followed.finish().ok().stdout, "ready\nSIGTERM\n".repeat(2));
    run(&house, "failing", &["--restart", "on-failure:2"], &["then", "echo", "run", "+", "exit", "3"]);
    assert_eq!(logs(&house, &["-f"], "failing"), "run\n".repeat(3));
}

#[test]
fn a_log_is_emptied_while_its_container_runs_and_when_it_does_not() {
    let house = House::with_guest();
    let flags = ["--log-opt", "max-size=1k", "--log-opt", "max-file=4"];
    let words = ["then", "spam", "200", "+", "await", "/go", "+", "echo", "after", "+", "sleep", "300"];
    let id = run(&house, "web", &flags, &words);
    eventually("it has written", SOON, || logs(&house, &[], "web").ends_with("line 199\n"));
    let mut followed = house.ctl_running(&["logs", "-f", "--tail", "1", "web"]);
    followed.wait_for("line 199");

    house.ctl(&["logs", "--clear", "web"]).ok();

    assert_eq!(logs(&house, &[], "web"), "");
    let dir = house.root().join("runtime/containers").join(&id);
    assert!(!dir.join("log.json.1").exists());
    house.ctl(&["exec", "web", "/guest", "write", "/go", ""]).ok();
    eventually("it goes on", SOON, || logs(&house, &[], "web") == "after\n");
    followed.wait_for("after");
    house.ctl(&["kill", "web"]).ok();
    assert_eq!(followed.finish().ok().stdout, "line 199\nafter\n");
    house.ctl(&["logs", "--clear", "web"]).ok();
    assert_eq!(logs(&house, &[], "web"), "");
    house.ctl(&["start", "web"]).ok();
    eventually("the next run is in it", SOON, || logs(&house, &[], "web").ends_with("after\n"));
    house.ctl(&["logs", "--clear", "-f", "web"]).fails().complains(&["--clear"]);
    house.ctl(&["logs", "--clear", "nobody"]).fails().complains(&["nobody"]);
}

#[test]
fn details_are_the_labels_variables_and_tag_that_were_named() {
    let house = House::with_guest();
    let flags = [
        "--label",
        "team=red",
        "--label",
        "other=1",
        "-e",
        "LEVEL=7",
        "-e",
        "SECRET=no",
        "--log-opt",
        "labels=team",
        "--log-opt",
        "env=LEVEL",
        "--log-opt",
        "tag={{.Name}} on {{.ImageName}}",
    ];
    run(&house, "web", &flags, &["echo", "hello"]);
    house.ctl(&["wait", "web"]).ok();

    let details = "LEVEL=7,tag=web+on+guest,team=red";
    assert_eq!(logs(&house, &["--details"], "web"), format!("{details} hello\n"));
    let stamped = logs(&house, &["--details", "-t"], "web");
    assert!(stamped.starts_with("20") && stamped.ends_with(&format!("Z {details} hello\n")), "{stamped}");
    assert_eq!(logs(&house, &[], "web"), "hello\n");
    let path = house.ctl(&["inspect", "-f", "{{.LogPath}}", "web"]).ok();
    let text = std::fs::read_to_string(path.text()).unwrap();
    let attributes = "\"attrs\":{\"LEVEL\":\"7\",\"tag\":\"web on guest\",\"team\":\"red\"}";
    assert!(text.starts_with("{\"log\":\"hello\\n\",\"stream\":\"stdout\"") && text.contains(attributes), "{text}");
}

#[test]
fn a_reader_that_stands_still_does_not_hold_the_container_up() {
    let house = House::with_guest();
    run(&house, "web", &[], &["then", "echo", "first", "+", "await", "/go", "+", "spam", "200000"]);
    let mut command = house.ctl_command(&["logs", "-f", "web"]);
    command.stdout(std::process::Stdio::piped());
    // Nobody reads the pipe.
    let mut still = command.spawn().unwrap();
    eventually("it has written", SOON, || logs(&house, &[], "web") == "first\n");

    house.ctl(&["exec", "web", "/guest", "write", "/go", ""]).ok();
    house.ctl(&["wait", "web"]).ok();

    assert!(logs(&house, &["--tail", "1"], "web").contains("line 199999"));
    still.kill().unwrap();
    still.wait().unwrap();
}
