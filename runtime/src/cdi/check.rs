//! What a spec file may say: names, values, and fields that its version has.

use super::{
    document::{DeviceNode, Document, Edits, Hook, IntelRdt, Malformed, Mount},
    name::{check_kind, check_name},
};

/// Every version of the format that is read, oldest first.
const VERSIONS: [&str; 8] = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

/// Points of a container's life.
const HOOKS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Refuses a document that a spec file may not be.
pub fn check(document: &Document) -> Result<(), Malformed> {
    let version = version(&document.cdi_version)?;
    check_kind(&document.kind).map_err(|problem| malformed("kind", problem))?;
    let class = document.kind.split_once('/').map_or("", |(_, class)| class);
    since(version, "0.6.0", class.contains('.'), || "kind".to_owned())?;
    since(version, "0.6.0", !document.annotations.is_empty(), || "annotations".to_owned())?;
    if document.devices.is_empty() {
        return Err(malformed("devices", "there must be one at least"));
    }
    edits(&document.container_edits, "containerEdits", version)?;
    for (index, device) in document.devices.iter().enumerate() {
        let at = |field: &str| format!("devices[{index}].{field}");
        check_name(&device.name).map_err(|problem| malformed(at("name"), problem))?;
        if document.devices[..index].iter().any(|other| other.name == device.name) {
            return Err(malformed(at("name"), format!("there are two devices {:?}", device.name)));
        }
        since(version, "0.5.0", device.name.starts_with(|c: char| c.is_ascii_digit()), || at("name"))?;
        since(version, "0.6.0", !device.annotations.is_empty(), || at("annotations"))?;
        edits(&device.container_edits, &at("containerEdits"), version)?;
    }
    Ok(())
}

fn malformed(field: impl Into<String>, problem: impl Into<String>) -> Malformed {
    Malformed { field: field.into(), problem: problem.into() }
}

/// The place of a version among all; `v` before it is as good.
fn version(text: &str) -> Result<usize, Malformed> {
    let plain = text.strip_prefix('v').unwrap_or(text);
    VERSIONS.iter().position(|known| *known == plain).ok_or_else(|| {
        malformed("cdiVersion", format!("{text:?} is not known; what is read is {}", VERSIONS.join(", ")))
    })
}

/// Refuses a field that is used in a version before the one that brought it.
fn since(version: usize, needed: &str, is_used: bool, field: impl Fn() -> String) -> Result<(), Malformed> {
    match is_used && VERSIONS[version] < needed {
        true => {
            let problem = format!("it needs cdiVersion {needed} or later, and the file says {}", VERSIONS[version]);
            Err(malformed(field(), problem))
        }
        false => Ok(()),
    }
}

fn edits(edits: &Edits, at: &str, version: usize) -> Result<(), Malformed> {
    variables(&edits.env, &format!("{at}.env"))?;
    for (index, node) in edits.device_nodes.iter().enumerate() {
        device_node(node, &format!("{at}.deviceNodes[{index}]"), version)?;
    }
    net_devices(edits, at, version)?;
    for (index, one) in edits.mounts.iter().enumerate() {
        mount(one, &format!("{at}.mounts[{index}]"), version)?;
    }
    for (index, one) in edits.hooks.iter().enumerate() {
        hook(one, &format!("{at}.hooks[{index}]"))?;
    }
    since(version, "0.7.0", !edits.additional_gids.is_empty(), || format!("{at}.additionalGids"))?;
    edits.intel_rdt.as_ref().map_or(Ok(()), |rdt| intel_rdt(rdt, &format!("{at}.intelRdt"), version))
}

fn variables(env: &[String], at: &str) -> Result<(), Malformed> {
    let is_variable = |text: &String| text.find('=').is_some_and(|place| place > 0) && !text.contains('\0');
    match env.iter().enumerate().find(|(_, text)| !is_variable(text)) {
        Some((index, text)) => Err(malformed(format!("{at}[{index}]"), format!("{text:?} is not NAME=VALUE"))),
        None => Ok(()),
    }
}

