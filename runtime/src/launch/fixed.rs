//! Limits that are fixed when a container is made, among its OCI resources.

use std::{
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use oci_spec::runtime::{
    LinuxResources, LinuxThrottleDevice, LinuxThrottleDeviceBuilder, LinuxWeightDevice, LinuxWeightDeviceBuilder,
};

use crate::{
    error::Error,
    spec::{DeviceLimit, FixedLimits},
};

/// Adds the limits to the resources that have the others.
pub fn add(resources: &mut LinuxResources, limits: &FixedLimits) -> Result<(), Error> {
    if limits.memory_swappiness.is_some() || limits.is_oom_kill_disabled {
        let mut memory = resources.memory().unwrap_or_default();
        memory.set_swappiness(limits.memory_swappiness.map(u64::from));
        memory.set_disable_oom_killer(limits.is_oom_kill_disabled.then_some(true));
        resources.set_memory(Some(memory));
    }
    if limits.cpu_realtime_period.is_some() || limits.cpu_realtime_runtime.is_some() {
        let mut cpu = resources.cpu().clone().unwrap_or_default();
        cpu.set_realtime_period(limits.cpu_realtime_period).set_realtime_runtime(limits.cpu_realtime_runtime);
        resources.set_cpu(Some(cpu));
    }
    let mut block_io = resources.block_io().clone().unwrap_or_default();
    block_io
        .set_weight_device(some(limits.block_io_weights.iter().map(weight))?)
        .set_throttle_read_bps_device(some(limits.read_bytes.iter().map(throttle))?)
        .set_throttle_write_bps_device(some(limits.write_bytes.iter().map(throttle))?)
        .set_throttle_read_iops_device(some(limits.read_operations.iter().map(throttle))?)
        .set_throttle_write_iops_device(some(limits.write_operations.iter().map(throttle))?);
    resources.set_block_io(Some(block_io).filter(|block_io| *block_io != Default::default()));
    Ok(())
}

fn some<T>(devices: impl Iterator<Item = Result<T, Error>>) -> Result<Option<Vec<T>>, Error> {
    let devices = devices.collect::<Result<Vec<T>, Error>>()?;
    Ok(Some(devices).filter(|devices| !devices.is_empty()))
}

fn weight(limit: &DeviceLimit) -> Result<LinuxWeightDevice, Error> {
    let (major, minor) = numbers(&limit.path)?;
    let weight = u16::try_from(limit.value).map_err(|_| refused(&limit.path, "a weight is 10 to 1000"))?;
    let device = LinuxWeightDeviceBuilder::default().major(major).minor(minor).weight(weight).build();
    device.map_err(|error| refused(&limit.path, &error.to_string()))
}

fn throttle(limit: &DeviceLimit) -> Result<LinuxThrottleDevice, Error> {
    let (major, minor) = numbers(&limit.path)?;
    let device = LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(limit.value).build();
    device.map_err(|error| refused(&limit.path, &error.to_string()))
}

/// Major and minor number of a block device.
fn numbers(path: &Path) -> Result<(i64, i64), Error> {
    let found = std::fs::metadata(path).map_err(|error| refused(path, &error.to_string()))?;
    if !found.file_type().is_block_device() {
        return Err(refused(path, "it is no block device"));
    }
    let number = found.rdev();
    Ok((rustix::fs::major(number).into(), rustix::fs::minor(number).into()))
}

fn refused(path: &Path, why: &str) -> Error {
    let text = format!("cannot limit device {}: {why}", path.display());
    Error::Start { step: "devices".to_owned(), errno: 0, exit_code: 128, text }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxMemoryBuilder;

    use super::*;

    #[test]
    fn limits_are_added_to_those_that_are_there() {
        let mut resources = LinuxResources::default();
        resources.set_memory(LinuxMemoryBuilder::default().limit(64_i64 << 20).build().ok());
        let limits = FixedLimits { memory_swappiness: Some(7), cpu_realtime_period: Some(9), ..FixedLimits::default() };
        add(&mut resources, &limits).unwrap();
        let memory = resources.memory().unwrap();
        assert_eq!((memory.limit(), memory.swappiness()), (Some(64 << 20), Some(7)));
        assert_eq!(resources.cpu().as_ref().unwrap().realtime_period(), Some(9));
        assert!(resources.block_io().is_none());
        let mut nothing = LinuxResources::default();
        add(&mut nothing, &FixedLimits::default()).unwrap();
        assert_eq!(nothing, LinuxResources::default());
    }

    #[test]
    fn what_is_no_block_device_has_no_rate() {
        let read_bytes = vec![DeviceLimit { path: "/dev/null".into(), value: 1 }];
        let limits = FixedLimits { read_bytes, ..FixedLimits::default() };
        let refused = add(&mut LinuxResources::default(), &limits).unwrap_err();
        assert!(refused.to_string().contains("/dev/null: it is no block device"), "{refused}");
    }
}
