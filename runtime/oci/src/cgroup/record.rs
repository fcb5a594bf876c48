//! What a container's record says of its cgroup. A name is not enough: somebody else may have a cgroup of that name,
//! before ours is made or after it is gone. So the record first only claims a name, and knows which directories of it
//! others have; once the cgroup is made it holds directories by inode number, and those alone are ever killed in.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use super::{Cgroup, Directory, Error, Layout, checked_name, is_gone, scope};
use crate::systemd::{Manager, Owner};

/// A cgroup as a record on disk knows it; by default there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    name: String,
    /// Directories of the name that were there before it was claimed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    before: Vec<PathBuf>,
    /// The container's directories, once they are made.
    held: Option<Vec<Held>>,
    /// The scope that systemd has for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<Unit>,
}

/// A directory, and not another of its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    path: PathBuf,
    inode: u64,
}

/// A unit of systemd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// As `docker-web.scope`.
    pub name: String,
    /// Whose systemd has it.
    pub owner: Owner,
}

impl Record {
    /// Claims a name, before a cgroup of it is made.
    pub fn claim(layout: &Layout, name: &str, unit: Option<Unit>) -> Result<Self, Error> {
        let places = layout.places(checked_name(name)?);
        let before = places.into_iter().filter(|path| path.exists()).collect();
        Ok(Self { name: name.to_owned(), before, held: None, unit })
    }

    /// Takes the directories of a cgroup that was just made.
    pub fn hold(&mut self, cgroup: &Cgroup) {
        cgroup.name().clone_into(&mut self.name);
        self.before.clear();
        let held = |path: &Path| Some(Held { path: path.to_owned(), inode: inode(path)? });
        self.held = Some(cgroup.directories().filter_map(held).collect());
    }

    /// Whether there is a cgroup, or will be one.
    pub fn is_some(&self) -> bool {
        !self.name.is_empty()
    }

    /// Returns the unit of systemd.
    pub fn unit(&self) -> Option<&Unit> {
        self.unit.as_ref()
    }

    /// Finds the directories that are the container's; there may be none left, or none yet.
    pub fn open(&self) -> Result<Cgroup, Error> {
        self.open_in(&Layout::detect()?)
    }

    fn open_in(&self, layout: &Layout) -> Result<Cgroup, Error> {
        let name = checked_name(&self.name)?;
        let held = self.held.as_deref().unwrap_or_default();
        let is_held = |one: &Directory| {
            let same = held.iter().find(|held| held.path == one.path);
            same.is_some_and(|held| inode(&one.path) == Some(held.inode))
        };
        let directories = layout.existing(name).into_iter().filter(is_held).collect();
        Ok(Cgroup::of(directories, layout.version(), &self.name))
    }

    /// Changes limits, systemd's idea of them first: it would write its own over ours.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        let cgroup = self.open()?;
        let settings = cgroup.changed(resources)?;
        if let Some(unit) = &self.unit {
            let properties = scope::properties(&settings.list, cgroup.period());
            Manager::connect(unit.owner)?.set(&unit.name, &properties)?;
        }
        cgroup.apply(&settings)
    }

    /// Kills what is in the container's directories, and removes them. Others of the name are left alone.
    pub fn remove(&self) -> Result<(), Error> {
        if !self.is_some() {
            return Ok(());
        }
        let layout = Layout::detect()?;
        if self.held.is_none() {
            self.sweep(&layout);
            return Ok(());
        }
        let cgroup = self.open_in(&layout)?;
        if self.unit.is_none() && cgroup.remove_empty() {
            return Ok(());
        }
        cgroup.kill_all()?;
        if let Some(unit) = &self.unit {
            stop(unit, scope::is_there(&cgroup))?;
        }
        cgroup.remove()
    }

    /// Removes what a maker that was killed may have made. None of its processes outlived it, so a directory that is
    /// new since the claim and has neither processes nor children is its own; the kernel refuses to remove another.
    fn sweep(&self, layout: &Layout) {
        let Ok(name) = checked_name(&self.name) else { return };
        for path in layout.places(name).iter().filter(|path| !self.before.contains(path)) {
            let mut wait = Duration::from_micros(200);
            // The process that waited for its maker takes a moment to end.
            for _ in 0..10 {
                match fs::remove_dir(path) {
                    Err(error) if error.kind() == ErrorKind::ResourceBusy => {}
                    Err(error) if is_gone(&error) => break,
                    _ => break,
                }
                std::thread::sleep(wait);
                wait = (wait * 2).min(Duration::from_millis(100));
            }
        }
    }
}

/// Stops the scope if it is ours still. One that ended by itself is gone already, unless it failed.
fn stop(unit: &Unit, is_there: bool) -> Result<(), Error> {
    match Manager::connect(unit.owner) {
        Ok(mut manager) if is_there => Ok(manager.stop(&unit.name)?),
        Ok(mut manager) => {
            manager.reset_failed(&unit.name);
            Ok(())
        }
        // Nothing of it is left that would need systemd.
        Err(_) if !is_there => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|found| found.ino())
}

#[cfg(test)]
mod tests;
