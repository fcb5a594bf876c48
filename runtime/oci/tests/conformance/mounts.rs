//! config.md, "Mounts": every type and every option, seen from inside.

use std::{fs, os::unix::fs::MetadataExt};

use serde_json::{Value, json};

use crate::{
    bundle::Bundle,
    namespaces::{map_ids, mount_points, run_after, text},
};

/// Appends a mount.
fn mount(spec: &mut Value, destination: &str, kind: &str, source: &str, options: &[&str]) {
    let mount = json!({"destination": destination, "type": kind, "source": source, "options": options});
    spec["mounts"].as_array_mut().unwrap().push(mount);
}

/// Gives the process what mount(8) takes.
pub fn allow_mounts(spec: &mut Value) {
    for set in ["bounding", "effective", "permitted"] {
        spec["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_SYS_ADMIN"));
    }
    spec["linux"].as_object_mut().unwrap().remove("seccomp");
}

/// The line of mountinfo for the last mount at a point.
fn line<'a>(mountinfo: &'a str, point: &str) -> &'a str {
    let found = mountinfo.lines().rfind(|line| line.split(' ').nth(4) == Some(point));
    found.unwrap_or_else(|| panic!("no {point} in {mountinfo}"))
}

/// The mount's own options and those of its file system.
fn options(line: &str) -> (Vec<&str>, Vec<&str>) {
    let words: Vec<_> = line.split(' ').collect();
    (words[5].split(',').collect(), words.last().unwrap().split(',').collect())
}

/// Spec: config.md, Linux mount options: the attributes of a new file system
#[test]
fn options_become_attributes_of_the_mount() {
    let table = [
        ("ro", "ro"),
        ("nosuid", "nosuid"),
        ("nodev", "nodev"),
        ("noexec", "noexec"),
        ("noatime", "noatime"),
        ("nodiratime", "nodiratime"),
        ("relatime", "relatime"),
        ("nosymfollow", "nosymfollow"),
        ("rro", "ro"),
        ("rnosuid", "nosuid"),
        ("rnodev", "nodev"),
        ("rnoexec", "noexec"),
        ("rnoatime", "noatime"),
        ("rnodiratime", "nodiratime"),
        ("rnosymfollow", "nosymfollow"),
    ];
    let plain = ["rw", "suid", "dev", "exec", "diratime", "symfollow", "strictatime", "rrw", "rsuid", "rdev", "rexec"];
    let bundle = Bundle::new("cat /proc/self/mountinfo", |spec| {
        table.iter().for_each(|(option, _)| mount(spec, &format!("/m/{option}"), "tmpfs", "t", &[option]));
        plain
            .iter()
            .for_each(|option| mount(spec, &format!("/m/{option}"), "tmpfs", "t", &["noatime", "atime", option]));
    });

    let text = bundle.output();

    for (option, word) in table {
        assert!(options(line(&text, &format!("/m/{option}"))).0.contains(&word), "{option}: {text}");
    }
    for option in plain {
        let words = options(line(&text, &format!("/m/{option}"))).0;
        assert!(words == ["rw"] || words == ["rw", "relatime"], "{option}: {words:?}");
    }
}

/// Spec: config.md, Linux mount options: options of the whole file system reach it
#[test]
fn options_of_the_file_system_reach_it() {
    let bundle = Bundle::new("cat /proc/self/mountinfo", |spec| {
        mount(spec, "/m/a", "tmpfs", "named", &["sync", "dirsync", "lazytime", "size=64k,nr_inodes=50", "mode=1750"]);
        mount(spec, "/m/b", "tmpfs", "t", &["mand", "nomand", "async", "nolazytime", "loud", "silent", "defaults"]);
    });

    let text = bundle.output();

    let (_, words) = options(line(&text, "/m/a"));
    for word in ["sync", "dirsync", "lazytime", "size=64k", "nr_inodes=50", "mode=1750"] {
        assert!(words.contains(&word), "{word}: {words:?}");
    }
    assert!(line(&text, "/m/a").contains(" - tmpfs named "));
    assert!(!options(line(&text, "/m/b")).1.contains(&"sync"));
}

