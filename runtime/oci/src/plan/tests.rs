//! Golden plans for the specs in `corpus/specs` (write them anew with STRATA_BLESS=1), and the rules one by one.

use std::fs;

use oci_spec::runtime::Capability;
use serde_json::{Value, json};
use strata_init::plan::{Attributes, MountIds, Target, attribute};

use super::*;
use crate::{
    capabilities::CapabilitySet,
    default_spec::{Defaults, Network},
    user::Identity,
};

fn inputs() -> PlanInputs {
    PlanInputs {
        root: Root::Overlay {
            lowers: vec!["/store/l2".into(), "/store/l1".into()],
            upper: "/store/u".into(),
            work: "/store/w".into(),
            options: vec!["volatile".into()],
        },
        cgroup_view: CgroupView::Hierarchies(vec![vec!["freezer".into()], vec!["cpu".into(), "cpuacct".into()]]),
        exit_record: Some("/run/x/exit".into()),
        ..PlanInputs::default()
    }
}

/// A default spec with the JSON at `pointer` replaced.
fn with(pointer: &str, value: Value) -> Spec {
    let mut spec =
        serde_json::to_value(Defaults { hostname: Some("web".into()), ..Defaults::default() }.build().unwrap())
            .unwrap();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = spec.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}"));
    match parent {
        Value::Array(list) => list.push(value),
        parent => parent[key] = value,
    }
    serde_json::from_value(spec).unwrap()
}

fn refused(pointer: &str, value: Value) -> String {
    plan(&with(pointer, value.clone()), &inputs()).expect_err(&value.to_string()).to_string()
}

fn planned(pointer: &str, value: Value) -> Plan {
    plan(&with(pointer, value), &inputs()).unwrap()
}

/// A plan as people read it; the filter is tested where it is made.
fn render(mut plan: Plan) -> String {
    if let Some(filter) = &mut plan.process.seccomp {
        assert!(filter.program.len() > 8);
        filter.program.clear();
    }
    format!("{plan:#?}\n")
}

fn check_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/specs").join(name);
    if std::env::var_os("STRATA_BLESS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{name} differs; STRATA_BLESS=1 writes it anew. Now it is:\n{text}");
}

#[test]
fn the_corpus_of_specs_gives_the_plans_beside_them() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/specs");
    let mut seen = 0;
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let Some(stem) = name.strip_suffix(".json") else { continue };
        let spec: Spec = serde_json::from_slice(&fs::read(entry.path()).unwrap()).unwrap();

        check_golden(&format!("{stem}.plan"), &render(plan(&spec, &inputs()).unwrap()));
        seen += 1;
    }
    assert!(seen >= 2, "{seen} specs");
}

#[test]
fn the_default_spec_gives_the_plan_on_file() {
    let spec = Defaults { hostname: Some("web".into()), args: vec!["/bin/true".into()], ..Defaults::default() }
        .build()
        .unwrap();

    check_golden("default.plan", &render(plan(&spec, &inputs()).unwrap()));
}

#[test]
fn a_plan_is_the_same_every_time_and_survives_its_own_encoding() {
    let make = || plan(&Defaults::default().build().unwrap(), &inputs()).unwrap();

    assert_eq!(make(), make());
    assert_eq!(Plan::decode(&make().encode()).unwrap(), make());
}

/// Security rows 4 (CVE-2015-3631) and 9 (CVE-2019-16884).
#[test]
fn row_4_9_nothing_is_mounted_over_the_root_or_into_proc() {
    let bind =
        |destination: &str| json!({"destination": destination, "type": "bind", "source": "/x", "options": ["rbind"]});
    for destination in [
        "/",
        "//",
        "/x/..",
        "/proc",
        "/proc/",
        "/proc/.",
        "/x/../proc",
        "/proc/sys",
        "/proc/1",
        "/proc/self/attr",
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/uptime/../sys",
    ] {
        let error = refused("/mounts/-", bind(destination));
        assert!(error.starts_with("mounts[7].destination: /"), "{destination}: {error}");
    }
    let tmpfs = json!({"destination": "/proc", "type": "tmpfs", "source": "tmpfs"});
    assert!(refused("/mounts/-", tmpfs).contains("only a proc file system"));
    for destination in ["/proc/uptime", "/proc/meminfo", "/proc/sys/kernel/ns_last_pid", "/process", "/sys/x"] {
        planned("/mounts/-", bind(destination));
    }
}

