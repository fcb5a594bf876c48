//! runtime.md: the operations and the life of a container.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::json;

use crate::bundle::Bundle;

/// Spec: runtime.md, Run: the output and the exit status are the container's
#[test]
fn run_gives_the_containers_output_and_status_and_leaves_nothing() {
    let script = "echo pid $$; read name value rest < /proc/self/status; echo $name; exit 7";
    let bundle = Bundle::new(script, |_| {});

    let output = bundle.run();

    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "pid 1\nName:\n");
    assert_eq!(fs::read_dir(bundle.path("state")).unwrap().count(), 0);
    assert_eq!(bundle.cgroups(), 0);
}

/// Spec: runtime.md, Lifecycle: created, running and stopped, and what each of them allows
#[test]
fn a_container_goes_from_created_through_running_to_stopped_and_away() {
    let bundle = Bundle::new("echo started; exec sleep 100", |_| {});

    assert!(bundle.create(), "{}", fs::read_to_string(bundle.path("output")).unwrap());
    assert_eq!(bundle.status(), "created");
    assert_eq!(fs::read_to_string(bundle.path("output")).unwrap(), "", "nothing runs before start");
    assert!(bundle.cgroups() >= 1);
    assert!(!bundle.create(), "a name is used once");

    bundle.strata(&["start", "c"]).unwrap();
    assert_eq!(bundle.status(), "running");
    assert!(bundle.strata(&["start", "c"]).unwrap_err().contains("not in state created"));
    assert!(bundle.strata(&["delete", "c"]).unwrap_err().contains("is not stopped"));

    bundle.strata(&["kill", "c", "KILL"]).unwrap();
    bundle.wait_for("stopped");
    assert!(bundle.strata(&["kill", "c"]).unwrap_err().contains("is not running"));
    bundle.strata(&["delete", "c"]).unwrap();
    assert!(bundle.strata(&["state", "c"]).unwrap_err().contains("does not exist"));
    assert_eq!(bundle.cgroups(), 0);
}

/// Spec: runtime.md, Delete: all that create made is removed
#[test]
fn a_created_container_can_be_deleted_by_force() {
    let bundle = Bundle::new("true", |_| {});
    assert!(bundle.create());

    bundle.strata(&["delete", "--force", "c"]).unwrap();
    bundle.strata(&["delete", "--force", "c"]).unwrap();

    assert_eq!(bundle.cgroups(), 0);
}

/// Spec: config.md: a value that is not allowed is an error, and nothing is left
#[test]
fn a_bad_spec_is_refused_by_field_and_leaves_nothing() {
    let bundle = Bundle::new("true", |spec| spec["process"]["env"] = json!(["FOO"]));

    let error = bundle.refused();

    assert!(error.contains("process.env[0]: \"FOO\" is not of the form NAME=value"), "{error}");
}

/// Spec: runtime.md, Errors: an operation that is not there is an error
#[test]
fn commands_that_are_not_there_say_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_strata-oci")).args(["checkpoint", "x"]).output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "strata-oci: not available yet: checkpoint\n");
}

/// Spec: runtime.md, State: the state document has every field, and annotations are kept
#[test]
fn the_state_document_says_what_runc_says() {
    let bundle = Bundle::new("exec sleep 100", |spec| spec["annotations"] = json!({"a.b": "c"}));
    bundle.start();
    let comm = format!("/proc/{}/comm", bundle.state()["pid"]);
    // The shell becomes sleep.
    bundle.wait_until("sleep", || fs::read_to_string(&comm).unwrap() == "sleep\n");

    let state = bundle.state();

    assert_eq!(state["ociVersion"], "1.3.0");
    assert_eq!(state["id"], "c");
    assert_eq!(state["status"], "running");
    assert_eq!(state["bundle"], bundle.dir());
    assert_eq!(state["rootfs"], format!("{}/rootfs", bundle.dir()));
    assert_eq!(state["annotations"], json!({"a.b": "c"}));
    assert_eq!(state["owner"], "");
    let created = state["created"].as_str().unwrap();
    assert!(created.starts_with("20") && created.ends_with('Z') && created.len() == 30, "{created}");
}

