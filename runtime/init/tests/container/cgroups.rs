//! Which cgroups a process is in when its program begins.

use crate::harness::*;
use std::path::{Path, PathBuf};
use strata_init::plan::*;
use strata_init::wire::Frame;

/// A cgroup in each of some hierarchies; goes with the test.
struct Groups(Vec<PathBuf>);

impl Groups {
    /// Makes those of the hierarchies that this host has; the hybrid's v2 is one of them.
    fn make(name: &str, hierarchies: &[&str]) -> Self {
        let mut groups = Self(Vec::new());
        for hierarchy in hierarchies.iter().map(|name| Path::new("/sys/fs/cgroup").join(name)) {
            if hierarchy.join("cgroup.procs").exists() {
                groups.0.push(hierarchy.join(format!("strata-init-{name}-{}", std::process::id())));
                std::fs::create_dir(groups.0.last().unwrap()).unwrap();
            }
        }
        groups
    }

    fn procs(&self) -> Vec<PathBuf> {
        self.0.iter().map(|path| path.join("cgroup.procs")).collect()
    }

    /// Says how many of the lines of /proc/<pid>/cgroup name one of these.
    fn count(&self, text: &str) -> usize {
        let name = self.0[0].file_name().unwrap().to_str().unwrap();
        text.lines().filter(|line| line.ends_with(name)).count()
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for path in &self.0 {
            // The kernel says EBUSY for a moment after the last process ended.
            eventually("removing the cgroup", || std::fs::remove_dir(path).is_ok() || !path.exists());
        }
    }
}

#[test]
fn a_program_begins_in_its_cgroups_of_every_hierarchy_and_without_their_files() {
    let bench = Bench::new();
    let groups = Groups::make("run", &["freezer", "pids", "unified", ""]);
    let mut plan = bench.shell("cat /proc/self/cgroup; ls -l /proc/self/fd");
    plan.namespaces.cgroup = Namespace::Host;
    plan.cgroups.procs = groups.procs();

    let (code, text) = bench.run(&plan);

    assert_eq!((code, groups.count(&text)), (0, groups.0.len()), "{text}");
    assert!(!text.contains("tasks") && !text.contains("cgroup.procs"), "{text}");
}

#[test]
fn a_process_of_a_user_namespace_joins_with_the_rights_of_its_maker() {
    let bench = Bench::new();
    let groups = Groups::make("user", &["freezer", "unified", ""]);
    let mut plan = bench.shell("cat /proc/self/cgroup");
    plan.namespaces.cgroup = Namespace::Host;
    plan.namespaces.user = Namespace::New;
    plan.uid_map = vec![IdMap { inside: 0, outside: 100_000, count: 65_536 }];
    plan.gid_map = plan.uid_map.clone();
    plan.steps.retain(|step| !matches!(step, Step::Device { .. } | Step::Sysctl { .. }));
    for name in ["", "upper", "work", "lower"] {
        std::os::unix::fs::chown(bench.path(name), Some(100_000), Some(100_000)).unwrap();
    }
    plan.cgroups.procs = groups.procs();

    let (code, text) = bench.run(&plan);

    assert_eq!((code, groups.count(&text)), (0, groups.0.len()), "{text}");
}

#[test]
fn a_cgroup_namespace_has_the_joined_cgroups_as_its_roots() {
    let bench = Bench::new();
    let groups = Groups::make("namespace", &["freezer", "unified", ""]);
    let mut plan = bench.shell("grep -c ':/$' /proc/self/cgroup; grep -c . /proc/self/cgroup");
    plan.cgroups.procs = groups.procs();

    let (_, text) = bench.run(&plan);

    let counts: Vec<_> = text.lines().collect();
    assert_eq!(counts[0], counts[1]);
}

#[test]
fn a_process_of_an_exec_joins_too() {
    let bench = Bench::new();
    let groups = Groups::make("exec", &["freezer", "pids", "unified", ""]);
    let mut container = bench.shell("read line");
    container.streams.stdin = true;
    container.namespaces.cgroup = Namespace::Host;
    let mut first = bench.start(&container);
    let pid = first.ready();
    let (mut client, _) = Client::attach(&bench.path("control.sock"), true, false);
    first.go();
    let mut exec = bench.exec(pid, "cat /proc/self/cgroup");
    exec.cgroups.procs = groups.procs();

    let (code, text) = bench.run(&exec);

    assert_eq!((code, groups.count(&text)), (0, groups.0.len()), "{text}");
    client.send(&Frame::Signal { signal: 9 });
    assert_eq!(first.finish(), 137);
}

#[test]
fn a_cgroup_that_refuses_is_named_and_nothing_runs() {
    // A cpuset of v1 without processors takes nobody: ENOSPC.
    let groups = Groups::make("refused", &["cpuset"]);
    if groups.0.is_empty() {
        return;
    }
    let bench = Bench::new();
    let mut plan = bench.shell("echo it ran");
    plan.cgroups.procs = groups.procs();

    let mut monitor = bench.start(&plan);

    match monitor.receive() {
        Frame::Failed { step, errno, .. } => {
            assert!(step.starts_with("join cgroup /sys/fs/cgroup/cpuset/strata-init-refused"), "{step}");
            assert_eq!(errno, libc::ENOSPC);
        }
        other => panic!("not refused: {other:?}"),
    }
    assert_eq!(std::fs::read_to_string(groups.0[0].join("cgroup.procs")).unwrap(), "");
}
