//! Network interfaces of the host that move into the container.

use oci_spec::runtime::Linux;
use strata_init::plan::{Namespace, Namespaces, Step};

use super::{Error, invalid};

/// Appends one step per interface, ordered by name.
pub(super) fn push(steps: &mut Vec<Step>, linux: &Linux, namespaces: &Namespaces) -> Result<(), Error> {
    let mut devices: Vec<_> = linux.net_devices().iter().flatten().collect();
    devices.sort_by_key(|(host, _)| host.as_str());
    for (host, device) in devices {
        let field = format!("linux.netDevices[{host:?}]");
        if namespaces.network == (Namespace::Host {}) {
            return Err(invalid(field, "it needs a network namespace of the container's own"));
        }
        if !is_name(host) || host.contains('%') {
            return Err(invalid(field, "it is not the name of a network device"));
        }
        let name = device.name().as_deref().filter(|name| !name.is_empty()).unwrap_or(host);
        let plain = name.strip_suffix("%d").unwrap_or(name);
        if !is_name(name) || plain.contains('%') {
            return Err(invalid(format!("{field}.name"), format!("{name:?} is not the name of a network device")));
        }
        steps.push(Step::NetDevice { host: host.clone(), name: name.to_owned() });
    }
    Ok(())
}

/// What dev_valid_name() of the kernel takes.
fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte > b' ' && byte != 0x7f && !matches!(byte, b'/' | b':');
    !name.is_empty() && name.len() < 16 && name != "." && name != ".." && name.bytes().all(is_plain)
}
