//! Further processes: what the file of `exec --process` says, and what they share with the first.

use std::fs;

use serde_json::{Value, json};

use crate::{bundle::Bundle, process::line};

/// A running container, and the file of a process with changes of it.
fn running(change: impl FnOnce(&mut Value)) -> Bundle {
    let bundle = Bundle::new("echo begun; exec sleep 100", change);
    bundle.start();
    bundle
}

fn exec(bundle: &Bundle, script: &str, change: impl FnOnce(&mut Value)) -> String {
    let spec: Value = serde_json::from_slice(&fs::read(bundle.path("config.json")).unwrap()).unwrap();
    let mut process = spec["process"].clone();
    process["args"] = json!(["/bin/sh", "-c", script]);
    change(&mut process);
    fs::write(bundle.path("process.json"), process.to_string()).unwrap();
    bundle.strata(&["exec", "--process", bundle.path("process.json").to_str().unwrap(), "c"]).unwrap()
}

/// Spec: config.md, Linux process: execCPUAffinity final is where the further process runs
#[test]
fn a_further_process_runs_on_its_cpus() {
    let bundle = running(|_| {});
    let on = |affinity: Value| {
        let script = "grep Cpus_allowed_list /proc/self/status";
        exec(&bundle, script, |process| process["execCPUAffinity"] = affinity)
    };

    assert_eq!(on(json!({"final": "0"})), "Cpus_allowed_list:\t0\n");
    assert_eq!(on(json!({"initial": "0"})), "Cpus_allowed_list:\t0\n", "the cgroup has no CPUs of its own");
}

/// Spec: config.md, Process: a further process has scheduler, I/O priority, limits, umask and score of its own
#[test]
fn a_further_process_is_what_its_file_says() {
    let bundle = running(|spec| spec["linux"]["personality"] = json!({"domain": "LINUX32"}));
    let script = "chrt -p $$; nice; ionice -p $$; umask; ulimit -n; cat /proc/self/oom_score_adj; uname -m";

    let text = exec(&bundle, script, |process| {
        process["scheduler"] = json!({"policy": "SCHED_OTHER", "nice": 3});
        process["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 1});
        process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 33, "hard": 44}]);
        process["user"]["umask"] = json!(63);
        process["oomScoreAdj"] = json!(500);
    });

    assert!(text.contains("policy: SCHED_OTHER"), "{text}");
    let machine = if cfg!(target_arch = "x86_64") { "i686" } else { "armv8l" };
    assert!(text.ends_with(&format!("\n3\nbest-effort: prio 1\n0077\n33\n500\n{machine}\n")), "{text}");
}

/// Row 26 (CVE-2025-27612): the five sets of an exec without options are the container's.
#[test]
fn row_26_cve_2025_27612_an_exec_has_the_containers_five_sets() {
    let sets = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"], "permitted": ["CAP_KILL", "CAP_CHOWN"],
        "effective": ["CAP_KILL"], "inheritable": [], "ambient": [],
    });
    let bundle = running(|spec| {
        spec["process"]["capabilities"] = sets;
        spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    let look = |name: &str| bundle.strata(&["exec", "c", "grep", "Cap", name]).unwrap();

    assert_eq!(look("/proc/self/status"), look("/proc/1/status"));
    assert_eq!(line(&look("/proc/self/status"), "CapBnd:"), "0000000000002021");
}

/// Spec: runtime.md, Create: further processes are in the session keyring of the container
#[test]
fn a_further_process_shares_the_session_keyring() {
    let bundle = running(|spec| spec["linux"]["maskedPaths"] = json!([]));
    let serial = || {
        let keys = bundle.strata(&["exec", "c", "grep", "_ses.c", "/proc/keys"]).unwrap();
        keys.split_whitespace().next().unwrap().to_owned()
    };

    assert_eq!(serial(), serial());
}
