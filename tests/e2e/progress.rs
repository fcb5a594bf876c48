//! How a build shows itself: on a terminal, line by line, as JSON, or not at all; and how it is given up.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use strata_tests::{Context, House, Terminal, eventually};

const SLEEPS: &str = "FROM guest\nRUN [\"/guest\", \"then\", \"echo\", \"it works\", \"+\", \"sleep\", \"300\"]\n";

/// Runs a command on a terminal that understands escapes.
fn on_terminal(house: &House, args: &[&str], (rows, columns): (u16, u16)) -> Terminal {
    let mut command = house.ctl_command(args);
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
    Terminal::run(&command, rows, columns)
}

#[test]
fn a_terminal_shows_steps_their_times_and_their_output_and_keeps_the_end() {
    let house = House::with_guest();
    let context = Context::new(
        "FROM guest\nCOPY words.txt /\nRUN [\"/guest\", \"then\", \"echo\", \"it works\", \"+\", \"sleep\", \"2\"]\n",
    )
    .file("words.txt", "words");

    let terminal = on_terminal(&house, &["build", "-t", "app", context.arg()], (24, 80));

    terminal.wait_for("[+] Building ");
    terminal.wait_for("=> [3/3] RUN");
    terminal.wait_for("=> => # it works");
    terminal.resize(30, 60);
    terminal.wait_for("FINISHED");
    terminal.wait_for("named app:latest");
    let shown = terminal.shown();
    assert_eq!(terminal.finish(), 0);
    let last = shown.rsplit("[+] Building").next().unwrap();
    for words in [
        "[internal] load build definition from Dockerfile",
        "transferring dockerfile:",
        "[internal] load .dockerignore",
        "[internal] load build context",
        "transferring context: 5B",
        "[1/3] FROM guest",
        "[2/3] COPY words.txt /",
        "exporting to image",
        "=> naming to docker.io/library/app:latest",
    ] {
        assert!(last.contains(words), "{words:?} in {last:?}");
    }
    assert!(!last.contains("# it works"), "output of steps that went well does not stay: {last:?}");
    assert!(last.contains("\u{1b}[34m"), "what is done is blue: {last:?}");
    assert!(shown.ends_with("\r\n") && shown.matches("\u{1b}[?25l").count() == shown.matches("\u{1b}[?25h").count());

    let again = on_terminal(&house, &["build", "-t", "app", context.arg()], (24, 80));
    again.wait_for("CACHED [3/3] RUN");
    assert_eq!(again.finish(), 0);
}

#[test]
fn a_failure_on_a_terminal_shows_what_the_step_printed_and_where_it_stands() {
    let house = House::with_guest();
    let context =
        Context::new("FROM guest\nRUN [\"/guest\", \"then\", \"echo\", \"a clue\", \"+\", \"exit\", \"7\"]\n");

    let terminal = on_terminal(&house, &["build", context.arg()], (24, 120));

    terminal.wait_for("ERROR [2/2] RUN");
    terminal.wait_for("exit code: 7");
    let shown = terminal.shown();
    assert_eq!(terminal.finish(), 1);
    let end = shown.rsplit("------\r\n > [2/2] RUN").next().unwrap();
    assert!(end.contains(" a clue\r\n------"), "{end:?}");
    assert!(end.contains("Dockerfile:2:1") && end.contains("^^^"), "{end:?}");
}

#[test]
fn ctrl_c_gives_a_build_up_and_leaves_nothing() {
    let house = House::with_guest();
    let context = Context::new(SLEEPS);
    let mut terminal = on_terminal(&house, &["build", "-t", "never", context.arg()], (24, 80));
    terminal.wait_for("=> => # it works");

    terminal.press("\u{3}");

    terminal.wait_for("CANCELED [2/2] RUN");
    assert_eq!(terminal.finish(), 130);
    eventually("no container is left", Duration::from_secs(20), || house.ctl(&["ps", "-aq"]).ok().stdout.is_empty());
    assert_eq!(house.ctl(&["images", "-q", "never"]).ok().stdout, "");
    house.verify();
}

#[test]
fn a_build_that_is_terminated_ends_like_that() {
    let house = House::with_guest();
    let context = Context::new(SLEEPS);
    let mut build = house.ctl_running(&["build", "--progress", "plain", context.arg()]);
    build.wait_for("it works");

    build.signal(Signal::SIGTERM);

    let ended = build.finish();
    assert_eq!(ended.code, 143, "{ended:?}");
    assert!(ended.stderr.contains("CANCELED"), "{ended:?}");
    eventually("no container is left", Duration::from_secs(20), || house.ctl(&["ps", "-aq"]).ok().stdout.is_empty());
}

