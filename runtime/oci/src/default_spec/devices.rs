//! The device rules of a container, and the limits after them.

use oci_spec::{
    OciSpecError,
    runtime::{LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxResources},
};

use super::{Defaults, Error};

impl Defaults {
    pub(super) fn all_resources(&self) -> Result<LinuxResources, Error> {
        let mut rules = device_rules(self.privileged)?;
        if !self.privileged {
            rules.extend(self.devices.iter().map(LinuxDeviceCgroup::from));
        }
        rules.extend(self.resources.devices().iter().flatten().cloned());
        let mut resources = self.resources.clone();
        resources.set_devices(Some(rules));
        Ok(resources)
    }
}

/// Deny all, then Docker's and runc's list without net/tun; nodes may be made, not opened.
fn device_rules(privileged: bool) -> Result<Vec<LinuxDeviceCgroup>, OciSpecError> {
    let all = |allow| LinuxDeviceCgroupBuilder::default().allow(allow).access("rwm").build();
    if privileged {
        return Ok(vec![all(true)?]);
    }
    use LinuxDeviceType::{B, C};
    let table: [(LinuxDeviceType, Option<i64>, Option<i64>, &str); 11] = [
        (C, None, None, "m"),
        (B, None, None, "m"),
        (C, Some(1), Some(3), "rwm"),
        (C, Some(1), Some(5), "rwm"),
        (C, Some(1), Some(7), "rwm"),
        (C, Some(1), Some(8), "rwm"),
        (C, Some(1), Some(9), "rwm"),
        (C, Some(5), Some(0), "rwm"),
        (C, Some(5), Some(1), "rwm"),
        (C, Some(5), Some(2), "rwm"),
        (C, Some(136), None, "rwm"),
    ];
    let mut rules = vec![all(false)?];
    for (kind, major, minor, access) in table {
        let mut rule = LinuxDeviceCgroupBuilder::default().allow(true).typ(kind).access(access).build()?;
        rule.set_major(major).set_minor(minor);
        rules.push(rule);
    }
    Ok(rules)
}
