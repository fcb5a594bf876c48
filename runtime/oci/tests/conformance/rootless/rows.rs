//! Rows of the security research about user namespaces and the files of ordinary users.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use serde_json::{Value, json};

use super::{Rootless, USER, as_user, give, map_ids, without_namespaces};
use crate::bundle::Bundle;

/// Row 7 (CVE-2016-9962): while it enters, an exec is out of reach for the root of the container, whose own it joins as.
#[test]
fn row_7_cve_2016_9962_a_users_exec_leaves_the_container_no_process_of_the_host() {
    let bundle = Rootless::new("exec sleep 100", |_| {});
    bundle.create();
    bundle.strata(&["start", "c"]).unwrap();

    let said = bundle.strata(&["exec", "c", "/bin/sh", "-c", "ls -d /proc/[0-9]*; ls -l /proc/self/fd"]).unwrap();

    let processes = said.lines().filter(|line| line.starts_with("/proc/")).count();
    // sleep, sh and ls.
    assert!(processes <= 3, "{said}");
    let outside =
        |line: &&str| line.contains("->") && !["pipe:", "/dev/null", "/proc/"].iter().any(|one| line.contains(one));
    assert_eq!(said.lines().filter(outside).count(), 0, "{said}");
}

/// Row 17 (CVE-2023-25809): the cgroups of the host, where the user may own some, are read-only in every way they show.
#[test]
fn row_17_cve_2023_25809_cgroups_of_the_host_are_read_only_for_a_rootless_container() {
    let bundle = Rootless::new(
        "for d in $(ls -d /sys/fs/cgroup /sys/fs/cgroup/*); do mkdir $d/strata-x 2>&1; \
         echo 0 2>&1 > $d/cgroup.procs; done; true",
        |spec| {
            without_namespaces(spec, &["network", "cgroup"]);
            spec["linux"]["sysctl"] = json!({});
        },
    );

    let output = bundle.call(&["run", "--bundle", bundle.bundle.dir(), "c"]);

    let refused = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(refused.lines().count() >= 2, "{refused}");
    let is_refused = |line: &str| line.contains("Read-only file system");
    assert!(refused.lines().all(is_refused), "{refused}");
}

/// Row 39 (CVE-2021-21284): root of the container's user namespace finds nothing to write, or to read, of the engine's.
#[test]
fn row_39_cve_2021_21284_the_mapped_root_reaches_nothing_below_the_state_directory() {
    const MAPPED: u32 = 1_700_000;
    let bundle = Bundle::new("exec sleep 100", |spec| {
        map_ids(spec, MAPPED);
        spec["linux"]["sysctl"] = json!({});
    });
    give(&bundle.path("rootfs"), MAPPED);
    assert!(bundle.create(), "{}", fs::read_to_string(bundle.path("output")).unwrap());
    assert!(bundle.path("state/c/exec.fifo").exists());

    let found = find(MAPPED, &bundle.path("state"));
    bundle.strata(&["start", "c"]).unwrap();

    assert_eq!(found, "", "as the mapped root");
    assert_eq!(bundle.status(), "running");
}

/// Row 40 (CVE-2021-41091, CVE-2024-25621): other users do not get into state directories, root's or a user's.
#[test]
fn row_40_cve_2021_41091_nobody_else_looks_into_state_directories() {
    const NOBODY: u32 = 65534;
    let of_root = Bundle::new("exec sleep 100", |_| {});
    let of_user = Rootless::new("exec sleep 100", |_| {});
    of_root.start();
    of_user.create();

    for state in [of_root.path("state"), of_user.bundle.path("state")] {
        assert_eq!(find(NOBODY, &state), "", "as nobody");
        for directory in [state.clone(), state.join("c")] {
            let mode = fs::metadata(&directory).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}: {mode:o}", directory.display());
        }
    }
}

/// What a user finds below a directory, the directory itself excepted.
fn find(uid: u32, directory: &Path) -> String {
    let output = as_user(uid, "find").arg(directory).args(["-mindepth", "1"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied"), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Row 41 (CVE-2022-36109, CVE-2022-2989): groups that cannot be had are an error, and none of the host's stays.
#[test]
fn row_41_cve_2022_36109_supplementary_groups_are_refused_where_setgroups_is_denied() {
    let asked = Rootless::new("id -G", |spec| spec["process"]["user"]["additionalGids"] = json!([0]));
    let none = Rootless::new("id -G", |_| {});

    let error = asked.refused();

    assert!(error.contains("process.user.additionalGids: none can be set"), "{error}");
    assert_eq!(none.output(), "0\n");
}

/// Row 51: what root of a user namespace makes set-user-id on a bind mount does not belong to root on the host.
#[test]
fn row_51_a_set_user_id_file_made_in_a_user_namespace_is_not_roots_on_the_host() {
    const MAPPED: u32 = 1_700_000;
    let script = "touch /shared/x && chmod 4755 /shared/x && stat -c %u:%a /shared/x";
    let share = |spec: &mut Value, source: &Path| {
        let mount = json!({"destination": "/shared", "type": "bind", "source": source, "options": ["rbind", "rw"]});
        spec["mounts"].as_array_mut().unwrap().push(mount);
    };
    let of_user = Rootless::new(script, |spec| share(spec, Path::new("shared")));
    fs::create_dir(of_user.bundle.path("shared")).unwrap();
    give(&of_user.bundle.path("shared"), USER);
    let of_root = Bundle::new(script, |spec| {
        map_ids(spec, MAPPED);
        spec["linux"]["sysctl"] = json!({});
        share(spec, Path::new("shared"));
    });
    fs::create_dir(of_root.path("shared")).unwrap();
    give(&of_root.path("shared"), MAPPED);
    give(&of_root.path("rootfs"), MAPPED);

    assert_eq!([of_user.output(), of_root.output()], ["0:4755\n", "0:4755\n"]);

    assert_eq!(fs::metadata(of_user.bundle.path("shared/x")).unwrap().uid(), USER);
    assert_eq!(fs::metadata(of_root.path("shared/x")).unwrap().uid(), MAPPED);
}
