//! The figures of v2, in the places where v1 has them.

use serde_json::{Value, json};

use super::{Files, device_entry, v1};

pub(super) fn parts(files: &Files<'_>) -> Vec<(&'static str, Value)> {
    let mut parts = vec![("cpu", processor(files))];
    let has = |file: &str| files.directory.join(file).exists();
    for (file, name, part) in [
        ("cpuset.cpus", "cpuset", sets as fn(&Files<'_>) -> Value),
        ("memory.current", "memory", memory),
        ("pids.current", "pids", v1::pids),
        ("io.stat", "blkio", block_io),
        ("rdma.current", "rdma", rdma),
    ] {
        if has(file) {
            parts.push((name, part(files)));
        }
    }
    let sizes = files.page_sizes(".current");
    if !sizes.is_empty() {
        parts.push(("hugetlb", hugepages(files, sizes)));
    }
    parts
}

fn processor(files: &Files<'_>) -> Value {
    let stat = files.table("cpu.stat");
    let number = |name: &str| stat.get(name).and_then(Value::as_u64);
    let nanoseconds = |name| number(name).unwrap_or(0) * 1000;
    let usage = json!({
        "total": nanoseconds("usage_usec"),
        "kernel": nanoseconds("system_usec"),
        "user": nanoseconds("user_usec"),
    });
    let mut part = json!({"usage": usage, "throttling": {}});
    if let Some(periods) = number("nr_periods") {
        part["throttling"] = json!({
            "periods": periods,
            "throttledPeriods": number("nr_throttled"),
            "throttledTime": nanoseconds("throttled_usec"),
        });
    }
    with_pressure(part, files.pressure("cpu.pressure"))
}

fn sets(files: &Files<'_>) -> Value {
    let set = |name: &str| files.set(name).filter(|set| !set.is_empty());
    json!({
        "cpus": set("cpuset.cpus").or_else(|| set("cpuset.cpus.effective")),
        "mems": set("cpuset.mems").or_else(|| set("cpuset.mems.effective")),
    })
}

fn memory(files: &Files<'_>) -> Value {
    let raw = files.table("memory.stat");
    let events = files.table("memory.events");
    let count = |name: &str| events.get(name).and_then(Value::as_u64).unwrap_or(0);
    let number = |name: &str| files.number(name).unwrap_or(0);
    let usage = number("memory.current");
    let limit = number("memory.max");
    let swap = number("memory.swap.current");
    let swap_limit = number("memory.swap.max");
    // As on v1, "swap" is memory and swap together.
    let both = json!({
        "limit": limit.saturating_add(swap_limit),
        "usage": usage.saturating_add(swap),
        "max": number("memory.swap.peak"),
        "failcnt": 0,
    });
    let none = json!({"limit": 0, "failcnt": 0});
    let part = json!({
        "cache": raw.get("file"),
        "usage": {"limit": limit, "usage": usage, "max": number("memory.peak"), "failcnt": count("max")},
        "swap": both,
        "kernel": none,
        "kernelTCP": none,
        "event_count": {
            "low": count("low"), "high": count("high"), "max": count("max"), "oom": count("oom"),
            "oom_kill": count("oom_kill"),
        },
        "raw": raw,
    });
    with_pressure(part, files.pressure("memory.pressure"))
}

/// "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0" per device.
pub(super) fn block_io(files: &Files<'_>) -> Value {
    let text = files.text("io.stat").unwrap_or_default();
    let (mut bytes, mut counts) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let Some((number, figures)) = line.split_once(' ') else { continue };
        for (key, value) in figures.split(' ').filter_map(|figure| figure.split_once('=')) {
            let (list, operation) = match key {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "rios" => (&mut counts, "Read"),
                "wios" => (&mut counts, "Write"),
                _ => continue,
            };
            list.extend(value.parse().ok().and_then(|value| device_entry(number, operation, value)));
        }
    }
    let part = json!({"ioServiceBytesRecursive": bytes, "ioServicedRecursive": counts});
    with_pressure(part, files.pressure("io.pressure"))
}

fn hugepages(files: &Files<'_>, sizes: Vec<String>) -> Value {
    let sizes = sizes.into_iter().map(|size| {
        let current = files.number(&format!("hugetlb.{size}.rsvd.current"));
        let current = current.or_else(|| files.number(&format!("hugetlb.{size}.current")));
        let events = files.table(&format!("hugetlb.{size}.events"));
        let failures = events.get("max").and_then(Value::as_u64).unwrap_or(0);
        (size, json!({"usage": current.unwrap_or(0), "failcnt": failures}))
    });
    Value::Object(sizes.collect())
}

/// "mlx5_0 hca_handle=2 hca_object=2000" per device.
pub(super) fn rdma(files: &Files<'_>) -> Value {
    let entries = |file: &str| {
        let text = files.text(file).unwrap_or_default();
        let devices = text.lines().filter_map(|line| {
            let (device, figures) = line.split_once(' ')?;
            let number = |key: &str| {
                let value = figures.split(' ').find_map(|figure| figure.strip_prefix(key)?.strip_prefix('='))?;
                if value == "max" { Some(u64::from(u32::MAX)) } else { value.parse().ok() }
            };
            let (handles, objects) = (number("hca_handle"), number("hca_object"));
            Some(json!({"device": device, "hcaHandles": handles, "hcaObjects": objects}))
        });
        devices.collect::<Vec<_>>()
    };
    json!({"limit": entries("rdma.max"), "current": entries("rdma.current")})
}

fn with_pressure(mut part: Value, pressure: Option<Value>) -> Value {
    if let (Value::Object(part), Some(pressure)) = (&mut part, pressure) {
        part.insert("psi".to_owned(), pressure);
    }
    part
}
