//! What a cgroup uses: a few figures for our own services, and the whole in the form of `runc events` (`document`).

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Cgroup, Error, Version, keyed, read};

mod v1;
mod v2;

/// What a memory cgroup has seen of the out-of-memory killer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryEvents {
    /// Processes killed for want of memory.
    pub oom_kill: u64,
}

/// Usage at one moment; a figure whose controller is not joined is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time used by all processes so far.
    pub cpu_nanoseconds: Option<u64>,
    /// Memory charged now.
    pub memory_bytes: Option<u64>,
    /// The part of it that is contents of files which nobody has used for a while: given back before anybody is killed.
    pub memory_inactive_bytes: Option<u64>,
    /// The memory limit, absent if there is none.
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads now.
    pub pids: Option<u64>,
    /// Bytes read from block devices so far.
    pub block_read_bytes: Option<u64>,
    /// Bytes written to block devices so far.
    pub block_written_bytes: Option<u64>,
}

impl Cgroup {
    /// Reads how often the out-of-memory killer struck; `None` without a memory controller.
    pub fn memory_events(&self) -> Result<Option<MemoryEvents>, Error> {
        let Ok(directory) = self.directory("memory", "") else { return Ok(None) };
        let file = if directory.version == Version::V2 { "memory.events" } else { "memory.oom_control" };
        let text = read(&directory.path.join(file))?;
        Ok(Some(MemoryEvents { oom_kill: keyed(&text, "oom_kill").unwrap_or(0) }))
    }

    /// Reads the usage of the joined controllers.
    pub fn stats(&self) -> Stats {
        let is_v2 = self.version == Version::V2;
        let text = |controller: &str, v1: &str, v2: &str| {
            let directory = self.directory(controller, "").ok()?;
            read(&directory.path.join(if is_v2 { v2 } else { v1 })).ok()
        };
        let value = |controller, v1, v2| text(controller, v1, v2)?.trim().parse::<u64>().ok();
        let cpu_nanoseconds = match is_v2 {
            false => value("cpuacct", "cpuacct.usage", ""),
            // Of the core, whatever the controllers.
            true => text("cgroup", "", "cpu.stat").and_then(|stat| keyed(&stat, "usage_usec")).map(|time| time * 1000),
        };
        let inactive = if is_v2 { "inactive_file" } else { "total_inactive_file" };
        let (block_read_bytes, block_written_bytes) = self.block_bytes().unzip();
        Stats {
            cpu_nanoseconds,
            memory_inactive_bytes: text("memory", "memory.stat", "memory.stat").and_then(|stat| keyed(&stat, inactive)),
            block_read_bytes,
            block_written_bytes,
            memory_bytes: value("memory", "memory.usage_in_bytes", "memory.current"),
            // v1 says "no limit" as the largest page-aligned i64.
            memory_limit_bytes: value("memory", "memory.limit_in_bytes", "memory.max").filter(|limit| *limit < 1 << 62),
            pids: value("pids", "pids.current", "pids.current"),
        }
    }

    /// Bytes read from and written to block devices.
    fn block_bytes(&self) -> Option<(u64, u64)> {
        let directory = self.directories.iter().find(|directory| directory.has(&["blkio", "io"]))?;
        let files = Files { directory: &directory.path };
        let figures = match directory.version {
            Version::V1 => v1::block_io(&files),
            Version::V2 => v2::block_io(&files),
        };
        let entries = figures["ioServiceBytesRecursive"].as_array()?;
        let sum = |operation: &str| {
            let of_it = entries.iter().filter(|entry| entry["op"] == operation);
            of_it.filter_map(|entry| entry["value"].as_u64()).sum()
        };
        Some((sum("Read"), sum("Write")))
    }

