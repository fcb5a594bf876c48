//! Limits that are fixed when a container is made, on the wire, and back.

use std::path::PathBuf;

use strata_proto::runtime::v1 as wire;

use super::convert;
use crate::{
    error::Error,
    spec::{DeviceLimit, FixedLimits},
};

/// Parses limits; 0 is none, as in Docker.
pub fn limits(limits: Option<wire::FixedLimits>) -> Result<FixedLimits, Error> {
    let limits = limits.unwrap_or_default();
    let wrong = |field: &str, problem: &str| Err(Error::argument(format!("spec.fixed_limits.{field}"), problem));
    let parsed = FixedLimits {
        memory_swappiness: match limits.memory_swappiness {
            Some(101..) => return wrong("memory_swappiness", "it is 0 to 100"),
            value => value.and_then(|value| u8::try_from(value).ok()),
        },
        is_oom_kill_disabled: limits.is_oom_kill_disabled,
        cpu_realtime_period: limits.cpu_realtime_period_us.filter(|period| *period != 0),
        cpu_realtime_runtime: limits.cpu_realtime_runtime_us.filter(|runtime| *runtime != 0),
        block_io_weights: devices("block_io_weights", limits.block_io_weights)?,
        read_bytes: devices("read_bytes_per_second", limits.read_bytes_per_second)?,
        write_bytes: devices("write_bytes_per_second", limits.write_bytes_per_second)?,
        read_operations: devices("reads_per_second", limits.reads_per_second)?,
        write_operations: devices("writes_per_second", limits.writes_per_second)?,
    };
    if !parsed.fits_period() {
        return wrong("cpu_realtime_runtime_us", "it is more than its period");
    }
    if parsed.block_io_weights.iter().any(|limit| !(10..=1000).contains(&limit.value)) {
        return wrong("block_io_weights", "a weight is 10 to 1000");
    }
    Ok(parsed)
}

fn devices(field: &str, limits: Vec<wire::DeviceLimit>) -> Result<Vec<DeviceLimit>, Error> {
    let one = |limit: wire::DeviceLimit| {
        let path = PathBuf::from(convert::path(&format!("spec.fixed_limits.{field}"), &limit.path)?);
        Ok(DeviceLimit { path, value: limit.value })
    };
    limits.into_iter().map(one).collect()
}

/// Limits as the wire shows them.
pub fn wire_limits(limits: FixedLimits) -> wire::FixedLimits {
    let devices = |limits: Vec<DeviceLimit>| {
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        let one = |limit: DeviceLimit| wire::DeviceLimit { path: path(limit.path), value: limit.value };
        limits.into_iter().map(one).collect()
    };
    wire::FixedLimits {
        memory_swappiness: limits.memory_swappiness.map(u32::from),
        is_oom_kill_disabled: limits.is_oom_kill_disabled,
        cpu_realtime_period_us: limits.cpu_realtime_period,
        cpu_realtime_runtime_us: limits.cpu_realtime_runtime,
        block_io_weights: devices(limits.block_io_weights),
        read_bytes_per_second: devices(limits.read_bytes),
        write_bytes_per_second: devices(limits.write_bytes),
        reads_per_second: devices(limits.read_operations),
        writes_per_second: devices(limits.write_operations),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(value: u64) -> Vec<wire::DeviceLimit> {
        vec![wire::DeviceLimit { path: "/dev/sda".into(), value }]
    }

    #[test]
    fn limits_are_shown_as_they_came() {
        let asked = wire::FixedLimits {
            memory_swappiness: Some(0),
            is_oom_kill_disabled: true,
            cpu_realtime_period_us: Some(10),
            cpu_realtime_runtime_us: Some(9),
            block_io_weights: device(1000),
            read_bytes_per_second: device(1),
            write_bytes_per_second: device(2),
            reads_per_second: device(3),
            writes_per_second: device(4),
        };
        assert_eq!(wire_limits(limits(Some(asked.clone())).unwrap()), asked);
        assert_eq!(limits(None).unwrap(), FixedLimits::default());
    }

    #[test]
    fn what_no_kernel_takes_is_refused_by_its_field() {
        let none = wire::FixedLimits::default;
        let (period, runtime) = (Some(5), Some(6));
        let no_path = vec![wire::DeviceLimit { path: "sda".into(), value: 1 }];
        for (field, limit) in [
            ("memory_swappiness", wire::FixedLimits { memory_swappiness: Some(101), ..none() }),
            (
                "cpu_realtime_runtime_us",
                wire::FixedLimits { cpu_realtime_period_us: period, cpu_realtime_runtime_us: runtime, ..none() },
            ),
            ("block_io_weights", wire::FixedLimits { block_io_weights: device(5), ..none() }),
            ("reads_per_second", wire::FixedLimits { reads_per_second: no_path, ..none() }),
        ] {
            match limits(Some(limit)) {
                Err(Error::Argument { field: found, .. }) => assert_eq!(found, format!("spec.fixed_limits.{field}")),
                other => panic!("{field}: {other:?}"),
            }
        }
    }
}
