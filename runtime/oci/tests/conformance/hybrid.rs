//! `--systemd-cgroup` with a real systemd on cgroup v1, which has the device cgroup of a scope too. In a guest:
//! `make test-systemd`.

use std::fs;

use crate::{
    bundle::Bundle,
    systemd::{bundle, limits, shown, start, systemctl, unit},
};

/// What a file of the scope says in the hierarchy of a controller.
fn file(bundle: &Bundle, controller: &str, name: &str) -> String {
    let path = format!("/sys/fs/cgroup/{controller}/strata.slice/strata-tests.slice/{}/{name}", unit(bundle));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

/// The hierarchies in which a process is in the scope.
fn joined(bundle: &Bundle, pid: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let lines = text.lines().filter(|line| line.ends_with(&unit(bundle)));
    lines.map(|line| line.split(':').nth(1).unwrap().to_owned()).collect()
}

#[test]
#[ignore = "needs systemd on cgroup v1: make test-systemd"]
fn the_scope_is_in_every_hierarchy_that_is_used_with_its_limits() {
    let bundle = bundle("exec sleep 1000", limits);
    start(&bundle);
    let pid = bundle.state()["pid"].as_u64().unwrap().to_string();

    let hierarchies = joined(&bundle, &pid);
    for name in ["name=systemd", "memory", "pids", "cpu,cpuacct", "devices", "freezer", "cpuset"] {
        assert!(hierarchies.iter().any(|one| one == name), "{name} is not in {hierarchies:?}");
    }
    let expected = [("MemoryLimit", "67108864"), ("TasksMax", "20"), ("CPUShares", "2048"), ("DevicePolicy", "strict")];
    for (property, expected) in expected {
        assert_eq!(shown(&bundle, property), expected, "{property}");
    }
    let devices = file(&bundle, "devices", "devices.list");
    let has = || {
        assert_eq!(file(&bundle, "memory", "memory.limit_in_bytes"), "67108864");
        assert_eq!(file(&bundle, "cpu", "cpu.cfs_quota_us"), "50000");
        assert_eq!(file(&bundle, "cpuset", "cpuset.cpus"), "0");
        assert_eq!(file(&bundle, "devices", "devices.list"), devices);
    };
    has();
    assert!(devices.contains("c 1:3 rwm") && !devices.contains("a *:*"), "{devices}");

    systemctl(&["daemon-reload"]);
    has();
    bundle.strata(&["update", "--memory", "32m", "--pids-limit", "9", "c"]).unwrap();
    assert_eq!(file(&bundle, "memory", "memory.limit_in_bytes"), "33554432");
    assert_eq!((shown(&bundle, "MemoryLimit").as_str(), shown(&bundle, "TasksMax").as_str()), ("33554432", "9"));
    assert_eq!(file(&bundle, "devices", "devices.list"), devices);
    bundle.strata(&["pause", "c"]).unwrap();
    assert_eq!(bundle.status(), "paused");

    bundle.strata(&["delete", "--force", "c"]).unwrap();
    bundle.wait_until("systemd to forget the unit", || shown(&bundle, "LoadState") == "not-found");
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let left = hierarchy.path().join("strata.slice/strata-tests.slice").join(unit(&bundle));
        assert!(!left.exists(), "{} is left", left.display());
    }
}

/// systemd counts by a hierarchy without controllers, which is its alone.
#[test]
#[ignore = "needs systemd on cgroup v1: make test-systemd"]
fn a_further_process_is_in_the_hierarchies_of_the_first() {
    let bundle = bundle("exec sleep 1000", |_| {});
    start(&bundle);
    let first = bundle.state()["pid"].as_u64().unwrap().to_string();
    let pid_file = bundle.path("pid");

    let arguments = ["exec", "--detach", "--pid-file", pid_file.to_str().unwrap(), "c", "/bin/sleep", "1000"];
    bundle.call_without_output(&arguments);

    let further = fs::read_to_string(pid_file).unwrap();
    assert_eq!(joined(&bundle, &further), joined(&bundle, &first));
}
