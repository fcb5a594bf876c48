//! OCI resources as file contents: pure, one list per cgroup version, in the order they are written.
//! Every entry knows the field it comes from, so that a refusal by the kernel names it.

use std::fmt::Display;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxResources, LinuxThrottleDevice,
};

use super::{Error, Version};

/// The controllers this crate can name.
pub(super) const CONTROLLERS: [&str; 11] =
    ["blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "io", "memory", "misc", "pids"];

/// One write to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) controller: &'static str,
    pub(super) file: String,
    pub(super) value: String,
    pub(super) field: String,
}

/// The list being built.
struct Settings {
    version: Version,
    list: Vec<Setting>,
}

/// Returns what must be written for `resources`.
pub(super) fn of(resources: &LinuxResources, version: Version) -> Result<Vec<Setting>, Error> {
    let mut settings = Settings { version, list: Vec::new() };
    if let Some(memory) = resources.memory() {
        settings.memory(memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        settings.cpu(cpu)?;
    }
    if let Some(pids) = resources.pids() {
        let value = if pids.limit() > 0 { pids.limit().to_string() } else { "max".to_owned() };
        settings.push("pids", "pids.max", value, "pids.limit");
    }
    if let Some(block_io) = resources.block_io() {
        settings.block_io(block_io)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let size = limit.page_size();
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(unsupported("hugepageLimits", "the page size is not of the form 2MB"));
        }
        let suffix = settings.either("limit_in_bytes", "max");
        settings.push("hugetlb", format!("hugetlb.{size}.{suffix}"), limit.limit(), "hugepageLimits");
    }
    settings.devices(resources.devices().as_deref().unwrap_or_default())?;
    if resources
        .network()
        .as_ref()
        .is_some_and(|network| network.class_id().is_some() || network.priorities().is_some())
    {
        return Err(unsupported("network", "network classes and priorities are not implemented"));
    }
    if resources.rdma().as_ref().is_some_and(|rdma| !rdma.is_empty()) {
        return Err(unsupported("rdma", "the rdma controller is not implemented"));
    }
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    unified.into_iter().try_for_each(|(key, value)| settings.unified(key, value))?;
    // Grouped by controller; the sort is stable, so the order within one stays.
    settings.list.sort_by_key(|setting| setting.controller);
    Ok(settings.list)
}

impl Settings {
    fn push(&mut self, controller: &'static str, file: impl Into<String>, value: impl Display, field: &str) {
        let field = format!("linux.resources.{field}");
        self.list.push(Setting { controller, file: file.into(), value: value.to_string(), field });
    }

    fn either<T>(&self, v1: T, v2: T) -> T {
        if self.version == Version::V1 { v1 } else { v2 }
    }

    fn memory(&mut self, memory: &LinuxMemory) -> Result<(), Error> {
        let limit = memory.limit().filter(|limit| *limit != 0);
        if let Some(limit) = limit {
            let file = self.either("memory.limit_in_bytes", "memory.max");
            self.push("memory", file, self.bytes(limit), "memory.limit");
        }
        if let Some(reservation) = memory.reservation().filter(|bytes| *bytes != 0) {
            let file = self.either("memory.soft_limit_in_bytes", "memory.low");
            self.push("memory", file, self.bytes(reservation), "memory.reservation");
        }
        if let Some(swap) = memory.swap().filter(|swap| *swap != 0) {
            self.swap(swap, limit)?;
        }
        if let Some(swappiness) = memory.swappiness() {
            self.v1_only("memory.swappiness", "v2 has no swappiness per group")?;
            self.push("memory", "memory.swappiness", swappiness, "memory.swappiness");
        }
        if memory.disable_oom_killer() == Some(true) {
            self.v1_only("memory.disableOOMKiller", "v2 cannot disable the out-of-memory killer")?;
            self.push("memory", "memory.oom_control", 1, "memory.disableOOMKiller");
        }
        if let Some(kernel_tcp) = memory.kernel_tcp().filter(|bytes| *bytes != 0) {
            self.v1_only("memory.kernelTCP", "v2 counts it in memory.limit")?;
            self.push("memory", "memory.kmem.tcp.limit_in_bytes", kernel_tcp, "memory.kernelTCP");
        }
        #[allow(deprecated)]
        let kernel = memory.kernel().filter(|bytes| *bytes > 0);
        match kernel {
            Some(_) => Err(unsupported("memory.kernel", "the kernel dropped this limit in 5.4")),
            None => Ok(()),
        }
    }

