//! Which limits containers can have here.

use std::path::Path;

use strata_proto::runtime::v1::Finding;

use super::{notice, problem, read};

/// Controllers that limits of everyday need, and the flags that need them.
const CONTROLLERS: [(&str, &str); 3] = [("cpu", "--cpus"), ("memory", "--memory"), ("pids", "--pids-limit")];

/// What limits of a user's containers lack, or of root's. `root` is "/", but for tests.
pub fn findings(root: &Path, uid: u32) -> Vec<Finding> {
    let table = read(&root.join("proc/self/mountinfo"));
    let has = |kind: &str| table.lines().any(|line| line.contains(&format!(" - {kind} ")));
    if !has("cgroup") && !has("cgroup2") {
        let what =
            "no hierarchy of cgroups is mounted: containers do not start for root, and have no limits for others";
        return vec![problem(what, "mount -t cgroup2 none /sys/fs/cgroup, which systemd does at boot")];
    }
    match (uid, has("cgroup")) {
        (0, true) => missing(enabled(&read(&root.join("proc/cgroups")))),
        (0, false) => missing(words(&read(&root.join("sys/fs/cgroup/cgroup.controllers")))),
        (_, true) => vec![notice(
            "this host has cgroups of version 1, which are root's alone: containers of a user have no limits",
            "boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line",
        )],
        (_, false) => delegated(root, uid),
    }
}

/// Names in the table of proc(5), cgroups, that are enabled.
fn enabled(table: &str) -> Vec<String> {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    let fields = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|fields| fields.get(3) == Some(&"1")).map(|fields| fields[0].to_owned()).collect()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn missing(there: Vec<String>) -> Vec<Finding> {
    // Nothing can be told from nothing.
    if there.is_empty() {
        return Vec::new();
    }
    let lacking = CONTROLLERS.iter().filter(|(name, _)| !there.iter().any(|one| one == name));
    let tell = |(name, flag): &(&str, &str)| {
        notice(
            format!("the kernel does not limit {name}: {flag} is an error"),
            format!("boot with cgroup_enable={name} on the kernel's command line"),
        )
    };
    lacking.map(tell).collect()
}

/// What systemd lets a user have.
fn delegated(root: &Path, uid: u32) -> Vec<Finding> {
    let manager = root.join(format!("sys/fs/cgroup/user.slice/user-{uid}.slice/user@{uid}.service"));
    if !manager.exists() {
        return vec![notice(
            "no manager of this user's services runs, which would share out cgroups: containers have no limits",
            "log in through systemd (ssh, a console), or `loginctl enable-linger`; with sudo or su there is none",
        )];
    }
    let there = words(&read(&manager.join("cgroup.controllers")));
    let lacking: Vec<&str> =
        CONTROLLERS.iter().map(|(name, _)| *name).filter(|name| !there.iter().any(|one| one == name)).collect();
    if lacking.is_empty() {
        return Vec::new();
    }
    vec![notice(
        format!("this user may not limit {}: such limits of containers are errors", lacking.join(", ")),
        "as root: mkdir -p /etc/systemd/system/user@.service.d; printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' \
         >/etc/systemd/system/user@.service.d/delegate.conf; systemctl daemon-reload; then log in anew",
    )]
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TWO: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const ONE: &str = "31 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[track_caller]
    fn told(root: &tempfile::TempDir, uid: u32, words: &[&str]) {
        let found = findings(root.path(), uid);
        assert_eq!(found.len(), words.len(), "{found:?}");
        for (finding, word) in found.iter().zip(words) {
            assert!(finding.what.contains(word) && !finding.fix.is_empty(), "{finding:?}");
        }
    }

    #[test]
    fn controllers_that_are_off_are_named() {
        told(&host(&[]), 0, &["no hierarchy"]);
        let table = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t2\t1\nmemory\t0\t1\t0\npids\t8\t2\t1\n";
        told(&host(&[("proc/self/mountinfo", ONE), ("proc/cgroups", table)]), 0, &["memory: --memory"]);
        let two =
            |controllers| host(&[("proc/self/mountinfo", TWO), ("sys/fs/cgroup/cgroup.controllers", controllers)]);
        told(&two("cpuset cpu io memory pids\n"), 0, &[]);
        told(&two("cpuset cpu io pids\n"), 0, &["memory"]);
    }

    #[test]
    fn a_user_is_told_what_is_not_delegated() {
        told(&host(&[("proc/self/mountinfo", ONE)]), 1000, &["version 1"]);
        told(&host(&[("proc/self/mountinfo", TWO)]), 1000, &["no manager"]);
        let file = "sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/cgroup.controllers";
        told(&host(&[("proc/self/mountinfo", TWO), (file, "memory pids\n")]), 1000, &["may not limit cpu:"]);
        told(&host(&[("proc/self/mountinfo", TWO), (file, "cpu memory pids\n")]), 1000, &[]);
    }
}