/// Spec: runtime.md, Operations: an operation on a container that is not there is an error
#[test]
fn every_command_names_a_container_that_is_not_there() {
    let bundle = Bundle::new("true", |_| {});

    for command in ["state", "start", "kill", "delete", "pause", "resume", "ps", "update", "events"] {
        let output = bundle.call(&[command, "absent"]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("container absent does not exist"), "{command}");
    }
    assert_eq!(bundle.call(&["exec", "absent", "true"]).status.code(), Some(255));
}

/// Spec: runtime.md, Kill: a signal for a container that is neither created nor running is an error
#[test]
fn a_stopped_container_takes_no_signal_and_no_process() {
    let bundle = Bundle::new("true", |_| {});
    bundle.start();
    bundle.wait_for("stopped");

    // containerd looks for these words.
    assert!(bundle.strata(&["kill", "c"]).unwrap_err().contains("container not running"));
    assert!(bundle.strata(&["exec", "c", "true"]).unwrap_err().contains("it is stopped"));
    assert!(bundle.strata(&["pause", "c"]).unwrap_err().contains("it is stopped"));
    assert!(bundle.strata(&["update", "--pids-limit", "5", "c"]).unwrap_err().contains("it is stopped"));
    assert!(bundle.strata(&["start", "c"]).unwrap_err().contains("it is stopped"));
}

/// Spec: runtime.md, Kill: a created container takes signals too
#[test]
fn a_created_container_can_be_killed() {
    let bundle = Bundle::new("true", |_| {});
    assert!(bundle.create());

    bundle.strata(&["kill", "c", "SIGKILL"]).unwrap();

    bundle.wait_for("stopped");
    bundle.strata(&["delete", "c"]).unwrap();
}

/// Spec: runtime.md, Kill: the process gets the signal that was sent, real-time ones too
#[test]
fn kill_sends_the_signal_it_is_told() {
    let script = "trap 'echo got rt; exit 5' 37; trap 'echo got usr1' USR1; echo on; while :; do sleep 0.02; done";
    let bundle = Bundle::new(script, |_| {});
    bundle.start();
    bundle.wait_for_output("on\n");

    bundle.strata(&["kill", "c", "usr1"]).unwrap();
    bundle.wait_for_output("got usr1\n");
    bundle.strata(&["kill", "c", "SIGRTMIN+3"]).unwrap();

    bundle.wait_for_output("got rt\n");
    bundle.wait_for("stopped");
}

/// Spec: runtime.md, Kill: --all reaches every process of the container
#[test]
fn kill_all_reaches_every_process_also_without_a_pid_namespace() {
    let bundle = Bundle::new("sleep 100 & sleep 100 & wait", |spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid");
        spec["mounts"].as_array_mut().unwrap().retain(|one| one["type"] != "proc");
        spec["linux"].as_object_mut().unwrap().remove("maskedPaths");
        spec["linux"].as_object_mut().unwrap().remove("readonlyPaths");
    });
    bundle.start();
    bundle.wait_for_processes(3);

    bundle.strata(&["kill", "--all", "c", "KILL"]).unwrap();

    bundle.wait_for("stopped");
    bundle.wait_for_processes(0);
    bundle.strata(&["delete", "c"]).unwrap();
    assert_eq!(bundle.cgroups(), 0);
}