    /// The spec counts memory and swap together; v2 counts swap alone.
    fn swap(&mut self, swap: i64, limit: Option<i64>) -> Result<(), Error> {
        let value = match (self.version, swap, limit) {
            (Version::V1, ..) | (Version::V2, ..=-1, _) => self.bytes(swap),
            (Version::V2, _, Some(limit)) if limit > 0 && swap >= limit => (swap - limit).to_string(),
            (Version::V2, ..) => return Err(unsupported("memory.swap", "it needs a memory.limit that is not larger")),
        };
        let file = self.either("memory.memsw.limit_in_bytes", "memory.swap.max");
        self.push("memory", file, value, "memory.swap");
        Ok(())
    }

    fn cpu(&mut self, cpu: &LinuxCpu) -> Result<(), Error> {
        if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
            match self.version {
                Version::V1 => self.push("cpu", "cpu.shares", shares, "cpu.shares"),
                Version::V2 => self.push("cpu", "cpu.weight", weight_of_shares(shares), "cpu.shares"),
            }
        }
        self.quota(cpu);
        if let Some(burst) = cpu.burst() {
            let file = self.either("cpu.cfs_burst_us", "cpu.max.burst");
            self.push("cpu", file, burst, "cpu.burst");
        }
        if let Some(idle) = cpu.idle() {
            self.push("cpu", "cpu.idle", idle, "cpu.idle");
        }
        if let Some(period) = cpu.realtime_period().filter(|period| *period != 0) {
            self.v1_only("cpu.realtimePeriod", "v2 has no real-time limits")?;
            self.push("cpu", "cpu.rt_period_us", period, "cpu.realtimePeriod");
        }
        if let Some(runtime) = cpu.realtime_runtime().filter(|runtime| *runtime != 0) {
            self.v1_only("cpu.realtimeRuntime", "v2 has no real-time limits")?;
            self.push("cpu", "cpu.rt_runtime_us", runtime, "cpu.realtimeRuntime");
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
        if self.version == Version::V1 {
            // The period first: a quota is checked against it.
            period.into_iter().for_each(|period| self.push("cpu", "cpu.cfs_period_us", period, "cpu.period"));
            quota.into_iter().for_each(|quota| self.push("cpu", "cpu.cfs_quota_us", quota, "cpu.quota"));
        } else if quota.is_some() || period.is_some() {
            let quota = quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
            self.push("cpu", "cpu.max", format!("{quota} {}", period.unwrap_or(100_000)), "cpu.quota");
        }
    }

