//! Mounts, cgroup mounts, devices: what becomes steps, and what is refused.

use super::*;

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
