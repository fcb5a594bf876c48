//! Golden plans for the specs in `corpus/specs` (write them anew with STRATA_BLESS=1), and the rules one by one.

mod mounts;
mod process;

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
