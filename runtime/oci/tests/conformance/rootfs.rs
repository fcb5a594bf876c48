//! The root: read-only, its propagation, what is masked in it, and hostile images.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
};

use serde_json::{Value, json};

use crate::{
    bundle::Bundle,
    mounts::allow_mounts,
    namespaces::{map_ids, mount_points, run_after, text},
};

/// Names and contents below a directory, without following links.
pub fn manifest(directory: &std::path::Path) -> Vec<String> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let (path, stat) = (entry.path(), entry.metadata().unwrap());
        let content = if stat.is_file() { fs::read_to_string(&path).unwrap() } else { String::new() };
        entries.push(format!("{} {:o} {} {content}", path.display(), stat.mode(), stat.uid()));
        if stat.is_dir() {
            entries.extend(manifest(&path));
        }
    }
    entries.sort();
    entries
}

/// A directory of the host that no container may change.
pub fn sentinel(bundle: &Bundle) -> std::path::PathBuf {
    let sentinel = bundle.path("sentinel");
    fs::create_dir_all(sentinel.join("directory")).unwrap();
    fs::write(sentinel.join("file"), "secret").unwrap();
    sentinel
}

fn add(spec: &mut Value, mount: Value) {
    spec["mounts"].as_array_mut().unwrap().push(mount);
}

/// Spec: config.md, Root: readonly makes the root read-only inside
#[test]
fn a_read_only_root_refuses_writes() {
    for (readonly, word) in [(true, "Read-only file system"), (false, "fine")] {
        let bundle = Bundle::new("{ touch /x && echo fine; } 2>&1; touch /dev/shm/x", |spec| {
            spec["root"]["readonly"] = json!(readonly)
        });
        assert!(bundle.output().contains(word), "{readonly}");
    }
}

/// With `--no-pivot` the root is entered by chroot(2); the root of the host is out of sight as ever.
#[test]
fn no_pivot_enters_the_same_root() {
    let bundle =
        Bundle::new("echo here >/new; ls -d /var/tmp 2>/dev/null; grep -c ' /proc ' /proc/self/mountinfo", |_| {});

    let output = bundle.call(&["run", "--no-pivot", "--bundle", bundle.dir(), "c"]);

    assert_eq!(text(&output), "1\n");
    assert_eq!(fs::read_to_string(bundle.path("rootfs/new")).unwrap(), "here\n");
}

/// A root on a file system that is read-only itself, whose mount points are there.
#[test]
fn a_root_on_a_read_only_file_system_is_used_as_it_is() {
    let bundle = Bundle::new("touch /x 2>&1 || exit 0", |_| {});
    mount_points(&bundle);

    let text =
        text(&run_after(&bundle, "-m", "mount --bind $B/rootfs $B/rootfs; mount -o remount,bind,ro $B/rootfs; run"));

    assert!(text.contains("Read-only file system"), "{text}");
}

/// Spec: config-linux.md, Rootfs Mount Propagation: private, slave, shared and unbindable, as the kernel shows them
#[test]
fn the_root_has_its_propagation() {
    for (propagation, word) in
        [("private", "-"), ("slave", "master"), ("shared", "shared"), ("unbindable", "unbindable"), ("", "-")]
    {
        let bundle =
            Bundle::new("cat /proc/self/mountinfo", |spec| spec["linux"]["rootfsPropagation"] = json!(propagation));

        let text =
            text(&run_after(&bundle, "-m", "mount --bind $B/rootfs $B/rootfs; mount --make-shared $B/rootfs; run"));

        let root = text.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
        assert_eq!(root.split(' ').nth(6).unwrap().split(':').next(), Some(word), "{propagation}: {root}");
    }
}

/// Spec: config-linux.md, Rootfs Mount Propagation: a slave root sees what the host mounts in it, a private one does not
#[test]
fn a_slave_root_sees_mounts_of_the_host() {
    for (propagation, expected) in
        [("slave", "seen\n"), ("rslave", "seen\n"), ("private", "unseen\n"), ("shared", "unseen\n")]
    {
        let script = "touch /up; until [ -e /go ]; do sleep 0.01; done; [ -e /mnt/x ] && echo seen || echo unseen";
        let bundle = Bundle::new(script, |spec| spec["linux"]["rootfsPropagation"] = json!(propagation));
        mount_points(&bundle);
        let host = "mount --bind $B/rootfs $B/rootfs; mount --make-shared $B/rootfs; run & \
                    until [ -e $B/rootfs/up ]; do sleep 0.01; done; mount -t tmpfs t $B/rootfs/mnt; touch $B/rootfs/mnt/x $B/rootfs/go; wait $!";

        assert_eq!(text(&run_after(&bundle, "-m", host)), expected, "{propagation}");
    }
}

