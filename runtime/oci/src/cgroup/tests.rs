//! Names and layouts without the system; create, kill and remove on this host's own hierarchies.

use std::{io::Read, process::Command};

use oci_spec::runtime::{LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResourcesBuilder};

use super::*;

const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:7 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/free\\040zer rw,relatime - cgroup cgroup rw,freezer
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";

/// Security row 20 (GHSA-5g49-rx9x-qfc6).
#[test]
fn row_20_names_that_could_leave_the_parent_are_refused() {
    for bad in [
        "",
        "/",
        "..",
        "/strata/..",
        "/strata/../x",
        "../strata/x",
        "/strata/./x",
        "/strata//x",
        "//strata/x",
        "/strata/x/",
        "/strata/a\0b",
        "/strata/a b",
        "/strata/a\n",
        "/strata/cgroup.procs",
    ] {
        assert!(matches!(checked_name(bad), Err(Error::Name { .. })), "{bad:?}");
    }
    assert_eq!(checked_name("/strata/web-1.a").unwrap(), "strata/web-1.a");
    assert_eq!(checked_name("strata/pod/web").unwrap(), "strata/pod/web");
    assert_eq!(checked_name("/web").unwrap(), "web");
}

#[test]
fn a_path_without_a_slash_in_front_is_below_our_parent() {
    let name = |path: &str| name_of(Some(Path::new(path)), "c").map_err(|error| error.to_string());

    assert_eq!(name_of(None, "c").unwrap(), "/strata/c");
    assert_eq!(name("").unwrap(), "/strata/c");
    assert_eq!(name("/pod/x").unwrap(), "/pod/x");
    assert_eq!(name("/x").unwrap(), "/x");
    assert_eq!(name("x").unwrap(), "/strata/x");
    assert_eq!(name("a/b").unwrap(), "/strata/a/b");
    for bad in ["/", "../x", "/a/../../x", "a//b", "x/"] {
        assert!(name(bad).unwrap_err().contains("is not a plain path"), "{bad}");
    }
}

#[test]
fn an_absent_pids_limit_is_not_the_limit_of_zero() {
    for (pids, limit) in
        [("{}", None), ("{\"limit\": null}", None), ("{\"limit\": 0}", Some(0)), ("{\"limit\": 7}", Some(7))]
    {
        let text = format!("{{\"ociVersion\": \"1.3.0\", \"linux\": {{\"resources\": {{\"pids\": {pids}}}}}}}");
        // The types refuse null itself.
        let typed = text.replace("\"limit\": null", "");
        let mut spec: Spec = serde_json::from_str(&typed).unwrap();

        drop_absent_limits(&mut spec, text.as_bytes());

        let resources = spec.linux().as_ref().unwrap().resources().as_ref().unwrap();
        assert_eq!(resources.pids().as_ref().map(|pids| pids.limit()), limit, "{pids}");
    }
}

#[test]
fn any_v1_controller_makes_a_host_v1() {
    assert_eq!(Layout::parse(HYBRID).unwrap().version(), Version::V1);
    assert_eq!(Layout::parse(UNIFIED).unwrap().version(), Version::V2);
    assert!(matches!(Layout::parse("22 27 0:21 / /proc rw - proc proc rw\n"), Err(Error::NoHierarchy)));
}

#[test]
fn a_hierarchy_that_another_mount_covers_is_not_there() {
    let covered = "40 22 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n41 40 0:31 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                   42 41 0:32 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
    let layout = Layout::parse(covered).unwrap();

    assert_eq!((layout.version(), layout.unified.as_ref()), (Version::V1, None));
}

#[test]
fn only_needed_hierarchies_get_a_directory() {
    let layout = Layout::parse(HYBRID).unwrap();
    let paths = |needed: &[(&str, &str)], accounting| {
        let directories = layout.directories("strata/x", needed, accounting).unwrap();
        directories.iter().map(|directory| directory.path.display().to_string()).collect::<Vec<_>>()
    };

    assert_eq!(paths(&[], Accounting::No), ["/sys/fs/cgroup/free zer/strata/x"]);
    assert_eq!(
        paths(&[("cpu", "cpu.quota")], Accounting::No),
        ["/sys/fs/cgroup/cpu,cpuacct/strata/x", "/sys/fs/cgroup/free zer/strata/x"]
    );
    assert_eq!(paths(&[], Accounting::Yes).len(), 3);
}

