//! Two specs of the OCI beside each other: capabilities, masks, mounts, namespaces, sysctls.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Places;

/// Options of a mount that take something away.
pub const RESTRICTIONS: [&str; 4] = ["nodev", "noexec", "nosuid", "ro"];

/// A list of words, which may be missing.
pub fn words(value: &Value) -> BTreeSet<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Compares what is not about devices or system calls.
pub fn compare(ours: &Value, theirs: &Value, places: &mut Places) {
    process(&ours["process"], &theirs["process"], places);
    paths(&ours["linux"], &theirs["linux"], places);
    namespaces(&ours["linux"]["namespaces"], &theirs["linux"]["namespaces"], places);
    sysctls(&ours["linux"]["sysctl"], &theirs["linux"]["sysctl"], places);
    mounts(&ours["mounts"], &theirs["mounts"], places);
    let is_writable = |spec: &Value| spec["root"]["readonly"] != true;
    places.note("root that can be written to".to_owned(), is_writable(ours), is_writable(theirs));
}

fn process(ours: &Value, theirs: &Value, places: &mut Places) {
    for set in ["ambient", "bounding", "effective", "inheritable", "permitted"] {
        let (own, other) = (words(&ours["capabilities"][set]), words(&theirs["capabilities"][set]));
        for name in own.union(&other) {
            places.note(format!("{set} {name}"), own.contains(name), other.contains(name));
        }
    }
    let gains = |process: &Value| process["noNewPrivileges"] != true;
    places.note("new privileges".to_owned(), gains(ours), gains(theirs));
}

fn masked(linux: &Value) -> BTreeSet<&str> {
    words(&linux["maskedPaths"])
}

/// A path that is masked is not to be written to either.
fn protected(linux: &Value) -> BTreeSet<&str> {
    masked(linux).union(&words(&linux["readonlyPaths"])).copied().collect()
}

fn paths(ours: &Value, theirs: &Value, places: &mut Places) {
    let (own, other) = (masked(ours), masked(theirs));
    for path in own.union(&other) {
        places.note(format!("reading {path}"), !own.contains(path), !other.contains(path));
    }
    let (own, other) = (protected(ours), protected(theirs));
    for path in own.union(&other).filter(|path| !masked(ours).contains(*path)) {
        places.note(format!("writing to {path}"), !own.contains(path), !other.contains(path));
    }
}

/// A namespace that has a path is somebody else's.
fn namespaces(ours: &Value, theirs: &Value, places: &mut Places) {
    let shared = |list: &Value, kind: &str| {
        !list
            .as_array()
            .into_iter()
            .flatten()
            .any(|one| one["type"] == kind && one["path"].as_str().unwrap_or("").is_empty())
    };
    // Nobody gives root's containers users of their own by default.
    for kind in ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"] {
        places.note(format!("{kind} namespace of others"), shared(ours, kind), shared(theirs, kind));
    }
}

fn sysctls(ours: &Value, theirs: &Value, places: &mut Places) {
    let pairs = |value: &Value| -> BTreeSet<String> {
        value.as_object().into_iter().flatten().map(|(name, value)| format!("sysctl {name} = {value}")).collect()
    };
    let (own, other) = (pairs(ours), pairs(theirs));
    for pair in own.union(&other) {
        places.note(pair.clone(), own.contains(pair), other.contains(pair));
    }
}

fn mounts(ours: &Value, theirs: &Value, places: &mut Places) {
    let at = |list: &Value, destination: &Value| {
        list.as_array().into_iter().flatten().find(|mount| mount["destination"] == *destination).cloned()
    };
    let all = ours.as_array().into_iter().flatten().chain(theirs.as_array().into_iter().flatten());
    for destination in all.map(|mount| &mount["destination"]) {
        let name = destination.as_str().unwrap_or_default();
        let (Some(own), Some(other)) = (at(ours, destination), at(theirs, destination)) else {
            places.note(format!("mount at {name}"), at(ours, destination).is_some(), at(theirs, destination).is_some());
            continue;
        };
        if own["type"] != other["type"] {
            places.looser.insert(format!("mount at {name} of {} and not of {}", own["type"], other["type"]));
        }
        let (own, other) = (words(&own["options"]), words(&other["options"]));
        for option in RESTRICTIONS {
            places.note(format!("mount at {name} without {option}"), !own.contains(option), !other.contains(option));
        }
        let (size, limit) = (bytes(&own), bytes(&other));
        places.note(format!("mount at {name} of more than {} bytes", size.min(limit)), size > limit, limit > size);
        if option(&own, "mode=") != option(&other, "mode=") {
            places.looser.insert(format!("mount at {name} with another mode: {own:?} beside {other:?}"));
        }
    }
}

fn option<'a>(options: &BTreeSet<&'a str>, name: &str) -> Option<&'a str> {
    options.iter().find_map(|option| option.strip_prefix(name))
}

/// What fits into a mount; without a size there is no limit.
fn bytes(options: &BTreeSet<&str>) -> u64 {
    let Some(text) = option(options, "size=") else { return u64::MAX };
    let digits = text.trim_end_matches(['k', 'm', 'g']);
    let unit = match &text[digits.len()..] {
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => 1,
    };
    digits.parse::<u64>().unwrap_or_else(|error| panic!("size={text}: {error}")) * unit
}