/// Spec: config.md, Linux mount options: an option that the file system does not know is an error
#[test]
fn an_unknown_option_is_named() {
    let bundle = Bundle::new("true", |spec| mount(spec, "/m", "tmpfs", "t", &["sideways=1"]));

    let error = bundle.refused();

    assert!(error.contains("mount tmpfs on /m with sideways=1: invalid argument"), "{error}");
}

/// Spec: config.md, Linux mount options: recursive attributes reach the mounts below, the others do not
#[test]
fn recursive_attributes_reach_the_mounts_below() {
    let bundle = Bundle::new("cat /proc/self/mountinfo", |_| {});
    let cases: [(&str, &[&str], bool, bool); 5] = [
        ("/plain", &["rbind", "ro"], true, false),
        ("/all", &["rbind", "rro"], true, true),
        ("/below", &["rbind", "rro", "rw"], false, true),
        ("/none", &["rbind", "rro", "rrw"], false, false),
        ("/single", &["bind", "rro"], true, true),
    ];
    let mut spec: Value = serde_json::from_slice(&fs::read(bundle.path("config.json")).unwrap()).unwrap();
    for (destination, options, ..) in cases {
        mount(&mut spec, destination, "bind", "tree", options);
    }
    mount(&mut spec, "/others", "bind", "tree", &["rbind", "rnosuid", "rnodev", "rnoexec", "rnoatime"]);
    fs::write(bundle.path("config.json"), spec.to_string()).unwrap();

    let text = text(&run_after(&bundle, "-m", "mkdir -p $1/tree/sub; mount -t tmpfs t $1/tree/sub; run"));

    for (destination, _, is_top_readonly, is_sub_readonly) in cases {
        assert_eq!(options(line(&text, destination)).0[0] == "ro", is_top_readonly, "{destination}: {text}");
        if destination != "/single" {
            let sub = format!("{destination}/sub");
            assert_eq!(options(line(&text, &sub)).0[0] == "ro", is_sub_readonly, "{sub}: {text}");
        }
    }
    assert!(!text.contains(" /single/sub "), "bind takes one mount: {text}");
    assert_eq!(options(line(&text, "/others/sub")).0, ["rw", "nosuid", "nodev", "noexec", "noatime"]);
}

/// Spec: config.md, Mounts: a file is bound onto a file, missing mount points are made, in the listed order
#[test]
fn files_and_directories_are_bound_and_their_mount_points_made() {
    let script = "cat /new/file /deep/er/one; ls -d /deep/er/two; cat /relative/file; touch /new/file 2>&1";
    let bundle = Bundle::new(script, |spec| {
        mount(spec, "/new/file", "bind", "content", &["bind", "ro"]);
        mount(spec, "/deep", "tmpfs", "t", &[]);
        mount(spec, "/deep/er/one", "none", "content", &["bind"]);
        mount(spec, "/deep/er/two", "", ".", &["rbind"]);
        mount(spec, "relative/file", "bind", "content", &["bind"]);
    });
    fs::write(bundle.path("content"), "content\n").unwrap();

    let output = bundle.run();

    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("content\ncontent\n/deep/er/two\ncontent\n"), "{output:?}");
    assert!(text.contains("Read-only file system"), "{text}");
}

/// Spec: config.md, Mounts: a source that is missing is an error
#[test]
fn a_missing_source_is_named() {
    let bundle = Bundle::new("true", |spec| mount(spec, "/x", "bind", "/absent/source", &["bind"]));

    let error = bundle.refused();

    assert!(error.contains("open /absent/source for /x: no such file or directory"), "{error}");
}

/// Spec: config.md, Mounts: a directory is not bound onto a file, nor a file onto a directory
#[test]
fn a_bind_onto_the_other_kind_is_refused() {
    for (destination, source) in [("/etc", "config.json"), ("/bin/sh", ".")] {
        let bundle = Bundle::new("true", |spec| mount(spec, destination, "bind", source, &["bind"]));
        fs::create_dir_all(bundle.path("rootfs/etc")).unwrap();
        assert!(bundle.refused().contains(&format!("bind {destination}: ")));
    }
}

