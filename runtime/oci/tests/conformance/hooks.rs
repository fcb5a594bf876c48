//! config.md, "POSIX-platform Hooks", and what runtime.md says of them.

use std::{fs, path::Path, process::Stdio, time::Duration};

use serde_json::{Value, json};

use crate::bundle::Bundle;

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook of the shell, with a name of its own and a variable.
fn hook(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["hook", "-c", script], "env": ["OWN=1"], "timeout": 60})
}

/// A bundle whose root can be written; `LOG` in a hook's script is a file of the root, inside and outside.
fn bundle(script: &str, hooks: &[(&str, Vec<String>)]) -> Bundle {
    let bundle = Bundle::new(script, |spec| {
        spec["root"]["readonly"] = json!(false);
        spec["annotations"] = json!({"org.example.key": "value"});
    });
    bundle.edit(|spec, bundle| {
        for (kind, scripts) in hooks {
            let outside = bundle.path("rootfs/log");
            let log = if *kind == "startContainer" { Path::new("/log") } else { &outside };
            let scripts = scripts.iter().map(|script| hook(&script.replace("LOG", log.to_str().unwrap())));
            spec["hooks"][kind] = scripts.collect();
        }
    })
}

fn log(bundle: &Bundle) -> String {
    fs::read_to_string(bundle.path("rootfs/log")).unwrap_or_default()
}

fn one(script: &str) -> Vec<String> {
    vec![script.to_owned()]
}

