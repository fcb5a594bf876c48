//! Controllers that a cgroup in use joins later: it was made without limits that it is to have now.

use std::{fs, path::Path};

use oci_spec::runtime::LinuxResources;
use rustix::io::Errno;

use super::{Cgroup, Directory, Error, Existing, Layout, Options, Version, checked_name, prepared, read};

impl Cgroup {
    /// Joins the controllers that `resources` need, with every process that is in it. On v1 each has a directory of its own;
    /// on v2 the parents hand them out.
    pub fn join(&mut self, layout: &Layout, resources: &LinuxResources) -> Result<(), Error> {
        let (_, needed) = prepared(layout, checked_name(&self.name)?, resources, &Options::default())?;
        for directory in &needed {
            let is_there = self.directories.iter().any(|have| have.path == directory.path);
            match (directory.version, is_there) {
                (Version::V2, true) => layout.hand_out(directory)?,
                (Version::V1, true) => {}
                (_, false) => self.enter(layout, directory)?,
            }
        }
        *self = Self::open(layout, &self.name)?;
        Ok(())
    }

    /// Makes a directory and moves every process there. They are frozen meanwhile: who stands still makes no further one.
    fn enter(&self, layout: &Layout, directory: &Directory) -> Result<(), Error> {
        layout.make(directory, Existing::Adopt, &mut Vec::new())?;
        let is_ours = !self.is_frozen().unwrap_or(false) && self.freeze().is_ok();
        let moved = self.move_to(&directory.path.join("cgroup.procs"));
        if is_ours {
            self.thaw()?;
        }
        moved
    }

    fn move_to(&self, procs: &Path) -> Result<(), Error> {
        for pid in self.pids()? {
            match fs::write(procs, pid.to_string()) {
                // It ended meanwhile.
                Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
                Err(source) => return Err(Error::Io { action: "move processes by", path: procs.to_owned(), source }),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Returns what a set of processors or nodes ("cpuset.cpus", "cpuset.mems") is without a limit: the parent's. Only v1
    /// has no other way to say so.
    pub fn whole_set(&self, file: &str) -> Option<String> {
        let directory = self.directories.iter().find(|one| one.version == Version::V1 && one.has(&["cpuset"]))?;
        let text = read(&directory.path.parent()?.join(file)).ok()?;
        Some(text.trim().to_owned()).filter(|set| !set.is_empty())
    }
}
