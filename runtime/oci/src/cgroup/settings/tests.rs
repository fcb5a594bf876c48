//! Resources as lines `file=value`, per version; no system.

use serde_json::json;

use super::{cpu::weight_of_shares, *};

fn context(version_of: &dyn Fn(&str) -> Version) -> Context<'_> {
    Context { version_of, moment: Moment::Create, has_default_devices: false, memory_limit: None, quota: None }
}

fn lines_of(resources: serde_json::Value, context: &Context<'_>) -> Result<Vec<String>, String> {
    let resources: LinuxResources = serde_json::from_value(resources).unwrap();
    let settings = of(&resources, context).map_err(|error| error.to_string())?;
    Ok(settings.list.iter().map(|setting| format!("{}={}", setting.file, setting.value)).collect())
}

fn lines(resources: serde_json::Value, version: Version) -> Result<Vec<String>, String> {
    lines_of(resources, &context(&|_| version))
}

#[test]
fn limits_become_the_files_of_each_version() {
    let resources = json!({
        "memory": {"limit": 1048576, "swap": 2097152, "reservation": 4096},
        "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "burst": 1000, "idle": 0, "cpus": "0-1"},
        "pids": {"limit": 100},
        "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
        "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
    });

    assert_eq!(
        lines(resources.clone(), Version::V1).unwrap(),
        [
            "blkio.throttle.read_bps_device=8:0 1000",
            "cpu.idle=0",
            "cpu.shares=1024",
            "cpu.cfs_period_us=100000",
            "cpu.cfs_quota_us=50000",
            "cpu.cfs_burst_us=1000",
            "cpuset.cpus=0-1",
            "hugetlb.2MB.limit_in_bytes=4194304",
            "hugetlb.2MB.rsvd.limit_in_bytes=4194304",
            "memory.limit_in_bytes=1048576",
            "memory.soft_limit_in_bytes=4096",
            "memory.memsw.limit_in_bytes=2097152",
            "pids.max=100",
            "rdma.max=mlx5_1 hca_handle=3 hca_object=10000",
        ]
    );
    assert_eq!(
        lines(resources, Version::V2).unwrap(),
        [
            "cpu.idle=0",
            "cpu.weight=100",
            "cpu.max=50000 100000",
            "cpu.max.burst=1000",
            "cpuset.cpus=0-1",
            "hugetlb.2MB.max=4194304",
            "hugetlb.2MB.rsvd.max=4194304",
            "io.max=8:0 rbps=1000",
            "memory.max=1048576",
            "memory.low=4096",
            "memory.swap.max=1048576",
            "pids.max=100",
            "rdma.max=mlx5_1 hca_handle=3 hca_object=10000",
        ]
    );
}

#[test]
fn v1_has_network_classes_and_real_time() {
    let resources = json!({
        "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 5}]},
        "cpu": {"realtimeRuntime": 950000, "realtimePeriod": 1000000},
        "memory": {"swappiness": 0, "disableOOMKiller": true, "useHierarchy": true, "kernelTCP": 4096},
    });

    assert_eq!(
        lines(resources, Version::V1).unwrap(),
        [
            "cpu.rt_period_us=1000000",
            "cpu.rt_runtime_us=950000",
            "memory.swappiness=0",
            "memory.oom_control=1",
            "memory.use_hierarchy=1",
            "memory.kmem.tcp.limit_in_bytes=4096",
            "net_cls.classid=1048577",
            "net_prio.ifpriomap=eth0 5",
        ]
    );
}

#[test]
fn unlimited_is_minus_one_or_max() {
    let resources = json!({"memory": {"limit": -1, "swap": -1}, "cpu": {"quota": -1}, "pids": {"limit": -1}});
    let files = |version| lines(resources.clone(), version).unwrap();

    let v1 = ["cpu.cfs_quota_us=-1", "memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1", "pids.max=max"];
    assert_eq!(files(Version::V1), v1);
    assert_eq!(files(Version::V2), ["cpu.max=max", "memory.max=max", "memory.swap.max=max", "pids.max=max"]);
}

