//! `-it`: a real terminal, with size, resize, Ctrl-C and job control.

use strata_tests::{House, Terminal};

#[test]
fn a_shell_on_a_terminal_has_size_signals_and_jobs() {
    let house = House::with_debian();
    let words = ["run", "-it", "--name", "shell", "--hostname", "box", "debian:bookworm", "bash", "--norc"];
    let mut terminal = Terminal::run(&house.ctl_command(&words), 33, 101);
    terminal.wait_for("# ");

    terminal.ask("stty size", "33 101");
    terminal.ask("echo $TERM-$((40+2))", "-42");
    terminal.ask("tty; test -t 0 && test -t 1 && echo is-a-$((1))-terminal", "is-a-1-terminal");
    terminal.resize(44, 132);
    terminal.ask("sleep 0.5; stty size", "44 132");
    let before = terminal.press("sleep 100\n");
    std::thread::sleep(std::time::Duration::from_millis(500));
    terminal.press("\u{3}");
    terminal.wait_for_after(before, "^C");
    terminal.ask("echo code-$?", "code-130");
    let before = terminal.press("sleep 100\n");
    std::thread::sleep(std::time::Duration::from_millis(500));
    terminal.press("\u{1a}");
    terminal.wait_for_after(before, "Stopped");
    terminal.ask("jobs", "[1]+");
    terminal.ask("kill %1; wait; echo gone-$((2))", "gone-2");
    terminal.ask("ls --color=always -d /tmp", "\u{1b}[");
    terminal.ask("echo note > /kept; cat /kept", "note");
    terminal.press("exit 5\n");
    assert_eq!(terminal.finish(), 5);

    let mut again = Terminal::run(&house.ctl_command(&["start", "-ai", "shell"]), 24, 80);
    again.press("\n");
    again.wait_for("# ");
    again.ask("cat /kept; echo and-$((3))", "and-3");
    assert!(again.shown().contains("note"), "{}", again.shown());
    again.press("exit\n");
    assert_eq!(again.finish(), 0);
    house.ctl(&["run", "--rm", "debian:bookworm", "test", "-e", "/kept"]).code(1);
}

#[test]
fn exec_has_a_terminal_too() {
    let house = House::with_guest();
    house.ctl(&["run", "-d", "--name", "box", "guest", "/guest", "sleep", "120"]).ok();

    let terminal = Terminal::run(&house.ctl_command(&["exec", "-it", "box", "/guest", "tty"]), 20, 60);

    terminal.wait_for("stdin true stdout true stderr true");
    terminal.wait_for("20 rows 60 columns");
    terminal.wait_for("/dev/pts/");
    assert_eq!(terminal.finish(), 0);
}

#[test]
fn without_t_there_is_no_terminal() {
    let house = House::with_guest();

    house.guest(&["tty"]).ok().says(&["stdin false stdout false stderr false"]);
    let detached = house.ctl(&["run", "-d", "-t", "guest", "/guest", "tty"]).ok();
    house.ctl(&["wait", detached.text()]).ok();
    house.ctl(&["logs", detached.text()]).ok().says(&["stdin true stdout true stderr true"]);
}

#[test]
fn a_terminal_where_there_is_none_is_an_error() {
    let house = House::with_guest();

    house.ctl(&["run", "--rm", "-it", "guest", "/guest", "tty"]).fails().complains(&["terminal"]);
}

#[test]
fn ctl_ends_with_its_terminal_and_the_container_stays() {
    let house = House::with_debian();
    let words = ["run", "-it", "--name", "left", "debian:bookworm", "bash", "--norc"];
    let terminal = Terminal::run(&house.ctl_command(&words), 24, 80);
    terminal.wait_for("# ");

    terminal.hang_up();

    assert_eq!(terminal.finish(), 129);
    assert_eq!(house.ctl(&["ps", "--format", "json"]).ok().stdout.lines().count(), 1);
    house.ctl(&["rm", "-f", "left"]).ok();
}

