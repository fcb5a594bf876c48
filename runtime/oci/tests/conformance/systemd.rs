//! `--systemd-cgroup` with a real systemd, on cgroup v2; and what a user gets whom it delegates cgroups to. In a guest:
//! `make test-systemd`. What needs no systemd of the host is in `scopes`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Once,
};

use serde_json::{Value, json};

use crate::{
    bundle::Bundle,
    rootless::{Rootless, USER},
};

/// A bundle with a scope of its own, in slices that are nobody else's.
pub fn bundle(script: &str, change: impl FnOnce(&mut Value)) -> Bundle {
    Bundle::new(script, change).edit(|spec, bundle| {
        spec["linux"]["cgroupsPath"] = json!(format!("strata-tests.slice:tests:{}", bundle.id()));
    })
}

pub fn unit(bundle: &Bundle) -> String {
    format!("tests-{}.scope", bundle.id())
}

fn directory(bundle: &Bundle) -> PathBuf {
    Path::new("/sys/fs/cgroup/strata.slice/strata-tests.slice").join(unit(bundle))
}

fn file(bundle: &Bundle, name: &str) -> String {
    let path = directory(bundle).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

/// Creates and starts.
pub fn start(bundle: &Bundle) {
    let output = fs::File::create(bundle.path("output")).unwrap();
    let mut create = bundle.command();
    create.args(["--systemd-cgroup", "create", "--bundle", bundle.dir(), "c"]);
    let status = create.stderr(output.try_clone().unwrap()).stdout(output).status().unwrap();
    assert!(status.success(), "{}", fs::read_to_string(bundle.path("output")).unwrap());
    bundle.strata(&["start", "c"]).unwrap();
}

fn run(bundle: &Bundle) -> Output {
    bundle.call(&["--systemd-cgroup", "run", "--bundle", bundle.dir(), "c"])
}

pub fn systemctl(arguments: &[&str]) -> String {
    let output = Command::new("systemctl").args(arguments).stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What systemd has of a unit.
pub fn shown(bundle: &Bundle, property: &str) -> String {
    systemctl(&["show", "--value", "--property", property, &unit(bundle)])
}

fn assert_gone(bundle: &Bundle) {
    bundle.wait_until("systemd to forget the unit", || shown(bundle, "LoadState") == "not-found");
    assert!(!directory(bundle).exists());
    assert_eq!(fs::read_dir(bundle.path("state")).map_or(0, Iterator::count), 0, "state is left");
}

pub fn limits(spec: &mut Value) {
    let resources = json!({
        "memory": {"limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20},
        "cpu": {"shares": 2048, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 20},
        "devices": [{"allow": false, "access": "rwm"}],
    });
    spec["linux"]["resources"] = resources;
}

#[test]
#[ignore = "needs systemd: make test-systemd"]
fn the_container_is_in_a_scope_whose_limits_systemd_knows_and_the_kernel_has() {
    let bundle = bundle("exec sleep 1000", |spec| {
        limits(spec);
        spec["annotations"] = json!({
            "org.systemd.property.TimeoutStopSec": "7", "org.systemd.property.CollectMode": "'inactive-or-failed'"
        });
    });
    start(&bundle);

    for (property, expected) in [
        ("ActiveState", "active"),
        ("Slice", "strata-tests.slice"),
        ("Delegate", "yes"),
        ("DefaultDependencies", "no"),
        ("MemoryMax", "67108864"),
        ("MemoryLow", "33554432"),
        ("MemorySwapMax", "33554432"),
        ("TasksMax", "20"),
        ("CPUWeight", "174"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("AllowedCPUs", "0"),
        ("AllowedMemoryNodes", "0"),
        ("TimeoutStopUSec", "7s"),
        ("CollectMode", "inactive-or-failed"),
    ] {
        assert_eq!(shown(&bundle, property), expected, "{property}");
    }
    let has = || {
        assert_eq!(file(&bundle, "memory.max"), "67108864");
        assert_eq!(file(&bundle, "cpu.max"), "50000 100000");
        assert_eq!(file(&bundle, "cpuset.cpus"), "0");
        assert_eq!(file(&bundle, "pids.max"), "20");
    };
    has();
    let pid = bundle.state()["pid"].as_u64().unwrap();
    assert_eq!(file(&bundle, "cgroup.procs"), pid.to_string());
    // Device rules are ours: the program is there, and systemd has none of its own.
    let node = "mknod /dev/x c 10 200 && : < /dev/x";
    let denied = || bundle.call(&["exec", "c", "/bin/sh", "-c", node]);
    assert!(String::from_utf8_lossy(&denied().stderr).contains("not permitted"), "{:?}", denied());

    systemctl(&["daemon-reload"]);
    has();
    assert!(!denied().status.success());

    bundle.strata(&["delete", "--force", "c"]).unwrap();
    assert_gone(&bundle);
}

#[test]
#[ignore = "needs systemd: make test-systemd"]
fn every_command_works_in_a_scope_without_the_flag() {
    let bundle = bundle("exec sleep 1000", |_| {});
    start(&bundle);

    let said = bundle.strata(&["exec", "c", "/bin/cat", "/proc/self/cgroup"]).unwrap();
    assert_eq!(said, "0::/\n");
    bundle.strata(&["pause", "c"]).unwrap();
    assert_eq!((bundle.status().as_str(), file(&bundle, "cgroup.freeze").as_str()), ("paused", "1"));
    bundle.strata(&["resume", "c"]).unwrap();
    let stats: Value = serde_json::from_str(&bundle.strata(&["events", "--stats", "c"]).unwrap()).unwrap();
    assert_eq!(stats["data"]["pids"]["current"], 1);
    bundle.wait_for_processes(1);

    let quota = ["update", "--memory", "32m", "--cpu-quota", "20000", "--pids-limit", "9", "c"];
    bundle.strata(&quota).unwrap();
    assert_eq!((file(&bundle, "memory.max").as_str(), shown(&bundle, "MemoryMax").as_str()), ("33554432", "33554432"));
    assert_eq!((file(&bundle, "pids.max").as_str(), shown(&bundle, "TasksMax").as_str()), ("9", "9"));
    assert_eq!(shown(&bundle, "CPUQuotaPerSecUSec"), "200ms");
    assert!(file(&bundle, "cpu.max").starts_with("20000 "));

    bundle.strata(&["kill", "c", "KILL"]).unwrap();
    bundle.wait_for("stopped");
    bundle.strata(&["delete", "c"]).unwrap();
    assert_gone(&bundle);
}

#[test]
#[ignore = "needs systemd: make test-systemd"]
fn run_in_the_foreground_leaves_no_unit_behind() {
    let bundle = bundle("cat /proc/self/cgroup; exit 4", |_| {});

    let output = run(&bundle);

    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0::/\n");
    assert_gone(&bundle);
}

/// A single process is a limit too: nobody of ours is counted with it.
#[test]
#[ignore = "needs systemd: make test-systemd"]
fn a_limit_of_one_process_can_be_kept() {
    let bundle = bundle("echo one", |spec| spec["linux"]["resources"]["pids"]["limit"] = json!(1));

    let output = run(&bundle);

    assert_eq!(String::from_utf8_lossy(&output.stdout), "one\n", "{output:?}");
}

#[test]
#[ignore = "needs systemd: make test-systemd"]
fn without_a_cgroup_namespace_the_container_sees_its_scope() {
    let bundle = bundle("cat /sys/fs/cgroup/pids.max; cat /proc/self/cgroup", |spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "cgroup");
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["type"] != "cgroup");
        let options = json!(["ro", "nosuid", "noexec", "nodev"]);
        mounts.push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}));
    });

    let output = run(&bundle);

    let expected = format!("32\n0::/strata.slice/strata-tests.slice/{}\n", unit(&bundle));
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
}

