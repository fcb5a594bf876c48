//! How far a container is apart, on the wire, and back.

use strata_proto::runtime::v1 as wire;

use super::convert;
use crate::{
    error::Error,
    spec::{Device, DeviceRule, Filter, Ipc, Isolation, Sight},
};

/// The most bytes of a profile of system calls.
const MAX_PROFILE: usize = 1 << 20;

/// Parses how far a container is apart.
pub fn isolation(isolation: Option<wire::Isolation>) -> Result<Isolation, Error> {
    let Some(isolation) = isolation else { return Ok(Isolation::default()) };
    Ok(Isolation {
        pid: sight(isolation.pid)?,
        ipc: ipc(isolation.ipc)?,
        has_host_name: isolation.has_host_name,
        sees_host_cgroups: isolation.sees_host_cgroups,
        filter: filter(isolation.system_calls)?,
        no_new_privileges: isolation.no_new_privileges,
        is_unmasked: isolation.is_unmasked,
        has_writable_cgroups: isolation.has_writable_cgroups,
        sysctls: isolation.sysctls.into_iter().map(|one| (one.name, one.value)).collect(),
        devices: isolation.devices.into_iter().map(device).collect::<Result<_, _>>()?,
        device_rules: isolation.device_rules.into_iter().map(rule).collect::<Result<_, _>>()?,
    })
}

fn mode(field: &'static str, sharing: Option<wire::Sharing>) -> Result<(wire::SharingMode, String), Error> {
    let sharing = sharing.unwrap_or_default();
    let wrong = |problem: &str| Err(Error::argument(field, problem));
    let Ok(mode) = wire::SharingMode::try_from(sharing.mode) else { return wrong("it is unknown") };
    match (mode == wire::SharingMode::Container, sharing.container.is_empty()) {
        (true, true) => wrong("no container is named"),
        (false, false) => wrong("a container is named that is not shared"),
        _ => Ok((mode, sharing.container)),
    }
}

fn sight(sharing: Option<wire::Sharing>) -> Result<Sight, Error> {
    match mode("spec.isolation.pid", sharing)? {
        (wire::SharingMode::Unspecified | wire::SharingMode::Private, _) => Ok(Sight::Own),
        (wire::SharingMode::Host, _) => Ok(Sight::Host),
        (wire::SharingMode::Container, container) => Ok(Sight::Container(container)),
        (wire::SharingMode::Shareable | wire::SharingMode::None, _) => {
            Err(Error::argument("spec.isolation.pid", "it is private, the host's or another container's"))
        }
    }
}

fn ipc(sharing: Option<wire::Sharing>) -> Result<Ipc, Error> {
    let (mode, container) = mode("spec.isolation.ipc", sharing)?;
    Ok(match mode {
        wire::SharingMode::Unspecified | wire::SharingMode::Private => Ipc::Private,
        wire::SharingMode::Shareable => Ipc::Shareable,
        wire::SharingMode::None => Ipc::None,
        wire::SharingMode::Host => Ipc::Host,
        wire::SharingMode::Container => Ipc::Container(container),
    })
}

fn filter(calls: Option<wire::SystemCalls>) -> Result<Filter, Error> {
    match calls.and_then(|calls| calls.kind) {
        None | Some(wire::system_calls::Kind::IsUnconfined(false)) => Ok(Filter::Default),
        Some(wire::system_calls::Kind::IsUnconfined(true)) => Ok(Filter::Unconfined),
        Some(wire::system_calls::Kind::ProfileJson(text)) if text.len() <= MAX_PROFILE => Ok(Filter::Profile(text)),
        Some(wire::system_calls::Kind::ProfileJson(_)) => {
            Err(Error::argument("spec.isolation.system_calls.profile_json", "it is longer than 1 MiB"))
        }
    }
}

fn access(field: &'static str, text: String) -> Result<String, Error> {
    let is_known = text.chars().all(|letter| "rwm".contains(letter));
    let is_twice = text.chars().any(|letter| text.matches(letter).count() > 1);
    match is_known && !is_twice {
        true if text.is_empty() => Ok("rwm".to_owned()),
        true => Ok(text),
        false => Err(Error::argument(field, format!("{text:?} is not of r, w and m"))),
    }
}

fn device(device: wire::HostDevice) -> Result<Device, Error> {
    const FIELD: &str = "spec.isolation.devices";
    let host = convert::path(FIELD, &device.host_path)?;
    let container = match device.container_path.as_str() {
        "" => host.clone(),
        path => convert::path(FIELD, path)?,
    };
    Ok(Device { host: host.into(), container: container.into(), access: access(FIELD, device.access)? })
}

