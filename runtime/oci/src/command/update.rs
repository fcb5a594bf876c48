//! `update`: changes limits of a container, and what its record says of them.

use std::{fs, io::Read, path::Path};

use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use crate::state::{State, Status, describe};

/// Changes the limits of a container.
#[derive(clap::Args)]
pub struct Update {
    /// File of resources as in a spec, or - for standard input; other options count more.
    #[arg(short, long)]
    resources: Option<String>,
    /// Weight of block io, 10 to 1000.
    #[arg(long)]
    blkio_weight: Option<u16>,
    /// CPU period in microseconds.
    #[arg(long)]
    cpu_period: Option<u64>,
    /// CPU time per period in microseconds; -1 is no limit.
    #[arg(long, allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// CPU time over the quota in microseconds.
    #[arg(long)]
    cpu_burst: Option<u64>,
    /// Relative weight of CPU time.
    #[arg(long)]
    cpu_share: Option<u64>,
    /// Real-time period in microseconds.
    #[arg(long)]
    cpu_rt_period: Option<u64>,
    /// Real-time per period in microseconds.
    #[arg(long, allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    /// CPUs, as 0-3,7.
    #[arg(long)]
    cpuset_cpus: Option<String>,
    /// Memory nodes, as 0-1.
    #[arg(long)]
    cpuset_mems: Option<String>,
    /// 1: runs only when nothing else does.
    #[arg(long, allow_hyphen_values = true)]
    cpu_idle: Option<i64>,
    /// Memory in bytes, or with k, m, g; -1 is no limit.
    #[arg(long, short, allow_hyphen_values = true, value_parser = bytes)]
    memory: Option<i64>,
    /// Memory that is kept under pressure.
    #[arg(long, allow_hyphen_values = true, value_parser = bytes)]
    memory_reservation: Option<i64>,
    /// Memory and swap together; -1 is no limit.
    #[arg(long, allow_hyphen_values = true, value_parser = bytes)]
    memory_swap: Option<i64>,
    /// Accepted and without effect, as the kernel has no such limit any more.
    #[arg(long, hide = true, allow_hyphen_values = true)]
    kernel_memory: Option<String>,
    /// Memory of TCP buffers (v1).
    #[arg(long, allow_hyphen_values = true, value_parser = bytes)]
    kernel_memory_tcp: Option<i64>,
    /// Processes and threads; -1 is no limit.
    #[arg(long, allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Intel RDT: schema of the L3 cache.
    #[arg(long)]
    l3_cache_schema: Option<String>,
    /// Intel RDT: schema of the memory bandwidth.
    #[arg(long)]
    mem_bw_schema: Option<String>,
    /// Name of the container.
    id: String,
}

impl Update {
    pub fn run(&self, root: &Path) -> Result<(), String> {
        let state = State::load(root, &self.id)?;
        if matches!(state.status(), Status::Stopped | Status::Creating) {
            return Err(format!("cannot update container {}: it is {}", self.id, state.status().name()));
        }
        if self.l3_cache_schema.is_some() || self.mem_bw_schema.is_some() {
            return Err("linux.intelRdt: it cannot be updated".to_owned());
        }
        let changes = self.changes()?;
        let resources: LinuxResources = serde_json::from_slice(changes.to_string().as_bytes())
            .map_err(|error| format!("linux.resources: {error}"))?;
        if !state.has_cgroup() {
            state.cgroup()?;
        }
        state.cgroup.update(&resources).map_err(|error| describe(&error))?;
        record(&state, changes)
    }

