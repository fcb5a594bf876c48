//! `ctl ui`: a view of what is there and what happens, on a real terminal.

use std::time::Duration;

use rustix::process::Signal;
use strata_tests::{House, Terminal, eventually};

/// What a program does that has the whole screen, and when it gives it back.
const TAKEN: &str = "\u{1b}[?1049h";
const GIVEN_BACK: &str = "\u{1b}[?1049l";

const PATIENCE: Duration = Duration::from_secs(30);

/// A container that writes "tick" and a number ten times a second, for a long time.
fn run(house: &House, name: &str) {
    house.ctl(&["run", "-d", "--name", name, "guest", "/guest", "tick", "100000", "100"]).ok();
}

fn view(house: &House) -> Terminal {
    let terminal = Terminal::run(&house.ctl_command(&["ui"]), 30, 110);
    terminal.wait_for("NAME");
    terminal
}

#[track_caller]
fn ended(terminal: Terminal, code: i32) {
    eventually("the screen is given back", PATIENCE, || terminal.shown().contains(GIVEN_BACK) && terminal.is_cooked());
    assert_eq!(terminal.finish(), code);
}

#[test]
fn what_happens_is_seen_and_what_is_seen_can_be_acted_on() {
    let house = House::with_guest();
    run(&house, "clock");
    let is_listed = |name: &str| house.ctl(&["ps", "-a"]).ok().stdout.contains(name);
    let mut terminal = view(&house);

    // Only what is new is written, word by word.
    terminal.wait_for("clock");
    terminal.wait_for("tick");
    assert!(!terminal.is_cooked() && terminal.shown().contains(TAKEN));
    run(&house, "later");
    terminal.wait_for("later");

    // The first is selected: it is killed and removed, after questions.
    let before = terminal.press("Ky");
    terminal.wait_for_after(before, "exited");
    terminal.press("Dn");
    house.ctl(&["ps", "-a"]).ok().says(&["clock", "Exited (137)"]);
    let before = terminal.press("Dy");
    eventually("it is removed", PATIENCE, || !is_listed("clock"));
    assert!(is_listed("later"));
    // It takes the place of the other, and is what is selected then.
    terminal.wait_for_after(before, "later");

    let before = terminal.shown().len();
    terminal.resize(15, 60);
    terminal.wait_for_after(before, "later");
    let before = terminal.press("\r");
    terminal.wait_for_after(before, "tick");
    terminal.press("q");
    ended(terminal, 0);
}

#[test]
fn a_service_that_goes_away_is_found_again() {
    let house = House::with_guest();
    run(&house, "tough");
    let mut terminal = view(&house);
    terminal.wait_for("tough");

    let before = terminal.shown().len();
    assert!(house.crash("runtime"));
    terminal.wait_for_after(before, "trying");
    run(&house, "younger");

    terminal.wait_for_after(before, "younger");
    terminal.press("q");
    ended(terminal, 0);
}

#[test]
fn a_shell_and_the_files_of_an_image_have_the_terminal_for_a_while() {
    let house = House::with_debian();
    house.ctl(&["run", "-d", "--name", "box", "debian:bookworm", "sleep", "600"]).ok();
    let mut terminal = view(&house);
    terminal.wait_for("box");

    let before = terminal.press("e");
    terminal.wait_for_after(before, "# ");
    terminal.ask("echo in-$((40+2))", "in-42");
    let before = terminal.press("exit\n");
    terminal.wait_for_after(before, TAKEN);
    // The first key is the view's again.
    let before = terminal.press("2");
    terminal.wait_for_after(before, "REPOSITORY");
    terminal.wait_for_after(before, "bookworm");
    let before = terminal.press("\r");
    terminal.wait_for_after(before, "Efficiency");
    let before = terminal.press("q");
    terminal.wait_for_after(before, "REPOSITORY");
    terminal.press("q");
    ended(terminal, 0);
}

#[test]
fn what_a_shell_complains_about_is_shown_and_the_view_goes_on() {
    let house = House::with_guest();
    run(&house, "bare");
    let mut terminal = view(&house);
    terminal.wait_for("bare");

    // There is no sh in it.
    let before = terminal.press("e");
    terminal.wait_for_after(before, TAKEN);
    terminal.wait_for_after(before, "Error:");
    terminal.press("q");
    ended(terminal, 0);
}

#[test]
fn the_terminal_is_given_back_on_interrupts_and_signals() {
    let house = House::with_guest();

    let mut interrupted = view(&house);
    interrupted.press("\u{3}");
    ended(interrupted, 0);
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let terminal = view(&house);
        terminal.signal(signal);
        ended(terminal, code);
    }
    // Ctrl-Z gives it back too, and takes it again.
    let mut stopped = view(&house);
    stopped.press("\u{1a}");
    eventually("the screen is given back", PATIENCE, || stopped.shown().contains(GIVEN_BACK) && stopped.is_cooked());
    let before = stopped.shown().len();
    stopped.signal(Signal::CONT);
    stopped.wait_for_after(before, "NAME");
    stopped.press("q");
    ended(stopped, 0);
}

#[test]
fn without_a_terminal_it_says_what_serves_instead() {
    let house = House::start();

    house.ctl(&["ui"]).code(125).complains(&["needs a terminal", "`ctl ps -a`", "`ctl logs`"]);
}