#[test]
fn raw_json_is_one_object_per_line_that_names_every_step() {
    let house = House::with_guest();
    let context =
        Context::new("FROM guest\nRUN [\"/guest\", \"echo\", \"hello\"]\nCOPY words.txt /\n").file("words.txt", "w");

    let built = house.ctl(&["build", "--progress", "rawjson", "-t", "app", context.arg()]).ok();

    assert_eq!(built.stdout, "");
    let objects: Vec<Value> = built.stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let all = |kind: &str| -> Vec<Value> {
        objects.iter().filter_map(|object| object[kind].as_array()).flatten().cloned().collect()
    };
    let vertexes = all("vertexes");
    let digest = |words: &str| {
        let vertex = vertexes.iter().find(|vertex| vertex["name"].as_str().unwrap().contains(words));
        vertex.unwrap_or_else(|| panic!("{words} in {vertexes:#?}"))["digest"].clone()
    };
    for words in ["load build definition", "load .dockerignore", "load build context", "FROM guest", "RUN", "exporting"]
    {
        let digest = digest(words);
        assert!(digest.as_str().unwrap().starts_with("sha256:"), "{digest}");
        let ended = vertexes.iter().any(|vertex| vertex["digest"] == digest && vertex["completed"].is_string());
        assert!(ended, "{words} ends in {vertexes:#?}");
    }
    let logs = all("logs");
    assert!(logs.iter().any(|log| log["data"] == "aGVsbG8K" && log["vertex"] == digest("RUN")), "{logs:#?}");
    let inputs =
        vertexes.iter().find(|vertex| vertex["name"].as_str().unwrap().contains("COPY") && vertex["inputs"].is_array());
    assert_eq!(inputs.expect("the COPY builds on something")["inputs"][0], digest("RUN"));
    let statuses = all("statuses");
    assert!(statuses.iter().any(|status| status["id"] == "transferring context:"), "{statuses:#?}");
}

#[test]
fn a_quiet_build_prints_the_id_and_what_a_failed_step_printed() {
    let mut house = House::with_guest();
    let good = Context::new("FROM guest\nRUN [\"/guest\", \"echo\", \"noise\"]\n");
    let bad = Context::new("FROM guest\nRUN [\"/guest\", \"then\", \"echo\", \"a clue\", \"+\", \"exit\", \"7\"]\n");

    let quiet = house.ctl(&["build", "-q", "-t", "app", good.arg()]).ok();
    let none = house.ctl(&["build", "--progress", "none", good.arg()]).ok();
    let failed = house.ctl(&["build", "-q", bad.arg()]).code(1);
    house.ctl(&["build", "-q", "--progress", "plain", good.arg()]).code(125).complains(&["--quiet", "--progress"]);
    house.ctl(&["build", "--progress", "tty", good.arg()]).code(125).complains(&["terminal", "--progress plain"]);
    house.set("BUILDKIT_PROGRESS", "quiet");
    let by_environment = house.ctl(&["build", good.arg()]).ok();

    assert!(quiet.text().starts_with("sha256:") && quiet.stderr.is_empty(), "{quiet:?}");
    assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("", ""));
    assert!(failed.stdout.is_empty() && failed.stderr.contains("a clue") && failed.stderr.contains("exit code: 7"));
    assert_eq!(by_environment.text(), quiet.text());
}

#[test]
fn a_reader_that_does_not_read_holds_no_build_up() {
    let house = House::with_guest();
    let lines = "all work and no play ".repeat(200);
    let steps: String = (0..60).map(|n| format!("RUN [\"/guest\", \"echo\", \"{n} {lines}\"]\n")).collect();
    let context = Context::new(&format!("FROM guest\n{steps}"));
    let mut command = house.ctl_command(&["build", "--progress", "plain", "-t", "app", context.arg()]);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());

    // More than a pipe takes is written, and nobody reads.
    let mut build = command.spawn().unwrap();

    eventually("the image is there", Duration::from_secs(120), || {
        !house.ctl(&["images", "-q", "app"]).ok().stdout.is_empty()
    });
    build.kill().unwrap();
    build.wait().unwrap();
}

#[test]
fn output_that_floods_is_clipped_aloud_and_its_end_is_told() {
    let mut house = House::with_guest();
    house.set("BUILDKIT_STEP_LOG_MAX_SIZE", "102400");
    assert!(house.stop().is_empty(), "a builder with these limits starts anew");
    let text = format!("{}\n", "x".repeat(60_000)).repeat(12);
    let context = Context::new(
        "FROM guest\nCOPY text /\nRUN [\"/guest\", \"then\", \"read\", \"/text\", \"+\", \"echo\", \"end\"]\n",
    )
    .file("text", &text);

    let built = house.build(&context, "app").ok();

    let is_output = |line: &&str| line.split(' ').nth(2).is_some_and(|word| word.bytes().all(|byte| byte == b'x'));
    let told: usize = built.stderr.lines().filter(is_output).map(str::len).sum();
    assert!(built.stderr.contains("[output clipped, log limit 100KiB reached]"), "the limit is said");
    assert!(told < 400_000, "{told} of 720,000 bytes");
    assert!(built.stderr.lines().any(|line| line.starts_with('#') && line.ends_with(" end")), "the end is told");
}