    fn block_io(&mut self, block_io: &LinuxBlockIo) -> Result<(), Error> {
        let controller = self.either("blkio", "io");
        if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
            let file = self.either("blkio.bfq.weight", "io.bfq.weight");
            self.push(controller, file, weight, "blockIO.weight");
        }
        if block_io.leaf_weight().is_some_and(|weight| weight != 0)
            || block_io.weight_device().as_ref().is_some_and(|devices| !devices.is_empty())
        {
            return Err(unsupported("blockIO.weightDevice", "weights per device or leaf are not implemented"));
        }
        let throttles: [(&Option<Vec<LinuxThrottleDevice>>, &str, &str, &str); 4] = [
            (block_io.throttle_read_bps_device(), "read_bps", "rbps", "blockIO.throttleReadBpsDevice"),
            (block_io.throttle_write_bps_device(), "write_bps", "wbps", "blockIO.throttleWriteBpsDevice"),
            (block_io.throttle_read_iops_device(), "read_iops", "riops", "blockIO.throttleReadIOPSDevice"),
            (block_io.throttle_write_iops_device(), "write_iops", "wiops", "blockIO.throttleWriteIOPSDevice"),
        ];
        for (devices, v1, v2, field) in throttles {
            for device in devices.iter().flatten() {
                let (number, rate) = (format!("{}:{}", device.major(), device.minor()), device.rate());
                match self.version {
                    Version::V1 => {
                        self.push(controller, format!("blkio.throttle.{v1}_device"), format!("{number} {rate}"), field)
                    }
                    Version::V2 => self.push(controller, "io.max", format!("{number} {v2}={rate}"), field),
                }
            }
        }
        Ok(())
    }

    /// On v2 the rules need an eBPF program, which is not there yet: `Cgroup::filters_devices` says so.
    fn devices(&mut self, rules: &[LinuxDeviceCgroup]) -> Result<(), Error> {
        for (index, rule) in rules.iter().enumerate() {
            let field = format!("devices[{index}]");
            let access = rule.access().as_deref().unwrap_or("rwm");
            if access.is_empty() || !access.bytes().all(|byte| b"rwm".contains(&byte)) {
                return Err(unsupported(&field, "the access is not made of r, w and m"));
            }
            if self.version == Version::V2 {
                continue;
            }
            let number = |number: Option<i64>| match number {
                Some(number) if number >= 0 => number.to_string(),
                _ => "*".to_owned(),
            };
            let value = match rule.typ().unwrap_or_default() {
                LinuxDeviceType::A => "a".to_owned(),
                LinuxDeviceType::B => format!("b {}:{} {access}", number(rule.major()), number(rule.minor())),
                LinuxDeviceType::C | LinuxDeviceType::U => {
                    format!("c {}:{} {access}", number(rule.major()), number(rule.minor()))
                }
                LinuxDeviceType::P => return Err(unsupported(&field, "a pipe is not a device")),
            };
            let file = if rule.allow() { "devices.allow" } else { "devices.deny" };
            self.push("devices", file, value, &field);
        }
        Ok(())
    }

    fn unified(&mut self, key: &str, value: &str) -> Result<(), Error> {
        let field = format!("unified.{key}");
        if self.version == Version::V1 {
            return Err(unsupported(&field, "this host has cgroup v1"));
        }
        let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte));
        let prefix = key.split_once('.').map(|(prefix, _)| prefix);
        let controller = CONTROLLERS.iter().find(|controller| Some(**controller) == prefix);
        match controller {
            Some(controller) if plain => self.push(controller, key, value, &field),
            _ => return Err(unsupported(&field, "the key is not a file of a controller")),
        }
        Ok(())
    }

    fn v1_only(&self, field: &str, reason: &'static str) -> Result<(), Error> {
        if self.version == Version::V1 { Ok(()) } else { Err(unsupported(field, reason)) }
    }

    fn bytes(&self, bytes: i64) -> String {
        match (bytes, self.version) {
            (..=-1, Version::V1) => "-1".to_owned(),
            (..=-1, Version::V2) => "max".to_owned(),
            (bytes, _) => bytes.to_string(),
        }
    }
}

fn unsupported(field: &str, reason: &'static str) -> Error {
    Error::Unsupported { field: format!("linux.resources.{field}"), reason }
}