/// config.md, "Mounts": relative destinations are deprecated, not forbidden.
#[test]
fn a_relative_destination_begins_at_the_root() {
    let plan = planned("/mounts/-", json!({"destination": "x/../y", "type": "tmpfs"}));

    let is_it = |step: &Step| matches!(step, Step::Filesystem { target, .. } if target == Path::new("/y"));
    assert!(plan.steps.iter().any(is_it), "{:?}", plan.steps);
}

#[test]
fn new_file_systems_that_can_have_a_label_get_it() {
    let label = "system_u:object_r:container_file_t:s0:c1,c2";
    let spec = with("/linux/mountLabel", json!(label));

    let without = plan(&spec, &inputs()).unwrap_err().to_string();
    let labelled = plan(&spec, &PlanInputs { has_selinux: true, ..inputs() }).unwrap();

    assert_eq!(without, "linux.mountLabel: the kernel has no SELinux, or it is off");
    for step in &labelled.steps {
        if let Step::Filesystem { kind, target, options, .. } = step {
            let has_label = options.contains(&format!("context={label}"));
            // The tmpfs that holds the hierarchies of cgroups is read-only.
            let is_labelled = matches!(kind.as_str(), "tmpfs" | "devpts") && target != Path::new("/sys/fs/cgroup");
            assert_eq!(has_label, is_labelled, "{kind} on {}", target.display());
        }
    }
}

#[test]
fn broken_mounts_are_refused_by_field() {
    let one = || json!({"containerID": 0, "hostID": 1, "size": 1});
    for (mount, reason) in [
        (json!({"destination": "", "type": "tmpfs"}), "mounts[7].destination: it is empty"),
        (
            json!({"destination": "/x\u{0}", "type": "tmpfs"}),
            "mounts[7].destination: the path has a NUL byte or is over 4095 bytes",
        ),
        (json!({"destination": "/x", "type": "bind"}), "mounts[7].source: a bind needs one"),
        (json!({"destination": "/x", "type": "bind", "source": "y"}), "mounts[7].source: y is not an absolute path"),
        (json!({"destination": "/x"}), "mounts[7].type: a mount that is no bind needs one"),
        (
            json!({"destination": "/x", "type": "bind", "source": "/y", "options": ["sync"]}),
            "mounts[7].options: a bind does not take \"sync\"",
        ),
        (
            json!({"destination": "/x", "type": "mqueue", "options": ["tmpcopyup"]}),
            "mounts[7].options: tmpcopyup is for a tmpfs",
        ),
        (
            json!({"destination": "/x", "type": "tmpfs", "options": ["copy-symlink"]}),
            "mounts[7].options: copy-symlink is for a bind",
        ),
        (
            json!({"destination": "/x", "type": "bind", "source": "/y", "options": ["tmpcopyup"]}),
            "mounts[7].options: a bind does not take \"tmpcopyup\"",
        ),
        (
            json!({"destination": "/x", "type": "tmpfs", "uidMappings": [one()], "gidMappings": [one()]}),
            "mounts[7].options: only the ids of a bind can be mapped",
        ),
        (
            json!({"destination": "/x", "type": "bind", "source": "/y", "uidMappings": [one()]}),
            "mounts[7].gidMappings: user and group ids are mapped together",
        ),
        (
            json!({"destination": "/x", "type": "bind", "source": "/y", "options": ["idmap"]}),
            "mounts[7].options: without mappings of its own or a user namespace there is nothing to map by",
        ),
    ] {
        assert_eq!(refused("/mounts/-", mount.clone()), reason, "{mount}");
    }
    assert_eq!(refused("/process/cwd", json!("tmp")), "process.cwd: tmp is not an absolute path");
    assert_eq!(refused("/linux/maskedPaths", json!(["proc"])), "linux.maskedPaths[0]: proc is not an absolute path");
}

