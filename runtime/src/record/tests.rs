//! Claims about records and their files, and a record for the tests of others.

use std::collections::BTreeMap;

use super::*;
use crate::restart::Policy;
use crate::spec::{Limits, Mount, Network, Resolution, Root, SecretEnv};

pub fn spec() -> Spec {
    Spec {
        root: Root::Image("debian:bookworm".into()),
        command: vec![],
        entry_point: None,
        env: vec![],
        working_directory: String::new(),
        user: String::new(),
        has_terminal: false,
        has_stdin: false,
        hostname: String::new(),
        network: Network::None,
        resolution: Resolution::default(),
        ports: crate::spec::Ports::default(),
        mounts: vec![],
        is_root_read_only: false,
        limits: Limits::default(),
        cap_add: vec![],
        cap_drop: vec![],
        is_privileged: false,
        auto_remove: false,
        restart: crate::restart::Policy::No,
        fixed_limits: crate::spec::FixedLimits::default(),
        isolation: crate::spec::Isolation::default(),
        group_add: vec![],
        oom_score_adj: None,
        has_init: false,
        cgroup_parent: String::new(),
        health: crate::health::Wish::default(),
        dependencies: vec![],
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        stop_signal: String::new(),
        stop_timeout_seconds: None,
        is_volatile: false,
        has_no_log: false,
        log: crate::spec::Log::default(),
        platform: None,
        extra_hosts: vec![],
        shm_size_bytes: None,
        writable_size_bytes: None,
        ulimits: vec![],
        cdi_devices: Vec::new(),
        secrets: vec![],
        volumes_from: vec![],
        secret_env: SecretEnv::default(),
    }
}

pub fn record(byte: u8, name: &str) -> Record {
    let id = ContainerId::from_bytes([byte; 32]);
    Record::creating(id, ContainerName::parse(name).unwrap(), spec())
}

fn secret() -> Mount {
    let source = Source::Bytes { data: b"hunter2".to_vec(), mode: 0, owner: (0, 0) };
    Mount { target: "/run/secrets/x".into(), is_read_only: true, mode: String::new(), source }
}

#[test]
fn a_record_is_read_back_as_it_was_written() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::open(root.path()).unwrap();
    let mut first = record(1, "one");
    first.spec.mounts.push(secret());
    records.write(&first, Durability::Synced).unwrap();
    let identity = Identity { pid: 2, started: 3, boot_id: "b".into() };
    first.state = State::Running(Running { is_paused: true, ..Running::new(identity.clone(), identity) });
    records.write(&first, Durability::Unsynced).unwrap();

    let loaded = records.load().unwrap();

    // Nothing in it needs a later version.
    first.version = version::needed(&first);
    assert_eq!(serde_json::to_value(&loaded.records).unwrap(), serde_json::to_value([&first]).unwrap());
    assert!(loaded.damaged.is_empty());
}

#[test]
fn what_waits_for_a_start_that_its_new_policy_has_not_rests() {
    let twice = Policy::OnFailure { attempts: Some(2) };
    for (policy, code, count, rests) in [
        (Policy::No, 1, 1, true),
        (Policy::Always, 1, 9, false),
        (Policy::UnlessStopped, 0, 9, false),
        (twice, 1, 2, false),
        (twice, 1, 3, true),
        (twice, 0, 1, true),
    ] {
        let mut record = record(1, "one");
        (record.state, record.exit) = (State::Restarting, Some(Exit::code(code)));
        (record.restart_count, record.spec.restart) = (count, policy);

        record.rest();

        assert_eq!(record.state == State::Exited, rests, "{policy:?} {code} {count}");
    }
}

#[test]
fn an_older_copy_of_a_record_undoes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::open(root.path()).unwrap();
    let older = Record { revision: 1, ..record(1, "one") };
    let newer = Record { revision: 2, is_stopped_by_hand: true, ..older.clone() };
    records.write(&record(1, "one"), Durability::Synced).unwrap();

    records.write(&newer, Durability::Unsynced).unwrap();
    records.write(&older, Durability::Synced).unwrap();

    assert!(records.load().unwrap().records[0].is_stopped_by_hand);
}

#[test]
fn copies_of_a_record_that_are_written_at_once_are_all_written_or_outdone() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::open(root.path()).unwrap();
    records.write(&record(1, "one"), Durability::Synced).unwrap();

    std::thread::scope(|scope| {
        for revision in 1..=200 {
            let copy = Record { revision, restart_count: revision as u32, ..record(1, "one") };
            let records = &records;
            scope.spawn(move || records.write(&copy, Durability::Unsynced).unwrap());
        }
    });

    assert_eq!(records.load().unwrap().records[0].restart_count, 200);
}

#[test]
fn what_is_written_of_a_container_that_was_removed_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::open(root.path()).unwrap();
    let first = record(1, "one");
    records.write(&first, Durability::Synced).unwrap();
    records.remove(&first.id).unwrap();

    records.write(&Record { revision: 1, ..first.clone() }, Durability::Synced).unwrap();

    assert!(!records.dir(&first.id).exists());
}

#[test]
fn secrets_of_a_container_that_is_removed_at_its_end_never_reach_the_disk() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::open(root.path()).unwrap();
    let mut record = record(1, "one");
    record.spec.auto_remove = true;
    record.spec.mounts.push(secret());
    record.spec.secret_env = SecretEnv(vec!["TOKEN=hunter3".into()]);

    records.write(&record, record.durability()).unwrap();

    assert!(records.load().unwrap().records[0].spec.mounts.is_empty());
    let text = fs::read_to_string(records.dir(&record.id).join("record.json")).unwrap();
    assert!(!text.contains("hunter"), "{text}");
}

#[test]
fn a_damaged_record_is_set_aside_and_remembered() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::open(root.path()).unwrap();
    let (good, bad) = (record(1, "one"), record(2, "two"));
    records.write(&good, Durability::Unsynced).unwrap();
    records.write(&bad, Durability::Unsynced).unwrap();
    fs::write(records.dir(&bad.id).join("record.json"), b"{\"version\":1,").unwrap();

    let (first, second) = (records.load().unwrap(), records.load().unwrap());

    for loaded in [first, second] {
        assert_eq!(loaded.records.len(), 1);
        assert_eq!(loaded.damaged, [bad.id.to_string()]);
    }
}

#[test]
fn a_directory_without_a_record_is_swept() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::open(root.path()).unwrap();
    let dir = records.dir(&record(1, "one").id);
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("record.json.new"), b"x").unwrap();

    assert!(records.load().unwrap().records.is_empty());
    assert!(!dir.exists());
}

#[test]
fn a_removed_record_is_gone_and_removing_again_succeeds() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::open(root.path()).unwrap();
    let record = record(1, "one");
    records.write(&record, Durability::Unsynced).unwrap();

    records.remove(&record.id).unwrap();
    records.remove(&record.id).unwrap();

    assert!(records.load().unwrap().records.is_empty());
}

#[test]
fn a_second_service_on_the_same_root_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let first = Records::open(root.path()).unwrap();
    assert!(matches!(Records::open(root.path()), Err(Error::RootLocked { .. })));
    drop(first);
    assert!(Records::open(root.path()).is_ok());
}
