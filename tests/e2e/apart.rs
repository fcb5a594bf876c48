//! Flags of what keeps a container apart, and of what it may use: each is seen from inside.

use std::{path::Path, time::Duration};

use strata_tests::{House, eventually};

const SOON: Duration = Duration::from_secs(20);

/// What the guest says, run with flags.
#[track_caller]
fn said(house: &House, flags: &[&str], words: &[&str]) -> String {
    house.guest_with(flags, words).ok().text().to_owned()
}

/// A guest that sleeps.
fn sleeper(house: &House, name: &str, flags: &[&str]) {
    let run = ["run", "-d", "--network", "none", "--name", name];
    house.ctl(&[&run[..], flags, &["guest", "/guest", "sleep", "300"]].concat()).ok();
}

#[test]
fn an_init_hands_signals_on_reaps_and_ends_as_its_program_does() {
    let house = House::with_guest();

    assert_eq!(said(&house, &["--init"], &["pid"]), "2");
    house.guest_with(&["--init"], &["exit", "7"]).code(7);
    house.guest_with(&["--init"], &["signal", "9"]).code(137);
    house.ctl(&["run", "--rm", "--init", "guest", "/nothing"]).code(127);
    assert_eq!(said(&house, &["--init", "-u", "1000"], &["id"]), said(&house, &["-u", "1000"], &["id"]));
    sleeper(&house, "web", &["--init"]);
    // The init takes what its program takes: nobody waits for the kill.
    house.ctl(&["stop", "-t", "60", "web"]).ok();
    assert_eq!(
        house.ctl(&["inspect", "-f", "{{.State.ExitCode}} {{.HostConfig.Init}}", "web"]).ok().text(),
        "143 true"
    );
    house.ctl(&["rm", "web"]).ok();
}

#[test]
fn an_init_reaps_what_is_left_to_it() {
    let house = House::with_debian();
    let script = "sh -c 'sleep 0.1 & exec true'; sleep 1; cat /proc/[0-9]*/stat | grep -c ' Z ' || true";
    let run = ["run", "--rm", "--network", "none", "--init", "debian:bookworm", "sh", "-c", script];
    assert_eq!(house.ctl(&run).ok().text(), "0");
}

#[test]
fn processes_of_others_are_seen_where_that_is_asked_for() {
    let house = House::with_guest();
    sleeper(&house, "web", &[]);
    let own = said(&house, &[], &["processes"]);
    assert!(!own.contains("sleep 300"), "{own}");

    let others = said(&house, &["--pid", "container:web"], &["processes"]);
    assert!(others.contains("/proc/1/cmdline: /guest sleep 300"), "{others}");
    let host = said(&house, &["--pid", "host"], &["pid"]);
    assert!(host.parse::<u32>().unwrap() > 10, "{host}");

    let side = ["--pid", "container:web"];
    sleeper(&house, "side", &side);
    house.ctl(&["exec", "side", "/guest", "processes"]).ok().says(&["/proc/1/cmdline: /guest sleep 300"]);
    let mode = house.ctl(&["inspect", "-f", "{{.HostConfig.PidMode}}", "side"]).ok().text().to_owned();
    assert!(mode.starts_with("container:") && mode.len() == 74, "{mode}");
    // With the first process of its namespace all others end.
    house.ctl(&["kill", "web"]).ok();
    assert_eq!(house.ctl(&["wait", "side"]).ok().text(), "137");
    house.guest_with(&side, &["noop"]).code(125).complains(&["processes of container web", "not running"]);
    house.guest_with(&["--pid", "container:absent"], &["noop"]).code(125).complains(&["absent"]);
    house.ctl(&["rm", "web", "side"]).ok();
}

#[test]
fn shared_memory_is_shared_where_both_want_it() {
    let house = House::with_guest();
    sleeper(&house, "web", &["--ipc", "shareable"]);
    sleeper(&house, "shy", &[]);
    house.ctl(&["exec", "web", "/guest", "write", "/dev/shm/word", "shared"]).ok();

    let with = |mode: &str, words: &[&str]| house.guest_with(&["--ipc", mode], words);
    assert_eq!(with("container:web", &["read", "/dev/shm/word"]).ok().text(), "shared");
    with("private", &["exists", "/dev/shm/word"]).code(1);
    with("none", &["exists", "/dev/shm"]).code(1);
    with("container:shy", &["noop"]).code(125).complains(&["shy", "--ipc shareable"]);
    with("container:web", &["write", "/dev/shm/answer", "yes"]).ok();
    assert_eq!(house.ctl(&["exec", "web", "/guest", "read", "/dev/shm/answer"]).ok().text(), "yes");
    house.ctl(&["rm", "-f", "web", "shy"]).ok();
}

#[test]
fn the_name_and_the_cgroups_of_the_host_are_seen_where_that_is_asked_for() {
    let house = House::with_guest();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();

    assert_eq!(said(&house, &["--uts", "host"], &["hostname"]), host.trim());
    let flags = ["--uts", "host", "--hostname", "x"];
    house.guest_with(&flags, &["noop"]).code(125).complains(&["hostname and the UTS mode"]);
    let cgroups = |flags: &[&str]| said(&house, flags, &["read", "/proc/self/cgroup"]);
    assert!(cgroups(&["--cgroupns", "host"]).contains("/strata/"));
    assert!(!cgroups(&["--cgroupns", "private"]).contains("/strata/"));
    assert_eq!(said(&house, &["--userns", "host"], &["id"]), said(&house, &[], &["id"]));
}

