//! Images that are made to deceive: rows of the security research that no other area has.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use serde_json::json;

use crate::{
    bundle::Bundle,
    rootfs::{manifest, sentinel},
    terminals::receive_fd,
};

/// What the first process has open, by number, each with where it leads.
fn descriptors(bundle: &Bundle) -> Vec<(String, PathBuf)> {
    let directory = PathBuf::from(format!("/proc/{}/fd", bundle.state()["pid"]));
    let entries = fs::read_dir(directory).unwrap().flatten();
    let mut all: Vec<_> =
        entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read_link(entry.path()).unwrap())).collect();
    all.sort();
    all
}

/// Row 1 (CVE-2015-3627): links of the image where standard streams and terminals are do not become those of the
/// process, with `/dev` of the engine's and of the image's.
#[test]
fn row_1_cve_2015_3627_standard_streams_are_the_callers_or_a_terminal_inside() {
    for (has_terminal, has_dev) in [(false, true), (false, false), (true, true)] {
        let bundle = Bundle::new("exec sleep 100", |spec| {
            spec["process"]["terminal"] = json!(has_terminal);
            spec["mounts"]
                .as_array_mut()
                .unwrap()
                .retain(|mount| has_dev || !mount["destination"].as_str().unwrap().starts_with("/dev"));
        });
        let sentinel = sentinel(&bundle);
        let before = manifest(&sentinel);
        for (directory, names) in
            [("dev", &["stdin", "stdout", "stderr", "fd", "core"][..]), ("proc/1/fd", &["0", "1", "2"])]
        {
            let directory = bundle.path("rootfs").join(directory);
            fs::create_dir_all(&directory).unwrap();
            names.iter().for_each(|name| symlink(sentinel.join("file"), directory.join(name)).unwrap());
        }

        let _master = if has_terminal {
            let socket = bundle.path("console");
            let listener = UnixListener::bind(&socket).unwrap();
            bundle
                .strata(&["create", "--bundle", bundle.dir(), "--console-socket", socket.to_str().unwrap(), "c"])
                .unwrap();
            let master = receive_fd(&listener);
            bundle.strata(&["start", "c"]).unwrap();
            Some(master)
        } else {
            bundle.start();
            None
        };

        let output = bundle.path("output");
        let expected = if has_terminal {
            ["/dev/pts/0".into(), "/dev/pts/0".into(), "/dev/pts/0".into()]
        } else {
            ["/dev/null".into(), output.clone(), output]
        };
        let found: Vec<PathBuf> = descriptors(&bundle).into_iter().map(|(_, path)| path).collect();
        assert_eq!(found, expected, "{has_terminal} {has_dev}");
        assert_eq!(manifest(&sentinel), before);
        let pid = bundle.state()["pid"].as_u64().unwrap();
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        let id = statx(CWD, format!("/proc/{pid}/fd/0"), AtFlags::empty(), StatxFlags::MNT_ID).unwrap().stx_mnt_id;
        let is_inside = mounts.lines().any(|line| line.starts_with(&format!("{id} ")));
        // Of this host's devpts there is a /dev/pts/0 as well.
        assert_eq!(is_inside, has_terminal, "{mounts}");
    }
}

/// Row 15 (CVE-2022-1227): nothing of the image is executed or loaded outside the container, wherever the engine stands.
#[test]
fn row_15_cve_2022_1227_programs_of_the_image_run_inside_only() {
    let bundle = Bundle::new("exec sleep 100", |_| {});
    let (canary, rootfs) = (bundle.path("canary"), bundle.path("rootfs"));
    let trojan = format!("#!/bin/sh\necho \"$0 $*\" >> {}\n", canary.display());
    fs::create_dir_all(rootfs.join("etc")).unwrap();
    for directory in ["", "usr/bin", "usr/sbin", "sbin"] {
        fs::create_dir_all(rootfs.join(directory)).unwrap();
        for name in ["newuidmap", "newgidmap", "nsenter", "ps", "tar", "xz", "git", "ldconfig", "strata-init", "runc"] {
            let path = rootfs.join(directory).join(name);
            fs::write(&path, &trojan).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    fs::write(rootfs.join("etc/ld.so.preload"), "/trojan.so\n").unwrap();
    for name in ["nsswitch.conf", "passwd", "group", "localtime"] {
        fs::write(rootfs.join("etc").join(name), "trojan\n").unwrap();
    }

    bundle.start();
    for arguments in [
        &["exec", "c", "/bin/sh", "-c", ":"][..],
        &["ps", "c"],
        &["events", "--stats", "c"],
        &["state", "c"],
        &["update", "--pids-limit", "20", "c"],
        &["pause", "c"],
        &["resume", "c"],
        &["list"],
        &["kill", "c", "KILL"],
        &["delete", "--force", "c"],
    ] {
        let mut command = bundle.command();
        command.current_dir(&rootfs).env("PATH", ".:usr/bin").env("LD_LIBRARY_PATH", "lib");
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    assert!(!canary.exists(), "{}", fs::read_to_string(canary).unwrap());
}

/// Rows 30 and 42 (CVE-2026-30892, CVE-2024-40635): a user of `exec` is that user, or an error; never root.
#[test]
fn row_30_42_cve_2026_30892_an_exec_runs_as_the_user_that_was_meant_or_not_at_all() {
    let bundle = Bundle::new("exec sleep 100", |_| {});
    bundle.start();

    for (user, expected) in [
        ("0", Some("0 0")),
        ("1", Some("1 0")),
        ("1:2", Some("1 2")),
        ("4294967294", Some("4294967294 0")),
        ("2147483648:4294967294", Some("2147483648 4294967294")),
        ("", None),
        ("1:", None),
        (":5", None),
        ("01", None),
        ("+1", None),
        ("0x1", None),
        ("-1", None),
        (" 1", None),
        ("1 ", None),
        ("root", None),
        ("1:2:3", None),
        ("1:-1", None),
        ("4294967295", None),
        ("0:4294967295", None),
        ("4294967296", None),
        ("99999999999999999999", None),
    ] {
        let user_option = format!("--user={user}");
        let output = bundle.call(&["exec", &user_option, "c", "/bin/sh", "-c", "echo $(id -u) $(id -g)"]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.success().then_some(text.trim()), expected, "{user:?}: {output:?}");
        assert!(expected.is_some() || text.is_empty(), "{user:?}: {text}");
    }
}

/// Row 45 (CVE-2024-9676): files of the image that the engine comes across are not opened: a FIFO keeps nobody waiting.
#[test]
fn row_45_cve_2024_9676_a_fifo_in_the_image_keeps_nobody_waiting() {
    let bundle = Bundle::new("echo fine", |spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        mounts.push(json!({"destination": "/etc/hosts", "type": "bind", "source": "hosts", "options": ["bind", "ro"]}));
        spec["linux"]["maskedPaths"].as_array_mut().unwrap().push(json!("/etc/masked"));
        spec["linux"]["readonlyPaths"].as_array_mut().unwrap().push(json!("/etc/readonly"));
    });
    let etc = bundle.path("rootfs/etc");
    fs::create_dir_all(&etc).unwrap();
    let fifo = |path: &Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    ["hosts", "passwd", "group", "masked", "readonly"].iter().for_each(|name| fifo(&etc.join(name)));
    fifo(&bundle.path("outside"));
    symlink(bundle.path("outside"), etc.join("hostname")).unwrap();
    fs::write(bundle.path("hosts"), "").unwrap();

    assert_eq!(bundle.output(), "fine\n");
}
