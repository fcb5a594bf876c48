use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use strata_oci::default_spec::Defaults;

use super::{super::document::Edits, *};

fn edited(of_file: &Value, of_device: &Value, change: impl FnOnce(&mut OciSpec)) -> Result<Value, Error> {
    edited_by(Nodes::Make, of_file, of_device, change)
}

fn edited_by(
    nodes: Nodes,
    of_file: &Value,
    of_device: &Value,
    change: impl FnOnce(&mut OciSpec),
) -> Result<Value, Error> {
    let read = |edits: &Value| serde_json::from_value::<Edits>(edits.clone()).unwrap();
    let (of_file, of_device) = (read(of_file), read(of_device));
    let path = Path::new("/etc/cdi/x.json");
    let placed = [
        Placed { spec: path, device: None, edits: &of_file },
        Placed { spec: path, device: Some(2), edits: &of_device },
    ];
    let mut spec = Defaults { env: vec!["A=old".to_owned()], ..Defaults::default() }.build().unwrap();
    change(&mut spec);
    apply(&mut spec, &placed, nodes)?;
    Ok(serde_json::to_value(&spec).unwrap())
}

fn device(edits: &Value) -> Value {
    let spec = edited(&json!({}), edits, |_| ()).unwrap();
    spec["linux"]["devices"].as_array().unwrap().last().unwrap().clone()
}

/// Rules after the usual ones.
fn rules(spec: &Value) -> Vec<Value> {
    spec["linux"]["resources"]["devices"].as_array().unwrap()[12..].to_vec()
}

#[test]
fn variables_and_groups_come_to_those_that_are_there() {
    let of_file = json!({"env": ["A=new", "B=file"], "additionalGids": [7, 0]});
    let of_device = json!({"env": ["B=device"], "additionalGids": [7, 8]});

    let spec = edited(&of_file, &of_device, |_| ()).unwrap();

    let env = spec["process"]["env"].as_array().unwrap();
    assert_eq!((&env[0], env.last().unwrap()), (&json!("A=new"), &json!("B=device")));
    assert_eq!(spec["process"]["user"]["additionalGids"], json!([0, 7, 8]));
}

#[test]
fn what_a_file_does_not_say_of_a_node_is_read_from_the_hosts() {
    let mode = fs::metadata("/dev/null").unwrap().permissions().mode() & 0o777;

    let spec =
        edited(&json!({}), &json!({"deviceNodes": [{"path": "/dev/x", "hostPath": "/dev/null"}]}), |_| ()).unwrap();

    let expected = json!({"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": mode});
    assert_eq!(spec["linux"]["devices"], json!([expected]));
    let rule = json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"});
    assert_eq!(rules(&spec), [rule]);
}

#[test]
fn what_a_file_says_of_a_node_counts_and_need_not_be_on_this_host() {
    let node = json!({
        "path": "/dev/x", "type": "b", "major": 259, "minor": 4, "fileMode": 0o640, "permissions": "r", "uid": 5, "gid": 6,
    });

    let spec = edited(&json!({}), &json!({"deviceNodes": [node]}), |_| ()).unwrap();

    let expected =
        json!({"path": "/dev/x", "type": "b", "major": 259, "minor": 4, "fileMode": 0o640, "uid": 5, "gid": 6});
    assert_eq!(spec["linux"]["devices"], json!([expected]));
    assert_eq!(rules(&spec)[0]["access"], "r");
    let pipe = device(&json!({"deviceNodes": [{"path": "/dev/p", "type": "p", "fileMode": 0o600}]}));
    assert_eq!((&pipe["type"], &pipe["fileMode"]), (&json!("p"), &json!(0o600)));
    let none = json!({"deviceNodes": [{"path": "/dev/null", "permissions": "none"}]});
    assert_eq!(rules(&edited(&json!({}), &none, |_| ()).unwrap()), Vec::<Value>::new());
}

