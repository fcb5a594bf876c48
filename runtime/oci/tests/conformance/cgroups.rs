//! config-linux.md, Control groups: what the kernel's files and the processes inside say. Runs on v1, hybrid and v2.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::bundle::Bundle;

/// Whether all controllers are on the unified hierarchy.
fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The container's directory for a controller, on whichever hierarchy that is; a hybrid has some on v2.
fn directory(bundle: &Bundle, controller: &str) -> Option<PathBuf> {
    let name = format!("strata-cli-{}/x", bundle.id());
    let hierarchies =
        [format!("/sys/fs/cgroup/{controller}"), "/sys/fs/cgroup".into(), "/sys/fs/cgroup/unified".into()];
    let has = |path: &&String| {
        let list = fs::read_to_string(format!("{path}/cgroup.controllers")).unwrap_or_default();
        path.ends_with(controller) || list.split_whitespace().any(|one| one == controller)
    };
    hierarchies.iter().find(|path| Path::new(path).is_dir() && has(path)).map(|path| Path::new(path).join(name))
}

/// What a file of the container's cgroup says; the name of the file on v1, and on v2.
fn file(bundle: &Bundle, controller: &str, v1: &str, v2: &str) -> String {
    let directory =
        directory(bundle, controller).unwrap_or_else(|| panic!("this test needs the controller {controller}"));
    let path = directory.join(if is_v2() { v2 } else { v1 });
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

/// A container that stays, with these resources.
fn started(resources: Value) -> Bundle {
    let bundle = Bundle::new("exec sleep 1000", |spec| merge(&mut spec["linux"]["resources"], resources));
    bundle.start();
    bundle
}

fn merge(into: &mut Value, resources: Value) {
    into.as_object_mut().unwrap().extend(resources.as_object().unwrap().clone());
}

fn refused(resources: Value) -> String {
    Bundle::new("echo it ran", |spec| merge(&mut spec["linux"]["resources"], resources)).refused()
}

/// Spec: config-linux.md, Memory: limit, reservation and swap are in force
#[test]
fn memory_limits_are_in_force() {
    let memory = json!({"limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20, "checkBeforeUpdate": true});
    let bundle = started(json!({"memory": memory}));

    assert_eq!(file(&bundle, "memory", "memory.limit_in_bytes", "memory.max"), (64 << 20).to_string());
    assert_eq!(file(&bundle, "memory", "memory.soft_limit_in_bytes", "memory.low"), (32 << 20).to_string());
    // v1 limits memory and swap together, v2 swap alone.
    let swap = if is_v2() { 32 << 20 } else { 96 << 20 };
    assert_eq!(file(&bundle, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max"), swap.to_string());
}

/// Spec: config-linux.md, Memory: more than the limit is not given
#[test]
fn a_process_over_the_memory_limit_is_killed() {
    let script = "dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null; echo $?";
    let memory = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    let bundle = Bundle::new(script, |spec| merge(&mut spec["linux"]["resources"], memory));

    let output = bundle.run();

    assert_eq!(String::from_utf8_lossy(&output.stdout), "137\n", "{output:?}");
}

/// Spec: config-linux.md, Memory: what the other version of cgroups has is an error that names the field
#[test]
fn swappiness_is_set_on_v1_and_refused_on_v2() {
    let resources = json!({"memory": {"swappiness": 7}});

    if is_v2() {
        assert!(refused(resources).contains("cannot apply linux.resources.memory.swappiness: "));
    } else {
        assert_eq!(file(&started(resources), "memory", "memory.swappiness", ""), "7");
    }
}

/// Spec: config-linux.md, CPU: shares, quota, period, burst and idle are in force
#[test]
fn processor_limits_are_in_force() {
    let bundle = started(json!({"cpu": {"shares": 2048, "quota": 50000, "period": 25000, "burst": 10000}}));

    if is_v2() {
        assert_eq!(file(&bundle, "cpu", "", "cpu.max"), "50000 25000");
        assert_eq!(file(&bundle, "cpu", "", "cpu.weight"), "174");
    } else {
        assert_eq!(file(&bundle, "cpu", "cpu.cfs_quota_us", ""), "50000");
        assert_eq!(file(&bundle, "cpu", "cpu.cfs_period_us", ""), "25000");
        assert_eq!(file(&bundle, "cpu", "cpu.shares", ""), "2048");
    }
    assert_eq!(file(&bundle, "cpu", "cpu.cfs_burst_us", "cpu.max.burst"), "10000");

    let idle = started(json!({"cpu": {"idle": 1, "shares": 512}}));
    assert_eq!(file(&idle, "cpu", "cpu.idle", "cpu.idle"), "1");
}

/// Spec: config-linux.md, CPU: cpus and mems are all that the processes have
#[test]
fn a_container_sees_the_processors_of_its_set() {
    let cpu = json!({"cpu": {"cpus": "0", "mems": "0"}});
    let bundle = Bundle::new("nproc", |spec| merge(&mut spec["linux"]["resources"], cpu));

    assert_eq!(bundle.output(), "1\n");
}

/// Spec: config-linux.md, CPU: a set of processors that are not there is an error that names the field
#[test]
fn processors_that_are_not_there_are_refused() {
    let error = refused(json!({"cpu": {"cpus": "4000"}}));

    assert!(error.contains("cannot apply linux.resources.cpu.cpus: "), "{error}");
}

/// Spec: config-linux.md, PIDs: no more tasks than the limit
#[test]
fn a_container_cannot_have_more_processes_than_its_limit() {
    let script = "echo first; (echo second; (echo third; (echo fourth; true); true); true)";
    let bundle = Bundle::new(script, |spec| spec["linux"]["resources"]["pids"] = json!({"limit": 3}));

    let output = bundle.run();

    assert_eq!(String::from_utf8_lossy(&output.stdout), "first\nsecond\nthird\n", "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("fork"), "{output:?}");
}

/// Spec: config-linux.md, PIDs: -1 is no limit, and 0 is none but the first
#[test]
fn a_pids_limit_of_minus_one_is_none_and_of_zero_is_the_least() {
    for (limit, text) in [(-1, "max"), (0, "1")] {
        let bundle = started(json!({"pids": {"limit": limit}}));
        assert_eq!(file(&bundle, "pids", "pids.max", "pids.max"), text);
    }
}

/// Spec: config-linux.md, Allowed Device list: entries apply in their order, access by access
#[test]
fn device_rules_decide_what_can_be_opened() {
    let script = "for mode in '<' '>'; do sh -c \": $mode /dev/x\" 2>&1 | grep -c 'not permitted'; done; : > /dev/null";
    let run = |rules: Value| {
        let bundle = Bundle::new(script, |spec| {
            spec["linux"]["devices"] = json!([{"path": "/dev/x", "type": "c", "major": 10, "minor": 200}]);
            spec["linux"]["resources"]["devices"] = rules;
        });
        String::from_utf8(bundle.run().stdout).unwrap()
    };
    let rule =
        |allow: bool, access: &str| json!({"allow": allow, "type": "c", "major": 10, "minor": 200, "access": access});
    let deny_all = json!({"allow": false, "access": "rwm"});
    let allow_all = json!({"allow": true, "access": "rwm"});

    // Refused to read, refused to write.
    assert_eq!(run(json!([deny_all])), "1\n1\n");
    assert_eq!(run(json!([deny_all, rule(true, "r")])), "0\n1\n");
    assert_eq!(run(json!([deny_all, rule(true, "rw")])), "0\n0\n");
    assert_eq!(run(json!([deny_all, rule(true, "rw"), rule(false, "r")])), "1\n0\n");
    assert_eq!(run(json!([rule(true, "rw"), deny_all])), "1\n1\n");
    assert_eq!(run(json!([allow_all])), "0\n0\n");
    assert_eq!(run(json!([allow_all, rule(false, "w")])), "0\n1\n");
}

/// Spec: config-linux.md, Default Devices: they are usable whatever the rules forbid
#[test]
fn the_default_devices_work_when_all_is_forbidden() {
    let script = "for name in null zero full random urandom; do dd if=/dev/$name of=/dev/null bs=1 count=1 || exit; done; echo ok";
    let bundle = Bundle::new(&format!("exec 2>&1; {script}"), |spec| {
        spec["linux"]["resources"]["devices"] = json!([{"allow": false, "access": "rwm"}]);
    });

    let output = String::from_utf8(bundle.run().stdout).unwrap();

    assert!(output.ends_with("ok\n"), "{output}");
}

/// Spec: config-linux.md, Huge page limits: the limit is in force for a size of the host's
#[test]
fn huge_pages_are_limited() {
    let bundle = started(json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]}));
    let directory = directory(&bundle, "hugetlb").expect("this test needs the controller hugetlb");

    let is_v1 = directory.starts_with("/sys/fs/cgroup/hugetlb");
    let name = if is_v1 { "hugetlb.2MB.limit_in_bytes" } else { "hugetlb.2MB.max" };
    assert_eq!(fs::read_to_string(directory.join(name)).unwrap().trim(), (4 << 20).to_string());
    let pid = bundle.state()["pid"].as_u64().unwrap().to_string();
    let procs = fs::read_to_string(directory.join("cgroup.procs")).unwrap();
    assert!(procs.lines().any(|line| line == pid), "{pid} is not among {procs}");
}

/// Spec: config-linux.md, Huge page limits: a size that is not the host's is an error
#[test]
fn huge_pages_of_an_unknown_size_are_refused() {
    let error = refused(json!({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}));

    assert!(error.contains("cannot apply linux.resources.hugepageLimits[0]: "), "{error}");
}

/// Spec: config-linux.md, Block IO: throttles of a device are in force
#[test]
fn block_devices_are_throttled() {
    let numbers = fs::read_dir("/sys/block")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("dev")).ok());
    let Some(number) = numbers.min() else {
        // Without a single device there is nothing to throttle, and it is said.
        let none = json!({"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1048576}]});
        return assert!(refused(json!({"blockIO": none})).contains("linux.resources.blockIO.throttleReadBpsDevice[0]"));
    };
    let (major, minor) = number.trim().split_once(':').unwrap();
    let device = |rate: u64| json!([{"major": major.parse::<i64>().unwrap(), "minor": minor.parse::<i64>().unwrap(), "rate": rate}]);

    let bundle = started(json!({"blockIO": {
        "throttleReadBpsDevice": device(1 << 20), "throttleWriteIOPSDevice": device(77)
    }}));

    let number = number.trim();
    if is_v2() {
        assert_eq!(file(&bundle, "io", "", "io.max"), format!("{number} rbps=1048576 wbps=max riops=max wiops=77"));
    } else {
        assert_eq!(file(&bundle, "blkio", "blkio.throttle.read_bps_device", ""), format!("{number} 1048576"));
        assert_eq!(file(&bundle, "blkio", "blkio.throttle.write_iops_device", ""), format!("{number} 77"));
    }
}

/// Spec: config-linux.md, Network: a class is set where the kernel has it, else an error names the field
#[test]
fn a_network_class_is_set_or_refused() {
    let resources = json!({"network": {"classID": 1048577}});

    if Path::new("/sys/fs/cgroup/net_cls").is_dir() {
        assert_eq!(file(&started(resources), "net_cls", "net_cls.classid", ""), "1048577");
    } else {
        let error = refused(resources);
        assert!(error.contains("cannot apply linux.resources.network.classID: "), "{error}");
    }
}

/// Spec: config-linux.md, RDMA: a device that is not there is an error
#[test]
fn a_limit_of_an_absent_rdma_device_is_refused() {
    let error = refused(json!({"rdma": {"nothing0": {"hcaHandles": 3}}}));

    assert!(error.contains("cannot apply linux.resources.rdma.nothing0: "), "{error}");
}

/// Spec: config-linux.md, Unified: the files are written on v2, and an error on v1
#[test]
fn unified_files_are_written_or_refused() {
    let resources = json!({"unified": {"pids.max": "17"}});

    if is_v2() {
        assert_eq!(file(&started(resources), "pids", "", "pids.max"), "17");
    } else {
        let error = refused(resources);
        assert!(error.contains("cannot apply linux.resources.unified.pids.max: "), "{error}");
    }
}

/// Spec: config-linux.md, Unified: a controller that is not present is an error
#[test]
fn unified_files_of_an_absent_controller_are_refused() {
    let error = refused(json!({"unified": {"nothing.max": "1"}}));

    assert!(error.contains("cannot apply linux.resources.unified.nothing.max: "), "{error}");
}

/// Spec: config-linux.md, Cgroup ownership: a writable cgroup of v2 is the container's user's, one of v1 never
#[test]
fn a_writable_cgroup_belongs_to_the_containers_user() {
    let owner = |options: &str| {
        let bundle = Bundle::new("exec sleep 1000", |spec| {
            spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            let mounts = spec["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
            mounts.push(json!({
                "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                "options": ["nosuid", "noexec", "nodev", options]
            }));
        });
        bundle.start();
        let directory = directory(&bundle, "pids").unwrap();
        ["", "cgroup.procs", "pids.max"].map(|name| fs::metadata(directory.join(name)).unwrap().uid())
    };

    // What limits the container stays the host's.
    assert_eq!(owner("rw"), if is_v2() { [1000, 1000, 0] } else { [0; 3] });
    assert_eq!(owner("ro"), [0; 3]);
}

/// Spec: config-linux.md, Cgroups Path: an absolute path is taken as it is, the same for the same value
#[test]
fn an_absolute_cgroup_path_is_where_the_container_is() {
    let bundle = started(json!({"memory": {"limit": 64 << 20}}));
    let pid = bundle.state()["pid"].as_u64().unwrap();

    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();

    let expected = format!("/strata-cli-{}/x", bundle.id());
    let line = text.lines().find(|line| line.contains(":memory:") || (is_v2() && line.starts_with("0::"))).unwrap();
    assert!(line.ends_with(&format!(":{expected}")), "{line}");
}

/// Spec: config-linux.md, Cgroups Path: a relative path is below a place of the runtime's
#[test]
fn a_relative_cgroup_path_is_below_the_runtimes_parent() {
    let mut name = String::new();
    let bundle = Bundle::new("exec sleep 1000", |spec| {
        let old = spec["linux"]["cgroupsPath"].as_str().unwrap().to_owned();
        name = old.trim_start_matches('/').replace('/', "-");
        spec["linux"]["cgroupsPath"] = json!(name);
    });
    bundle.start();
    let pid = bundle.state()["pid"].as_u64().unwrap();

    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();

    assert!(text.lines().any(|line| line.ends_with(&format!(":/strata/{name}"))), "{text}");
    bundle.strata(&["delete", "--force", "c"]).unwrap();
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    for parent in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).map(|path| path.join("strata")) {
        assert!(!parent.join(&name).exists());
        // Others may have theirs below it.
        let _ = fs::remove_dir(parent);
    }
}

/// Spec: config-linux.md, Cgroups Path: a value that is invalid is an error. Row 20 (GHSA-5g49-rx9x-qfc6).
#[test]
fn row_20_cgroup_paths_that_leave_the_hierarchy_are_refused() {
    for path in ["/../../tmp/x", "../x", "/a/../../x", "/x\u{0}y", "/", "/strata/cgroup.procs", "/a//b"] {
        let bundle = Bundle::new("echo it ran", |spec| spec["linux"]["cgroupsPath"] = json!(path));
        let error = bundle.refused();
        assert!(error.contains("linux.cgroupsPath: "), "{path:?}: {error}");
    }
}

/// Row 20 (GHSA-5g49-rx9x-qfc6): the name of a file comes from the spec only in `unified` and sizes of huge pages.
#[test]
fn row_20_cgroup_file_names_that_are_paths_are_refused() {
    for key in ["../pids.max", "/etc/passwd.x", "pids.max/../../x", "pids.max\0"] {
        let error = refused(json!({"unified": {key: "1"}}));
        assert!(error.contains("not the name of a controller's file"), "{key}: {error}");
    }
    let error = refused(json!({"hugepageLimits": [{"pageSize": "../../2MB", "limit": 1}]}));
    assert!(error.contains("linux.resources.hugepageLimits[0].pageSize"), "{error}");
}

/// Row 17 (CVE-2023-25809): read-only is read-only without a cgroup namespace too.
#[test]
fn row_17_cve_2023_25809_cgroups_cannot_be_written_without_a_cgroup_namespace() {
    let script = "cd /sys/fs/cgroup && for way in $(ls -d . */ 2> /dev/null); do mkdir $way/new; (: > $way/cgroup.procs); done 2>&1; true";
    let bundle = Bundle::new(script, |spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "cgroup");
        spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
        let options = json!(["ro", "nosuid", "noexec", "nodev"]);
        let mount = json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options});
        spec["mounts"].as_array_mut().unwrap().push(mount);
    });

    let output = bundle.run();

    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.lines().count() >= 2, "{output:?}");
    assert!(text.lines().all(|line| line.contains("Read-only file system")), "{text}");
}

