//! What two lists of rules for system calls decide: of every number of each architecture, and of arguments around those that
//! either list compares with.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use syscalls::{x86, x86_64};

use super::Places;

/// Higher than the numbers of any call.
const NUMBERS: u32 = 1024;
/// Families of sockets are below.
const SMALL: u64 = 64;

/// Numbers and names of an architecture. x32 has the names of x86-64 under other numbers, and rules are by name.
fn table(architecture: &str) -> BTreeMap<u32, &'static str> {
    macro_rules! named {
        ($machine:ident) => {
            $machine::Sysno::iter().map(|call| (u32::try_from(call.id()).unwrap(), call.name())).collect()
        };
    }
    match architecture {
        "SCMP_ARCH_X86_64" | "SCMP_ARCH_X32" => named!(x86_64),
        "SCMP_ARCH_X86" => named!(x86),
        _ => panic!("there is no table of the system calls of {architecture}"),
    }
}

/// Rules for system calls.
pub struct Filter<'a>(&'a Value);

impl<'a> Filter<'a> {
    /// Those of a spec, which has some.
    pub fn of(spec: &'a Value) -> Self {
        let rules = &spec["linux"]["seccomp"];
        assert!(rules["syscalls"].is_array(), "the spec has no rules for system calls");
        Self(rules)
    }

    /// What becomes of a call that no rule is about.
    pub fn default_action(&self) -> &str {
        self.0["defaultAction"].as_str().unwrap()
    }

    /// Those whose programs are not killed at their first call.
    pub fn architectures(&self) -> BTreeSet<&'a str> {
        super::bundle::words(&self.0["architectures"])
    }

    fn rules(&self, call: &str) -> impl Iterator<Item = &'a Value> {
        let is_about =
            move |rule: &&Value| rule["names"].as_array().is_some_and(|names| names.iter().any(|name| name == call));
        self.0["syscalls"].as_array().into_iter().flatten().filter(is_about)
    }

    /// Whether a call gets to the kernel. A rule without conditions comes before those with any; of these the first that
    /// holds decides.
    pub fn lets_through(&self, architecture: &str, call: &str, arguments: &[u64; 6]) -> bool {
        if !self.architectures().contains(architecture) {
            return false;
        }
        let holds = |rule: &&Value| conditions(rule).all(|condition| is_met(condition, arguments));
        let plain = self.rules(call).find(|rule| conditions(rule).next().is_none());
        let rule = plain.or_else(|| self.rules(call).find(holds));
        let action = rule.map_or(self.default_action(), |rule| rule["action"].as_str().unwrap());
        // Who traces or listens may let it through.
        matches!(action, "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" | "SCMP_ACT_TRACE" | "SCMP_ACT_NOTIFY")
    }

    /// What a call's arguments are compared with.
    fn values(&self, call: &str) -> BTreeMap<usize, BTreeSet<u64>> {
        let mut values: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
        for condition in self.rules(call).flat_map(conditions) {
            let index = usize::try_from(condition["index"].as_u64().unwrap()).unwrap();
            values.entry(index).or_default().extend([number(condition, "value"), number(condition, "valueTwo")]);
        }
        values
    }
}

fn conditions(rule: &Value) -> impl Iterator<Item = &Value> {
    rule["args"].as_array().into_iter().flatten()
}

fn number(condition: &Value, field: &str) -> u64 {
    condition[field].as_u64().unwrap_or(0)
}

fn is_met(condition: &Value, arguments: &[u64; 6]) -> bool {
    let argument = arguments[usize::try_from(condition["index"].as_u64().unwrap()).unwrap()];
    let (value, two) = (number(condition, "value"), number(condition, "valueTwo"));
    match condition["op"].as_str().unwrap() {
        "SCMP_CMP_NE" => argument != value,
        "SCMP_CMP_LT" => argument < value,
        "SCMP_CMP_LE" => argument <= value,
        "SCMP_CMP_EQ" => argument == value,
        "SCMP_CMP_GE" => argument >= value,
        "SCMP_CMP_GT" => argument > value,
        "SCMP_CMP_MASKED_EQ" => argument & value == two & value,
        other => panic!("what is {other}?"),
    }
}

/// Compares all decisions.
pub fn compare(ours: &Filter<'_>, theirs: &Filter<'_>, places: &mut Places) {
    let all: BTreeSet<&str> = ours.architectures().union(&theirs.architectures()).copied().collect();
    assert!(all.contains("SCMP_ARCH_X86_64"), "the rules are for {all:?}");
    for architecture in all {
        let table = table(architecture);
        for nr in 0..NUMBERS {
            // No rule is about a number without a name.
            let call = table.get(&nr).copied().unwrap_or_default();
            let all = arguments(ours, theirs, call, architecture == "SCMP_ARCH_X86");
            let decide =
                |arguments: &[u64; 6]| [ours, theirs].map(|filter| filter.lets_through(architecture, call, arguments));
            let first = decide(&all[0]);
            if all.iter().all(|arguments| decide(arguments) == first) {
                places.note(format!("system call {call}"), first[0], first[1]);
                continue;
            }
            for arguments in &all {
                let [own, other] = decide(arguments);
                places.note(format!("system call {call} of {}", shown(arguments)), own, other);
            }
        }
    }
}

/// The arguments up to the last that is not 0.
fn shown(arguments: &[u64; 6]) -> String {
    let count = arguments.iter().rposition(|argument| *argument != 0).map_or(1, |last| last + 1);
    let words: Vec<String> = arguments[..count].iter().map(|argument| format!("{argument:#x}")).collect();
    words.join(" ")
}

/// Arguments that may make a difference: what is compared with and its neighbours, each bit, families of sockets, and all of
/// that with something in the upper half of the register, which the kernel drops where a parameter is an int.
fn arguments(ours: &Filter<'_>, theirs: &Filter<'_>, call: &str, is_32_bit: bool) -> Vec<[u64; 6]> {
    let mut compared = ours.values(call);
    for (index, values) in theirs.values(call) {
        compared.entry(index).or_default().extend(values);
    }
    let mut all = vec![[0; 6]];
    for (index, values) in compared {
        let mut tried: BTreeSet<u64> = (0..SMALL).chain((0..64).map(|bit| 1 << bit)).chain([u64::MAX]).collect();
        tried.extend(values.iter().flat_map(|value| [value.wrapping_sub(1), *value, value.wrapping_add(1)]));
        let high: Vec<u64> = tried.iter().filter(|value| **value < 1 << 32).map(|value| value | 1 << 32).collect();
        tried.extend(high);
        tried.retain(|value| !is_32_bit || *value < 1 << 32);
        let with = |arguments: &[u64; 6], value: u64| {
            let mut arguments = *arguments;
            arguments[index] = value;
            arguments
        };
        all = all.iter().flat_map(|arguments| tried.iter().map(move |value| with(arguments, *value))).collect();
    }
    all
}
