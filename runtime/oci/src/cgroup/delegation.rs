//! Cgroups for users without privileges: only where somebody delegated a part of v2 to them (systemd does with
//! `Delegate=yes`). A limit that was asked for needs it; a default does without, and that is told.

use std::{fs, path::PathBuf};

use oci_spec::runtime::LinuxResources;
use rustix::fs::{Access, access};

use super::{Accounting, Cgroup, Error, Layout, Options, Version, checked_name, settings};

/// The cgroup of a rootless container.
#[derive(Debug)]
pub struct Delegated {
    /// Without a single directory if there is no delegation: nothing to join, nothing to remove.
    pub cgroup: Cgroup,
    /// What was left out, one sentence each.
    pub dropped: Vec<String>,
}

impl Cgroup {
    /// Creates the cgroup of a rootless container: in the delegated part of v2 if there is one, else nowhere.
    ///
    /// `asked` must be applied, and an error names what is missing; `defaults` are applied if that is possible.
    /// Rules for devices are dropped from both: a user namespace has no devices but those given to it.
    /// [`Cgroup::name`] is what [`Cgroup::open`] finds it by later, from wherever.
    pub fn create_rootless(
        layout: &Layout,
        name: &str,
        asked: &LinuxResources,
        defaults: &LinuxResources,
    ) -> Result<Delegated, Error> {
        let mut dropped = Vec::new();
        let asked = without_devices(asked, &mut dropped);
        let defaults = without_devices(defaults, &mut dropped);
        let place = match delegated(layout) {
            Ok(place) => place,
            Err(missing) => {
                if let Some(field) = fields(&asked)?.into_iter().next() {
                    return Err(Error::NotDelegated { field, missing });
                }
                dropped
                    .extend(fields(&defaults)?.into_iter().map(|field| format!("{field} is not applied: {missing}")));
                return Ok(Delegated { cgroup: Self::of(Vec::new(), layout.version(), name), dropped });
            }
        };
        let relative = checked_name(name)?;
        let inner = Layout::unified_at(place.directory.clone());
        let location = format!("{}/{relative}", place.name.trim_end_matches('/'));
        let create = |resources: &LinuxResources| {
            let options = Options { accounting: Accounting::No, ..Options::default() };
            Self::create_with(&inner, relative, resources, &options)
                .map(|cgroup| Self { name: location.clone(), ..cgroup })
        };
        match create(&merged(&defaults, &asked)) {
            Ok(cgroup) => return Ok(Delegated { cgroup, dropped }),
            Err(error @ (Error::Exists { .. } | Error::Name { .. })) => return Err(error),
            Err(error) if fields(&defaults)?.is_empty() => return Err(explained(error, &asked)),
            Err(error) => dropped.push(format!("defaults are not applied: {error}")),
        }
        let cgroup = create(&asked).map_err(|error| explained(error, &asked))?;
        Ok(Delegated { cgroup, dropped })
    }
}

/// A directory of v2 that this user may make cgroups in and move own processes to.
struct Place {
    directory: PathBuf,
    /// Its name in the hierarchy.
    name: String,
}

/// Looks beside the own cgroup first: the own one has a process, so its children can have no controllers.
fn delegated(layout: &Layout) -> Result<Place, String> {
    let Some(mount) = layout.unified.as_ref().filter(|_| layout.version() == Version::V2) else {
        return Err("rootless limits need cgroup v2, and this host has v1".to_owned());
    };
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").to_owned();
    let above = own.rsplit_once('/').map_or("/", |(above, _)| above).to_owned();
    let is_ours = |name: &String| {
        let directory = mount.join(name.trim_matches('/'));
        let wanted = Access::WRITE_OK;
        access(&directory, wanted).is_ok() && access(directory.join("cgroup.procs"), wanted).is_ok()
    };
    match [above, own.clone()].into_iter().find(is_ours) {
        Some(name) => Ok(Place { directory: mount.join(name.trim_matches('/')), name }),
        None => Err(format!(
            "cgroup {own} is not delegated to this user (start with `systemd-run --user --scope -p Delegate=yes`)"
        )),
    }
}

fn explained(error: Error, asked: &LinuxResources) -> Error {
    let first = fields(asked).ok().and_then(|fields| fields.into_iter().next());
    match (error, first) {
        (Error::NoController { field, controller }, _) => Error::NotDelegated {
            field,
            missing: format!("the cgroup controller {controller} is not delegated to this user"),
        },
        (error @ Error::Enable { .. }, Some(field)) => Error::NotDelegated { field, missing: error.to_string() },
        (error, _) => error,
    }
}

fn without_devices(resources: &LinuxResources, dropped: &mut Vec<String>) -> LinuxResources {
    let mut resources = resources.clone();
    if resources.devices().as_ref().is_some_and(|rules| !rules.is_empty()) {
        dropped.push("linux.resources.devices is not applied: a user namespace has no other devices".to_owned());
    }
    resources.set_devices(None);
    resources
}

/// The fields that would be written.
fn fields(resources: &LinuxResources) -> Result<Vec<String>, Error> {
    let context = settings::Context {
        version_of: &|_| Version::V2,
        moment: settings::Moment::Create,
        has_default_devices: false,
        memory_limit: None,
        quota: None,
    };
    Ok(settings::of(resources, &context)?.list.into_iter().map(|setting| setting.field).collect())
}

/// What is asked for goes before a default of the same object.
fn merged(defaults: &LinuxResources, asked: &LinuxResources) -> LinuxResources {
    let mut merged = defaults.clone();
    macro_rules! take {
        ($($get:ident $set:ident),+) => {
            $(if asked.$get().is_some() { merged.$set(asked.$get().clone()); })+
        };
    }
    take!(memory set_memory, cpu set_cpu, pids set_pids, block_io set_block_io);
    take!(hugepage_limits set_hugepage_limits, network set_network, rdma set_rdma, unified set_unified);
    merged
}
