use super::*;

fn read(name: &str, text: &str) -> Result<Document, Malformed> {
    Document::parse(Path::new(name), text)
}

const JSON: &str = r#"{
  "cdiVersion": "1.1.0",
  "kind": "vendor.com/net",
  "annotations": {"a": true, "b": 1, "c": "x"},
  "devices": [{
    "name": "0",
    "annotations": {"d": "y"},
    "containerEdits": {
      "env": ["A=b"],
      "deviceNodes": [{
        "path": "/dev/x", "hostPath": "/dev/y", "type": "c", "major": 1, "minor": 3, "fileMode": 438,
        "permissions": "rw", "uid": 1, "gid": 2
      }],
      "netDevices": [{"hostInterfaceName": "eth1", "name": "eth0"}],
      "mounts": [{"hostPath": "/a", "containerPath": "/b", "type": "none", "options": ["ro", "bind"]}],
      "hooks": [{"hookName": "createRuntime", "path": "/h", "args": ["h", "x"], "env": ["E=f"], "timeout": 3}],
      "additionalGids": [4],
      "intelRdt": {"closID": "c", "l3CacheSchema": "l", "memBwSchema": "m", "schemata": ["s"], "enableMonitoring": true}
    }
  }],
  "containerEdits": {"env": ["ALL=1"]}
}"#;

const YAML: &str = r#"---
cdiVersion: "1.1.0"
kind: vendor.com/net
annotations: {a: true, b: 1, c: x}
devices:
- name: 0
  annotations:
    d: "y"
  containerEdits:
    env:
    - A=b
    deviceNodes:
    - {path: /dev/x, hostPath: /dev/y, type: c, major: 1, minor: 3, fileMode: 0666, permissions: rw, uid: 1, gid: 2}
    netDevices:
    - hostInterfaceName: eth1
      name: eth0
    mounts:
    - hostPath: /a
      containerPath: /b
      type: none
      options: [ro, bind]
    hooks:
    - hookName: createRuntime
      path: /h
      args: [h, x]
      env: [E=f]
      timeout: 3
    additionalGIDs: [4]
    intelRdt: {closID: c, l3CacheSchema: l, memBwSchema: m, schemata: [s], enableMonitoring: true}
containerEdits:
  env: ["ALL=1"]
"#;

#[test]
fn json_and_yaml_say_the_same() {
    let document = read("x.json", JSON).expect("it is a spec");

    assert_eq!(read("x.yaml", YAML), Ok(document.clone()));
    let device = &document.devices[0];
    let node = &device.container_edits.device_nodes[0];
    assert_eq!((node.major, node.minor, node.file_mode), (Some(1), Some(3), Some(0o666)));
    assert_eq!(document.annotations["a"], "true");
    assert_eq!((device.name.as_str(), device.annotations["d"].as_str()), ("0", "y"));
    assert_eq!(device.container_edits.additional_gids, [4]);
}

#[test]
fn a_malformed_file_is_refused_with_the_field() {
    for (field, from, to) in [
        ("devices[0].containerEdits", "\"env\": [\"A=b\"]", "\"environment\": [\"A=b\"]"),
        ("devices[0].containerEdits.env[0]", "\"A=b\"", "{}"),
        ("devices[0].containerEdits.deviceNodes[0].major", "\"major\": 1", "\"major\": \"one\""),
        ("devices[0].containerEdits.deviceNodes[0]", "\"path\": \"/dev/x\", ", ""),
        ("devices[0].containerEdits.hooks[0].timeout", "\"timeout\": 3", "\"timeout\": []"),
        ("kind", "\"vendor.com/net\"", "7"),
        ("", "\"cdiVersion\": \"1.1.0\",", ""),
        ("", "\"containerEdits\": {\"env\": [\"ALL=1\"]}\n}", "\"containerEdits\": {}\n} 1"),
        ("", "{\n  \"cdi", "{\n  \"kind\": \"x\", \"cdi"),
        ("", JSON, ""),
    ] {
        let text = JSON.replacen(from, to, 1);
        let wrong = read("x.json", &text).expect_err(to);
        assert!(wrong.field.starts_with(field) && !wrong.problem.is_empty(), "{to}: {wrong:?}");
        assert_eq!(wrong.field.is_empty(), field.is_empty(), "{to}: {wrong:?}");
    }
    for (field, from, to) in [
        ("devices[0].containerEdits.hooks[0].timeout", "timeout: 3", "timeout: soon"),
        ("devices[0].containerEdits.mounts[0]", "hostPath: /a\n", "source: /a\n"),
        ("", "kind: vendor.com/net\n", "kind: vendor.com/net\nkind: vendor.com/gpu\n"),
        ("", "---\n", "---\n]"),
    ] {
        let wrong = read("x.yaml", &YAML.replacen(from, to, 1)).expect_err(to);
        assert!(wrong.field.starts_with(field) && !wrong.problem.is_empty(), "{to}: {wrong:?}");
    }
}

#[test]
fn references_that_multiply_are_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", [before.as_str(); 10].join(", ")));
    }

    assert!(read("x.yaml", &text).is_err());
}
