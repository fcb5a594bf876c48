//! What the process sees of the host, and what hostile images can do about it.

use crate::harness::*;
use std::os::unix::fs::symlink;
use strata_init::plan::*;

#[test]
fn namespaces_are_new() {
    let (_, text) = Bench::new().run_shell("echo $$; hostname; cat /proc/self/cgroup | grep -v ':/$'; cat /sys/class/net/lo/operstate; ls /sys/class/net | wc -l");

    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..2], ["1", "inside"]);
    assert!(!text.contains(":/"), "the cgroup namespace shows {text}");
}

#[test]
fn the_root_is_only_the_container() {
    let (_, text) = Bench::new().run_shell("cat /proc/self/mountinfo; ls /");

    let points: Vec<_> = text.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    let expected = ["/", "/usr", "/proc", "/dev", "/sys"];
    assert!(
        points
            .iter()
            .all(|point| *point == "/"
                || expected.iter().any(|root| point[1..].starts_with(&root[1..]) && root.len() > 1)),
        "{text}"
    );
    assert_eq!(points.iter().filter(|point| **point == "/").count(), 1, "{text}");
    let root = text.lines().next().unwrap();
    assert!(root.contains(" / / rw") && root.contains("overlay"), "{root}");
}

#[test]
fn masked_paths_are_empty_and_read_only_paths_refuse() {
    let script = "exec 2>&1; wc -c </proc/keys; wc -c </proc/timer_list; ls /sys/firmware | wc -l; echo 1 >/proc/sys/kernel/panic; \
                  touch /usr/x; mkdir /sys/x";
    let (_, text) = Bench::new().run_shell(script);

    assert!(text.starts_with("0\n0\n0\n"), "{text}");
    assert_eq!(text.matches("Read-only file system").count(), 3, "{text}");
}

#[test]
fn a_read_only_root_refuses_writes_but_tmpfs_takes_them() {
    let bench = Bench::new();
    let mut plan = bench.shell("exec 2>&1; touch /x; touch /dev/shm/y && echo ok");
    plan.readonly_root = true;

    let (_, text) = bench.run(&plan);

    assert!(text.contains("Read-only file system") && text.ends_with("ok\n"), "{text}");
}

#[test]
fn writes_go_to_the_upper_layer_only() {
    let bench = Bench::new();

    bench.run_shell("echo x >/tmp/new; echo y >/etc/file");

    assert_eq!(std::fs::read_to_string(bench.path("upper/tmp/new")).unwrap(), "x\n");
    assert!(!bench.path("lower/etc/file").exists());
}

#[test]
fn links_of_an_image_cannot_lead_mounts_out_of_the_root() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("sentinel")).unwrap();
    symlink(bench.path("sentinel"), bench.path("lower/absolute")).unwrap();
    symlink("../../../../../../../../var/tmp", bench.path("lower/relative")).unwrap();
    symlink(bench.path("sentinel/new"), bench.path("lower/etc/resolv.conf")).unwrap();
    std::fs::write(bench.path("content"), "content\n").unwrap();
    let mut plan = bench.shell("cat /etc/resolv.conf /absolute/made /relative/made-there");
    for target in ["/etc/resolv.conf", "/absolute/made", "/relative/made-there"] {
        plan.steps.push(bind(bench.path("content"), target, 0));
    }

    let (code, text) = bench.run(&plan);

    assert_eq!((code, text.as_str()), (0, "content\ncontent\ncontent\n"));
    assert_eq!(std::fs::read_dir(bench.path("sentinel")).unwrap().count(), 0);
    assert!(!std::path::Path::new("/var/tmp/made-there").exists());
}

