//! The mounts of an ordinary container: those that every one has, and what the caller puts over them.

use std::path::Path;

use oci_spec::runtime::{Mount, MountBuilder};

use super::{Defaults, Error, Namespace};

impl Defaults {
    pub(super) fn all_mounts(&self) -> Result<Vec<Mount>, Error> {
        let access = if self.privileged { "rw" } else { "ro" };
        let shm_size = format!("size={}", self.shm_size);
        let plain = ["nosuid", "noexec", "nodev"];
        let with = |more: &[&str]| plain.iter().chain(more).map(|option| option.to_string()).collect::<Vec<_>>();
        let own = |options: &[&str]| options.iter().map(|option| option.to_string()).collect::<Vec<_>>();
        let mut table = vec![
            ("/proc", "proc", "proc", own(&plain)),
            ("/dev", "tmpfs", "tmpfs", own(&["nosuid", "strictatime", "mode=755", "size=65536k"])),
            ("/dev/pts", "devpts", "devpts", own(&["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"])),
            ("/sys", "sysfs", "sysfs", with(&[access])),
        ];
        // The group of terminals, "tty"; devpts refuses one that is not mapped.
        if self.maps_gid(5) {
            table[2].3.push("gid=5".to_owned());
        }
        let of_cgroups = if self.has_writable_cgroups { "rw" } else { access };
        table.push(("/sys/fs/cgroup", "cgroup", "cgroup", with(&["relatime", of_cgroups])));
        if self.ipc != Namespace::Host {
            table.push(("/dev/mqueue", "mqueue", "mqueue", own(&plain)));
            if self.has_shm {
                table.push(("/dev/shm", "tmpfs", "shm", with(&["mode=1777", &shm_size])));
            }
        } else {
            table.push(("/dev/mqueue", "bind", "/dev/mqueue", with(&["rbind"])));
            table.push(("/dev/shm", "bind", "/dev/shm", with(&["rbind"])));
        }
        let replaced =
            |destination: &str| self.mounts.iter().any(|mount| mount.destination() == Path::new(destination));
        let mut mounts = Vec::new();
        for (destination, kind, source, options) in table {
            if !replaced(destination) {
                mounts.push(
                    MountBuilder::default()
                        .destination(destination)
                        .typ(kind)
                        .source(source)
                        .options(options)
                        .build()?,
                );
            }
        }
        mounts.extend(self.mounts.iter().cloned());
        Ok(mounts)
    }
}
