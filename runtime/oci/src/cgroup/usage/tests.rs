//! The document from a fake directory of v2, as files of Linux 6.1 have it.

use std::fs;

use super::*;
use crate::cgroup::{Directory, Version};

fn group(files: &[(&str, &str)], version: Version, controllers: &[&str]) -> (tempfile::TempDir, Cgroup) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    let controllers = controllers.iter().map(|one| (*one).to_owned()).collect();
    let path = directory.path().to_owned();
    let cgroup = Cgroup::of(vec![Directory { controllers, path, version }], version, "/strata/x");
    (directory, cgroup)
}

#[test]
fn the_figures_of_v2_stand_where_runc_has_them() {
    let files = [
        ("cpu.stat", "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 2\nthrottled_usec 5\n"),
        ("cpu.pressure", "some avg10=1.50 avg60=0.00 avg300=0.00 total=77\n"),
        ("memory.current", "4096\n"),
        ("memory.max", "max\n"),
        ("memory.stat", "anon 1024\nfile 2048\n"),
        ("memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n"),
        ("memory.swap.current", "1\n"),
        ("memory.swap.max", "max\n"),
        ("pids.current", "7\n"),
        ("pids.max", "100\n"),
        ("io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n"),
        ("hugetlb.2MB.current", "2097152\n"),
        ("hugetlb.2MB.events", "max 9\n"),
        ("rdma.current", "mlx5_0 hca_handle=2 hca_object=20\n"),
        ("rdma.max", "mlx5_0 hca_handle=3 hca_object=max\n"),
        ("cpuset.cpus", "0-2,5\n"),
    ];
    let (_directory, cgroup) = group(&files, Version::V2, &["cgroup"]);

    let document = cgroup.document();

    assert_eq!(document["cpu"]["usage"], json!({"total": 30_000, "kernel": 10_000, "user": 20_000}));
    let throttling = json!({"periods": 4, "throttledPeriods": 2, "throttledTime": 5000});
    assert_eq!(document["cpu"]["throttling"], throttling);
    assert_eq!(document["cpu"]["psi"]["some"]["avg10"], 1.5);
    assert_eq!(document["cpu"]["psi"]["some"]["total"], 77);
    let memory = &document["memory"];
    assert_eq!(memory["usage"], json!({"limit": u64::MAX, "usage": 4096, "max": 0, "failcnt": 3}));
    assert_eq!(memory["swap"]["usage"], 4097);
    assert_eq!((&memory["cache"], &memory["raw"]["anon"]), (&json!(2048), &json!(1024)));
    assert_eq!(memory["event_count"]["oom_kill"], 1);
    assert_eq!(document["pids"], json!({"current": 7, "limit": 100}));
    let read = json!({"major": 8, "minor": 0, "op": "Read", "value": 10});
    assert_eq!(document["blkio"]["ioServiceBytesRecursive"][0], read);
    assert_eq!(document["blkio"]["ioServicedRecursive"][1]["value"], 2);
    assert_eq!(document["hugetlb"], json!({"2MB": {"usage": 2_097_152, "failcnt": 9}}));
    let device = json!([{"device": "mlx5_0", "hcaHandles": 3, "hcaObjects": u32::MAX}]);
    assert_eq!(document["rdma"]["limit"], device);
    assert_eq!(document["cpuset"]["cpus"], json!([0, 1, 2, 5]));
}

#[test]
fn parts_of_two_hierarchies_of_v1_become_one() {
    let files = [
        ("cpu.stat", "nr_periods 1\nnr_throttled 1\nthrottled_time 9\n"),
        ("cpuacct.usage", "12\n"),
        ("cpuacct.usage_percpu", "5 7 \n"),
    ];
    let (_directory, cgroup) = group(&files, Version::V1, &["cpu", "cpuacct"]);

    let document = cgroup.document();

    assert_eq!(document["cpu"]["throttling"]["throttledTime"], 9);
    assert_eq!(document["cpu"]["usage"]["percpu"], json!([5, 7]));
    assert_eq!(document["memory"]["usage"], json!({"limit": 0, "failcnt": 0}), "what is not counted is there, as zero");
}

#[test]
fn a_few_figures_are_the_same_on_both_versions() {
    let files = [
        ("cpu.stat", "usage_usec 30\n"),
        ("cpuacct.usage", "30000\n"),
        ("memory.current", "4096\n"),
        ("memory.usage_in_bytes", "4096\n"),
        ("memory.max", "max\n"),
        ("memory.limit_in_bytes", "9223372036854771712\n"),
        ("memory.stat", "inactive_file 1024\ntotal_inactive_file 1024\n"),
        ("pids.current", "7\n"),
        ("io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2\n8:16 rbytes=1 wbytes=2\n"),
        (
            "blkio.throttle.io_service_bytes_recursive",
            "8:0 Read 10\n8:0 Write 20\n8:16 Read 1\n8:16 Write 2\nTotal 33\n",
        ),
    ];
    let expected = Stats {
        cpu_nanoseconds: Some(30_000),
        memory_bytes: Some(4096),
        memory_inactive_bytes: Some(1024),
        memory_limit_bytes: None,
        pids: Some(7),
        block_read_bytes: Some(11),
        block_written_bytes: Some(22),
    };
    for (version, controllers) in
        [(Version::V1, &["cpuacct", "memory", "pids", "blkio"][..]), (Version::V2, &["cgroup", "memory", "pids", "io"])]
    {
        let (_directory, cgroup) = group(&files, version, controllers);
        assert_eq!(cgroup.stats(), expected, "{version:?}");
    }
    let (_directory, cgroup) = group(&[], Version::V1, &["freezer"]);
    assert_eq!(cgroup.stats(), Stats::default(), "what is not counted is not known");
}
