//! Limits as the engine takes them: of a new container, and changed ones of one that runs.

use std::collections::HashMap;

use oci_spec::{
    OciSpecError,
    runtime::{LinuxBlockIoBuilder, LinuxCpu, LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResources},
};
use strata_oci::cgroup::{self, Cgroup, Version};
use strata_types::ContainerId;

use super::{Launcher, outline};
use crate::{
    error::Error,
    record::Record,
    spec::{FixedLimits, Limits, Spec, limits::PERIOD},
};

/// What the kernel has where nobody says otherwise.
const SHARES: u64 = 1024;
const WEIGHT: u16 = 100;
const REAL_TIME_PERIOD: u64 = 1_000_000;

/// The limits of a new container.
pub fn resources(limits: &Limits) -> Result<LinuxResources, OciSpecError> {
    let mut resources = LinuxResources::default();
    if limits.memory_bytes.is_some() || limits.memory_reservation_bytes.is_some() {
        let mut memory = LinuxMemoryBuilder::default();
        if let Some(bytes) = limits.memory_bytes {
            memory = memory.limit(bytes as i64);
        }
        if let Some(bytes) = limits.swap() {
            memory = memory.swap(bytes);
        }
        if let Some(bytes) = limits.memory_reservation_bytes {
            memory = memory.reservation(bytes as i64);
        }
        resources.set_memory(Some(memory.build()?));
    }
    let (quota, period) = limits.quota();
    let mut cpu = LinuxCpuBuilder::default();
    if let Some(quota) = quota {
        cpu = cpu.quota(quota);
    }
    if let Some(period) = period {
        cpu = cpu.period(period);
    }
    if let Some(shares) = limits.cpu_shares {
        cpu = cpu.shares(shares);
    }
    if let Some(cpus) = &limits.cpuset_cpus {
        cpu = cpu.cpus(cpus.clone());
    }
    if let Some(mems) = &limits.cpuset_mems {
        cpu = cpu.mems(mems.clone());
    }
    let cpu = cpu.build()?;
    if cpu != Default::default() {
        resources.set_cpu(Some(cpu));
    }
    if let Some(pids) = limits.pids {
        resources.set_pids(Some(LinuxPidsBuilder::default().limit(pids as i64).build()?));
    }
    if let Some(weight) = limits.blkio_weight {
        resources.set_block_io(Some(LinuxBlockIoBuilder::default().weight(weight as u16).build()?));
    }
    Ok(resources)
}

/// What has to be written where limits change: those that differ, and what stands for none.
fn changed(before: &Limits, after: &Limits, group: &Cgroup, version: Version) -> Result<LinuxResources, OciSpecError> {
    let mut resources = LinuxResources::default();
    // Files of v2 for which the resources have no word that means none.
    let mut unified = HashMap::new();
    let (swaps, reservations) = (
        before.swap() != after.swap() || before.memory_bytes != after.memory_bytes,
        before.memory_reservation_bytes != after.memory_reservation_bytes,
    );
    if swaps || reservations {
        let mut memory = LinuxMemoryBuilder::default();
        if swaps {
            memory = memory.limit(after.memory_bytes.map_or(-1, |bytes| bytes as i64)).swap(after.swap().unwrap_or(-1));
        }
        match (after.memory_reservation_bytes.filter(|_| reservations), version) {
            (Some(bytes), _) => memory = memory.reservation(bytes as i64),
            (None, Version::V1) if reservations => memory = memory.reservation(-1),
            (None, Version::V2) if reservations => drop(unified.insert("memory.low".to_owned(), "0".to_owned())),
            (None, _) => {}
        }
        resources.set_memory(Some(memory.build()?));
    }
    let mut cpu = LinuxCpuBuilder::default();
    if before.quota() != after.quota() {
        let (quota, period) = after.quota();
        cpu = cpu.quota(quota.unwrap_or(-1)).period(period.unwrap_or(PERIOD));
    }
    if before.cpu_shares != after.cpu_shares {
        cpu = cpu.shares(after.cpu_shares.unwrap_or(SHARES));
    }
    for (file, before, after) in [
        ("cpuset.cpus", &before.cpuset_cpus, &after.cpuset_cpus),
        ("cpuset.mems", &before.cpuset_mems, &after.cpuset_mems),
    ] {
        if before == after {
            continue;
        }
        match after.clone().or_else(|| group.whole_set(file)) {
            Some(set) if file == "cpuset.cpus" => cpu = cpu.cpus(set),
            Some(set) => cpu = cpu.mems(set),
            None => drop(unified.insert(file.to_owned(), String::new())),
        }
    }
    let cpu = cpu.build()?;
    if cpu != Default::default() {
        resources.set_cpu(Some(cpu));
    }
    if before.pids != after.pids {
        let pids = LinuxPidsBuilder::default().limit(after.pids.map_or(-1, |pids| pids as i64)).build()?;
        resources.set_pids(Some(pids));
    }
    if before.blkio_weight != after.blkio_weight {
        let weight = after.blkio_weight.map_or(WEIGHT, |weight| weight as u16);
        resources.set_block_io(Some(LinuxBlockIoBuilder::default().weight(weight).build()?));
    }
    if !unified.is_empty() {
        resources.set_unified(Some(unified));
    }
    Ok(resources)
}

