//! Real programs of this host as hooks.

use super::*;
use std::fs;
use std::path::PathBuf;

fn shell(script: &str) -> Hook {
    let args = ["sh", "-c", script].map(Into::into).to_vec();
    Hook { path: "/bin/sh".into(), args, env: Vec::new(), timeout_seconds: Some(60) }
}

/// Runs the script as a hook and returns what it wrote to the file that it knows as `$OUT`.
fn written(script: &str, change: impl FnOnce(&mut Hook)) -> String {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let mut hook = shell(&script.replace("$OUT", out.to_str().unwrap()));
    change(&mut hook);

    run_hooks("hooks.createRuntime", &[hook], "{}").unwrap();

    fs::read_to_string(out).unwrap()
}

#[test]
fn the_state_gets_status_and_pid_whatever_else_it_has() {
    let case = |state: &str, status: &str, pid: u32, expected: &str| {
        assert_eq!(state_document(state, status, pid), expected, "{state}");
    };

    case("{}", "creating", 7, r#"{"status":"creating","pid":7}"#);
    case(r#"{"id":"x"}"#, "running", 7, r#"{"status":"running","pid":7,"id":"x"}"#);
    case(r#"{"id":"x"}"#, "stopped", 0, r#"{"status":"stopped","id":"x"}"#);
}

/// Row 35 (CVE-2025-23266).
#[test]
fn row_35_a_hook_has_its_own_environment_directory_and_descriptors_and_nothing_else() {
    let script = "{ /usr/bin/env; pwd; umask; echo $0; ls /proc/self/fd | wc -l; } > $OUT";

    let found = written(script, |hook| {
        hook.args.push("zero".into());
        hook.env = vec!["B=2".into(), "A=1".into()];
    });

    let lines: Vec<&str> = found.lines().filter(|line| !line.starts_with("PWD=") && !line.starts_with("_=")).collect();
    // 0, 1, 2, and that of `ls` itself.
    assert_eq!(lines, ["A=1", "B=2", "/", "0022", "zero", "4"], "{found}");
}

#[test]
fn a_hook_without_arguments_is_named_by_its_path() {
    let hook = Hook { path: "/bin/false".into(), args: Vec::new(), env: Vec::new(), timeout_seconds: None };

    let failure = run_hooks("hooks.poststop", &[hook], "{}").unwrap_err();

    assert_eq!(failure.to_string(), "cannot run hooks.poststop[0] /bin/false: it ended with status 1");
}

#[test]
fn a_hook_reads_the_state_to_its_end_or_leaves_it() {
    let state = format!(r#"{{"status":"creating","pid":1,"annotations":{{"long":"{}"}}}}"#, "x".repeat(300_000));
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let cat = shell(&format!("cat > {}", out.display()));

    run_hooks("hooks.createRuntime", &[shell(":"), cat], &state).unwrap();

    assert!(fs::read_to_string(out).unwrap() == state);
}

#[test]
fn the_first_hook_that_fails_ends_the_list_and_its_last_words_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let hooks = [shell("yes | head -c 200000; echo no luck >&2; exit 3"), shell(&format!("echo > {}", out.display()))];

    let failure = run_hooks("hooks.createRuntime", &hooks, "{}").unwrap_err();

    assert!(failure.to_string().starts_with("cannot run hooks.createRuntime[0] /bin/sh: it ended with status 3: "));
    assert!(failure.to_string().ends_with("y\nno luck") && failure.text.len() < 2 * TAIL_BYTES, "{failure}");
    assert!(!out.exists());
}

#[test]
fn a_hook_that_cannot_be_executed_says_why() {
    for (path, reason) in [("/nonexistent", "status 127: no such file"), ("/etc", "status 126: permission denied")] {
        let hook = Hook { path: path.into(), args: Vec::new(), env: Vec::new(), timeout_seconds: None };

        let failure = run_hooks("hooks.prestart", &[hook], "{}").unwrap_err();

        assert!(failure.text.contains(reason), "{failure}");
    }
}

#[test]
fn a_hook_that_a_signal_ends_has_failed() {
    let failure = run_hooks("hooks.prestart", &[shell("kill -9 $$")], "{}").unwrap_err();

    assert_eq!(failure.text, "signal 9 ended it");
}

#[test]
fn a_hook_that_hangs_is_killed_at_its_timeout_with_its_children() {
    let directory = tempfile::tempdir().unwrap();
    let pid_file: PathBuf = directory.path().join("pid");
    let mut hook = shell(&format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait", pid_file.display()));
    hook.timeout_seconds = Some(1);

    let failure = run_hooks("hooks.createRuntime", &[hook], "{}").unwrap_err();

    assert_eq!(failure.text, "it did not end in time, and was killed");
    let child: i32 = fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
    let child = Pid::from_raw(child).unwrap();
    // Killed, though whoever inherited it may not have reaped it yet.
    let is_alive = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.as_raw_nonzero())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    };
    for _ in 0..1000 {
        if !is_alive() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the child of the hook goes on");
}

#[test]
fn a_hook_that_leaves_a_child_with_its_output_is_not_waited_for() {
    let hook = shell("sleep 1000 & echo $!; exit 4");

    let failure = run_hooks("hooks.createRuntime", &[hook], "{}").unwrap_err();

    let child = failure.text.rsplit_once(": ").unwrap().1.parse().unwrap();
    rustix::process::kill_process(Pid::from_raw(child).unwrap(), Signal::KILL).unwrap();
    assert!(failure.text.starts_with("it ended with status 4"), "{failure}");
}

#[test]
fn a_hook_ends_when_who_ordered_it_goes_away() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(theirs);
    let orderer = Some(ours.as_fd());
    let occasion = Occasion { field: "hooks.createContainer", state: "{}", orderer, before: &|| Ok(()) };

    let failure = run_all(&[shell("sleep 1000")], &occasion).unwrap_err();

    assert_eq!(failure.text, "who ordered it went away");
}
