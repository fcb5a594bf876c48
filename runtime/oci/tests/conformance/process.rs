//! config.md, "Process": who the process is and how it is treated, seen from inside.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::{Value, json};

use crate::bundle::Bundle;

/// The engine's own hard limit, which nobody can raise here.
fn hard_limit(name: &str) -> u64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
    let word = line[name.len()..].split_whitespace().nth(1).unwrap();
    word.parse().unwrap_or(u64::MAX)
}

pub fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    line[name.len()..].trim()
}

fn set(spec: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    spec.pointer_mut(parent).unwrap()[key] = value;
}

fn refused(pointer: &str, value: Value) -> String {
    Bundle::new("true", |spec| set(spec, pointer, value)).refused()
}

/// Spec: config.md, POSIX process: rlimits are the soft and hard limits of the process
#[test]
fn limits_of_every_type_are_set() {
    let names = [
        ("CPU", "Max cpu time", 1000),
        ("FSIZE", "Max file size", 1 << 30),
        ("DATA", "Max data size", 1 << 30),
        ("STACK", "Max stack size", 4 << 20),
        ("CORE", "Max core file size", 0),
        ("RSS", "Max resident set", 1 << 30),
        ("NPROC", "Max processes", 20),
        ("NOFILE", "Max open files", 17),
        ("MEMLOCK", "Max locked memory", 4096),
        ("AS", "Max address space", 1 << 30),
        ("LOCKS", "Max file locks", 10),
        ("SIGPENDING", "Max pending signals", 11),
        ("MSGQUEUE", "Max msgqueue size", 8192),
        ("NICE", "Max nice priority", 0),
        ("RTPRIO", "Max realtime priority", 0),
        ("RTTIME", "Max realtime timeout", 1_000_000),
    ];
    let limits = names.map(|(name, _, hard)| json!({"type": format!("RLIMIT_{name}"), "soft": hard / 2, "hard": hard}));
    let bundle = Bundle::new("cat /proc/self/limits", |spec| spec["process"]["rlimits"] = json!(limits));

    let text = bundle.output();

    for (name, title, hard) in names {
        let values: Vec<&str> = line(&text, title).split_whitespace().take(2).collect();
        assert_eq!(values, [(hard / 2).to_string(), hard.to_string()], "{name}");
    }
}

/// Spec: config.md, POSIX process: a type that is listed twice, or unknown, is an error
#[test]
fn limits_that_cannot_be_meant_are_refused() {
    let limit = |name: &str, soft: u64, hard: u64| json!({"type": name, "soft": soft, "hard": hard});
    let cpu = limit("RLIMIT_CPU", 10, 10);

    assert!(refused("/process/rlimits", json!([cpu, cpu])).contains("process.rlimits[1]: RLIMIT_CPU is listed twice"));
    assert!(refused("/process/rlimits", json!([limit("RLIMIT_NOPE", 1, 1)])).contains("RLIMIT_NOPE"));
    assert!(refused("/process/rlimits", json!([limit("RLIMIT_CPU", 2, 1)])).contains("process.rlimits[0]: "));
}

/// Spec: config.md, POSIX process: a limit that cannot be raised is an error
#[test]
fn a_limit_beyond_what_the_engine_may_give_is_refused_before_start() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let held = u64::from_str_radix(line(&status, "CapEff:"), 16).unwrap();
    // Over the nr_open of the kernel not even CAP_SYS_RESOURCE helps.
    let beyond = match held >> 24 & 1 {
        0 => hard_limit("Max open files") + 1,
        _ => fs::read_to_string("/proc/sys/fs/nr_open").unwrap().trim().parse::<u64>().unwrap() + 1,
    };

    let error = refused("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 10, "hard": beyond}]));

    assert!(error.contains("cannot set process.rlimits RLIMIT_NOFILE: "), "{error}");
}

/// Spec: config.md, Linux process: oomScoreAdj is set, and without it nothing is changed
#[test]
fn the_oom_score_is_as_asked_or_as_it_was() {
    let score = |value: Option<i32>| {
        let script = "read score < /proc/self/oom_score_adj; echo $score";
        Bundle::new(script, |spec| match value {
            Some(score) => spec["process"]["oomScoreAdj"] = json!(score),
            None => drop(spec["process"].as_object_mut().unwrap().remove("oomScoreAdj")),
        })
        .output()
    };

    assert_eq!(score(Some(789)), "789\n");
    assert_eq!(score(None), fs::read_to_string("/proc/self/oom_score_adj").unwrap());
}