#[test]
#[ignore = "needs systemd: make test-systemd"]
fn a_container_that_ran_out_of_memory_leaves_no_failed_unit() {
    let script = "dd if=/dev/zero of=/dev/null bs=64M count=1";
    let bundle = bundle(&format!("exec {script}"), |spec| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    });

    assert_eq!(run(&bundle).status.code(), Some(137));

    assert_gone(&bundle);
}

#[test]
#[ignore = "needs systemd: make test-systemd"]
fn a_unit_of_the_name_that_runs_is_an_error_and_goes_on() {
    let bundle = bundle("echo it ran", |_| {});
    let name = unit(&bundle);
    let mut other = Command::new("systemd-run");
    other.args(["--scope", "--quiet", "--slice", "strata-tests.slice", "--unit", &name, "sleep", "1000"]);
    let mut other = other.stdin(Stdio::null()).spawn().unwrap();
    bundle.wait_until("the other unit", || shown(&bundle, "ActiveState") == "active");

    let output = run(&bundle);

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("already"), "{output:?}");
    bundle.strata(&["delete", "--force", "c"]).unwrap();
    assert!(other.try_wait().unwrap().is_none(), "it was killed");
    assert_eq!(shown(&bundle, "ActiveState"), "active");
    other.kill().unwrap();
    other.wait().unwrap();
}

