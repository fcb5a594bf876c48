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
fn names_that_could_leave_the_parent_are_refused() {
    for bad in [
        "",
        "/",
        "x",
        "/x",
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
}

#[test]
fn any_v1_controller_makes_a_host_v1() {
    assert_eq!(Layout::parse(HYBRID).unwrap().version(), Version::V1);
    assert_eq!(Layout::parse(UNIFIED).unwrap().version(), Version::V2);
    assert!(matches!(Layout::parse("22 27 0:21 / /proc rw - proc proc rw\n"), Err(Error::NoHierarchy)));
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