/// Whether a process is there and no zombie.
fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn wait_for_end(pid: &str) {
    for _ in 0..1000 {
        if !is_alive(pid) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("process {pid} goes on");
}

/// Spec: config.md, POSIX-platform Hooks: hooks are called in the listed order, with the state on standard input
#[test]
fn all_hooks_run_in_order_each_at_its_time_with_the_state() {
    let each = |kind: &str| {
        let line = |number| format!("{{ printf '{kind} {number} '; cat; echo; }} >> LOG");
        vec![line(0), line(1)]
    };
    let hooks: Vec<(&str, Vec<String>)> = KINDS.map(|kind| (kind, each(kind))).to_vec();
    let bundle = bundle("exec sleep 1000", &hooks);

    assert!(bundle.create(), "{}", fs::read_to_string(bundle.path("output")).unwrap());
    assert_eq!(log(&bundle).lines().count(), 6, "{}", log(&bundle));
    let pid = bundle.state()["pid"].clone();
    bundle.strata(&["start", "c"]).unwrap();
    assert_eq!(log(&bundle).lines().count(), 10, "{}", log(&bundle));
    bundle.strata(&["kill", "c", "KILL"]).unwrap();
    bundle.wait_for("stopped");
    bundle.strata(&["delete", "c"]).unwrap();

    let log = log(&bundle);
    let lines: Vec<Vec<&str>> = log.lines().map(|line| line.splitn(3, ' ').collect()).collect();
    let names: Vec<String> = lines.iter().map(|line| format!("{} {}", line[0], line[1])).collect();
    let expected: Vec<String> = KINDS.iter().flat_map(|kind| [format!("{kind} 0"), format!("{kind} 1")]).collect();
    assert_eq!(names, expected);
    for line in lines {
        let state: Value = serde_json::from_str(line[2]).unwrap();
        // Inside, the process is the first of its namespace.
        let (status, pid) = match line[0] {
            "prestart" | "createRuntime" => ("creating", pid.clone()),
            "createContainer" => ("creating", json!(1)),
            "startContainer" => ("created", json!(1)),
            "poststart" => ("running", pid.clone()),
            _ => ("stopped", Value::Null),
        };
        assert_eq!((&state["status"], &state["pid"]), (&json!(status), &pid), "{}", line[0]);
        assert_eq!((&state["id"], &state["bundle"]), (&json!("c"), &json!(bundle.dir())));
        assert_eq!(state["annotations"], json!({"org.example.key": "value"}));
        assert!(state["ociVersion"].is_string());
    }
}

/// Spec: config.md, POSIX-platform Hooks: each runs in the namespace it belongs to, and its path resolves there
#[test]
fn hooks_run_in_the_runtimes_or_the_containers_namespaces() {
    let look = "{ echo $(readlink /proc/self/ns/mnt /proc/self/ns/uts /proc/self/ns/net) \
        $(test -e BUNDLE/config.json && echo host) $(grep -c ' BUNDLE/rootfs/proc ' /proc/self/mountinfo); } >> LOG";
    let hooks: Vec<(&str, Vec<String>)> = KINDS.map(|kind| (kind, one(look))).to_vec();
    let script = "readlink /proc/self/ns/mnt /proc/self/ns/uts /proc/self/ns/net";
    let bundle = bundle(script, &hooks).edit(|spec, bundle| {
        let text = spec["hooks"].to_string().replace("BUNDLE", bundle.dir());
        spec["hooks"] = serde_json::from_str(&text).unwrap();
    });

    let inside = bundle.output().split_whitespace().collect::<Vec<_>>().join(" ");

    let outside = ["mnt", "uts", "net"].map(|kind| {
        let link = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        link.into_os_string().into_string().unwrap()
    });
    let outside = format!("{} host 0", outside.join(" "));
    let found = log(&bundle);
    let found: Vec<&str> = found.lines().collect();
    assert_eq!(found[..2], [outside.clone(), outside.clone()], "prestart, createRuntime");
    assert_eq!(found[2], format!("{inside} host 1"), "createContainer: host paths, the container's mounts in place");
    assert_eq!(found[3], format!("{inside} 0"), "startContainer");
    assert_eq!(found[4..], [outside.clone(), outside], "poststart, poststop");
}

/// Rows 34 (CVE-2026-57231) and 35 (CVE-2025-23266).
#[test]
fn row_34_35_cve_2025_23266_hooks_have_neither_the_images_environment_nor_the_hosts_and_stand_outside_the_root() {
    let script = "cat /proc/self/environ >> LOG; echo >> LOG";
    let hooks: Vec<(&str, Vec<String>)> = KINDS.map(|kind| (kind, one(script))).to_vec();
    let bundle = bundle("cat /proc/self/environ", &hooks).edit(|spec, _| {
        let image = ["LD_PRELOAD=/evil.so", "LD_AUDIT=/evil.so", "GCONV_PATH=/evil", "PATH=/bin:/usr/bin", "FOO=bar"];
        spec["process"]["env"] = json!(image);
        spec["process"]["args"] = json!(["/bin/cat", "/proc/self/environ"]);
    });

    let mut command = bundle.command();
    command.args(["run", "--bundle", bundle.dir(), "c"]).env("CANARY_HOST", "1");
    let output = command.output().unwrap();

    assert!(output.status.success(), "{output:?}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("CANARY"), "{output:?}");
    let log = log(&bundle);
    assert_eq!(log.lines().count(), 6);
    for line in log.lines() {
        // PWD is the shell's own word for where it is.
        let mut found: Vec<&str> = line.split('\0').filter(|entry| !entry.is_empty()).collect();
        found.sort_unstable();
        assert_eq!(found, ["OWN=1", "PWD=/"]);
    }
}

/// Spec: config.md, POSIX-platform Hooks: args are those of execv, the name of the program among them
#[test]
fn the_first_argument_is_the_name_and_a_path_is_all_that_a_hook_needs() {
    let bundle = bundle("true", &[("createRuntime", one("echo $0 > LOG"))]).edit(|spec, _| {
        spec["hooks"]["createRuntime"][0]["args"].as_array_mut().unwrap().push(json!("zero"));
        spec["hooks"]["prestart"] = json!([{"path": "/bin/true"}]);
    });

    bundle.output();

    assert_eq!(log(&bundle), "zero\n");
}

/// Spec: runtime.md, Lifecycle: a prestart, createRuntime or createContainer hook that fails undoes create, and the
/// poststop hooks run
#[test]
fn a_hook_of_create_that_fails_is_an_error_and_leaves_nothing_but_what_poststop_did() {
    for kind in &KINDS[..3] {
        let failing = vec!["exit 0".to_owned(), "echo no luck >&2; exit 3".to_owned(), "echo third >> LOG".to_owned()];
        let bundle = bundle("echo process", &[(kind, failing), ("poststop", one("echo poststop >> LOG"))]);

        let error = bundle.refused();

        let expected = format!("cannot run hooks.{kind}[1] /bin/sh: it ended with status 3: no luck");
        assert!(error.contains(&expected), "{error}");
        assert_eq!(log(&bundle), "poststop\n", "{kind}");
        assert!(bundle.strata(&["state", "c"]).is_err());
    }
}

/// Spec: runtime.md, Lifecycle: a startContainer or poststart hook that fails stops and destroys the container, and the
/// poststop hooks run
#[test]
fn a_hook_of_start_that_fails_destroys_the_container() {
    for kind in ["startContainer", "poststart"] {
        let hooks = [(kind, one("echo no luck >&2; exit 3")), ("poststop", one("echo poststop >> LOG"))];
        let bundle = bundle("exec sleep 1000", &hooks);
        assert!(bundle.create(), "{}", fs::read_to_string(bundle.path("output")).unwrap());
        let pid = bundle.state()["pid"].to_string();

        let error = bundle.strata(&["start", "c"]).unwrap_err();

        let expected = format!("cannot run hooks.{kind}[0] /bin/sh: it ended with status 3: no luck");
        assert!(error.contains(&expected), "{error}");
        assert!(bundle.strata(&["state", "c"]).unwrap_err().contains("does not exist"), "{kind}");
        assert!(!is_alive(&pid), "{kind}");
        assert_eq!((bundle.cgroups(), log(&bundle).as_str()), (0, "poststop\n"), "{kind}");

        assert!(bundle.refused().contains(&expected), "{kind} of run");
        assert_eq!(log(&bundle), "poststop\npoststop\n", "{kind} of run");
    }
}

/// Spec: runtime.md, Lifecycle: a poststop hook that fails is a warning, and the remaining hooks run
#[test]
fn a_poststop_hook_that_fails_is_a_warning() {
    let bundle = bundle("exit 7", &[("poststop", vec!["exit 3".to_owned(), "echo second >> LOG".to_owned()])]);

    let output = bundle.run();

    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("warning: cannot run hooks.poststop[0] /bin/sh: it ended with status 3"), "{error}");
    assert_eq!(log(&bundle), "second\n");
    assert!(bundle.strata(&["state", "c"]).is_err());
}

/// Spec: config.md, POSIX-platform Hooks: a hook is aborted after its timeout
#[test]
fn a_hook_that_hangs_is_killed_at_its_timeout_with_what_it_started() {
    for kind in &KINDS[..5] {
        // Ids inside are not those outside: what it started is found by the time it sleeps.
        let seconds = 100_000 + std::process::id();
        let bundle = bundle("exec sleep 1000", &[(kind, one(&format!("sleep {seconds} & wait")))])
            .edit(|spec, _| spec["hooks"][kind][0]["timeout"] = json!(1));

        let error = bundle.refused();

        assert!(error.contains(&format!("hooks.{kind}[0] /bin/sh: it did not end in time, and was killed")), "{error}");
        let argument = format!("sleep\0{seconds}\0");
        let is_it = |entry: &fs::DirEntry| {
            fs::read(entry.path().join("cmdline")).is_ok_and(|found| found == argument.as_bytes())
        };
        for entry in fs::read_dir("/proc").unwrap().flatten().filter(is_it) {
            wait_for_end(entry.file_name().to_str().unwrap());
        }
    }
}

/// Spec: runtime.md, Lifecycle: later changes of config.json do not affect the container
#[test]
fn hooks_are_those_that_config_json_had_at_create() {
    let hooks = ["poststart", "poststop"].map(|kind| (kind, one("echo old >> LOG")));
    let bundle = bundle("exec sleep 1000", &hooks);
    assert!(bundle.create());
    let bundle = bundle.edit(|spec, bundle| {
        let new = hook(&format!("echo new >> {}", bundle.path("rootfs/log").display()));
        spec["hooks"] = json!({"poststart": [new], "poststop": [new]});
    });

    bundle.strata(&["start", "c"]).unwrap();
    bundle.strata(&["delete", "--force", "c"]).unwrap();

    assert_eq!(log(&bundle), "old\nold\n");
}

/// Nothing of the image is executed with rights of the host.
#[test]
fn start_container_hooks_have_the_rights_of_the_process() {
    let look = "{ id -u; id -g; grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; } >> LOG";
    let bundle = bundle(&look.replace("LOG", "/log"), &[("startContainer", one(look))]).edit(|spec, bundle| {
        spec["process"]["user"] = json!({"uid": 1000, "gid": 1001});
        spec["process"]["noNewPrivileges"] = json!(true);
        fs::write(bundle.path("rootfs/log"), "").unwrap();
        std::os::unix::fs::chown(bundle.path("rootfs/log"), Some(1000), Some(1001)).unwrap();
    });

    bundle.output();

    let log = log(&bundle);
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 12, "{log}");
    assert_eq!(lines[..6], lines[6..], "the hook and the process differ");
    assert_eq!(lines[..2], ["1000", "1001"]);
}