#[test]
fn three_interrupts_end_ctl_where_one_does_not_end_the_process() {
    let house = House::with_guest();
    let words = ["run", "--name", "deaf", "guest", "/guest", "sleep", "120"];
    let mut terminal = Terminal::run(&house.ctl_command(&words), 24, 80);
    strata_tests::eventually("it runs", std::time::Duration::from_secs(20), || {
        house.ctl(&["ps", "-q"]).ok().stdout.lines().count() == 1
    });
    std::thread::sleep(std::time::Duration::from_millis(300));

    for _ in 0..3 {
        terminal.press("\u{3}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }

    terminal.wait_for("goes on running");
    assert_eq!(terminal.finish(), 130);
    assert_eq!(house.ctl(&["ps", "-q"]).ok().stdout.lines().count(), 1);
    house.ctl(&["rm", "-f", "deaf"]).ok();
}

/// Keys that are typed one after the other, as a person does.
fn type_keys(terminal: &mut Terminal, keys: &[&str]) {
    for key in keys {
        terminal.press(key);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

fn is_running(house: &House, name: &str) -> bool {
    house.ctl(&["inspect", "-f", "{{.State.Running}}", name]).ok().text() == "true"
}

#[test]
fn a_shell_is_left_and_come_back_to() {
    let house = House::with_debian();
    let words = ["run", "-it", "--name", "shell", "debian:bookworm", "bash", "--norc"];
    let mut terminal = Terminal::run(&house.ctl_command(&words), 24, 80);
    terminal.wait_for("# ");
    terminal.ask("here=$((40+2))", "# ");

    type_keys(&mut terminal, &["\u{10}", "\u{11}"]);

    terminal.wait_for("read escape sequence");
    assert!(terminal.is_cooked());
    assert_eq!(terminal.finish(), 0);
    assert!(is_running(&house, "shell"));
    let mut again = Terminal::run(&house.ctl_command(&["attach", "--detach-keys", "ctrl-x,q", "shell"]), 30, 90);
    again.press("\n");
    again.wait_for("# ");
    again.ask("echo is-$here", "is-42");
    again.ask("stty size", "30 90");
    // What only begins the keys reaches the shell.
    again.press("cat -v\n");
    type_keys(&mut again, &["\u{18}", "\n"]);
    again.wait_for("^X");
    again.press("\u{3}");
    type_keys(&mut again, &["\u{18}", "q"]);
    assert_eq!(again.finish(), 0);
    let mut third = Terminal::run(&house.ctl_command(&["start", "-ai", "shell"]), 24, 80);
    third.press("\n");
    third.wait_for("# ");
    third.press("exit 7\n");
    assert_eq!(third.finish(), 7);
    house.ctl(&["attach", "--no-stdin", "shell"]).code(1).complains(&["is not running", "ctl start"]);
}

#[test]
fn an_exec_that_is_left_goes_on_and_its_keys_are_those_of_the_config() {
    let house = House::with_guest();
    house.ctl(&["run", "-d", "--name", "box", "guest", "/guest", "sleep", "300"]).ok();
    std::fs::create_dir_all(house.path("home/.docker")).unwrap();
    std::fs::write(house.path("home/.docker/config.json"), r#"{"detachKeys": "ctrl-e,e"}"#).unwrap();
    let words = ["exec", "-it", "box", "/guest", "then", "echo", "up", "+", "await", "/go", "+", "write", "/done", "x"];
    let mut terminal = Terminal::run(&house.ctl_command(&words), 24, 80);
    terminal.wait_for("up");

    type_keys(&mut terminal, &["\u{5}", "e"]);

    assert_eq!(terminal.finish(), 0);
    house.ctl(&["exec", "box", "/guest", "write", "/go", "x"]).ok();
    house.ctl(&["exec", "box", "/guest", "await", "/done"]).ok();
    let wrong = house.ctl(&["exec", "--detach-keys", "ctrl-p,escape", "box", "/guest", "noop"]).code(125);
    wrong.complains(&["--detach-keys", "\"escape\"", "ctrl-p,ctrl-q"]);
    house.ctl(&["rm", "-f", "box"]).ok();
}

#[test]
fn attach_shows_what_follows_passes_signals_and_ends_with_the_containers_code() {
    let house = House::with_guest();
    let trap = ["/guest", "trap", "9", "SIGUSR1", "SIGTERM"];
    house.ctl(&[&["run", "-d", "--name", "box", "guest"], &trap[..]].concat()).ok();
    let deaf = house.ctl_running(&["attach", "--sig-proxy=false", "--no-stdin", "box"]);
    let watcher = house.ctl_running(&["attach", "box"]);
    let other = house.ctl_running(&["container", "attach", "box"]);
    std::thread::sleep(std::time::Duration::from_secs(1));

    deaf.signal(nix::sys::signal::Signal::SIGTERM);
    deaf.finish().code(143);
    assert!(is_running(&house, "box"));
    watcher.signal(nix::sys::signal::Signal::SIGUSR1);

    watcher.finish().code(9).says(&["SIGUSR1"]);
    other.finish().code(9).says(&["SIGUSR1"]);
    house.ctl(&["rm", "box"]).ok();
}

#[test]
fn only_the_streams_that_are_named_are_attached() {
    let house = House::with_guest();
    let run = |flags: &[&str], words: &[&str], input: &[u8]| {
        house.ctl_with(&[&["run"], flags, &["guest", "/guest"], words].concat(), input)
    };

    let out = run(&["-a", "stdout"], &["say", "out", "err"], b"").ok();
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("out\n", ""));
    let err = run(&["--attach", "STDERR"], &["say", "out", "err"], b"").ok();
    assert_eq!((err.stdout.as_str(), err.stderr.as_str()), ("", "err\n"));
    let text = "a line of input\n".repeat(40_000);
    let fed = run(&["-i", "-a", "stdin", "--name", "fed"], &["cat"], text.as_bytes()).ok();
    assert_eq!(fed.text().len(), 64, "the id and nothing else");
    house.ctl(&["wait", "fed"]).ok().says(&["0"]);
    assert!(house.ctl(&["logs", "fed"]).ok().stdout == text);
    run(&["-d", "-a", "stdout"], &["noop"], b"").code(125).complains(&["-a and -d"]);
    run(&["-a", "stdlog"], &["noop"], b"").code(125).complains(&["stdlog", "stdout"]);
}
