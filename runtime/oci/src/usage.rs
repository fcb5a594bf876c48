//! Usage of a container as `events --stats` prints it: runc's document, read from the files of its cgroups.
//! A figure whose controller is not joined is absent.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

/// The files of one cgroup, of one directory (v2) or several (v1).
struct Files<'a>(&'a [&'a Path]);

/// Returns the document.
pub fn document(directories: &[&Path]) -> Value {
    let files = Files(directories);
    let mut data = Map::new();
    let is_v1 = directories.iter().any(|directory| directory.join("freezer.state").exists());
    for (name, value) in [
        ("cpu", if is_v1 { files.cpu_v1() } else { files.cpu_v2() }),
        ("memory", if is_v1 { files.memory_v1() } else { files.memory_v2() }),
        ("pids", files.pids()),
        ("blkio", if is_v1 { files.blkio_v1() } else { files.blkio_v2() }),
        ("hugetlb", files.hugetlb()),
    ] {
        data.insert(name.to_owned(), value);
    }
    Value::Object(data)
}

impl Files<'_> {
    fn text(&self, file: &str) -> Option<String> {
        self.0.iter().find_map(|directory| fs::read_to_string(directory.join(file)).ok())
    }

    /// A number; `max` is the largest, as runc has it.
    fn number(&self, file: &str) -> Option<u64> {
        match self.text(file)?.trim() {
            "max" => Some(u64::MAX),
            text => text.parse().ok(),
        }
    }

    fn keyed(&self, file: &str) -> Map<String, Value> {
        let text = self.text(file).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs.filter_map(|(key, value)| Some((key.to_owned(), json!(value.trim().parse::<u64>().ok()?)))).collect()
    }

    fn cpu_v1(&self) -> Value {
        let (stat, usage) = (self.keyed("cpu.stat"), self.keyed("cpuacct.stat"));
        let per_cpu = self.text("cpuacct.usage_percpu").unwrap_or_default();
        let per_cpu: Vec<u64> = per_cpu.split_whitespace().filter_map(|one| one.parse().ok()).collect();
        // cpuacct.stat counts in USER_HZ, 100 on every architecture there is.
        let nanoseconds = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or(0) * 10_000_000;
        json!({
            "usage": {
                "total": self.number("cpuacct.usage").unwrap_or(0),
                "percpu": per_cpu,
                "kernel": nanoseconds("system"),
                "user": nanoseconds("user"),
            },
            "throttling": {
                "periods": stat.get("nr_periods"),
                "throttledPeriods": stat.get("nr_throttled"),
                "throttledTime": stat.get("throttled_time"),
            },
        })
    }

    fn cpu_v2(&self) -> Value {
        let stat = self.keyed("cpu.stat");
        let nanoseconds = |name: &str| stat.get(name).and_then(Value::as_u64).unwrap_or(0) * 1000;
        json!({
            "usage": {
                "total": nanoseconds("usage_usec"),
                "kernel": nanoseconds("system_usec"),
                "user": nanoseconds("user_usec"),
            },
            "throttling": {
                "periods": stat.get("nr_periods"),
                "throttledPeriods": stat.get("nr_throttled"),
                "throttledTime": nanoseconds("throttled_usec"),
            },
        })
    }

    fn memory_v1(&self) -> Value {
        let raw = self.keyed("memory.stat");
        let entry = |name: &str| {
            let file = |kind: &str| self.number(&format!("memory.{name}{kind}"));
            json!({
                "limit": file("limit_in_bytes"),
                "usage": file("usage_in_bytes"),
                "max": file("max_usage_in_bytes"),
                "failcnt": file("failcnt"),
            })
        };
        json!({
            "cache": raw.get("cache"),
            "usage": entry(""),
            "swap": entry("memsw."),
            "kernel": entry("kmem."),
            "kernelTCP": entry("kmem.tcp."),
            "raw": raw,
        })
    }

    fn memory_v2(&self) -> Value {
        let (raw, events) = (self.keyed("memory.stat"), self.keyed("memory.events"));
        let entry = |name: &str| {
            let file = |kind: &str| self.number(&format!("{name}.{kind}"));
            json!({"limit": file("max"), "usage": file("current"), "max": file("peak")})
        };
        let mut usage = entry("memory");
        usage["failcnt"] = json!(events.get("max"));
        json!({"cache": raw.get("file"), "usage": usage, "swap": entry("memory.swap"), "raw": raw})
    }

    fn pids(&self) -> Value {
        // No limit is 0 in runc's document.
        let limit = self.number("pids.max").map(|limit| if limit == u64::MAX { 0 } else { limit });
        json!({"current": self.number("pids.current"), "limit": limit})
    }

    fn blkio_v1(&self) -> Value {
        let list = |file: &str| {
            let text = self.text(&format!("blkio.{file}")).unwrap_or_default();
            Value::from(text.lines().filter_map(blkio_line).collect::<Vec<_>>())
        };
        json!({
            "ioServiceBytesRecursive": list("throttle.io_service_bytes_recursive"),
            "ioServicedRecursive": list("throttle.io_serviced_recursive"),
        })
    }

    fn blkio_v2(&self) -> Value {
        let text = self.text("io.stat").unwrap_or_default();
        let mut lists = [Vec::new(), Vec::new()];
        for line in text.lines() {
            let mut words = line.split(' ');
            let Some((major, minor)) = words.next().and_then(device) else { continue };
            for (name, value) in words.filter_map(|word| word.split_once('=')) {
                let (list, operation) = match name {
                    "rbytes" => (0, "Read"),
                    "wbytes" => (0, "Write"),
                    "rios" => (1, "Read"),
                    "wios" => (1, "Write"),
                    _ => continue,
                };
                let value: u64 = value.parse().unwrap_or(0);
                lists[list].push(json!({"major": major, "minor": minor, "op": operation, "value": value}));
            }
        }
        let [bytes, operations] = lists;
        json!({"ioServiceBytesRecursive": bytes, "ioServicedRecursive": operations})
    }

    fn hugetlb(&self) -> Value {
        let entries = self.0.iter().flat_map(|directory| fs::read_dir(directory).into_iter().flatten().flatten());
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let sizes = names.filter_map(|name| {
            let rest = name.strip_prefix("hugetlb.")?;
            Some(rest.strip_suffix(".usage_in_bytes").or(rest.strip_suffix(".current"))?.to_owned())
        });
        let entry = |size: String| {
            let file = |v1: &str, v2: &str| {
                let number = |kind: &str| self.number(&format!("hugetlb.{size}.{kind}"));
                number(v1).or(number(v2))
            };
            let value = json!({
                "usage": file("usage_in_bytes", "current"),
                "max": file("max_usage_in_bytes", "peak"),
                "failcnt": file("failcnt", "events"),
            });
            (size, value)
        };
        let sizes = sizes.filter(|size| !size.starts_with("rsvd") && !size.ends_with(".rsvd"));
        Value::Object(sizes.map(entry).collect())
    }
}