    /// Reads all usage, as the `data` of a `stats` event of runc; what is not known is absent or zero.
    pub fn document(&self) -> Value {
        let mut document = Map::new();
        for directory in &self.directories {
            let files = Files { directory: &directory.path };
            let parts = match directory.version {
                Version::V1 => v1::parts(&files, directory),
                Version::V2 => v2::parts(&files),
            };
            for (name, part) in parts {
                merge(document.entry(name).or_insert(Value::Null), part);
            }
        }
        let no_usage = json!({"total": 0, "kernel": 0, "user": 0});
        let nothing = json!({"limit": 0, "failcnt": 0});
        for (name, part) in [
            ("cpu", json!({"usage": no_usage, "throttling": {}})),
            ("memory", json!({"usage": nothing, "swap": nothing, "kernel": nothing, "kernelTCP": nothing})),
            ("pids", json!({})),
            ("blkio", json!({})),
            ("hugetlb", json!({})),
            ("cpuset", json!({})),
            ("intel_rdt", json!({})),
        ] {
            document.entry(name).or_insert(part);
        }
        document.entry("network_interfaces").or_insert(Value::Null);
        Value::Object(document)
    }
}

/// Adds the members of `part`: on v1 one part may come from two hierarchies.
fn merge(into: &mut Value, part: Value) {
    match (into.as_object_mut(), part) {
        (Some(into), Value::Object(part)) => into.extend(part),
        (_, part) => *into = part,
    }
}

/// The files of one directory; what is missing or no number is absent.
struct Files<'a> {
    directory: &'a Path,
}

impl Files<'_> {
    fn text(&self, name: &str) -> Option<String> {
        read(&self.directory.join(name)).ok()
    }

    /// "max" is the largest number, as runc has it.
    fn number(&self, name: &str) -> Option<u64> {
        let text = self.text(name)?;
        if text.trim() == "max" { Some(u64::MAX) } else { text.trim().parse().ok() }
    }

    /// A file of `key value` lines.
    fn table(&self, name: &str) -> Map<String, Value> {
        let text = self.text(name).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.filter_map(|(key, value)| Some((key.to_owned(), json!(value.trim().parse::<u64>().ok()?)))).collect()
    }

    /// Numbers on one line.
    fn list(&self, name: &str) -> Option<Vec<u64>> {
        self.text(name)?.split_whitespace().map(|word| word.parse().ok()).collect()
    }

    /// Pressure stall information: "some avg10=0.00 avg60=0.00 avg300=0.00 total=0".
    fn pressure(&self, name: &str) -> Option<Value> {
        let mut pressure = Map::new();
        for line in self.text(name)?.lines() {
            let mut words = line.split(' ');
            let kind = words.next()?;
            let values = words.filter_map(|word| word.split_once('=')).map(|(key, value)| {
                let number = if key == "total" { value.parse().map(|n: u64| json!(n)).ok() } else { None };
                (key.to_owned(), number.unwrap_or_else(|| json!(value.parse::<f64>().unwrap_or(0.0))))
            });
            pressure.insert(kind.to_owned(), Value::Object(values.collect()));
        }
        (!pressure.is_empty()).then_some(Value::Object(pressure))
    }

    /// The sizes of huge pages that files of `suffix` exist for.
    fn page_sizes(&self, suffix: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let sizes = names.filter_map(|name| {
            let size = name.strip_prefix("hugetlb.")?.strip_suffix(suffix)?;
            (!size.contains('.')).then(|| size.to_owned())
        });
        sizes.collect()
    }

    /// "0-3,5" as numbers.
    fn set(&self, name: &str) -> Option<Vec<u64>> {
        let text = self.text(name)?;
        let mut numbers = Vec::new();
        for range in text.trim().split(',').filter(|range| !range.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            numbers.extend(first.parse::<u64>().ok()?..=last.parse::<u64>().ok()?.min(65_535));
        }
        Some(numbers)
    }
}

/// One figure of a block device.
fn device_entry(number: &str, operation: &str, value: u64) -> Option<Value> {
    let (major, minor) = number.split_once(':')?;
    let (major, minor): (u64, u64) = (major.parse().ok()?, minor.parse().ok()?);
    Some(json!({"major": major, "minor": minor, "op": operation, "value": value}))
}

#[cfg(test)]
mod tests;