#[test]
fn mount_options_become_attributes_propagation_and_data() {
    use attribute::*;
    let step = |options: &[&str]| {
        let mount = json!({"destination": "/x", "type": "bind", "source": "/y", "options": options});
        planned("/mounts/-", mount).steps.into_iter().find(|step| matches!(step, Step::Bind { .. })).unwrap()
    };
    let bind = |recursive, [set, clear, set_all, clear_all]: [u64; 4], propagation| Step::Bind {
        source: "/y".into(),
        target: "/x".into(),
        recursive,
        attributes: Attributes { set, clear, set_all, clear_all },
        propagation,
        ids: None,
    };
    let private = || Propagation::Private {};

    assert_eq!(step(&["bind"]), bind(false, [0, 0, 0, 0], private()));
    assert_eq!(step(&["rbind", "ro", "nosuid"]), bind(true, [RDONLY | NOSUID, 0, 0, 0], private()));
    assert_eq!(step(&["rbind", "rro", "rslave"]), bind(true, [0, 0, RDONLY, 0], Propagation::Slave {}));
    assert_eq!(step(&["rbind", "ro", "rw"]), bind(true, [0, RDONLY, 0, 0], private()));
    assert_eq!(step(&["bind", "rw", "ro"]), bind(false, [RDONLY, 0, 0, 0], private()));
    assert_eq!(step(&["bind", "noatime"]), bind(false, [NOATIME, ATIME_MASK, 0, 0], private()));
    assert_eq!(step(&["bind", "noatime", "strictatime"]), bind(false, [STRICTATIME, ATIME_MASK, 0, 0], private()));
    assert_eq!(step(&["bind", "noatime", "relatime"]), bind(false, [0, ATIME_MASK, 0, 0], private()));
    assert_eq!(step(&["rbind", "rro", "rw"]), bind(true, [0, RDONLY, RDONLY, 0], private()));
    assert_eq!(step(&["rbind", "ro", "rrw"]), bind(true, [0, 0, 0, RDONLY], private()));
    assert_eq!(step(&["rbind", "rnoatime", "nodev"]), bind(true, [NODEV, 0, NOATIME, ATIME_MASK], private()));
}

#[test]
fn a_mount_maps_ids_by_its_own_maps_or_those_of_the_user_namespace() {
    let mapping = json!([{"containerID": 0, "hostID": 100000, "size": 10}]);
    let ids = |mount: Value, user: Option<Value>| {
        let mut spec = serde_json::to_value(with("/mounts/-", mount)).unwrap();
        if let Some(user) = user {
            spec["linux"]["uidMappings"] = mapping.clone();
            spec["linux"]["gidMappings"] = mapping.clone();
            spec["linux"]["namespaces"].as_array_mut().unwrap().push(user);
        }
        let plan = plan(&serde_json::from_value(spec).unwrap(), &inputs()).unwrap();
        let of_x = |step: Step| match step {
            Step::Bind { target, ids, .. } if target == Path::new("/x") => Some(ids),
            _ => None,
        };
        plan.steps.into_iter().find_map(of_x).unwrap()
    };
    let mount = |option: &str| json!({"destination": "/x", "type": "bind", "source": "/y", "options": [option]});
    let map = |outside, count| vec![IdMap { inside: 0, outside, count }];

    let mut own = mount("ridmap");
    own["uidMappings"] = json!([{"containerID": 0, "hostID": 5, "size": 1}]);
    own["gidMappings"] = json!([{"containerID": 0, "hostID": 6, "size": 1}]);
    assert_eq!(ids(own, None), Some(MountIds { uids: map(5, 1), gids: map(6, 1), recursive: true }));
    let containers = MountIds { uids: map(100_000, 10), gids: map(100_000, 10), recursive: false };
    assert_eq!(ids(mount("idmap"), Some(json!({"type": "user"}))), Some(containers));
    let joined = MountIds { uids: vec![], gids: vec![], recursive: false };
    assert_eq!(ids(mount("idmap"), Some(json!({"type": "user", "path": "/proc/1/ns/user"}))), Some(joined));
    assert_eq!(ids(mount("bind"), Some(json!({"type": "user"}))), None);
}

fn cgroup_targets(spec: &Spec, view: CgroupView) -> Vec<String> {
    let steps = plan(spec, &PlanInputs { cgroup_view: view, ..inputs() }).unwrap().steps;
    let shown = steps.iter().filter_map(|step| match step {
        Step::Filesystem { kind, target, attributes, .. } => {
            let access = if attributes & attribute::RDONLY == 0 { "rw" } else { "ro" };
            Some((target, format!("{kind} {} {access}", target.display())))
        }
        Step::ReadOnly { path } => Some((path, format!("read-only {}", path.display()))),
        Step::Bind { source, target, .. } => Some((target, format!("{} of {}", target.display(), source.display()))),
        _ => None,
    });
    shown.filter(|(target, _)| target.starts_with("/sys/fs/cgroup")).map(|(_, text)| text).collect()
}

