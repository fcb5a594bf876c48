//! Resident memory, as the sum of proportional set sizes: pages shared by several processes are counted once.

use std::{collections::BTreeSet, fs};

/// What of it is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    /// Everything
    All,
    /// Heaps and stacks: not what is mapped from programs, which other instances share
    Anonymous,
}

/// Sum of PSS. A process that has ended counts nothing.
pub(crate) fn mebibytes(pids: impl IntoIterator<Item = i32>, part: Part) -> f64 {
    let field = match part {
        Part::All => "Pss:",
        Part::Anonymous => "Pss_Anon:",
    };
    let of = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
    };
    pids.into_iter().map(of).sum()
}

/// Starts the peak of a process anew (proc(5), `clear_refs`); one that has ended has none.
pub(crate) fn forget_peak(pid: i32) {
    // One that cannot be reset shows a peak that is too high, never one that is too low.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// The most that was resident, in MiB.
pub(crate) fn peak(pid: i32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// Processes whose first words are these.
pub(crate) fn with_words(words: &[&str]) -> Vec<i32> {
    let wanted: Vec<u8> = words.iter().flat_map(|word| word.bytes().chain([0])).collect();
    let is_it = |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(&wanted));
    pids().into_iter().filter(is_it).collect()
}

/// Everything between these processes and the first process or one of `ends`: what keeps a container, one way or another.
pub(crate) fn keepers(of: &[i32], ends: &BTreeSet<i32>) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    for pid in of {
        let mut above = parent(*pid);
        while let Some(pid) = above.filter(|pid| *pid > 1 && !ends.contains(pid)) {
            found.insert(pid);
            above = parent(pid);
        }
    }
    found
}

fn parent(pid: i32) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
