//! `ctl run`: one process in a container, and what it sees there.

use strata_tests::House;

#[test]
fn what_a_process_says_and_how_it_ends_is_what_ctl_says_and_how_it_ends() {
    let house = House::with_guest();

    let said = house.guest(&["say", "to stdout", "to stderr"]).ok();
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("to stdout\n", "to stderr\n"));
    for code in [0, 1, 2, 3, 42, 100, 124, 128, 130, 200, 254, 255] {
        house.guest(&["exit", &code.to_string()]).code(code);
    }
}

#[test]
fn a_signal_is_128_and_its_number() {
    let house = House::with_guest();

    for (name, number) in [("KILL", 9), ("TERM", 15), ("USR1", 10)] {
        let words = ["run", "-d", "--name", name, "guest", "/guest", "sleep", "60"];
        house.ctl(&words).ok();
        // A first process has no default actions: only KILL reaches it from inside its pid namespace, all from outside do not.
        house.ctl(&["kill", "-s", "KILL", name]).ok();
        assert_eq!(house.ctl(&["wait", name]).ok().text(), "137", "{number}");
    }
    let trapped = house.ctl(&["run", "-d", "guest", "/guest", "trap", "7", "SIGTERM"]).ok();
    strata_tests::eventually("it is ready", std::time::Duration::from_secs(10), || {
        house.ctl(&["logs", trapped.text()]).ok().stdout.contains("ready")
    });
    house.ctl(&["kill", "-s", "TERM", trapped.text()]).ok();
    assert_eq!(house.ctl(&["wait", trapped.text()]).ok().text(), "7");
}

#[test]
fn what_cannot_be_run_has_dockers_exit_codes() {
    let house = House::with_guest();

    house.ctl(&["run", "--rm", "guest", "/no-such-program"]).code(127).complains(&["/no-such-program"]);
    house.ctl(&["run", "--rm", "guest", "no-such-program"]).code(127).complains(&["no-such-program"]);
    house.ctl(&["run", "--rm", "guest", "/etc"]).code(126).complains(&["/etc"]);
    house.ctl(&["run", "--rm", "guest", "/etc/passwd"]).code(126).complains(&["/etc/passwd"]);
    house.ctl(&["run", "--rm", "no-such-image", "/guest"]).code(125).complains(&["no-such-image"]);
    house.ctl(&["run", "--rm", "--no-such-flag", "guest"]).code(125).complains(&["--no-such-flag"]);
    house.ctl(&["run", "--rm", "-u", "nobody-here", "guest", "/guest", "noop"]).code(125).complains(&["nobody-here"]);
    house.ctl(&["run", "--rm", "-w", "relative", "guest", "/guest", "noop"]).code(125).complains(&["--workdir"]);
    house.ctl(&["run", "--rm", "-p", "80:80", "guest", "/guest", "noop"]).code(125).complains(&["no ports to publish"]);
    assert_eq!(house.ctl(&["ps", "-aq"]).ok().stdout, "", "nothing stays of a run with --rm that failed");
}

#[test]
fn flags_after_the_image_are_the_processs() {
    let house = House::with_guest();

    house.ctl(&["run", "--rm", "guest", "-it", "--rm"]).code(127).complains(&["-it"]);
    assert!(!house.ctl(&["run", "--rm", "--entrypoint", "/guest", "guest", "--rm"]).fails().stderr.contains("ctl:"));
}

#[test]
fn standard_input_reaches_the_process_only_with_i() {
    let house = House::with_guest();
    let text = "many words ".repeat(100_000);

    let with = house.ctl_with(&["run", "--rm", "-i", "guest", "/guest", "cat"], text.as_bytes()).ok();
    assert_eq!(with.stdout.len(), text.len());
    assert!(with.stdout == text, "bytes are not what they were");
    let without = house.ctl(&["run", "--rm", "guest", "/guest", "cat"]).ok();
    assert_eq!(without.stdout, "");
}