fn rule(rule: wire::DeviceRule) -> Result<DeviceRule, Error> {
    const FIELD: &str = "spec.isolation.device_rules";
    let kind = match rule.kind.as_str() {
        "a" => 'a',
        "b" => 'b',
        "c" => 'c',
        other => return Err(Error::argument(FIELD, format!("{other:?} is none of a, b and c"))),
    };
    let number = |number: Option<u32>| number.map(i64::from);
    Ok(DeviceRule { kind, major: number(rule.major), minor: number(rule.minor), access: access(FIELD, rule.access)? })
}

/// How far a container is apart, as the wire shows it.
pub fn wire_isolation(isolation: Isolation) -> wire::Isolation {
    let sharing = |mode: wire::SharingMode, container: String| Some(wire::Sharing { mode: mode.into(), container });
    let path = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let calls = match isolation.filter {
        Filter::Default => None,
        Filter::Unconfined => Some(wire::system_calls::Kind::IsUnconfined(true)),
        Filter::Profile(text) => Some(wire::system_calls::Kind::ProfileJson(text)),
    };
    wire::Isolation {
        pid: match isolation.pid {
            Sight::Own => sharing(wire::SharingMode::Private, String::new()),
            Sight::Host => sharing(wire::SharingMode::Host, String::new()),
            Sight::Container(id) => sharing(wire::SharingMode::Container, id),
        },
        ipc: match isolation.ipc {
            Ipc::Private => sharing(wire::SharingMode::Private, String::new()),
            Ipc::Shareable => sharing(wire::SharingMode::Shareable, String::new()),
            Ipc::None => sharing(wire::SharingMode::None, String::new()),
            Ipc::Host => sharing(wire::SharingMode::Host, String::new()),
            Ipc::Container(id) => sharing(wire::SharingMode::Container, id),
        },
        has_host_name: isolation.has_host_name,
        sees_host_cgroups: isolation.sees_host_cgroups,
        system_calls: calls.map(|kind| wire::SystemCalls { kind: Some(kind) }),
        no_new_privileges: isolation.no_new_privileges,
        is_unmasked: isolation.is_unmasked,
        has_writable_cgroups: isolation.has_writable_cgroups,
        sysctls: isolation.sysctls.into_iter().map(|(name, value)| wire::Sysctl { name, value }).collect(),
        devices: isolation
            .devices
            .into_iter()
            .map(|one| wire::HostDevice {
                host_path: path(one.host),
                container_path: path(one.container),
                access: one.access,
            })
            .collect(),
        device_rules: isolation
            .device_rules
            .into_iter()
            .map(|one| wire::DeviceRule {
                kind: one.kind.to_string(),
                major: one.major.and_then(|number| u32::try_from(number).ok()),
                minor: one.minor.and_then(|number| u32::try_from(number).ok()),
                access: one.access,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sharing(mode: wire::SharingMode, container: &str) -> Option<wire::Sharing> {
        Some(wire::Sharing { mode: mode.into(), container: container.into() })
    }

    #[test]
    fn what_was_asked_for_is_shown_as_it_came() {
        let asked = wire::Isolation {
            pid: sharing(wire::SharingMode::Container, "db"),
            ipc: sharing(wire::SharingMode::Shareable, ""),
            has_host_name: true,
            sees_host_cgroups: true,
            system_calls: Some(wire::SystemCalls { kind: Some(wire::system_calls::Kind::IsUnconfined(true)) }),
            no_new_privileges: Some(true),
            is_unmasked: true,
            has_writable_cgroups: true,
            sysctls: vec![wire::Sysctl { name: "net.a".into(), value: "1".into() }],
            devices: vec![wire::HostDevice {
                host_path: "/dev/fuse".into(),
                container_path: "/dev/x".into(),
                access: "rw".into(),
            }],
            device_rules: vec![wire::DeviceRule { kind: "c".into(), major: Some(1), minor: None, access: "r".into() }],
        };
        assert_eq!(wire_isolation(isolation(Some(asked.clone())).unwrap()), asked);
    }

    #[test]
    fn what_is_no_namespace_device_or_rule_is_refused() {
        let none = wire::Isolation::default;
        for (field, wrong) in [
            ("pid", wire::Isolation { pid: sharing(wire::SharingMode::None, ""), ..none() }),
            ("pid", wire::Isolation { pid: sharing(wire::SharingMode::Container, ""), ..none() }),
            ("ipc", wire::Isolation { ipc: sharing(wire::SharingMode::Host, "x"), ..none() }),
            ("devices", wire::Isolation { devices: vec![wire::HostDevice::default()], ..none() }),
            (
                "devices",
                wire::Isolation {
                    devices: vec![wire::HostDevice {
                        host_path: "/dev/null".into(),
                        access: "rr".into(),
                        ..Default::default()
                    }],
                    ..none()
                },
            ),
            ("device_rules", wire::Isolation { device_rules: vec![wire::DeviceRule::default()], ..none() }),
        ] {
            match isolation(Some(wrong)) {
                Err(Error::Argument { field: found, .. }) => assert_eq!(found, format!("spec.isolation.{field}")),
                other => panic!("{field}: {other:?}"),
            }
        }
    }
}