/// A killed maker leaves no hook behind, and what it left can be deleted.
#[test]
fn a_hook_ends_with_the_engine_that_runs_it() {
    for kind in ["createRuntime", "createContainer"] {
        let bundle = bundle("true", &[(kind, one("readlink /proc/self > LOG; exec sleep 1000"))]).edit(|spec, _| {
            // So that ids inside are those outside.
            let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|one| one["type"] != "pid");
        });
        let mut command = bundle.command();
        command.args(["create", "--bundle", bundle.dir(), "c"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut engine = command.spawn().unwrap();
        for _ in 0..1000 {
            if log(&bundle).ends_with('\n') {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // readlink was a child of the hook's shell, which sleeps now: its parent is found by its command line.
        let sleeper = sleeper_below(engine.id());

        engine.kill().unwrap();
        engine.wait().unwrap();

        wait_for_end(&sleeper);
        bundle.strata(&["delete", "--force", "c"]).unwrap();
        assert_eq!(bundle.cgroups(), 0, "{kind}");
    }
}

/// The descendant of a process that executes `sleep 1000`.
fn sleeper_below(ancestor: u32) -> String {
    for _ in 0..1000 {
        let mut found = vec![ancestor.to_string()];
        while let Some(pid) = found.pop() {
            if fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x001000\0") {
                return pid;
            }
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            found.extend(children.split_whitespace().map(str::to_owned));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the hook does not run");
}
