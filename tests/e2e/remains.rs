//! What is left of containers that come and go while the services stay: nothing. 20 runs, 20 further processes and 10
//! starts that fail, or as STRATA_LEAKS says; and the services' memory stays what it was.

use std::{thread, time::Duration};

use strata_tests::{Context, Dice, House, World, amount, anonymous_memory, eventually};

const SOON: Duration = Duration::from_secs(30);
/// What a service may have more at the end, in KiB.
const GROWTH: u64 = 2 << 10;
/// The seed of the order of things.
const SEED: u64 = 0x5eed_0002;

/// Ways in which a container comes and goes.
const RUNS: u64 = 9;

fn run(house: &House, way: u64, dice: &mut Dice) {
    let noop = ["guest", "/guest", "noop"];
    let sleep = ["guest", "/guest", "sleep", "3000"];
    let run = |flags: &[&str], words: &[&str]| house.ctl(&[&["run"], flags, words].concat());
    match way {
        0 => drop(run(&["--rm", "--init"], &noop).ok()),
        1 => {
            run(&["-d", "--name", "one"], &noop).ok();
            house.ctl(&["wait", "one"]).ok();
            house.ctl(&["logs", "one"]).ok();
            house.ctl(&["rm", "one"]).ok();
        }
        2 => {
            house.ctl(&[&["create", "--name", "one"], &noop[..]].concat()).ok();
            house.ctl(&["rm", "one"]).ok();
        }
        3 => {
            run(&["-d", "--name", "one", "-m", "64m", "--restart", "always"], &sleep).ok();
            house.ctl(&["restart", "-t", "0", "one"]).ok();
            house.ctl(&["pause", "one"]).ok();
            house.ctl(&["rm", "-f", "one"]).ok();
        }
        4 => drop(run(&["--rm", "-t"], &["guest", "/guest", "tty"]).ok()),
        5 => drop(house.ctl_with(&["run", "--rm", "-i", "guest", "/guest", "cat"], &[b'x'; 100_000]).ok()),
        6 => {
            run(&["--rm", "-v", "data:/data", "--tmpfs", "/t"], &["guest", "/guest", "write", "/data/x", "y"]).ok();
            house.ctl(&["volume", "rm", "data"]).ok();
        }
        7 => {
            // There is no shell to check with: that is a process that fails.
            let check = ["--health-cmd", "true", "--health-interval", "100ms", "--health-retries", "1"];
            run(&[&["-d", "--name", "one"], &check[..]].concat(), &sleep).ok();
            house.ctl(&["cp", "one:/etc/passwd", "-"]).ok();
            house.ctl(&["stop", "-t", "0", "one"]).ok();
            house.ctl(&["rm", "one"]).ok();
        }
        // Its caller is killed some time after it began. One that was started ends by itself and goes; one that was only
        // made stays, as in Docker.
        _ => {
            let running = house.ctl_running(&["run", "--rm", "--name", "lost", "guest", "/guest", "sleep", "0.1"]);
            thread::sleep(Duration::from_millis(dice.roll(200)));
            drop(running);
            let state = || house.ctl(&["ps", "-a", "-f", "name=lost", "--format", "{{.State}}"]).ok().text().to_owned();
            eventually("it is gone, or was never started", SOON, || ["", "created"].contains(&state().as_str()));
            // It may be on its way to its start yet.
            house.ctl(&["rm", "-f", "lost"]);
            eventually("it is gone", SOON, || state().is_empty());
        }
    }
}

/// Ways in which a further process comes and goes.
const EXECS: u64 = 6;

fn exec(house: &House, way: u64, dice: &mut Dice) {
    match way {
        0 => drop(house.ctl(&["exec", "box", "/guest", "noop"]).ok()),
        1 => drop(house.ctl(&["exec", "-t", "box", "/guest", "exit", "3"]).code(3)),
        2 => drop(house.ctl_with(&["exec", "-i", "box", "/guest", "cat"], b"some words").ok()),
        3 => drop(house.ctl(&["exec", "-d", "box", "/guest", "noop"]).ok()),
        4 => drop(house.ctl(&["exec", "box", "/no-such-program"]).code(127)),
        // The process goes with its caller.
        _ => {
            let running = house.ctl_running(&["exec", "box", "/guest", "sleep", "3000"]);
            thread::sleep(Duration::from_millis(dice.roll(200)));
            drop(running);
        }
    }
}

