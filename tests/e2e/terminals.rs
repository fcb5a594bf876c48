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
