//! What steps may do: networks, entitlements, names, limits of processes.

use strata_tests::{
    Context, House, Output, Running, Steps, Went, eventually,
    host::{HOST, WORLD},
};

use super::mounts::{printed, run};

fn build(house: &House, rest: &str, flags: &[&str]) -> Output {
    let context = Context::new(&format!("FROM guest\n{rest}"));
    house.ctl(&[&["build", "--progress", "plain", "-t", "app"], flags, &[context.arg()]].concat())
}

/// The interfaces of a step, and those of this host.
#[test]
fn networks_of_steps_are_the_hosts_or_none() {
    let house = House::with_guest();
    let mut host: Vec<_> = std::fs::read_dir("/sys/class/net").unwrap().flatten().map(|one| one.file_name()).collect();
    host.sort();
    let host: String = host.iter().map(|name| format!("{}\n", name.display())).collect();
    // What one of them did is in the cache for others that do the same.
    let seen = |flag: &str, flags: &[&str]| {
        printed(&build(&house, &run(flag, "interfaces"), &[&["--no-cache"], flags].concat()).ok())
    };

    assert_eq!(seen("--network=none", &[]), "lo\n");
    // Containers of this house have none by default.
    assert_eq!(seen("--network=default", &[]), host);
    assert_eq!(seen("--network=default", &["--network", "host"]), host);
    assert_eq!(seen("--network=host", &["--network", "host"]), host);
    assert_eq!(seen("--network=default", &["--network", "none"]), "lo\n");
    assert_eq!(seen("--network=host", &["--allow", "network.host"]), host);
    assert_eq!(seen("--network=host", &["--network", "none", "--allow", "network.host"]), host);
}

#[test]
fn the_network_of_the_host_needs_the_leave_of_service_and_request() {
    let house = House::with_guest();
    let text = run("--network=host", "interfaces");
    let refused = ["Dockerfile:2:5", "network.host is not allowed by this build", "^", "--allow network.host"];

    build(&house, &text, &[]).fails().complains(&refused);
    build(&house, &text, &["--network", "none"]).fails().complains(&refused);
    // A trigger asks too.
    house.build(&Context::new("FROM guest\nONBUILD RUN --network=host [\"/guest\", \"noop\"]\n"), "base").ok();
    house.build(&Context::new("FROM base\n"), "app").fails().complains(&["network.host is not allowed"]);

    assert_eq!(house.stop().len(), 0);
    std::fs::write(house.root().join("etc/builder.toml"), "insecure_entitlements = []\n").unwrap();
    let refused = ["network.host is not allowed by the builder", "insecure_entitlements = [\"network.host\"]"];
    build(&house, &text, &["--allow", "network.host"]).fails().complains(&refused);
    build(&house, &run("", "interfaces"), &["--network", "host"]).fails().complains(&refused);
    build(&house, &run("--network=none", "interfaces"), &["--network", "host"]).ok();
}

#[test]
fn steps_are_on_the_bridge_where_containers_are() {
    let house = House::with_network();
    let mut world = Running::spawn({
        let mut command = house.host().in_world(strata_tests::guest());
        command.args(["serve", "80"]);
        command
    });
    world.wait_for("ready");
    let seen = |flag: &str, words: &str, flags: &[&str]| {
        printed(&build(&house, &run(flag, words), &[&["--no-cache"], flags].concat()).ok())
    };

    let inside = format!("interfaces + ask {WORLD} 80");
    assert_eq!(seen("--network=default", &inside, &[]), format!("eth0\nlo\n{HOST}\n"), "it goes out as the host");
    assert!(seen("--network=host", "interfaces", &["--allow", "network.host"]).contains("up0\n"));
    assert!(seen("--network=default", "interfaces", &["--network", "host"]).contains("up0\n"));
    assert_eq!(seen("--network=none", "interfaces", &[]), "lo\n");
    assert_eq!(seen("--network=default", "interfaces", &["--network", "none"]), "lo\n");
    let names = seen("--network=default", "read /etc/hosts", &[]);
    assert!(names.contains("172.17.0."), "{names}");
    // What a step on the bridge did is not what the same step does on the host.
    let kept = run("--network=default", "interfaces");
    let first = printed(&build(&house, &kept, &[]).ok());
    assert_ne!(printed(&build(&house, &kept, &["--network", "host"]).ok()), first);
    // Unless the builder says otherwise.
    std::fs::write(house.root().join("etc/builder.toml"), "[steps]\nnetwork = \"host\"\n").unwrap();
    assert_eq!(house.stop().len(), 0);
    assert!(seen("--network=default", "interfaces", &[]).contains("up0\n"));
    let again = || house.host().interfaces().len() == 1;
    eventually("nothing is left but the bridge", std::time::Duration::from_secs(10), again);
}