/// Security row 17 (CVE-2023-25809): what a container sees of its cgroups it cannot write.
#[test]
fn row_17_cgroup_mounts_are_read_only_and_show_the_limits() {
    let hierarchies = |lists: &[&[&str]]| {
        CgroupView::Hierarchies(lists.iter().map(|one| one.iter().map(|name| name.to_string()).collect()).collect())
    };
    let ordinary = Defaults::default().build().unwrap();
    let privileged = Defaults { privileged: true, ..Defaults::default() }.build().unwrap();
    let joined = || hierarchies(&[&["freezer"], &["cpu", "cpuacct"]]);

    assert_eq!(
        cgroup_targets(&ordinary, joined()),
        ["tmpfs /sys/fs/cgroup rw", "cgroup /sys/fs/cgroup/cpu,cpuacct ro", "read-only /sys/fs/cgroup"]
    );
    assert_eq!(cgroup_targets(&ordinary, hierarchies(&[&["freezer"]])), ["tmpfs /sys/fs/cgroup ro"]);
    assert_eq!(cgroup_targets(&ordinary, CgroupView::Unified), ["cgroup2 /sys/fs/cgroup ro"]);
    assert_eq!(cgroup_targets(&ordinary, CgroupView::Nothing).len(), 0);
    assert_eq!(
        cgroup_targets(&privileged, joined()),
        ["tmpfs /sys/fs/cgroup rw", "cgroup /sys/fs/cgroup/freezer rw", "cgroup /sys/fs/cgroup/cpu,cpuacct rw"]
    );
}

#[test]
fn without_a_cgroup_namespace_only_the_containers_own_cgroups_are_bound() {
    let mut spec = Defaults::default().build().unwrap();
    let mut namespaces = spec.linux().as_ref().unwrap().namespaces().clone().unwrap();
    namespaces.retain(|one| one.typ() != LinuxNamespaceType::Cgroup);
    spec.linux_mut().as_mut().unwrap().set_namespaces(Some(namespaces));
    let targets = |view, cgroups| {
        let inputs = PlanInputs { cgroup_view: view, cgroups, ..inputs() };
        plan(&spec, &inputs).map(|plan| plan.steps).map_err(|error| error.to_string())
    };
    let has = |steps: &[Step], from: &str, to: &str| {
        steps.iter().any(|step| matches!(step, Step::Bind { source, target, .. } if source == Path::new(from) && target == Path::new(to)))
    };

    let v1 = Cgroups { procs: vec!["/m/c/cgroup.procs".into()], ..Cgroups::default() };
    let steps = targets(CgroupView::Hierarchies(vec![vec!["memory".into()]]), v1).unwrap();
    assert!(has(&steps, "/m/c", "/sys/fs/cgroup/memory"), "{steps:?}");
    let v2 = Cgroups { unified: Some("/u/c".into()), ..Cgroups::default() };
    let steps = targets(CgroupView::Unified, v2).unwrap();
    assert!(has(&steps, "/u/c", "/sys/fs/cgroup"), "{steps:?}");
    let error = targets(CgroupView::Unified, Cgroups::default()).unwrap_err();
    assert!(error.contains("without a cgroup namespace the container needs cgroups of its own"), "{error}");
}

/// A host whose `/dev` is bound gets none of our nodes or links.
#[test]
fn a_bound_dev_is_left_as_it_is() {
    let spec =
        with("/mounts", json!([{"destination": "/dev/", "type": "bind", "source": "/dev", "options": ["rbind"]}]));

    let steps = plan(&spec, &inputs()).unwrap().steps;

    assert!(!steps.iter().any(|step| matches!(step, Step::Device { .. } | Step::Symlink { .. })), "{steps:?}");
}