#[test]
fn a_process_gets_groups_limits_and_a_score_of_its_own() {
    let house = House::with_debian();
    let run = |flags: &[&str], command: &str| {
        let run = [&["run", "--rm", "--network", "none"], flags, &["debian:bookworm", "sh", "-c", command]].concat();
        house.ctl(&run).ok().text().to_owned()
    };

    assert_eq!(run(&["--group-add", "video", "--group-add", "4242"], "id -G"), "0 44 4242");
    assert_eq!(run(&["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj"), "500");
    assert_eq!(run(&["--ulimit", "nofile=100:200"], "ulimit -Sn; ulimit -Hn"), "100\n200");
    assert_eq!(run(&["--sysctl", "kernel.msgmax=1000"], "cat /proc/sys/kernel/msgmax"), "1000");
    house
        .ctl(&["run", "--rm", "--group-add", "nobody-here", "debian:bookworm", "true"])
        .code(125)
        .complains(&["nobody-here"]);
    let host = ["run", "--rm", "--sysctl", "kernel.pid_max=1000", "debian:bookworm", "true"];
    house.ctl(&host).code(125).complains(&["kernel.pid_max", "belongs to the host"]);
}

#[test]
fn devices_of_the_host_are_there_with_the_access_that_was_given() {
    let house = House::with_guest();

    let flags = ["--device", "/dev/kmsg:/dev/messages:r"];
    house.guest_with(&flags, &["stat", "/dev/messages"]).ok();
    house.guest_with(&flags, &["append", "/dev/messages", "x"]).fails().complains(&["Operation not permitted"]);
    house.guest_with(&["--device", "/dev/nothing-here"], &["noop"]).code(125).complains(&["/dev/nothing-here"]);
    house.guest_with(&["--device", "/etc/passwd"], &["noop"]).code(125).complains(&["no device node"]);
    let rule = ["--cap-add", "MKNOD", "--device-cgroup-rule", "c 1:11 r"];
    house.guest_with(&rule, &["noop"]).ok();
    house.guest_with(&["--device-cgroup-rule", "x"], &["noop"]).code(125).complains(&["device cgroup format"]);
}

#[test]
fn security_options_loosen_and_tighten() {
    let house = House::with_guest();
    let with = |option: &str, words: &[&str]| house.guest_with(&["--security-opt", option], words);

    with("no-new-privileges", &["caps"]).ok().says(&["NoNewPrivs 1", "Seccomp 2"]);
    with("seccomp=unconfined", &["caps"]).ok().says(&["Seccomp 0"]);
    with("systempaths=unconfined", &["masked"]).fails();
    house.guest(&["masked"]).ok();
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}}]}"#;
    let file = house.path("profile.json");
    std::fs::write(&file, profile).unwrap();
    let option = format!("seccomp={}", file.display());
    with(&option, &["mkdir", "/x"]).fails().complains(&["not implemented"]);
    let flags = ["--cap-add", "SYS_ADMIN", "--security-opt", &option];
    house.guest_with(&flags, &["mkdir", "/x"]).ok();
    std::fs::write(&file, "{}").unwrap();
    with(&option, &["noop"]).code(125).complains(&["seccomp profile"]);
    with("apparmor=docker-default", &["noop"]).code(125).complains(&["no AppArmor"]);
}

#[test]
fn limits_that_only_some_hosts_have_are_kept_or_refused_with_the_reason() {
    let house = House::with_guest();
    let is_v1 = Path::new("/sys/fs/cgroup/memory").exists();
    let swappy = house.guest_with(&["--memory-swappiness", "10"], &["read", "/sys/fs/cgroup/memory/memory.swappiness"]);
    if is_v1 {
        swappy.ok().says(&["10"]);
    } else {
        swappy.code(125).complains(&["memory_swappiness", "v2 has no swappiness"]);
    }
    for (flags, why) in [
        (&["--device-read-bps", "/dev/null:1mb"][..], "no block device"),
        (&["--device-write-iops", "/dev/nothing:1"], "/dev/nothing"),
        (&["--blkio-weight-device", "/dev/sda:5"], "10 to 1000"),
        (&["--oom-score-adj", "1001"], "1001"),
    ] {
        house.guest_with(flags, &["noop"]).code(125).complains(&[why]);
    }
}

#[test]
fn a_cgroup_is_below_the_one_that_was_asked_for() {
    let house = House::with_guest();
    let parent = format!("strata-test-{}", std::process::id());
    let id = house.ctl(&["run", "-d", "--cgroup-parent", &parent, "--name", "web", "guest", "/guest", "sleep", "300"]);
    let id = id.ok().text().to_owned();
    let places = || {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
        let all = hierarchies.chain([Path::new("/sys/fs/cgroup").to_owned()]).map(|path| path.join(&parent));
        // Two hierarchies may be one, by two names.
        all.filter(|path| path.exists()).collect::<Vec<_>>()
    };
    assert!(places().iter().any(|place| place.join(&id).exists()), "{:?}", places());

    house.crash("runtime");
    house.ctl(&["rm", "-f", "web"]).ok();

    eventually("nothing of it is left", SOON, || places().iter().all(|place| !place.join(&id).exists()));
    while let Some(place) = places().first() {
        std::fs::remove_dir(place).unwrap();
    }
    house.guest_with(&["--cgroup-parent", "a/../b"], &["noop"]).code(125).complains(&["cgroup_parent"]);
}
