//! What a process has to do without that is an ordinary user, or root of a user namespace alone.
//! A limit that is asked for and cannot be applied is an error; what only comes along is dropped with a note.

use std::fs;

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, LinuxResources};
use rustix::thread::{CapabilitySet, capabilities};
use strata_init::plan::Plan;

use crate::{
    cgroup::{Cgroup, Delegated, Error, Layout, Options},
    default_spec::UserNamespace,
    plan::DeviceNodes,
};

/// Says whether this process is in a user namespace: its capabilities count for less than they seem.
pub fn is_in_user_namespace() -> bool {
    // user_namespaces(7): the initial one maps all ids.
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.is_empty() && map.split_ascii_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
}

/// Returns the maps of the user namespace that this process is in, unless it is the first one, which has all ids.
pub fn own_namespace() -> Option<UserNamespace> {
    if !is_in_user_namespace() {
        return None;
    }
    let read = |file: &str| mappings(&fs::read_to_string(file).unwrap_or_default());
    Some(UserNamespace { uid_mappings: read("/proc/self/uid_map"), gid_mappings: read("/proc/self/gid_map") })
}

fn mappings(map: &str) -> Vec<LinuxIdMapping> {
    let line = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(|number| number.parse::<u32>().ok());
        let (inside, outside, size) = (numbers.next()??, numbers.next()??, numbers.next()??);
        LinuxIdMappingBuilder::default().container_id(inside).host_id(outside).size(size).build().ok()
    };
    map.lines().filter_map(line).collect()
}

fn may(capability: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

/// A cgroup, or why there is none.
pub struct Limits {
    /// The cgroup.
    pub cgroup: Option<Cgroup>,
    /// What of the spec was dropped.
    pub notes: Vec<String>,
}

/// Makes the cgroup; without a layout this host shows none. A user to whom none is delegated goes without, unless the spec asks for a limit.
pub fn limits(
    layout: Option<&Layout>,
    name: &str,
    resources: &LinuxResources,
    options: &Options,
) -> Result<Limits, Error> {
    let Some(layout) = layout else { return without(resources) };
    match Cgroup::create_with(layout, name, resources, options) {
        Ok(cgroup) => return Ok(Limits { cgroup: Some(cgroup), notes: Vec::new() }),
        // Where the spec's own path may be used, its errors count; else what is delegated is looked for.
        Err(error) if !is_limited() || matches!(error, Error::Exists { .. } | Error::Name { .. }) => {
            return Err(error);
        }
        Err(_) => {}
    }
    let delegated = Cgroup::create_rootless(layout, name, resources, &LinuxResources::default());
    let Delegated { cgroup, dropped: notes } = delegated?;
    let has_directories = cgroup.directories().next().is_some();
    Ok(Limits { cgroup: Some(cgroup).filter(|_| has_directories), notes })
}

/// A host, or a container, that shows no cgroups at all.
fn without(resources: &LinuxResources) -> Result<Limits, Error> {
    match asked(resources) {
        Some(field) => Err(Error::NotDelegated { field, missing: Error::NoHierarchy.to_string() }),
        None => Ok(Limits { cgroup: None, notes: Vec::new() }),
    }
}

/// Nodes cannot be made in a user namespace, whoever is root there.
pub fn device_nodes() -> DeviceNodes {
    if is_limited() { DeviceNodes::Bind } else { DeviceNodes::Make }
}

/// Drops from a plan what says no more than the default and is forbidden here.
pub fn fit(plan: &mut Plan) -> Option<String> {
    let own = || fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse::<i32>().ok();
    if plan.process.oom_score_adj != Some(0) || may(CapabilitySet::SYS_RESOURCE) {
        return None;
    }
    let own = own().filter(|own| *own > 0)?;
    plan.process.oom_score_adj = None;
    Some(format!("process.oomScoreAdj: it stays {own}, the caller's, which may not be lowered to 0"))
}

/// Says whether cgroups are somebody else's to hand out.
pub fn is_limited() -> bool {
    !rustix::process::geteuid().is_root() || is_in_user_namespace()
}

/// Returns the first limit that the spec asks for. Device rules are none: a user namespace has no other devices.
pub fn asked(resources: &LinuxResources) -> Option<String> {
    let mut rest = resources.clone();
    rest.set_devices(None);
    let value = serde_json::to_value(&rest).ok()?;
    first_leaf(&value, "linux.resources")
}

fn first_leaf(value: &serde_json::Value, path: &str) -> Option<String> {
    use serde_json::Value;
    match value {
        Value::Null => None,
        Value::Object(fields) => fields.iter().find_map(|(name, value)| first_leaf(value, &format!("{path}.{name}"))),
        Value::Array(list) => list.first().map(|_| path.to_owned()),
        _ => Some(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_limit_asked_for_is_named_and_device_rules_are_none() {
        let asked = |value| asked(&serde_json::from_value::<LinuxResources>(value).unwrap());

        assert_eq!(asked(json!({"memory": {"limit": 1}})).as_deref(), Some("linux.resources.memory.limit"));
        assert_eq!(asked(json!({"pids": {"limit": 5}})).as_deref(), Some("linux.resources.pids.limit"));
        assert_eq!(
            asked(json!({"unified": {"memory.max": "1"}})).as_deref(),
            Some("linux.resources.unified.memory.max")
        );
        assert_eq!(asked(json!({"devices": [{"allow": false, "access": "rwm"}]})), None);
        assert_eq!(asked(json!({})), None);
    }

    #[test]
    fn a_map_is_read_line_by_line() {
        let read = mappings("         0       1000          1\n         1     100000      65536\nnonsense\n");

        let read: Vec<_> = read.iter().map(|map| (map.container_id(), map.host_id(), map.size())).collect();
        assert_eq!(read, [(0, 1000, 1), (1, 100_000, 65_536)]);
    }
}
