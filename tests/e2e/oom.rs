//! What the kernel kills for want of memory is said to have ended so, always, and nothing else is: five of each, or as
//! many as STRATA_OOMS says.

use std::time::Duration;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use strata_tests::{Dice, House, amount, eventually};

const SOON: Duration = Duration::from_secs(30);
/// Ways to end so.
const WAYS: u64 = 5;

fn rounds() -> u64 {
    amount("STRATA_OOMS", 5)
}

/// "137 true": exit code, and whether memory was the reason.
fn end(house: &House, name: &str) -> String {
    house.ctl(&["inspect", "-f", "{{.State.ExitCode}} {{.State.OOMKilled}}", name]).ok().text().to_owned()
}

#[test]
fn whoever_is_killed_for_want_of_memory_is_said_to_be() {
    let house = House::with_guest();
    let hog = ["guest", "/guest", "memhog", "200"];
    let run =
        |flags: &[&str], words: &[&str]| house.ctl(&[&["run", "-m", "32m", "--name", "fat"], flags, words].concat());
    let mut dice = Dice::new(0x5eed_0005);
    let first = dice.roll(WAYS);

    for round in 0..rounds() {
        // Each of them in turn, and in a long run those with a crash seldom.
        let way = if round < WAYS || dice.roll(20) == 0 { (first + round) % WAYS } else { dice.roll(3) };
        match way {
            0 => drop(run(&[], &hog).code(137)),
            1 => drop(run(&["--init"], &hog).code(137)),
            2 => {
                run(&["-d", "-t"], &hog).ok();
                assert_eq!(house.ctl(&["wait", "fat"]).ok().text(), "137");
            }
            // While nobody but its monitor is there.
            3 => {
                run(&["-d"], &["guest", "/guest", "then", "await", "/go", "+", "memhog", "200"]).ok();
                house.ctl(&["exec", "-d", "fat", "/guest", "then", "sleep", "1", "+", "write", "/go", "x"]).ok();
                assert!(house.crash("runtime"));
                std::thread::sleep(Duration::from_secs(2));
                assert_eq!(house.ctl(&["wait", "fat"]).ok().text(), "137");
            }
            // A further process is killed; the first one goes on.
            _ => {
                run(&["-d"], &["guest", "/guest", "then", "await", "/go", "+", "exit", "5"]).ok();
                house.ctl(&["exec", "fat", "/guest", "memhog", "200"]).code(137);
                let told = || house.ctl(&["inspect", "-f", "{{.State.OOMKilled}}", "fat"]).ok().text() == "true";
                eventually("it is told before the end", SOON, told);
                house.ctl(&["exec", "fat", "/guest", "write", "/go", "x"]).ok();
                assert_eq!(house.ctl(&["wait", "fat"]).ok().text(), "5");
            }
        }
        let code = if way == 4 { 5 } else { 137 };
        assert_eq!(end(&house, "fat"), format!("{code} true"), "round {round}, way {way}");
        house.ctl(&["rm", "fat"]).ok();
    }
}

#[test]
fn whoever_ends_by_137_otherwise_is_not() {
    let house = House::with_guest();
    let run = |words: &[&str]| {
        let run = ["run", "-d", "-m", "32m", "--name", "thin", "guest", "/guest"];
        house.ctl(&[&run[..], words].concat()).ok();
    };
    let mut dice = Dice::new(0x5eed_0006);
    let ready = || eventually("it is ready", SOON, || house.ctl(&["logs", "thin"]).ok().stdout.contains("ready"));

    for round in 0..rounds() {
        // The last one writes much, so that in a long run it is seldom.
        let way = if round < WAYS || dice.roll(50) == 0 { round % WAYS } else { dice.roll(WAYS - 1) };
        match way {
            0 => run(&["exit", "137"]),
            1 => {
                run(&["stubborn"]);
                ready();
                house.ctl(&["kill", "thin"]).ok();
            }
            2 => {
                run(&["stubborn"]);
                ready();
                house.ctl(&["stop", "-t", "0", "thin"]).ok();
            }
            3 => {
                run(&["stubborn"]);
                ready();
                let pid = house.ctl(&["inspect", "-f", "{{.State.Pid}}", "thin"]).ok();
                kill(Pid::from_raw(pid.text().parse().unwrap()), Signal::SIGKILL).unwrap();
            }
            // At its limit all the time: what a file system keeps of files is given back instead.
            _ => {
                run(&[
                    "then", "fill", "/bulk", "40000000", "+", "rm", "/bulk", "+", "echo", "ready", "+", "sleep", "3000",
                ]);
                ready();
                house.ctl(&["kill", "thin"]).ok();
            }
        }
        assert_eq!(house.ctl(&["wait", "thin"]).ok().text(), "137");
        assert_eq!(end(&house, "thin"), "137 false", "round {round}, way {way}");
        house.ctl(&["rm", "thin"]).ok();
    }
}
