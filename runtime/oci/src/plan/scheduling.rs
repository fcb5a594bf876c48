//! How the kernel schedules the process: CPU policy and affinity, I/O priority, memory policy, execution domain.

use oci_spec::runtime::{
    ExecCPUAffinity, IOPriorityClass, LinuxIOPriority, LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityDomain,
    LinuxSchedulerFlag as Flag, LinuxSchedulerPolicy as Policy, MemoryPolicyFlagType as NodeFlag,
    MemoryPolicyModeType as Mode, Scheduler as SpecScheduler,
};
use strata_init::plan::{MemoryPolicy, Scheduler};

use super::{Error, invalid};

/// As many CPUs as sched_setaffinity(2) is told of here; the kernels of distributions take no more than 8192.
const MAX_CPUS: u32 = 1024;
/// As many nodes as any kernel has: MAX_NUMNODES.
const MAX_NODES: u32 = 1024;

/// Checks `process.scheduler` against sched_setattr(2).
pub(super) fn scheduler(spec: &SpecScheduler) -> Result<Scheduler, Error> {
    let field = |name: &str| format!("process.scheduler.{name}");
    let policy = match spec.policy() {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        // Reserved and never implemented.
        Policy::SchedIso => return Err(invalid(field("policy"), "Linux has no SCHED_ISO")),
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => 6,
    };
    let nice = spec.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(invalid(field("nice"), format!("{nice} is not from -20 to 19")));
    }
    let priority = spec.priority().unwrap_or(0);
    let is_real_time = matches!(policy, 1 | 2);
    match (is_real_time, priority) {
        (true, 1..=99) | (false, 0) => {}
        (true, _) => return Err(invalid(field("priority"), format!("{priority} is not from 1 to 99"))),
        (false, _) => return Err(invalid(field("priority"), "only SCHED_FIFO and SCHED_RR have one")),
    }
    let times = [("runtime", spec.runtime()), ("deadline", spec.deadline()), ("period", spec.period())];
    if let (true, Some((name, _))) = (policy != 6, times.iter().find(|(_, time)| time.is_some_and(|time| time != 0))) {
        return Err(invalid(field(name), "only SCHED_DEADLINE has one"));
    }
    let flags = spec.flags().iter().flatten().map(flag).fold(0, |flags, flag| flags | flag);
    let [runtime, deadline, period] = times.map(|(_, time)| time.unwrap_or(0));
    Ok(Scheduler { policy, flags, nice, priority: priority as u32, runtime, deadline, period })
}

/// Returns the kernel's bit. linux/sched.h
fn flag(flag: &Flag) -> u64 {
    match flag {
        Flag::SchedResetOnFork => 0x1,
        Flag::SchedFlagReclaim => 0x2,
        Flag::SchedFlagDLOverrun => 0x4,
        Flag::SchedFlagKeepPolicy => 0x8,
        Flag::SchedFlagKeepParams => 0x10,
        Flag::SchedFlagUtilClampMin => 0x20,
        Flag::SchedFlagUtilClampMax => 0x40,
    }
}

/// Returns the number that ioprio_set(2) takes.
pub(super) fn io_priority(spec: &LinuxIOPriority) -> Result<u16, Error> {
    let class = match spec.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    let level = spec.priority();
    let level = u16::try_from(level).ok().filter(|level| *level < 8);
    let level = level
        .ok_or_else(|| invalid("process.ioPriority.priority", format!("{} is not from 0 to 7", spec.priority())))?;
    Ok(class << 13 | level)
}

/// Returns the CPUs before and after the process joins its cgroups.
pub(super) fn affinity(spec: &ExecCPUAffinity) -> Result<(Vec<u32>, Vec<u32>), Error> {
    let cpus = |name: &str, text: &Option<String>| match text.as_deref().unwrap_or_default() {
        "" => Ok(Vec::new()),
        text => list(text, MAX_CPUS).map_err(|reason| invalid(format!("process.execCPUAffinity.{name}"), reason)),
    };
    Ok((cpus("initial", spec.initial())?, cpus("final", spec.cpu_affinity_final())?))
}

