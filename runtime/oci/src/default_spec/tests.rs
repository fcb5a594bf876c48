//! What a container gets by default, stated claim by claim against Docker's and the security research.

use std::path::Path;

use oci_spec::runtime::{Capability, LinuxDeviceBuilder, LinuxDeviceType, LinuxIdMapping, MountBuilder};
use serde_json::{Value, json};

use super::*;

fn spec(defaults: Defaults) -> Value {
    serde_json::to_value(defaults.build().unwrap()).unwrap()
}

fn mount<'a>(spec: &'a Value, destination: &str) -> Option<&'a Value> {
    spec["mounts"].as_array().unwrap().iter().find(|mount| mount["destination"] == destination)
}

fn has_option(mount: Option<&Value>, option: &str) -> bool {
    mount.unwrap()["options"].as_array().unwrap().contains(&json!(option))
}

#[test]
fn a_default_container_is_what_docker_gives() {
    let spec = spec(Defaults { hostname: Some("web".into()), ..Defaults::default() });

    let kinds: Vec<_> = spec["linux"]["namespaces"].as_array().unwrap().iter().map(|one| &one["type"]).collect();
    assert_eq!(kinds, ["pid", "network", "ipc", "uts", "mount", "cgroup"]);
    assert_eq!(spec["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 14);
    assert_eq!(spec["process"]["noNewPrivileges"], json!(false));
    assert_eq!(spec["process"]["env"], json!([format!("PATH={DEFAULT_PATH}"), "HOME=/", "HOSTNAME=web"]));
    assert_eq!(spec["process"].get("rlimits"), None);
    assert_eq!(spec["hostname"], json!("web"));
    assert_eq!(spec["linux"]["seccomp"]["defaultAction"], json!("SCMP_ACT_ERRNO"));
    assert_eq!(spec["root"]["readonly"], json!(false));
    for (destination, options) in [
        ("/proc", ["nosuid", "noexec", "nodev"]),
        ("/sys", ["ro", "nosuid", "nodev"]),
        ("/sys/fs/cgroup", ["ro", "nosuid", "nodev"]),
        ("/dev", ["nosuid", "mode=755", "size=65536k"]),
        ("/dev/pts", ["newinstance", "ptmxmode=0666", "gid=5"]),
        ("/dev/shm", ["size=67108864", "nodev", "noexec"]),
        ("/dev/mqueue", ["nosuid", "noexec", "nodev"]),
    ] {
        let found = mount(&spec, destination);
        assert!(options.iter().all(|option| has_option(found, option)), "{destination}: {found:?}");
    }
}

/// Security rows 3 and 38: moby's lists, and no fewer.
#[test]
fn row_3_38_proc_and_sys_are_masked_and_read_only() {
    let spec = spec(Defaults { masked_paths: vec!["/sys/x/thermal".into()], ..Defaults::default() });

    let masked = spec["linux"]["maskedPaths"].as_array().unwrap();
    for path in [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
        "/sys/x/thermal",
    ] {
        assert!(masked.contains(&json!(path)), "{path}");
    }
    assert_eq!(
        spec["linux"]["readonlyPaths"],
        json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"])
    );
}

/// Security rows 6 (CVE-2016-8867) and 14 (CVE-2022-24769).
#[test]
fn row_6_14_inheritable_and_ambient_are_empty_and_only_root_starts_with_capabilities() {
    let identity = Identity { uid: 1000, gid: 1000, additional_gids: vec![1000], home: "/home/u".into() };
    let user = Defaults { identity, cap_add: vec!["NET_ADMIN".into()], ..Defaults::default() };

    for (spec, active) in [(spec(Defaults::default()), 14), (spec(user), 0)] {
        let sets = &spec["process"]["capabilities"];
        assert_eq!((&sets["inheritable"], &sets["ambient"]), (&json!([]), &json!([])));
        assert_eq!(sets["effective"].as_array().unwrap().len(), active);
        assert_eq!(sets["permitted"].as_array().unwrap().len(), active);
        assert!(sets["bounding"].as_array().unwrap().len() >= 14);
    }
}

#[test]
fn a_privileged_container_has_everything_the_runtime_has() {
    let available = CapabilitySet::ALL.difference(CapabilitySet::from_iter([Capability::SysResource]));
    let spec = spec(Defaults { privileged: true, available, ..Defaults::default() });

    assert_eq!(spec["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 40);
    assert_eq!(spec["linux"].get("seccomp"), None);
    assert_eq!((&spec["linux"]["maskedPaths"], &spec["linux"]["readonlyPaths"]), (&json!([]), &json!([])));
    assert_eq!(spec["linux"]["resources"]["devices"], json!([{"allow": true, "access": "rwm"}]));
    assert!(has_option(mount(&spec, "/sys"), "rw") && has_option(mount(&spec, "/sys/fs/cgroup"), "rw"));
}

#[test]
fn the_strict_profile_has_eleven_capabilities_and_no_new_privileges() {
    let spec = spec(Defaults { profile: Profile::Strict, ..Defaults::default() });

    assert_eq!(spec["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 11);
    assert_eq!(spec["process"]["noNewPrivileges"], json!(true));
}

#[test]
fn without_a_device_filter_nobody_gets_mknod_by_default() {
    let bounding = |cap_add: &[&str], privileged| {
        let cap_add = cap_add.iter().map(|name| name.to_string()).collect();
        Defaults { device_filter: DeviceFilter::Absent, cap_add, privileged, ..Defaults::default() }
            .capabilities()
            .unwrap()
    };

    assert!(!bounding(&[], false).contains(Capability::Mknod));
    assert!(bounding(&["MKNOD"], false).contains(Capability::Mknod));
    assert!(bounding(&[], true).contains(Capability::Mknod));
}

#[test]
fn devices_are_denied_then_allowed_one_by_one() {
    let fuse =
        LinuxDeviceBuilder::default().path("/dev/fuse").typ(LinuxDeviceType::C).major(10).minor(229).build().unwrap();
    let spec = spec(Defaults { devices: vec![fuse], ..Defaults::default() });

    let rules = spec["linux"]["resources"]["devices"].as_array().unwrap();
    let opens = |major: i64, minor: i64| {
        rules.iter().any(|rule| rule["major"] == major && rule["minor"] == minor && rule["access"] == "rwm")
    };
    assert_eq!(rules[0], json!({"allow": false, "access": "rwm"}));
    assert!(rules[1..].iter().all(|rule| rule["allow"] == true));
    assert!(opens(1, 3) && opens(5, 0) && opens(10, 229));
    assert!(!opens(10, 200) && !opens(8, 0), "neither net/tun nor disks");
}

#[test]
fn host_namespaces_are_left_out_and_joined_ones_have_a_path() {
    let defaults = Defaults {
        network: Network::Host,
        pid: Namespace::Join("/proc/7/ns/pid".into()),
        ipc: Namespace::Host,
        ..Defaults::default()
    };
    let spec = spec(defaults);

    assert_eq!(
        spec["linux"]["namespaces"],
        json!([{"type": "pid", "path": "/proc/7/ns/pid"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}])
    );
    assert_eq!(mount(&spec, "/dev/shm").unwrap()["type"], json!("bind"));
    assert_eq!(spec["linux"].get("sysctl"), None, "the host's network is not reconfigured");
}

#[test]
fn a_user_namespace_brings_its_mappings() {
    let mapping: LinuxIdMapping =
        serde_json::from_value(json!({"containerID": 0, "hostID": 100000, "size": 65536})).unwrap();
    let user_namespace = Some(UserNamespace { uid_mappings: vec![mapping], gid_mappings: vec![mapping] });
    let spec = spec(Defaults { user_namespace, ..Defaults::default() });

    assert_eq!(spec["linux"]["uidMappings"], json!([{"containerID": 0, "hostID": 100000, "size": 65536}]));
    assert!(spec["linux"]["namespaces"].as_array().unwrap().contains(&json!({"type": "user"})));
    assert_eq!(spec["linux"]["sysctl"].get("net.ipv4.ping_group_range"), None);
}

/// Without subordinate ids the kernel denies setgroups(2), and devpts a group that is not mapped.
#[test]
fn a_user_namespace_of_one_id_has_no_further_groups() {
    let mapping: LinuxIdMapping = serde_json::from_value(json!({"containerID": 0, "hostID": 1000, "size": 1})).unwrap();
    let user_namespace = Some(UserNamespace { uid_mappings: vec![mapping], gid_mappings: vec![mapping] });
    let spec = spec(Defaults { user_namespace, ..Defaults::default() });

    assert_eq!(spec["process"]["user"]["additionalGids"], json!([]));
    assert!(!has_option(mount(&spec, "/dev/pts"), "gid=5"));
}

#[test]
fn a_mount_of_the_caller_replaces_the_default_at_its_place() {
    let own = MountBuilder::default()
        .destination("/dev/shm")
        .typ("bind")
        .source("/x")
        .options(vec!["rbind".to_owned()])
        .build()
        .unwrap();
    let spec = spec(Defaults { mounts: vec![own], ..Defaults::default() });

    let at = spec["mounts"].as_array().unwrap().iter().filter(|mount| mount["destination"] == "/dev/shm").count();
    assert_eq!(at, 1);
    assert_eq!(mount(&spec, "/dev/shm").unwrap()["source"], json!("/x"));
}

#[test]
fn the_environment_keeps_what_it_has_and_gains_what_it_lacks() {
    let env = vec!["PATH=/only".to_owned(), "HOMER=d'oh".to_owned()];
    let identity = Identity { home: "/root".into(), ..Identity::default() };
    let spec = spec(Defaults { env, identity, terminal: true, console_size: Some((80, 24)), ..Defaults::default() });

    assert_eq!(spec["process"]["env"], json!(["PATH=/only", "HOMER=d'oh", "HOME=/root", "TERM=xterm"]));
    assert_eq!(spec["process"]["consoleSize"], json!({"height": 24, "width": 80}));
}

#[test]
fn a_capability_that_does_not_exist_is_refused() {
    let error = Defaults { cap_add: vec!["EVERYTHING".into()], ..Defaults::default() }.build().unwrap_err();

    assert!(matches!(error, Error::Capabilities(capabilities::Error::Unknown { ref name }) if name == "EVERYTHING"));
}

#[test]
fn a_spec_survives_its_own_json() {
    let spec = Defaults::default().build().unwrap();

    let again: Spec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();

    assert_eq!(again, spec);
}

#[test]
fn host_devices_are_device_nodes_without_terminals() {
    let devices = host_devices().unwrap();

    assert!(
        devices
            .iter()
            .any(|device| device.path() == Path::new("/dev/null") && device.major() == 1 && device.minor() == 3)
    );
    assert!(!devices.iter().any(|device| device.path().starts_with("/dev/pts")));
}