#[test]
fn in_a_user_namespace_nodes_are_bound_from_the_host() {
    let mut spec = with("/linux/uidMappings", json!([{"containerID": 0, "hostID": 100000, "size": 65536}]));
    let linux = spec.linux_mut().as_mut().unwrap();
    let mut namespaces = linux.namespaces().clone().unwrap();
    namespaces.push(serde_json::from_value(json!({"type": "user"})).unwrap());
    linux.set_gid_mappings(linux.uid_mappings().clone()).set_namespaces(Some(namespaces));

    let plan = plan(&spec, &inputs()).unwrap();

    assert!(!plan.steps.iter().any(|step| matches!(step, Step::Device { .. })));
    assert!(
        plan.steps.iter().any(|step| matches!(step, Step::HostDevice { path, .. } if path == Path::new("/dev/null")))
    );
    assert_eq!(plan.uid_map, [IdMap { inside: 0, outside: 100_000, count: 65536 }]);
}

#[test]
fn mappings_and_user_namespace_need_each_other() {
    let mapping = json!([{"containerID": 0, "hostID": 1, "size": 1}]);

    assert_eq!(refused("/linux/uidMappings", mapping), "linux.uidMappings: it needs a new user namespace");
    assert_eq!(
        refused("/linux/namespaces/-", json!({"type": "user"})),
        "linux.uidMappings: a new user namespace needs at least one mapping"
    );
}

#[test]
fn namespaces_are_listed_once_and_mount_is_always_new() {
    assert_eq!(
        refused("/linux/namespaces/-", json!({"type": "pid"})),
        "linux.namespaces[6]: this type is listed twice"
    );
    assert_eq!(
        refused("/linux/namespaces", json!([])),
        "linux.namespaces: a container needs a mount namespace of its own"
    );
    assert_eq!(
        refused("/linux/namespaces", json!([{"type": "mount"}, {"type": "cgroup"}])),
        "hostname: it needs a uts namespace of the container's own"
    );
}

/// Security row 16 (CVE-2022-0811).
#[test]
fn row_16_only_parameters_of_own_namespaces_are_set() {
    let sysctl = |key: &str, value: &str| plan(&with("/linux/sysctl", json!({key: value})), &inputs());
    for (key, value) in [
        ("kernel.core_pattern", "|/x"),
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/x\n"),
        ("kernel.shm_rmid_forced+x", "1"),
        ("net.ipv4.ip_forward\0", "1"),
        ("net/../kernel/core_pattern", "1"),
        ("net..x", "1"),
        ("/net/x", "1"),
        ("net.x", ""),
        ("net.x", "1\0"),
        ("vm.overcommit_memory", "1"),
        ("net.ipv4,x", "1"),
        ("kernel.hostname", "x"),
        ("kernel.pid_max", "1"),
        ("user.max_net_namespaces", "1"),
        ("fs.mqueue", "1"),
        ("", "1"),
    ] {
        let error = sysctl(key, value).expect_err(key).to_string();
        assert!(error.starts_with(&format!("linux.sysctl[{key:?}]: ")), "{error}");
    }
    for (key, file) in [
        ("kernel.msg_next_id", "kernel/msg_next_id"),
        ("kernel.domainname", "kernel/domainname"),
        ("vm.memfd_noexec", "vm/memfd_noexec"),
        ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ("kernel.shmmax", "kernel/shmmax"),
        ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
    ] {
        let steps = sysctl(key, "1").unwrap().steps;
        assert!(steps.contains(&Step::Sysctl { key: file.into(), value: "1".into() }), "{key}");
    }
    let host = Defaults {
        network: Network::Host,
        sysctl: [("net.ipv4.ip_forward".to_owned(), "1".to_owned())].into(),
        ..Defaults::default()
    };
    let error = plan(&host.build().unwrap(), &inputs()).unwrap_err().to_string();
    assert_eq!(error, "linux.sysctl[\"net.ipv4.ip_forward\"]: its namespace is the host's");
}

/// Security row 34 (CVE-2026-57231).
#[test]
fn row_34_the_environment_is_names_and_values_only() {
    for bad in ["FOO", "", "*", "=x", "A=\0"] {
        assert!(refused("/process/env", json!(["PATH=/", bad])).starts_with("process.env[1]: "), "{bad:?}");
    }
    let plan = planned("/process/env", json!(["A=1", "AB=2", "A=3", "B=a=b"]));
    assert_eq!(plan.process.env, ["AB=2", "A=3", "B=a=b"]);
}

