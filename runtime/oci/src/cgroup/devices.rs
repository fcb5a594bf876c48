//! Device rules: commands for the device cgroup of v1, an eBPF program for v2. Pure.
//! Both mean the same: [`Policy`] does what the kernel's `security/device_cgroup.c` does with the commands.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::{Error, settings::unsupported};

mod program;

pub(super) use program::compile;

/// What the access of a rule consists of, as eBPF counts it (`BPF_DEVCG_ACC_*`).
const ACCESSES: [(u8, char); 3] = [(1, 'm'), (2, 'r'), (4, 'w')];
const ALL: u8 = 7;

/// Which nodes a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Block,
    Char,
}

/// Nodes, and what is done with them; an absent number is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) kind: Kind,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) access: u8,
}

/// One rule in the kernel's sense: about everything, or about some nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) allow: bool,
    /// Absent: everything, and all rules before are forgotten.
    pub(super) about: Option<Access>,
}

/// What every container may use (runtime spec, "Default Devices"; making nodes is what `CAP_MKNOD` is for).
const DEFAULTS: [(Option<u32>, Option<u32>, u8); 9] = [
    (None, None, 1),
    (Some(1), Some(3), ALL),
    (Some(1), Some(5), ALL),
    (Some(1), Some(7), ALL),
    (Some(1), Some(8), ALL),
    (Some(1), Some(9), ALL),
    (Some(5), Some(0), ALL),
    (Some(5), Some(2), ALL),
    (Some(136), None, ALL),
];

/// Returns the rules of a spec, each with the field it comes from.
pub(super) fn rules(list: &[LinuxDeviceCgroup]) -> Result<Vec<(String, Rule)>, Error> {
    let mut rules = Vec::with_capacity(list.len() + 12);
    for (index, rule) in list.iter().enumerate() {
        let field = format!("linux.resources.devices[{index}]");
        for about in about(rule, &field)? {
            rules.push((field.clone(), Rule { allow: rule.allow(), about }));
        }
    }
    Ok(rules)
}

/// Returns what holds around the rules of a spec in other runtimes too: all is forbidden before, the usual allowed after,
/// unless the rules allow it last.
pub(super) fn with_defaults(rules: Vec<(String, Rule)>) -> Vec<(String, Rule)> {
    let field = || "linux.resources.devices".to_owned();
    let allow = |access: Access| (field(), Rule { allow: true, about: Some(access) });
    let deny_all = (field(), Rule { allow: false, about: None });
    let starts_over = rules.first().is_some_and(|(_, rule)| rule.about.is_none());
    let defaults = DEFAULTS.map(|(major, minor, access)| allow(Access { kind: Kind::Char, major, minor, access }));
    let nodes = allow(Access { kind: Kind::Block, major: None, minor: None, access: 1 });
    let before = (!starts_over).then_some(deny_all);
    let last = rules.len() - rules.iter().rev().take_while(|(_, rule)| rule.allow).count();
    let is_new = |(_, default): &(String, Rule)| rules[last..].iter().all(|(_, rule)| rule != default);
    let after: Vec<_> = [nodes].into_iter().chain(defaults).filter(is_new).collect();
    before.into_iter().chain(rules).chain(after).collect()
}

fn about(rule: &LinuxDeviceCgroup, field: &str) -> Result<Vec<Option<Access>>, Error> {
    let text = rule.access().as_deref().filter(|text| !text.is_empty()).unwrap_or("rwm");
    let mut access = 0;
    for letter in text.chars() {
        let found = ACCESSES.iter().find(|(_, one)| *one == letter);
        access |= found.ok_or_else(|| unsupported_at(field, "the access is not made of r, w and m"))?.0;
    }
    let number = |number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => {
            let number = u32::try_from(number);
            number.map(Some).map_err(|_| unsupported_at(field, "it has a number that no device can have"))
        }
    };
    let (major, minor) = (number(rule.major())?, number(rule.minor())?);
    let one = |kind| Some(Access { kind, major, minor, access });
    Ok(match rule.typ().unwrap_or_default() {
        LinuxDeviceType::B => vec![one(Kind::Block)],
        LinuxDeviceType::C | LinuxDeviceType::U => vec![one(Kind::Char)],
        // The kernel's "a" takes no numbers and no access.
        LinuxDeviceType::A if major.is_none() && minor.is_none() && access == ALL => vec![None],
        LinuxDeviceType::A => vec![one(Kind::Block), one(Kind::Char)],
        LinuxDeviceType::P => return Err(unsupported_at(field, "a pipe is not a device")),
    })
}

fn unsupported_at(field: &str, reason: &'static str) -> Error {
    unsupported(field.trim_start_matches("linux.resources."), reason)
}

/// Returns file and content for the device cgroup of v1.
pub(super) fn command(rule: &Rule) -> (&'static str, String) {
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
    let text = rule.about.map_or("a".to_owned(), |about| {
        let kind = if about.kind == Kind::Block { 'b' } else { 'c' };
        let access = ACCESSES.iter().filter(|(bit, _)| about.access & bit != 0).map(|(_, letter)| letter);
        format!("{kind} {}:{} {}", number(about.major), number(about.minor), access.collect::<String>())
    });
    (if rule.allow { "devices.allow" } else { "devices.deny" }, text)
}

/// What a list of rules comes to: a default, and exceptions from it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) allow: bool,
    pub(super) exceptions: Vec<Access>,
}

impl Policy {
    /// A new cgroup allows what its parent does; that the parent is consulted too is the kernel's affair.
    pub(super) fn of<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Self {
        let mut policy = Self { allow: true, exceptions: Vec::new() };
        rules.into_iter().for_each(|rule| policy.add(rule));
        policy
    }

    /// Whether nothing is forbidden.
    pub(super) fn allows_all(&self) -> bool {
        self.allow && self.exceptions.is_empty()
    }

    fn add(&mut self, rule: &Rule) {
        let Some(about) = rule.about else {
            *self = Self { allow: rule.allow, exceptions: Vec::new() };
            return;
        };
        let same = |one: &&mut Access| (one.kind, one.major, one.minor) == (about.kind, about.major, about.minor);
        let found = self.exceptions.iter_mut().find(same);
        match (rule.allow == self.allow, found) {
            (true, Some(one)) => one.access &= !about.access,
            (false, Some(one)) => one.access |= about.access,
            (true, None) => {}
            (false, None) => self.exceptions.push(about),
        }
        self.exceptions.retain(|one| one.access != 0);
    }
}

#[cfg(test)]
mod tests;
