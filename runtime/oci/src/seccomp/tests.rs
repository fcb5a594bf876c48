//! An interpreter of classic BPF decides what a compiled filter does; a plain reading of the rules says
//! what it should do. Both must agree for every number and for random rules and arguments.

use oci_spec::runtime::{Capability, LinuxSeccomp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{tables::Abi, *};
use crate::capabilities::CapabilitySet;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const KILL_PROCESS: u32 = 0x8000_0000;
const ABIS: [Abi; 3] = [Abi::X86_64, Abi::X86, Abi::X32];

/// Runs a program as the kernel does; panics where its checker would refuse.
fn run(program: &[u8], audit: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_ne_bytes());
    data.extend(audit.to_ne_bytes());
    data.extend(0x1234_5678_9abc_def0_u64.to_ne_bytes());
    arguments.iter().for_each(|argument| data.extend(argument.to_ne_bytes()));

    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let record: [u8; 8] = program[at * 8..at * 8 + 8].try_into().unwrap();
        let code = u16::from_ne_bytes([record[0], record[1]]);
        let operand = u32::from_ne_bytes(record[4..].try_into().unwrap());
        let jump = |taken: bool| usize::from(if taken { record[2] } else { record[3] });
        at += 1;
        match code {
            0x20 => {
                let from = operand as usize;
                assert!(from.is_multiple_of(4), "the kernel refuses loads that are not aligned");
                accumulator = u32::from_ne_bytes(data[from..from + 4].try_into().unwrap());
            }
            0x54 => accumulator &= operand,
            0x05 => at += operand as usize,
            0x15 => at += jump(accumulator == operand),
            0x25 => at += jump(accumulator > operand),
            0x35 => at += jump(accumulator >= operand),
            0x06 => return operand,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}

fn number(abi: Abi, name: &str) -> u32 {
    abi.number(name).unwrap_or_else(|| panic!("no {name} on {abi:?}"))
}

/// Reads the rules as the documentation of `compile` states them.
fn expected(seccomp: &LinuxSeccomp, abi: Abi, nr: u32, arguments: [u64; 6]) -> u32 {
    let code = |action: oci_spec::runtime::LinuxSeccompAction, errno: Option<u32>| action.as_u32(errno);
    let default = code(seccomp.default_action(), seccomp.default_errno_ret());
    let rules = || seccomp.syscalls().iter().flatten();
    let named = rules().filter(|rule| rule.names().iter().any(|name| abi.number(name) == Some(nr)));
    let highest = rules().flat_map(|rule| rule.names()).filter_map(|name| abi.number(name)).max();
    let (always, conditional): (Vec<_>, Vec<_>) = named.partition(|rule| rule.args().iter().flatten().next().is_none());
    if let Some(rule) = always.first() {
        return code(rule.action(), rule.errno_ret());
    }
    let holds = |rule: &&oci_spec::runtime::LinuxSyscall| {
        rule.args().iter().flatten().all(|argument| {
            use oci_spec::runtime::LinuxSeccompOperator::*;
            let (actual, value) = (arguments[argument.index()], argument.value());
            match argument.op() {
                ScmpCmpNe => actual != value,
                ScmpCmpLt => actual < value,
                ScmpCmpLe => actual <= value,
                ScmpCmpEq => actual == value,
                ScmpCmpGe => actual >= value,
                ScmpCmpGt => actual > value,
                ScmpCmpMaskedEq => actual & value == argument.value_two().unwrap_or(0) & value,
            }
        })
    };
    if let Some(rule) = conditional.into_iter().find(holds) {
        return code(rule.action(), rule.errno_ret());
    }
    let lets_through = default >> 16 >= 0x7ff0;
    if !lets_through && highest.is_none_or(|highest| nr > highest) { ENOSYS } else { default }
}

fn decide(filter: &Filter, abi: Abi, name: &str, arguments: [u64; 6]) -> u32 {
    run(&filter.program, abi.audit(), number(abi, name), arguments)
}

fn default_filter(capabilities: CapabilitySet) -> Filter {
    compile(&default_profile(capabilities)).unwrap()
}

fn with(capability: Capability) -> CapabilitySet {
    CapabilitySet::docker().union(CapabilitySet::from_iter([capability]))
}

#[test]
fn the_default_profile_decides_every_number_as_its_rules_say() {
    for capabilities in [CapabilitySet::docker(), CapabilitySet::EMPTY, CapabilitySet::ALL] {
        let profile = default_profile(capabilities);
        let filter = compile(&profile).unwrap();

        for abi in ABIS {
            let base = if abi == Abi::X32 { tables::X32_BIT } else { 0 };
            for nr in (base..base + 1000).chain([base + 0x3fff_ffff]) {
                for arguments in [[0; 6], [38, 0, 0, 0, 0, 0], [0x1000_0000; 6], [u64::MAX; 6]] {
                    let (is, should) =
                        (run(&filter.program, abi.audit(), nr, arguments), expected(&profile, abi, nr, arguments));
                    assert_eq!(is, should, "{abi:?} {nr} {arguments:x?}");
                }
            }
        }
    }
}

#[test]
fn an_ordinary_program_is_not_disturbed() {
    let filter = default_filter(CapabilitySet::docker());

    for name in [
        "read",
        "openat",
        "execve",
        "mmap",
        "futex",
        "rseq",
        "statx",
        "landlock_create_ruleset",
        "chroot",
        "close_range",
    ] {
        for abi in ABIS {
            assert_eq!(decide(&filter, abi, name, [0; 6]), ALLOW, "{abi:?} {name}");
        }
    }
}

#[test]
fn what_docker_never_allows_is_refused() {
    let filter = default_filter(CapabilitySet::ALL);

    for name in [
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "userfaultfd",
        "keyctl",
        "add_key",
        "request_key",
        "kexec_load",
        "kexec_file_load",
        "swapon",
        "swapoff",
        "pivot_root",
        "ustat",
        "sysfs",
        "uselib",
        "move_pages",
    ] {
        assert_eq!(decide(&filter, Abi::X86_64, name, [0; 6]), EPERM, "{name}");
    }
}

/// Security row 48 (CVE-2022-0492, CVE-2022-0185).
#[test]
fn row_48_namespaces_and_mounts_need_sys_admin() {
    let names = [
        "unshare",
        "setns",
        "mount",
        "umount2",
        "fsopen",
        "fsconfig",
        "fsmount",
        "move_mount",
        "open_tree",
        "mount_setattr",
    ];
    let (ordinary, admin) = (default_filter(CapabilitySet::docker()), default_filter(with(Capability::SysAdmin)));

    for name in names {
        assert_eq!(decide(&ordinary, Abi::X86_64, name, [0; 6]), EPERM, "{name}");
        assert_eq!(decide(&admin, Abi::X86_64, name, [0; 6]), ALLOW, "{name}");
    }
    for flag in [0x2_0000_u64, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
        assert_eq!(decide(&ordinary, Abi::X86_64, "clone", [flag | 17, 0, 0, 0, 0, 0]), EPERM, "{flag:#x}");
        assert_eq!(decide(&admin, Abi::X86_64, "clone", [flag | 17, 0, 0, 0, 0, 0]), ALLOW, "{flag:#x}");
    }
    assert_eq!(decide(&ordinary, Abi::X86_64, "clone", [0x11, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(decide(&ordinary, Abi::X86_64, "clone3", [0; 6]), ENOSYS);
    assert_eq!(decide(&admin, Abi::X86_64, "clone3", [0; 6]), ALLOW);
}

/// Security row 49 (CVE-2026-31431), and the upper half of the register that the kernel does not look at.
#[test]
fn row_49_sockets_of_the_families_alg_and_vsock_are_refused() {
    let filter = default_filter(CapabilitySet::ALL);

    for family in (0..64).chain([100, 1 << 20, 0x7fff_ffff, 0xffff_ffff]) {
        for upper in [0, 1 << 32, 0xffff_ffff << 32] {
            let should = if [38, 40].contains(&family) { EPERM } else { ALLOW };
            assert_eq!(
                decide(&filter, Abi::X86_64, "socket", [family | upper, 1, 0, 0, 0, 0]),
                should,
                "{family} {upper:x}"
            );
        }
    }
}

#[test]
fn personality_takes_its_five_values_only() {
    let filter = default_filter(CapabilitySet::docker());
    let decide = |value| decide(&filter, Abi::X86_64, "personality", [value, 0, 0, 0, 0, 0]);

    assert!([0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff].into_iter().all(|value| decide(value) == ALLOW));
    assert!([1, 0x4_0000, 0x2_0001, 1 << 32, u64::MAX].into_iter().all(|value| decide(value) == EPERM));
}

#[test]
fn each_capability_opens_its_own_calls() {
    let without = default_filter(CapabilitySet::EMPTY);

    for (capability, name) in [
        (Capability::DacReadSearch, "open_by_handle_at"),
        (Capability::SysBoot, "reboot"),
        (Capability::SysChroot, "chroot"),
        (Capability::SysModule, "finit_module"),
        (Capability::SysPacct, "acct"),
        (Capability::SysPtrace, "kcmp"),
        (Capability::SysRawio, "iopl"),
        (Capability::SysTime, "clock_settime"),
        (Capability::SysTtyConfig, "vhangup"),
        (Capability::SysNice, "mbind"),
        (Capability::Syslog, "syslog"),
        (Capability::Bpf, "bpf"),
        (Capability::Perfmon, "perf_event_open"),
    ] {
        assert_eq!(decide(&without, Abi::X86_64, name, [0; 6]), EPERM, "{name}");
        assert_eq!(decide(&default_filter(with(capability)), Abi::X86_64, name, [0; 6]), ALLOW, "{name}");
    }
}

#[test]
fn the_table_has_dockers_361_names_and_each_is_a_call_somewhere() {
    let profile = default_profile(CapabilitySet::EMPTY);
    let names = profile.syscalls().as_ref().unwrap()[0].names();
    let abis = [Abi::X86_64, Abi::X86, Abi::Arm, Abi::Aarch64, Abi::Riscv64];

    let unknown: Vec<_> = names.iter().filter(|name| abis.iter().all(|abi| abi.number(name).is_none())).collect();

    assert_eq!(names.len(), 361);
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn a_call_younger_than_the_profile_does_not_exist() {
    let filter = default_filter(CapabilitySet::docker());

    assert_eq!(run(&filter.program, Abi::X86_64.audit(), 470, [0; 6]), ENOSYS);
    assert_eq!(run(&filter.program, Abi::X86_64.audit(), 600, [0; 6]), ENOSYS);
    assert_eq!(run(&filter.program, Abi::X86.audit(), 9999, [0; 6]), ENOSYS);
}

#[test]
fn a_foreign_architecture_is_killed() {
    let filter = default_filter(CapabilitySet::docker());

    assert_eq!(run(&filter.program, Abi::Aarch64.audit(), 1, [0; 6]), KILL_PROCESS);
    assert_eq!(run(&filter.program, 0, 0, [0; 6]), KILL_PROCESS);
}

#[test]
fn architectures_of_other_machines_change_nothing() {
    let all = "X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE S390 S390X \
        PARISC PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB";
    let own: Vec<String> = Abi::RUN_HERE.iter().map(|abi| format!("SCMP_ARCH_{abi:?}").to_uppercase()).collect();
    let all: Vec<String> = all.split_whitespace().map(|name| format!("SCMP_ARCH_{name}")).collect();
    let with = |architectures: &[String]| {
        let mut profile = serde_json::to_value(default_profile(CapabilitySet::docker())).unwrap();
        profile["architectures"] = json!(architectures);
        compile(&serde_json::from_value(profile).unwrap()).unwrap()
    };

    assert_eq!(with(&all), with(&own));
}

/// Numbers that the libseccomp tables have too: one call of each table that no other has there.
#[test]
fn every_table_has_the_numbers_of_its_machine() {
    for (abi, name, nr) in [
        (Abi::X86_64, "execve", 59),
        (Abi::X86, "execve", 11),
        (Abi::Aarch64, "execve", 221),
        (Abi::Arm, "mmap2", 192),
        (Abi::Loongarch64, "execve", 221),
        (Abi::Mips { is_little: true }, "execve", 4011),
        (Abi::Mips64 { is_little: false }, "execve", 5057),
        (Abi::Powerpc, "clone", 120),
        (Abi::Powerpc64 { is_little: true }, "seccomp", 358),
        (Abi::Riscv64, "riscv_flush_icache", 259),
        (Abi::S390x, "seccomp", 348),
    ] {
        assert_eq!(abi.number(name), Some(nr), "{abi:?} {name}");
    }
}

#[test]
fn x32_is_absent_unless_listed() {
    let seccomp: LinuxSeccomp = serde_json::from_value(json!({"defaultAction": "SCMP_ACT_ALLOW"})).unwrap();
    let filter = compile(&seccomp).unwrap();

    assert_eq!(run(&filter.program, Abi::X86_64.audit(), 1, [0; 6]), ALLOW);
    assert_eq!(run(&filter.program, Abi::X86_64.audit(), tables::X32_BIT | 1, [0; 6]), ENOSYS);
}

#[test]
fn x32_numbers_of_calls_of_its_own_begin_at_512() {
    for (name, nr) in [("rt_sigaction", 512), ("execve", 520), ("pwritev2", 547), ("read", 0), ("clone3", 435)] {
        assert_eq!(Abi::X32.number(name), Some(tables::X32_BIT | nr), "{name}");
    }
}

#[test]
fn every_action_becomes_the_kernels_number() {
    for (action, number) in [
        (json!({"action": "SCMP_ACT_KILL"}), 0),
        (json!({"action": "SCMP_ACT_KILL_THREAD"}), 0),
        (json!({"action": "SCMP_ACT_KILL_PROCESS"}), 0x8000_0000),
        (json!({"action": "SCMP_ACT_TRAP"}), 0x0003_0000),
        (json!({"action": "SCMP_ACT_ERRNO"}), 0x0005_0001),
        (json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 4095}), 0x0005_0fff),
        (json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 0}), 0x0005_0000),
        (json!({"action": "SCMP_ACT_TRACE", "errnoRet": 7}), 0x7ff0_0007),
        (json!({"action": "SCMP_ACT_LOG"}), 0x7ffc_0000),
        (json!({"action": "SCMP_ACT_NOTIFY"}), 0x7fc0_0000),
    ] {
        let mut rule = action.clone();
        rule["names"] = json!(["getpid"]);
        let seccomp = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/l", "syscalls": [rule]});
        let filter = compile(&serde_json::from_value(seccomp).unwrap()).unwrap();

        assert_eq!(decide(&filter, Abi::X86_64, "getpid", [0; 6]), number, "{action}");
        assert_eq!(filter.flags & 8 != 0, number == 0x7fc0_0000, "a listener is opened only for notify");
    }
}

#[test]
fn bad_filters_are_refused_by_field() {
    let rule = |rule: Value| json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]});
    for (filter, reason) in [
        (
            rule(json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096})),
            "linux.seccomp.syscalls[0].errnoRet: 4096 is not an errno",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 99999}),
            "linux.seccomp.defaultErrnoRet: 99999 is not an errno",
        ),
        (
            rule(json!({"names": ["read"], "action": "SCMP_ACT_NOTIFY"})),
            "linux.seccomp.listenerPath: a rule notifies, but there is no listener",
        ),
        (
            rule(
                json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}),
            ),
            "linux.seccomp.syscalls[0].args: a system call has no argument 6",
        ),
        (
            rule(json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1})),
            "linux.seccomp.syscalls[0].errnoRet: SCMP_ACT_ALLOW takes no errno",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 1}),
            "linux.seccomp.defaultErrnoRet: SCMP_ACT_KILL takes no errno",
        ),
        (rule(json!({"names": [], "action": "SCMP_ACT_ALLOW"})), "linux.seccomp.syscalls[0].names: there is none"),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}),
            "linux.seccomp.listenerMetadata: there is no listenerPath",
        ),
    ] {
        let seccomp: LinuxSeccomp = serde_json::from_value(filter.clone()).unwrap();
        assert_eq!(compile(&seccomp).unwrap_err().to_string(), reason, "{filter}");
    }
}