/// The runtime spec 1.3 made 0 a limit like others; a cgroup with a process is at 1 anyway.
#[test]
fn no_pids_at_all_is_a_limit_of_one() {
    for version in [Version::V1, Version::V2] {
        assert_eq!(lines(json!({"pids": {"limit": 0}}), version).unwrap(), ["pids.max=1"]);
    }
}

#[test]
fn weights_go_to_the_scheduler_that_is_there() {
    let resources: LinuxResources = serde_json::from_value(json!({"blockIO": {
        "weight": 1000, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}]
    }}))
    .unwrap();
    let written = |version: Version| {
        let settings = of(&resources, &context(&|_| version)).unwrap();
        let line = |setting: Setting| {
            let Otherwise::Write { file, value } = setting.otherwise else { panic!("no other file") };
            [format!("{}={}", setting.file, setting.value), format!("{file}={value}")]
        };
        settings.list.into_iter().flat_map(line).collect::<Vec<_>>()
    };

    assert_eq!(
        written(Version::V1),
        ["blkio.bfq.weight=1000", "blkio.weight=1000", "blkio.bfq.weight_device=8:0 10", "blkio.weight_device=8:0 10"]
    );
    assert_eq!(
        written(Version::V2),
        ["io.bfq.weight=1000", "io.weight=10000", "io.bfq.weight=8:0 10", "io.weight=8:0 1"]
    );
}

#[test]
fn an_update_knows_what_is_in_force() {
    let update = Context {
        moment: Moment::Update,
        memory_limit: Some(1000),
        quota: Some("70000".to_owned()),
        ..context(&|_| Version::V2)
    };

    assert_eq!(lines_of(json!({"memory": {"swap": 1500}}), &update).unwrap(), ["memory.swap.max=500"]);
    assert_eq!(lines_of(json!({"cpu": {"period": 50000}}), &update).unwrap(), ["cpu.max=70000 50000"]);
    assert_eq!(lines_of(json!({"cpu": {"quota": 60000}}), &update).unwrap(), ["cpu.max=60000"]);
    let on_v1 = Context { moment: Moment::Update, ..context(&|_| Version::V1) };
    assert_eq!(lines_of(json!({"memory": {"disableOOMKiller": false}}), &on_v1).unwrap(), ["memory.oom_control=0"]);
}

#[test]
fn an_idle_group_gets_no_weight() {
    let resources = json!({"cpu": {"shares": 512, "idle": 1}});

    assert_eq!(lines(resources, Version::V2).unwrap(), ["cpu.idle=1"]);
}

#[test]
fn device_rules_are_lines_on_v1_and_a_program_on_v2() {
    let resources: LinuxResources = serde_json::from_value(json!({"devices": [
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
    ]}))
    .unwrap();

    let v1 = of(&resources, &context(&|_| Version::V1)).unwrap();
    let v2 = of(&resources, &context(&|_| Version::V2)).unwrap();

    assert_eq!((v1.list.len(), v1.filter), (2, None));
    assert_eq!((v2.list.len(), v2.filter.map(|rules| rules.len())), (0, Some(2)));
}

