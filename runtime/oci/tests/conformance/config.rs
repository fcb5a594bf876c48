//! config.md and config-linux.md: what is not allowed is an error that names the field, and nothing is left.

use std::fs;

use serde_json::{Value, json};

use crate::bundle::Bundle;

/// Runs a container whose spec has a value at this place, and returns the error.
fn refused(pointer: &str, value: Value) -> String {
    let bundle = Bundle::new("echo started", |spec| {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = spec.pointer_mut(parent).unwrap();
        match value {
            Value::Null => drop(parent.as_object_mut().unwrap().remove(key)),
            value => parent[key] = value,
        }
    });
    bundle.refused()
}

/// Spec: config.md: a value that is not allowed is an error that names its field
#[test]
fn bad_values_are_refused_by_field_with_status_1_and_leave_nothing() {
    let namespaces = |types: &[&str]| types.iter().map(|one| json!({"type": one})).collect::<Value>();
    let mapping = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    for (pointer, value, field) in [
        ("/ociVersion", Value::Null, "ociVersion: "),
        ("/ociVersion", json!("1.0"), "ociVersion: \"1.0\" is not a semantic version"),
        ("/ociVersion", json!("1.99.0"), "ociVersion: 1.99.0 is not supported"),
        ("/root", Value::Null, "root: a container needs one"),
        ("/root/path", json!(""), "root.path: "),
        ("/root/path", json!("none"), "root.path: "),
        ("/root/path", json!("config.json"), "root.path: "),
        ("/process", Value::Null, "process: "),
        ("/process/args", json!([]), "process.args: "),
        ("/process/args", Value::Null, "process.args: "),
        ("/process/cwd", json!("relative"), "process.cwd: "),
        ("/process/cwd", Value::Null, "process: missing field `cwd`"),
        ("/process/user/uid", json!(-1), "process.user.uid: "),
        ("/process/env", json!(["A\0B=1"]), "process.env[0]: "),
        ("/process/rlimits", json!([{"type": "RLIMIT_MOON", "soft": 1, "hard": 1}]), "process.rlimits[0].type: "),
        ("/linux/namespaces", namespaces(&["mount", "pid", "pid"]), "linux.namespaces[2]: "),
        ("/linux/namespaces", namespaces(&["mount", "moon"]), "linux.namespaces[1].type: "),
        ("/linux/uidMappings", mapping.clone(), "linux.uidMappings: "),
        ("/linux/gidMappings", mapping, "linux.gidMappings: "),
        ("/linux/maskedPaths", json!(["relative"]), "linux.maskedPaths[0]: "),
        ("/linux/resources/memory", json!({"limit": "1g"}), "linux.resources.memory.limit: "),
        ("/mounts", json!([{"destination": "/", "type": "tmpfs"}]), "mounts[0].destination: "),
        ("/mounts", json!({}), "mounts: "),
        ("/hooks", json!({"prestart": [{"path": "relative"}]}), "hooks.prestart[0].path: "),
        ("/hooks", json!({"poststop": [{"path": "/x", "timeout": 0}]}), "hooks.poststop[0].timeout: "),
    ] {
        let error = refused(pointer, value);

        assert!(error.starts_with(&format!("strata-oci: {field}")), "{error}");
    }
}

/// Spec: config.md, Hostname: a host name needs a uts namespace of the container's own
#[test]
fn names_without_a_uts_namespace_are_refused() {
    for field in ["hostname", "domainname"] {
        let bundle = Bundle::new("true", |spec| {
            spec.as_object_mut().unwrap().remove("hostname");
            spec[field] = json!("name");
            spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "uts");
        });

        assert!(bundle.refused().starts_with(&format!("strata-oci: {field}: ")));
    }
}

/// Row 13 (CVE-2021-43784).
#[test]
fn row_13_cve_2021_43784_what_is_no_spec_is_one_error_whatever_its_size() {
    let whole = fs::read(Bundle::new("true", |_| {}).path("config.json")).unwrap();
    let mut padded = whole.clone();
    padded.resize((16 << 20) + 1, b' ');
    for (bytes, error) in [
        (Vec::new(), "config.json is not JSON: EOF"),
        (whole[..whole.len() / 2].to_vec(), "config.json is not JSON: EOF"),
        (b"\0\0\0\0".to_vec(), "config.json is not JSON: "),
        (b"[1]".to_vec(), "config.json: "),
        (b"{\"x\":".iter().copied().chain([b'['; 1 << 16]).collect(), "config.json is not JSON: "),
        (padded, "it is over 16777216 bytes"),
    ] {
        let bundle = Bundle::new("true", |_| {});
        fs::write(bundle.path("config.json"), bytes).unwrap();

        let found = bundle.refused();

        assert!(found.contains(error) && found.lines().count() == 1, "{found}");
    }
}

