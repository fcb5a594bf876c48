//! From rules to a program: the architecture picks a table, the number goes down a binary tree of ranges,
//! and a call with conditions runs through its rules. Numbers newer than the profile get ENOSYS.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompFilterFlag as Flag,
    LinuxSeccompOperator as Operator,
};

use super::{
    Error, Filter,
    bpf::{Assembler, Label, Test},
    tables::{Abi, X32_BIT},
};

/// Offsets in `struct seccomp_data`. linux/seccomp.h
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
const ENOSYS: u32 = 38;
const EPERM: u32 = 1;
const MAX_INSTRUCTIONS: usize = 4096;

/// What happens to one system call number.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict<'a> {
    /// Always this.
    Always(u32),
    /// The first rule that matches, else the default.
    When(Vec<(&'a [LinuxSeccompArg], u32)>),
}

/// Compiles a filter.
///
/// For one call, a rule without conditions beats those with; of several with conditions the first that
/// matches decides; conditions within a rule must all hold. A name that an architecture does not have is
/// skipped there. A program of an architecture that is not listed is killed; the native one is always listed, and
/// those that this machine does not run are not looked at.
/// Numbers above the highest that the rules name get ENOSYS unless the default lets calls through, so that
/// libc falls back instead of failing on calls younger than the profile.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Filter, Error> {
    let default = encode(seccomp.default_action(), seccomp.default_errno_ret(), || ".defaultErrnoRet".to_owned())?;
    let rules = encode_rules(seccomp)?;
    let mut notifies = seccomp.default_action() == Action::ScmpActNotify;
    notifies |= seccomp.syscalls().iter().flatten().any(|rule| rule.action() == Action::ScmpActNotify);
    let listener = seccomp.listener_path().clone().filter(|path| !path.as_os_str().is_empty());
    if notifies && listener.is_none() {
        return Err(Error::NoListener);
    }
    if listener.is_none() && seccomp.listener_metadata().as_ref().is_some_and(|metadata| !metadata.is_empty()) {
        return Err(Error::MetadataUnused);
    }

    let mut abis = vec![Abi::NATIVE];
    for architecture in seccomp.architectures().iter().flatten() {
        // Programs of another machine do not run here, so there is nothing to decide about them.
        let Some(abi) = Abi::of(*architecture)? else { continue };
        if !abis.contains(&abi) {
            abis.push(abi);
        }
    }
    let lets_through =
        matches!(seccomp.default_action(), Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace);
    let newer = if lets_through { default } else { ERRNO | ENOSYS };

    let mut assembler = Assembler::default();
    let mut entry = assembler.ret(KILL_PROCESS);
    for audit in audits(&abis).into_iter().rev() {
        let table = machine(audit, &abis, &rules, default, newer);
        let body = tree(&mut assembler, &table, default);
        assembler.fall_to(body);
        let loaded = assembler.load(NUMBER);
        entry = assembler.test(Test::Equal, audit, loaded, entry);
    }
    assembler.fall_to(entry);
    assembler.load(ARCHITECTURE);

    let instructions = assembler.len();
    if instructions > MAX_INSTRUCTIONS {
        return Err(Error::TooLong { instructions });
    }
    let listener = listener.filter(|_| notifies);
    Ok(Filter { program: assembler.finish(), flags: flags(seccomp, notifies), listener })
}

/// One rule with its action as the kernel's number.
struct Rule<'a> {
    names: &'a [String],
    conditions: &'a [LinuxSeccompArg],
    action: u32,
}

fn encode_rules(seccomp: &LinuxSeccomp) -> Result<Vec<Rule<'_>>, Error> {
    let mut rules = Vec::new();
    for (index, rule) in seccomp.syscalls().iter().flatten().enumerate() {
        let action = encode(rule.action(), rule.errno_ret(), || format!(".syscalls[{index}].errnoRet"))?;
        let conditions = rule.args().as_deref().unwrap_or_default();
        if rule.names().is_empty() {
            return Err(Error::NoNames { rule: index });
        }
        if let Some(bad) = conditions.iter().find(|condition| condition.index() > 5) {
            return Err(Error::Argument { rule: index, index: bad.index() });
        }
        rules.push(Rule { names: rule.names(), conditions, action });
    }
    Ok(rules)
}

fn encode(action: Action, errno: Option<u32>, place: impl Fn() -> String) -> Result<u32, Error> {
    let limit = match action {
        Action::ScmpActErrno => 4095,
        Action::ScmpActTrace => 0xffff,
        _ if errno.is_some() => return Err(Error::ErrnoUnused { place: place(), action }),
        _ => return Ok(action.as_u32(None)),
    };
    let errno = errno.unwrap_or(EPERM);
    if errno > limit {
        return Err(Error::Errno { place: place(), errno });
    }
    Ok(action.as_u32(Some(errno)))
}

/// Returns the flags of seccomp(2). TSYNC is left out: the filter is set by a process of one thread.
fn flags(seccomp: &LinuxSeccomp, notifies: bool) -> u32 {
    let flag = |flag: &Flag| match flag {
        Flag::SeccompFilterFlagTsync => 0,
        Flag::SeccompFilterFlagLog => 1 << 1,
        Flag::SeccompFilterFlagSpecAllow => 1 << 2,
        // Means something only with a listener: EINVAL without.
        Flag::SeccompFilterFlagWaitKillableRecv if notifies => 1 << 5,
        Flag::SeccompFilterFlagWaitKillableRecv => 0,
    };
    let listed = seccomp.flags().iter().flatten().map(flag).fold(0, |flags, flag| flags | flag);
    listed | if notifies { 1 << 3 } else { 0 }
}

