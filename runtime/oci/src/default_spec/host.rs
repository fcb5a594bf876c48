//! What a spec may take from this very host: its device nodes, its thermal counters.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType};

use super::Error;

/// Lists the device nodes of the host's `/dev`, for a privileged container; terminals and shm are left out.
pub fn host_devices() -> Result<Vec<LinuxDevice>, Error> {
    let mut devices = Vec::new();
    list_devices(Path::new("/dev"), &mut devices)?;
    devices.sort_by(|one, other| one.path().cmp(other.path()));
    Ok(devices)
}

/// Lists the device node at a path, or those below a directory. A link leads to what it names.
pub fn devices_at(path: &Path) -> Result<Vec<LinuxDevice>, Error> {
    let failed = |source| Error::Look { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(failed)?;
    let mut devices = Vec::new();
    if metadata.is_dir() {
        list_devices(path, &mut devices)?;
        devices.sort_by(|one, other| one.path().cmp(other.path()));
    } else {
        devices.extend(device(path, &metadata)?);
    }
    Ok(devices)
}

fn list_devices(directory: &Path, devices: &mut Vec<LinuxDevice>) -> Result<(), Error> {
    let skipped = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console", "ptmx"];
    let entries = fs::read_dir(directory).map_err(|source| Error::List { path: directory.to_owned(), source })?;
    for entry in entries.flatten() {
        // A node that vanishes while we look is simply not there.
        let Ok(metadata) = fs::symlink_metadata(entry.path()) else { continue };
        if entry.file_name().to_str().is_none_or(|name| skipped.contains(&name)) {
            continue;
        }
        let kind = metadata.file_type();
        if kind.is_dir() {
            list_devices(&entry.path(), devices)?;
        } else {
            devices.extend(device(&entry.path(), &metadata)?);
        }
    }
    Ok(())
}

/// The node that a path is, if it is one.
fn device(path: &Path, metadata: &fs::Metadata) -> Result<Option<LinuxDevice>, Error> {
    let kind = metadata.file_type();
    if !kind.is_char_device() && !kind.is_block_device() {
        return Ok(None);
    }
    let typ = if kind.is_block_device() { LinuxDeviceType::B } else { LinuxDeviceType::C };
    let number = metadata.rdev();
    let device = LinuxDeviceBuilder::default()
        .path(path)
        .typ(typ)
        .major(i64::from(rustix::fs::major(number)))
        .minor(i64::from(rustix::fs::minor(number)))
        .file_mode(metadata.mode() & 0o7777)
        .uid(metadata.uid())
        .gid(metadata.gid())
        .build()?;
    Ok(Some(device))
}

/// Lists the thermal counters of the host's processors, which tell containers of each other's load.
pub fn thermal_paths() -> Vec<String> {
    let processors = fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let mut paths: Vec<String> = processors
        .map(|entry| entry.path().join("thermal_throttle"))
        .filter(|path| path.is_dir())
        .filter_map(|path| path.to_str().map(str::to_owned))
        .collect();
    paths.sort();
    paths
}