/// Row 13 (CVE-2021-43784).
#[test]
fn row_13_cve_2021_43784_a_field_of_70000_bytes_arrives_whole_and_one_of_16_mib_is_refused() {
    let bundle = Bundle::new("echo ${#LONG}", |spec| {
        spec["process"]["env"] = json!([format!("LONG={}", "x".repeat(70_000)), "PATH=/bin"]);
        spec["annotations"] = json!({"long": "y".repeat(70_000)});
    });
    assert_eq!(bundle.output(), "70000\n");

    let error = refused("/annotations", json!({"long": "y".repeat(16 << 20)}));
    assert!(error.contains("it is over 16777216 bytes"), "{error}");
}

/// Row 16 (CVE-2022-0811).
#[test]
fn row_16_cve_2022_0811_a_sysctl_sets_one_parameter_of_an_own_namespace_or_is_refused() {
    let injected = "1+kernel.core_pattern=|/x";
    for (key, value) in [
        ("kernel.core_pattern", "|/x"),
        ("kernel.shm_rmid_forced+kernel.core_pattern", "1"),
        ("kernel.shm_rmid_forced=1", "1"),
        ("net/../kernel/core_pattern", "|/x"),
        ("net..ipv4.ip_forward", "1"),
        ("net.ipv4.ip_forward\n", "1"),
        ("/net/ipv4/ip_forward", "1"),
        ("kernel.shm_rmid_forced", "1\n2"),
        ("kernel.shm_rmid_forced", "1\0"),
        ("kernel.shm_rmid_forced", injected),
    ] {
        let before = fs::read("/proc/sys/kernel/core_pattern").unwrap();

        let error = refused("/linux/sysctl", json!({key: value}));

        // A value without control characters is one write, whose meaning is the kernel's to refuse.
        let expected = if value == injected { "set sysctl kernel/shm_rmid_forced" } else { "linux.sysctl[" };
        assert!(error.contains(expected), "{error}");
        assert_eq!(fs::read("/proc/sys/kernel/core_pattern").unwrap(), before);
    }
}

/// Row 20 (GHSA-5g49-rx9x-qfc6).
#[test]
fn row_20_ghsa_5g49_rx9x_qfc6_a_cgroup_path_stays_below_its_hierarchy() {
    for path in ["../../x", "/../x", "/strata-x/../../y", "strata-x/../y", "/strata-x/.", "/strata-x/a\0b"] {
        let error = refused("/linux/cgroupsPath", json!(path));

        assert!(error.contains("cgroup"), "{path:?}: {error}");
    }
}

/// Row 34 (CVE-2026-57231).
#[test]
fn row_34_cve_2026_57231_malformed_variables_are_refused_and_nothing_of_the_host_is_seen() {
    for entry in ["FOO", "=x", "*", "", "CANARY_*", "A\0=b"] {
        let error = refused("/process/env", json!(["PATH=/bin", entry]));
        assert!(error.starts_with("strata-oci: process.env[1]: "), "{error}");
    }
    let bundle = Bundle::new("", |spec| {
        spec["process"]["args"] = json!(["/usr/bin/env"]);
        spec["process"]["env"] = json!(["A=1", "PATH=/bin", "A=2"]);
    });
    let mut command = bundle.command();

    let output = command.args(["run", "--bundle", bundle.dir(), "c"]).env("CANARY_HOST", "1").output().unwrap();

    let mut found: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    found.sort_unstable();
    assert_eq!(found, ["A=2", "PATH=/bin"]);
}

/// Row 37 (CVE-2020-15257).
#[test]
fn row_37_cve_2020_15257_a_container_with_the_hosts_network_finds_no_socket_of_ours() {
    let bundle = Bundle::new("cat /proc/net/unix; echo fds; ls /proc/self/fd", |spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "network");
        spec["linux"].as_object_mut().unwrap().remove("sysctl");
    });

    let output = bundle.output();

    let (sockets, fds) = output.split_once("fds\n").unwrap();
    assert!(sockets.lines().all(|line| !line.contains('@') || !line.contains("strata")), "{sockets}");
    assert!(!sockets.contains(bundle.dir()), "{sockets}");
    // 0, 1, 2, and that of `ls` itself.
    assert_eq!(fds.split_whitespace().count(), 4, "{fds}");
}

/// Spec: config.md, Extensibility: unknown properties are ignored
#[test]
fn unknown_properties_are_ignored() {
    let bundle = Bundle::new("echo fine", |spec| {
        for pointer in ["", "/process", "/root", "/linux", "/linux/resources"] {
            spec.pointer_mut(pointer).unwrap()["org.example.future"] = json!({"x": [1, null]});
        }
    });

    assert_eq!(bundle.output(), "fine\n");
}
