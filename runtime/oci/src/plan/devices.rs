//! Device nodes: those that every container has, and those of the spec.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use strata_init::plan::Step;

use super::{DeviceNodes, Error, absolute, clean, invalid};

/// Appends the six nodes and five links every container has (runtime spec, "Default Devices"), then the spec's.
pub(super) fn push(steps: &mut Vec<Step>, extra: &[LinuxDevice], nodes: DeviceNodes) -> Result<(), Error> {
    for (path, major, minor) in [
        ("/dev/null", 1, 3),
        ("/dev/zero", 1, 5),
        ("/dev/full", 1, 7),
        ("/dev/random", 1, 8),
        ("/dev/urandom", 1, 9),
        ("/dev/tty", 5, 0),
    ] {
        if extra.iter().any(|device| clean(device.path()) == Path::new(path)) {
            continue;
        }
        let made = Step::Device { path: path.into(), block: false, major, minor, mode: 0o666, uid: 0, gid: 0 };
        steps.push(if nodes == DeviceNodes::Make { made } else { host_device(path.into(), false, major, minor) });
    }
    for (path, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/dev/ptmx", "pts/ptmx"),
    ] {
        steps.push(Step::Symlink { path: path.into(), target: target.into() });
    }
    // The container's own devpts has it; engines list the host's for privileged containers.
    let extra = extra.iter().enumerate().filter(|(_, device)| clean(device.path()) != Path::new("/dev/ptmx"));
    for (index, device) in extra {
        steps.push(extra_device(device, index, nodes)?);
    }
    Ok(())
}

fn extra_device(device: &LinuxDevice, index: usize, nodes: DeviceNodes) -> Result<Step, Error> {
    let field = |name: &str| format!("linux.devices[{index}].{name}");
    let path = absolute(device.path(), || field("path"))?;
    let mode = device.file_mode().unwrap_or(0o666) & 0o7777;
    if mode & 0o6000 != 0 {
        return Err(invalid(field("fileMode"), format!("{mode:o}: a node has no set-user-id or set-group-id bit")));
    }
    let (uid, gid) = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
    let block = match device.typ() {
        LinuxDeviceType::B => true,
        LinuxDeviceType::C | LinuxDeviceType::U => false,
        LinuxDeviceType::P => return Ok(Step::Fifo { path, mode, uid, gid }),
        LinuxDeviceType::A => return Err(invalid(field("type"), "a node is b, c, u or p")),
    };
    let number = |number: i64, name: &str| {
        u32::try_from(number).map_err(|_| invalid(field(name), format!("{number} is not a device number")))
    };
    let (major, minor) = (number(device.major(), "major")?, number(device.minor(), "minor")?);
    Ok(match nodes {
        DeviceNodes::Make => Step::Device { path, block, major, minor, mode, uid, gid },
        DeviceNodes::Bind => host_device(path, block, major, minor),
    })
}

/// Mode and owner of a bound node are those of the host's: they cannot be changed for one container alone.
fn host_device(path: PathBuf, block: bool, major: u32, minor: u32) -> Step {
    Step::HostDevice { path, block, major, minor }
}
