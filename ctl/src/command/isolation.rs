//! What keeps a container apart, as flags say it, and as `ctl inspect` shows it.

use serde_json::{Map, Value, json};
use strata_proto::runtime::v1 as pb;

use crate::args::{CgroupNamespace, IsolationFlags};
use crate::error::{Error, Result};
use crate::input;

/// Puts into a spec what the flags say. The hostname is there already.
pub fn of_container(flags: &IsolationFlags, spec: &mut pb::ContainerSpec) -> Result<()> {
    let mut isolation = pb::Isolation {
        pid: flags.pid.as_deref().map(|text| sharing("--pid", text, &["host"])).transpose()?.flatten(),
        ipc: flags.ipc.as_deref().map(ipc).transpose()?.flatten(),
        has_host_name: is_host("--uts", flags.uts.as_deref())?,
        sees_host_cgroups: flags.cgroupns == Some(CgroupNamespace::Host),
        sysctls: flags.sysctl.iter().map(|text| sysctl(text)).collect::<Result<_>>()?,
        device_rules: flags.device_cgroup_rule.iter().map(|text| rule(text)).collect::<Result<_>>()?,
        ..pb::Isolation::default()
    };
    is_host("--userns", flags.userns.as_deref())?;
    if isolation.has_host_name && !(spec.hostname.is_empty() && spec.domainname.is_empty()) {
        return Err(Error::usage("conflicting options: hostname and the UTS mode"));
    }
    for text in &flags.device {
        match text.starts_with('/') {
            true => isolation.devices.push(device(text)?),
            false => spec.cdi_devices.push(input::device(text)?),
        }
    }
    if let Some(text) = &flags.gpus {
        spec.cdi_devices.extend(gpus(text)?);
    }
    for text in &flags.security_opt {
        security(text, &mut isolation)?;
    }
    isolation.sysctls.sort_by(|one, other| one.name.cmp(&other.name));
    spec.isolation = Some(isolation);
    spec.group_add.clone_from(&flags.group_add);
    spec.has_init = flags.init;
    Ok(())
}

fn is_host(flag: &str, mode: Option<&str>) -> Result<bool> {
    match mode {
        None | Some("") => Ok(false),
        Some("host") => Ok(true),
        Some(other) => Err(Error::usage(format!("invalid value {other:?} for {flag}: \"host\" is the only one"))),
    }
}

/// "host", "container:NAME"; "" says nothing.
fn sharing(flag: &str, text: &str, modes: &[&str]) -> Result<Option<pb::Sharing>> {
    let of = |mode: pb::SharingMode, container: &str| {
        Ok(Some(pb::Sharing { mode: mode.into(), container: container.to_owned() }))
    };
    match text {
        "" => Ok(None),
        "host" => of(pb::SharingMode::Host, ""),
        _ => match text.strip_prefix("container:").filter(|name| !name.is_empty()) {
            Some(name) => of(pb::SharingMode::Container, name),
            None => {
                let known = modes.iter().map(|mode| format!("{mode:?}")).collect::<Vec<_>>().join(", ");
                let why = format!("invalid value {text:?} for {flag}: {known} or \"container:NAME\" is expected");
                Err(Error::usage(why))
            }
        },
    }
}

fn ipc(text: &str) -> Result<Option<pb::Sharing>> {
    let of = |mode: pb::SharingMode| Ok(Some(pb::Sharing { mode: mode.into(), container: String::new() }));
    match text {
        "private" => of(pb::SharingMode::Private),
        "shareable" => of(pb::SharingMode::Shareable),
        "none" => of(pb::SharingMode::None),
        _ => sharing("--ipc", text, &["private", "shareable", "none", "host"]),
    }
}

fn sysctl(text: &str) -> Result<pb::Sysctl> {
    let wrong = || Error::usage(format!("invalid --sysctl {text:?}: NAME=VALUE is expected, net.core.somaxconn=1024"));
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
    Ok(pb::Sysctl { name: name.to_owned(), value: value.to_owned() })
}

