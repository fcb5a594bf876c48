//! The systemd driver: a container's cgroup is a transient scope that systemd makes around its first process, once
//! that is there. The limits are told to systemd, so that it does not undo them, and written by us as they are
//! without it, on both versions of cgroups.

use std::fs;

use oci_spec::runtime::LinuxResources;

use super::{
    Accounting, Cgroup, DefaultDevices, Error, Existing, Layout, Options, Version, checked_name,
    record::{Record, Unit},
    settings::Settings,
};
use crate::systemd::{Manager, Owner, Place, Property, Value};

mod properties;

pub(super) use properties::properties;

/// What the kernel has where nothing is said.
pub(super) const USUAL_PERIOD: u64 = 100_000;

/// A scope that is to be started.
#[derive(Debug)]
pub struct Scope {
    manager: Manager,
    unit: Unit,
    slice: String,
    asked: Vec<Property>,
    layout: Layout,
    name: String,
    planned: Option<(Cgroup, Settings)>,
}

impl Scope {
    /// Connects to systemd, and finds where the scope will be. `asked` are properties of the unit beyond ours.
    pub fn new(layout: Layout, place: &Place, owner: Owner, asked: Vec<Property>) -> Result<Self, Error> {
        let below = place.directory().map_err(|_| Error::Name { name: place.slice.clone() })?;
        let mut manager = Manager::connect(owner)?;
        let name = format!("{}{below}", manager.control_group()?);
        checked_name(&name)?;
        let unit = Unit { name: place.unit.clone(), owner };
        Ok(Self { manager, unit, slice: place.slice.clone(), asked, layout, name, planned: None })
    }

    /// Returns the record of its name, which is not used yet.
    pub fn claim(&self) -> Result<Record, Error> {
        Record::claim(&self.layout, &self.name, Some(self.unit.clone()))
    }

    /// Returns the cgroup as it will be, with directories that are not there yet.
    pub fn plan(&mut self, resources: &LinuxResources) -> Result<&Cgroup, Error> {
        let is_user = self.unit.owner == Owner::User;
        let mut resources = resources.clone();
        if is_user {
            // A user namespace has no other devices than those given to it.
            resources.set_devices(None);
        }
        let options = Options {
            // Not everything that can be counted is delegated to users.
            accounting: if is_user { Accounting::No } else { Accounting::Yes },
            default_devices: if is_user { DefaultDevices::No } else { DefaultDevices::Yes },
            existing: Existing::Started,
        };
        let relative = checked_name(&self.name)?;
        let (settings, directories) = super::prepared(&self.layout, relative, &resources, &options)?;
        let cgroup = Cgroup::of(directories, self.layout.version(), &self.name);
        Ok(&self.planned.insert((cgroup, settings)).0)
    }

    /// Has systemd start the scope around a process, and says in `record` what is there from then on.
    pub fn start(&mut self, id: &str, pid: u32, record: &mut Record) -> Result<(), Error> {
        let (cgroup, settings) = self.planned.as_ref().expect("it is planned before it is started");
        let mut list = self.frame(id, pid);
        list.extend(properties(&settings.list, USUAL_PERIOD));
        list.extend(self.asked.iter().cloned());
        self.manager.start(&self.unit.name, &list)?;
        record.hold(cgroup);
        let result = self.join(pid);
        // What systemd does not make is there only now.
        record.hold(cgroup);
        result
    }

    fn frame(&self, id: &str, pid: u32) -> Vec<Property> {
        let io = if self.layout.version() == Version::V2 { "IOAccounting" } else { "BlockIOAccounting" };
        vec![
            Property::required("Description", Value::Text(format!("strata container {id}"))),
            Property::required("Slice", Value::Text(self.slice.clone())),
            Property::required("Delegate", Value::Bool(true)),
            Property::required("PIDs", Value::List("u".to_owned(), vec![Value::U32(pid)])),
            Property::required("DefaultDependencies", Value::Bool(false)),
            Property::optional("MemoryAccounting", Value::Bool(true)),
            Property::optional("CPUAccounting", Value::Bool(true)),
            Property::optional("TasksAccounting", Value::Bool(true)),
            Property::optional(io, Value::Bool(true)),
        ]
    }

    /// Makes what systemd does not know of, puts the process there too, and applies the limits.
    fn join(&self, pid: u32) -> Result<(), Error> {
        let (cgroup, settings) = self.planned.as_ref().expect("it is planned before it is started");
        let pid = pid.to_string();
        for directory in &cgroup.directories {
            self.layout.make(directory, Existing::Started, &mut Vec::new())?;
            let procs = directory.path.join("cgroup.procs");
            if !fs::read_to_string(&procs).is_ok_and(|text| text.lines().any(|line| line == pid)) {
                super::write(&procs, &pid)?;
            }
        }
        cgroup.apply(settings)
    }
}

/// Whether what systemd itself made for the scope is still there: on v1 not the freezer's, which is ours.
pub(super) fn is_there(cgroup: &Cgroup) -> bool {
    let systemds = ["cpu", "memory", "pids"];
    cgroup.directories.iter().any(|one| one.version == Version::V2 || one.has(&systemds))
}

#[cfg(test)]
mod tests;