/// What has to be written where limits of real time change, one after the other: the kernel refuses more processor time than
/// the period in between. A limit that was none before cannot be taken back, but then nothing is left to fail.
fn real_time(before: &FixedLimits, after: &FixedLimits) -> Vec<LinuxResources> {
    let cpu = |set: &dyn Fn(&mut LinuxCpu)| {
        let (mut resources, mut cpu) = (LinuxResources::default(), LinuxCpu::default());
        set(&mut cpu);
        resources.set_cpu(Some(cpu));
        resources
    };
    let (old, new) = (before.cpu_realtime_period, after.cpu_realtime_period);
    let period = (old != new).then(|| new.unwrap_or(REAL_TIME_PERIOD));
    let runtime = after.cpu_realtime_runtime.filter(|runtime| before.cpu_realtime_runtime != Some(*runtime));
    let is_shorter = period.is_some_and(|period| period < old.unwrap_or(REAL_TIME_PERIOD));
    let period = period.map(|period| cpu(&|cpu| _ = cpu.set_realtime_period(Some(period))));
    let runtime = runtime.map(|runtime| cpu(&|cpu| _ = cpu.set_realtime_runtime(Some(runtime))));
    let (first, last) = if is_shorter { (runtime, period) } else { (period, runtime) };
    first.into_iter().chain(last).collect()
}

impl Launcher {
    /// Puts other limits in force in a container that runs. On failure those before are.
    pub fn update(&self, record: &Record, before: &Spec, after: &Spec) -> Result<(), Error> {
        let id = &record.id;
        let name = || record.name.to_string();
        let group = self.cgroup(id)?.filter(|group| group.directories().next().is_some());
        let (Some(mut group), Some(layout)) = (group, &self.0.layout) else {
            return Err(Error::NoCgroup { name: name() });
        };
        let writes = |from: &Spec, to: &Spec, group: &Cgroup| {
            let changed = changed(&from.limits, &to.limits, group, layout.version());
            let changed = changed.map_err(|error| outline::plan_error(id, error))?;
            let real_time = real_time(&from.fixed_limits, &to.fixed_limits);
            let all = std::iter::once(changed).chain(real_time).filter(|one| *one != LinuxResources::default());
            Ok::<Vec<LinuxResources>, Error>(all.collect())
        };
        let wanted = writes(before, after, &group)?;
        for one in &wanted {
            group.join(layout, one).map_err(|error| refused(id, &after.limits, error))?;
        }
        let update = |wanted: &[LinuxResources], limits: &Limits| {
            wanted.iter().try_for_each(|one| group.update(one)).map_err(|error| refused(id, limits, error))
        };
        update(&wanted, &after.limits).inspect_err(|_| {
            // Some of it may be in force.
            let back = writes(after, before, &group).and_then(|back| update(&back, &before.limits));
            if let Err(error) = back {
                tracing::warn!(container = %id, error = strata_rpc::fault::chain(&error), "limits are half changed");
            }
        })
    }
}

