//! `ctl stop` comes back by its deadline whoever does not do his part: a process that is deaf, a monitor that stands still,
//! a reader that does not read, a host that is busy with 10 containers being made, or as many as STRATA_CONTAINERS says.
//! Meanwhile all others are answered.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use strata_tests::{House, Output, Running, amount, eventually};

const SOON: Duration = Duration::from_secs(30);
/// What a busy machine may take in addition to the second that a stop is given, and what no stop is to rely on.
const MARGIN: Duration = Duration::from_secs(15);

/// Runs a container in the background.
fn run(house: &House, name: &str, words: &[&str]) -> String {
    let run = ["run", "-d", "--name", name, "guest", "/guest"];
    house.ctl(&[&run[..], words].concat()).ok().text().to_owned()
}

fn seen(house: &House, name: &str, template: &str) -> String {
    house.ctl(&["inspect", "-f", template, name]).ok().text().to_owned()
}

/// Something that stands still until it is dropped.
struct Still(Pid);

impl Still {
    fn new(pid: i32) -> Self {
        kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("it lives");
        Self(Pid::from_raw(pid))
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        // It may have been killed as it stood.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// The monitor of a container, which stands still from now on.
fn still_monitor(house: &House, id: &str) -> Still {
    let record = house.root().join("runtime/containers").join(id).join("record.json");
    let record: serde_json::Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    let pid = record["state"]["running"]["monitor"]["pid"].as_i64().expect("it runs");
    Still::new(i32::try_from(pid).unwrap())
}

/// Insists that a stop came back in time, and that the container is stopped by it.
#[track_caller]
fn in_time(house: &House, name: &str, stopped: Output) {
    let stopped = stopped.ok();
    assert!(stopped.took < Duration::from_secs(1) + MARGIN, "{stopped:?}");
    assert_eq!(seen(house, name, "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
}

#[test]
fn a_process_that_ignores_every_signal_is_stopped_by_the_deadline() {
    let house = House::with_guest();
    run(&house, "deaf", &["stubborn"]);
    eventually("it is deaf", SOON, || house.ctl(&["logs", "deaf"]).ok().stdout.contains("ready"));

    let stopped = house.ctl(&["stop", "-t", "1", "deaf"]);

    assert!(stopped.took >= Duration::from_secs(1), "it has its second: {stopped:?}");
    in_time(&house, "deaf", stopped);
    house.ctl(&["rm", "deaf"]).ok();
}

#[test]
fn a_monitor_that_stands_still_keeps_nobody_from_stopping_and_removing() {
    let house = House::with_guest();
    for (name, is_restarted) in [("known", false), ("found", true)] {
        let id = run(&house, name, &["sleep", "3000"]);
        let _still = still_monitor(&house, &id);
        if is_restarted {
            // The next one has never heard of it.
            assert!(house.crash("runtime"));
        }
        house.ctl(&["ps"]).ok().says(&[name, "Up "]);

        in_time(&house, name, house.ctl(&["stop", "-t", "1", name]));

        house.ctl(&["rm", name]).ok();
        let id = run(&house, name, &["sleep", "3000"]);
        let _still = still_monitor(&house, &id);
        if is_restarted {
            assert!(house.crash("runtime"));
        }
        house.ctl(&["rm", "-f", name]).ok();
    }
}

/// Says a line, waits for a word, and says more than anybody has room for.
const LOUD: [&str; 9] = ["/guest", "then", "echo", "line", "+", "await", "/go", "+", "flood"];

/// Lets a container begin to say much, whose readers stand still, and waits until it says no more: all that lies between
/// it and them is full.
fn flood(house: &House, name: &str) {
    house.ctl(&["exec", name, "/guest", "write", "/go", ""]).ok();
    let last = || house.ctl(&["logs", "--tail", "1", name]).ok().stdout;
    eventually("the process waits for its reader", SOON, || {
        let before = last();
        thread::sleep(Duration::from_millis(300));
        before != "line\n" && before == last()
    });
}

#[test]
fn a_reader_that_stands_still_keeps_nobody_from_stopping() {
    let house = House::with_guest();
    let run = house.ctl_running(&[&["run", "--name", "loud", "guest"], &LOUD[..]].concat());
    eventually("it says something", SOON, || run.stdout().contains("line"));
    let attached = house.ctl_running(&["attach", "--no-stdin", "loud"]);
    let followed = house.ctl_running(&["logs", "-f", "loud"]);
    let executed = house.ctl_running(&[&["exec", "loud"], &LOUD[..]].concat());
    for reader in [&followed, &executed] {
        eventually("it is read", SOON, || reader.stdout().contains("line"));
    }
    let readers = [&run, &attached, &followed, &executed];
    let still: Vec<Still> = readers.iter().map(|reader| Still::new(reader.pid())).collect();
    flood(&house, "loud");

    in_time(&house, "loud", house.ctl(&["stop", "-t", "1", "loud"]));

    drop(still);
    let logged = house.ctl(&["logs", "loud"]).ok().stdout;
    for reader in [run, executed] {
        let read = reader.finish().code(137);
        assert!(read.stdout.starts_with("line"), "{} bytes", read.stdout.len());
    }
    // It is told that it was too slow, or of the end, or that it came too late.
    let slow = attached.finish().fails();
    let words = ["did not read", "not running"];
    assert!(slow.code == 137 || words.iter().any(|words| slow.stderr.contains(words)), "{}", slow.stderr);
    assert_eq!(followed.finish().ok().stdout, logged, "a log is there afterwards too");
    house.ctl(&["rm", "loud"]).ok();
}

/// Asks for the state of things until it is told to end; how long each answer took.
fn ask(house: &House, is_over: &AtomicBool) -> Vec<Duration> {
    let mut took = vec![];
    while !is_over.load(Ordering::Relaxed) {
        took.push(house.ctl(&["ps", "-a", "-q"]).ok().took);
        took.push(house.ctl(&["inspect", "-f", "{{.State.Status}}", "deaf0"]).ok().took);
    }
    took
}

#[test]
fn stops_are_in_time_and_others_are_answered_while_much_hangs_and_is_made() {
    let house = House::with_guest();
    let number = amount("STRATA_CONTAINERS", 10);
    let names = |kind: &str| (0..3).map(|n| format!("{kind}{n}")).collect::<Vec<_>>();
    for name in names("deaf") {
        run(&house, &name, &["stubborn"]);
    }
    let ids: Vec<String> = names("lone").iter().map(|name| run(&house, name, &["sleep", "3000"])).collect();
    let still: Vec<Still> = ids.iter().map(|id| still_monitor(&house, id)).collect();
    let loud = names("loud");
    let readers: Vec<Running> =
        loud.iter().map(|name| house.ctl_running(&[&["run", "--name", name, "guest"], &LOUD[..]].concat())).collect();
    readers.iter().for_each(|reader| eventually("it is read", SOON, || reader.stdout().contains("line")));
    let frozen: Vec<Still> = readers.iter().map(|reader| Still::new(reader.pid())).collect();
    loud.iter().for_each(|name| flood(&house, name));
    let is_over = AtomicBool::new(false);

    let mut answers = thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&house, &is_over));
        let making: Vec<Running> = (0..number)
            .map(|n| house.ctl_running(&["create", "--name", &format!("made{n}"), "guest", "/guest", "noop"]))
            .collect();
        let all = ["deaf", "lone", "loud"].map(names).concat();
        let stopping: Vec<Running> = all.iter().map(|name| house.ctl_running(&["stop", "-t", "1", name])).collect();
        for (name, stop) in all.iter().zip(stopping) {
            in_time(&house, name, stop.finish());
        }
        making.into_iter().for_each(|made| drop(made.finish().ok()));
        is_over.store(true, Ordering::Relaxed);
        asking.join().expect("every question is answered")
    });

    answers.sort();
    let slowest = answers[answers.len() * 99 / 100];
    println!("{} questions, p99 {slowest:?} with the start of ctl", answers.len());
    drop((still, frozen));
    readers.into_iter().for_each(|reader| drop(reader.finish().code(137)));
    assert!(house.crash("runtime"));
    let start = Instant::now();
    let all = house.ctl(&["ps", "-aq"]).ok();
    println!("a new runtime answers for {} containers after {:?}", all.stdout.lines().count(), start.elapsed());
    assert_eq!(all.stdout.lines().count() as u64, number + 9);
}