#[test]
fn what_a_version_cannot_do_is_refused_by_field() {
    for (resources, version, field) in [
        (json!({"memory": {"swap": 100}}), Version::V2, "memory.swap"),
        (json!({"memory": {"limit": 200, "swap": 100}}), Version::V2, "memory.swap"),
        (json!({"memory": {"swappiness": 10}}), Version::V2, "memory.swappiness"),
        (json!({"memory": {"swappiness": 101}}), Version::V1, "memory.swappiness"),
        (json!({"memory": {"disableOOMKiller": true}}), Version::V2, "memory.disableOOMKiller"),
        (json!({"memory": {"useHierarchy": false}}), Version::V2, "memory.useHierarchy"),
        (json!({"memory": {"kernelTCP": 4096}}), Version::V2, "memory.kernelTCP"),
        (json!({"cpu": {"realtimeRuntime": 10}}), Version::V2, "cpu.realtimeRuntime"),
        (json!({"cpu": {"realtimePeriod": 10}}), Version::V2, "cpu.realtimePeriod"),
        (json!({"cpu": {"shares": 1}}), Version::V1, "cpu.shares"),
        (json!({"network": {"classID": 1}}), Version::V2, "network.classID"),
        (
            json!({"network": {"priorities": [{"name": "a b", "priority": 1}]}}),
            Version::V1,
            "network.priorities[0].name",
        ),
        (json!({"rdma": {"mlx": {}}}), Version::V1, "rdma.mlx"),
        (json!({"blockIO": {"weight": 5}}), Version::V1, "blockIO.weight"),
        (json!({"blockIO": {"leafWeight": 50}}), Version::V2, "blockIO.leafWeight"),
        (json!({"blockIO": {"weightDevice": [{"major": 1, "minor": 1}]}}), Version::V2, "blockIO.weightDevice[0]"),
        (json!({"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}), Version::V2, "hugepageLimits[0].pageSize"),
        (json!({"hugepageLimits": [{"pageSize": "MB", "limit": 1}]}), Version::V1, "hugepageLimits[0].pageSize"),
        (json!({"devices": [{"allow": true, "access": "rwx"}]}), Version::V2, "devices[0]"),
        (json!({"unified": {"memory.max": "1"}}), Version::V1, "unified.memory.max"),
        (json!({"unified": {"cgroup.procs": "1"}}), Version::V2, "unified.cgroup.procs"),
    ] {
        let error = lines(resources.clone(), version).expect_err(&resources.to_string());
        assert!(error.starts_with(&format!("cannot apply linux.resources.{field}: ")), "{error}");
    }
}

/// Security row 20 (GHSA-5g49-rx9x-qfc6): a key is a file name, never a path.
#[test]
fn row_20_unified_keys_cannot_leave_the_directory() {
    for key in ["../memory.max", "memory.max/../x", "/etc/passwd", "..", "", "memory", ".max", "memory.", "memory.\0"] {
        let error = lines(json!({"unified": {key: "1"}}), Version::V2).expect_err(key);
        assert!(error.contains("not the name of a controller's file"), "{error}");
    }
}

/// Files the runtime does not know are written all the same, a line at a time.
#[test]
fn unified_keys_of_any_controller_are_written() {
    let unified = json!({"unified": {"new.thing": "7", "io.max": "8:0 rbps=1\n8:16 rbps=2", "cgroup.max.depth": "3"}});

    let expected = ["cgroup.max.depth=3", "io.max=8:0 rbps=1", "io.max=8:16 rbps=2", "new.thing=7"];
    assert_eq!(lines(unified, Version::V2).unwrap(), expected);
}

#[test]
fn a_hybrid_host_takes_each_controller_where_it_is() {
    let hybrid = |controller: &str| if controller == "hugetlb" { Version::V2 } else { Version::V1 };
    let resources = json!({
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
        "memory": {"limit": 1048576},
        "unified": {"hugetlb.2MB.max": "1"},
    });

    assert_eq!(
        lines_of(resources, &context(&hybrid)).unwrap(),
        [
            "hugetlb.2MB.max=4194304",
            "hugetlb.2MB.rsvd.max=4194304",
            "hugetlb.2MB.max=1",
            "memory.limit_in_bytes=1048576"
        ]
    );
}

#[test]
fn shares_map_ends_and_default_and_keep_order() {
    assert_eq!([0, 2, 1024, 262_144, u64::MAX].map(weight_of_shares), [1, 1, 100, 10_000, 10_000]);
    let weights: Vec<u64> = (2..262_144).step_by(97).map(weight_of_shares).collect();
    assert!(weights.is_sorted() && weights.iter().all(|weight| (1..=10_000).contains(weight)));
}