#[test]
fn insecure_steps_need_the_leave_of_service_and_request() {
    let house = House::with_guest();
    let text = run("--security=insecure", "status CapEff + status Seccomp");
    let sandbox = run("--security=sandbox", "status CapEff + status Seccomp");
    let refused = ["Dockerfile:2:5", "security.insecure is not allowed", "^"];

    let allow = ["--allow", "security.insecure"];
    build(&house, &text, &[]).fails().complains(&refused).complains(&["insecure_entitlements"]);
    build(&house, &text, &allow).fails().complains(&refused).complains(&["insecure_entitlements"]);
    assert_eq!(house.stop().len(), 0);
    std::fs::write(house.root().join("etc/builder.toml"), "insecure_entitlements = [\"security.insecure\"]\n").unwrap();
    build(&house, &text, &[]).fails().complains(&refused).complains(&["--allow security.insecure"]);
    // A trigger asks too.
    let base = Context::new("FROM guest\nONBUILD RUN --security=insecure [\"/guest\", \"noop\"]\n");
    house.build(&base, "base").ok();
    let context = Context::new("FROM base\n");
    house.build(&context, "app").fails().complains(&["security.insecure is not allowed"]);

    let usual = printed(&build(&house, &sandbox, &[]).ok());
    let all = printed(&build(&house, &text, &allow).ok());
    let capabilities = |text: &str| u64::from_str_radix(text.lines().next().unwrap(), 16).unwrap();
    assert_eq!((capabilities(&usual), usual.lines().nth(1)), (0xa804_25fb, Some("2")), "{usual}");
    assert!(capabilities(&all) > capabilities(&usual) && all.lines().nth(1) == Some("0"), "{all}");
    build(&house, &text, &["--allow", "security.unsafe"]).fails().complains(&["security.unsafe", "network.host"]);
}

#[test]
fn names_of_hosts_and_the_size_of_shared_memory_are_those_asked_for_and_in_the_key() {
    let house = House::with_guest();
    let text = run("", "hostname + read /etc/hosts + mounts");
    let with = |flags: &[&str]| build(&house, &text, flags).ok();

    let output = with(&[
        "--build-arg",
        "BUILDKIT_SANDBOX_HOSTNAME=kitchen",
        "--add-host",
        "db:10.1.2.3",
        "--add-host",
        "six=[fe80::1]",
        "--shm-size",
        "8m",
        "--ulimit",
        "nofile=512:1024",
    ]);

    let printed = printed(&output);
    assert!(printed.starts_with("kitchen\n"), "{printed}");
    assert!(printed.contains("10.1.2.3 db\nfe80::1 six\n"), "{printed}");
    let shm = printed.lines().find(|line| line.contains(" /dev/shm ")).unwrap();
    assert!(shm.contains("size=8192k"), "{shm}");
    assert_eq!(Steps::of(&with(&["--add-host", "db:10.1.2.3"])).went("RUN"), Went::Done);
    assert_eq!(Steps::of(&with(&["--add-host", "db:10.1.2.3"])).went("RUN"), Went::Cached);
    assert_eq!(Steps::of(&with(&["--shm-size", "8m"])).went("RUN"), Went::Done);
    build(&house, &text, &["--add-host", "db"]).fails().complains(&["--add-host", "NAME:ADDRESS"]);
    build(&house, &text, &["--ulimit", "files=1"]).fails().complains(&["files", "no limit of a process"]);
}

#[test]
fn limits_of_steps_are_those_asked_for_and_in_no_key() {
    let house = House::with_guest();
    let text = run("", "memhog 200");

    build(&house, &text, &["-m", "64m"]).fails().complains(&["Dockerfile:2:", "137"]);
    let flags =
        ["--memory", "512m", "-c", "512", "--cpu-quota", "50000", "--cpu-period", "100000", "--cpuset-cpus", "0"];
    assert_eq!(Steps::of(&build(&house, &text, &flags).ok()).went("RUN"), Went::Done);
    assert_eq!(Steps::of(&build(&house, &text, &["--memory", "600m"]).ok()).went("RUN"), Went::Cached);
    assert_eq!(Steps::of(&build(&house, &text, &[]).ok()).went("RUN"), Went::Cached);

    build(&house, &text, &["--no-cache", "--cpuset-cpus", "8191"]).fails().complains(&["cpuset"]);
    build(&house, &text, &["--memory", "lots"]).fails().complains(&["--memory", "lots"]);
}

#[test]
fn limits_of_processes_are_those_asked_for() {
    let house = House::with_guest();

    let output = build(&house, &run("", "read /proc/self/limits"), &["--ulimit", "nofile=512:1024"]).ok();

    let printed = printed(&output);
    let line = printed.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[3..5], ["512", "1024"], "{printed}");
}