/// Converts v1 shares (2..=262144, default 1024) to a v2 weight (1..=10000, default 100).
///
/// The curve of the OCI runtimes since 2025: it goes through both ends and maps default to default.
fn weight_of_shares(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    10f64.powf(exponent).ceil() as u64
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResourcesBuilder};
    use serde_json::json;

    use super::*;

    fn lines(resources: serde_json::Value, version: Version) -> Result<Vec<String>, String> {
        let resources: LinuxResources = serde_json::from_value(resources).unwrap();
        let settings = of(&resources, version).map_err(|error| error.to_string())?;
        Ok(settings.iter().map(|setting| format!("{}={}", setting.file, setting.value)).collect())
    }

    #[test]
    fn limits_become_the_files_of_each_version() {
        let resources = json!({
            "memory": {"limit": 1048576, "swap": 2097152, "reservation": 4096},
            "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0-1"},
            "pids": {"limit": 100},
            "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}]},
        });

        assert_eq!(
            lines(resources.clone(), Version::V1).unwrap(),
            [
                "blkio.throttle.read_bps_device=8:0 1000",
                "cpu.shares=1024",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=50000",
                "cpuset.cpus=0-1",
                "memory.limit_in_bytes=1048576",
                "memory.soft_limit_in_bytes=4096",
                "memory.memsw.limit_in_bytes=2097152",
                "pids.max=100",
            ]
        );
        assert_eq!(
            lines(resources, Version::V2).unwrap(),
            [
                "cpu.weight=100",
                "cpu.max=50000 100000",
                "cpuset.cpus=0-1",
                "io.max=8:0 rbps=1000",
                "memory.max=1048576",
                "memory.low=4096",
                "memory.swap.max=1048576",
                "pids.max=100",
            ]
        );
    }

    #[test]
    fn unlimited_is_minus_one_or_max() {
        let resources = LinuxResourcesBuilder::default()
            .memory(LinuxMemoryBuilder::default().limit(-1i64).swap(-1i64).build().unwrap())
            .cpu(LinuxCpuBuilder::default().quota(-1i64).build().unwrap())
            .pids(LinuxPidsBuilder::default().limit(-1i64).build().unwrap())
            .build()
            .unwrap();
        let files = |version| {
            let settings = of(&resources, version).unwrap();
            settings.into_iter().map(|setting| setting.value).collect::<Vec<_>>()
        };

        assert_eq!(files(Version::V1), ["-1", "-1", "-1", "max"]);
        assert_eq!(files(Version::V2), ["max 100000", "max", "max", "max"]);
    }

    #[test]
    fn device_rules_keep_their_order_on_v1() {
        let resources = json!({"devices": [
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
            {"allow": true, "type": "b", "access": "m"},
        ]});

        assert_eq!(
            lines(resources.clone(), Version::V1).unwrap(),
            ["devices.deny=a", "devices.allow=c 1:3 rwm", "devices.allow=b *:* m"]
        );
        assert!(lines(resources, Version::V2).unwrap().is_empty());
    }

    #[test]
    fn what_a_version_cannot_do_is_refused_by_field() {
        for (resources, version, field) in [
            (json!({"memory": {"swap": 100}}), Version::V2, "linux.resources.memory.swap"),
            (json!({"memory": {"limit": 200, "swap": 100}}), Version::V2, "linux.resources.memory.swap"),
            (json!({"memory": {"swappiness": 10}}), Version::V2, "linux.resources.memory.swappiness"),
            (json!({"memory": {"kernel": 10}}), Version::V1, "linux.resources.memory.kernel"),
            (json!({"cpu": {"realtimeRuntime": 10}}), Version::V2, "linux.resources.cpu.realtimeRuntime"),
            (json!({"network": {"classID": 1}}), Version::V1, "linux.resources.network"),
            (json!({"rdma": {"mlx": {}}}), Version::V1, "linux.resources.rdma"),
            (json!({"devices": [{"allow": true, "access": "rwx"}]}), Version::V2, "linux.resources.devices[0]"),
            (json!({"unified": {"memory.max": "1"}}), Version::V1, "linux.resources.unified.memory.max"),
        ] {
            let error = lines(resources.clone(), version).expect_err(&resources.to_string());
            assert!(error.starts_with(&format!("cannot apply {field}: ")), "{error}");
        }
    }

    /// Security row 20 (GHSA-5g49-rx9x-qfc6): a key is a file name, never a path.
    #[test]
    fn unified_keys_cannot_leave_the_directory() {
        for key in ["../memory.max", "memory.max/../x", "/etc/passwd", "..", "", "memory", "nothing.max", "memory.\0"] {
            let error = lines(json!({"unified": {key: "1"}}), Version::V2).expect_err(key);
            assert!(error.contains("not a file of a controller"), "{error}");
        }
        assert_eq!(lines(json!({"unified": {"memory.high": "7"}}), Version::V2).unwrap(), ["memory.high=7"]);
    }

    #[test]
    fn shares_map_ends_and_default_and_keep_order() {
        assert_eq!([0, 2, 1024, 262_144, u64::MAX].map(weight_of_shares), [1, 1, 100, 10_000, 10_000]);
        let weights: Vec<u64> = (2..262_144).step_by(97).map(weight_of_shares).collect();
        assert!(weights.is_sorted() && weights.iter().all(|weight| (1..=10_000).contains(weight)));
    }
}
