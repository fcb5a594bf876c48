//! The engine is killed: what it was making ends with it, what it had made goes on, and `delete --force` finds both.

use std::{fs, os::unix::process::ExitStatusExt, path::Path, process::Stdio};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};

use crate::bundle::Bundle;

/// Kills the engine once `is_there` says that it has come so far.
fn kill_when(bundle: &Bundle, command: &str, is_there: impl Fn() -> bool) {
    let mut engine = bundle.command();
    engine.args([command, "--bundle", bundle.dir(), "c"]);
    let mut engine = engine.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    bundle.wait_until("the moment to kill", is_there);
    engine.kill().unwrap();
    engine.wait().unwrap();
}

fn assert_delete_leaves_nothing(bundle: &Bundle) {
    bundle.strata(&["delete", "--force", "c"]).unwrap();
    assert_eq!(fs::read_dir(bundle.path("state")).unwrap().count(), 0);
    assert_eq!(bundle.cgroups(), 0);
}

/// A process that is there, and no zombie of somebody's.
fn is_alive(pid: u64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let is_zombie = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']));
    test_kill_process(Pid::from_raw(pid as i32).unwrap()).is_ok() && !is_zombie
}

/// As with runc and crun: a container belongs to nobody's foreground, and goes on when `run` is killed.
#[test]
fn a_container_outlives_a_killed_run_and_can_be_used_and_deleted() {
    let bundle = Bundle::new("touch /begun; exec sleep 1000", |_| {});

    kill_when(&bundle, "run", || bundle.path("rootfs/begun").exists());

    assert_eq!(bundle.status(), "running");
    assert_eq!(bundle.strata(&["exec", "c", "/bin/sh", "-c", "echo fine"]).unwrap(), "fine\n");
    assert_delete_leaves_nothing(&bundle);
}

/// A hook that says who it is and whose, and hangs.
fn hook(bundle: &Bundle) -> Value {
    let script =
        format!("cat >{0}/document; echo $$ >{0}/hook.new; mv {0}/hook.new {0}/hook; exec sleep 1000", bundle.dir());
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
}

/// The engine is killed while a hook hangs: the hook ends, and the process that waits for it.
#[test]
fn a_create_that_is_killed_takes_its_hook_and_its_process_along() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let bundle = Bundle::new("exec sleep 1000", |_| {}).edit(|spec, bundle| {
            spec["hooks"] = json!({kind: hook(bundle)});
        });
        let number = |text: String| -> u64 { text.trim().parse().unwrap() };

        kill_when(&bundle, "create", || bundle.path("hook").exists());

        let document: Value = serde_json::from_slice(&fs::read(bundle.path("document")).unwrap()).unwrap();
        let hook = number(fs::read_to_string(bundle.path("hook")).unwrap());
        // A hook inside sees its own id and the container's as they are inside: its cgroup has the host's.
        let all =
            if kind == "createContainer" { in_cgroup(&bundle) } else { vec![hook, document["pid"].as_u64().unwrap()] };
        bundle.wait_until("the end of hook and process", || !all.iter().any(|pid| is_alive(*pid)));
        assert_eq!(bundle.status(), "stopped", "{kind}");
        assert_delete_leaves_nothing(&bundle);
    }
}

fn in_cgroup(bundle: &Bundle) -> Vec<u64> {
    let name = format!("strata-cli-{}/x/cgroup.procs", bundle.id());
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path().join(&name));
    let texts =
        hierarchies.chain([Path::new("/sys/fs/cgroup").join(&name)]).filter_map(|path| fs::read_to_string(path).ok());
    texts.flat_map(|text| text.lines().map(|line| line.parse().unwrap()).collect::<Vec<_>>()).collect()
}

/// A stopped engine is in nobody's way: `delete --force` ends it with what it made so far.
#[test]
fn a_create_that_is_stopped_can_be_deleted_under_its_hands() {
    let bundle = Bundle::new("exec sleep 1000", |_| {}).edit(|spec, bundle| {
        spec["hooks"] = json!({"createRuntime": hook(bundle)});
    });
    let mut engine = bundle.command();
    engine.args(["create", "--bundle", bundle.dir(), "c"]);
    let mut engine = engine.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    bundle.wait_until("the hook", || bundle.path("hook").exists());
    let hook: u64 = fs::read_to_string(bundle.path("hook")).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(engine.id() as i32).unwrap(), Signal::STOP).unwrap();

    assert_eq!(bundle.status(), "creating");
    assert_delete_leaves_nothing(&bundle);

    assert_eq!(engine.wait().unwrap().signal(), Some(9));
    bundle.wait_until("the end of the hook", || !is_alive(hook));
}

/// Spec: runtime.md, Create: a maker that is killed leaves no process, and what it left can be deleted
#[test]
fn a_killed_create_leaves_nothing_that_delete_does_not_find() {
    for delay in 0..12 {
        let bundle = Bundle::new("exec sleep 100", |_| {});
        let mut command = bundle.command();
        command.args(["create", "--bundle", bundle.dir(), "c"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay * 2));
        let _ = child.kill();
        child.wait().unwrap();

        bundle.strata(&["delete", "--force", "c"]).unwrap();

        assert_eq!(fs::read_dir(bundle.path("state")).map_or(0, Iterator::count), 0, "{delay}");
        assert_eq!(bundle.cgroups(), 0, "{delay}");
    }
}