/// A limit that cannot be applied, or a cgroup that cannot be used.
pub fn refused(id: &ContainerId, limits: &Limits, error: cgroup::Error) -> Error {
    let field = match &error {
        cgroup::Error::NoController { field, .. }
        | cgroup::Error::NotDelegated { field, .. }
        | cgroup::Error::Unsupported { field, .. }
        | cgroup::Error::Limit { field, .. } => field,
        _ => return Error::Cgroup { id: id.to_string(), source: error },
    };
    let ours = match field.trim_start_matches("linux.resources.") {
        "memory.swap" if limits.memory_swap_bytes.is_some() => "limits.memory_swap_bytes",
        "memory.reservation" | "unified.memory.low" => "limits.memory_reservation_bytes",
        "memory.swappiness" => "fixed_limits.memory_swappiness",
        "memory.disableOOMKiller" => "fixed_limits.is_oom_kill_disabled",
        field if field.starts_with("memory") => "limits.memory_bytes",
        "cpu.shares" => "limits.cpu_shares",
        "cpu.cpus" | "unified.cpuset.cpus" => "limits.cpuset_cpus",
        "cpu.mems" | "unified.cpuset.mems" => "limits.cpuset_mems",
        "cpu.period" if limits.nano_cpus.is_none() => "limits.cpu_period_us",
        "cpu.quota" if limits.cpu_quota.is_some() => "limits.cpu_quota_us",
        "cpu.realtimePeriod" => "fixed_limits.cpu_realtime_period_us",
        "cpu.realtimeRuntime" => "fixed_limits.cpu_realtime_runtime_us",
        field if field.starts_with("cpu") => "limits.nano_cpus",
        field if field.starts_with("pids") => "limits.pids",
        "blockIO.weight" => "limits.blkio_weight",
        _ => field,
    };
    Error::Limit { field: ours.to_owned(), source: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_dockers_figures() {
        let limits = Limits {
            memory_bytes: Some(64 << 20),
            nano_cpus: Some(1_500_000_000),
            pids: Some(20),
            cpuset_cpus: Some("0".into()),
            blkio_weight: Some(300),
            ..Limits::default()
        };
        let resources = resources(&limits).unwrap();
        let memory = resources.memory().unwrap();
        assert_eq!((memory.limit(), memory.swap()), (Some(64 << 20), Some(128 << 20)));
        let cpu = resources.cpu().clone().unwrap();
        assert_eq!((cpu.quota(), cpu.period(), cpu.cpus().as_deref()), (Some(150_000), Some(100_000), Some("0")));
        assert_eq!(resources.pids().as_ref().unwrap().limit(), 20);
        assert_eq!(resources.block_io().as_ref().unwrap().weight(), Some(300));
        assert_eq!(super::resources(&Limits::default()).unwrap(), LinuxResources::default());
    }

    #[test]
    fn limits_of_real_time_are_written_so_that_the_time_never_exceeds_its_period() {
        let of = |period, runtime| FixedLimits {
            cpu_realtime_period: period,
            cpu_realtime_runtime: runtime,
            ..FixedLimits::default()
        };
        let written = |before: &FixedLimits, after: &FixedLimits| -> Vec<(Option<u64>, Option<i64>)> {
            let cpu = |one: &LinuxResources| one.cpu().clone().unwrap();
            let all = real_time(before, after);
            all.iter().map(|one| (cpu(one).realtime_period(), cpu(one).realtime_runtime())).collect()
        };
        let (none, short, long) = (of(None, None), of(Some(1000), Some(900)), of(Some(5000), Some(4000)));

        assert_eq!(written(&short, &long), [(Some(5000), None), (None, Some(4000))]);
        assert_eq!(written(&long, &short), [(None, Some(900)), (Some(1000), None)]);
        assert_eq!(written(&short, &none), [(Some(REAL_TIME_PERIOD), None)]);
        assert_eq!(written(&short, &short), []);
    }
}
