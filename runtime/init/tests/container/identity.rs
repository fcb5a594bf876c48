//! Who the process is: ids, capabilities, limits, environment, working directory, filters.

use crate::harness::*;
use strata_init::plan::*;

fn status_field(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
    line.split_once(':').unwrap().1.trim().to_owned()
}

#[test]
fn root_has_the_asked_capabilities_and_no_others() {
    let (code, text) = Bench::new().run_shell("cat /proc/self/status");

    assert_eq!(code, 0);
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(status_field(&text, set), format!("{DEFAULT_CAPABILITIES:016x}"), "{set}");
    }
    assert_eq!(status_field(&text, "CapInh"), "0000000000000000");
    assert_eq!(status_field(&text, "CapAmb"), "0000000000000000");
    assert_eq!(status_field(&text, "SigIgn"), "0000000000000000");
    assert_eq!(status_field(&text, "SigBlk"), "0000000000000000");
}

#[test]
fn another_user_has_its_groups_and_no_capabilities() {
    let bench = Bench::new();
    let mut plan = bench.shell("cat /proc/self/status; echo to-stdout >/dev/stdout");
    (plan.process.uid, plan.process.gid, plan.process.groups) = (1000, 1001, vec![1001, 7]);

    let (code, text) = bench.run(&plan);

    assert_eq!(code, 0, "{text}");
    assert_eq!(status_field(&text, "Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(status_field(&text, "Gid"), "1001\t1001\t1001\t1001");
    assert_eq!(status_field(&text, "Groups"), "7 1001");
    assert_eq!(status_field(&text, "CapEff"), "0000000000000000");
    assert_eq!(status_field(&text, "CapPrm"), "0000000000000000");
    assert!(text.ends_with("to-stdout\n"));
}

#[test]
fn ambient_capabilities_reach_another_user() {
    let bench = Bench::new();
    let mut plan = bench.shell("cat /proc/self/status");
    plan.process.uid = 1000;
    plan.process.capabilities.inheritable = 1 << 10;
    plan.process.capabilities.ambient = 1 << 10;

    let (_, text) = bench.run(&plan);

    assert_eq!(status_field(&text, "CapEff"), "0000000000000400");
}

#[test]
fn environment_and_working_directory_are_those_of_the_plan_alone() {
    let bench = Bench::new();
    let mut plan = bench.plan(&["/usr/bin/env"]);
    plan.process.cwd = "/made/for/it".into();

    let (_, text) = bench.run(&plan);

    assert_eq!(text, "PATH=/usr/local/bin:/usr/bin:/bin\nGREETING=hello\n");
    assert!(bench.path("upper/made/for/it").is_dir());
}

#[test]
fn a_default_limit_that_cannot_be_raised_is_not_an_error() {
    let limit = |required| Rlimit { resource: 7, soft: 1 << 40, hard: 1 << 40, required };
    let case = |required, succeeds: bool| {
        let bench = Bench::new();
        let mut plan = bench.shell("true");
        plan.process.rlimits = vec![limit(required)];
        assert_eq!(bench.run(&plan).0 == 0, succeeds, "required: {required}");
    };

    case(false, true);
    case(true, false);
}

#[test]
fn limits_and_umask_are_set() {
    let bench = Bench::new();
    let mut plan = bench.shell("ulimit -n; umask");
    plan.process.rlimits = vec![Rlimit { resource: 7, soft: 100, hard: 200, required: true }];
    plan.process.umask = Some(0o27);

    assert_eq!(bench.run(&plan).1, "100\n0027\n");
}

#[test]
fn a_seccomp_filter_is_in_force_with_and_without_no_new_privileges() {
    // ld [nr]; jeq mkdir, 0, 1; ret ERRNO|EPERM; ret ALLOW
    let code = |code: u16, jt: u8, jf: u8, k: u32| {
        let mut bytes = code.to_ne_bytes().to_vec();
        bytes.extend([jt, jf]);
        bytes.extend(k.to_ne_bytes());
        bytes
    };
    let program = [
        code(0x20, 0, 0, 0),
        code(0x15, 0, 1, libc::SYS_mkdir as u32),
        code(0x06, 0, 0, 0x0005_0000 | libc::EPERM as u32),
        code(0x06, 0, 0, 0x7fff_0000),
    ]
    .concat();
    for no_new_privileges in [false, true] {
        let bench = Bench::new();
        let mut plan = bench.shell("mkdir /tmp/x; cat /proc/self/status");
        plan.process.seccomp = Some(Seccomp { flags: 0, program: program.clone(), listener: None });
        plan.process.no_new_privileges = no_new_privileges;

        let (_, text) = bench.run(&plan);

        assert_eq!(status_field(&text, "Seccomp"), "2");
        assert_eq!(status_field(&text, "NoNewPrivs"), u8::from(no_new_privileges).to_string());
        assert!(text.contains("Operation not permitted"), "{text}");
    }
}

#[test]
fn no_descriptor_but_the_standard_streams_is_inherited() {
    let script = "for fd in $(seq 0 300); do [ -L /proc/$$/fd/$fd ] && echo $fd; done";

    assert_eq!(Bench::new().run_shell(script).1, "0\n1\n2\n");
}

/// Says what it could see of processes that were about to join: their descriptors, or the host's root. The kernel
/// closes what is to be closed before it lets others look, and renames the process after that.
const WATCH: &str = "seen=0; leaks=0; touch /tmp/begun
    while [ ! -e /tmp/stop ]; do
        for process in /proc/[0-9]*; do
            read -r name < $process/comm || continue
            case $name in strata-init) ;; *) continue;; esac
            seen=$((seen + 1))
            set -- $process/fd/[3-9] $process/fd/[1-9][0-9]
            found=0
            [ -e $process/root$MARKER ] && found=1
            # Sockets lead to the engine, which is told of a failure to execute.
            for descriptor; do [ -e $descriptor ] && [ ! -S $descriptor ] && found=$((found + 1)); done
            # What was seen of the program is its own: only what still joins had something to show.
            read -r again < $process/comm || continue
            [ $again = strata-init ] && leaks=$((leaks + found))
        done
    done 2>/dev/null
    echo seen $seen leaks $leaks";

