//! The cgroup of a container: made, found again, killed, removed. Of one that runs: freezing, thawing, seeing who is in it
//! and what they use.

use std::{collections::BTreeSet, fs, io, path::PathBuf};

use strata_oci::{
    cgroup::{self, Accounting, Cgroup, OomWatch, Options, Stats},
    default_spec::DeviceFilter,
    unprivileged,
};
use strata_types::ContainerId;

use super::{Launcher, limits};
use crate::{error::Error, record::Record, spec::Limits};

impl Launcher {
    fn cgroup_name(&self, id: &ContainerId) -> String {
        self.cgroup_name_of(id, "")
    }

    /// The name of the cgroup of a container, below the one that it asks for.
    pub(super) fn cgroup_name_of(&self, id: &ContainerId, parent: &str) -> String {
        let parent = if parent.is_empty() { self.0.config.file.cgroup_parent.trim_matches('/') } else { parent };
        format!("/{parent}/{id}")
    }

    pub(super) fn make_cgroup(&self, record: &Record, spec: &oci_spec::runtime::Spec) -> Result<Option<Cgroup>, Error> {
        let (id, parent) = (&record.id, &record.spec.cgroup_parent);
        let name = self.cgroup_name_of(id, parent);
        let mut resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default();
        if self.device_filter() == DeviceFilter::Absent {
            resources.set_devices(None);
        }
        // Nobody looks at what the step of a build uses, and each hierarchy that it joins takes time.
        let accounting = if record.is_run { Accounting::No } else { Accounting::Yes };
        let options = Options { accounting, ..Options::default() };
        let create = || match &self.0.layout {
            Some(layout) if !self.is_limited() => Cgroup::create_with(layout, &name, &resources, &options).map(Some),
            layout => {
                let limits = unprivileged::limits(layout.as_ref(), &name, &resources, &options)?;
                limits.notes.iter().for_each(|note| tracing::info!(container = %id, "{note}"));
                Ok(limits.cgroup)
            }
        };
        let made = match create() {
            // Left by an earlier run whose end was not seen.
            Err(cgroup::Error::Exists { .. }) => {
                self.kill(id)?;
                self.remove_cgroup(id)?;
                create()
            }
            result => result,
        };
        let made = made.map_err(|error| limits::refused(id, &record.spec.limits, error))?;
        if let (true, Some(group)) = (self.is_limited() || !parent.is_empty(), &made) {
            // Where one is delegated may be another place tomorrow; where one was asked for only the record says.
            let path = self.cgroup_record(id);
            fs::write(&path, group.name()).map_err(|e| Error::io("write", path, e))?;
        }
        Ok(made)
    }

    /// The cgroup of a container, if it may have one.
    pub(super) fn cgroup(&self, id: &ContainerId) -> Result<Option<Cgroup>, Error> {
        let Some(layout) = &self.0.layout else { return Ok(None) };
        let name = match fs::read_to_string(self.cgroup_record(id)) {
            Ok(name) => name,
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_limited() => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.cgroup_name(id),
            Err(error) => return Err(Error::io("read", self.cgroup_record(id), error)),
        };
        Cgroup::open(layout, &name).map(Some).map_err(|error| limit_error(id, error))
    }

    /// Where the name of a cgroup is kept that is not the usual one.
    pub(super) fn cgroup_record(&self, id: &ContainerId) -> PathBuf {
        self.control(id).with_extension("cgroup")
    }

    pub(super) fn remove_cgroup(&self, id: &ContainerId) -> Result<(), Error> {
        let Some(group) = self.cgroup(id)? else { return Ok(()) };
        group.remove().map_err(|error| limit_error(id, error))
    }

    /// Kills every process in a container's cgroup.
    pub fn kill(&self, id: &ContainerId) -> Result<(), Error> {
        let Some(group) = self.cgroup(id)? else { return Ok(()) };
        group.kill_all().map_err(|error| match error {
            cgroup::Error::Unkillable { .. } => Error::StopPending { id: id.to_string(), hanging: self.hanging(id) },
            error => limit_error(id, error),
        })
    }

    /// Watches for the out-of-memory killer in a container; None: it has no cgroup.
    pub fn watch_oom(&self, id: &ContainerId) -> Result<Option<OomWatch>, Error> {
        let Some(group) = self.cgroup(id)? else { return Ok(None) };
        group.watch_oom().map(Some).map_err(|error| limit_error(id, error))
    }

    /// The processes of a container that hang in the kernel: what they are, and where they wait.
    pub fn hanging(&self, id: &ContainerId) -> Vec<String> {
        let pids = self.cgroup(id).ok().flatten().and_then(|group| group.pids().ok()).unwrap_or_default();
        pids.into_iter().filter_map(hanging).collect()
    }

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

/// "process 42 (dd) waits in nfs_wait_bit_killable": one that no signal reaches, proc(5).
fn hanging(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
    let place = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    let place = Some(place.trim()).filter(|place| !matches!(*place, "" | "0")).unwrap_or("the kernel");
    rest.starts_with('D').then(|| format!("process {pid} ({name}) waits in {place}"))
}

fn has_directories(group: &Cgroup) -> bool {
    group.directories().next().is_some()
}

/// A cgroup that cannot be used, whatever the limits are.
fn limit_error(id: &ContainerId, error: cgroup::Error) -> Error {
    limits::refused(id, &Limits::default(), error)
}