/// Spec: config-linux.md, Rootfs Mount Propagation: mounts inside never show on the host, and a shared root is a peer group
#[test]
fn mounts_inside_do_not_show_on_the_host() {
    for (propagation, is_peer) in [("private", false), ("slave", false), ("shared", true)] {
        let script = "mkdir /copy; mount --bind / /copy; mount -t tmpfs inside /mnt; grep -c ' /copy/mnt ' /proc/self/mountinfo || true";
        let bundle = Bundle::new(script, |spec| {
            allow_mounts(spec);
            spec["linux"]["rootfsPropagation"] = json!(propagation);
        });
        mount_points(&bundle);
        let host = "mount --bind $B/rootfs $B/rootfs; mount --make-shared $B/rootfs; run; grep -c ' - tmpfs inside ' /proc/self/mountinfo || true";

        assert_eq!(text(&run_after(&bundle, "-m", host)), format!("{}\n0\n", i32::from(is_peer)), "{propagation}");
    }
}

/// Spec: config-linux.md, Masked Paths and Readonly Paths: nothing is read, nothing is written, what is absent is no error
#[test]
fn masked_paths_are_empty_and_read_only_paths_are_not_written() {
    let script = "exec 2>&1; cat /masked; ls /masked-directory; cat /readonly/file; touch /readonly/x; touch /masked-directory/x; exit 0";
    let bundle = Bundle::new(script, |spec| {
        spec["linux"]["maskedPaths"] = json!(["/masked", "/masked-directory", "/absent", "/masked/below"]);
        spec["linux"]["readonlyPaths"] = json!(["/readonly", "/absent"]);
    });
    for name in ["masked-directory", "readonly"] {
        fs::create_dir(bundle.path("rootfs").join(name)).unwrap();
        fs::write(bundle.path("rootfs").join(name).join("file"), "content\n").unwrap();
    }
    fs::write(bundle.path("rootfs/masked"), "secret\n").unwrap();

    let text = bundle.output();

    assert!(text.starts_with("content\n") && !text.contains("secret"), "{text}");
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
}

/// Rows 3 and 38 (CVE-2015-3630, CVE-2018-10892 and more): the default lists, path by path.
#[test]
fn row_3_38_cve_2015_3630_default_masks_hide_and_refuse_writes() {
    let bundle = Bundle::new("cat /config.json >/dev/null", |_| {});
    let spec: Value = serde_json::from_slice(&fs::read(bundle.path("config.json")).unwrap()).unwrap();
    let paths = |field: &str| -> Vec<String> {
        spec["linux"][field].as_array().unwrap().iter().map(|path| path.as_str().unwrap().to_owned()).collect()
    };
    let (masked, readonly) = (paths("maskedPaths"), paths("readonlyPaths"));
    for path in [
        "acpi",
        "asound",
        "interrupts",
        "kcore",
        "keys",
        "latency_stats",
        "sched_debug",
        "scsi",
        "timer_list",
        "timer_stats",
    ] {
        assert!(masked.contains(&format!("/proc/{path}")), "{path}");
    }
    assert!(
        masked.contains(&"/sys/firmware".to_owned()) && masked.contains(&"/sys/devices/virtual/powercap".to_owned())
    );
    for path in ["bus", "fs", "irq", "sys", "sysrq-trigger"] {
        assert!(readonly.contains(&format!("/proc/{path}")), "{path}");
    }
    let script = format!(
        "for p in {}; do [ -d $p ] && ls $p; [ -f $p ] && cat $p; done; \
         for p in {}; do [ -d $p ] && touch $p/x 2>/dev/null && echo written $p; [ -f $p ] && {{ : >$p; }} 2>/dev/null && echo written $p; done; exit 0",
        masked.join(" "),
        readonly.join(" ")
    );
    assert_eq!(Bundle::new(&script, |_| {}).output(), "");
}

