//! A host that systemd runs: what asks it for cgroups, and those who must get along with it.

use std::{fs, path::PathBuf, sync::OnceLock};

use crate::{job::Job, machine::Machine, root::made};

#[test]
#[ignore = "boots Debian with systemd: make test-systemd"]
fn systemd_runs_the_guest_and_answers() {
    assert_eq!(guest().done("first").output, "systemd\n");
    assert_eq!(guest().done("bus").output, "active\n");
}

#[test]
#[ignore = "boots Debian with systemd: make test-systemd"]
fn containers_run_beside_the_units_of_systemd() {
    guest().passes("conformance");
}

#[test]
#[ignore = "boots Debian with systemd: make test-systemd"]
fn the_systemd_driver_makes_scopes_for_root_and_for_users() {
    guest().passes("driver");
}

#[test]
#[ignore = "boots Debian with systemd: make test-systemd"]
fn the_engines_unit_tests_of_cgroups_pass_beside_systemd() {
    guest().passes("records");
}

#[test]
#[ignore = "boots Debian with systemd: make test-systemd"]
fn the_package_is_installed_and_its_sockets_wait() {
    guest().done("installed");
}

#[test]
#[ignore = "boots Debian with systemd: make test-systemd"]
fn who_connects_has_a_service_started_by_systemd() {
    guest().done("socket");
}

#[test]
#[ignore = "boots Debian with systemd: make test-systemd"]
fn containers_go_on_while_services_are_restarted_killed_and_upgraded() {
    guest().done("restart");
}

#[test]
#[ignore = "boots Debian with systemd: make test-systemd"]
fn containers_are_started_again_at_boot_without_anybody_asking() {
    guest().done("boot");
}

#[test]
#[ignore = "boots Debian with systemd: make test-systemd"]
fn an_ordinary_user_has_services_of_her_own_by_socket() {
    guest().done("user");
}

#[test]
#[ignore = "boots Debian with systemd: make test-systemd"]
fn a_package_that_is_purged_leaves_volumes_and_nothing_else() {
    guest().done("removed");
}

#[test]
#[ignore = "boots Debian with systemd: make test-systemd"]
fn systemd_is_well_after_the_containers() {
    assert_eq!(guest().done("failed").output, "");
}

#[test]
#[ignore = "boots Debian with systemd: make test-systemd"]
fn the_systemd_driver_makes_scopes_on_v1_too() {
    let tests = Job::tests("driver", "runtime/oci/tests/conformance/main.rs", &["hybrid::", "--ignored"]);
    let words = "systemd.unified_cgroup_hierarchy=0";

    let guest = Machine::boot_with(words, &made("images/debian-systemd.tar"), &[tests]);

    guest.passes("driver");
}

/// What `make deb` has made: the newest, should there be several.
fn package() -> PathBuf {
    let packages = fs::read_dir(made("deb")).expect("its folder can be read").flatten().map(|entry| entry.path());
    let packages = packages.filter(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let age = |path: &PathBuf| fs::metadata(path).and_then(|found| found.modified()).ok();
    packages.max_by_key(age).expect("`make deb` makes a package; `make test-systemd` does that first")
}

fn guest() -> &'static Machine {
    static GUEST: OnceLock<Machine> = OnceLock::new();
    GUEST.get_or_init(|| {
        Machine::boot(
            &made("images/debian-systemd.tar"),
            &[
                Job::new("first", "cat /proc/1/comm"),
                Job::new("bus", "systemctl is-active dbus.socket"),
                Job::tests("conformance", "runtime/oci/tests/conformance/main.rs", &["operations::"]),
                Job::tests("driver", "runtime/oci/tests/conformance/main.rs", &["systemd::", "--ignored"]),
                Job::tests("records", "runtime/oci/src/lib.rs", &["cgroup::record::"]),
                Job::new("installed", "sh /vm/units.sh installed").with(package(), "/vm/strata.deb"),
                Job::new("socket", "sh /vm/units.sh socket"),
                Job::new("restart", "sh /vm/units.sh restart"),
                Job::new("boot", "sh /vm/units.sh boot"),
                Job::new("user", "sh /vm/units.sh user"),
                Job::new("removed", "sh /vm/units.sh removed"),
                Job::new("failed", "systemctl --failed --no-legend --plain"),
            ],
        )
    })
}