/// Security row 13 (CVE-2021-43784): sizes are checked where they are known by name.
#[test]
fn row_13_oversized_fields_are_refused_by_name() {
    for size in [128 << 10, 16 << 20] {
        assert!(refused("/process/args", json!(["x", "y".repeat(size)])).starts_with("process.args[1]: "));
        assert!(refused("/process/env", json!([format!("A={}", "y".repeat(size))])).starts_with("process.env[0]: "));
        assert!(refused("/process/cwd", json!(format!("/{}", "y".repeat(size)))).starts_with("process.cwd: "));
        assert!(refused("/hostname", json!("y".repeat(size))).starts_with("hostname: "));
    }
    let plan = planned("/process/args", json!(["x", "y".repeat(70_000)]));
    assert_eq!(Plan::decode(&plan.encode()).unwrap(), plan);
}

#[test]
fn the_process_is_checked_field_by_field() {
    for (pointer, value, field) in [
        ("/process/args", json!([]), "process.args: "),
        ("/process/args", json!([""]), "process.args: "),
        ("/process/args", json!(["a", "b\u{0}"]), "process.args[1]: "),
        ("/process/user", json!({"uid": 4294967295_u32, "gid": 0}), "process.user.uid: "),
        ("/process/user", json!({"uid": 0, "gid": 0, "umask": 4096}), "process.user.umask: "),
        ("/process/user", json!({"uid": 0, "gid": 0, "username": "x"}), "process.user.username is not supported"),
        ("/process/oomScoreAdj", json!(1001), "process.oomScoreAdj: "),
        ("/process/selinuxLabel", json!("x\u{0}"), "process.selinuxLabel: "),
        ("/process/apparmorProfile", json!("x\u{0}"), "process.apparmorProfile: "),
        ("/process/scheduler", json!({"policy": "SCHED_FIFO"}), "process.scheduler.priority: "),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_RT", "priority": 9}), "process.ioPriority.priority: "),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND"}), "linux.memoryPolicy.nodes: "),
        ("/linux/personality", json!({"domain": "LINUX", "flags": ["X"]}), "linux.personality.flags: "),
        ("/linux/intelRdt", json!({"closID": "x"}), "linux.intelRdt is not supported"),
        ("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 2, "hard": 1}]), "process.rlimits[0]: "),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}, {"type": "RLIMIT_CPU", "soft": 1, "hard": 1}]),
            "process.rlimits[1]: ",
        ),
        ("/process/capabilities", json!({"effective": ["CAP_CHOWN"]}), "process.capabilities.effective: "),
        (
            "/process/capabilities",
            json!({"permitted": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"]}),
            "process.capabilities.ambient: ",
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5000}),
            "linux.seccomp.defaultErrnoRet: ",
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": ""}),
            "linux.seccomp.listenerPath: ",
        ),
        ("/linux/rootfsPropagation", json!("sideways"), "linux.rootfsPropagation: "),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "c", "major": -1, "minor": 0}]),
            "linux.devices[0].major: ",
        ),
        ("/linux/devices", json!([{"path": "x", "type": "c", "major": 1, "minor": 0}]), "linux.devices[0].path: "),
        ("/linux/timeOffsets", json!({"boottime": {"secs": 1}}), "linux.timeOffsets: it needs a new time namespace"),
        ("/linux/netDevices", json!({"a b": {}}), "linux.netDevices[\"a b\"]: "),
        ("/linux/netDevices", json!({"eth%d": {}}), "linux.netDevices[\"eth%d\"]: "),
        ("/linux/netDevices", json!({"eth0": {"name": "x/y"}}), "linux.netDevices[\"eth0\"].name: "),
        ("/linux/netDevices", json!({"eth0": {"name": "%s"}}), "linux.netDevices[\"eth0\"].name: "),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "p", "fileMode": 0o4755}]),
            "linux.devices[0].fileMode: 4755",
        ),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "a"}]), "linux.devices[0].type: "),
        ("/hooks", json!({"poststop": [{"path": "/x"}]}), "hooks is not supported"),
        ("/hostname", json!("a b"), "hostname: "),
    ] {
        let error = refused(pointer, value.clone());
        assert!(error.starts_with(field), "{pointer} {value}: {error}");
    }
    planned("/hooks", json!({}));
}

