//! What of the host's devices a container may make, read and write: the rules of two specs, for every number in either.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Places;

/// What runc adds to the rules of every container: no bundle says it. (kind, major, minor, access), -1 is any.
const OF_RUNC: [(char, i64, i64, &str); 11] = [
    ('c', -1, -1, "m"),
    ('b', -1, -1, "m"),
    ('c', 1, 3, "rwm"),
    ('c', 1, 5, "rwm"),
    ('c', 1, 7, "rwm"),
    ('c', 1, 8, "rwm"),
    ('c', 1, 9, "rwm"),
    ('c', 5, 0, "rwm"),
    ('c', 5, 2, "rwm"),
    ('c', 10, 200, "rwm"),
    ('c', 136, -1, "rwm"),
];

/// A rule; the last one that applies decides.
struct Rule {
    allows: bool,
    /// None: of both kinds.
    kind: Option<char>,
    major: i64,
    minor: i64,
    access: String,
}

impl Rule {
    fn applies(&self, kind: char, major: i64, minor: i64, access: char) -> bool {
        let is_any = |number: i64, wanted: i64| number == -1 || number == wanted;
        self.kind.is_none_or(|one| one == kind)
            && is_any(self.major, major)
            && is_any(self.minor, minor)
            && self.access.contains(access)
    }
}

fn rules(spec: &Value) -> Vec<Rule> {
    let list = spec["linux"]["resources"]["devices"].as_array().expect("a spec has rules for devices");
    let rule = |rule: &Value| Rule {
        allows: rule["allow"] == true,
        kind: rule["type"].as_str().and_then(|kind| kind.chars().next()).filter(|kind| *kind != 'a'),
        major: rule["major"].as_i64().unwrap_or(-1),
        minor: rule["minor"].as_i64().unwrap_or(-1),
        access: rule["access"].as_str().unwrap_or("rwm").to_owned(),
    };
    list.iter().map(rule).collect()
}

/// Compares rules, and nodes that specs add.
pub fn compare(ours: &Value, theirs: &Value, places: &mut Places) {
    let own = rules(ours);
    let mut other = rules(theirs);
    other.extend(OF_RUNC.map(|(kind, major, minor, access)| Rule {
        allows: true,
        kind: Some(kind),
        major,
        minor,
        access: access.to_owned(),
    }));
    // Beside the numbers that are named, one of which nobody says anything.
    let named = |number: fn(&Rule) -> i64| -> BTreeSet<i64> {
        own.iter().chain(&other).map(number).filter(|number| *number != -1).chain([4000]).collect()
    };
    for kind in ['b', 'c'] {
        for major in named(|rule| rule.major) {
            for minor in named(|rule| rule.minor) {
                for access in ['m', 'r', 'w'] {
                    let may = |rules: &[Rule]| {
                        let last = rules.iter().rev().find(|rule| rule.applies(kind, major, minor, access));
                        last.is_some_and(|rule| rule.allows)
                    };
                    places.note(format!("device {kind} {major}:{minor} {access}"), may(&own), may(&other));
                }
            }
        }
    }
    let nodes = |spec: &Value| -> BTreeSet<String> {
        let list = spec["linux"]["devices"].as_array().into_iter().flatten();
        list.map(|device| format!("device node {}", device["path"])).collect()
    };
    let (own, other) = (nodes(ours), nodes(theirs));
    for node in own.union(&other) {
        places.note(node.clone(), own.contains(node), other.contains(node));
    }
}