fn audits(abis: &[Abi]) -> Vec<u32> {
    let mut audits = Vec::new();
    for abi in abis {
        if !audits.contains(&abi.audit()) {
            audits.push(abi.audit());
        }
    }
    audits
}

/// Returns the verdicts of all numbers of a machine as ranges: each begins at its key and ends before the next.
fn machine<'a>(audit: u32, abis: &[Abi], rules: &[Rule<'a>], default: u32, newer: u32) -> Vec<(u32, Verdict<'a>)> {
    let mut ranges = Vec::new();
    for abi in abis.iter().filter(|abi| abi.audit() == audit) {
        let numbers = numbers(*abi, rules);
        let mut next = if *abi == Abi::X32 { X32_BIT } else { 0 };
        for (number, verdict) in numbers {
            if number > next {
                ranges.push((next, Verdict::Always(default)));
            }
            ranges.push((number, verdict));
            next = number + 1;
        }
        ranges.push((next, Verdict::Always(newer)));
    }
    if audit == Abi::X32.audit() && !abis.contains(&Abi::X32) {
        // A kernel without the x32 ABI says the same.
        ranges.push((X32_BIT, Verdict::Always(ERRNO | ENOSYS)));
    }
    // x86_64 comes before x32 by its numbers, whatever the order in the spec.
    ranges.sort_by_key(|(start, _)| *start);
    ranges.dedup_by(|next, before| next.1 == before.1);
    ranges
}

fn numbers<'a>(abi: Abi, rules: &[Rule<'a>]) -> BTreeMap<u32, Verdict<'a>> {
    let mut numbers: BTreeMap<u32, Verdict<'a>> = BTreeMap::new();
    for rule in rules {
        for number in rule.names.iter().filter_map(|name| abi.number(name)) {
            let verdict = numbers.entry(number).or_insert_with(|| Verdict::When(Vec::new()));
            match verdict {
                Verdict::Always(_) => {}
                Verdict::When(_) if rule.conditions.is_empty() => *verdict = Verdict::Always(rule.action),
                Verdict::When(chain) => chain.push((rule.conditions, rule.action)),
            }
        }
    }
    numbers
}

/// Emits a binary search for the range of the number in the accumulator.
fn tree(assembler: &mut Assembler, ranges: &[(u32, Verdict<'_>)], default: u32) -> Label {
    match ranges {
        [] => assembler.ret(default),
        [(_, Verdict::Always(action))] => assembler.ret(*action),
        [(_, Verdict::When(chain))] => {
            let otherwise = assembler.ret(default);
            chain.iter().rev().fold(otherwise, |otherwise, (conditions, action)| {
                let matched = assembler.ret(*action);
                conditions.iter().rev().fold(matched, |matched, one| condition(assembler, one, matched, otherwise))
            })
        }
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let high_label = tree(assembler, high, default);
            let low_label = tree(assembler, low, default);
            assembler.test(Test::GreaterOrEqual, high[0].0, high_label, low_label)
        }
    }
}

/// Emits the comparison of one 64-bit argument, the upper half first.
fn condition(assembler: &mut Assembler, condition: &LinuxSeccompArg, matched: Label, otherwise: Label) -> Label {
    let offset = ARGUMENTS + 8 * condition.index() as u32;
    let value = condition.value();
    let mut order = |test, yes, no| {
        let (high, low) = halves(value);
        let low_test = assembler.test(test, low, yes, no);
        assembler.fall_to(low_test);
        let low_load = assembler.load(word(offset, Half::Low));
        let equal = assembler.test(Test::Equal, high, low_load, no);
        let greater = assembler.test(Test::Greater, high, yes, equal);
        assembler.fall_to(greater);
        assembler.load(word(offset, Half::High))
    };
    match condition.op() {
        Operator::ScmpCmpGt => order(Test::Greater, matched, otherwise),
        Operator::ScmpCmpGe => order(Test::GreaterOrEqual, matched, otherwise),
        Operator::ScmpCmpLt => order(Test::GreaterOrEqual, otherwise, matched),
        Operator::ScmpCmpLe => order(Test::Greater, otherwise, matched),
        Operator::ScmpCmpEq => equal(assembler, offset, u64::MAX, value, matched, otherwise),
        Operator::ScmpCmpNe => equal(assembler, offset, u64::MAX, value, otherwise, matched),
        Operator::ScmpCmpMaskedEq => {
            equal(assembler, offset, value, condition.value_two().unwrap_or(0) & value, matched, otherwise)
        }
    }
}

/// Emits "argument and `mask` equals `value`"; a half that the mask clears is not looked at.
fn equal(assembler: &mut Assembler, offset: u32, mask: u64, value: u64, yes: Label, no: Label) -> Label {
    let ((mask_high, mask_low), (high, low)) = (halves(mask), halves(value));
    let mut next = yes;
    for (half, mask, value) in [(Half::Low, mask_low, low), (Half::High, mask_high, high)] {
        if mask == 0 {
            continue;
        }
        let test = assembler.test(Test::Equal, value, next, no);
        assembler.fall_to(test);
        if mask != u32::MAX {
            assembler.and(mask);
        }
        next = assembler.load(word(offset, half));
    }
    next
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    High,
    Low,
}

fn word(offset: u32, half: Half) -> u32 {
    let is_second = (half == Half::High) == cfg!(target_endian = "little");
    offset + if is_second { 4 } else { 0 }
}

fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}