#[test]
fn a_terminal_takes_its_size_from_the_spec_then_the_caller_then_80_by_24() {
    let mut spec = Defaults { terminal: true, console_size: Some((132, 50)), ..Defaults::default() }.build().unwrap();
    let size = |spec: &Spec, terminal| {
        let inputs = PlanInputs { streams: Streams { terminal, ..Streams::default() }, ..inputs() };
        plan(spec, &inputs).unwrap().streams.terminal.map(|size| (size.columns, size.rows))
    };

    assert_eq!(size(&spec, None), Some((132, 50)));
    spec.process_mut().as_mut().unwrap().set_console_size(None);
    assert_eq!(size(&spec, Some(TerminalSize { rows: 7, columns: 9 })), Some((9, 7)));
    assert_eq!(size(&spec, None), Some((80, 24)));
    spec.process_mut().as_mut().unwrap().set_terminal(Some(false));
    assert_eq!(size(&spec, Some(TerminalSize { rows: 7, columns: 9 })), None);
}

fn exec(options: ExecOptions) -> Plan {
    let spec = Defaults::default().build().unwrap();
    let inputs = ExecInputs { pid: 42, start_time: 7, ..ExecInputs::default() };
    let process = ExecOptions { args: vec!["id".into()], ..options }.process(&spec).unwrap();
    plan_exec(&spec, &process, &inputs).unwrap()
}

/// Security row 26 (CVE-2025-27612).
#[test]
fn row_26_an_exec_without_options_has_the_containers_capabilities_filter_and_namespaces() {
    let spec = Defaults::default().build().unwrap();
    let container = plan(&spec, &inputs()).unwrap();

    let exec = exec(ExecOptions::default());

    assert_eq!(exec.process.capabilities, container.process.capabilities);
    assert_eq!(exec.process.seccomp, container.process.seccomp);
    assert_eq!(exec.process.args, ["id"]);
    assert_eq!((exec.root, exec.steps.len()), (Root::None {}, 0));
    assert_eq!(exec.namespaces, Namespaces::default());
    assert_eq!(exec.target, Some(Target { pid: 42, start_time: 7, namespaces: 0x6e02_0000 }));
}

/// What the scheduler, the memory and the machine are to do for a process is the same for a further one.
#[test]
fn an_exec_is_scheduled_as_the_container_and_on_the_cpus_of_its_own() {
    let spec = with("/linux/personality", json!({"domain": "LINUX32"}));
    let mut spec = serde_json::to_value(spec).unwrap();
    spec["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0"});
    spec["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
    spec["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 7});
    spec["process"]["execCPUAffinity"] = json!({"initial": "0-1", "final": "1"});
    let spec: Spec = serde_json::from_value(spec).unwrap();
    let container = plan(&spec, &PlanInputs { keyring: Some("_ses.x".into()), ..inputs() }).unwrap().process;

    let inputs = ExecInputs { pid: 42, keyring: Some("_ses.x".into()), ..ExecInputs::default() };
    let exec = plan_exec(&spec, spec.process().as_ref().unwrap(), &inputs).unwrap().process;

    assert_eq!(container.personality, Some(8));
    assert_eq!(container.scheduler.as_ref().map(|scheduler| (scheduler.policy, scheduler.nice)), Some((3, 5)));
    assert_eq!((container.io_priority, container.keyring.as_deref()), (Some(2 << 13 | 7), Some("_ses.x")));
    assert_eq!((&container.initial_cpus, &container.final_cpus), (&vec![], &vec![]), "they are for further processes");
    assert_eq!(exec, strata_init::plan::Process { initial_cpus: vec![0, 1], final_cpus: vec![1], ..container });
}

#[test]
fn the_agent_of_a_filter_is_told_who_asks() {
    let rule = json!({"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"});
    let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/agent", "listenerMetadata": "m\"",
        "syscalls": [rule]});
    let mut spec = with("/linux/seccomp", filter);
    spec.set_annotations(Some([("key".to_owned(), "}}".to_owned())].into()));
    let plan_inputs =
        PlanInputs { container: Some(crate::hooks::Container { id: "x".into(), bundle: "/b".into() }), ..inputs() };
    let exec_inputs = ExecInputs { id: "x".into(), bundle: "/b".into(), pid: 42, ..ExecInputs::default() };
    let read = |plan: Plan| -> Value {
        let listener = plan.process.seccomp.unwrap().listener.unwrap();
        assert_eq!(listener.path, Path::new("/agent"));
        serde_json::from_str(&listener.message.join("77")).unwrap()
    };
    let state = |status: &str, pid: u32| {
        json!({
            "ociVersion": crate::default_spec::OCI_VERSION,
            "fds": ["seccompFd"],
            "pid": 77,
            "metadata": "m\"",
            "state": {
                "ociVersion": crate::default_spec::OCI_VERSION, "id": "x", "status": status, "pid": pid,
                "bundle": "/b", "annotations": {"key": "}}"},
            },
        })
    };

    let first = read(plan(&spec, &plan_inputs).unwrap());
    let further = read(plan_exec(&spec, spec.process().as_ref().unwrap(), &exec_inputs).unwrap());

    assert_eq!(first, state("creating", 77));
    assert_eq!(further, state("running", 42));
}