/// Spec: config.md, Linux process: scheduler sets policy, nice value and flags
#[test]
fn the_scheduler_is_as_asked() {
    let run =
        |scheduler: Value| Bundle::new("chrt -p $$; nice", |spec| spec["process"]["scheduler"] = scheduler).output();

    let batch = run(json!({"policy": "SCHED_BATCH", "nice": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}));
    assert!(batch.contains("SCHED_BATCH|SCHED_RESET_ON_FORK"), "{batch}");
    let other = run(json!({"policy": "SCHED_OTHER", "nice": 7}));
    assert!(other.contains("policy: SCHED_OTHER") && other.ends_with("\n7\n"), "{other}");
    let idle = run(json!({"policy": "SCHED_IDLE"}));
    assert!(idle.contains("policy: SCHED_IDLE"), "{idle}");
}

/// Spec: config.md, Linux process: a scheduler that the kernel does not take is an error
#[test]
fn a_scheduler_that_makes_no_sense_is_refused_by_field() {
    let deadline = json!({"policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 1_000_000, "period": 1});

    assert!(refused("/process/scheduler", deadline).contains("cannot set process.scheduler: "));
    let priority = json!({"policy": "SCHED_OTHER", "priority": 3});
    assert!(refused("/process/scheduler", priority).contains("process.scheduler.priority: "));
}

/// Spec: config.md, Linux process: ioPriority sets class and level
#[test]
fn the_io_priority_is_as_asked() {
    let run = |class: &str, priority: i64| {
        let priority = json!({"class": format!("IOPRIO_CLASS_{class}"), "priority": priority});
        Bundle::new("ionice -p $$", |spec| spec["process"]["ioPriority"] = priority).output()
    };

    assert_eq!(run("BE", 6), "best-effort: prio 6\n");
    assert_eq!(run("RT", 2), "realtime: prio 2\n");
    assert_eq!(run("IDLE", 0), "idle\n");
}

/// Spec: config.md, Linux process: execCPUAffinity does not apply to the first process
#[test]
fn the_first_process_runs_on_all_cpus_whatever_exec_does() {
    let with = |affinity: Value| {
        let script = "grep Cpus_allowed_list /proc/self/status";
        Bundle::new(script, |spec| spec["process"]["execCPUAffinity"] = affinity).output()
    };

    assert_eq!(with(json!({"initial": "0", "final": "0"})), with(Value::Null));
}

/// Spec: config.md, User: uid, gid, additionalGids and umask are those of the process
#[test]
fn the_user_is_as_asked() {
    let user = json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 1001, 77], "umask": 23});
    let script = "umask; while read name value; do case $name in Uid:|Gid:|Groups:) echo $name $value;; esac; done < /proc/self/status";
    let bundle = Bundle::new(script, |spec| spec["process"]["user"] = user);

    let text = bundle.output();

    assert_eq!(text, "0027\nUid: 1000 1000 1000 1000\nGid: 1001 1001 1001 1001\nGroups: 5 77 1001\n");
}

/// Row 41 (CVE-2022-36109): a member of a group is not one of the others.
#[test]
fn row_41_a_member_of_a_group_has_not_the_rights_of_others() {
    let user = json!({"uid": 1000, "gid": 1000, "additionalGids": [77]});
    let bundle = Bundle::new("cat /secret", |spec| spec["process"]["user"] = user);
    let secret = bundle.path("rootfs/secret");
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o604)).unwrap();
    std::os::unix::fs::chown(&secret, Some(0), Some(77)).unwrap();

    let output = bundle.run();

    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
}

/// Spec: config.md, Linux process: the five capability sets are those of the process
#[test]
fn the_five_sets_are_as_asked() {
    let sets = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"], "permitted": ["CAP_KILL", "CAP_NET_RAW"],
        "effective": ["CAP_KILL"], "inheritable": ["CAP_NET_RAW"], "ambient": ["CAP_NET_RAW"],
    });
    let bundle = Bundle::new("cat /proc/self/status", |spec| {
        spec["process"]["capabilities"] = sets;
        spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });

    let text = bundle.output();

    // execve of another user: permitted and effective become the ambient set.
    for (name, value) in [("Bnd", 0x2021), ("Inh", 0x2000), ("Amb", 0x2000), ("Prm", 0x2000), ("Eff", 0x2000)] {
        assert_eq!(line(&text, &format!("Cap{name}:")), format!("{value:016x}"), "{name}");
    }
}

