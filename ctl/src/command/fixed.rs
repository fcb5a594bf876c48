//! Limits that are fixed when a container is made, as flags say them, and as `ctl inspect` shows them.

use serde_json::{Map, Value, json};
use strata_proto::runtime::v1 as pb;

use crate::args::FixedLimitFlags;
use crate::error::{Error, Result};
use crate::input;

/// Puts into a spec what the flags say.
pub fn of_container(flags: &FixedLimitFlags, spec: &mut pb::ContainerSpec) -> Result<()> {
    let number = |text: &str| text.parse::<u64>().ok();
    let size = |text: &str| input::bytes("", text).ok();
    spec.fixed_limits = Some(pb::FixedLimits {
        memory_swappiness: flags.memory_swappiness.and_then(|number| u32::try_from(number).ok()),
        is_oom_kill_disabled: flags.oom_kill_disable,
        cpu_realtime_period_us: flags.real_time.cpu_rt_period,
        cpu_realtime_runtime_us: flags.real_time.cpu_rt_runtime,
        block_io_weights: devices("--blkio-weight-device", &flags.blkio_weight_device, number)?,
        read_bytes_per_second: devices("--device-read-bps", &flags.device_read_bps, size)?,
        write_bytes_per_second: devices("--device-write-bps", &flags.device_write_bps, size)?,
        reads_per_second: devices("--device-read-iops", &flags.device_read_iops, number)?,
        writes_per_second: devices("--device-write-iops", &flags.device_write_iops, number)?,
    });
    spec.ulimits = flags.ulimit.iter().map(|text| input::ulimit(text)).collect::<Result<_>>()?;
    spec.oom_score_adj = flags.oom_score_adj;
    spec.cgroup_parent = flags.cgroup_parent.clone().unwrap_or_default();
    Ok(())
}

/// "/dev/sda:VALUE"
fn devices(flag: &str, texts: &[String], value: impl Fn(&str) -> Option<u64>) -> Result<Vec<pb::DeviceLimit>> {
    let one = |text: &String| {
        let limit = text.rsplit_once(':').and_then(|(path, number)| Some((path, value(number)?)));
        let limit = limit.filter(|(path, _)| path.starts_with('/'));
        let (path, value) = limit.ok_or_else(|| {
            let why = "a device and a limit are expected, \"/dev/sda:100\"";
            Error::usage(format!("invalid value {text:?} for {flag}: {why}"))
        })?;
        Ok(pb::DeviceLimit { path: path.to_owned(), value })
    };
    texts.iter().map(one).collect()
}

/// Limits in the words of Docker's HostConfig.
pub fn inspected(spec: &pb::ContainerSpec) -> Map<String, Value> {
    let limits = spec.fixed_limits.clone().unwrap_or_default();
    let rates = |limits: &[pb::DeviceLimit], key: &str| {
        let one = |limit: &pb::DeviceLimit| json!({"Path": limit.path, key: limit.value});
        if limits.is_empty() { Value::Null } else { limits.iter().map(one).collect() }
    };
    let ulimit = |limit: &strata_proto::types::v1::Ulimit| {
        let number = |value: u64| i64::try_from(value).unwrap_or(-1);
        json!({"Name": limit.name, "Soft": number(limit.soft), "Hard": number(limit.hard)})
    };
    let all = json!({
        "MemorySwappiness": limits.memory_swappiness,
        "OomKillDisable": limits.is_oom_kill_disabled,
        "CpuRealtimePeriod": limits.cpu_realtime_period_us.unwrap_or(0),
        "CpuRealtimeRuntime": limits.cpu_realtime_runtime_us.unwrap_or(0),
        "BlkioWeightDevice": rates(&limits.block_io_weights, "Weight"),
        "BlkioDeviceReadBps": rates(&limits.read_bytes_per_second, "Rate"),
        "BlkioDeviceWriteBps": rates(&limits.write_bytes_per_second, "Rate"),
        "BlkioDeviceReadIOps": rates(&limits.reads_per_second, "Rate"),
        "BlkioDeviceWriteIOps": rates(&limits.writes_per_second, "Rate"),
        "CgroupParent": spec.cgroup_parent,
        "OomScoreAdj": spec.oom_score_adj.unwrap_or(0),
        "Ulimits": spec.ulimits.iter().map(ulimit).collect::<Vec<_>>(),
    });
    all.as_object().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        limits: FixedLimitFlags,
    }

    fn spec(words: &[&str]) -> Result<pb::ContainerSpec> {
        let flags = Flags::try_parse_from([&["x"], words].concat()).unwrap_or_else(|error| panic!("{error}"));
        let mut spec = pb::ContainerSpec::default();
        of_container(&flags.limits, &mut spec).map(|()| spec)
    }

    #[test]
    fn flags_are_shown_in_dockers_words() {
        let words = [
            "--memory-swappiness=10",
            "--device-read-bps=/dev/sda:1mb",
            "--blkio-weight-device=/dev/sda:100",
            "--oom-score-adj=-5",
            "--ulimit=nofile=1:2",
        ];
        let shown = inspected(&spec(&words).unwrap());
        assert_eq!(shown["MemorySwappiness"], 10);
        assert_eq!(shown["BlkioDeviceReadBps"], json!([{"Path": "/dev/sda", "Rate": 1 << 20}]));
        assert_eq!(shown["BlkioWeightDevice"], json!([{"Path": "/dev/sda", "Weight": 100}]));
        assert_eq!(shown["OomScoreAdj"], -5);
        assert_eq!(shown["Ulimits"], json!([{"Name": "nofile", "Soft": 1, "Hard": 2}]));
    }

    #[test]
    fn what_is_no_limit_is_refused_by_its_flag() {
        for (flag, value) in [
            ("--device-read-bps", "sda:1"),
            ("--device-write-iops", "/dev/sda:1mb"),
            ("--blkio-weight-device", "/dev/sda"),
            ("--ulimit", "nofile"),
        ] {
            let refused = spec(&[&format!("{flag}={value}")]).unwrap_err();
            assert!(refused.message.contains(flag), "{}", refused.message);
        }
    }
}