/// Security rows 6 and 14: an exec as another user, or with more rights, still inherits nothing.
#[test]
fn row_6_14_an_exec_as_another_user_starts_without_capabilities() {
    let identity = Identity { uid: 1000, gid: 1000, additional_gids: vec![10, 1000], home: "/".into() };
    let user = exec(ExecOptions { identity: Some(identity), ..ExecOptions::default() }).process;
    let privileged = exec(ExecOptions { capabilities: Some(CapabilitySet::ALL), ..ExecOptions::default() }).process;

    let sets = &user.capabilities;
    assert_eq!((sets.effective, sets.permitted, sets.inheritable, sets.ambient), (0, 0, 0, 0));
    assert_eq!(sets.bounding, CapabilitySet::docker().bits());
    assert_eq!((user.uid, user.gid, user.groups), (1000, 1000, vec![10, 1000]));
    assert_eq!(
        (privileged.capabilities.effective, privileged.capabilities.inheritable),
        (CapabilitySet::ALL.bits(), 0)
    );
    assert!(CapabilitySet::ALL.contains(Capability::SysAdmin));
}

#[test]
fn an_exec_adds_to_the_environment_and_the_last_word_counts() {
    let plan = exec(ExecOptions {
        env: vec!["HOME=/x".into(), "N=1".into()],
        cwd: Some("/tmp".into()),
        ..ExecOptions::default()
    });

    assert_eq!(plan.process.env[1..], ["HOME=/x", "N=1"]);
    assert_eq!(plan.process.cwd, Path::new("/tmp"));
}

#[test]
fn an_exec_needs_a_process_to_join() {
    let spec = Defaults::default().build().unwrap();
    let error = plan_exec(&spec, spec.process().as_ref().unwrap(), &ExecInputs::default()).unwrap_err();

    assert_eq!(error.to_string(), "pid: the container has no process to join");
}

#[test]
fn planning_takes_a_fraction_of_a_millisecond_once_the_filter_is_known() {
    let spec = Defaults::default().build().unwrap();
    plan(&spec, &inputs()).unwrap();

    let begin = std::time::Instant::now();
    (0..100).for_each(|_| drop(plan(&spec, &inputs()).unwrap()));
    let each = begin.elapsed() / 100;

    eprintln!("one plan: {each:?}");
    assert!(each.as_micros() < 2000, "{each:?}");
}

/// Spec: config.md, Specification version: a semantic version that is supported
#[test]
fn versions_are_semantic_and_of_the_supported_range() {
    for version in ["1.0.0", "1.0.2-dev", "1.0.0-rc5", "1.1.0+dev", "1.2.1", "1.3.0", "1.3.7-rc.1+x"] {
        planned("/ociVersion", json!(version));
    }
    for version in ["0.9.0", "1.4.0", "2.0.0", "10.0.0"] {
        let error = refused("/ociVersion", json!(version));
        assert!(error.starts_with(&format!("ociVersion: {version} is not supported")), "{error}");
    }
    for version in ["", "1", "1.0", "1.0.0.0", "v1.0.0", "1.0.x", "01.0.0", "1.0.0-", "1.0.0+", " 1.0.0", "1.0.0 "] {
        let error = refused("/ociVersion", json!(version));
        assert_eq!(error, format!("ociVersion: {version:?} is not a semantic version"));
    }
}
