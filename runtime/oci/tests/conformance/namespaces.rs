//! config-linux.md: namespaces, new and by path, the clocks of the time namespace, network devices.

use std::{
    fs,
    process::{Child, Command, Output, Stdio},
};

use serde_json::{Value, json};

use crate::bundle::Bundle;

/// Files of /proc/PID/ns, and the types that a spec calls them by.
const KINDS: [(&str, &str); 8] = [
    ("cgroup", "cgroup"),
    ("ipc", "ipc"),
    ("mnt", "mount"),
    ("net", "network"),
    ("pid", "pid"),
    ("time", "time"),
    ("user", "user"),
    ("uts", "uts"),
];
const LIST: &str = "for n in cgroup ipc mnt net pid time user uts; do readlink /proc/self/ns/$n; done";

/// All eight namespaces, new; the user namespace maps root to 100000.
fn isolate(spec: &mut Value) {
    spec["linux"]["namespaces"] = KINDS.iter().map(|(_, kind)| json!({"type": kind})).collect();
    map_ids(spec);
}

/// Maps the ids of the user namespace.
pub fn map_ids(spec: &mut Value) {
    spec["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 100000, "size": 65536}]);
    spec["linux"]["gidMappings"] = spec["linux"]["uidMappings"].clone();
    // The default ones name groups that are not mapped.
    spec["linux"]["sysctl"] = json!({});
}

/// Makes the mount points that root of a user namespace cannot make in a directory of the host's root.
pub fn mount_points(bundle: &Bundle) {
    ["proc", "dev", "sys", "mnt"].iter().for_each(|name| fs::create_dir_all(bundle.path("rootfs").join(name)).unwrap());
}

/// The namespaces of a process, in the order of `KINDS`.
fn namespaces_of(pid: &str) -> Vec<String> {
    let read = |name| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().into_os_string().into_string().unwrap();
    KINDS.iter().map(|(name, _)| read(name)).collect()
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// Runs a bundle from a shell of the host in namespaces of its own: `$1` is the bundle, `run` the container.
pub fn run_after(bundle: &Bundle, unshare: &str, script: &str) -> Output {
    let engine = env!("CARGO_BIN_EXE_strata-oci");
    let script = format!("set -e; B=$1; run() {{ {engine} --root $B/state run --bundle $B c; }}; {script}");
    let mut command = Command::new("unshare");
    command.args([unshare, "sh", "-c", &script, "sh", bundle.dir()]).stdin(Stdio::null()).output().unwrap()
}

/// What it wrote; it must have ended well.
pub fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A process of the host in a new mount namespace, ended when it is dropped.
struct Elsewhere(Child);

impl Elsewhere {
    fn new() -> Self {
        let child = Command::new("unshare").args(["-m", "sleep", "1000"]).spawn().unwrap();
        let (ours, theirs) = ("/proc/self/ns/mnt".to_owned(), format!("/proc/{}/ns/mnt", child.id()));
        while fs::read_link(&ours).unwrap() == fs::read_link(&theirs).unwrap() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Self(child)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Spec: config-linux.md, Namespaces: each type without a path is a new namespace
#[test]
fn every_type_of_namespace_is_new() {
    let bundle = Bundle::new(LIST, isolate);
    mount_points(&bundle);

    let inside = lines(&bundle.output());

    let shared: Vec<_> = namespaces_of("self").into_iter().filter(|ours| inside.contains(ours)).collect();
    assert_eq!((inside.len(), shared), (8, vec![]), "{inside:?}");
}

/// Spec: config-linux.md, Namespaces: a type that is not listed is inherited from the runtime
#[test]
fn a_type_that_is_not_listed_is_the_runtimes() {
    let bundle = Bundle::new(LIST, |spec| {
        spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "pid"}]);
        spec["linux"]["sysctl"] = json!({});
        spec.as_object_mut().unwrap().remove("hostname");
    });

    let inside = lines(&bundle.output());

    let ours = namespaces_of("self");
    for (index, (name, _)) in KINDS.iter().enumerate() {
        assert_eq!(inside[index] == ours[index], !matches!(*name, "mnt" | "pid"), "{name}: {inside:?}");
    }
}

/// Spec: config-linux.md, Namespaces: without a mount namespace the root is the container's, its mounts end with it
#[test]
fn a_container_in_the_runtimes_mount_namespace_leaves_no_mount() {
    let without = |script: &str| {
        let bundle = Bundle::new(script, |spec| {
            spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "mount");
            spec["linux"]["maskedPaths"] = json!(["/proc/kcore"]);
        });
        fs::write(bundle.path("rootfs/mark"), "of the image").unwrap();
        bundle
    };
    // Tests that run beside this one mount too, elsewhere.
    let mounts = |bundle: &Bundle| {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        text.lines().filter(|line| line.contains(bundle.dir())).count()
    };

    let bundle = without("cat /mark; readlink /proc/self/ns/mnt; ls /proc/1/comm /dev/null; : > /proc/kcore");
    let output = bundle.run();
    let ours = fs::read_link("/proc/self/ns/mnt").unwrap();
    let expected = format!("of the image{}\n/dev/null\n/proc/1/comm\n", ours.display());
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert_eq!(mounts(&bundle), 0, "after run");

    let bundle = without("exec sleep 1000");
    bundle.start();
    assert!(mounts(&bundle) > 5);
    assert!(bundle.strata(&["exec", "c", "ls"]).unwrap_err().contains("it has no mount namespace"));
    bundle.strata(&["delete", "--force", "c"]).unwrap();
    assert_eq!(mounts(&bundle), 0, "after delete");

    let bundle = without("true").edit(|spec, _| spec["process"]["args"] = json!(["/absent"]));
    assert!(bundle.refused().contains("/absent"));
    assert_eq!(mounts(&bundle), 0, "after a failure");
}

