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