#[test]
fn a_limit_without_its_controller_is_an_error_that_names_the_field() {
    let layout = Layout::parse(HYBRID).unwrap();
    let pids = LinuxPidsBuilder::default().limit(5i64).build().unwrap();
    let resources = LinuxResourcesBuilder::default().pids(pids).build().unwrap();

    let error = Cgroup::create(&layout, "/strata/x", &resources, Accounting::No).unwrap_err();

    assert_eq!(
        error.to_string(),
        "cannot apply linux.resources.pids.limit: the cgroup controller pids is not available"
    );
}

/// A cgroup of this host that a test removes whatever happens.
struct Guard(Cgroup);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill_all();
        let parents = self.0.directories().filter_map(Path::parent).map(Path::to_owned).collect::<Vec<_>>();
        let _ = self.0.remove();
        parents.iter().for_each(|parent| drop(fs::remove_dir(parent)));
    }
}

/// A cgroup of the kernel's; needs root.
fn live(id: &str, resources: &LinuxResources) -> (Layout, String, Guard) {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let layout = Layout::detect().unwrap();
    let name = format!("/strata-test-{id}-{}/x", std::process::id());
    let cgroup = Cgroup::create(&layout, &name, resources, Accounting::Yes).unwrap();
    (layout, name, Guard(cgroup))
}

fn limits() -> LinuxResources {
    LinuxResourcesBuilder::default()
        .memory(LinuxMemoryBuilder::default().limit(64i64 << 20).build().unwrap())
        .pids(LinuxPidsBuilder::default().limit(20i64).build().unwrap())
        .build()
        .unwrap()
}

/// Starts a shell that joins, starts a child of its own, and says so.
fn joined(cgroup: &Cgroup) -> std::process::Child {
    let joins: String = cgroup.join_files().iter().map(|file| format!("echo $$ > '{}' && ", file.display())).collect();
    let script = format!("{joins} (sleep 1000 & echo ready; wait)");
    let mut child = Command::new("/bin/sh").args(["-c", &script]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    child
}

#[test]
fn created_limits_read_back_and_processes_can_be_killed_and_the_group_removed() {
    let (layout, name, guard) = live("life", &limits());
    let cgroup = &guard.0;
    let mut child = joined(cgroup);

    assert!(cgroup.pids().unwrap().contains(&(child.id() as i32)), "{:?}", cgroup.pids());
    assert_eq!(cgroup.stats().memory_limit_bytes, Some(64 << 20));
    assert!(cgroup.stats().pids.unwrap() >= 2 && cgroup.stats().memory_bytes.unwrap() > 0);
    assert_eq!(cgroup.memory_events().unwrap(), Some(MemoryEvents { oom_kill: 0 }));

    let found = Cgroup::open(&layout, &name).unwrap();
    assert_eq!(found.join_files(), cgroup.join_files());
    assert!(matches!(Cgroup::create(&layout, &name, &limits(), Accounting::No), Err(Error::Exists { .. })));
    assert!(!found.is_empty().unwrap(), "a refused create must not harm the group that is there");

    let waiter = std::thread::spawn(move || child.wait().unwrap());
    found.kill_all().unwrap();
    assert!(!waiter.join().unwrap().success());
    assert!(found.is_empty().unwrap());
    found.remove().unwrap();
    found.remove().unwrap();
    assert!(cgroup.directories().all(|directory| !directory.exists()));
}

#[test]
fn frozen_processes_stand_still_until_thawed() {
    let (_, _, guard) = live("freeze", &LinuxResources::default());
    let mut child = joined(&guard.0);

    guard.0.freeze().unwrap();
    let state = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    guard.0.thaw().unwrap();

    assert!(state.contains(") D ") || state.contains(") S ") || state.contains(") t "), "{state}");
    let waiter = std::thread::spawn(move || child.wait().unwrap());
    guard.0.kill_all().unwrap();
    waiter.join().unwrap();
}

#[test]
fn a_refused_limit_leaves_nothing_behind() {
    let (layout, name, _guard) = live("parent", &LinuxResources::default());
    let memory = LinuxMemoryBuilder::default().limit(64i64 << 20).swap(1i64 << 20).build().unwrap();
    let resources = LinuxResourcesBuilder::default().memory(memory).build().unwrap();
    let name = format!("{name}-refused");

    let error = Cgroup::create(&layout, &name, &resources, Accounting::Yes).unwrap_err();

    assert!(error.to_string().starts_with("cannot apply linux.resources.memory.swap"), "{error}");
    assert_eq!(Cgroup::open(&layout, &name).unwrap().directories().count(), 0);
}

#[test]
fn groups_made_inside_are_killed_and_removed_too() {
    let (_, _, guard) = live("nested", &LinuxResources::default());
    let inner: Vec<PathBuf> = guard.0.directories().map(|directory| directory.join("a/b")).collect();
    inner.iter().for_each(|path| fs::create_dir_all(path).unwrap());

    guard.0.remove().unwrap();

    assert!(guard.0.directories().all(|directory| !directory.exists()));
}

/// Opens of a shell in the cgroup: which of the paths it may read.
fn readable(cgroup: &Cgroup, paths: &[&str]) -> Vec<bool> {
    let procs = cgroup.join_files()[0].display().to_string();
    let tries: String = paths.iter().map(|path| format!("(: < {path}) 2>/dev/null && echo yes || echo no; ")).collect();
    let script = format!("echo $$ > '{procs}' && {{ {tries} }}");
    let output = Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line == "yes").collect()
}

