//! Limits: what a container may not exceed, on the cgroups that this machine has.

use strata_tests::House;

#[test]
fn memory_over_the_limit_is_the_end() {
    let house = House::with_guest();

    house.guest_with(&["-m", "64m"], &["memhog", "16"]).ok().says(&["held 16 MiB"]);
    house.guest_with(&["-m", "64m"], &["memhog", "200"]).code(137);
    house.ctl(&["run", "--name", "fat", "-m", "64m", "guest", "/guest", "memhog", "200"]).code(137);
    let state = house.ctl(&["inspect", "fat"]).ok().json();
    assert_eq!(state[0]["State"]["OOMKilled"], true, "{state:#}");
}

#[test]
fn processes_over_the_limit_are_refused() {
    let house = House::with_guest();

    house.guest_with(&["--pids-limit", "50"], &["fork", "10"]).ok().says(&["made 10"]);
    let refused = house.guest_with(&["--pids-limit", "5"], &["fork", "10"]).code(1);
    refused.says(&["made 4", "Resource temporarily unavailable"]);
}

#[test]
fn processor_time_is_what_was_asked_for() {
    let house = House::with_guest();

    let used: u64 = house.guest_with(&["--cpus", "0.2"], &["spin", "2000"]).ok().text().parse().unwrap();

    assert!((150..800).contains(&used), "0.2 processors for two seconds gave {used} ms");
}

#[test]
fn a_limit_that_makes_no_sense_is_refused_by_name() {
    let house = House::with_guest();

    house.guest_with(&["-m", "lots"], &["noop"]).code(125).complains(&["lots"]);
    house.guest_with(&["-m", "1k"], &["noop"]).code(125).complains(&["memory"]);
    house.guest_with(&["--cpus", "-1"], &["noop"]).code(125);
}