/// Spec: config.md, Linux process: a capability that is unknown or cannot be given is a warning
#[test]
fn capabilities_that_nobody_can_give_are_warned_of() {
    let bundle = Bundle::new("cat /proc/self/status", |spec| {
        for set in ["bounding", "permitted", "effective"] {
            spec["process"]["capabilities"][set] = json!(["CAP_CHOWN", "CAP_OF_TOMORROW"]);
        }
    });

    let output = bundle.run();

    let (text, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{error}");
    assert_eq!(line(&text, "CapEff:"), "0000000000000001");
    assert!(error.contains("warning: process.capabilities.bounding: \"CAP_OF_TOMORROW\""), "{error}");
}

/// Rows 6 (CVE-2016-8867) and 14 (CVE-2022-24769): another user has nothing, and inherits nothing.
#[test]
fn row_6_14_another_user_has_no_capabilities() {
    let bundle =
        Bundle::new("cat /proc/self/status", |spec| spec["process"]["user"] = json!({"uid": 1000, "gid": 1000}));

    let text = bundle.output();

    for set in ["Inh", "Prm", "Eff", "Amb"] {
        assert_eq!(line(&text, &format!("Cap{set}:")), "0000000000000000", "{set}");
    }
}

/// Spec: config.md, Linux process: noNewPrivileges keeps execve from granting any
#[test]
fn no_new_privileges_is_as_asked() {
    for asked in [false, true] {
        let bundle = Bundle::new("cat /proc/self/status", |spec| spec["process"]["noNewPrivileges"] = json!(asked));
        assert_eq!(line(&bundle.output(), "NoNewPrivs:"), u8::from(asked).to_string());
    }
}

/// Spec: config.md, Linux process: a label of a security module that the kernel has not is an error
#[test]
fn labels_without_their_module_are_refused_by_field() {
    let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    for (module, field) in [("apparmor", "apparmorProfile"), ("selinux", "selinuxLabel")] {
        if modules.contains(module) {
            continue;
        }
        let error = refused(&format!("/process/{field}"), json!("nothing-of-the-kind"));
        assert!(error.contains(&format!("cannot use process.{field}")), "{error}");
        assert!(error.contains("the kernel has no "), "{error}");
    }
}

/// Spec: config-linux.md, Personality: the domain changes what uname shows, flags are an error
#[test]
fn the_personality_is_as_asked() {
    let run = |domain: &str| {
        Bundle::new("uname -m", |spec| spec["linux"]["personality"] = json!({"domain": domain})).output()
    };
    let (own, other) = (run("LINUX"), run("LINUX32"));

    assert_eq!(own.trim(), std::env::consts::ARCH);
    assert_ne!(own, other);
    let flags = json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]});
    assert!(refused("/linux/personality", flags).contains("linux.personality.flags: "));
}

/// Spec: config-linux.md, Memory policy: the policy is that of the process
#[test]
fn the_memory_policy_is_as_asked() {
    let policy = json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
    let script = "while read address policy rest; do echo $policy; break; done < /proc/self/numa_maps";
    let bundle = Bundle::new(script, |spec| spec["linux"]["memoryPolicy"] = policy);

    assert_eq!(bundle.output(), "bind=static:0\n");
    let absent = json!({"mode": "MPOL_BIND", "nodes": "900"});
    assert!(refused("/linux/memoryPolicy", absent).contains("cannot set linux.memoryPolicy: "));
}

/// Spec: config-linux.md, IntelRdt: without a mounted resctrl it is an error
#[test]
fn resctrl_that_is_not_mounted_is_an_error() {
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - resctrl "), "this host has it");

    let error = refused("/linux/intelRdt", json!({"closID": "x"}));

    assert!(error.contains("linux.intelRdt: no resctrl file system is mounted"), "{error}");
}

/// Spec: config.md, Process: args are those of execvp, env is the environment, cwd the directory
#[test]
fn program_environment_and_directory_are_as_asked() {
    let found = Bundle::new("", |spec| {
        spec["process"]["args"] = json!(["env"]);
        spec["process"]["env"] = json!(["PATH=/nowhere:/usr/bin", "A=1", "B="]);
    });
    let inside = Bundle::new("", |spec| {
        spec["process"]["args"] = json!(["./sh", "-c", "pwd"]);
        spec["process"]["cwd"] = json!("/bin");
    });
    let made = Bundle::new("pwd", |spec| spec["process"]["cwd"] = json!("/made/for/it"));

    assert_eq!(found.output(), "PATH=/nowhere:/usr/bin\nA=1\nB=\n");
    assert_eq!(inside.output(), "/bin\n");
    assert_eq!(made.output(), "/made/for/it\n");
}

/// Spec: config.md, Process: a program that cannot be executed is an error of create
#[test]
fn a_program_that_is_not_there_is_refused_before_start() {
    let error = |args: Value| refused("/process/args", args);

    assert!(error(json!(["nothing-of-the-kind"])).contains("cannot execute nothing-of-the-kind: no such file"));
    assert!(error(json!(["/nothing"])).contains("cannot execute /nothing: no such file"));
    assert!(error(json!(["/bin"])).contains("cannot execute /bin: permission denied"));
    assert!(refused("/process/cwd", json!("relative")).contains("process.cwd: relative is not an absolute path"));
}