/// An absolute path that leads nowhere upwards.
fn path(text: &str, field: String) -> Result<(), Malformed> {
    match text.starts_with('/') && !text.contains('\0') && !text.split('/').any(|part| part == "..") {
        true => Ok(()),
        false => Err(malformed(field, format!("{text:?} is not an absolute path without \"..\""))),
    }
}

fn device_node(node: &DeviceNode, at: &str, version: usize) -> Result<(), Malformed> {
    path(&node.path, format!("{at}.path"))?;
    if let Some(host_path) = &node.host_path {
        path(host_path, format!("{at}.hostPath"))?;
        since(version, "0.5.0", true, || format!("{at}.hostPath"))?;
    }
    if let Some(kind) = node.kind.as_deref().filter(|kind| !["", "b", "c", "u", "p"].contains(kind)) {
        return Err(malformed(format!("{at}.type"), format!("{kind:?} is none of b, c, u and p")));
    }
    for (name, number) in [("major", node.major), ("minor", node.minor)] {
        if number.is_some_and(|number| u32::try_from(number).is_err()) {
            return Err(malformed(format!("{at}.{name}"), "it is not the number of a device"));
        }
    }
    if node.file_mode.is_some_and(|mode| mode & 0o6000 != 0) {
        return Err(malformed(format!("{at}.fileMode"), "a node has no set-user-id or set-group-id bit"));
    }
    match node.permissions.as_deref() {
        Some(text) if text != "none" && !text.bytes().all(|byte| b"rwm".contains(&byte)) => {
            Err(malformed(format!("{at}.permissions"), format!("{text:?} is not of r, w and m, nor \"none\"")))
        }
        _ => Ok(()),
    }
}

fn net_devices(edits: &Edits, at: &str, version: usize) -> Result<(), Malformed> {
    since(version, "1.1.0", !edits.net_devices.is_empty(), || format!("{at}.netDevices"))?;
    for (index, device) in edits.net_devices.iter().enumerate() {
        let before = &edits.net_devices[..index];
        for (field, name, is_twice) in [
            (
                "hostInterfaceName",
                &device.host_interface_name,
                before.iter().any(|other| other.host_interface_name == device.host_interface_name),
            ),
            ("name", &device.name, before.iter().any(|other| other.name == device.name)),
        ] {
            let field = || format!("{at}.netDevices[{index}].{field}");
            if name.is_empty() {
                return Err(malformed(field(), "it is empty"));
            }
            if is_twice {
                return Err(malformed(field(), format!("there are two of {name:?}")));
            }
        }
    }
    Ok(())
}

fn mount(mount: &Mount, at: &str, version: usize) -> Result<(), Malformed> {
    path(&mount.container_path, format!("{at}.containerPath"))?;
    if mount.container_path.split('/').all(|part| part.is_empty() || part == ".") {
        return Err(malformed(format!("{at}.containerPath"), "the root itself cannot be mounted over"));
    }
    since(version, "0.4.0", mount.kind.as_deref().is_some_and(|kind| !kind.is_empty()), || format!("{at}.type"))?;
    match mount.is_bind() {
        true => path(&mount.host_path, format!("{at}.hostPath")),
        false if mount.host_path.is_empty() => Err(malformed(format!("{at}.hostPath"), "it is empty")),
        false => Ok(()),
    }
}

fn hook(hook: &Hook, at: &str) -> Result<(), Malformed> {
    if !HOOKS.contains(&hook.hook_name.as_str()) {
        let problem = format!("{:?} is none of {}", hook.hook_name, HOOKS.join(", "));
        return Err(malformed(format!("{at}.hookName"), problem));
    }
    path(&hook.path, format!("{at}.path"))?;
    if let Some(index) = hook.args.iter().position(|text| text.contains('\0')) {
        return Err(malformed(format!("{at}.args[{index}]"), "it has a NUL byte"));
    }
    variables(&hook.env, &format!("{at}.env"))?;
    match hook.timeout.is_some_and(|seconds| !(1..=i64::from(u32::MAX)).contains(&seconds)) {
        true => Err(malformed(format!("{at}.timeout"), "it is not a number of seconds greater than zero")),
        false => Ok(()),
    }
}

