//! What a container sees of a process that joins it, from its first moment to execve: nothing of the host.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use serde_json::{Value, json};

use crate::bundle::Bundle;

/// Waits for its end, and buries what others leave to it.
const INIT: &str = "sleep 100000 & wait";

/// As many as STRATA_ROUNDS says, a tenth of them otherwise.
fn rounds() -> usize {
    std::env::var("STRATA_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1000_usize).div_ceil(10)
}

/// What a watch saw.
#[derive(Debug, Default)]
struct Seen {
    /// How often it looked at a process that had not yet executed its program.
    looks: usize,
    leaks: Vec<String>,
}

/// What a watch and its test tell each other.
#[derive(Debug, Default)]
struct Progress {
    stop: AtomicBool,
    has_looked: AtomicBool,
}

/// Looks at all processes of a container through its own /proc, as a process inside with CAP_SYS_PTRACE and no user
/// namespace could: what decides is capabilities in the first user namespace, and this process has them too.
fn watch(proc: &Path, mounts: &BTreeSet<u64>, cgroup: &str, progress: &Progress) -> Seen {
    let mut seen = Seen::default();
    while !progress.stop.load(Ordering::Relaxed) {
        for entry in fs::read_dir(proc).unwrap().flatten() {
            let is_process = entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
            // The engine runs from a mount of its file alone, or from memory, until it executes what is asked for.
            let is_engine = |path: &Path| {
                let exe = fs::read_link(path.join("exe")).unwrap_or_default();
                exe == Path::new("/") || exe.as_os_str().as_encoded_bytes().starts_with(b"/memfd:strata-oci")
            };
            if !is_process || !is_engine(&entry.path()) {
                continue;
            }
            let leaks = look(&entry.path(), mounts, cgroup);
            if is_engine(&entry.path()) {
                seen.looks += 1;
                progress.has_looked.store(true, Ordering::Relaxed);
                seen.leaks.extend(leaks);
            }
        }
    }
    seen
}

/// What of the host one process holds.
fn look(process: &Path, mounts: &BTreeSet<u64>, cgroup: &str) -> Vec<String> {
    let mut leaks = Vec::new();
    let is_inside = |path: &Path| {
        let found = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID);
        // What is gone by now is nobody's any more.
        found.map_or(true, |found| mounts.contains(&found.stx_mnt_id))
    };
    for place in ["root", "cwd"] {
        if !is_inside(&process.join(place)) {
            leaks.push(format!("{place} of the host"));
        }
    }
    for entry in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
        let number: i32 = entry.file_name().to_string_lossy().parse().unwrap();
        let Ok(link) = fs::read_link(entry.path()) else { continue };
        let link = link.to_string_lossy();
        // The standard streams are the caller's gift. Sockets lead to the engine, which trusts nobody; a tasks file of
        // the container's own cgroup lets what is in the container into the cgroup that it is in.
        let is_harmless = number < 3
            || ["socket:", "anon_inode:[pidfd]", "anon_inode:[signalfd]", "pidfd:"]
                .iter()
                .any(|kind| link.starts_with(kind))
            || (link.contains(cgroup) && link.ends_with("/tasks"))
            || is_inside(&entry.path());
        if !is_harmless {
            leaks.push(format!("descriptor {number} is {link}"));
        }
    }
    let environ = fs::read(process.join("environ")).unwrap_or_default();
    if environ.windows(6).any(|word| word == b"CANARY") {
        leaks.push("environment of the caller".to_owned());
    }
    leaks
}

fn watch_joins(rounds: usize, change: impl FnOnce(&mut Value), arguments: &[&str]) -> Seen {
    let bundle = Bundle::new(INIT, change);
    bundle.start();
    let pid = bundle.state()["pid"].as_u64().unwrap();
    let inside = PathBuf::from(format!("/proc/{pid}/root"));
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let mounts: BTreeSet<u64> = mounts.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    let cgroup = format!("strata-cli-{}", bundle.id());
    let progress = Arc::new(Progress::default());
    let shared = progress.clone();
    let watch = std::thread::spawn(move || watch(&inside.join("proc"), &mounts, &cgroup, &shared));

    // On a busy machine it takes more rounds until the watch meets a process that joins.
    for round in 0..rounds * 20 {
        if round >= rounds && progress.has_looked.load(Ordering::Relaxed) {
            break;
        }
        let mut command = bundle.command();
        command.env("CANARY", "of the host").arg("exec").args(arguments).args(["c", "/bin/sh", "-c", ":"]);
        let output = command.output().unwrap();
        assert!(output.status.success() || watch.is_finished(), "{output:?}");
    }

    progress.stop.store(true, Ordering::Relaxed);
    watch.join().unwrap()
}

/// Row 7 (CVE-2016-9962): not even a tracer in the container, who sees every process, finds a descriptor, a directory
/// or a root of the host in one that joins.
#[test]
fn row_7_cve_2016_9962_a_process_that_joins_holds_nothing_of_the_host() {
    let tracer = |spec: &mut Value| {
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_SYS_PTRACE"));
        }
    };

    let all = [&[][..], &["--tty"], &["--preserve-fds", "0", "--user", "1000:1000"]];
    for arguments in all {
        let seen = watch_joins(rounds().div_ceil(all.len()), tracer, arguments);

        assert!(seen.looks > 0, "the watch was too slow to see anything");
        let (leaks, some) = (seen.leaks.len(), &seen.leaks[..seen.leaks.len().min(9)]);
        assert!(seen.leaks.is_empty(), "{leaks} leaks in {} looks: {some:?}", seen.looks);
    }
}