/// Spec: config-linux.md, Namespaces: a path is the namespace that the process is placed in
#[test]
fn every_type_of_namespace_is_joined_by_path() {
    let first = Bundle::new("exec sleep 1000", isolate);
    mount_points(&first);
    first.start();
    let pid = first.state()["pid"].to_string();
    let theirs = namespaces_of(&pid);
    let second = Bundle::new(LIST, |spec| {
        let joined = |(name, kind): &(&str, &str)| match *name {
            "mnt" => json!({"type": kind}),
            _ => json!({"type": kind, "path": format!("/proc/{pid}/ns/{name}")}),
        };
        spec["linux"]["namespaces"] = KINDS.iter().map(joined).collect();
        spec["linux"]["sysctl"] = json!({});
    });
    mount_points(&second);

    let inside = lines(&second.output());

    for (index, (name, _)) in KINDS.iter().enumerate() {
        assert_eq!(inside[index] == theirs[index], *name != "mnt", "{name}: {inside:?}, not {theirs:?}");
    }
}

/// As the containers of a pod with a user namespace: it and some others joined, the rest new and owned by it.
#[test]
fn new_namespaces_beside_a_joined_user_namespace_belong_to_it() {
    let first = Bundle::new("exec sleep 1000", isolate);
    mount_points(&first);
    first.start();
    let pid = first.state()["pid"].to_string();
    let script = "echo $$; id -u; hostname; hostname changed; hostname";
    let second = Bundle::new(script, |spec| {
        spec["process"]["capabilities"]["bounding"] = json!(["CAP_SYS_ADMIN"]);
        for set in ["effective", "permitted"] {
            spec["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN"]);
        }
        let new = ["cgroup", "mount", "pid", "uts"].iter().map(|kind| json!({"type": kind}));
        let joined = [("user", "user"), ("network", "net"), ("ipc", "ipc")];
        let joined = joined.map(|(kind, name)| json!({"type": kind, "path": format!("/proc/{pid}/ns/{name}")}));
        spec["linux"]["namespaces"] = new.chain(joined).collect();
        spec["hostname"] = json!("inside");
        spec["linux"].as_object_mut().unwrap().remove("seccomp");
        spec["linux"]["sysctl"] = json!({});
    });
    mount_points(&second);

    assert_eq!(second.output(), "1\n0\ninside\nchanged\n");
}

/// A network namespace of the host, joined by a container with a new user namespace, and the other way round.
#[test]
fn a_namespace_of_the_host_is_joined_before_the_user_namespace() {
    let first = Bundle::new("exec sleep 1000", |_| {});
    first.start();
    let pid = first.state()["pid"].to_string();
    let second = Bundle::new("readlink /proc/self/ns/net; id -u", |spec| {
        isolate(spec);
        spec["linux"]["namespaces"][3] = json!({"type": "network", "path": format!("/proc/{pid}/ns/net")});
        // A sysfs shows a network namespace, and only who owns that may mount one.
        spec["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/sys"));
    });
    mount_points(&second);

    assert_eq!(lines(&second.output()), [namespaces_of(&pid)[3].as_str(), "0"]);
}

/// Spec: config-linux.md, Namespaces: a mount namespace is joined by path, and its other processes keep their root
#[test]
fn a_mount_namespace_is_joined_by_path() {
    let elsewhere = Elsewhere::new();
    let pid = elsewhere.0.id().to_string();
    let root = fs::read_link(format!("/proc/{pid}/root")).unwrap();
    let bundle = Bundle::new("readlink /proc/self/ns/mnt; ls -d /var/tmp 2>&1", |spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "mount");
        let path = format!("/proc/{pid}/ns/mnt");
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "mount", "path": path}));
    });

    let output = bundle.run();

    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with(&namespaces_of(&pid)[2]), "{output:?}");
    assert!(text.contains("No such file"), "its root is that of the bundle: {text}");
    assert_eq!(fs::read_link(format!("/proc/{pid}/root")).unwrap(), root);
    assert!(fs::exists(format!("/proc/{pid}/root{}", bundle.dir())).unwrap(), "the others see what they saw");
}