#[test]
fn a_node_is_the_users_unless_the_file_says_whose() {
    let as_user = |spec: &mut OciSpec| {
        let user = spec.process_mut().as_mut().unwrap().user_mut();
        user.set_uid(1000).set_gid(50);
    };
    let edits = json!({"deviceNodes": [{"path": "/dev/null"}, {"path": "/dev/zero", "uid": 0, "gid": 0}]});

    let spec = edited(&json!({}), &edits, as_user).unwrap();

    let owners: Vec<_> = spec["linux"]["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (node["uid"].clone(), node["gid"].clone()))
        .collect();
    assert_eq!(owners, [(json!(1000), json!(50)), (json!(0), json!(0))]);
}

#[test]
fn the_last_node_of_a_path_counts() {
    let of_file = json!({"deviceNodes": [{"path": "/dev/x", "hostPath": "/dev/zero"}]});
    let of_device = json!({"deviceNodes": [{"path": "/dev/x", "hostPath": "/dev/null"}]});

    let spec = edited(&of_file, &of_device, |_| ()).unwrap();

    let devices = spec["linux"]["devices"].as_array().unwrap();
    assert_eq!((devices.len(), &devices[0]["minor"]), (1, &json!(3)));
}

#[test]
fn nodes_that_the_host_does_not_have_are_named_with_the_place_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "").unwrap();
    for (node, said) in [
        (json!({"path": "/dev/strata-nothing"}), "deviceNodes[0]: cannot use /dev/strata-nothing of this host"),
        (json!({"path": "/dev/x", "hostPath": path}), "is no device"),
        (json!({"path": "/dev/null", "type": "b"}), "is of type c, and the file says b"),
    ] {
        let error = edited(&json!({}), &json!({"deviceNodes": [node]}), |_| ()).unwrap_err().to_string();
        let begin = "CDI spec /etc/cdi/x.json, devices[2].containerEdits.deviceNodes[0]: ";
        assert!(error.starts_with(begin) && error.contains(said), "{error}");
    }
}

#[test]
fn nodes_are_bound_where_none_can_be_made() {
    let edits = json!({"deviceNodes": [{"path": "/dev/x", "hostPath": "/dev/null"}, {"path": "/dev/p", "type": "p"}]});

    let spec = edited_by(Nodes::Bind, &json!({}), &edits, |_| ()).unwrap();

    let mounts = spec["mounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["destination"] == "/dev/x").unwrap();
    assert_eq!((&mount["source"], &mount["type"]), (&json!("/dev/null"), &json!("bind")));
    assert_eq!(spec["linux"]["devices"].as_array().unwrap().len(), 1);
}

#[test]
fn mounts_replace_those_of_their_place_and_come_after_their_parents() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path();
    let edits = json!({"mounts": [
        {"hostPath": source, "containerPath": "/a/b/c"},
        {"hostPath": source, "containerPath": "/a", "options": ["ro", "bind"]},
        {"hostPath": "tmpfs", "containerPath": "/dev/shm", "type": "tmpfs", "options": ["size=1m"]},
    ]});

    let spec = edited(&json!({}), &edits, |_| ()).unwrap();

    let mounts = spec["mounts"].as_array().unwrap();
    let depth = |mount: &Value| Path::new(mount["destination"].as_str().unwrap()).components().count();
    assert!(mounts.is_sorted_by_key(depth), "{mounts:?}");
    let at = |path: &str| mounts.iter().filter(|mount| mount["destination"] == path).collect::<Vec<_>>();
    assert_eq!((at("/dev/shm").len(), &at("/dev/shm")[0]["options"]), (1, &json!(["size=1m"])));
    assert_eq!((&at("/a")[0]["options"], &at("/a/b/c")[0]["options"]), (&json!(["ro", "bind"]), &json!(["rbind"])));
    let absent = json!({"mounts": [{"hostPath": "/strata/nothing", "containerPath": "/a"}]});
    let error = edited(&absent, &json!({}), |_| ()).unwrap_err().to_string();
    assert_eq!(
        error,
        "CDI spec /etc/cdi/x.json, containerEdits.mounts[0].hostPath: cannot use /strata/nothing of this host"
    );
}

#[test]
fn hooks_come_in_their_order_to_their_points() {
    let hook = |point: &str, path: &str| json!({"hookName": point, "path": path, "args": ["x"], "timeout": 4});
    let points = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let of_file: Vec<_> = points.iter().map(|point| hook(point, "/one")).collect();
    let of_device: Vec<_> = points.iter().map(|point| hook(point, "/two")).collect();

    let spec = edited(&json!({"hooks": of_file}), &json!({"hooks": of_device}), |_| ()).unwrap();

    for point in points {
        let paths: Vec<_> = spec["hooks"][point].as_array().unwrap().iter().map(|hook| hook["path"].clone()).collect();
        assert_eq!(paths, ["/one", "/two"], "{point}");
        assert_eq!(spec["hooks"][point][0]["timeout"], 4);
    }
}

#[test]
fn network_devices_and_shares_of_the_processor_are_passed_on() {
    let edits = json!({
        "netDevices": [{"hostInterfaceName": "eth1", "name": "eth0"}],
        "intelRdt": {"closID": "c", "l3CacheSchema": "L3:0=f", "schemata": ["MB:0=50"], "enableCMT": true},
    });

    let spec = edited(&json!({}), &edits, |_| ()).unwrap();

    assert_eq!(spec["linux"]["netDevices"], json!({"eth1": {"name": "eth0"}}));
    let expected = json!({"closID": "c", "l3CacheSchema": "L3:0=f", "schemata": ["MB:0=50"], "enableMonitoring": true});
    assert_eq!(spec["linux"]["intelRdt"], expected);
}