/// Parses a list such as `0-3,7`.
fn list(text: &str, limit: u32) -> Result<Vec<u32>, String> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number: &u32| digits && *number < limit)
    };
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => numbers.extend(first..=last),
            _ => return Err(format!("{part:?} is not a number or a range of numbers below {limit}")),
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// Checks `linux.memoryPolicy` against set_mempolicy(2).
pub(super) fn memory_policy(spec: &LinuxMemoryPolicy) -> Result<MemoryPolicy, Error> {
    // linux/mempolicy.h; of the modes without nodes the preferred one then means the local node.
    let (mode, takes_nodes, needs_nodes) = match spec.mode() {
        Mode::MpolDefault => (0, false, false),
        Mode::MpolPreferred => (1, true, false),
        Mode::MpolBind => (2, true, true),
        Mode::MpolInterleave => (3, true, true),
        Mode::MpolLocal => (4, false, false),
        Mode::MpolPreferredMany => (5, true, true),
        Mode::MpolWeightedInterleave => (6, true, true),
    };
    let text = spec.nodes().as_deref().unwrap_or_default();
    let nodes = match text {
        "" if needs_nodes => return Err(invalid("linux.memoryPolicy.nodes", format!("{} needs nodes", spec.mode()))),
        "" => Vec::new(),
        _ if !takes_nodes => {
            return Err(invalid("linux.memoryPolicy.nodes", format!("{} takes no nodes", spec.mode())));
        }
        text => list(text, MAX_NODES).map_err(|reason| invalid("linux.memoryPolicy.nodes", reason))?,
    };
    let flags = spec.flags().iter().flatten().map(node_flag).fold(0, |flags, flag| flags | flag);
    if flags & 0xc000 == 0xc000 {
        let reason = "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other";
        return Err(invalid("linux.memoryPolicy.flags", reason));
    }
    let mut mask = vec![0; nodes.last().map_or(0, |last| *last as usize / 64 + 1)];
    nodes.iter().for_each(|node| mask[*node as usize / 64] |= 1_u64 << (node % 64));
    Ok(MemoryPolicy { mode: mode | flags, nodes: mask })
}

fn node_flag(flag: &NodeFlag) -> u32 {
    match flag {
        NodeFlag::MpolFNumaBalancing => 1 << 13,
        NodeFlag::MpolFRelativeNodes => 1 << 14,
        NodeFlag::MpolFStaticNodes => 1 << 15,
    }
}