/// "/dev/x[:/dev/y][:rwm]"
fn device(text: &str) -> Result<pb::HostDevice> {
    let is_access = |part: &&str| !part.is_empty() && part.chars().all(|letter| "rwm".contains(letter));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, access) = match parts.as_slice() {
        [host] => (*host, "", ""),
        [host, access] if is_access(access) => (*host, "", *access),
        [host, container] => (*host, *container, ""),
        [host, container, access] if is_access(access) => (*host, *container, *access),
        _ => return Err(Error::usage(format!("invalid --device {text:?}: PATH[:PATH[:rwm]] is expected"))),
    };
    let (host_path, container_path, access) = (host.to_owned(), container.to_owned(), access.to_owned());
    Ok(pb::HostDevice { host_path, container_path, access })
}

/// "c 42:* rmw", as in Docker.
fn rule(text: &str) -> Result<pb::DeviceRule> {
    let wrong = || Error::usage(format!("invalid device cgroup format {text:?}: \"c 42:* rwm\" is expected"));
    let parts: Vec<&str> = text.split(' ').collect();
    let [kind @ ("a" | "b" | "c"), numbers, access] = parts.as_slice() else { return Err(wrong()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| if text == "*" { Ok(None) } else { text.parse().map(Some).map_err(|_| wrong()) };
    Ok(pb::DeviceRule {
        kind: (*kind).to_owned(),
        major: number(major)?,
        minor: number(minor)?,
        access: (*access).to_owned(),
    })
}

/// "all", a count, or "device=0,1": devices of the kind that NVIDIA's tools describe for CDI.
fn gpus(text: &str) -> Result<Vec<String>> {
    let wrong = |why: &str| Error::usage(format!("invalid --gpus {text:?}: {why}"));
    let named = |name: &str| format!("nvidia.com/gpu={name}");
    if text == "all" {
        return Ok(vec![named("all")]);
    }
    if let Ok(count) = text.parse::<u32>() {
        return Ok((0..count).map(|index| named(&index.to_string())).collect());
    }
    let (mut found, mut key) = (Vec::new(), "");
    for part in text.split(',').map(|part| part.trim_matches('"')) {
        // A list goes on until the next key.
        let value = match part.split_once('=') {
            Some((next, value)) => {
                key = next;
                value
            }
            None => part,
        };
        match (key, value) {
            ("device", name) if !name.is_empty() => found.push(named(name)),
            ("count", "all" | "-1") => found.push(named("all")),
            ("count", number) => {
                let count = number.parse::<u32>().map_err(|_| wrong("the count is no number"))?;
                found.extend((0..count).map(|index| named(&index.to_string())));
            }
            ("capabilities", _) | ("driver", "nvidia" | "cdi") => {}
            _ => return Err(wrong("\"all\", a number, device=…, count=… and capabilities=… are known")),
        }
    }
    if found.is_empty() { Err(wrong("it names no device")) } else { Ok(found) }
}

/// One `--security-opt`: Docker's, those that mean something here.
fn security(text: &str, isolation: &mut pb::Isolation) -> Result<()> {
    // Docker takes a colon too, as it once was.
    let (name, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
    let wrong = |why: &str| Err(Error::usage(format!("invalid --security-opt {text:?}: {why}")));
    let truth = |value: &str| match value {
        "" | "true" => Some(true),
        "false" => Some(false),
        _ => None,
    };
    match (name, value) {
        ("no-new-privileges", value) => match truth(value) {
            Some(is_set) => isolation.no_new_privileges = Some(is_set),
            None => return wrong("true or false is expected"),
        },
        ("writable-cgroups", value) => match truth(value) {
            Some(is_set) => isolation.has_writable_cgroups = is_set,
            None => return wrong("true or false is expected"),
        },
        ("systempaths", "unconfined") => isolation.is_unmasked = true,
        ("seccomp", "builtin") => isolation.system_calls = None,
        ("seccomp", "unconfined") => {
            isolation.system_calls = calls(pb::system_calls::Kind::IsUnconfined(true));
        }
        ("seccomp", file) if !file.is_empty() => {
            let read = std::fs::read_to_string(file);
            let text =
                read.map_err(|error| Error::usage(format!("cannot read the seccomp profile {file}: {error}")))?;
            isolation.system_calls = calls(pb::system_calls::Kind::ProfileJson(text));
        }
        // There is none of either: that is what is asked for.
        ("apparmor", "unconfined") | ("label", "disable") => {}
        ("apparmor", _) => return wrong("containers here have no AppArmor profile; \"unconfined\" says so"),
        ("label", _) => return wrong("containers here have no SELinux label; \"disable\" says so"),
        ("credentialspec", _) => return wrong("that is for containers of Windows"),
        _ => {
            return wrong("seccomp, no-new-privileges, systempaths, writable-cgroups, apparmor and label are known");
        }
    }
    Ok(())
}

fn calls(kind: pb::system_calls::Kind) -> Option<pb::SystemCalls> {
    Some(pb::SystemCalls { kind: Some(kind) })
}

/// What keeps a container apart, in the words of Docker's HostConfig.
pub fn inspected(spec: &pb::ContainerSpec) -> Map<String, Value> {
    let isolation = spec.isolation.clone().unwrap_or_default();
    let mode = |sharing: &Option<pb::Sharing>, own: &str| {
        let sharing = sharing.clone().unwrap_or_default();
        match sharing.mode() {
            pb::SharingMode::Unspecified | pb::SharingMode::Private => own.to_owned(),
            pb::SharingMode::Shareable => "shareable".to_owned(),
            pb::SharingMode::None => "none".to_owned(),
            pb::SharingMode::Host => "host".to_owned(),
            pb::SharingMode::Container => format!("container:{}", sharing.container),
        }
    };
    let device = |one: &pb::HostDevice| json!({"PathOnHost": one.host_path, "PathInContainer": one.container_path, "CgroupPermissions": one.access});
    let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
    let rule =
        |one: &pb::DeviceRule| format!("{} {}:{} {}", one.kind, number(one.major), number(one.minor), one.access);
    let sysctls: Map<String, Value> =
        isolation.sysctls.iter().map(|one| (one.name.clone(), json!(one.value))).collect();
    let all = json!({
        "PidMode": mode(&isolation.pid, ""),
        "IpcMode": mode(&isolation.ipc, "private"),
        "UTSMode": if isolation.has_host_name { "host" } else { "" },
        "UsernsMode": "",
        "CgroupnsMode": if isolation.sees_host_cgroups { "host" } else { "private" },
        "SecurityOpt": security_options(&isolation),
        "Sysctls": sysctls,
        "Devices": isolation.devices.iter().map(device).collect::<Vec<_>>(),
        "DeviceCgroupRules": isolation.device_rules.iter().map(rule).collect::<Vec<_>>(),
        "GroupAdd": spec.group_add,
        "Init": spec.has_init,
    });
    all.as_object().cloned().unwrap_or_default()
}

fn security_options(isolation: &pb::Isolation) -> Vec<String> {
    let mut options = Vec::new();
    match isolation.system_calls.as_ref().and_then(|calls| calls.kind.as_ref()) {
        Some(pb::system_calls::Kind::IsUnconfined(true)) => options.push("seccomp=unconfined".to_owned()),
        Some(pb::system_calls::Kind::ProfileJson(text)) => options.push(format!("seccomp={text}")),
        _ => {}
    }
    if let Some(is_set) = isolation.no_new_privileges {
        options.push(format!("no-new-privileges={is_set}"));
    }
    if isolation.is_unmasked {
        options.push("systempaths=unconfined".to_owned());
    }
    if isolation.has_writable_cgroups {
        options.push("writable-cgroups=true".to_owned());
    }
    options
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        isolation: IsolationFlags,
    }

    fn spec(words: &[&str]) -> Result<pb::ContainerSpec> {
        let flags = Flags::try_parse_from([&["x"], words].concat()).unwrap_or_else(|error| panic!("{error}"));
        let mut spec = pb::ContainerSpec::default();
        of_container(&flags.isolation, &mut spec).map(|()| spec)
    }

    #[test]
    fn flags_are_shown_in_dockers_words() {
        let words = [
            "--pid=container:db",
            "--ipc=shareable",
            "--uts=host",
            "--cgroupns=host",
            "--device=/dev/fuse",
            "--device=/dev/a:/dev/b:r",
            "--device=/dev/c:rw",
            "--device-cgroup-rule=c 42:* rmw",
            "--sysctl=b=1",
            "--sysctl=a=2 3",
            "--security-opt=seccomp=unconfined",
            "--security-opt=no-new-privileges",
            "--init",
            "--security-opt=systempaths=unconfined",
            "--security-opt=label:disable",
            "--group-add=video",
        ];
        let shown = inspected(&spec(&words).unwrap());
        assert_eq!((&shown["PidMode"], &shown["IpcMode"]), (&json!("container:db"), &json!("shareable")));
        assert_eq!((&shown["UTSMode"], &shown["CgroupnsMode"]), (&json!("host"), &json!("host")));
        assert_eq!(
            shown["Devices"],
            json!([
                {"PathOnHost": "/dev/fuse", "PathInContainer": "", "CgroupPermissions": ""},
                {"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"},
                {"PathOnHost": "/dev/c", "PathInContainer": "", "CgroupPermissions": "rw"},
            ])
        );
        assert_eq!(shown["DeviceCgroupRules"], json!(["c 42:* rmw"]));
        assert_eq!(shown["Sysctls"], json!({"a": "2 3", "b": "1"}));
        assert_eq!(
            shown["SecurityOpt"],
            json!(["seccomp=unconfined", "no-new-privileges=true", "systempaths=unconfined"])
        );
        assert_eq!((&shown["Init"], &shown["GroupAdd"]), (&json!(true), &json!(["video"])));
    }

    #[test]
    fn graphics_processors_are_devices_of_cdi() {
        for (text, expected) in [
            ("all", &["all"][..]),
            ("2", &["0", "1"]),
            ("device=0,GPU-1", &["0", "GPU-1"]),
            ("\"device=0,1\",capabilities=utility", &["0", "1"]),
            ("driver=nvidia,count=1,capabilities=compute", &["0"]),
        ] {
            let expected: Vec<String> = expected.iter().map(|name| format!("nvidia.com/gpu={name}")).collect();
            assert_eq!(gpus(text).unwrap(), expected, "{text}");
        }
        for text in ["some", "", "capabilities=x", "driver=other,count=1"] {
            assert!(gpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_means_nothing_here_says_why() {
        for (word, why) in [
            ("--pid=mine", "\"host\" or \"container:NAME\""),
            ("--pid=container:", "container:NAME"),
            ("--ipc=own", "shareable"),
            ("--uts=own", "\"host\" is the only one"),
            ("--userns=keep-id", "\"host\" is the only one"),
            ("--sysctl=x", "NAME=VALUE"),
            ("--device=/dev/x:/dev/y:z", "PATH[:PATH[:rwm]]"),
            ("--device-cgroup-rule=c 42 r", "device cgroup format"),
            ("--security-opt=apparmor=docker-default", "no AppArmor"),
            ("--security-opt=label=type:x", "no SELinux"),
            ("--security-opt=what", "are known"),
            ("--security-opt=seccomp=/nothing/here", "cannot read the seccomp profile"),
        ] {
            let refused = spec(&[word]).unwrap_err();
            assert!(refused.message.contains(why), "{word}: {}", refused.message);
        }
    }
}
