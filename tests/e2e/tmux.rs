//! Sessions as a person has them, in tmux: shells that are resized, interrupted, left and come back to, a pager, an editor,
//! and `ctl ui`. What counts is what is on the screen.

use std::time::Duration;

use strata_tests::{House, Tmux, eventually};

const SOON: Duration = Duration::from_secs(60);

/// A house with Debian, `less` and vim in it, as "editors".
fn with_editors() -> House {
    let house = House::start();
    let tar = strata_tests::made(strata_tests::target().join("images/debian-services.tar"), "make services-base");
    house.ctl(&["import", tar.to_str().unwrap(), "editors"]).ok();
    house
}

fn is_running(house: &House, name: &str) -> bool {
    house.ctl(&["inspect", "-f", "{{.State.Running}}", name]).ok().text() == "true"
}

/// Waits until a program runs in a container.
fn runs(house: &House, name: &str, program: &str) {
    eventually(program, SOON, || house.ctl(&["top", name]).ok().stdout.contains(program));
}

/// Has the shell in the window wait until its terminal has this size.
fn has_size(tmux: &Tmux<'_>, rows: u16, columns: u16) {
    let line = format!("until test \"$(stty size)\" = '{rows} {columns}'; do sleep 0.1; done; echo {rows}-of-$((1))");
    tmux.run(&line, &format!("{rows}-of-1"));
}

/// The terminal of the shell outside edits lines, echoes and interrupts, as it did before.
fn is_sane(tmux: &Tmux<'_>) {
    tmux.run("stty -a | grep -c -e '-icanon' -e '-isig' -e '-echo '; echo sane-$((1))", "\n0\nsane-1");
}

/// Presses the keys that leave a container, one after the other, as a person does.
fn leave(tmux: &Tmux<'_>, keys: [&str; 2]) {
    keys.iter().for_each(|key| tmux.press(&[key]));
}

/// Has the shell in the window, which waits, show its prompt.
fn answers(tmux: &Tmux<'_>) {
    eventually("the shell answers", SOON, || {
        tmux.press(&["Enter"]);
        tmux.words().contains("bash-")
    });
}

#[test]
fn a_shell_in_tmux_has_the_size_of_its_window_and_is_interrupted() {
    let house = House::with_debian();
    let tmux = Tmux::start(&house, 30, 100);
    tmux.run("echo before-$((40+2))", "before-42");

    tmux.run("ctl run -it --name shell --hostname box debian:bookworm bash --norc", "bash-");
    tmux.run("stty size", "30 100");
    tmux.run("echo on-$(hostname)", "on-box");
    // More than the screen holds, and wider than it.
    tmux.run("seq -s, 300; seq 100; echo end-$((7*6))", "end-42");
    tmux.wait_until("the last of many lines", |screen| {
        screen.contains("99\n100\nend-42") && !screen.contains("before")
    });
    for (rows, columns) in [(20, 60), (45, 140)] {
        tmux.resize(rows, columns);
        has_size(&tmux, rows, columns);
    }
    tmux.line("sleep 1000");
    runs(&house, "shell", "sleep 1000");
    tmux.press(&["C-c"]);
    tmux.wait_for("^C");
    tmux.run("echo code-$?", "code-130");
    tmux.line("cat");
    runs(&house, "shell", "cat");
    tmux.press(&["C-d"]);
    tmux.run("echo code-$?", "code-0");
    tmux.line("exit 7");
    tmux.wait_for_prompt();
    tmux.run("echo of-the-container-$?", "of-the-container-7");

    is_sane(&tmux);
    tmux.write("echo waste");
    tmux.wait_for("host> echo waste");
    tmux.press(&["C-c"]);
    tmux.wait_until("a new line", |screen| screen.contains("echo waste^C"));
    tmux.wait_for_prompt();
    tmux.run("echo lines-$((3*3))", "lines-9");
    house.ctl(&["rm", "shell"]).ok();
}

#[test]
fn a_shell_in_tmux_is_left_by_its_keys_and_come_back_to_in_a_window_of_another_size() {
    let house = House::with_debian();
    let tmux = Tmux::start(&house, 30, 100);
    tmux.run("ctl run -it --name shell debian:bookworm bash --norc", "bash-");
    tmux.run("here=$((40+2)); echo set-$here", "set-42");

    leave(&tmux, ["C-p", "C-q"]);

    tmux.wait_for("read escape sequence");
    tmux.wait_for_prompt();
    tmux.run("echo outside-$((1+1))-$here", "outside-2-\n");
    is_sane(&tmux);
    assert!(is_running(&house, "shell"));
    tmux.resize(24, 80);
    tmux.run("clear; echo small-$((3+4))", "small-7");
    tmux.line("ctl attach --detach-keys ctrl-x,q shell");
    answers(&tmux);
    tmux.run("echo again-$here", "again-42");
    has_size(&tmux, 24, 80);
    // A second terminal beside the first: both see the same.
    let other = Tmux::start(&house, 24, 80);
    other.line("ctl attach shell");
    answers(&other);
    tmux.run("echo both-$((5*5))", "both-25");
    other.wait_for("both-25");
    leave(&other, ["C-p", "C-q"]);
    other.wait_for("read escape sequence");
    drop(other);
    tmux.run("echo still-$((6*6))", "still-36");
    leave(&tmux, ["C-x", "q"]);
    tmux.wait_for_prompt();
    assert!(is_running(&house, "shell"));
    let line = "ctl exec -it shell bash --norc -c 'echo exec-$((8*8))-$(stty size | tr \" \" x)'";
    tmux.run(line, "exec-64-24x80");
    house.ctl(&["rm", "-f", "shell"]).ok();
}