/// Rows 2, 11 and 46 (CVE-2015-3629, CVE-2019-18837, CVE-2024-9341): links on the way to a mount point, up to 8 deep.
#[test]
fn row_2_11_46_cve_2019_18837_links_lead_no_mount_out_of_the_root() {
    let bundle = Bundle::new("cat /proc/self/mountinfo; cat /l7/one /up/two /etc/resolv.conf", |spec| {
        for target in ["/l7/one", "/up/two", "/etc/resolv.conf"] {
            add(spec, json!({"destination": target, "type": "bind", "source": "content", "options": ["bind", "ro"]}));
        }
        add(spec, json!({"destination": "/l3/made/deep", "type": "tmpfs", "source": "t"}));
    });
    let sentinel = sentinel(&bundle);
    fs::write(bundle.path("content"), "content\n").unwrap();
    fs::create_dir(bundle.path("rootfs/etc")).unwrap();
    symlink(&sentinel, bundle.path("rootfs/l0")).unwrap();
    (1..8)
        .for_each(|depth| symlink(format!("../../l{}", depth - 1), bundle.path(&format!("rootfs/l{depth}"))).unwrap());
    symlink(format!("../../../../../..{}", sentinel.display()), bundle.path("rootfs/up")).unwrap();
    symlink(sentinel.join("resolv.conf"), bundle.path("rootfs/etc/resolv.conf")).unwrap();
    let before = manifest(&sentinel);

    let text = bundle.output();

    assert!(text.ends_with("content\ncontent\ncontent\n"), "{text}");
    assert_eq!(manifest(&sentinel), before);
}

/// Rows 4 and 9 (CVE-2015-3631, CVE-2019-16884): nothing is mounted over what the runtime and labels trust.
#[test]
fn row_4_9_cve_2019_16884_mounts_over_the_root_and_proc_are_refused() {
    for destination in ["/", "/proc", "/proc/sys", "/proc/1", "/proc/self/attr", "proc/../proc/sys"] {
        for (kind, source) in [("bind", "."), ("tmpfs", "t")] {
            let bundle = Bundle::new("true", |spec| {
                add(
                    spec,
                    json!({"destination": destination, "type": kind, "source": source, "options": if kind == "bind" { json!(["bind"]) } else { json!([]) }}),
                );
            });
            let error = bundle.refused();
            assert!(error.contains(".destination: "), "{destination} {kind}: {error}");
        }
    }
}