/// Spec: runtime.md, Exec: a further process has the namespaces, the cgroup, the filter and the capabilities of the first
#[test]
fn exec_joins_what_the_first_process_is_in() {
    let script = "exec sleep 100";
    let bundle = Bundle::new(script, |spec| spec["hostname"] = json!("inside"));
    bundle.start();
    let pid = bundle.state()["pid"].as_u64().unwrap();
    let look = "for one in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$one; done; cat /proc/self/status";

    let output = bundle.strata(&["exec", "c", "sh", "-c", look]).unwrap();

    let mut lines = output.lines();
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let own = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_eq!(lines.next(), own.to_str(), "{kind}");
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for name in ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb", "Seccomp", "NoNewPrivs"] {
        let line = |text: &str| text.lines().find(|line| line.starts_with(&format!("{name}:"))).map(str::to_owned);
        assert!(line(&status).is_some(), "{name}");
        assert_eq!(line(&output), line(&status));
    }
    assert_eq!(bundle.strata(&["exec", "c", "hostname"]).unwrap(), "inside\n");
    assert_eq!(bundle.strata(&["exec", "c", "cat", "/proc/self/cgroup"]).unwrap(), {
        bundle.strata(&["exec", "c", "cat", "/proc/1/cgroup"]).unwrap()
    });
}

/// Spec: runtime.md, Exec: options change the process, its status is the command's
#[test]
fn exec_takes_options_and_gives_the_status() {
    let bundle = Bundle::new("exec sleep 100", |_| {});
    bundle.start();
    let script = "echo $A $B; pwd; id -u; id -g; id -G; exit 9";

    let output = bundle.call(&[
        "exec", "--env", "A=1", "-e", "B=2", "--cwd", "/proc", "--user", "5:6", "-g", "7", "c", "sh", "-c", script,
    ]);

    assert_eq!(output.status.code(), Some(9), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..4], ["1 2", "/proc", "5", "6"]);
    assert!(lines[4].split(' ').any(|group| group == "7"), "{text}");
    assert_eq!(bundle.call(&["exec", "c", "sh", "-c", "kill -9 $$"]).status.code(), Some(137));
}

/// Spec: runtime.md, Exec: a program that cannot be executed is an error of exec, and leaves no process
#[test]
fn exec_of_what_is_not_there_fails_with_255_and_is_logged() {
    let bundle = Bundle::new("exec sleep 100", |_| {});
    bundle.start();
    let log = bundle.path("log");

    let mut command = bundle.command();
    command.arg("--log").arg(&log).args(["--log-format", "json", "exec", "c", "/absent"]);
    let output = command.output().unwrap();

    assert_eq!(output.status.code(), Some(255));
    let entry: serde_json::Value = serde_json::from_slice(&fs::read(log).unwrap()).unwrap();
    assert_eq!(entry["level"], "error");
    assert_eq!(entry["msg"], "cannot execute /absent: no such file or directory");
    assert!(entry["time"].as_str().unwrap().ends_with('Z'));
    bundle.wait_for_processes(1);
}

/// Spec: runtime.md, Exec: the process may come from a file, detached, with its id in the pid file
#[test]
fn exec_of_a_process_file_detaches_and_writes_the_pid_file() {
    let bundle = Bundle::new("exec sleep 100", |_| {});
    bundle.start();
    let process = json!({"args": ["sh", "-c", "echo $X > /tmp/done; exec sleep 90"], "cwd": "/", "env": ["X=y",
        "PATH=/bin:/usr/bin"], "user": {"uid": 0, "gid": 0}, "capabilities": {}});
    fs::write(bundle.path("process.json"), process.to_string()).unwrap();
    fs::create_dir_all(bundle.path("rootfs/tmp")).unwrap();
    let (file, pid_file) = (bundle.path("process.json"), bundle.path("pid"));

    let mut command = bundle.command();
    command.args(["exec", "--detach", "--process"]).arg(file).arg("--pid-file").arg(&pid_file).arg("c");
    assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());

    let pid: i32 = fs::read_to_string(pid_file).unwrap().parse().unwrap();
    let listed: Vec<i32> = serde_json::from_str(&bundle.strata(&["ps", "-f", "json", "c"]).unwrap()).unwrap();
    assert!(listed.contains(&pid) && listed.len() == 2, "{pid} {listed:?}");
    let table = bundle.strata(&["ps", "c"]).unwrap();
    assert!(table.contains("PID") && table.contains("sleep 90"), "{table}");
    bundle.wait_for_file("rootfs/tmp/done", "y\n");
}