/// Spec: config.md, Linux mount options: idmap and ridmap show owners by the maps of the mount
#[test]
fn ids_of_a_mount_are_mapped() {
    let script = "for f in /one /one/sub /all /all/sub /plain; do stat -c '%n %u %g' $f; done; touch /one/new";
    let bundle = Bundle::new(script, |spec| {
        for (destination, option) in [("/one", "idmap"), ("/all", "ridmap")] {
            mount(spec, destination, "bind", "tree", &["rbind", option]);
            let mount = spec["mounts"].as_array_mut().unwrap().last_mut().unwrap();
            mount["uidMappings"] = json!([{"containerID": 500, "hostID": 0, "size": 10}]);
            mount["gidMappings"] = json!([{"containerID": 600, "hostID": 0, "size": 10}]);
        }
        mount(spec, "/plain", "bind", "tree", &["bind"]);
    });
    let host = "mkdir -p $1/tree/sub; mount -t tmpfs t $1/tree/sub; chown -R 501:602 $1/tree; run; stat -c '%u %g' $1/tree/new";

    let text = text(&run_after(&bundle, "-m", host));

    let expected = "/one 1 2\n/one/sub 501 602\n/all 1 2\n/all/sub 1 2\n/plain 501 602\n500 600\n";
    assert_eq!(text, expected);
}

/// Spec: config.md, Linux mount options: idmap without maps takes those of the container's user namespace
#[test]
fn ids_of_a_mount_are_mapped_as_in_the_user_namespace() {
    let change = |spec: &mut Value| {
        mount(spec, "/mnt", "bind", "tree", &["bind", "idmap"]);
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        map_ids(spec);
    };
    let first = Bundle::new("stat -c '%u %g' /mnt; touch /mnt/new; exec sleep 1000", change);
    mount_points(&first);
    fs::create_dir(first.path("tree")).unwrap();
    first.start();
    let pid = first.state()["pid"].to_string();
    let second = Bundle::new("stat -c '%u %g' /mnt", |spec| {
        change(spec);
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.last_mut().unwrap()["path"] = json!(format!("/proc/{pid}/ns/user"));
        spec["linux"].as_object_mut().unwrap().remove("uidMappings");
        spec["linux"].as_object_mut().unwrap().remove("gidMappings");
    });
    mount_points(&second);
    fs::create_dir(second.path("tree")).unwrap();

    assert_eq!(second.output(), "0 0\n");
    assert_eq!(fs::read_to_string(first.path("output")).unwrap(), "0 0\n");
    let wait = || fs::metadata(first.path("tree/new"));
    let new = (0..500)
        .find_map(|_| wait().ok().or_else(|| (std::thread::sleep(std::time::Duration::from_millis(10)), None).1));
    assert_eq!(new.unwrap().uid(), 0, "root inside is root of the mount, because the spec asks for it");
}