#[test]
fn a_filter_the_kernel_would_not_take_is_refused() {
    let argument = |value: u64| json!({"index": 0, "value": value, "op": "SCMP_CMP_EQ"});
    let rules: Vec<Value> = (0..1500)
        .map(|value| json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [argument(value)]}))
        .collect();
    let seccomp = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules});

    let error = compile(&serde_json::from_value(seccomp).unwrap()).unwrap_err();

    assert!(matches!(error, Error::TooLong { instructions: 4097.. }), "{error}");
}

#[test]
fn far_jumps_are_relayed() {
    let argument = |value: u64| json!({"index": 1, "value": value << 32 | value, "op": "SCMP_CMP_EQ"});
    let rules: Vec<Value> =
        (0..400).map(|value| json!({"names": ["read", "write"], "action": "SCMP_ACT_ERRNO", "errnoRet": value, "args": [argument(value)]})).collect();
    let seccomp = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules});
    let filter = compile(&serde_json::from_value(seccomp).unwrap()).unwrap();

    for value in [0_u64, 1, 199, 399] {
        let arguments = [0, value << 32 | value, 0, 0, 0, 0];
        assert_eq!(decide(&filter, Abi::X86_64, "write", arguments), 0x0005_0000 | value as u32);
        assert_eq!(decide(&filter, Abi::X86_64, "read", arguments), 0x0005_0000 | value as u32);
    }
    assert_eq!(decide(&filter, Abi::X86_64, "write", [0, 400, 0, 0, 0, 0]), ALLOW);
}

