//! How a process ended, told exactly: exit codes 0 to 255 and signals 1 to 64, in the foreground, in the background, of a
//! further process, on a terminal. A few of them, drawn anew in each run, or all with STRATA_CASES=all.

use std::{collections::BTreeSet, fs, time::Duration};

use strata_tests::{Dice, House, eventually, every_case};

const SOON: Duration = Duration::from_secs(30);
/// libc keeps them to itself: nothing that is made with it can wait for them.
const OF_LIBC: [u64; 2] = [32, 33];
/// KILL and STOP, which nobody can wait for.
const UNHEARD: [u64; 2] = [9, 19];
/// What ends no process that did not ask for it: CHLD, CONT, URG and WINCH do nothing, STOP, TSTP, TTIN and TTOU stop it.
const HARMLESS: [u64; 8] = [17, 18, 19, 20, 21, 22, 23, 28];

/// All of a range, or so many of them.
fn some(range: std::ops::Range<u64>, sample: u64) -> BTreeSet<u64> {
    if every_case() {
        return range.collect();
    }
    let seed = 0x5eed_0007 + u64::from(std::process::id());
    println!("seed {seed:#x}");
    let mut dice = Dice::new(seed);
    (0..sample).map(|_| range.start + dice.roll(range.end - range.start)).collect()
}

/// Runs the words in the background; what `wait` and the record say of their end.
fn in_background(house: &House, flags: &[&str], words: &[&str]) -> (String, String) {
    let id = house.ctl(&[&["run", "-d"], flags, words].concat()).ok();
    let waited = house.ctl(&["wait", id.text()]).ok().text().to_owned();
    let template = "{{.State.Status}} {{.State.ExitCode}}";
    let recorded = house.ctl(&["inspect", "-f", template, id.text()]).ok().text().to_owned();
    house.ctl(&["rm", id.text()]).ok();
    (waited, recorded)
}

#[test]
fn every_exit_code_is_told_exactly_in_every_mode() {
    let house = House::with_guest();
    house.ctl(&["run", "-d", "--name", "box", "guest", "/guest", "sleep", "3000"]).ok();

    for code in some(0..256, 3) {
        let (text, code) = (code.to_string(), code as i32);
        let words = ["guest", "/guest", "exit", &text];
        for flags in [&["--rm"][..], &["--rm", "--init"], &["--rm", "-t"]] {
            house.ctl(&[&["run"], flags, &words].concat()).code(code);
        }
        let told = in_background(&house, &[], &words);
        assert_eq!(told, (text.clone(), format!("exited {code}")), "in the background");
        for flags in [&[][..], &["-t"]] {
            house.ctl(&[&["exec"], flags, &["box", "/guest", "exit", &text]].concat()).code(code);
        }
    }

    house.ctl(&["rm", "-f", "box"]).ok();
}

#[test]
fn every_signal_that_ends_a_process_is_told_exactly_in_every_mode() {
    let house = House::with_debian();
    house.ctl(&["run", "-d", "--name", "box", "debian:bookworm", "sleep", "3000"]).ok();
    let signals: BTreeSet<u64> = some(1..65, 3).into_iter().filter(|number| !HARMLESS.contains(number)).collect();
    // One without a name is among them always.
    for number in signals.into_iter().chain([34]) {
        let (script, code) = (format!("kill -{number} $$; exit 98"), 128 + number as i32);
        let image = ["--ulimit", "core=0", "debian:bookworm", "sh", "-c", &script];
        // The first process of a pid namespace does not die of its own signals: one of the host's can, and a second one.
        for flags in [&["--rm", "--pid", "host"][..], &["--rm", "--init"], &["--rm", "-t", "--pid", "host"]] {
            house.ctl(&[&["run"], flags, &image].concat()).code(code);
        }
        let told = in_background(&house, &["--pid", "host"], &image);
        assert_eq!(told, (code.to_string(), format!("exited {code}")), "signal {number} in the background");
        let script = format!("ulimit -c 0; {script}");
        for flags in [&[][..], &["-t"]] {
            house.ctl(&[&["exec"], flags, &["box", "sh", "-c", &script]].concat()).code(code);
        }
    }

    house.ctl(&["rm", "-f", "box"]).ok();
}

#[test]
fn every_signal_reaches_the_process() {
    let house = House::with_guest();
    let run = ["run", "-d", "--name"];
    house.ctl(&[&run[..], &["bare", "guest", "/guest", "heed"]].concat()).ok();
    house.ctl(&[&run[..], &["second", "--init", "guest", "/guest", "heed"]].concat()).ok();
    house.ctl(&[&run[..], &["shown", "-t", "guest", "/guest", "heed"]].concat()).ok();
    let names = ["bare", "second", "shown"];
    let log = |name: &str| house.ctl(&["logs", name]).ok().stdout.replace('\r', "");
    names.iter().for_each(|name| eventually("it is ready", SOON, || log(name).contains("ready\n")));
    let passing = |number: &u64| !UNHEARD.contains(number) && !OF_LIBC.contains(number);
    let signals = some(1..65, 3).into_iter().chain([64]).filter(passing);
    let signals: BTreeSet<u64> = signals.collect();

    for name in names {
        for number in &signals {
            // The init hears of its own children by this one.
            if *number == 17 && name == "second" {
                continue;
            }
            house.ctl(&["kill", "-s", &number.to_string(), name]).ok();
            let words = format!("signal {number}\n");
            eventually(&format!("{name}: {}", words.trim()), SOON, || log(name).contains(&words));
        }
    }
    // Nor was there any that nobody sent.
    let heard: BTreeSet<u64> =
        log("bare").lines().filter_map(|line| line.strip_prefix("signal ")?.parse().ok()).collect();
    assert_eq!(heard, signals);
    house.ctl(&["kill", "-s", "STOP", "bare"]).ok();
    let pid = house.ctl(&["inspect", "-f", "{{.State.Pid}}", "bare"]).ok().text().to_owned();
    let state = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    eventually("it stands still", SOON, || state().rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')));
    house.ctl(&["kill", "-s", "CONT", "bare"]).ok();
    eventually("it goes on", SOON, || state().rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')));
    for name in names {
        house.ctl(&["kill", name]).ok();
        assert_eq!(house.ctl(&["wait", name]).ok().text(), "137", "{name}");
        house.ctl(&["rm", name]).ok();
    }
}
