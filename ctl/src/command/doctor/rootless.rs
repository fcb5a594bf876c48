//! What an ordinary user's containers need that an administrator sets up.

use std::path::Path;

use strata_proto::runtime::v1::Finding;

use super::{notice, problem, read};

/// Settings of the kernel that forbid user namespaces with a value, and what allows them.
const FORBIDDEN: [(&str, &str, &str); 3] = [
    ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for strata-init with `userns,`",
    ),
];

/// Ids that images of distributions need.
const ENOUGH: u64 = 65_536;

/// Directories of programs.
const PROGRAMS: [&str; 6] = ["usr/bin", "bin", "usr/sbin", "sbin", "usr/local/bin", "usr/local/sbin"];

/// What a user lacks. `root` is "/", but for tests.
pub fn findings(root: &Path, uid: u32) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, value, fix) in FORBIDDEN {
        if read(&root.join("proc/sys").join(name)).trim() == value {
            let what = format!(
                "{} is {value}: users may not make user namespaces, and no container starts",
                name.replace('/', ".")
            );
            found.push(problem(what, format!("as root: {fix}")));
        }
    }
    let name = name_of(&read(&root.join("etc/passwd")), uid);
    let user = name.clone().unwrap_or_else(|| uid.to_string());
    found.extend(ids(root, uid, name.as_deref(), &user));
    if !has_program(root, "pasta") && !has_program(root, "slirp4netns") {
        found.push(notice(
            "neither pasta nor slirp4netns is installed: networks of this user have no way out",
            "as root: apt install passt",
        ));
    } else if !root.join("dev/net/tun").exists() {
        found.push(notice("there is no /dev/net/tun: networks of this user have no way out", "as root: modprobe tun"));
    }
    let first: u16 = read(&root.join("proc/sys/net/ipv4/ip_unprivileged_port_start")).trim().parse().unwrap_or(0);
    if first > 80 {
        found.push(notice(
            format!("ports below {first} are root's: this user cannot publish them"),
            "as root: sysctl -w net.ipv4.ip_unprivileged_port_start=80, or publish a higher port",
        ));
    }
    let has_systemd = root.join("run/systemd/system").exists();
    if has_systemd && !root.join("var/lib/systemd/linger").join(&user).exists() {
        found.push(notice(
            format!("user {user} does not linger: containers end with the last login, and none is started at boot"),
            format!("loginctl enable-linger {user}"),
        ));
    }
    found
}

/// Whether subordinate ids are there, and who hands them out.
fn ids(root: &Path, uid: u32, name: Option<&str>, user: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    let few = |file: &str| count(&read(&root.join("etc").join(file)), uid, name) < ENOUGH;
    let lacking: Vec<&str> = ["subuid", "subgid"].into_iter().filter(|file| few(file)).collect();
    if !lacking.is_empty() {
        found.push(notice(
            format!(
                "user {user} has fewer than {ENOUGH} ids in /etc/{}: files of images have one owner, and few images run",
                lacking.join(" and /etc/")
            ),
            format!("as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user} (a range that nobody has)"),
        ));
    }
    let programs: Vec<&str> =
        ["newuidmap", "newgidmap"].into_iter().filter(|program| !has_program(root, program)).collect();
    if !programs.is_empty() {
        found.push(notice(
            format!("{} is not installed: the ids of user {user} cannot be used", programs.join(" or ")),
            "as root: apt install uidmap",
        ));
    }
    found
}

fn has_program(root: &Path, name: &str) -> bool {
    PROGRAMS.iter().any(|directory| root.join(directory).join(name).exists())
}

fn name_of(passwd: &str, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|fields| fields.get(2) == Some(&uid.as_str())).map(|fields| fields[0].to_owned())
}

/// How many ids a user has in subuid(5) or subgid(5).
fn count(file: &str, uid: u32, name: Option<&str>) -> u64 {
    let uid = uid.to_string();
    let range = |line: &str| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [owner, _, count] = fields[..] else { return None };
        (owner == uid || Some(owner) == name).then(|| count.parse::<u64>().ok()).flatten()
    };
    file.lines().filter_map(range).sum()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_user_for_whom_all_was_set_up_is_told_nothing() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n"),
            ("etc/subuid", "ann:100000:65536\n"),
            ("etc/subgid", "1000:100000:32768\nann:200000:32768\n"),
            ("usr/bin/newuidmap", ""),
            ("usr/bin/newgidmap", ""),
            ("usr/bin/pasta", ""),
            ("dev/net/tun", ""),
            ("proc/sys/kernel/unprivileged_userns_clone", "1\n"),
            ("proc/sys/net/ipv4/ip_unprivileged_port_start", "80\n"),
            ("run/systemd/system/x", ""),
            ("var/lib/systemd/linger/ann", ""),
        ] {
            write(root.path(), path, text);
        }

        assert_eq!(findings(root.path(), 1000), []);
    }

    #[test]
    fn what_a_user_lacks_is_named_with_the_command_that_gives_it() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "etc/passwd", "ann:x:1000:1000::/home/ann:/bin/sh\n");
        write(root.path(), "etc/subuid", "ann:100000:10\nbob:1:65536\n");
        write(root.path(), "proc/sys/user/max_user_namespaces", "0\n");
        write(root.path(), "proc/sys/net/ipv4/ip_unprivileged_port_start", "1024\n");
        write(root.path(), "run/systemd/system/x", "");

        let found = findings(root.path(), 1000);

        for (what, fix) in [
            ("user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces"),
            ("/etc/subuid and /etc/subgid", "usermod --add-subuids"),
            ("newuidmap or newgidmap", "apt install uidmap"),
            ("neither pasta nor slirp4netns", "apt install passt"),
            ("ports below 1024", "ip_unprivileged_port_start=80"),
            ("ann does not linger", "loginctl enable-linger ann"),
        ] {
            assert!(found.iter().any(|one| one.what.contains(what) && one.fix.contains(fix)), "{what}: {found:?}");
        }
        assert_eq!(found.len(), 6, "{found:?}");
    }
}
