//! How far a container is apart, as parts of an OCI spec: filter, devices of the host, rules for devices.

use std::path::Path;

use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxResources, LinuxSeccomp, Mount as OciMount, MountBuilder,
    Spec as OciSpec,
};
use strata_oci::{
    capabilities::CapabilitySet,
    default_spec::{self, Defaults},
    plan::DeviceNodes,
    seccomp, unprivileged,
};

use crate::{
    error::Error,
    spec::{Device, DeviceRule, Filter, Ipc, Isolation, Sight},
};

/// Puts into the defaults what keeps a container apart. Of namespaces of others `launch` knows the path when the container is
/// started; a further process joins what the first one has.
pub fn settle(defaults: &mut Defaults, isolation: &Isolation) -> Result<(), Error> {
    use default_spec::Namespace;
    if isolation.pid == Sight::Host {
        defaults.pid = Namespace::Host;
    }
    if isolation.ipc == Ipc::Host {
        defaults.ipc = Namespace::Host;
    }
    defaults.has_shm = isolation.ipc != Ipc::None;
    if isolation.has_host_name {
        defaults.uts = Namespace::Host;
    }
    if isolation.sees_host_cgroups {
        defaults.cgroup = Namespace::Host;
    }
    defaults.is_unmasked = isolation.is_unmasked;
    defaults.has_writable_cgroups = isolation.has_writable_cgroups;
    defaults.no_new_privileges = isolation.no_new_privileges;
    defaults.sysctl = isolation.sysctls.clone().into_iter().collect();
    defaults.seccomp = match &isolation.filter {
        Filter::Default => default_spec::Filter::Default,
        Filter::Unconfined => default_spec::Filter::Unconfined,
        Filter::Profile(text) => {
            let capabilities = defaults.capabilities();
            let capabilities = capabilities.map_err(|error| argument(&strata_rpc::fault::chain(&error)))?;
            default_spec::Filter::Custom(profile(text, capabilities)?)
        }
    };
    Ok(())
}

fn argument(problem: &str) -> Error {
    Error::argument("spec.isolation.system_calls.profile_json", problem)
}

fn profile(text: &str, capabilities: CapabilitySet) -> Result<LinuxSeccomp, Error> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let read = seccomp::read_document(text, capabilities, &release);
    let profile = read.map_err(|error| argument(&strata_rpc::fault::chain(&error)))?;
    seccomp::compile(&profile).map_err(|error| argument(&error.to_string()))?;
    Ok(profile)
}

/// Adds rules for devices to the resources.
pub fn add_rules(resources: &mut LinuxResources, rules: &[DeviceRule]) {
    if rules.is_empty() {
        return;
    }
    resources.devices_mut().get_or_insert_with(Vec::new).extend(rules.iter().map(rule));
}

fn rule(rule: &DeviceRule) -> LinuxDeviceCgroup {
    let kind = match rule.kind {
        'b' => LinuxDeviceType::B,
        'c' => LinuxDeviceType::C,
        _ => LinuxDeviceType::A,
    };
    allowed(kind, rule.major, rule.minor, &rule.access)
}

fn allowed(kind: LinuxDeviceType, major: Option<i64>, minor: Option<i64>, access: &str) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true).set_typ(Some(kind)).set_major(major).set_minor(minor).set_access(Some(access.to_owned()));
    rule
}

/// Adds devices of the host to a spec: nodes that are made, or the host's own where none can be made.
pub fn add_devices(spec: &mut OciSpec, devices: &[Device]) -> Result<(), Error> {
    for device in devices {
        for mut node in nodes(device)? {
            let host = node.path().clone();
            let below = host.strip_prefix(&device.host).unwrap_or(Path::new(""));
            let path =
                if below.as_os_str().is_empty() { device.container.clone() } else { device.container.join(below) };
            if unprivileged::device_nodes() == DeviceNodes::Bind {
                let mounts = spec.mounts_mut().get_or_insert_with(Vec::new);
                mounts.retain(|mount| *mount.destination() != path);
                mounts.push(bind(&host, &path)?);
                continue;
            }
            let access = allowed(node.typ(), Some(node.major()), Some(node.minor()), &device.access);
            node.set_path(path);
            let linux = spec.linux_mut().get_or_insert_with(Default::default);
            let all = linux.devices_mut().get_or_insert_with(Vec::new);
            all.retain(|other| other.path() != node.path());
            all.push(node);
            let resources = linux.resources_mut().get_or_insert_with(Default::default);
            resources.devices_mut().get_or_insert_with(Vec::new).push(access);
        }
    }
    Ok(())
}

fn nodes(device: &Device) -> Result<Vec<LinuxDevice>, Error> {
    let path = &device.host;
    let found = default_spec::devices_at(path).map_err(|error| start(&strata_rpc::fault::chain(&error)))?;
    match found.is_empty() {
        true => Err(start(&format!("cannot add device {}: it is no device node of this host", path.display()))),
        false => Ok(found),
    }
}

fn bind(host: &Path, path: &Path) -> Result<OciMount, Error> {
    let options: Vec<String> = ["bind", "nosuid", "noexec"].map(str::to_owned).into();
    let mount = MountBuilder::default().destination(path).typ("bind").source(host).options(options).build();
    mount.map_err(|error| start(&error.to_string()))
}

fn start(text: &str) -> Error {
    Error::Start { step: "devices".to_owned(), errno: 0, exit_code: 128, text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(host: &str, container: &str, access: &str) -> Device {
        Device { host: host.into(), container: container.into(), access: access.into() }
    }

    #[test]
    fn a_device_is_a_node_and_a_rule() {
        let mut spec = OciSpec::default();
        spec.linux_mut().get_or_insert_with(Default::default).set_devices(None).set_resources(None);

        add_devices(&mut spec, &[device("/dev/full", "/dev/brimful", "r")]).unwrap();

        let linux = spec.linux().as_ref().unwrap();
        let node = &linux.devices().as_ref().unwrap()[0];
        assert_eq!((node.path().as_path(), node.major(), node.minor()), (Path::new("/dev/brimful"), 1, 7));
        let rules = linux.resources().as_ref().unwrap().devices().clone().unwrap();
        assert_eq!((rules[0].major(), rules[0].minor(), rules[0].access().as_deref()), (Some(1), Some(7), Some("r")));
    }

    #[test]
    fn what_is_no_device_is_refused_by_its_path() {
        for path in ["/etc/passwd", "/nothing/here"] {
            let refused = add_devices(&mut OciSpec::default(), &[device(path, path, "rwm")]).unwrap_err();
            assert!(refused.to_string().contains(path), "{refused}");
        }
    }
}