/// Spec: config.md, Linux mount options: tmpcopyup fills a tmpfs with what it covers
#[test]
fn a_tmpfs_begins_as_a_copy() {
    let script = "cat /data/a/file; readlink /data/link; stat -c '%a %u' /data /data/a/file; echo x >/data/a/file; \
                  touch /data/new; touch /fixed/x 2>&1; cat /fixed/a/file; stat -c %a /bare";
    let bundle = Bundle::new(script, |spec| {
        mount(spec, "/data", "tmpfs", "t", &["tmpcopyup"]);
        mount(spec, "/bare", "tmpfs", "t", &[]);
        mount(spec, "/fixed", "tmpfs", "t", &["tmpcopyup", "ro"]);
    });
    for name in ["data", "fixed"] {
        let path = bundle.path("rootfs").join(name);
        fs::create_dir_all(path.join("a")).unwrap();
        fs::write(path.join("a/file"), "content\n").unwrap();
        std::os::unix::fs::chown(path.join("a/file"), Some(33), Some(44)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", path.join("link")).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o710)).unwrap();
    }

    let text = String::from_utf8(bundle.run().stdout).unwrap();

    assert!(text.starts_with("content\n/etc/passwd\n710 0\n644 33\n"), "{text}");
    assert!(text.contains("Read-only file system") && text.ends_with("content\n1777\n"), "{text}");
    assert_eq!(fs::read_to_string(bundle.path("rootfs/data/a/file")).unwrap(), "content\n");
    assert!(!bundle.path("rootfs/data/new").exists());
}

/// Spec: config.md, Linux mount options: remount changes what is mounted
#[test]
fn a_remount_changes_a_mount_that_is_there() {
    let bundle = Bundle::new("cat /proc/self/mountinfo", |spec| {
        mount(spec, "/m", "tmpfs", "t", &["size=64k"]);
        mount(spec, "/m", "", "", &["remount", "ro", "nosuid", "size=128k"]);
        mount(spec, "/sys", "none", "none", &["remount", "bind", "rw"]);
    });

    let text = bundle.output();

    let (own, system) = options(line(&text, "/m"));
    assert!(own.starts_with(&["ro", "nosuid"]) && system.contains(&"size=128k"), "{text}");
    assert_eq!(options(line(&text, "/sys")).0[0], "rw");
    let bundle = Bundle::new("true", |spec| mount(spec, "/etc", "", "", &["remount", "ro"]));
    fs::create_dir_all(bundle.path("rootfs/etc")).unwrap();
    assert!(bundle.refused().contains("remount /etc: invalid argument"), "it is no mount point");
}

/// Spec: config-linux.md, Default Filesystems: proc, sysfs, devpts and tmpfs, and every other type of the kernel
#[test]
fn every_type_of_file_system_is_mounted() {
    let bundle = Bundle::new("cat /proc/self/mountinfo; cat /o/lower; echo upper >/o/new", |spec| {
        let lower = "l".repeat(150);
        let directory = |name: &str| format!("BUNDLE/{name}");
        let options = [
            format!("lowerdir={}:{}", directory(&lower), directory("lower2")),
            format!("upperdir={}", directory("upper")),
            format!("workdir={}", directory("work")),
        ];
        mount(spec, "/o", "overlay", "overlay", &options.each_ref().map(String::as_str));
        mount(spec, "/q", "mqueue", "mqueue", &[]);
        mount(spec, "/r", "ramfs", "ramfs", &[]);
        mount(spec, "/second", "proc", "proc", &["ro"]);
    });
    let spec = fs::read_to_string(bundle.path("config.json")).unwrap().replace("BUNDLE", bundle.dir());
    fs::write(bundle.path("config.json"), spec).unwrap();
    ["upper", "work", "lower2", &"l".repeat(150)].iter().for_each(|name| fs::create_dir(bundle.path(name)).unwrap());
    fs::write(bundle.path("lower2/lower"), "below\n").unwrap();

    let text = bundle.output();

    for (point, kind) in [
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
        ("/sys", "sysfs"),
        ("/o", "overlay"),
        ("/q", "mqueue"),
        ("/r", "ramfs"),
        ("/second", "proc"),
    ] {
        assert!(line(&text, point).contains(&format!(" - {kind} ")), "{point}: {text}");
    }
    assert!(text.ends_with("below\n"));
    assert_eq!(fs::read_to_string(bundle.path("upper/new")).unwrap(), "upper\n");
}

/// Spec: config.md, Mounts: a type that the kernel does not have is an error
#[test]
fn an_unknown_type_is_named() {
    let bundle = Bundle::new("true", |spec| mount(spec, "/x", "nosuchfs", "x", &[]));

    let error = bundle.refused();

    assert!(error.contains("mount nosuchfs on /x: no such device"), "{error}");
}

/// Spec: config-linux.md, cgroup mounts: the container sees its own cgroups and no others, and writes them if it may
#[test]
fn the_container_sees_only_its_own_cgroups() {
    for has_namespace in [true, false] {
        for option in ["ro", "rw"] {
            let script = "cd /sys/fs/cgroup; [ -d pids ] && cd pids; cat pids.max; ls -d */ 2>/dev/null; mkdir new 2>&1; ls -d */ 2>/dev/null; rm -d new 2>/dev/null; exit 0";
            let bundle = Bundle::new(script, |spec| {
                let mounts = spec["mounts"].as_array_mut().unwrap();
                let cgroup = mounts.iter_mut().find(|mount| mount["type"] == "cgroup").unwrap();
                cgroup["options"] = json!(["nosuid", "noexec", "nodev", option]);
                if !has_namespace {
                    spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "cgroup");
                }
            });

            let text = bundle.output();

            let case = format!("namespace {has_namespace}, {option}: {text}");
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines[0], "32", "{case}");
            match option {
                // Security row 17 (CVE-2023-25809).
                "ro" => assert!(lines.len() == 2 && lines[1].contains("Read-only file system"), "{case}"),
                _ => assert_eq!(lines[1..], ["new/"], "{case}"),
            }
        }
    }
}