/// A container in the host's pid namespace may be given the host's proc, and nothing that only says that it is.
#[test]
fn only_a_proc_is_bound_onto_proc() {
    let with = |source: &str| {
        Bundle::new("read name rest < /proc/1/status && echo $name", |spec| {
            let mounts = spec["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["destination"] != "/proc");
            mounts.insert(0, json!({"destination": "/proc", "type": "bind", "source": source, "options": ["rbind"]}));
        })
    };

    assert_eq!(with("/proc").output(), "Name:\n");
    assert!(with("/var/tmp").refused().contains("only a proc file system may be mounted here"));
    let hidden = with("/proc");
    let engine = env!("CARGO_BIN_EXE_strata-oci");
    let script =
        format!("mkdir $B/fake; touch $B/fake/x; mount -t tmpfs t /proc; {engine} --root $B/state run --bundle $B c");
    assert!(!run_after(&hidden, "-m", &script).status.success());
}

/// Rows 18, 19 and 27 (CVE-2023-27561, CVE-2023-28642, CVE-2025-54867).
#[test]
fn row_18_19_27_cve_2023_27561_proc_and_sys_that_are_links_are_refused() {
    for name in ["proc", "sys"] {
        let bundle = Bundle::new("true", |_| {});
        symlink("tmp", bundle.path("rootfs").join(name)).unwrap();
        fs::create_dir_all(bundle.path("rootfs/tmp")).unwrap();

        let error = bundle.refused();

        assert!(error.contains("the target must be an ordinary directory"), "{name}: {error}");
    }
}

/// Rows 21 and 33 (CVE-2024-21626, CVE-2026-55686): a working directory that leads out.
#[test]
fn row_21_33_cve_2024_21626_working_directories_stay_inside() {
    for fd in 3..64 {
        if fd % 8 != 3 && fd > 12 {
            continue;
        }
        for is_linked in [false, true] {
            let path = format!("/proc/self/fd/{fd}");
            let bundle = Bundle::new("pwd", |spec| {
                spec["process"]["cwd"] = json!(if is_linked { "/link".to_owned() } else { path.clone() });
            });
            symlink(&path, bundle.path("rootfs/link")).unwrap();
            let output = bundle.run();
            assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{fd}: {output:?}");
        }
    }
    let bundle = Bundle::new("pwd -P; stat -c %u .", |spec| {
        spec["process"]["cwd"] = json!("/link/new");
        spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    let sentinel = sentinel(&bundle);
    symlink(&sentinel, bundle.path("rootfs/link")).unwrap();
    let before = manifest(&sentinel);
    bundle.run();
    assert_eq!(manifest(&sentinel), before);
}

/// Row 21 (CVE-2024-21626): nothing that the caller of the engine has open reaches the process.
#[test]
fn row_21_cve_2024_21626_no_descriptor_of_the_host_reaches_the_process() {
    let bundle = Bundle::new("ls /proc/self/fd", |_| {});

    let text = text(&run_after(&bundle, "-m", "exec 3</ 7</etc/passwd 9</proc; run"));

    // `ls` itself has the directory open as 3.
    assert_eq!(text, "0\n1\n2\n3\n");
}

/// Rows 9 and 25 (CVE-2019-16884, CVE-2025-52881): a link of the image leads no mount into proc, where the runtime and
/// labels write.
#[test]
fn row_9_25_cve_2025_52881_a_link_leads_no_mount_into_proc() {
    for mount in [
        json!({"destination": "/link/sys/net/core", "type": "tmpfs", "source": "t"}),
        json!({"destination": "/link/self/attr", "type": "bind", "source": ".", "options": ["bind"]}),
        json!({"destination": "/link/version", "type": "bind", "source": "config.json", "options": ["bind"]}),
    ] {
        let bundle = Bundle::new("true", |spec| {
            spec["linux"]["sysctl"] = json!({"net.core.somaxconn": "777"});
            add(spec, mount.clone());
        });
        symlink("proc", bundle.path("rootfs/link")).unwrap();

        let error = bundle.refused();

        assert!(error.contains("/link/") && error.contains("operation not permitted"), "{error}");
    }
}

/// Rows 25 and 28 (CVE-2025-52881, CVE-2025-62596): kernel parameters are written through a private proc, not through what `/proc` shows.
#[test]
fn row_25_28_cve_2025_52881_parameters_are_set_without_the_containers_proc() {
    let bundle = Bundle::new("cat /second/sys/net/core/somaxconn; ls /proc", |spec| {
        spec["linux"]["sysctl"] = json!({"net.core.somaxconn": "777"});
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.iter_mut().find(|mount| mount["destination"] == "/proc").unwrap()["destination"] = json!("/second");
    });
    fs::create_dir_all(bundle.path("rootfs/proc/sys/net/core")).unwrap();
    fs::write(bundle.path("rootfs/proc/sys/net/core/somaxconn"), "").unwrap();

    assert_eq!(bundle.output(), "777\nsys\n");
    assert_eq!(fs::read_to_string(bundle.path("rootfs/proc/sys/net/core/somaxconn")).unwrap(), "");
}

/// Row 51: root of a user namespace makes set-user-id files that are not the host's root's.
#[test]
fn row_51_a_set_user_id_file_of_a_user_namespace_is_not_roots_outside() {
    let bundle = Bundle::new("touch /mnt/x; chmod 4755 /mnt/x; stat -c %u /mnt/x", |spec| {
        add(spec, json!({"destination": "/mnt", "type": "bind", "source": "tree", "options": ["bind"]}));
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        map_ids(spec);
    });
    mount_points(&bundle);
    fs::create_dir(bundle.path("tree")).unwrap();
    fs::set_permissions(bundle.path("tree"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();

    assert_eq!(bundle.output(), "0\n");
    let file = fs::metadata(bundle.path("tree/x")).unwrap();
    assert_eq!((file.uid(), file.mode() & 0o7777), (100_000, 0o4755));
}