/// Spec: runtime.md, Pause: a paused container stands still, and goes on when it is resumed
#[test]
fn a_paused_container_says_so_and_takes_no_exec() {
    let bundle = Bundle::new("exec sleep 100", |_| {});
    bundle.start();
    assert!(bundle.strata(&["resume", "c"]).unwrap_err().contains("it is running, not paused"));

    bundle.strata(&["pause", "c"]).unwrap();

    assert_eq!(bundle.status(), "paused");
    assert!(bundle.strata(&["exec", "c", "true"]).unwrap_err().contains("paused"));
    assert!(bundle.strata(&["pause", "c"]).unwrap_err().contains("it is paused"));
    assert!(bundle.strata(&["delete", "c"]).unwrap_err().contains("is not stopped"));
    bundle.strata(&["resume", "c"]).unwrap();
    assert_eq!(bundle.status(), "running");
    bundle.strata(&["exec", "c", "id"]).unwrap();
    bundle.strata(&["pause", "c"]).unwrap();
    bundle.strata(&["delete", "--force", "c"]).unwrap();
    assert_eq!(bundle.cgroups(), 0);
}

/// Spec: runtime.md, Update: limits change in the kernel, in the events and in the record
#[test]
fn update_changes_limits_and_events_show_them() {
    let bundle = Bundle::new("exec sleep 100", |_| {});
    bundle.start();
    let stats =
        || -> serde_json::Value { serde_json::from_str(&bundle.strata(&["events", "--stats", "c"]).unwrap()).unwrap() };
    assert_eq!(stats()["data"]["pids"]["limit"], 32);

    let mut command = bundle.command();
    command.args(["update", "--resources", "-", "c"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(br#"{"pids": {"limit": 17}, "memory": {"limit": null}}"#).unwrap();
    assert!(child.wait().unwrap().success());

    let document = stats();
    assert_eq!(document["type"], "stats");
    assert_eq!(document["id"], "c");
    assert_eq!(document["data"]["pids"], json!({"current": 1, "limit": 17}));
    assert!(document["data"]["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
    assert!(document["data"]["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    bundle.strata(&["update", "--pids-limit", "19", "c"]).unwrap();
    assert_eq!(stats()["data"]["pids"]["limit"], 19);
    assert!(bundle.strata(&["update", "--memory", "lots", "c"]).unwrap_err().contains("not a number of bytes"));
}

/// Spec: runtime.md, List: every container is listed, as a table, as names and as JSON
#[test]
fn list_shows_the_containers_of_the_root() {
    let bundle = Bundle::new("exec sleep 100", |_| {});
    assert_eq!(bundle.strata(&["list", "-f", "json"]).unwrap(), "[]\n");
    bundle.start();

    let list: serde_json::Value = serde_json::from_str(&bundle.strata(&["list", "-f", "json"]).unwrap()).unwrap();

    assert_eq!(list[0]["id"], "c");
    assert_eq!(list[0]["owner"], "root");
    assert_eq!(bundle.strata(&["list", "-q"]).unwrap(), "c\n");
    let table = bundle.strata(&["list"]).unwrap();
    assert!(table.starts_with("ID   PID") && table.contains("running"), "{table}");
}

/// Spec: runtime.md, Run: in the foreground signals go to the process
#[test]
fn run_forwards_signals() {
    let script = "trap 'exit 6' TERM; echo on; while :; do sleep 0.02; done";
    let bundle = Bundle::new(script, |_| {});
    let mut command = bundle.command();
    command.args(["run", "--bundle", bundle.dir(), "c"]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();

    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();

    assert_eq!(child.wait().unwrap().code(), Some(6));
    assert_eq!(bundle.cgroups(), 0);
}

/// Spec: runtime.md, Run: detached, the process goes on; kept, the stopped container stays
#[test]
fn run_detaches_and_keeps() {
    let bundle = Bundle::new("exit 3", |_| {});
    let output = bundle.call(&["run", "--keep", "--bundle", bundle.dir(), "c"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(bundle.status(), "stopped");
    bundle.strata(&["delete", "c"]).unwrap();

    let bundle = Bundle::new("exec sleep 100", |_| {});
    let mut command = bundle.command();
    command.args(["run", "--detach", "--bundle", bundle.dir(), "c"]).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().unwrap().success());
    assert_eq!(bundle.status(), "running");
}

/// Whenever the maker was killed: a cgroup that came under the name of the claimed one, and its processes, are others'.
#[test]
fn deleting_what_a_killed_maker_left_kills_nobody_in_a_cgroup_it_did_not_make() {
    for delay in 0..12 {
        let bundle = Bundle::new("exec sleep 100", |_| {});
        let mut command = bundle.command();
        command.args(["create", "--bundle", bundle.dir(), "c"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let record = bundle.path("state/c/state.json");
        while child.try_wait().unwrap().is_none() && !record.exists() {
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_micros(delay * 300));
        let _ = child.kill();
        child.wait().unwrap();
        if bundle.status() == "created" {
            // It was done; its cgroup ends with it, and somebody else takes the name.
            bundle.strata(&["kill", "c", "KILL"]).unwrap();
            bundle.wait_for("stopped");
        }
        let hierarchy =
            ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].into_iter().find(|path| Path::new(path).is_dir()).unwrap();
        let directory = Path::new(hierarchy).join(format!("strata-cli-{}/x", bundle.id()));
        bundle.wait_until("the end of what was made", || match fs::remove_dir(&directory) {
            Ok(()) => true,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        });
        fs::create_dir_all(&directory).unwrap();
        let mut other = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        fs::write(directory.join("cgroup.procs"), other.id().to_string()).unwrap();

        let deleted = bundle.strata(&["delete", "--force", "c"]);

        assert!(other.try_wait().unwrap().is_none(), "{delay}: it was killed");
        deleted.unwrap();
        assert!(directory.is_dir(), "{delay}");
        other.kill().unwrap();
        other.wait().unwrap();
        bundle.wait_until("an empty cgroup", || fs::remove_dir(&directory).is_ok());
        assert_eq!(bundle.cgroups(), 0, "{delay}");
    }
}

/// Spec: runtime.md, Create: only the descriptors that were asked for are inherited
#[test]
fn inherited_descriptors_are_kept_by_number_only() {
    let bundle = Bundle::new("ls /proc/self/fd", |_| {});
    let engine = env!("CARGO_BIN_EXE_strata-oci");
    let state = bundle.path("state");
    let run = |option: &str| {
        let script = format!(
            "exec 3</dev/null 4</dev/null; exec {engine} --root {} run {option} --bundle {} c",
            state.display(),
            bundle.dir()
        );
        Command::new("sh").args(["-c", &script]).output().unwrap()
    };

    // One more is that of the directory that ls reads.
    assert_eq!(String::from_utf8_lossy(&run("").stdout), "0\n1\n2\n3\n");
    assert_eq!(String::from_utf8_lossy(&run("--preserve-fds 2").stdout), "0\n1\n2\n3\n4\n5\n");
    let output = run("--preserve-fds 3");
    assert!(String::from_utf8_lossy(&output.stderr).contains("keep descriptor 5: it is not open"), "{output:?}");
}

/// Spec: runtime.md, Start: it is an error if there is no process; what has none can be made
#[test]
fn a_container_without_a_process_is_created_and_not_started() {
    let bundle = Bundle::new("", |spec| drop(spec.as_object_mut().unwrap().remove("process")));

    assert!(bundle.create());

    assert_eq!(bundle.status(), "created");
    assert!(bundle.strata(&["start", "c"]).unwrap_err().contains("process: its spec has none"));
    assert_eq!(bundle.status(), "created");
    bundle.strata(&["delete", "--force", "c"]).unwrap();
    assert!(bundle.refused().contains("process: a container needs one"), "run needs one");
}