/// The scope ended with its process, and another unit took the name.
#[test]
#[ignore = "needs systemd: make test-systemd"]
fn delete_stops_no_unit_that_came_later_under_the_name() {
    let bundle = bundle("exec sleep 1000", |_| {});
    start(&bundle);
    bundle.strata(&["kill", "c", "KILL"]).unwrap();
    bundle.wait_for("stopped");
    bundle.wait_until("the end of the scope", || shown(&bundle, "LoadState") == "not-found");
    let mut other = Command::new("systemd-run");
    other.args(["--scope", "--quiet", "--slice", "strata-tests.slice", "--unit", &unit(&bundle), "sleep", "1000"]);
    let mut other = other.stdin(Stdio::null()).spawn().unwrap();
    bundle.wait_until("the other unit", || shown(&bundle, "ActiveState") == "active");

    bundle.strata(&["delete", "c"]).unwrap();

    assert!(other.try_wait().unwrap().is_none(), "it was killed");
    assert_eq!(shown(&bundle, "ActiveState"), "active");
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
#[ignore = "needs systemd: make test-systemd"]
fn a_limit_that_the_kernel_refuses_is_an_error_that_leaves_no_unit() {
    let bundle = bundle("echo it ran", |spec| spec["linux"]["resources"]["cpu"] = json!({"cpus": "4000"}));

    let output = run(&bundle);

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("cannot apply linux.resources.cpu.cpus: "), "{error}");
    assert_gone(&bundle);
}

/// The user's systemd, as after a login.
fn user_manager() -> String {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        // Without "x" nobody looks into shadow.
        let line = format!("strata-tests:*:{USER}:{USER}::/:/bin/sh\n");
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        if !passwd.contains(&line) {
            fs::write("/etc/passwd", passwd + &line).unwrap();
            let group = fs::read_to_string("/etc/group").unwrap();
            fs::write("/etc/group", format!("{group}strata-tests:x:{USER}:\n")).unwrap();
        }
        let output = Command::new("systemctl").args(["start", &format!("user@{USER}.service")]).output().unwrap();
        let log = || Command::new("journalctl").args(["--no-pager", "-n", "40"]).output().unwrap();
        assert!(output.status.success(), "{output:?}\n{}", String::from_utf8_lossy(&log().stdout));
    });
    format!("/run/user/{USER}")
}

/// A user's call of the engine, with what a login has in its environment.
fn as_logged_in(bundle: &Rootless, arguments: &[&str]) -> Output {
    bundle.command().env("XDG_RUNTIME_DIR", user_manager()).arg("--systemd-cgroup").args(arguments).output().unwrap()
}

#[test]
#[ignore = "needs systemd: make test-systemd"]
fn a_user_with_a_systemd_of_the_own_gets_limits_that_apply() {
    let bundle = Rootless::new("exec sleep 1000", |spec| {
        spec["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 12}});
    })
    .edit(|spec, id| spec["linux"]["cgroupsPath"] = json!(format!("user.slice:tests:{id}")));
    let output = fs::File::create(bundle.bundle.path("output")).unwrap();
    let mut create = bundle.command();
    create.env("XDG_RUNTIME_DIR", user_manager());
    create.args(["--systemd-cgroup", "create", "--bundle", bundle.bundle.dir(), "c"]);
    let status = create.stdout(output.try_clone().unwrap()).stderr(output).status().unwrap();
    assert!(status.success(), "{}", bundle.said());

    let place =
        format!("/user.slice/user-{USER}.slice/user@{USER}.service/user.slice/tests-{}.scope", bundle.bundle.id());
    let directory = Path::new("/sys/fs/cgroup").join(&place[1..]);
    let file = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let started = as_logged_in(&bundle, &["start", "c"]);
    assert!(started.status.success(), "{started:?}");
    assert_eq!((file("memory.max").trim(), file("pids.max").trim()), ("67108864", "12"));
    let pid = bundle.bundle.state()["pid"].as_u64().unwrap();
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap(), format!("0::{place}\n"));
    // A further process is brought there by systemd: the caller's own place is no place of the user's.
    let exec = as_logged_in(&bundle, &["exec", "c", "/bin/cat", "/proc/self/cgroup"]);
    assert!(exec.status.success(), "{exec:?}");
    let inside = String::from_utf8_lossy(&exec.stdout).into_owned();
    assert!(inside == "0::/\n" || inside == format!("0::{place}\n"), "{inside}");
    let update = as_logged_in(&bundle, &["update", "--pids-limit", "7", "c"]);
    assert!(update.status.success(), "{update:?}");
    assert_eq!(file("pids.max").trim(), "7");

    let delete = as_logged_in(&bundle, &["delete", "--force", "c"]);

    assert!(delete.status.success(), "{delete:?}");
    bundle.bundle.wait_until("the end of the scope", || !directory.exists());
}