/// A hybrid host has a v2 hierarchy too, and it takes programs.
#[test]
fn a_program_on_v2_filters_devices_and_an_update_replaces_it() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let mount = Layout::detect().unwrap().unified.expect("this test needs a cgroup v2 hierarchy");
    let layout = Layout::unified_at(mount);
    let resources = |rules: serde_json::Value| -> LinuxResources {
        serde_json::from_value(serde_json::json!({ "devices": rules })).unwrap()
    };
    let deny_all = serde_json::json!({"allow": false, "access": "rwm"});
    let nothing = serde_json::json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"});
    let zero = serde_json::json!({"allow": true, "type": "c", "major": 1, "minor": 5, "access": "r"});
    let name = format!("/strata-test-devices-{}/x", std::process::id());

    let rules = resources(serde_json::json!([deny_all, nothing]));
    let guard = Guard(Cgroup::create(&layout, &name, &rules, Accounting::No).unwrap());
    let cgroup = &guard.0;

    assert!(layout.filters_devices() && cgroup.filters_devices());
    assert_eq!(readable(cgroup, &["/dev/null", "/dev/zero"]), [true, false]);
    cgroup.update(&resources(serde_json::json!([deny_all, nothing, zero]))).unwrap();
    assert_eq!(readable(cgroup, &["/dev/null", "/dev/zero"]), [true, true]);
    cgroup.update(&resources(serde_json::json!([deny_all]))).unwrap();
    assert_eq!(readable(cgroup, &["/dev/zero"]), [false]);
    let file = File::open(cgroup.directories().next().unwrap()).unwrap();
    assert_eq!(strata_init::device_filters(file.as_fd()).unwrap(), 1, "the old ones are gone");
}

