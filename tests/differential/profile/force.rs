//! What is in force for two processes, as the kernel tells it: what was asked for is one thing, and what there is another.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::PathBuf,
};

use super::{
    Sample,
    bundle::{RESTRICTIONS, words},
};

/// Where the first is weaker confined than the second.
pub fn weaker(ours: &Sample, theirs: &Sample) -> Vec<String> {
    let mut weaker = vec![];
    status(ours, theirs, &mut weaker);
    namespaces(ours, theirs, &mut weaker);
    limits(ours, theirs, &mut weaker);
    nodes(ours, theirs, &mut weaker);
    mounts(ours, theirs, &mut weaker);
    weaker
}

fn path(of: &Sample, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/{name}", of.pid))
}

fn text(of: &Sample, name: &str) -> String {
    fs::read_to_string(path(of, name)).unwrap_or_else(|error| panic!("{name} of process {}: {error}", of.pid))
}

fn field(of: &Sample, name: &str) -> u64 {
    let status = text(of, "status");
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = value.unwrap_or_else(|| panic!("no {name} in {status}")).trim();
    let radix = if name.starts_with("Cap") { 16 } else { 10 };
    u64::from_str_radix(value, radix).unwrap_or_else(|error| panic!("{name}: {value:?}: {error}"))
}

fn status(ours: &Sample, theirs: &Sample, weaker: &mut Vec<String>) {
    for set in ["CapAmb", "CapBnd", "CapEff", "CapInh", "CapPrm"] {
        let more = field(ours, set) & !field(theirs, set);
        if more != 0 {
            weaker.push(format!("{set} has {more:x}"));
        }
    }
    for name in ["NoNewPrivs", "Seccomp"] {
        if field(ours, name) < field(theirs, name) {
            weaker.push(format!("{name} is {} and not {}", field(ours, name), field(theirs, name)));
        }
    }
    let score = |of: &Sample| text(of, "oom_score_adj").trim().parse::<i32>().unwrap();
    if score(ours) < score(theirs) {
        weaker.push(format!("oom_score_adj is {} and not {}", score(ours), score(theirs)));
    }
}

fn namespaces(ours: &Sample, theirs: &Sample, weaker: &mut Vec<String>) {
    for entry in fs::read_dir("/proc/self/ns").unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let host = fs::read_link(entry.path()).unwrap();
        let is_shared = |of: &Sample| fs::read_link(path(of, &format!("ns/{name}"))).unwrap() == host;
        if is_shared(ours) && !is_shared(theirs) {
            weaker.push(format!("the namespace {name} is the host's"));
        }
    }
}

/// The table of proc_pid_limits(5): columns of fixed width, the soft limit and the hard one.
fn limits(ours: &Sample, theirs: &Sample, weaker: &mut Vec<String>) {
    let table = |of: &Sample| -> BTreeMap<String, [u64; 2]> {
        let number = |text: &str| text.trim().parse().unwrap_or(u64::MAX);
        let text = text(of, "limits");
        let rows = text
            .lines()
            .skip(1)
            .map(|line| (line[..26].trim().to_owned(), [26, 47].map(|at| number(&line[at..at + 21]))));
        rows.collect()
    };
    let theirs = table(theirs);
    for (name, [soft, hard]) in table(ours) {
        let [soft_limit, hard_limit] = theirs[&name];
        if soft > soft_limit || hard > hard_limit {
            weaker.push(format!("{name}: {soft} {hard} and not {soft_limit} {hard_limit}"));
        }
    }
}

/// Nodes of devices in /dev: which there are, and who may open them.
fn nodes(ours: &Sample, theirs: &Sample, weaker: &mut Vec<String>) {
    let nodes = |of: &Sample| -> BTreeMap<String, (u64, u32)> {
        let mut nodes = BTreeMap::new();
        for entry in fs::read_dir(path(of, "root/dev")).unwrap().flatten() {
            let metadata = entry.metadata().unwrap();
            if metadata.file_type().is_char_device() || metadata.file_type().is_block_device() {
                let name = entry.file_name().to_string_lossy().into_owned();
                nodes.insert(name, (metadata.rdev(), metadata.mode() & 0o7777));
            }
        }
        nodes
    };
    let theirs = nodes(theirs);
    assert!(theirs.contains_key("null"), "{theirs:?}");
    for (name, (number, mode)) in nodes(ours) {
        if theirs.get(&name).is_none_or(|(other, limit)| number != *other || mode & !limit != 0) {
            weaker.push(format!("/dev/{name} is {number:#x} with mode {mode:o}, and not {:x?}", theirs.get(&name)));
        }
    }
}

/// Options of what is mounted, by place: proc_pid_mountinfo(5).
fn table(of: &Sample) -> BTreeMap<String, BTreeSet<String>> {
    let mut table = BTreeMap::new();
    for line in text(of, "mountinfo").lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        // Those of the file system count for all mounts of it.
        let all = fields[5].split(',').chain(fields.last().into_iter().flat_map(|of_all| of_all.split(',')));
        let options = all.filter(|option| RESTRICTIONS.contains(option)).map(str::to_owned).collect();
        table.insert(fields[4].to_owned(), options);
    }
    table
}

fn mounts(ours: &Sample, theirs: &Sample, weaker: &mut Vec<String>) {
    let masked = words(&ours.config["linux"]["maskedPaths"]);
    let (own, other) = (table(ours), table(theirs));
    for (place, options) in own.iter().filter(|(place, _)| !masked.contains(place.as_str())) {
        let missing: Vec<_> = match other.get(place) {
            Some(wanted) => wanted.difference(options).collect(),
            None if options.contains("ro") => continue,
            None => vec![],
        };
        if !missing.is_empty() || !other.contains_key(place) {
            weaker.push(format!("what is at {place} has {options:?} and not {:?}", other.get(place)));
        }
    }
    for kind in ["maskedPaths", "readonlyPaths"] {
        let covered = words(&theirs.config["linux"][kind]);
        for place in covered.into_iter().filter(|place| other.contains_key(*place)) {
            if own.get(place).is_none_or(|options| !masked.contains(place) && !options.contains("ro")) {
                weaker.push(format!("{place} is not protected"));
            }
        }
    }
}
