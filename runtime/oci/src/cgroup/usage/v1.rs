//! The figures of v1, a part per controller.

use serde_json::{Value, json};

use super::{Files, device_entry};
use crate::cgroup::Directory;

pub(super) fn parts(files: &Files<'_>, directory: &Directory) -> Vec<(&'static str, Value)> {
    let mut parts = Vec::new();
    for controller in &directory.controllers {
        let part = match controller.as_str() {
            "cpu" => ("cpu", json!({"throttling": throttling(files)})),
            "cpuacct" => ("cpu", json!({"usage": processor(files)})),
            "cpuset" => ("cpuset", sets(files)),
            "memory" => ("memory", memory(files)),
            "pids" => ("pids", pids(files)),
            "blkio" => ("blkio", block_io(files)),
            "hugetlb" => ("hugetlb", hugepages(files)),
            "rdma" => ("rdma", super::v2::rdma(files)),
            _ => continue,
        };
        parts.push(part);
    }
    parts
}

fn throttling(files: &Files<'_>) -> Value {
    let stat = files.table("cpu.stat");
    json!({
        "periods": stat.get("nr_periods"),
        "throttledPeriods": stat.get("nr_throttled"),
        "throttledTime": stat.get("throttled_time"),
    })
}

fn processor(files: &Files<'_>) -> Value {
    let number = |name| files.number(name).unwrap_or(0);
    json!({
        "total": number("cpuacct.usage"),
        "kernel": number("cpuacct.usage_sys"),
        "user": number("cpuacct.usage_user"),
        "percpu": files.list("cpuacct.usage_percpu"),
        "percpu_kernel": files.list("cpuacct.usage_percpu_sys"),
        "percpu_user": files.list("cpuacct.usage_percpu_user"),
    })
}

fn sets(files: &Files<'_>) -> Value {
    let number = |name: &str| files.number(&format!("cpuset.{name}")).unwrap_or(0);
    let level = files.text("cpuset.sched_relax_domain_level").and_then(|text| text.trim().parse::<i64>().ok());
    json!({
        "cpus": files.set("cpuset.cpus"),
        "mems": files.set("cpuset.mems"),
        "cpu_exclusive": number("cpu_exclusive"),
        "mem_hardwall": number("mem_hardwall"),
        "mem_exclusive": number("mem_exclusive"),
        "memory_migrate": number("memory_migrate"),
        "memory_spread_page": number("memory_spread_page"),
        "memory_spread_slab": number("memory_spread_slab"),
        "memory_pressure": number("memory_pressure"),
        "sched_load_balance": number("sched_load_balance"),
        "sched_relax_domain_level": level.unwrap_or(0),
    })
}

fn memory(files: &Files<'_>) -> Value {
    let entry = |kind: &str| {
        let number = |name: &str| files.number(&format!("memory.{kind}{name}")).unwrap_or(0);
        json!({
            "limit": number("limit_in_bytes"),
            "usage": number("usage_in_bytes"),
            "max": number("max_usage_in_bytes"),
            "failcnt": number("failcnt"),
        })
    };
    let raw = files.table("memory.stat");
    json!({
        "cache": raw.get("total_cache").or(raw.get("cache")),
        "usage": entry(""),
        "swap": entry("memsw."),
        "kernel": entry("kmem."),
        "kernelTCP": entry("kmem.tcp."),
        "raw": raw,
    })
}

/// runc writes "no limit" as 0.
pub(super) fn pids(files: &Files<'_>) -> Value {
    let limit = files.number("pids.max").filter(|limit| *limit != u64::MAX);
    json!({"current": files.number("pids.current").unwrap_or(0), "limit": limit.unwrap_or(0)})
}

pub(super) fn block_io(files: &Files<'_>) -> Value {
    // BFQ counts what goes through it, the throttles count everything.
    let entries = |name: &str| {
        let files_of = [format!("blkio.throttle.{name}_recursive"), format!("blkio.bfq.{name}_recursive")];
        let text = files_of.iter().filter_map(|name| files.text(name)).find(|text| text.lines().count() > 1);
        let text = text.unwrap_or_default();
        let lines = text.lines().filter_map(|line| {
            let mut words = line.split(' ');
            device_entry(words.next()?, words.next()?, words.next()?.parse().ok()?)
        });
        lines.collect::<Vec<_>>()
    };
    json!({
        "ioServiceBytesRecursive": entries("io_service_bytes"),
        "ioServicedRecursive": entries("io_serviced"),
    })
}

fn hugepages(files: &Files<'_>) -> Value {
    let sizes = files.page_sizes(".limit_in_bytes").into_iter().map(|size| {
        let number = |name: &str| {
            let reserved = files.number(&format!("hugetlb.{size}.rsvd.{name}"));
            reserved.or_else(|| files.number(&format!("hugetlb.{size}.{name}"))).unwrap_or(0)
        };
        let usage = json!({
            "usage": number("usage_in_bytes"),
            "max": number("max_usage_in_bytes"),
            "failcnt": number("failcnt"),
        });
        (size.clone(), usage)
    });
    Value::Object(sizes.collect())
}