#[test]
fn much_output_arrives_whole_and_in_order() {
    let house = House::with_guest();

    let spam = house.guest(&["spam", "200000"]).ok();

    assert_eq!(spam.stdout.lines().count(), 200_000);
    assert!(spam.stdout.lines().enumerate().all(|(number, line)| line == format!("line {number}")));
}

#[test]
fn the_environment_is_the_images_and_the_flags() {
    let house = House::with_guest();
    std::fs::write(house.path("vars"), "# a comment\nFROM_FILE=yes\n\nBOTH=file\n").unwrap();
    let file = house.path("vars").to_str().unwrap().to_owned();

    let env = house.guest_with(&["-e", "ONE=1", "-e", "EMPTY=", "-e", "BOTH=flag", "--env-file", &file], &["env"]).ok();

    let lines: Vec<&str> = env.stdout.lines().collect();
    for line in ["ONE=1", "EMPTY=", "FROM_FILE=yes", "BOTH=flag"] {
        assert!(lines.contains(&line), "{line} in {env:?}");
    }
    assert!(lines.iter().any(|line| line.starts_with("PATH=/usr/local/sbin:")), "{env:?}");
    assert!(lines.iter().any(|line| line.starts_with("HOSTNAME=")), "{env:?}");
    assert!(lines.contains(&"HOME=/root"), "{env:?}");
    assert!(!env.stdout.contains("STRATA"), "what is ours stays outside: {env:?}");
}

#[test]
fn user_working_directory_entry_point_and_host_name_are_as_asked() {
    let house = House::with_guest();

    assert_eq!(house.guest_with(&["-u", "alice"], &["id"]).ok().text(), "uid 1000 gid 1000 groups 50,1000");
    assert_eq!(house.guest_with(&["-u", "1234:99"], &["id"]).ok().text(), "uid 1234 gid 99 groups 99");
    assert!(house.guest(&["id"]).ok().text().starts_with("uid 0 gid 0 "));
    assert_eq!(house.guest_with(&["-w", "/tmp"], &["cwd"]).ok().text(), "/tmp");
    assert_eq!(house.guest_with(&["-w", "/made/on/demand"], &["cwd"]).ok().text(), "/made/on/demand");
    assert_eq!(house.guest_with(&["--hostname", "box"], &["hostname"]).ok().text(), "box");
    let entry = house.ctl(&["run", "--rm", "--entrypoint", "/guest", "guest", "args", "a b", ""]).ok();
    assert_eq!(entry.stdout, "a b\n\n");
}

#[test]
fn the_default_host_name_is_the_short_id() {
    let house = House::with_guest();

    let id = house.ctl(&["run", "-d", "guest", "/guest", "hostname"]).ok();
    house.ctl(&["wait", id.text()]).ok();

    assert_eq!(id.text().len(), 64, "{id:?}");
    assert_eq!(house.ctl(&["logs", id.text()]).ok().text(), &id.text()[..12]);
}

#[test]
fn volumes_are_the_hosts_and_may_be_read_only() {
    let house = House::with_guest();
    std::fs::create_dir(house.path("shared")).unwrap();
    std::fs::write(house.path("shared/in"), "from outside").unwrap();
    let shared = house.path("shared").to_str().unwrap().to_owned();

    let words = ["then", "read", "/mnt/data/in", "+", "write", "/mnt/data/out", "from inside"];
    assert_eq!(house.guest_with(&["-v", &format!("{shared}:/mnt/data")], &words).ok().stdout, "from outside");
    assert_eq!(std::fs::read_to_string(house.path("shared/out")).unwrap(), "from inside");
    house.guest_with(&["-v", &format!("{shared}:/mnt/data:ro")], &words).code(99).complains(&["Read-only file system"]);
}

#[test]
fn a_read_only_root_refuses_writes() {
    let house = House::with_guest();

    house.guest_with(&["--read-only"], &["write", "/x", "y"]).code(99).complains(&["Read-only file system"]);
    house.guest_with(&["--read-only"], &["write", "/dev/shm/x", "y"]).ok();
    house.guest(&["write", "/x", "y"]).ok();
}