/// Spec: runtime.md, Run: an exit by a signal is 128 and its number
#[test]
fn a_signal_is_128_and_its_number() {
    // The first process of a pid namespace is not killed by signals of its own.
    let bundle = Bundle::new("sh -c 'kill -KILL $$'; exit $?", |_| {});

    assert_eq!(bundle.run().status.code(), Some(137));
}

/// Row 21 (CVE-2024-21626): no working directory leads out of the root, by a descriptor or a link to one.
///
/// A number that is free when the name is looked up, and used when it is looked up again, is a directory of procfs.
#[test]
fn row_21_cve_2024_21626_the_working_directory_is_inside() {
    let check = |bundle: &Bundle, cwd: &str| {
        let output = bundle.run();
        let is_inside = output.stdout == b"/proc/1/fd\n";
        assert!(output.status.code() == Some(1) || is_inside, "{cwd}: {output:?}");
    };
    for number in 3..24 {
        let cwd = format!("/proc/self/fd/{number}");
        let bundle = Bundle::new("pwd", |spec| spec["process"]["cwd"] = json!(cwd));
        std::os::unix::fs::symlink(&cwd, bundle.path("rootfs/x")).unwrap();
        check(&bundle, &cwd);

        let mut spec: Value = serde_json::from_slice(&fs::read(bundle.path("config.json")).unwrap()).unwrap();
        spec["process"]["cwd"] = json!("/x");
        fs::write(bundle.path("config.json"), spec.to_string()).unwrap();
        check(&bundle, &format!("/x to {cwd}"));
    }
}

/// Row 21 (CVE-2024-21626): what the process holds between create and start is on this list.
#[test]
fn row_21_a_created_process_holds_no_descriptor_of_the_host() {
    let bundle = Bundle::new("true", |_| {});
    assert!(bundle.create());
    let pid = bundle.state()["pid"].as_u64().unwrap();

    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap().to_string_lossy().into_owned();
        let number: i32 = entry.file_name().to_str().unwrap().parse().unwrap();
        let is_known = number < 3
            || target.starts_with("socket:")
            || target.starts_with("/memfd:")
            || target.ends_with("/exec.fifo")
            // The private procfs; detached, it shows as its own root.
            || (target == "/" && fs::metadata(entry.path()).unwrap().dev_is_proc());
        assert!(is_known, "{number} is {target}");
    }
    for link in ["cwd", "root"] {
        assert_eq!(fs::read_link(format!("/proc/{pid}/{link}")).unwrap().to_str(), Some("/"), "{link}");
    }
}

trait OfProc {
    fn dev_is_proc(&self) -> bool;
}

impl OfProc for fs::Metadata {
    /// The root of every procfs has inode 1.
    fn dev_is_proc(&self) -> bool {
        std::os::unix::fs::MetadataExt::ino(self) == 1
    }
}

/// Spec: runtime.md, Create: the session keyring is one of the container's own
#[test]
fn the_session_keyring_is_the_containers_own_unless_not_wanted() {
    let keyring = |arguments: &[&str]| {
        let bundle = Bundle::new("cat /proc/keys", |spec| {
            spec["linux"]["maskedPaths"] = json!([]);
        });
        let mut all = vec!["run", "--bundle", bundle.dir()];
        all.extend(arguments);
        // The keyrings of others are listed too.
        let id = bundle.id();
        all.push(&id);
        bundle.strata(&all).unwrap().contains(&format!("_ses.{id}"))
    };

    assert!(keyring(&[]));
    assert!(!keyring(&["--no-new-keyring"]));
}

/// Row 8 (CVE-2019-5736): a program that is the runtime itself, and one that writes to whatever runs, change nothing.
/// `STRATA_ROUNDS` sets the number of rounds.
#[test]
fn row_8_cve_2019_5736_the_engine_on_disk_is_not_written() {
    let rounds = std::env::var("STRATA_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20);
    let program = env!("CARGO_BIN_EXE_strata-oci");
    let before = fs::read(program).unwrap();
    let script =
        "echo begun; while :; do for process in /proc/[0-9]*; do : 2>/dev/null >> $process/exe; done; done 2>/dev/null";
    let bundle = Bundle::new(script, |_| {});
    fs::write(bundle.path("rootfs/itself"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(bundle.path("rootfs/itself"), fs::Permissions::from_mode(0o755)).unwrap();
    bundle.start();
    bundle.wait_for_output("begun");

    for _ in 0..rounds {
        bundle.call(&["exec", "c", "/itself"]);
        let other = Bundle::new("", |spec| spec["process"]["args"] = json!(["/itself"]));
        fs::copy(bundle.path("rootfs/itself"), other.path("rootfs/itself")).unwrap();
        other.run();
    }

    assert!(before == fs::read(program).unwrap(), "the program was written to");
}