    fn changes(&self) -> Result<Value, String> {
        let mut changes = self.file()?;
        let mut set = |path: [&str; 2], value: Value| {
            if !value.is_null() {
                changes[path[0]][path[1]] = value;
            }
        };
        set(["blockIO", "weight"], json!(self.blkio_weight));
        set(["cpu", "period"], json!(self.cpu_period));
        set(["cpu", "quota"], json!(self.cpu_quota));
        set(["cpu", "burst"], json!(self.cpu_burst));
        set(["cpu", "shares"], json!(self.cpu_share));
        set(["cpu", "realtimePeriod"], json!(self.cpu_rt_period));
        set(["cpu", "realtimeRuntime"], json!(self.cpu_rt_runtime));
        set(["cpu", "cpus"], json!(self.cpuset_cpus));
        set(["cpu", "mems"], json!(self.cpuset_mems));
        set(["cpu", "idle"], json!(self.cpu_idle));
        set(["memory", "limit"], json!(self.memory));
        set(["memory", "reservation"], json!(self.memory_reservation));
        set(["memory", "swap"], json!(self.memory_swap));
        set(["memory", "kernelTCP"], json!(self.kernel_memory_tcp));
        set(["pids", "limit"], json!(self.pids_limit));
        Ok(changes)
    }

    fn file(&self) -> Result<Value, String> {
        let Some(name) = &self.resources else { return Ok(json!({})) };
        let mut text = String::new();
        let read = match name.as_str() {
            "-" => std::io::stdin().read_to_string(&mut text).map(drop),
            path => fs::read_to_string(path).map(|content| text = content),
        };
        read.map_err(|error| format!("cannot read {name}: {error}"))?;
        let mut value: Value =
            serde_json::from_str(&text).map_err(|error| format!("{name} is not resources: {error}"))?;
        if !value.is_object() {
            return Err(format!("{name} is not resources: it is no object"));
        }
        // Device rules are set when the container is made; containerd repeats them here.
        value.as_object_mut().map(|value| value.remove("devices"));
        drop_empty(&mut value);
        Ok(value)
    }
}

/// Removes what says nothing, at any depth: Go's encoders write null, and 0 where the limit is not to change.
fn drop_empty(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.values_mut().for_each(drop_empty);
        fields.retain(|_, value| !value.is_null() && value != &json!({}) && value != &json!([]) && value != &json!(""));
    }
}

/// Puts the changes into the config that the record keeps.
fn record(state: &State, changes: Value) -> Result<(), String> {
    let path = state.config_path();
    let failed = |error: &dyn std::fmt::Display| format!("cannot update {}: {error}", path.display());
    let bytes = fs::read(&path).map_err(|error| failed(&error))?;
    let mut config: Value = serde_json::from_slice(&bytes).map_err(|error| failed(&error))?;
    let resources = &mut config["linux"]["resources"];
    if resources.is_null() {
        *resources = Value::Object(Map::new());
    }
    merge(resources, changes);
    state.replace("config.json", config.to_string().as_bytes())
}

fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            for (name, change) in changes {
                merge(into.entry(name).or_insert(Value::Null), change);
            }
        }
        (into, change) => *into = change,
    }
}

/// Parses `512m`, `1GiB`, `-1`: powers of 1024, as runc counts.
fn bytes(text: &str) -> Result<i64, String> {
    let bad = || format!("{text:?} is not a number of bytes");
    let lower = text.to_ascii_lowercase();
    let number = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match &lower[number.len()..] {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(bad()),
    };
    let number: i64 = number.parse().map_err(|_| bad())?;
    match number {
        -1 if shift == 0 => Ok(-1),
        0.. => number.checked_mul(1 << shift).ok_or_else(bad),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024_and_minus_one_is_no_limit() {
        for (text, expected) in [("0", 0), ("12", 12), ("2k", 2048), ("3MiB", 3 << 20), ("1GB", 1 << 30), ("-1", -1)] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "k", "-2", "-1k", "1x", "9999999999t", "1.5g"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn changes_leave_other_limits_as_they_are() {
        let mut config = json!({"memory": {"limit": 1, "swap": 2}, "pids": {"limit": 3}});

        merge(&mut config, json!({"memory": {"limit": 9}, "cpu": {"shares": 4}}));

        assert_eq!(config, json!({"memory": {"limit": 9, "swap": 2}, "pids": {"limit": 3}, "cpu": {"shares": 4}}));
    }

    #[test]
    fn what_says_nothing_changes_nothing() {
        let mut value = json!({"memory": {"limit": null}, "cpu": {"cpus": "", "shares": 2}, "pids": null});

        drop_empty(&mut value);

        assert_eq!(value, json!({"cpu": {"shares": 2}}));
    }
}
