//! What commands about registries show on a terminal, and what they ask there.

use std::sync::atomic::{AtomicUsize, Ordering};

use strata_tests::{Answer, DockerRegistry, FaultyRegistry, House, Part, Tar, Terminal};

/// Runs a command on a terminal that understands escapes.
fn on_terminal(house: &House, args: &[&str], columns: u16) -> Terminal {
    let mut command = house.ctl_command(args);
    command.env("TERM", "xterm-256color");
    Terminal::run(&command, 24, columns)
}

/// What was written between escapes and line ends.
fn pieces(shown: &str) -> Vec<&str> {
    let pieces = shown.split("\u{1b}[J").flat_map(|part| part.split(['\n', '\r', '\u{1b}']));
    pieces.collect()
}

#[test]
fn a_pull_redraws_a_bar_within_the_width_of_the_terminal() {
    let layer = Tar::of_guest().bytes();
    let (half, times) = (layer.len() / 2, AtomicUsize::new(0));
    // The first answer stops at the half, so that there is something to look at.
    let registry = FaultyRegistry::start(layer, move |asked, answer| match asked.part {
        Some(Part::Layer) if times.fetch_add(1, Ordering::SeqCst) == 0 => Answer { stall: Some(half), ..answer },
        _ => answer,
    });
    let house = House::start();
    house.configure("[registries]\nidle_seconds = 2\nbackoff_milliseconds = 1\n");

    let terminal = on_terminal(&house, &["pull", &registry.image()], 70);

    terminal.wait_for("1: Pulling from team/app");
    terminal.wait_for("Downloading [");
    terminal.wait_for("Pull complete");
    terminal.wait_for("Status: Downloaded newer image");
    let shown = terminal.shown();
    assert_eq!(terminal.finish(), 0);
    assert!(shown.contains("\u{1b}[1A\u{1b}[J"), "lines are redrawn in place: {shown:?}");
    let longest = pieces(&shown)
        .into_iter()
        .filter(|piece| piece.contains("Downloading"))
        .map(|piece| piece.chars().count())
        .max();
    assert!(longest.is_some_and(|longest| longest <= 70), "{longest:?}");
    let quiet = on_terminal(&house, &["pull", "-q", &registry.image()], 70);
    quiet.wait_for(&registry.image());
    let shown = quiet.shown();
    assert_eq!(quiet.finish(), 0);
    assert!(!shown.contains('\u{1b}') && !shown.contains("Pulling"), "{shown:?}");
}

#[test]
fn a_push_shows_each_layer_once_at_its_end() {
    let registry = DockerRegistry::open();
    let house = House::with_guest();
    let name = registry.image("team/guest:1");
    house.ctl(&["tag", "guest", &name]).ok();

    let terminal = on_terminal(&house, &["push", &name], 100);

    terminal.wait_for("The push refers to repository");
    terminal.wait_for(": Pushed");
    terminal.wait_for("digest: sha256:");
    let shown = terminal.shown();
    assert_eq!(terminal.finish(), 0);
    let last = shown.rsplit("\u{1b}[J").next().unwrap();
    assert_eq!(last.matches("Pushed").count(), 1, "{shown:?}");
    let piped = house.ctl(&["push", &name]).ok();
    assert!(!piped.stdout.contains('\u{1b}'), "{piped:?}");
}

#[test]
fn login_asks_and_shows_no_password() {
    let registry = DockerRegistry::closed();
    let house = House::start();
    let host = registry.host();
    let mut terminal = on_terminal(&house, &["login", &host], 100);

    terminal.wait_for(&format!("Username for {host}: "));
    terminal.press(&format!("{}\n", DockerRegistry::USER));
    terminal.wait_for("Password: ");
    terminal.press(&format!("{}\n", DockerRegistry::PASSWORD));
    terminal.wait_for("Login Succeeded");

    let shown = terminal.shown();
    assert!(shown.contains(DockerRegistry::USER) && !shown.contains("horse"), "{shown:?}");
    assert!(terminal.is_cooked(), "the terminal echoes again");
    assert_eq!(terminal.finish(), 0);
    // What is kept is tried without a question.
    let again = on_terminal(&house, &["login", &host], 100);
    again.wait_for("Login Succeeded");
    assert!(!again.shown().contains("Password"));
    assert_eq!(again.finish(), 0);
}

#[test]
fn a_wrong_password_is_refused_and_a_prompt_that_is_left_gives_the_terminal_back() {
    let registry = DockerRegistry::closed();
    let house = House::start();
    let host = registry.host();

    let mut wrong = on_terminal(&house, &["login", "-u", DockerRegistry::USER, &host], 100);
    wrong.wait_for("Password: ");
    wrong.press("wrong battery\n");
    wrong.wait_for("does not accept the credentials");
    assert!(!wrong.shown().contains("battery"), "{}", wrong.shown());
    assert_eq!(wrong.finish(), 1);
    let mut left = on_terminal(&house, &["login", "-u", DockerRegistry::USER, &host], 100);
    left.wait_for("Password: ");
    assert!(!left.is_cooked(), "nothing is echoed while a password is typed");
    left.press("half a pass\u{3}");
    let mut cooked = false;
    strata_tests::eventually("the terminal echoes again", std::time::Duration::from_secs(10), || {
        cooked = left.is_cooked();
        cooked
    });
    assert!(!left.shown().contains("half"), "{}", left.shown());
    assert_eq!(left.finish(), 130);
    assert!(!house.path("home/.docker/config.json").exists(), "nothing was kept");
}

#[test]
fn without_a_terminal_nobody_is_asked() {
    let registry = DockerRegistry::closed();
    let house = House::start();
    let host = registry.host();

    house.ctl_with(&["login", &host], b"me\npassword\n").code(125).complains(&["no terminal", "--password-stdin"]);
    house.ctl_with(&["login", "-u", "me", &host], b"password\n").code(125).complains(&["--password-stdin"]);
    house.ctl_with(&["login", "--password-stdin", &host], b"password\n").code(125).complains(&["--username"]);
    house
        .ctl_with(&["login", "-u", "me", "--password-stdin", &host], b"\n")
        .code(125)
        .complains(&["must not be empty"]);
    let both = ["login", "-u", "me", "-p", "x", "--password-stdin", &host];
    house.ctl_with(&both, b"x").code(125).complains(&["--password"]);
}
