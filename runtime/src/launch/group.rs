//! What is done with the cgroup of a container that runs: freezing, thawing, seeing who is in it and what they use.

use std::collections::BTreeSet;

use strata_oci::cgroup::{Cgroup, Stats};
use strata_types::ContainerId;

use super::{Launcher, limit_error};
use crate::error::Error;

impl Launcher {
    /// Freezes every process of a container. On failure all of them go on.
    pub fn freeze(&self, id: &ContainerId, name: String) -> Result<(), Error> {
        let group = self.cgroup(id)?.filter(has_directories);
        let Some(group) = group else { return Err(Error::NoCgroup { name }) };
        group.freeze().map_err(|source| Error::PauseFailed { name, source })
    }

    /// Lets frozen processes of a container go on.
    pub fn thaw(&self, id: &ContainerId) -> Result<(), Error> {
        match self.cgroup(id)?.filter(has_directories) {
            Some(group) => group.thaw().map_err(|error| limit_error(id, error)),
            None => Ok(()),
        }
    }

    /// The processes of a container; `None` without a cgroup.
    pub fn pids(&self, id: &ContainerId) -> Result<Option<BTreeSet<u32>>, Error> {
        let Some(group) = self.cgroup(id)?.filter(has_directories) else { return Ok(None) };
        let pids = group.pids().map_err(|error| limit_error(id, error))?;
        Ok(Some(pids.into_iter().map(i32::unsigned_abs).collect()))
    }

    /// What the cgroup of a container counts; nothing without one.
    pub fn stats(&self, id: &ContainerId) -> Result<Stats, Error> {
        Ok(self.cgroup(id)?.map(|group| group.stats()).unwrap_or_default())
    }

    /// Whether the processes of a container are frozen.
    pub fn is_frozen(&self, id: &ContainerId) -> Result<bool, Error> {
        match self.cgroup(id)?.filter(has_directories) {
            Some(group) => group.is_frozen().map_err(|error| limit_error(id, error)),
            None => Ok(false),
        }
    }
}

fn has_directories(group: &Cgroup) -> bool {
    group.directories().next().is_some()
}
