//! config-linux.md, "Sysctl": parameters of the container's own namespaces, and of no others.

use serde_json::json;

use crate::bundle::Bundle;

/// Spec: config-linux.md, Sysctl: parameters of the container's own namespaces have the values asked for
#[test]
fn parameters_of_own_namespaces_are_set() {
    let script = "for name in kernel/shmmax kernel/msgmni fs/mqueue/msg_max net/ipv4/ip_forward \
        net/ipv4/ip_local_port_range kernel/domainname; do cat /proc/sys/$name; done";
    let bundle = Bundle::new(script, |spec| {
        spec["linux"]["sysctl"] = json!({
            "kernel.shmmax": "12345",
            "kernel/msgmni": "77",
            "fs.mqueue.msg_max": "9",
            "net.ipv4.ip_forward": "1",
            "net.ipv4.ip_local_port_range": "20000 20100",
            "kernel.domainname": "inside",
        });
    });

    assert_eq!(bundle.output(), "12345\n77\n9\n1\n20000\t20100\ninside\n");
}

/// Row 16 (CVE-2022-0811): neither a key of the host nor a value that hides one is taken.
#[test]
fn row_16_cve_2022_0811_parameters_of_the_host_are_refused() {
    let before = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    for (key, value) in [
        ("kernel.core_pattern", "|/bin/sh"),
        ("kernel.shm_rmid_forced", "1+kernel.core_pattern=|/bin/sh\n"),
        ("net/../kernel/core_pattern", "x"),
        ("kernel.hostname", "x"),
        ("vm.swappiness", "1"),
    ] {
        let error = Bundle::new("true", |spec| spec["linux"]["sysctl"] = json!({key: value})).refused();
        assert!(error.contains(&format!("linux.sysctl[{key:?}]: ")), "{error}");
    }
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
}

/// Spec: config-linux.md, Sysctl: a parameter whose namespace is the host's is an error
#[test]
fn parameters_of_shared_namespaces_are_refused() {
    let share = |path: Option<&str>| {
        let bundle = Bundle::new("true", |spec| {
            spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
            let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "network");
            namespaces.extend(path.map(|path| json!({"type": "network", "path": path})));
        });
        bundle.refused()
    };

    assert!(share(None).contains("linux.sysctl[\"net.ipv4.ip_forward\"]: its namespace is the host's"));
    let by_path = share(Some("/proc/self/ns/net"));
    assert!(by_path.contains("net/ipv4/ip_forward") && by_path.contains("is the host's"), "{by_path}");
}

/// Spec: config-linux.md, Sysctl: a value that the kernel does not take is an error
#[test]
fn values_that_the_kernel_refuses_are_errors() {
    let error = Bundle::new("true", |spec| spec["linux"]["sysctl"] = json!({"kernel.shmmni": "many"})).refused();

    assert!(error.contains("kernel/shmmni: invalid argument"), "{error}");
}
