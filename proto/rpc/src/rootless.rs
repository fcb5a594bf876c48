//! Services of an ordinary user: those that mount or own files of many ids run as root of a user namespace that they
//! share, which `strata-init userns` makes or joins. The others stay outside.
//!
//! Nothing is set up for it: without subordinate ids, or without newuidmap(1), the namespace has the user's own id alone.

use std::{env, fs, io, os::unix::process::CommandExt, path::Path};

use tokio::process::Command;

use crate::paths;

/// Set for services in the namespace, where everybody's id looks like root's: their paths are the user's.
pub(crate) const VARIABLE: &str = "STRATA_ROOTLESS";

/// The kernel takes at most so many lines: user_namespaces(7).
const LONGEST_MAP: usize = 340;

/// Says whether services that need privileges have to get them from a user namespace.
pub(crate) fn is_needed() -> bool {
    !rustix::process::geteuid().is_root()
}

/// A command that runs `binary` in the user namespace of the services.
pub(crate) fn command(binary: &Path) -> io::Result<Command> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let name = user_name(&read("/etc/passwd"), uid);
    let map = |id: u32, file: &str| map(id, &ranges(&read(file), uid, name.as_deref()));
    let mut command = Command::new(paths::sibling("strata-init")?);
    command.arg("userns").arg(map(uid, "/etc/subuid")).arg(map(gid, "/etc/subgid"));
    command.arg(paths::run_dir().join("userns")).arg(binary);
    command.env(VARIABLE, uid.to_string()).env("STRATA_RUN", paths::run_dir());
    Ok(command)
}

/// Executes this program again in the user namespace of the services, with the same arguments and the same standard input.
/// Returns only when that fails, with why.
pub(crate) fn enter() -> io::Error {
    let made = env::current_exe().and_then(|binary| command(&binary));
    match made {
        Ok(command) => command.into_std().args(env::args_os().skip(1)).exec(),
        Err(error) => error,
    }
}

/// Says whether this process is a service in such a namespace.
pub(crate) fn is_inside() -> bool {
    env::var_os(VARIABLE).is_some()
}

/// Files that are not there say nothing.
fn read(path: &str) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    let id = uid.to_string();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(&id)).then(|| name.to_owned())
    })
}

/// The ranges of a user in subuid(5) or subgid(5), as (first, count).
fn ranges(file: &str, uid: u32, name: Option<&str>) -> Vec<(u32, u32)> {
    let id = uid.to_string();
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let (first, count): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let is_ours = owner == id || Some(owner) == name;
        (is_ours && count > 0 && first.checked_add(count).is_some()).then_some((first, count))
    };
    let mut found: Vec<(u32, u32)> = Vec::new();
    for (first, count) in file.lines().filter_map(range) {
        // The kernel refuses a map that has an id twice.
        if found.iter().all(|(other, length)| first >= other + length || other >= &(first + count)) {
            found.push((first, count));
        }
    }
    found.truncate(LONGEST_MAP - 1);
    found
}

/// Root is the user, the ids from 1 on are the subordinate ones.
fn map(own: u32, ranges: &[(u32, u32)]) -> String {
    let mut map = format!("0:{own}:1");
    let mut inside: u32 = 1;
    for (first, count) in ranges {
        let Some(next) = inside.checked_add(*count) else { break };
        map += &format!(",{inside}:{first}:{count}");
        inside = next;
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_belong_to_a_name_or_a_number() {
        let file = "ann:100000:65536\n# bob\nbob:1:2:\n1000:300000:10\nann:200000:0\nann:x:1\nann\nann:165530:10\n";

        assert_eq!(ranges(file, 1000, Some("ann")), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(ranges(file, 7, None), []);
        assert_eq!(ranges("7:4294967295:2", 7, None), []);
    }

    #[test]
    fn the_user_is_root_and_the_rest_follows() {
        assert_eq!(map(1000, &[]), "0:1000:1");
        assert_eq!(map(1000, &[(100_000, 65_536), (300_000, 10)]), "0:1000:1,1:100000:65536,65537:300000:10");
    }

    #[test]
    fn a_name_is_found_by_its_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";

        assert_eq!(user_name(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(user_name(passwd, 1001), None);
    }
}