/// Spec: config.md, Linux mount options: propagation of each mount, as the host sees it
#[test]
fn what_is_mounted_in_a_shared_volume_shows_outside_and_nothing_else() {
    for (option, is_seen) in [("rshared", true), ("shared", true), ("rslave", false), ("rprivate", false)] {
        let bundle = Bundle::new("mount -t tmpfs inside /volume/sub", |spec| {
            allow_mounts(spec);
            mount(spec, "/volume", "bind", "tree", &["rbind", option]);
        });
        let host = "mkdir -p $1/tree/sub; mount --bind $1/tree $1/tree; mount --make-shared $1/tree; run; grep -c ' - tmpfs inside ' /proc/self/mountinfo || true";

        assert_eq!(text(&run_after(&bundle, "-m", host)), format!("{}\n", i32::from(is_seen)), "{option}");
    }
}

/// As crun has it: a source that is a link is made again inside, whatever it leads to; another is bound.
#[test]
fn copy_symlink_copies_links_and_binds_the_rest() {
    let with = || {
        let bundle = Bundle::new("readlink /made/link; cat /file; readlink /file || true", |spec| {
            mount(spec, "/made/link", "bind", "link", &["bind", "copy-symlink"]);
            mount(spec, "/file", "bind", "content", &["bind", "copy-symlink"]);
        });
        std::os::unix::fs::symlink("../elsewhere", bundle.path("link")).unwrap();
        fs::write(bundle.path("content"), "content\n").unwrap();
        bundle
    };

    let bundle = with();
    assert_eq!(bundle.output(), "../elsewhere\ncontent\n");
    assert_eq!(bundle.output(), "../elsewhere\ncontent\n", "an equal link may be there");

    let bundle = with();
    fs::create_dir_all(bundle.path("rootfs/made")).unwrap();
    fs::write(bundle.path("rootfs/made/link"), "").unwrap();
    assert!(bundle.refused().contains("make link /made/link: file exists"));
}

/// What is for new file systems means nothing to a bind, and is a warning; a word that nobody knows is an error.
#[test]
fn options_of_file_systems_are_ignored_by_binds_with_a_warning() {
    let with = |option: &str| {
        Bundle::new("stat -c %n /mnt/config.json", |spec| mount(spec, "/mnt", "bind", ".", &["rbind", option]))
    };

    let output = with("size=1k").run();
    assert_eq!(text(&output), "/mnt/config.json\n");
    let warning = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(warning.contains("\"size=1k\" means nothing to a bind and is ignored"), "{warning}");
    assert!(with("nosuch").refused().contains("a bind does not take \"nosuch\""));
}

/// Spec: config-linux.md, Mount Label: without SELinux it is an error
#[test]
fn a_mount_label_is_an_error_where_there_is_no_selinux() {
    let bundle =
        Bundle::new("true", |spec| spec["linux"]["mountLabel"] = json!("system_u:object_r:container_file_t:s0"));

    assert!(
        !fs::read_to_string("/proc/filesystems").unwrap().contains("selinuxfs"),
        "this test needs a kernel without"
    );
    assert!(bundle.refused().contains("linux.mountLabel: the kernel has no SELinux, or it is off"));
}

/// Spec: config.md, Linux mount options: unbindable
#[test]
fn an_unbindable_mount_cannot_be_bound() {
    let bundle = Bundle::new("mount --bind /volume /mnt 2>&1", |spec| {
        allow_mounts(spec);
        mount(spec, "/volume", "bind", ".", &["bind", "unbindable"]);
    });
    mount_points(&bundle);

    let output = bundle.run();

    assert_ne!(output.status.code(), Some(0), "{output:?}");
    let bundle = Bundle::new("mount --bind /volume /mnt", |spec| {
        allow_mounts(spec);
        mount(spec, "/volume", "bind", ".", &["bind", "private"]);
    });
    mount_points(&bundle);
    bundle.output();
}