fn intel_rdt(rdt: &IntelRdt, at: &str, version: usize) -> Result<(), Malformed> {
    since(version, "0.7.0", true, || at.to_owned())?;
    since(version, "1.1.0", !rdt.schemata.is_empty(), || format!("{at}.schemata"))?;
    since(version, "1.1.0", rdt.enable_monitoring, || format!("{at}.enableMonitoring"))?;
    for (field, is_used) in [("enableCMT", rdt.enable_cmt), ("enableMBM", rdt.enable_mbm)] {
        if is_used && VERSIONS[version] > "1.0.0" {
            return Err(malformed(format!("{at}.{field}"), "since cdiVersion 1.1.0 it is enableMonitoring"));
        }
    }
    let is_name = |name: &str| {
        name == "/" || (name.len() < 4096 && ![".", ".."].contains(&name) && !name.contains(['/', '\n', '\0']))
    };
    match rdt.clos_id.as_deref().filter(|name| !is_name(name)) {
        Some(name) => Err(malformed(format!("{at}.closID"), format!("{name:?} is not the name of a class"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    /// What is said of a document with these edits, as `field: problem`.
    fn said(version: &str, edits: &Value) -> Option<String> {
        of(&json!({
            "cdiVersion": version,
            "kind": "vendor.com/net",
            "devices": [{"name": "eth0", "containerEdits": edits}],
        }))
    }

    fn of(document: &Value) -> Option<String> {
        let read = Document::parse(Path::new("x.json"), &document.to_string()).and_then(|document| check(&document));
        read.err().map(|Malformed { field, problem }| format!("{field}: {problem}"))
    }

    #[test]
    fn every_version_is_read_and_no_other() {
        for version in VERSIONS {
            assert_eq!(said(version, &json!({"env": ["A=b"]})), None, "{version}");
            assert_eq!(said(&format!("v{version}"), &json!({})), None, "{version}");
        }
        for version in ["0.2.0", "1.2.0", "1.0", "", "latest"] {
            assert!(said(version, &json!({})).unwrap().starts_with("cdiVersion: "), "{version}");
        }
    }

    #[test]
    fn a_field_needs_the_version_that_brought_it() {
        let mount = json!({"hostPath": "/a", "containerPath": "/b", "type": "none", "options": ["bind"]});
        for (brought, before, field, edits) in [
            ("0.4.0", "0.3.0", "mounts[0].type", json!({"mounts": [mount]})),
            ("0.5.0", "0.4.0", "deviceNodes[0].hostPath", json!({"deviceNodes": [{"path": "/d", "hostPath": "/h"}]})),
            ("0.7.0", "0.6.0", "additionalGids", json!({"additionalGids": [5]})),
            ("0.7.0", "0.6.0", "intelRdt", json!({"intelRdt": {"closID": "a"}})),
            ("1.1.0", "1.0.0", "intelRdt.schemata", json!({"intelRdt": {"schemata": ["L3:0=f"]}})),
            ("1.1.0", "1.0.0", "netDevices", json!({"netDevices": [{"hostInterfaceName": "a", "name": "b"}]})),
        ] {
            assert_eq!(said(brought, &edits), None, "{edits}");
            let expected = format!("devices[0].containerEdits.{field}: it needs cdiVersion {brought} or later");
            assert!(said(before, &edits).unwrap().starts_with(&expected), "{edits}: {:?}", said(before, &edits));
        }
        let document = |version: &str, kind: &str, name: &str| json!({"cdiVersion": version, "kind": kind, "devices": [{"name": name}]});
        assert!(of(&document("0.5.0", "v.com/a.b", "x")).unwrap().starts_with("kind: it needs cdiVersion 0.6.0"));
        assert!(of(&document("0.4.0", "v.com/a", "0")).unwrap().starts_with("devices[0].name: it needs"));
        assert_eq!(of(&document("0.6.0", "v.com/a.b", "0")), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_field() {
        let node = |rest: Value| {
            let mut node = json!({"path": "/dev/x"});
            node.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            json!({"deviceNodes": [node]})
        };
        let hook = |name: &str, rest: Value| {
            let mut hook = json!({"hookName": name, "path": "/bin/x"});
            hook.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            json!({"hooks": [hook]})
        };
        let two =
            json!({"netDevices": [{"hostInterfaceName": "a", "name": "b"}, {"hostInterfaceName": "c", "name": "b"}]});
        for (field, edits) in [
            ("env[1]", json!({"env": ["A=", "B"]})),
            ("env[0]", json!({"env": ["=b"]})),
            ("deviceNodes[0].path", json!({"deviceNodes": [{"path": "dev/x"}]})),
            ("deviceNodes[0].path", json!({"deviceNodes": [{"path": "/dev/../x"}]})),
            ("deviceNodes[0].hostPath", node(json!({"hostPath": "x"}))),
            ("deviceNodes[0].type", node(json!({"type": "d"}))),
            ("deviceNodes[0].major", node(json!({"major": -1}))),
            ("deviceNodes[0].minor", node(json!({"minor": 1_i64 << 33}))),
            ("deviceNodes[0].fileMode", node(json!({"fileMode": 0o4755}))),
            ("deviceNodes[0].permissions", node(json!({"permissions": "rwx"}))),
            ("mounts[0].containerPath", json!({"mounts": [{"hostPath": "/a", "containerPath": "//."}]})),
            ("mounts[0].containerPath", json!({"mounts": [{"hostPath": "/a", "containerPath": "/a/.."}]})),
            ("mounts[0].hostPath", json!({"mounts": [{"hostPath": "a", "containerPath": "/a"}]})),
            ("mounts[0].hostPath", json!({"mounts": [{"hostPath": "", "containerPath": "/a", "type": "tmpfs"}]})),
            ("hooks[0].hookName", hook("prestop", json!({}))),
            ("hooks[0].path", json!({"hooks": [{"hookName": "poststop", "path": "x"}]})),
            ("hooks[0].env[0]", hook("poststop", json!({"env": ["x"]}))),
            ("hooks[0].args[0]", hook("poststop", json!({"args": ["\0"]}))),
            ("hooks[0].timeout", hook("poststop", json!({"timeout": 0}))),
            ("intelRdt.closID", json!({"intelRdt": {"closID": "a/b"}})),
            ("intelRdt.enableCMT", json!({"intelRdt": {"enableCMT": true}})),
            ("netDevices[1].name", two),
            ("netDevices[0].name", json!({"netDevices": [{"hostInterfaceName": "a", "name": ""}]})),
        ] {
            let said = said("1.1.0", &edits).unwrap_or_default();
            assert!(said.starts_with(&format!("devices[0].containerEdits.{field}: ")), "{edits}: {said}");
        }
    }

    #[test]
    fn kinds_and_devices_have_names_and_none_is_there_twice() {
        let document = |kind: &str, devices: Value| json!({"cdiVersion": "1.0.0", "kind": kind, "devices": devices});
        for (field, document) in [
            ("kind", document("net", json!([{"name": "a"}]))),
            ("devices", document("v.com/net", json!([]))),
            ("devices[0].name", document("v.com/net", json!([{"name": "a b"}]))),
            ("devices[1].name", document("v.com/net", json!([{"name": "a"}, {"name": "a"}]))),
        ] {
            assert!(of(&document).unwrap().starts_with(&format!("{field}: ")), "{document}: {:?}", of(&document));
        }
    }
}
