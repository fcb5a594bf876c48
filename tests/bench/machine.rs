//! Where and when: figures without it say nothing.

use std::fs;

use serde::Serialize;

/// The machine.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    date: String,
    cpu: String,
    cores: usize,
    memory_mib: u64,
    kernel: String,
    cgroups: &'static str,
    file_system: String,
    /// Of others, in the minute before: above a few tenths, figures are of a busy machine.
    load_before: String,
}

impl Machine {
    /// This one, now.
    pub(crate) fn look() -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory = memory.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            cpu: cpu.map_or("unknown", |(_, model)| model).to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory.unwrap_or(0) / 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            cgroups: cgroups(),
            load_before: load.split(' ').next().unwrap_or("unknown").to_owned(),
            file_system: file_system().unwrap_or_else(|| "unknown".to_owned()),
        }
    }

    /// In one line.
    pub(crate) fn line(&self) -> String {
        let Self { date, cpu, cores, memory_mib, kernel, cgroups, file_system, load_before } = self;
        format!(
            "{date}; {cpu}, {cores} cores, {memory_mib} MiB; Linux {kernel}, cgroups {cgroups}, {file_system} on /var/tmp; load before {load_before}"
        )
    }
}

fn cgroups() -> &'static str {
    let exists = |path: &str| fs::exists(path).unwrap_or(false);
    match () {
        () if exists("/sys/fs/cgroup/cgroup.controllers") => "v2",
        () if exists("/sys/fs/cgroup/unified/cgroup.procs") => "v1 hybrid",
        () => "v1",
    }
}

/// Of the longest mount point above /var/tmp.
fn file_system() -> Option<String> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let above = fields.filter(|fields| fields.len() > 2 && std::path::Path::new("/var/tmp").starts_with(fields[1]));
    above.max_by_key(|fields| fields[1].len()).map(|fields| fields[2].to_owned())
}