/// Runs a container that watches while others join it, and returns how often it saw one and what it saw of it.
fn watch(bench: &Bench, plan: &mut Plan, joins: usize) -> (u32, u32) {
    std::fs::write(bench.path("marker"), "").unwrap();
    plan.process.env.push(format!("MARKER={}", bench.path("marker").display()).into());
    let mut monitor = bench.start(plan);
    let pid = monitor.ready();
    monitor.go();
    eventually("the watch", || bench.path("upper/tmp/begun").exists());
    let join = |script: &str| {
        let process = bench.shell(script).process;
        let mut exec = Plan {
            log: None,
            exit_record: None,
            control_socket: None,
            process: Process { args: process.args, ..plan.process.clone() },
            ..bench.exec(pid, "")
        };
        if plan.namespaces.user == Namespace::New {
            exec.target.as_mut().unwrap().namespaces |= libc::CLONE_NEWUSER as u32;
        }
        bench.run(&exec).0
    };
    (0..joins).for_each(|_| assert_eq!(join(":"), 0));
    // The end of the first process may be the end of this one.
    join("touch /tmp/stop");
    assert_eq!(monitor.finish(), 0);
    let text = log_text(&bench.path("log"));
    let words: Vec<u32> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    (words[0], words[1])
}

/// Row 7 (CVE-2016-9962): processes of the container reach nothing of one that joins, before its program runs.
#[test]
fn row_7_cve_2016_9962_a_joining_process_shows_nothing_of_the_host() {
    let bench = Bench::new();
    let mut plan = bench.shell(WATCH);

    let (seen, leaks) = watch(&bench, &mut plan, 500);

    assert!(seen > 0, "the watch was too slow to see anything");
    assert_eq!(leaks, 0, "of {seen}");
}

/// Row 7 (CVE-2016-9962): nor with CAP_SYS_PTRACE, in a user namespace.
#[test]
fn row_7_cve_2016_9962_nor_does_it_to_a_tracer() {
    let bench = Bench::new();
    let mut plan = bench.shell(WATCH);
    plan.namespaces.user = Namespace::New;
    plan.uid_map = vec![IdMap { inside: 0, outside: 0, count: 65_536 }];
    plan.gid_map = plan.uid_map.clone();
    plan.steps.retain(|step| !matches!(step, Step::Device { .. } | Step::Sysctl { .. }));
    plan.steps.push(bind("/dev/null", "/dev/null", 0));
    let sets = &mut plan.process.capabilities;
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        *set |= 1 << 19;
    }

    let (seen, leaks) = watch(&bench, &mut plan, 500);

    assert!(seen > 0, "the watch was too slow to see anything");
    assert_eq!(leaks, 0, "of {seen}");
}