/// Starts that fail, as early and as late as can be, with words of why.
const FAILURES: [(&[&str], &[&str], &str); 8] = [
    (&[], &["guest", "/no-such-program"], "/no-such-program"),
    (&[], &["guest", "/etc"], "/etc"),
    (&["-u", "nobody-here"], &["guest", "/guest", "noop"], "nobody-here"),
    (&["-w", "/etc/passwd/x"], &["guest", "/guest", "noop"], "/etc/passwd"),
    (&["--device", "/dev/no-such-device"], &["guest", "/guest", "noop"], "/dev/no-such-device"),
    (&["--sysctl", "net.ipv4.ip_forward=no-number"], &["guest", "/guest", "noop"], "ip_forward"),
    (&["--cpuset-cpus", "8191"], &["guest", "/guest", "noop"], "--cpuset-cpus"),
    (&["-v", "/dev/null:/etc/passwd/x"], &["guest", "/guest", "noop"], "/etc/passwd"),
];

fn fail(house: &House, way: usize) {
    let (flags, words, reason) = FAILURES[way];
    for (first, last) in [(&["run", "--rm"][..], &[][..]), (&["run", "--name", "one"], &["rm", "-f", "one"])] {
        house.ctl(&[first, flags, words].concat()).fails().complains(&[reason]);
        if !last.is_empty() {
            house.ctl(last);
        }
    }
}

/// One cycle of everything, `round` of `runs`.
fn cycle(house: &House, round: u64, runs: u64, dice: &mut Dice) {
    let way = if round < RUNS { round } else { dice.roll(RUNS) };
    run(house, way, dice);
    let way = if round < EXECS { round } else { dice.roll(EXECS) };
    exec(house, way, dice);
    let failures = (runs / 5).max(10);
    if round * failures / runs != (round + 1) * failures / runs {
        fail(house, (round * failures / runs) as usize % FAILURES.len());
    }
    if round % 20 == 5 {
        build(house);
    }
}

/// So that the builder has something to do as well: the same thing each time.
fn build(house: &House) {
    let context = Context::new("FROM guest\nRUN [\"/guest\", \"write\", \"/x\", \"kept\"]\n");
    house.build(&context, "app").ok();
}

#[test]
fn nothing_is_left_of_runs_further_processes_and_failed_starts() {
    let house = House::with_guest();
    let runs = amount("STRATA_LEAKS", 20);
    let mut dice = Dice::new(SEED);
    build(&house);
    (0..FAILURES.len()).for_each(|way| fail(&house, way));
    let empty = World::settled(&house);
    house.ctl(&["run", "-d", "--name", "box", "guest", "/guest", "sleep", "30000"]).ok();
    // What is allocated once, and by the first of its kind, is no leak.
    let warm_up = (runs / 10).max(RUNS + 1);
    (0..warm_up).for_each(|round| cycle(&house, round, warm_up, &mut dice));
    let world = World::settled(&house);
    let memory = anonymous_memory(&house);
    assert_eq!(memory.len(), 3, "{memory:?}");

    for round in 0..runs {
        cycle(&house, round, runs, &mut dice);
    }

    // What a killed caller asked for last may have come after all.
    house.ctl(&["rm", "-f", "lost"]).ok();
    world.has_not_grown(&house);
    for (service, (pid, after)) in anonymous_memory(&house) {
        let (same, before) = memory[&service];
        println!("{service}: {before} KiB before, {after} KiB after {runs} cycles");
        assert_eq!(pid, same, "{service} was started again: what it had is not known");
        assert!(after < before + GROWTH, "{service}: {before} KiB have become {after} KiB");
    }
    house.ctl(&["rm", "-f", "box"]).ok();
    empty.has_not_grown(&house);
    house.verify();
}
