//! config-linux.md: devices that every container has, those of the spec, and those that may not be made.

use std::{fs, os::unix::fs::symlink};

use serde_json::{Value, json};

use crate::{
    bundle::Bundle,
    namespaces::{map_ids, mount_points},
};

fn in_user_namespace(spec: &mut Value) {
    spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    map_ids(spec);
}

const DEFAULTS: &str = "for n in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' /dev/$n; done; \
                        for n in fd stdin stdout stderr ptmx; do readlink /dev/$n; done; ls -d /dev/console 2>/dev/null; exit 0";

/// Spec: config-linux.md, Default Devices: six nodes, ptmx, and the links of "/dev symbolic links"
#[test]
fn every_container_has_the_default_devices() {
    let bundle = Bundle::new(DEFAULTS, |_| {});

    let expected = "/dev/null character special file 1:3 666\n/dev/zero character special file 1:5 666\n\
                    /dev/full character special file 1:7 666\n/dev/random character special file 1:8 666\n\
                    /dev/urandom character special file 1:9 666\n/dev/tty character special file 5:0 666\n\
                    /proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n";
    assert_eq!(bundle.output(), expected);
}

/// Spec: config-linux.md, Default Devices: they are there in a user namespace too, where no node can be made
#[test]
fn a_user_namespace_has_the_default_devices_of_the_host() {
    let bundle = Bundle::new(
        "for n in null zero full random urandom tty; do stat -c '%t:%T' /dev/$n; done; echo x >/dev/null",
        in_user_namespace,
    );
    mount_points(&bundle);

    assert_eq!(bundle.output(), "1:3\n1:5\n1:7\n1:8\n1:9\n5:0\n");
}

/// Spec: config-linux.md, Devices: type, numbers, mode and owner of each
#[test]
fn devices_of_every_type_are_made() {
    let bundle = Bundle::new("stat -c '%n %F %t:%T %a %u:%g' /dev/c /dev/b /dev/u /dev/p /other/null", |spec| {
        spec["linux"]["devices"] = json!([
            {"path": "/dev/c", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 3, "gid": 4},
            {"path": "/dev/b", "type": "b", "major": 7, "minor": 300, "fileMode": 0o600},
            {"path": "/dev/u", "type": "u", "major": 1, "minor": 3},
            {"path": "/dev/p", "type": "p", "fileMode": 0o622, "uid": 5, "gid": 6},
            {"path": "/other/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o755}
        ]);
    });

    let expected = "/dev/c character special file a:e5 640 3:4\n/dev/b block special file 7:12c 600 0:0\n\
                    /dev/u character special file 1:3 666 0:0\n/dev/p fifo 0:0 622 5:6\n\
                    /other/null character special file 1:3 755 0:0\n";
    assert_eq!(bundle.output(), expected);
}

/// Spec: config-linux.md, Devices: a file at the path that is not the device is an error
#[test]
fn another_file_at_the_path_of_a_device_is_refused() {
    for (kind, is_fine) in [("c", false), ("p", false), ("same", true)] {
        let bundle = Bundle::new("stat -c %F /other", |spec| {
            spec["linux"]["devices"] = match kind {
                "same" => json!([{"path": "/other", "type": "p"}]),
                kind => json!([{"path": "/other", "type": kind, "major": 1, "minor": 5}]),
            };
        });
        let path = bundle.path("rootfs/other");
        match is_fine {
            true => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::empty()).unwrap(),
            false => fs::write(&path, "").unwrap(),
        }
        match is_fine {
            true => assert_eq!(bundle.output(), "fifo\n"),
            false => assert!(bundle.refused().contains("/other: file exists"), "{kind}"),
        }
    }
}

/// In a user namespace a node is bound, and only if the host's is the one that was asked for.
#[test]
fn a_bound_device_is_the_one_that_was_asked_for() {
    let with = |devices: Value| {
        let bundle = Bundle::new("stat -c '%F %t:%T' /dev/kmsg /dev/fifo", |spec| {
            in_user_namespace(spec);
            spec["linux"]["devices"] = devices;
        });
        mount_points(&bundle);
        bundle
    };
    let kmsg = |minor: i64| json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": minor}, {"path": "/dev/fifo", "type": "p"}]);

    assert_eq!(with(kmsg(11)).output(), "character special file 1:b\nfifo 0:0\n");
    assert!(with(kmsg(12)).refused().contains("use /dev/kmsg: it is not device 1:12"));
    let absent = json!([{"path": "/dev/absent", "type": "c", "major": 1, "minor": 1}]);
    assert!(with(absent).refused().contains("open /dev/absent: no such file"));
}

/// Rows 23 and 28 (CVE-2025-31133, CVE-2025-62161): `/dev/null` of the image is a link, and nothing is masked with what it leads to.
#[test]
fn row_23_28_cve_2025_31133_a_linked_dev_null_masks_nothing_with_its_target() {
    let script = "[ -s /proc/keys ] && echo leak; echo x >/proc/sys/kernel/core_pattern; exit 0";
    let bundle = Bundle::new(script, |spec| {
        spec["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        spec["linux"]["maskedPaths"] = json!(["/proc/keys", "/proc/kcore"]);
    });
    fs::create_dir_all(bundle.path("rootfs/dev")).unwrap();
    symlink("/proc/sys/kernel/core_pattern", bundle.path("rootfs/dev/null")).unwrap();
    let before = fs::read("/proc/sys/kernel/core_pattern").unwrap();

    let error = bundle.refused();

    assert!(error.contains("make device /dev/null: file exists"), "{error}");
    assert_eq!(fs::read("/proc/sys/kernel/core_pattern").unwrap(), before);
}

/// Rows 31 and 32 (CVE-2026-41579, CVE-2026-47766): `/dev` of the image is a link to the host.
#[test]
fn row_31_32_cve_2026_41579_a_linked_dev_makes_and_removes_nothing_on_the_host() {
    for has_mount in [true, false] {
        let bundle = Bundle::new("ls /dev", |spec| {
            if !has_mount {
                spec["mounts"]
                    .as_array_mut()
                    .unwrap()
                    .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
            }
        });
        let sentinel = bundle.path("sentinel");
        fs::create_dir(&sentinel).unwrap();
        fs::write(sentinel.join("ptmx"), "kept").unwrap();
        symlink(&sentinel, bundle.path("rootfs/dev")).unwrap();

        bundle.run();

        let names: Vec<_> = fs::read_dir(&sentinel).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["ptmx"], "with a mount: {has_mount}");
        assert_eq!(fs::read_to_string(sentinel.join("ptmx")).unwrap(), "kept");
    }
}
