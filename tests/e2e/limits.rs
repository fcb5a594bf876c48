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

#[test]
fn limits_of_a_container_that_runs_are_changed() {
    let house = House::with_guest();
    let sleep = ["guest", "/guest", "sleep", "300"];
    house.ctl(&[&["run", "-d", "--network", "none", "--name", "one"], &sleep[..]].concat()).ok();
    house.ctl(&[&["create", "--network", "none", "--name", "two", "--cpus", "1"], &sleep[..]].concat()).ok();

    let done = house.ctl(&["update", "--memory", "64m", "--pids-limit", "20", "one", "absent", "two"]).code(1);

    assert_eq!(done.text(), "one\ntwo");
    done.complains(&["no such container: absent"]);
    house.ctl(&["exec", "one", "/guest", "memhog", "200"]).code(137);
    house.ctl(&["exec", "one", "/guest", "fork", "30"]).code(1).says(&["Resource temporarily unavailable"]);
    let host = |name: &str| house.ctl(&["inspect", name]).ok().json()[0]["HostConfig"].clone();
    assert_eq!((&host("two")["Memory"], &host("two")["MemorySwap"]), (&(64 << 20).into(), &(128 << 20).into()));
    house.ctl(&["container", "update", "--pids-limit", "-1", "--memory", "0", "one"]).ok();
    house.ctl(&["exec", "one", "/guest", "fork", "30"]).ok().says(&["made 30"]);
    assert_eq!((&host("one")["Memory"], &host("one")["PidsLimit"]), (&0.into(), &serde_json::Value::Null));
    house.ctl(&["update", "--cpu-quota", "5000", "two"]).code(1).complains(&["--cpu-quota", "conflicting options"]);
    house.ctl(&["update", "--cpuset-cpus", "8191", "one"]).code(1).complains(&["--cpuset-cpus"]);
    house.ctl(&["update", "one"]).code(125).complains(&["you must provide one or more flags"]);
    // No host of the tests gives a container real time: cgroup v2 has none, and v1 gives it to nobody unasked.
    house
        .ctl(&["update", "--cpu-rt-runtime", "950000", "--cpu-rt-period", "1000000", "one"])
        .code(1)
        .complains(&["--cpu-rt-"]);
    house
        .ctl(&["update", "--cpu-rt-runtime", "10", "--cpu-rt-period", "5", "two"])
        .code(1)
        .complains(&["--cpu-rt-runtime"]);
    house.ctl(&["update", "--cpu-rt-period", "500000", "two"]).ok();
    assert_eq!(host("two")["CpuRealtimePeriod"], 500_000);
    house.ctl(&["rm", "-f", "one", "two"]).ok();
}

#[test]
fn limits_of_swap_shares_and_sets_are_those_that_were_asked_for() {
    let house = House::with_guest();
    let flags = [
        "-m",
        "64m",
        "--memory-swap",
        "-1",
        "--memory-reservation",
        "32m",
        "--cpu-quota",
        "20000",
        "--cpu-period",
        "100000",
        "-c",
        "512",
        "--cpuset-cpus",
        "0",
    ];

    let used: u64 = house.guest_with(&flags, &["spin", "2000"]).ok().text().parse().unwrap();

    assert!((150..800).contains(&used), "a fifth of a processor for two seconds gave {used} ms");
    house.guest_with(&["--memory-swap", "1g"], &["noop"]).code(125).complains(&["--memory-swap", "limit of memory"]);
    house.guest_with(&["--cpuset-cpus", "8191"], &["noop"]).code(125).complains(&["--cpuset-cpus"]);
    house.guest_with(&["--cpus", "1", "--cpu-period", "5000"], &["noop"]).code(125).complains(&["--cpu-period"]);
}
