use serde_json::json;

use super::*;
use crate::cgroup::settings::{self, Context, Moment};

fn of(version: Version, resources: serde_json::Value) -> Vec<(String, Value)> {
    let resources: LinuxResources = serde_json::from_value(resources).unwrap();
    let version_of = |_: &str| version;
    let context = Context {
        version_of: &version_of,
        moment: Moment::Create,
        has_default_devices: false,
        memory_limit: None,
        quota: None,
    };
    let settings = settings::of(&resources, &context).unwrap();
    properties(&settings.list, USUAL_PERIOD).into_iter().map(|one| (one.name, one.value)).collect()
}

fn numbers(list: &[(&str, u64)]) -> Vec<(String, Value)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), Value::U64(*value))).collect()
}

#[test]
fn limits_of_v2_are_properties_of_the_same_values() {
    let resources = json!({
        "memory": {"limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20},
        "pids": {"limit": 9}, "cpu": {"shares": 1024}, "blockIO": {"weight": 1000},
        "unified": {"memory.high": "50000", "memory.min": "max"}
    });

    let expected = [
        ("CPUWeight", 100),
        ("IOWeight", 10000),
        ("MemoryMax", 64 << 20),
        ("MemoryLow", 32 << 20),
        ("MemorySwapMax", 32 << 20),
        ("MemoryHigh", 50000),
        ("MemoryMin", u64::MAX),
        ("TasksMax", 9),
    ];
    assert_eq!(of(Version::V2, resources), numbers(&expected));
}

#[test]
fn limits_of_v1_are_properties_of_v1() {
    let resources = json!({
        "memory": {"limit": -1}, "pids": {"limit": -1}, "cpu": {"shares": 512}, "blockIO": {"weight": 10}
    });

    let expected = [("BlockIOWeight", 10), ("CPUShares", 512), ("MemoryLimit", u64::MAX), ("TasksMax", u64::MAX)];
    assert_eq!(of(Version::V1, resources), numbers(&expected));
}

#[test]
fn a_quota_is_time_per_second_in_whole_percents() {
    for (quota, period, expected) in [
        (json!(50_000), json!(null), vec![("CPUQuotaPerSecUSec", 500_000)]),
        (json!(50_000), json!(25_000), vec![("CPUQuotaPeriodUSec", 25_000), ("CPUQuotaPerSecUSec", 2_000_000)]),
        (json!(33_333), json!(100_000), vec![("CPUQuotaPeriodUSec", 100_000), ("CPUQuotaPerSecUSec", 340_000)]),
        (json!(-1), json!(null), vec![("CPUQuotaPerSecUSec", u64::MAX)]),
    ] {
        for version in [Version::V1, Version::V2] {
            assert_eq!(of(version, json!({"cpu": {"quota": quota, "period": period}})), numbers(&expected), "{quota}");
        }
    }
}

#[test]
fn sets_of_processors_are_bits() {
    let resources = json!({"cpu": {"cpus": "0-2,9", "mems": "0"}});
    let bytes = |bytes: &[u8]| Value::List("y".to_owned(), bytes.iter().map(|byte| Value::Byte(*byte)).collect());

    let expected = [("AllowedCPUs".to_owned(), bytes(&[7, 2])), ("AllowedMemoryNodes".to_owned(), bytes(&[1]))];
    assert_eq!(of(Version::V2, resources), expected);
    assert_eq!(of(Version::V2, json!({"cpu": {"cpus": "0-31:1/2"}})), []);
}

#[test]
fn rules_for_devices_are_told_on_v1_where_systemd_writes_them_too() {
    let resources = json!({"devices": [
        {"allow": true, "type": "c", "major": 9, "minor": 9, "access": "r"},
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
        {"allow": true, "type": "c", "major": 136, "access": "rw"},
        {"allow": true, "type": "b", "access": "m"},
        {"allow": true, "type": "b", "minor": 5, "access": "r"},
        {"allow": true, "type": "b", "major": 8, "minor": 0, "access": "r"},
        {"allow": false, "type": "b", "major": 8, "minor": 0, "access": "r"}
    ]});
    let pair = |node: &str, access: &str| Value::Tuple(vec![Value::Text(node.into()), Value::Text(access.into())]);
    let allowed = vec![pair("/dev/char/1:3", "mrw"), pair("char-136", "rw"), pair("block-*", "m")];

    let expected = [
        ("DevicePolicy".to_owned(), Value::Text("strict".to_owned())),
        ("DeviceAllow".to_owned(), Value::List("(ss)".to_owned(), allowed)),
    ];
    assert_eq!(of(Version::V1, resources.clone()), expected);
    assert_eq!(of(Version::V2, resources), []);
    assert_eq!(of(Version::V1, json!({"devices": [{"allow": true, "access": "rwm"}]})), []);
}