#[test]
fn the_out_of_memory_killer_is_told() {
    let memory = LinuxMemoryBuilder::default().limit(8i64 << 20).swap(8i64 << 20).build().unwrap();
    let resources = LinuxResourcesBuilder::default().memory(memory).build().unwrap();
    let (_, _, guard) = live("oom", &resources);
    let mut watch = guard.0.watch_oom().unwrap();
    assert_eq!(watch.take(), OomNotice::Nothing);
    let joins: String = guard.0.join_files().iter().map(|file| format!("echo $$ > '{}' && ", file.display())).collect();
    let script = format!("{joins} exec dd if=/dev/zero of=/dev/null bs=64M count=1");

    let output = Command::new("/bin/sh").args(["-c", &script]).output().unwrap();

    assert!(!output.status.success());
    loop {
        let mut ready = [rustix::event::PollFd::new(&watch, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut ready, None).unwrap();
        if watch.take() == OomNotice::OutOfMemory {
            break;
        }
    }
    assert!(guard.0.memory_events().unwrap().unwrap().oom_kill >= 1);
    guard.0.remove().unwrap();
    assert_eq!(watch.take(), OomNotice::Gone);
}

#[test]
fn an_update_changes_what_it_names_in_an_order_the_kernel_takes() {
    let with = |memory: serde_json::Value| -> LinuxResources {
        serde_json::from_value(serde_json::json!({ "memory": memory })).unwrap()
    };
    let (_, _, guard) = live("update", &with(serde_json::json!({"limit": 64 << 20, "swap": 64 << 20})));
    let cgroup = &guard.0;
    let limit = || cgroup.stats().memory_limit_bytes;

    // Up: swap must be first on v1; down: memory.
    cgroup.update(&with(serde_json::json!({"limit": 128 << 20, "swap": 128 << 20}))).unwrap();
    assert_eq!(limit(), Some(128 << 20));
    cgroup.update(&with(serde_json::json!({"limit": 32 << 20, "swap": 32 << 20}))).unwrap();
    assert_eq!(limit(), Some(32 << 20));
    cgroup.update(&LinuxResources::default()).unwrap();
    assert_eq!(limit(), Some(32 << 20));
    cgroup.update(&with(serde_json::json!({"limit": -1}))).unwrap();
    assert_eq!(limit(), None);

    let mut child = joined(cgroup);
    let small = with(serde_json::json!({"limit": 4096, "checkBeforeUpdate": true}));
    let error = cgroup.update(&small).unwrap_err();
    assert!(error.to_string().starts_with("cannot apply linux.resources.memory.limit: "), "{error}");
    let waiter = std::thread::spawn(move || child.wait().unwrap());
    cgroup.kill_all().unwrap();
    waiter.join().unwrap();
}

#[test]
fn figures_of_a_living_cgroup_are_in_the_document() {
    let (_, _, guard) = live("usage", &limits());
    let mut child = joined(&guard.0);

    let document = guard.0.document();

    assert_eq!(document["pids"]["limit"], 20);
    assert!(document["pids"]["current"].as_u64().unwrap() >= 2, "{document}");
    assert_eq!(document["memory"]["usage"]["limit"], 64 << 20);
    assert!(document["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    assert!(document["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
    assert!(!document["memory"]["raw"].as_object().unwrap().is_empty());
    let waiter = std::thread::spawn(move || child.wait().unwrap());
    guard.0.kill_all().unwrap();
    waiter.join().unwrap();
}

/// A directory with the files of a v2 root; what is written there proves nothing but the order of directories.
#[test]
fn controllers_are_enabled_from_the_top_down() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
    fs::write(root.path().join("cgroup.subtree_control"), "pids\n").unwrap();
    fs::create_dir(root.path().join("a")).unwrap();
    let layout = Layout::unified_at(root.path().to_owned());
    let memory = LinuxMemoryBuilder::default().limit(1i64 << 20).build().unwrap();
    let resources = LinuxResourcesBuilder::default().memory(memory).build().unwrap();

    // A plain directory has no memory.max, so the limit fails in the end.
    let error = Cgroup::create(&layout, "/a/b", &resources, Accounting::No).unwrap_err();

    assert!(error.to_string().starts_with("cannot apply linux.resources.memory.limit: "), "{error}");
    assert_eq!(fs::read_to_string(root.path().join("cgroup.subtree_control")).unwrap(), "+memory");
    assert_eq!(fs::read_to_string(root.path().join("a/cgroup.subtree_control")).unwrap(), "+memory");
    assert!(!root.path().join("a/b").exists(), "what was made is gone");
}

/// Who gives up removes the parents that it made, while another counts on them.
#[test]
fn parents_that_somebody_removes_meanwhile_are_made_again() {
    let root = tempfile::tempdir().unwrap();
    let freezer = root.path().join("freezer");
    fs::create_dir(&freezer).unwrap();
    let line = format!("37 31 0:34 / {} rw,relatime - cgroup cgroup rw,freezer\n", freezer.display());
    let layout = Layout::parse(&line).unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);

    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = fs::remove_dir(freezer.join("a/b"));
                let _ = fs::remove_dir(freezer.join("a"));
            }
        });
        let one = |_| {
            let made = Cgroup::create(&layout, "/a/b/c", &LinuxResources::default(), Accounting::Yes);
            (made.map(|_| ()), fs::remove_dir(freezer.join("a/b/c")))
        };
        let all: Vec<_> = (0..500).map(one).collect();
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        for (made, removed) in all {
            made.unwrap();
            removed.unwrap();
        }
    });
}

#[test]
fn a_limit_without_delegation_names_what_is_missing_and_a_default_is_dropped() {
    let layout = Layout::parse(HYBRID).unwrap();
    let none = LinuxResources::default();

    let error = Cgroup::create_rootless(&layout, "/strata/x", &limits(), &none).unwrap_err();
    let made = Cgroup::create_rootless(&layout, "/strata/x", &none, &limits()).unwrap();

    let reason = "rootless limits need cgroup v2, and this host has v1";
    assert_eq!(error.to_string(), format!("cannot apply linux.resources.memory.limit: {reason}"));
    assert_eq!(made.cgroup.directories().count(), 0);
    let dropped =
        ["memory.limit", "pids.limit"].map(|field| format!("linux.resources.{field} is not applied: {reason}"));
    assert_eq!(made.dropped, dropped);
}