#[test]
fn proc_and_sys_that_are_links_are_refused() {
    for name in ["proc", "sys"] {
        let bench = Bench::new();
        symlink("/tmp", bench.path("lower").join(name)).unwrap();

        let mut monitor = bench.start(&bench.shell("true"));

        match monitor.receive() {
            strata_init::wire::Frame::Failed { text, .. } => assert!(text.contains("ordinary directory"), "{text}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_working_directory_through_a_magic_link_is_refused() {
    let bench = Bench::new();
    let mut plan = bench.shell("pwd");
    plan.process.cwd = "/proc/self/fd/4".into();

    assert_eq!(bench.run(&plan).0, 125);
}

#[test]
fn sysctl_keys_cannot_leave_their_tree() {
    for key in ["../sysrq-trigger", "net/../../x", "", "kernel//panic", "a\0b"] {
        let bench = Bench::new();
        let mut plan = bench.shell("true");
        plan.steps.push(Step::Sysctl { key: key.into(), value: "1".into() });
        assert_eq!(bench.run(&plan).0, 125, "{key:?}");
    }
}

/// Row 29 (CVE-2025-24965): what is written into an image is written in it.
#[test]
fn row_29_files_are_written_with_owner_and_mode_and_never_through_links() {
    let bench = Bench::new();
    symlink("/etc/elsewhere", bench.path("lower/etc/link")).unwrap();
    let write =
        |path: &str| Step::WriteFile { path: path.into(), bytes: b"secret".to_vec(), mode: 0o440, uid: 5, gid: 6 };
    let mut plan = bench.shell("stat -c '%a %u %g %s' /run/secrets/key");
    plan.steps.push(write("/run/secrets/key"));
    assert_eq!(bench.run(&plan), (0, "440 5 6 6\n".into()));

    let bench = Bench::new();
    symlink("/etc/elsewhere", bench.path("lower/etc/link")).unwrap();
    let mut plan = bench.shell("true");
    plan.steps.push(write("/etc/link"));
    assert_eq!(bench.run(&plan).0, 125);
}

#[test]
fn a_file_in_memory_is_mounted_and_leaves_nothing_but_its_stub() {
    let bench = Bench::new();
    let mut plan =
        bench.shell("cat /run/secrets/key; stat -c ' %a %u %g' /run/secrets/key; echo x 2>&1 >/run/secrets/key");
    let (target, bytes) = ("/run/secrets/key".into(), b"hunter2".to_vec());
    let attributes = attribute::RDONLY | attribute::NOSUID;
    plan.steps.push(Step::MemoryFile { target, bytes, mode: 0o440, uid: 5, gid: 6, attributes });

    let (code, text) = bench.run(&plan);

    assert!(code != 0 && text.starts_with("hunter2 440 5 6\n") && text.contains("Read-only file system"), "{text}");
    assert_eq!(std::fs::read(bench.path("upper/run/secrets/key")).unwrap(), b"");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(bench.directory.path().to_str().unwrap()), "{mounts}");
}

/// Row 108 (CVE-2024-1753): a link of the source leads nowhere else.
#[test]
fn row_108_the_source_of_an_overlay_mount_stays_inside() {
    let bench = Bench::new();
    for name in ["other/rootdir/in", "other-upper", "other-work"] {
        std::fs::create_dir_all(bench.path(name)).unwrap();
    }
    symlink("/", bench.path("other/link")).unwrap();
    symlink("../../../../../..", bench.path("other/up")).unwrap();
    let overlay = |path: &str, target: &str, attributes| Step::Overlay {
        tree: Root::Overlay {
            lowers: vec![bench.path("other")],
            upper: bench.path("other-upper"),
            work: bench.path("other-work"),
            options: vec![],
        },
        path: path.into(),
        target: target.into(),
        attributes,
    };
    for path in ["/link", "/up", "/", "", "link/link/up"] {
        let mut plan = bench.shell("ls /mnt; touch /mnt/new 2>&1 || ls / | grep -c other");
        plan.steps.push(overlay(path, "/mnt", attribute::RDONLY));
        let (code, text) = bench.run(&plan);
        assert!(text.starts_with("link\nrootdir\nup\n") && text.contains("Read-only"), "{path}: {code} {text}");
    }
    let mut plan = bench.shell("ls /mnt; touch /mnt/new");
    plan.steps.push(overlay("/rootdir", "/mnt", 0));
    let (code, text) = bench.run(&plan);
    assert!(code == 0 && text.ends_with("\nin\n"), "{text}");
    assert!(bench.path("other-upper/rootdir/new").exists());
    let mut plan = bench.shell("true");
    plan.steps.push(overlay("/not-there", "/mnt", 0));
    assert_eq!(bench.run(&plan).0, 125);
}

#[test]
fn a_user_namespace_maps_ids() {
    let bench = Bench::new();
    let mut plan = bench.shell("cat /proc/self/uid_map; id -u");
    plan.namespaces.user = Namespace::New;
    plan.uid_map = vec![IdMap { inside: 0, outside: 100_000, count: 65_536 }];
    plan.gid_map = plan.uid_map.clone();
    plan.steps.retain(|step| !matches!(step, Step::Device { .. } | Step::Sysctl { .. }));
    plan.steps.push(bind("/dev/null", "/dev/null", 0));
    for name in ["upper", "work", "lower"] {
        std::os::unix::fs::chown(bench.path(name), Some(100_000), Some(100_000)).unwrap();
    }
    std::os::unix::fs::chown(bench.directory.path(), Some(100_000), None).unwrap();

    let (code, text) = bench.run(&plan);

    assert_eq!(code, 0, "{text}");
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536", "0"]);
}

/// As on an initramfs, where pivot_root(2) is refused.
#[test]
fn a_root_is_entered_without_pivot_root_and_the_hosts_proc_is_out_of_reach() {
    let bench = Bench::new();
    let mut plan =
        bench.shell("ls -d /lower /var 2>&1; cat /proc/self/mountinfo; echo x >/new; readlink /proc/self/root");
    plan.no_pivot = true;

    let (code, text) = bench.run(&plan);

    assert_eq!(code, 0, "{text}");
    assert!(text.contains("cannot access '/var'") && text.ends_with("/\n"), "{text}");
    let points: Vec<_> = text.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    assert_eq!(points.iter().filter(|point| **point == "/proc").count(), 1, "{text}");
    assert_eq!(std::fs::read_to_string(bench.path("upper/new")).unwrap(), "x\n");
}
