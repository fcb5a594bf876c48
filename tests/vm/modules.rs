//! What needs modules of the kernel that the machine of the tests may lack: disks with project quotas, interfaces on others,
//! NFS.

use std::sync::OnceLock;

use crate::{job::Job, machine::Machine};

#[test]
fn what_containers_and_volumes_may_take_of_a_disk_is_limited() {
    guest().passes("quotas");
}

#[test]
fn numbers_of_projects_are_taken_and_given_back() {
    guest().passes("projects");
}

#[test]
fn containers_are_on_ipvlan_and_on_vlans() {
    guest().passes("ipvlan");
}

#[test]
fn volumes_of_servers_are_mounted_while_containers_run() {
    guest().passes("servers");
}

fn guest() -> &'static Machine {
    static GUEST: OnceLock<Machine> = OnceLock::new();
    GUEST.get_or_init(|| {
        Machine::boot(
            &strata_tests::debian(),
            &[
                Job::tests("quotas", "tests/e2e/main.rs", &["quotas::", "--include-ignored"]),
                Job::tests("projects", "runtime/init/src/lib.rs", &["quota::", "--include-ignored"]),
                Job::tests("ipvlan", "tests/e2e/main.rs", &["ipvlan::", "--include-ignored"]),
                Job::tests("servers", "tests/e2e/main.rs", &["volumes_of_servers::", "--include-ignored"]),
            ],
        )
    })
}