#[test]
fn the_default_filter_is_short() {
    let filter = default_filter(CapabilitySet::docker());

    assert!(filter.program.len() / 8 < 1500, "{}", filter.program.len() / 8);
}

fn arbitrary_rule() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "read",
        "write",
        "open",
        "socket",
        "clone",
        "mseal",
        "ioctl",
        "waitpid",
        "no_such_call",
    ]);
    let operators = prop::sample::select(vec!["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]);
    let value = prop::sample::select(vec![0, 1, 2, 0xffff_ffff, 1 << 32, (1 << 32) | 1, (2 << 32) | 5, u64::MAX]);
    let argument = (0..6_usize, value.clone(), value, operators).prop_map(|(index, value, two, operator)| {
        json!({"index": index, "value": value, "valueTwo": two, "op": format!("SCMP_CMP_{operator}")})
    });
    let actions = prop::sample::select(vec!["ALLOW", "ERRNO", "KILL_PROCESS", "TRAP", "LOG"]);
    (prop::collection::vec(names, 1..4), actions, prop::collection::vec(argument, 0..3), 0..200_u32).prop_map(
        |(names, action, arguments, errno)| {
            let errno = (action == "ERRNO").then_some(errno);
            json!({"names": names, "action": format!("SCMP_ACT_{action}"), "errnoRet": errno, "args": arguments})
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn compiled_rules_decide_as_the_rules_read(
        rules in prop::collection::vec(arbitrary_rule(), 0..12),
        default in prop::sample::select(vec!["ALLOW", "ERRNO", "KILL", "TRACE"]),
        arguments in prop::array::uniform6(prop::sample::select(vec![0, 1, 2, 3, 5, 0xffff_ffff, 1 << 32, (2 << 32) | 5, (2 << 32) | 6, u64::MAX])),
    ) {
        let seccomp: LinuxSeccomp = serde_json::from_value(json!({
            "defaultAction": format!("SCMP_ACT_{default}"),
            "architectures": ["SCMP_ARCH_X32", "SCMP_ARCH_X86"],
            "syscalls": rules,
        })).unwrap();
        let filter = compile(&seccomp).unwrap();

        for abi in ABIS {
            let base = if abi == Abi::X32 { tables::X32_BIT } else { 0 };
            for nr in (base..base + 60).chain(base + 430..base + 530) {
                prop_assert_eq!(run(&filter.program, abi.audit(), nr, arguments), expected(&seccomp, abi, nr, arguments), "{:?} {}", abi, nr);
            }
        }
    }
}