#[test]
#[ignore = "needs systemd: make test-systemd"]
fn a_user_without_a_systemd_is_told_what_is_missing() {
    let bundle = Rootless::new("echo it ran", |_| {});

    let mut command = bundle.command();
    command.env("XDG_RUNTIME_DIR", "/nonexistent");
    let output = command.args(["--systemd-cgroup", "run", "--bundle", bundle.bundle.dir(), "c"]).output().unwrap();

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr);
    let expected = "--systemd-cgroup: the user's systemd cannot be reached (/nonexistent/systemd/private: no such file";
    assert!(error.contains(expected) && error.contains("loginctl enable-linger"), "{error}");
}

/// Without systemd's help: a subtree that was given to the user by chown(2), as cgroup-v2.rst has "Delegation".
#[test]
#[ignore = "needs cgroup v2: make test-systemd"]
fn a_user_with_a_subtree_gets_limits_that_apply_and_without_one_an_error_by_name() {
    let limited =
        |spec: &mut Value| spec["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 12}});
    let script = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max; cat /proc/self/cgroup";
    let bundle = Rootless::new(script, |spec| {
        limited(spec);
        let options = json!(["ro", "nosuid", "noexec", "nodev"]);
        let mount = json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options});
        spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/sys/fs/cgroup");
        spec["mounts"].as_array_mut().unwrap().push(mount);
    });
    let top = PathBuf::from(format!("/sys/fs/cgroup/strata-delegated-{}", bundle.bundle.id()));
    let leaf = top.join("shell");
    fs::create_dir_all(&leaf).unwrap();
    fs::write(top.join("cgroup.subtree_control"), "+memory +pids").unwrap();
    for path in [
        top.clone(),
        top.join("cgroup.procs"),
        top.join("cgroup.subtree_control"),
        leaf.clone(),
        leaf.join("cgroup.procs"),
    ] {
        std::os::unix::fs::chown(path, Some(USER), Some(USER)).unwrap();
    }
    // A shell of root goes into the leaf and becomes the engine of the user.
    let in_leaf = |bundle: &Rootless| {
        let engine = bundle.command();
        let words: Vec<String> = std::iter::once(engine.get_program())
            .chain(engine.get_args())
            .map(|word| word.to_str().unwrap().to_owned())
            .collect();
        let user = format!("setpriv --reuid {USER} --regid {USER} --clear-groups");
        let line = format!(
            "echo $$ > {}/cgroup.procs; exec {user} {} run --bundle {} c",
            leaf.display(),
            words.join(" "),
            bundle.bundle.dir()
        );
        Command::new("sh").args(["-c", &line]).stdin(Stdio::null()).output().unwrap()
    };

    let output = in_leaf(&bundle);
    let outside = bundle.call(&["run", "--bundle", bundle.bundle.dir(), "c"]);

    for path in [&leaf, &top.join("strata"), &top] {
        bundle.bundle.wait_until("the end of the cgroups", || match fs::remove_dir(path) {
            Ok(()) => true,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        });
    }
    assert_eq!(String::from_utf8_lossy(&output.stdout), "67108864\n12\n0::/\n", "{output:?}");
    assert_eq!(outside.status.code(), Some(1), "{outside:?}");
    let error = String::from_utf8_lossy(&outside.stderr);
    assert!(error.contains("cannot apply linux.resources.memory.limit: "), "{error}");
    assert!(error.contains("is not delegated to this user"), "{error}");
}