#[test]
fn without_a_network_there_is_a_loopback_device_only() {
    let house = House::with_guest();

    assert_eq!(house.guest(&["interfaces"]).ok().text(), "lo");
    assert_eq!(house.guest_with(&["--network", "none"], &["interfaces"]).ok().text(), "lo");
    let host: Vec<String> = {
        let mut names: Vec<_> = std::fs::read_dir("/sys/class/net")
            .unwrap()
            .flatten()
            .map(|e| e.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let inside = house.guest_with(&["--network", "host", "-v", "/sys:/mnt:ro"], &["ls", "/mnt/class/net"]).ok();
    // Other tests make devices while this one runs.
    assert!(
        host.iter().filter(|name| !name.starts_with("st")).all(|name| inside.stdout.contains(name.as_str())),
        "{inside:?}"
    );
}

#[test]
fn the_first_process_sees_itself_alone() {
    let house = House::with_guest();

    assert_eq!(house.guest(&["pid"]).ok().text(), "1");
    let processes = house.guest(&["ls", "/proc"]).ok();
    let numbers = processes.stdout.lines().filter(|line| line.parse::<u32>().is_ok()).count();
    assert_eq!(numbers, 1, "{processes:?}");
}

#[test]
fn devices_and_file_systems_are_dockers() {
    let house = House::with_guest();

    let stat = [
        "then",
        "stat",
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/random",
        "/dev/urandom",
        "/dev/tty",
        "/dev/shm",
        "/dev/fd",
    ];
    let stat = house.guest(&stat).ok();
    assert_eq!(stat.stdout.matches("character device 666 0:0").count(), 6, "{stat:?}");
    stat.clone().says(&["/dev/shm: directory 1777", "/dev/fd: link to /proc/self/fd"]);
    let mounts = house.guest(&["mounts"]).ok();
    for (point, kind) in [
        ("/proc", "proc"),
        ("/sys", "sysfs"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/mqueue", "mqueue"),
        ("/dev/shm", "tmpfs"),
        ("/", "overlay"),
    ] {
        let is_there = mounts.stdout.lines().any(|line| {
            line.split(' ').nth(4) == Some(point)
                && line.split(" - ").nth(1).is_some_and(|rest| rest.starts_with(&format!("{kind} ")))
        });
        assert!(is_there, "{kind} at {point} in {mounts:?}");
    }
    let sys = mounts.stdout.lines().find(|line| line.split(' ').nth(4) == Some("/sys")).unwrap();
    assert!(sys.split(' ').nth(5).unwrap().starts_with("ro"), "{sys}");
    assert!(!mounts.stdout.contains("/old_root"), "nothing of the host's tree is seen: {mounts:?}");
}

#[test]
fn what_docker_masks_is_masked() {
    let house = House::with_guest();

    house.guest(&["masked"]).ok();
    let proc_is_bare = house.guest_with(&["--privileged"], &["mounts"]).ok();
    assert!(!proc_is_bare.stdout.contains(" /proc/kcore "), "privileged means unmasked: {proc_is_bare:?}");
}

#[test]
fn capabilities_are_dockers_fourteen_and_the_flags() {
    let house = House::with_guest();
    let caps = |flags: &[&str]| house.guest_with(flags, &["caps"]).ok().stdout;

    let default = caps(&[]);
    for line in [
        "CapPrm 00000000a80425fb",
        "CapEff 00000000a80425fb",
        "CapBnd 00000000a80425fb",
        "CapInh 0000000000000000",
        "NoNewPrivs 0",
        "Seccomp 2",
    ] {
        assert!(default.lines().any(|l| l == line), "{line} in {default}");
    }
    assert!(caps(&["--cap-drop", "ALL"]).contains("CapEff 0000000000000000"));
    assert!(caps(&["--cap-drop", "all", "--cap-add", "NET_BIND_SERVICE"]).contains("CapBnd 0000000000000400"));
    assert!(caps(&["--cap-add", "CAP_SYS_TIME"]).contains("CapEff 00000000aa0425fb"));
    let alice = caps(&["-u", "alice"]);
    assert!(alice.contains("CapEff 0000000000000000") && alice.contains("CapBnd 00000000a80425fb"), "{alice}");
    let privileged = caps(&["--privileged"]);
    assert!(privileged.contains("Seccomp 0") && !privileged.contains("CapEff 00000000a80425fb"), "{privileged}");
    house.guest_with(&["--cap-add", "NO_SUCH"], &["noop"]).code(125).complains(&["NO_SUCH"]);
}

#[test]
fn the_id_goes_to_a_file_that_nobody_has() {
    let house = House::with_guest();
    let (path, other) = (house.path("id"), house.path("other"));
    let flag = format!("--cidfile={}", path.display());

    let id = house.ctl(&["run", "-d", &flag, "--name", "one", "guest", "/guest", "noop"]).ok().text().to_owned();

    assert_eq!(std::fs::read_to_string(&path).unwrap(), id);
    let taken = house.ctl(&["create", &flag, "guest", "/guest", "noop"]).code(125);
    taken.complains(&["--cidfile", path.to_str().unwrap(), "there already"]);
    assert_eq!(house.ctl(&["ps", "-aq"]).ok().stdout.lines().count(), 1, "nothing is made without its file");
    let flag = format!("--cidfile={}", other.display());
    house.ctl(&["create", "--pull", "never", &flag, "nobody/made:this"]).fails();
    assert!(!other.exists(), "who was not made has no file");
    let made = house.ctl(&["create", &flag, "guest", "/guest", "noop"]).ok().text().to_owned();
    assert_eq!(std::fs::read_to_string(&other).unwrap(), made);
    house.ctl(&["rm", "-f", "one", &made]).ok();
}

#[test]
fn labels_come_from_files_and_flags_and_stops_are_as_it_was_said() {
    let house = House::with_guest();
    let file = house.path("labels");
    std::fs::write(&file, "# of the test\n\none=1\n  two=2\nbare\n").unwrap();
    let labels = format!("--label-file={}", file.display());
    let flags =
        ["run", "-d", "--name", "box", &labels, "-l", "two=flag", "--stop-signal", "USR1", "--stop-timeout", "30"];
    house.ctl(&[&flags[..], &["guest", "/guest", "trap", "4", "SIGUSR1"]].concat()).ok();

    house.ctl(&["stop", "box"]).ok();

    let shown = house.ctl(&["inspect", "box"]).ok().json();
    assert_eq!(shown[0]["State"]["ExitCode"], 4, "{shown:#}");
    let config = &shown[0]["Config"];
    assert_eq!(config["Labels"], serde_json::json!({"bare": "", "one": "1", "two": "flag"}));
    assert_eq!((&config["StopSignal"], &config["StopTimeout"]), (&"USR1".into(), &30.into()));
    house.ctl(&["rm", "box"]).ok();
    let run = |flag: &str, value: &str| house.ctl(&["create", flag, value, "guest", "/guest", "noop"]).fails();
    run("--stop-signal", "LOUD").complains(&["--stop-signal", "LOUD"]);
    run("--label-file", "/nonexistent/labels").complains(&["--label-file", "/nonexistent/labels"]);
    run("-l", "=x").complains(&["KEY=VALUE"]);
}

#[test]
fn a_container_that_does_not_end_has_the_time_that_it_was_given() {
    let house = House::with_guest();
    house.ctl(&["run", "-d", "--name", "box", "--stop-timeout", "0", "guest", "/guest", "stubborn"]).ok();

    house.ctl(&["stop", "box"]).ok();

    house.ctl(&["wait", "box"]).ok().says(&["137"]);
    house.ctl(&["rm", "box"]).ok();
}
