//! A host that systemd runs: what asks it for cgroups, and those who must get along with it.

use std::sync::OnceLock;

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
                Job::new("failed", "systemctl --failed --no-legend --plain"),
            ],
        )
    })
}