#[test]
fn a_pager_and_an_editor_have_the_whole_screen_and_give_it_back() {
    let house = with_editors();
    let tmux = Tmux::start(&house, 30, 100);
    tmux.run("ctl run -it --rm --name shell editors bash --norc", "bash-");
    tmux.run("seq -f 'number %.0f.' 500 > /numbers; echo before-$((40+2))", "before-42");

    tmux.line("less /numbers");
    tmux.wait_until("the first page", |screen| screen.starts_with("number 1.\n") && screen.contains("number 29.\n"));
    assert!(tmux.is_taken());
    tmux.press(&["Space"]);
    tmux.wait_until("the next page", |screen| screen.starts_with("number 30.\n"));
    tmux.resize(20, 80);
    tmux.wait_until("a smaller page", |screen| screen.contains("number 48.\n") && !screen.contains("number 49."));
    tmux.press(&["G"]);
    tmux.wait_until("the end", |screen| screen.contains("number 500.\n") && screen.contains("(END)"));
    tmux.line("?number 250");
    tmux.wait_until("what is searched", |screen| screen.contains("number 250.\n") && !screen.contains("number 500."));
    tmux.press(&["q"]);
    tmux.wait_for_screen(false);
    tmux.wait_until("what was there before", |screen| screen.contains("before-42") && !screen.contains("number 250."));

    tmux.line("vi /note");
    tmux.wait_for_screen(true);
    tmux.wait_until("an empty file", |screen| screen.contains("~\n~\n") && screen.contains("/note"));
    tmux.press(&["i"]);
    tmux.write("written in an editor");
    tmux.press(&["Enter"]);
    tmux.write("on two lines");
    tmux.press(&["Escape"]);
    tmux.wait_for("written in an editor\non two lines\n~");
    tmux.resize(30, 100);
    tmux.wait_until("more of it", |screen| screen.matches("~\n").count() > 20 && screen.contains("on two lines"));
    tmux.line(":wq");
    tmux.wait_for_screen(false);
    tmux.wait_for("before-42");
    let note = house.ctl(&["exec", "shell", "cat", "/note"]).ok();
    assert_eq!(note.stdout, "written in an editor\non two lines\n");
    tmux.line("exit");
    tmux.wait_for_prompt();
    tmux.run("echo outside-$((1+1))", "outside-2");
}

#[test]
fn the_view_of_everything_is_driven_by_keys_and_gives_the_screen_back() {
    let house = House::with_guest();
    for name in ["alpha", "beta"] {
        let words = ["then", "echo", "log", "of", name, "+", "sleep", "3600"];
        house.ctl(&[&["run", "-d", "--name", name, "guest", "/guest"], &words[..]].concat()).ok();
    }
    let tmux = Tmux::start(&house, 30, 120);
    tmux.run("echo before-$((40+2))", "before-42");

    tmux.line("ctl ui");
    tmux.wait_until("both containers", |screen| {
        screen.contains("alpha guest running") && screen.contains("beta guest running")
    });
    assert!(tmux.is_taken());
    // The first is selected; below is its log.
    tmux.wait_until("its log", |screen| screen.contains("p Top alpha") && screen.contains("log of alpha"));
    tmux.press(&["j"]);
    tmux.wait_until("the other log", |screen| {
        screen.contains("p Top beta") && screen.contains("log of beta") && !screen.contains("log of alpha")
    });
    tmux.press(&["Up"]);
    tmux.wait_for("log of alpha");
    tmux.press(&["/"]);
    tmux.write("bet");
    tmux.wait_until("the filter", |screen| screen.contains("log of beta") && !screen.contains("alpha guest"));
    tmux.press(&["Escape"]);
    tmux.wait_for("alpha guest running");
    // Into the log, over the whole screen, and out of it.
    tmux.press(&["g"]);
    tmux.wait_for("p Top alpha");
    tmux.press(&["Enter"]);
    tmux.press(&["Enter"]);
    tmux.wait_until("the log alone", |screen| screen.contains("log of alpha") && !screen.contains("beta guest"));
    tmux.press(&["Escape"]);
    tmux.wait_for("beta guest running");
    tmux.press(&["p"]);
    tmux.wait_for("/guest then echo log of alpha");
    tmux.press(&["2"]);
    tmux.wait_for("REPOSITORY");
    tmux.press(&["1"]);
    tmux.wait_for("beta guest running");
    tmux.resize(24, 90);
    // Its first line and its last are at the edges of the window again.
    tmux.wait_until("the other size", |screen| {
        let lines: Vec<&str> = screen.lines().collect();
        lines.len() == 24 && lines[0].contains("Containers") && !lines[23].is_empty()
    });
    tmux.wait_for("beta guest running");
    tmux.press(&["q"]);

    tmux.wait_for_screen(false);
    tmux.wait_until("what was there before", |screen| {
        screen.contains("before-42") && screen.contains("host> ctl ui") && !screen.contains("log of alpha")
    });
    tmux.wait_for_prompt();
    tmux.run("echo code-$?", "code-0");
    is_sane(&tmux);
    house.ctl(&["rm", "-f", "alpha", "beta"]).ok();
}