/// Spec: config-linux.md, Namespaces: a path that is not a namespace of the type is an error
#[test]
fn a_path_that_is_no_namespace_of_the_type_is_refused() {
    for (path, reason) in [("/proc/self/ns/uts", "invalid argument"), ("/absent", "no such file"), ("/etc/hosts", "")] {
        let bundle = Bundle::new("true", |spec| {
            spec["linux"]["namespaces"] = json!([
                {"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "cgroup"}, {"type": "uts"},
                {"type": "network", "path": path}
            ]);
        });
        let error = bundle.refused();
        assert!(error.contains(path) && error.contains(reason), "{error}");
    }
    let bundle = Bundle::new("true", |spec| {
        spec["linux"]["namespaces"] =
            json!([{"type": "mount", "path": "/proc/self/ns/mnt"}, {"type": "uts"}, {"type": "cgroup"}]);
        spec["linux"]["sysctl"] = json!({});
    });
    assert!(bundle.refused().contains("it is that of the runtime itself"));
}

/// Spec: config-linux.md, Offset for Time Namespace: the clocks inside are ahead by the offsets
#[test]
fn the_clocks_of_a_time_namespace_have_their_offsets_and_are_joined_with_them() {
    let offsets = "[ $(cat /proc/uptime | grep -o '^[0-9]*') -gt 5000000 ] && cat /proc/self/timens_offsets";
    let first = Bundle::new(&format!("{offsets}; exec sleep 1000"), |spec| {
        isolate(spec);
        spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": 5000000, "nanosecs": 7}, "monotonic": {"secs": 3}});
    });
    mount_points(&first);
    first.start();
    let pid = first.state()["pid"].to_string();
    let second = Bundle::new(offsets, |spec| {
        let time = json!({"type": "time", "path": format!("/proc/{pid}/ns/time")});
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(time);
    });

    for text in [second.output(), fs::read_to_string(first.path("output")).unwrap()] {
        let words: Vec<_> = text.split_whitespace().collect();
        assert_eq!(words, ["monotonic", "3", "0", "boottime", "5000000", "7"]);
    }
}

/// Spec: config-linux.md, Offset for Time Namespace: an offset that the kernel cannot have is an error
#[test]
fn a_clock_offset_out_of_range_is_refused() {
    let bundle = Bundle::new("true", |spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "time"}));
        spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": i64::MAX}});
    });

    let error = bundle.refused();

    assert!(error.contains("set the clock offset boottime 9223372036854775807 0"), "{error}");
}

/// Spec: config-linux.md, Network Devices: a device moves with its new name and its addresses, and is up
#[test]
fn network_devices_move_with_their_addresses() {
    let script = "read s < /sys/class/net/inside/operstate; read f < /sys/class/net/inside/flags; echo $s $f; \
                  read m < /sys/class/net/inside/mtu; echo $m; ls /sys/class/net; grep -o '10.9.8.[0-9]*' /proc/net/fib_trie; cat /proc/net/if_inet6";
    let bundle = Bundle::new(script, |spec| {
        spec["linux"]["netDevices"] = json!({"outside": {"name": "inside"}, "other": {"name": "eth%d"}, "kept": {}});
    });
    let host = "ip link add outside mtu 1400 type veth peer name p1; ip address add 10.9.8.7/24 dev outside; ip link set outside up; \
                ip -6 address add fd00::7/64 dev outside nodad; ip link add other type veth peer name kept; run; ip -o link | grep -c outside || true";

    let text = text(&run_after(&bundle, "-n", host));

    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].ends_with(" 0x1003"), "up: {text}");
    assert_eq!(lines[1..6], ["1400", "eth0", "inside", "kept", "lo"], "{text}");
    assert!(lines.contains(&"10.9.8.7") && lines.contains(&"10.9.8.255"), "{text}");
    assert!(text.contains("fd000000000000000000000000000007"), "{text}");
    assert_eq!(lines.last(), Some(&"0"), "it is gone from the host");
}

/// Spec: config-linux.md, Network Devices: what cannot move, or to a name in use, is an error
#[test]
fn network_devices_that_cannot_move_are_named() {
    for (devices, reason) in [
        (json!({"absent": {}}), "find network device absent: no such device"),
        (json!({"lo": {"name": "x"}}), "move network device lo into the container as x"),
        (json!({"outside": {"name": "lo"}}), "move network device outside into the container as lo: file exists"),
    ] {
        let bundle = Bundle::new("true", |spec| spec["linux"]["netDevices"] = devices.clone());

        let output = run_after(&bundle, "-n", "ip link add outside type veth peer name p1; run");

        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && error.contains(reason), "{output:?}");
        assert_eq!(bundle.cgroups(), 0);
    }
}