/// Returns the number that personality(2) takes.
pub(super) fn personality(spec: &LinuxPersonality) -> Result<u32, Error> {
    if let Some(flag) = spec.flags().iter().flatten().next() {
        return Err(invalid("linux.personality.flags", format!("{flag:?} is unknown: the specification has none yet")));
    }
    Ok(match spec.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn every_policy_has_the_kernels_number_and_its_own_fields() {
        for (spec, policy) in [
            (json!({"policy": "SCHED_OTHER", "nice": -20}), 0),
            (json!({"policy": "SCHED_FIFO", "priority": 99}), 1),
            (json!({"policy": "SCHED_RR", "priority": 1}), 2),
            (json!({"policy": "SCHED_BATCH", "nice": 19}), 3),
            (json!({"policy": "SCHED_IDLE"}), 5),
            (json!({"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 3}), 6),
        ] {
            assert_eq!(scheduler(&read(spec.clone())).unwrap().policy, policy, "{spec}");
        }
        let deadline = json!({"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 3,
            "flags": ["SCHED_FLAG_RECLAIM", "SCHED_FLAG_KEEP_PARAMS"]});
        let expected = Scheduler { policy: 6, flags: 0x12, runtime: 1, deadline: 2, period: 3, ..Scheduler::default() };
        assert_eq!(scheduler(&read(deadline)).unwrap(), expected);
    }

    #[test]
    fn what_a_policy_does_not_have_is_refused_by_field() {
        for (spec, field) in [
            (json!({"policy": "SCHED_ISO"}), "policy"),
            (json!({"policy": "SCHED_OTHER", "nice": 20}), "nice"),
            (json!({"policy": "SCHED_OTHER", "priority": 1}), "priority"),
            (json!({"policy": "SCHED_FIFO"}), "priority"),
            (json!({"policy": "SCHED_RR", "priority": 100}), "priority"),
            (json!({"policy": "SCHED_BATCH", "period": 1}), "period"),
        ] {
            let error = scheduler(&read(spec.clone())).unwrap_err().to_string();
            assert!(error.starts_with(&format!("process.scheduler.{field}: ")), "{spec}: {error}");
        }
    }

    #[test]
    fn an_io_priority_is_a_class_and_a_level() {
        assert_eq!(io_priority(&read(json!({"class": "IOPRIO_CLASS_BE", "priority": 4}))).unwrap(), 2 << 13 | 4);
        assert_eq!(io_priority(&read(json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0}))).unwrap(), 3 << 13);
        for level in [-1, 8] {
            let error = io_priority(&read(json!({"class": "IOPRIO_CLASS_RT", "priority": level}))).unwrap_err();
            assert_eq!(error.to_string(), format!("process.ioPriority.priority: {level} is not from 0 to 7"));
        }
    }

    #[test]
    fn lists_are_numbers_and_ranges() {
        assert_eq!(list("0-3,7", 8), Ok(vec![0, 1, 2, 3, 7]));
        assert_eq!(list("5,1,1-2", 8), Ok(vec![1, 2, 5]));
        for bad in ["", "a", "1-", "-1", "3-1", "8", "1,,2", "+1", "0-8", "1-2-3", "99999999999"] {
            assert!(list(bad, 8).is_err(), "{bad:?}");
        }
        let both = affinity(&read(json!({"initial": "0-1", "final": "1"}))).unwrap();
        assert_eq!(both, (vec![0, 1], vec![1]));
        let error = affinity(&read(json!({"final": "2000"}))).unwrap_err().to_string();
        assert!(error.starts_with("process.execCPUAffinity.final: "), "{error}");
    }

    #[test]
    fn a_memory_policy_is_a_mode_with_flags_and_a_mask_of_nodes() {
        let of = |value| memory_policy(&read(value));

        let interleave = json!({"mode": "MPOL_INTERLEAVE", "nodes": "2-3,64", "flags": ["MPOL_F_STATIC_NODES"]});
        assert_eq!(of(interleave).unwrap(), MemoryPolicy { mode: 3 | 1 << 15, nodes: vec![0b1100, 1] });
        assert_eq!(of(json!({"mode": "MPOL_DEFAULT"})).unwrap(), MemoryPolicy::default());
        assert_eq!(of(json!({"mode": "MPOL_PREFERRED"})).unwrap(), MemoryPolicy { mode: 1, nodes: vec![] });
        for (bad, field) in [
            (json!({"mode": "MPOL_BIND"}), "nodes"),
            (json!({"mode": "MPOL_LOCAL", "nodes": "0"}), "nodes"),
            (json!({"mode": "MPOL_BIND", "nodes": "x"}), "nodes"),
            (
                json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]}),
                "flags",
            ),
        ] {
            let error = of(bad.clone()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("linux.memoryPolicy.{field}: ")), "{bad}: {error}");
        }
    }

    #[test]
    fn a_personality_is_a_domain_without_flags() {
        assert_eq!(personality(&read(json!({"domain": "LINUX32"}))).unwrap(), 8);
        assert_eq!(personality(&read(json!({"domain": "LINUX"}))).unwrap(), 0);
        let error = personality(&read(json!({"domain": "LINUX", "flags": ["X"]}))).unwrap_err().to_string();
        assert!(error.starts_with("linux.personality.flags: "), "{error}");
    }
}