/// Parses `8:0 Read 4096`; the total at the end has no device.
fn blkio_line(line: &str) -> Option<Value> {
    let mut words = line.split(' ');
    let (major, minor) = device(words.next()?)?;
    let (operation, value) = (words.next()?, words.next()?.parse::<u64>().ok()?);
    Some(json!({"major": major, "minor": minor, "op": operation, "value": value}))
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, files: &[(&str, &str)]) {
        files.iter().for_each(|(name, text)| fs::write(directory.join(name), text).unwrap());
    }

    #[test]
    fn v1_is_read_from_several_directories() {
        let [one, two] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        write(one.path(), &[("freezer.state", "THAWED\n"), ("cpuacct.usage", "77\n"), ("cpuacct.stat", "user 3\n")]);
        write(
            two.path(),
            &[
                ("memory.usage_in_bytes", "42\n"),
                ("memory.stat", "cache 9\n"),
                ("blkio.throttle.io_serviced_recursive", "8:0 Read 5\nTotal 5\n"),
                ("pids.max", "max\n"),
            ],
        );

        let data = document(&[one.path(), two.path()]);

        assert_eq!(data["cpu"]["usage"]["total"], 77);
        assert_eq!(data["cpu"]["usage"]["user"], 30_000_000);
        assert_eq!(data["memory"]["usage"]["usage"], 42);
        assert_eq!(data["memory"]["cache"], 9);
        assert_eq!(data["pids"]["limit"], 0);
        assert_eq!(data["blkio"]["ioServicedRecursive"], json!([{"major": 8, "minor": 0, "op": "Read", "value": 5}]));
    }

    #[test]
    fn v2_is_read_from_one() {
        let directory = tempfile::tempdir().unwrap();
        write(
            directory.path(),
            &[
                ("cpu.stat", "usage_usec 5\nuser_usec 4\n"),
                ("memory.current", "42\n"),
                ("memory.max", "max\n"),
                ("io.stat", "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
                ("hugetlb.2MB.current", "6\n"),
            ],
        );

        let data = document(&[directory.path()]);

        assert_eq!(data["cpu"]["usage"]["total"], 5000);
        assert_eq!(data["memory"]["usage"]["limit"], u64::MAX);
        assert_eq!(data["memory"]["usage"]["usage"], 42);
        assert_eq!(data["blkio"]["ioServiceBytesRecursive"][1]["value"], 2);
        assert_eq!(data["hugetlb"]["2MB"]["usage"], 6);
    }
}
