//! Claims about specs: what is refused, by its field, and what comes back as it came.

use super::*;

fn wire_spec() -> wire::ContainerSpec {
    let root = Some(wire::container_spec::Root::Image("debian".into()));
    wire::ContainerSpec { root, ..Default::default() }
}

fn refused(change: impl FnOnce(&mut wire::ContainerSpec)) -> String {
    let mut message = wire_spec();
    change(&mut message);
    match spec(Some(message)) {
        Err(Error::Argument { field, .. }) => field,
        other => panic!("{other:?}"),
    }
}

fn mount(target: &str, source: wire::mount_spec::Source) -> wire::MountSpec {
    wire::MountSpec { target: target.into(), source: Some(source), ..Default::default() }
}

#[test]
fn the_least_spec_is_an_image() {
    let (name, parsed) = spec(Some(wire_spec())).unwrap();
    assert!(name.is_none());
    assert_eq!(parsed.root, Root::Image("debian".into()));
    assert_eq!(parsed.network, crate::spec::Network::Default);
}

#[test]
fn what_is_malformed_is_refused_by_its_field() {
    assert_eq!(refused(|spec| spec.root = None), "spec.root");
    assert_eq!(refused(|spec| spec.name = "-x".into()), "spec.name");
    assert_eq!(refused(|spec| spec.network = 7), "spec.network");
    assert_eq!(refused(|spec| spec.env = vec!["=x".into()]), "spec.env");
    assert_eq!(refused(|spec| spec.command = vec!["a\0b".into()]), "spec.command");
    assert_eq!(refused(|spec| spec.command = vec!["x".repeat(3 << 20)]), "spec.command");
    assert_eq!(refused(|spec| spec.cap_add = vec!["CAP_NOPE".into()]), "spec.cap_add");
    assert_eq!(refused(|spec| spec.stop_signal = "NOPE".into()), "spec.stop_signal");
    assert_eq!(refused(|spec| spec.hostname = "a\n1.2.3.4 b".into()), "spec.hostname");
    assert_eq!(refused(|spec| spec.cdi_devices = vec!["/dev/null".into()]), "spec.cdi_devices");
    let limits = wire::Limits { memory_bytes: Some(4096), ..Default::default() };
    assert_eq!(refused(|spec| spec.limits = Some(limits)), "spec.limits.memory_bytes");
    let of_snapshot = Some(wire::container_spec::Root::SnapshotKey("step".into()));
    let limited = |spec: &mut wire::ContainerSpec| (spec.root, spec.writable_size_bytes) = (of_snapshot, 1);
    assert_eq!(refused(limited), "spec.writable_size_bytes");
    assert_eq!(refused(|spec| spec.volumes_from = vec![wire::VolumesFrom::default()]), "spec.volumes_from");
    for (key, value) in [("", "x"), ("x", "a\0b")] {
        assert_eq!(refused(|spec| spec.annotations = [(key.into(), value.into())].into()), "spec.annotations");
    }
}

#[test]
fn hosts_and_limits_are_checked_and_shown_as_they_came() {
    let host = |name: &str, address: &str| HostEntry { name: name.into(), address: address.into() };
    let limit = |name: &str, soft, hard| Ulimit { name: name.into(), soft, hard };
    for wrong in [host("a b", "127.0.0.1"), host("", "127.0.0.1"), host("a", "localhost"), host("a\n", "::1")] {
        assert_eq!(refused(|spec| spec.extra_hosts = vec![wrong]), "spec.extra_hosts");
    }
    for wrong in [limit("files", 1, 1), limit("nofile", 2, 1), limit("", 1, 1)] {
        assert_eq!(refused(|spec| spec.ulimits = vec![wrong]), "spec.ulimits");
    }
    let mut message = wire_spec();
    message.extra_hosts = vec![host("db", "10.0.0.1"), host("db6", "fe80::1")];
    message.ulimits = vec![limit("nofile", 1024, 2048), limit("core", 0, u64::MAX)];
    (message.shm_size_bytes, message.writable_size_bytes) = (1 << 20, 1 << 30);
    let (_, parsed) = spec(Some(message.clone())).unwrap();
    let shown = super::wire_spec("", parsed);
    assert_eq!((shown.extra_hosts, shown.ulimits), (message.extra_hosts, message.ulimits));
    assert_eq!((shown.shm_size_bytes, shown.writable_size_bytes), (1 << 20, 1 << 30));
}

#[test]
fn a_secret_environment_is_refused_without_being_shown() {
    for (auto_remove, name, value) in
        [(false, "TOKEN", "hunter2"), (true, "", "hunter2"), (true, "A=B", "hunter2"), (true, "A", "hunter2\0")]
    {
        let variable = wire::SecretVariable { name: name.into(), value: value.into() };
        let message = wire::ContainerSpec { auto_remove, secret_env: vec![variable], ..wire_spec() };
        let said = spec(Some(message)).unwrap_err().to_string();
        assert!(said.contains("secret_env") && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_limit_of_zero_is_no_limit() {
    let mut message = wire_spec();
    message.limits =
        Some(wire::Limits { memory_bytes: Some(0), nano_cpus: Some(0), pids: Some(0), ..Default::default() });
    assert_eq!(spec(Some(message)).unwrap().1.limits, Limits::default());
}

#[test]
fn secrets_go_in_and_never_out() {
    let bytes = wire::BytesSource { data: b"hunter2"[..].into(), ..Default::default() };
    let bytes = wire::mount_spec::Source::Bytes(bytes);
    let mut message = wire_spec();
    message.mounts = vec![mount("/run/secrets/x", bytes)];
    message.auto_remove = true;
    message.secret_env = vec![wire::SecretVariable { name: "TOKEN".into(), value: "hunter2".into() }];
    let (_, parsed) = spec(Some(message)).unwrap();
    assert!(!format!("{parsed:?}").contains("hunter2") && !format!("{parsed:?}").contains("104, 117"));
    let shown = super::wire_spec("n", parsed);
    assert!(shown.secret_env.is_empty());
    match &shown.mounts[0].source {
        Some(wire::mount_spec::Source::Bytes(bytes)) => assert!(bytes.data.is_empty()),
        other => panic!("{other:?}"),
    }
}
