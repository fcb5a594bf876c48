//! Where the limits of a container come from: a cgroup of files that this program makes before the process, a scope
//! that systemd makes around it, or nothing, where a user has neither.

use std::path::Path;

use oci_spec::runtime::{LinuxResources, Spec};
use strata_init::plan::Plan;
use strata_oci::{
    cgroup::{self, Accounting, Cgroup, DefaultDevices, Error, Existing, Layout, Options, Record, Scope, Version},
    plan::CgroupView,
    systemd::{Owner, Place, asked_properties},
    unprivileged::{self, asked, is_limited},
};

use crate::state::describe;

mod owner;

pub use owner::owner;

/// The way that a container's cgroup is made.
pub enum Driver {
    /// There are no cgroups here.
    Nothing,
    /// By files.
    Files {
        /// The hierarchies.
        layout: Layout,
        /// The cgroup.
        name: String,
    },
    /// By systemd.
    Systemd(Box<Scope>),
}

/// What a process joins.
#[derive(Default)]
pub struct Limits {
    cgroup: Option<Cgroup>,
    scope: Option<Box<Scope>>,
    owner: Option<u32>,
    /// Whether the cgroup is elsewhere than it was claimed: where one is delegated.
    pub has_moved: bool,
    /// What of the spec was dropped.
    pub notes: Vec<String>,
}

impl Driver {
    /// Decides; nothing is made.
    pub fn new(with_systemd: bool, spec: &Spec, id: &str) -> Result<Self, String> {
        let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
        // The path that `spec` writes as an example is no choice.
        let path = path.filter(|path| *path != Path::new("/strata/default"));
        if with_systemd {
            return systemd(spec, path, id).map(|scope| Self::Systemd(Box::new(scope)));
        }
        let name = cgroup::name_of(path, id).map_err(|error| format!("linux.cgroupsPath: {}", describe(&error)))?;
        match Layout::detect() {
            Err(Error::NoHierarchy) if is_limited() => Ok(Self::Nothing),
            layout => Ok(Self::Files { layout: layout.map_err(|error| describe(&error))?, name }),
        }
    }

    /// Returns the record of a cgroup that is not made yet.
    pub fn claim(&self) -> Result<Record, String> {
        match self {
            Self::Nothing => Ok(Record::default()),
            Self::Files { layout, name } => Record::claim(layout, name, None).map_err(|error| describe(&error)),
            Self::Systemd(scope) => scope.claim().map_err(|error| describe(&error)),
        }
    }

    /// Makes the cgroup, unless it is systemd's, and puts it into the record; it is to be `owner`'s.
    pub fn make(self, resources: &LinuxResources, owner: Option<u32>, record: &mut Record) -> Result<Limits, String> {
        match self {
            Self::Nothing => match asked(resources) {
                Some(field) => Err(format!("cannot apply {field}: {}", describe(&Error::NoHierarchy))),
                None => Ok(Limits::default()),
            },
            Self::Files { layout, name } => {
                let limits = files(&layout, &name, resources)?;
                *record = Record::default();
                limits.cgroup.iter().for_each(|cgroup| record.hold(cgroup));
                if let (Some(uid), Some(cgroup)) = (owner, &limits.cgroup) {
                    cgroup.give_to(uid).map_err(|error| describe(&error))?;
                }
                Ok(limits)
            }
            Self::Systemd(mut scope) => {
                let cgroup = scope.plan(resources).map_err(|error| describe(&error))?.clone();
                Ok(Limits { cgroup: Some(cgroup), scope: Some(scope), owner, ..Limits::default() })
            }
        }
    }
}

impl Limits {
    /// Returns the cgroups as a plan takes them.
    pub fn to_plan(&self) -> strata_init::plan::Cgroups {
        let mut cgroups = self.cgroup.as_ref().map(Cgroup::to_plan).unwrap_or_default();
        cgroups.late = self.scope.is_some();
        cgroups
    }

    /// Returns what the container sees of them.
    pub fn view(&self) -> CgroupView {
        self.cgroup.as_ref().map(Cgroup::view).unwrap_or_default()
    }

    /// Makes the process, inside.
    pub fn process(
        &mut self,
        plan: &Plan,
        id: &str,
        record: &mut Record,
    ) -> Result<strata_init::Made, strata_init::Failure> {
        match &mut self.scope {
            None => strata_init::Made::new(plan),
            Some(scope) => strata_init::Made::placed(plan, &mut |pid| {
                let started = scope.start(id, pid, record);
                let given = started.and_then(|()| match self.owner {
                    Some(uid) => record.open()?.give_to(uid),
                    None => Ok(()),
                });
                given.map_err(|error| describe(&error))
            }),
        }
    }
}

/// A user has a systemd of the own, and so has root in a container; a host's root has the host's.
fn systemd(spec: &Spec, path: Option<&Path>, id: &str) -> Result<Scope, String> {
    let knows_own =
        std::env::var_os("XDG_RUNTIME_DIR").is_some() || std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some();
    let is_user = !rustix::process::geteuid().is_root() || (is_limited() && knows_own);
    let (owner, slice) = if is_user { (Owner::User, "user.slice") } else { (Owner::System, "system.slice") };
    let path = match path.map(|path| path.to_str().ok_or("linux.cgroupsPath: it is not text")) {
        Some(path) => Some(path?),
        None => None,
    };
    let place = Place::of(path, id, slice).map_err(|error| describe(&error))?;
    let asked = asked_properties(spec.annotations().as_ref().unwrap_or(&Default::default()));
    let asked = asked.map_err(|error| describe(&error))?;
    let layout = Layout::detect().map_err(|error| describe(&error))?;
    if is_user && layout.version() == Version::V1 {
        return Err("--systemd-cgroup: a user's systemd hands out cgroup v2 only, and this host has v1".to_owned());
    }
    Scope::new(layout, &place, owner, asked).map_err(|error| describe(&error))
}

/// Makes the cgroup. A user to whom none is delegated goes without, unless the spec asks for a limit.
fn files(layout: &Layout, name: &str, resources: &LinuxResources) -> Result<Limits, String> {
    let how = Options { accounting: Accounting::Yes, existing: Existing::Adopt, default_devices: DefaultDevices::Yes };
    let made = unprivileged::limits(Some(layout), name, resources, &how).map_err(|error| describe(&error))?;
    let has_moved = made.cgroup.as_ref().is_some_and(|cgroup| cgroup.name() != name);
    Ok(Limits { cgroup: made.cgroup, has_moved, notes: made.notes, ..Limits::default() })
}
