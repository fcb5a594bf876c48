//! Id maps of a new user namespace, written from outside: by hand where the kernel lets this process,
//! else by newuidmap(1) and newgidmap(1), which check the ranges of /etc/subuid and /etc/subgid.

use crate::failure::{Attempt, Failure};
use crate::plan::{IdMap, Namespace, Plan};
use crate::spawn::write_map;
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the helpers are looked for; the PATH of the caller has no say in what is executed.
const DIRECTORIES: [&str; 5] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"];

/// One kind of ids.
struct Kind {
    /// The file below /proc/<pid>.
    file: &'static str,
    helper: &'static str,
    /// With this capability any map may be written.
    capability: CapabilitySet,
    /// The id that may be mapped without it.
    own: u32,
}

/// Says whether this process may do in its user namespace what mounting takes.
pub(crate) fn is_privileged() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Says what forbids a user namespace, which the error number of a clone alone does not.
pub(crate) fn explain_clone(plan: &Plan, errno: Errno) -> Failure {
    match plan.namespaces.user {
        Namespace::New => explain("clone the process", errno),
        _ => Failure::of("clone the process", errno),
    }
}

/// The same for a step that makes nothing but a user namespace.
pub(crate) fn explain(step: &str, errno: Errno) -> Failure {
    let failure = Failure::of(step, errno);
    let setting = match errno {
        Errno::PERM => "kernel.unprivileged_userns_clone",
        Errno::NOSPC => "user.max_user_namespaces, or 32 of them inside each other",
        _ => return failure,
    };
    Failure { text: format!("{}: no user namespace is allowed here ({setting})", failure.text), ..failure }
}

/// Writes both maps of the user namespace that process `pid` was made in.
pub(crate) fn write(pid: u32, plan: &Plan) -> Result<(), Failure> {
    let [uids, gids] = kinds();
    uids.write(pid, &plan.uid_map)?;
    gids.write(pid, &plan.gid_map)
}

/// The same where the own id alone will do: a map that cannot be had is told of, and not missed.
pub(crate) fn write_or_own(pid: u32, uid_map: &[IdMap], gid_map: &[IdMap]) -> Result<(), Failure> {
    let [uids, gids] = kinds();
    for (kind, map) in [(uids, uid_map), (gids, gid_map)] {
        let Err(failure) = kind.write(pid, map) else { continue };
        let _ = writeln!(std::io::stderr(), "strata-init: {failure}; going on with the own id alone");
        kind.write(pid, &[IdMap { inside: 0, outside: kind.own, count: 1 }])?;
    }
    Ok(())
}

fn kinds() -> [Kind; 2] {
    let uids = Kind {
        file: "uid_map",
        helper: "newuidmap",
        capability: CapabilitySet::SETUID,
        own: rustix::process::geteuid().as_raw(),
    };
    let gids = Kind {
        file: "gid_map",
        helper: "newgidmap",
        capability: CapabilitySet::SETGID,
        own: rustix::process::getegid().as_raw(),
    };
    [uids, gids]
}

impl Kind {
    fn write(&self, pid: u32, map: &[IdMap]) -> Result<(), Failure> {
        let effective = capabilities(None).attempt(|| "read capabilities".into())?.effective;
        if effective.contains(self.capability) {
            return write_map(pid, self.file, map);
        }
        if !is_own_id(map, self.own) {
            return by_helper(pid, self, map);
        }
        if self.file == "gid_map" {
            // user_namespaces(7): without CAP_SETGID outside, groups must be given up first.
            fs::write(format!("/proc/{pid}/setgroups"), "deny").attempt(|| "deny setgroups".into())?;
        }
        write_map(pid, self.file, map)
    }
}

/// The one map that user_namespaces(7) lets everybody write.
fn is_own_id(map: &[IdMap], own: u32) -> bool {
    matches!(map, [IdMap { outside, count: 1, .. }] if *outside == own)
}

fn by_helper(pid: u32, kind: &Kind, map: &[IdMap]) -> Result<(), Failure> {
    let step = || format!("write {} by {}", kind.file, kind.helper);
    let program = find(kind.helper, &DIRECTORIES).ok_or_else(|| {
        Failure::new(step(), "it is not installed (Debian: uidmap), and without it a user can map the own id alone")
    })?;
    let mut command = Command::new(program);
    command.args(arguments(pid, map)).env_clear().current_dir("/");
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).output().attempt(step)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(step(), said.trim().replace('\n', "; ")))
}

fn find(name: &str, directories: &[&str]) -> Option<PathBuf> {
    directories.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
}

fn arguments(pid: u32, map: &[IdMap]) -> Vec<String> {
    let ids = map.iter().flat_map(|IdMap { inside, outside, count }| [*inside, *outside, *count]);
    [pid].into_iter().chain(ids).map(|number| number.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn line(inside: u32, outside: u32, count: u32) -> IdMap {
        IdMap { inside, outside, count }
    }

    #[test]
    fn the_helpers_get_the_process_and_three_numbers_for_each_line() {
        let map = [line(0, 1000, 1), line(1, 100_000, 65_536)];

        assert_eq!(arguments(42, &map), ["42", "0", "1000", "1", "1", "100000", "65536"]);
    }

    #[test]
    fn only_the_own_id_alone_needs_no_helper() {
        assert!(is_own_id(&[line(0, 1000, 1)], 1000));
        assert!(is_own_id(&[line(7, 1000, 1)], 1000));

        for other in [vec![], vec![line(0, 1001, 1)], vec![line(0, 1000, 2)], vec![line(0, 1000, 1), line(1, 1001, 1)]]
        {
            assert!(!is_own_id(&other, 1000), "{other:?}");
        }
    }

    #[test]
    fn helpers_are_found_in_the_given_directories_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        assert_eq!(find("newuidmap", &["/nonexistent", path]), None);

        fs::write(directory.path().join("newuidmap"), "").unwrap();

        assert_eq!(find("newuidmap", &["/nonexistent", path]), Some(directory.path().join("newuidmap")));
    }
}
