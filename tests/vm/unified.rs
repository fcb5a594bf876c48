//! cgroup v2 as the only hierarchy, and overlays by the mount call that kernels before 6.8 have.

use std::sync::OnceLock;

use crate::{job::Job, machine::Machine};

#[test]
fn the_guest_has_cgroup_v2_alone() {
    assert_eq!(guest().done("hierarchies").output, "cgroup2 /sys/fs/cgroup\n");
}

#[test]
fn the_engines_unit_tests_of_cgroups_pass() {
    guest().passes("engine");
}

#[test]
fn containers_join_their_cgroups() {
    guest().passes("init");
}

#[test]
fn overlays_of_the_old_mount_call_are_as_those_of_the_new_one() {
    guest().passes("overlays");
}

#[test]
fn snapshots_are_mounted() {
    guest().passes("trees");
}

#[test]
fn the_engines_conformance_tests_of_cgroups_and_devices_pass() {
    guest().passes("conformance");
}

#[test]
fn sixty_layers_are_built_and_run_and_limits_hold() {
    guest().passes("product");
}

#[test]
fn no_cgroup_of_a_container_is_left() {
    assert_eq!(guest().done("left").output, "");
}

fn guest() -> &'static Machine {
    static GUEST: OnceLock<Machine> = OnceLock::new();
    GUEST.get_or_init(|| {
        Machine::boot(
            &strata_tests::debian(),
            &[
                Job::new("hierarchies", "awk '$3 ~ /^cgroup/ {print $3, $2}' /proc/mounts"),
                Job::tests("engine", "runtime/oci/src/lib.rs", &["cgroup::"]),
                Job::tests("init", "runtime/init/tests/container/main.rs", &["cgroups::"]),
                Job::tests("overlays", "runtime/init/src/lib.rs", &["overlay::"]),
                Job::tests("trees", "store/src/lib.rs", &["tree::"]),
                Job::tests(
                    "conformance",
                    "runtime/oci/tests/conformance/main.rs",
                    &["cgroups::", "a_container_goes_from_created"],
                ),
                Job::tests("product", "tests/e2e/main.rs", &["sixty_layers", "limits::", "pauses::"]),
                // The runtime service keeps the one that its containers are below.
                Job::new(
                    "left",
                    "find /sys/fs/cgroup -mindepth 1 -type d ! -path '*/system.slice*' ! -path /sys/fs/cgroup/strata",
                ),
            ],
        )
    })
}
