//! Processor time and sets of processors.

use oci_spec::runtime::LinuxCpu;

use super::{Builder, Otherwise, unsupported};
use crate::cgroup::{Error, Version};

/// What `cpu.shares` of v1 holds; it clamps the rest in silence. kernel/sched/sched.h, MIN_SHARES and MAX_SHARES
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

impl Builder<'_> {
    pub(super) fn cpu(&mut self, cpu: &LinuxCpu) -> Result<(), Error> {
        if let Some(idle) = cpu.idle() {
            self.push("cpu", "cpu.idle", idle, "cpu.idle");
        }
        // An idle group has the least weight there is, and the kernel refuses another.
        if let Some(shares) = cpu.shares().filter(|shares| *shares != 0 && cpu.idle() != Some(1)) {
            match self.version("cpu") {
                Version::V1 if !SHARES.contains(&shares) => {
                    return Err(unsupported("cpu.shares", "it is not between 2 and 262144"));
                }
                Version::V1 => self.push("cpu", "cpu.shares", shares, "cpu.shares"),
                Version::V2 => self.push("cpu", "cpu.weight", weight_of_shares(shares), "cpu.shares"),
            }
        }
        self.quota(cpu);
        if let Some(burst) = cpu.burst() {
            let file = self.either("cpu", "cpu.cfs_burst_us", "cpu.max.burst");
            self.push("cpu", file, burst, "cpu.burst");
        }
        let reason = "v2 has no real-time limits";
        let lacks = || Otherwise::Lacks("the kernel has no real-time group scheduling (CONFIG_RT_GROUP_SCHED)");
        if let Some(period) = cpu.realtime_period().filter(|period| *period != 0) {
            self.v1_only("cpu", "cpu.realtimePeriod", reason)?;
            self.push_or("cpu", "cpu.rt_period_us", period, "cpu.realtimePeriod", lacks());
        }
        if let Some(runtime) = cpu.realtime_runtime().filter(|runtime| *runtime != 0) {
            self.v1_only("cpu", "cpu.realtimeRuntime", reason)?;
            self.push_or("cpu", "cpu.rt_runtime_us", runtime, "cpu.realtimeRuntime", lacks());
        }
        for (file, value, field) in [("cpuset.cpus", cpu.cpus(), "cpu.cpus"), ("cpuset.mems", cpu.mems(), "cpu.mems")] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                self.push("cpuset", file, value, field);
            }
        }
        Ok(())
    }

    fn quota(&mut self, cpu: &LinuxCpu) {
        let quota = cpu.quota().filter(|quota| *quota != 0);
        let period = cpu.period().filter(|period| *period != 0);
        if self.version("cpu") == Version::V1 {
            // The period first: a quota is checked against it.
            period.into_iter().for_each(|period| self.push("cpu", "cpu.cfs_period_us", period, "cpu.period"));
            quota.into_iter().for_each(|quota| self.push("cpu", "cpu.cfs_quota_us", quota, "cpu.quota"));
            return;
        }
        if quota.is_none() && period.is_none() {
            return;
        }
        let in_force = || self.context.quota.clone().unwrap_or_else(|| "max".to_owned());
        let quota = match quota {
            None => in_force(),
            Some(quota) if quota > 0 => quota.to_string(),
            Some(_) => "max".to_owned(),
        };
        // Without a second number the kernel keeps the period.
        let period = period.map(|period| format!(" {period}")).unwrap_or_default();
        let field = if cpu.quota().is_some_and(|quota| quota != 0) { "cpu.quota" } else { "cpu.period" };
        self.push("cpu", "cpu.max", format!("{quota}{period}"), field);
    }
}

/// Converts v1 shares (2..=262144, default 1024) to a v2 weight (1..=10000, default 100).
///
/// The curve of the OCI runtimes since 2025: it goes through both ends and maps default to default.
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    if shares <= *SHARES.start() {
        return 1;
    }
    if shares >= *SHARES.end() {
        return 10_000;
    }
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    10f64.powf(exponent).ceil() as u64
}