/// Spec: runtime.md, Errors: a limit that the kernel refuses is an error that names it, and nothing is left
#[test]
fn a_refused_limit_is_named() {
    let error = refused(json!({"memory": {"limit": 64 << 20, "swap": 1 << 20}}));

    assert!(error.contains("cannot apply linux.resources.memory.swap: "), "{error}");
}

/// Spec: config-linux.md, Cgroups Path: a cgroup that an engine made beforehand is used
#[test]
fn an_empty_cgroup_that_is_there_is_used() {
    let bundle = Bundle::new("exec sleep 1000", |_| {});
    let directory = directory(&bundle, "pids").unwrap();
    fs::create_dir_all(&directory).unwrap();

    bundle.start();

    let pid = bundle.state()["pid"].as_u64().unwrap();
    assert_eq!(fs::read_to_string(directory.join("cgroup.procs")).unwrap(), format!("{pid}\n"));
}

/// A cgroup with somebody's process in it is nobody's to limit or to kill.
#[test]
fn a_cgroup_with_processes_is_refused_and_left_alone() {
    let bundle = Bundle::new("echo it ran", |_| {});
    let directory = directory(&bundle, "pids").unwrap();
    fs::create_dir_all(&directory).unwrap();
    let mut other = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    fs::write(directory.join("cgroup.procs"), other.id().to_string()).unwrap();

    let output = bundle.run();

    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("cannot be used: processes are in it"), "{error}");
    assert!(other.try_wait().unwrap().is_none(), "it was killed");
    other.kill().unwrap();
    other.wait().unwrap();
    while fs::remove_dir(&directory).is_err() {
        // EBUSY for a moment after the last process ended.
        std::thread::yield_now();
    }
}

/// Spec: config-linux.md, Memory: a limit of kernel memory, which kernels have no more, is a warning in the log
#[test]
fn a_limit_of_kernel_memory_is_warned_of_and_dropped() {
    let bundle = Bundle::new("echo it ran", |spec| {
        merge(&mut spec["linux"]["resources"], json!({"memory": {"kernel": 32 << 20}}));
    });
    let log = bundle.path("log");

    let output = bundle.call(&["--log", log.to_str().unwrap(), "run", "--bundle", bundle.dir(), "c"]);

    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"it ran\n"[..], &b""[..]), "{output:?}");
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("level=warning msg=\"linux.resources.memory.kernel is ignored"), "{log}");
}
