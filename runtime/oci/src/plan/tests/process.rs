//! The process, and further ones that join it.

use super::*;

/// Security row 34 (CVE-2026-57231).
#[test]
fn row_34_the_environment_is_names_and_values_only() {
    for bad in ["FOO", "", "*", "=x", "A=\0"] {
        assert!(refused("/process/env", json!(["PATH=/", bad])).starts_with("process.env[1]: "), "{bad:?}");
    }
    let plan = planned("/process/env", json!(["A=1", "AB=2", "A=3", "B=a=b"]));
    assert_eq!(plan.process.env, ["AB=2", "A=3", "B=a=b"]);
}

/// Security row 13 (CVE-2021-43784): sizes are checked where they are known by name.
#[test]
fn row_13_oversized_fields_are_refused_by_name() {
    for size in [128 << 10, 16 << 20] {
        assert!(refused("/process/args", json!(["x", "y".repeat(size)])).starts_with("process.args[1]: "));
        assert!(refused("/process/env", json!([format!("A={}", "y".repeat(size))])).starts_with("process.env[0]: "));
        assert!(refused("/process/cwd", json!(format!("/{}", "y".repeat(size)))).starts_with("process.cwd: "));
        assert!(refused("/hostname", json!("y".repeat(size))).starts_with("hostname: "));
    }
    let plan = planned("/process/args", json!(["x", "y".repeat(70_000)]));
    assert_eq!(Plan::decode(&plan.encode()).unwrap(), plan);
}

#[test]
fn the_process_is_checked_field_by_field() {
    for (pointer, value, field) in [
        ("/process/args", json!([]), "process.args: "),
        ("/process/args", json!([""]), "process.args: "),
        ("/process/args", json!(["a", "b\u{0}"]), "process.args[1]: "),
        ("/process/user", json!({"uid": 4294967295_u32, "gid": 0}), "process.user.uid: "),
        ("/process/user", json!({"uid": 0, "gid": 0, "umask": 4096}), "process.user.umask: "),
        ("/process/user", json!({"uid": 0, "gid": 0, "username": "x"}), "process.user.username is not supported"),
        ("/process/oomScoreAdj", json!(1001), "process.oomScoreAdj: "),
        ("/process/selinuxLabel", json!("x\u{0}"), "process.selinuxLabel: "),
        ("/process/apparmorProfile", json!("x\u{0}"), "process.apparmorProfile: "),
        ("/process/scheduler", json!({"policy": "SCHED_FIFO"}), "process.scheduler.priority: "),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_RT", "priority": 9}), "process.ioPriority.priority: "),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND"}), "linux.memoryPolicy.nodes: "),
        ("/linux/personality", json!({"domain": "LINUX", "flags": ["X"]}), "linux.personality.flags: "),
        ("/linux/intelRdt", json!({"closID": "x"}), "linux.intelRdt is not supported"),
        ("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 2, "hard": 1}]), "process.rlimits[0]: "),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}, {"type": "RLIMIT_CPU", "soft": 1, "hard": 1}]),
            "process.rlimits[1]: ",
        ),
        ("/process/capabilities", json!({"effective": ["CAP_CHOWN"]}), "process.capabilities.effective: "),
        (
            "/process/capabilities",
            json!({"permitted": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"]}),
            "process.capabilities.ambient: ",
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5000}),
            "linux.seccomp.defaultErrnoRet: ",
        ),
        (
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": ""}),
            "linux.seccomp.listenerPath: ",
        ),
        ("/linux/rootfsPropagation", json!("sideways"), "linux.rootfsPropagation: "),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "c", "major": -1, "minor": 0}]),
            "linux.devices[0].major: ",
        ),
        ("/linux/devices", json!([{"path": "x", "type": "c", "major": 1, "minor": 0}]), "linux.devices[0].path: "),
        ("/linux/timeOffsets", json!({"boottime": {"secs": 1}}), "linux.timeOffsets: it needs a new time namespace"),
        ("/linux/netDevices", json!({"a b": {}}), "linux.netDevices[\"a b\"]: "),
        ("/linux/netDevices", json!({"eth%d": {}}), "linux.netDevices[\"eth%d\"]: "),
        ("/linux/netDevices", json!({"eth0": {"name": "x/y"}}), "linux.netDevices[\"eth0\"].name: "),
        ("/linux/netDevices", json!({"eth0": {"name": "%s"}}), "linux.netDevices[\"eth0\"].name: "),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "p", "fileMode": 0o4755}]),
            "linux.devices[0].fileMode: 4755",
        ),
        ("/linux/devices", json!([{"path": "/dev/x", "type": "a"}]), "linux.devices[0].type: "),
        ("/hooks", json!({"poststop": [{"path": "/x"}]}), "hooks is not supported"),
        ("/hostname", json!("a b"), "hostname: "),
    ] {
        let error = refused(pointer, value.clone());
        assert!(error.starts_with(field), "{pointer} {value}: {error}");
    }
    planned("/hooks", json!({}));
}

#[test]
fn a_terminal_takes_its_size_from_the_spec_then_the_caller_then_80_by_24() {
    let mut spec = Defaults { terminal: true, console_size: Some((132, 50)), ..Defaults::default() }.build().unwrap();
    let size = |spec: &Spec, terminal| {
        let inputs = PlanInputs { streams: Streams { terminal, ..Streams::default() }, ..inputs() };
        plan(spec, &inputs).unwrap().streams.terminal.map(|size| (size.columns, size.rows))
    };

    assert_eq!(size(&spec, None), Some((132, 50)));
    spec.process_mut().as_mut().unwrap().set_console_size(None);
    assert_eq!(size(&spec, Some(TerminalSize { rows: 7, columns: 9 })), Some((9, 7)));
    assert_eq!(size(&spec, None), Some((80, 24)));
    spec.process_mut().as_mut().unwrap().set_terminal(Some(false));
    assert_eq!(size(&spec, Some(TerminalSize { rows: 7, columns: 9 })), None);
}

fn exec(options: ExecOptions) -> Plan {
    let spec = Defaults::default().build().unwrap();
    let inputs = ExecInputs { pid: 42, start_time: 7, ..ExecInputs::default() };
    let process = ExecOptions { args: vec!["id".into()], ..options }.process(&spec).unwrap();
    plan_exec(&spec, &process, &inputs).unwrap()
}

/// Security row 26 (CVE-2025-27612).
#[test]
fn row_26_an_exec_without_options_has_the_containers_capabilities_filter_and_namespaces() {
    let spec = Defaults::default().build().unwrap();
    let container = plan(&spec, &inputs()).unwrap();

    let exec = exec(ExecOptions::default());

    assert_eq!(exec.process.capabilities, container.process.capabilities);
    assert_eq!(exec.process.seccomp, container.process.seccomp);
    assert_eq!(exec.process.args, ["id"]);
    assert_eq!((exec.root, exec.steps.len()), (Root::None {}, 0));
    assert_eq!(exec.namespaces, Namespaces::default());
    assert_eq!(exec.target, Some(Target { pid: 42, start_time: 7, namespaces: 0x6e02_0000 }));
}

/// What the scheduler, the memory and the machine are to do for a process is the same for a further one.
#[test]
fn an_exec_is_scheduled_as_the_container_and_on_the_cpus_of_its_own() {
    let spec = with("/linux/personality", json!({"domain": "LINUX32"}));
    let mut spec = serde_json::to_value(spec).unwrap();
    spec["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0"});
    spec["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
    spec["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 7});
    spec["process"]["execCPUAffinity"] = json!({"initial": "0-1", "final": "1"});
    let spec: Spec = serde_json::from_value(spec).unwrap();
    let container = plan(&spec, &PlanInputs { keyring: Some("_ses.x".into()), ..inputs() }).unwrap().process;

    let inputs = ExecInputs { pid: 42, keyring: Some("_ses.x".into()), ..ExecInputs::default() };
    let exec = plan_exec(&spec, spec.process().as_ref().unwrap(), &inputs).unwrap().process;

    assert_eq!(container.personality, Some(8));
    assert_eq!(container.scheduler.as_ref().map(|scheduler| (scheduler.policy, scheduler.nice)), Some((3, 5)));
    assert_eq!((container.io_priority, container.keyring.as_deref()), (Some(2 << 13 | 7), Some("_ses.x")));
    assert_eq!((&container.initial_cpus, &container.final_cpus), (&vec![], &vec![]), "they are for further processes");
    assert_eq!(exec, strata_init::plan::Process { initial_cpus: vec![0, 1], final_cpus: vec![1], ..container });
}

#[test]
fn the_agent_of_a_filter_is_told_who_asks() {
    let rule = json!({"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"});
    let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/agent", "listenerMetadata": "m\"",
        "syscalls": [rule]});
    let mut spec = with("/linux/seccomp", filter);
    spec.set_annotations(Some([("key".to_owned(), "}}".to_owned())].into()));
    let plan_inputs = PlanInputs {
        container: Some(crate::hooks::Container { id: "x".into(), bundle: "/b".into(), root_at: None }),
        ..inputs()
    };
    let exec_inputs = ExecInputs { id: "x".into(), bundle: "/b".into(), pid: 42, ..ExecInputs::default() };
    let read = |plan: Plan| -> Value {
        let listener = plan.process.seccomp.unwrap().listener.unwrap();
        assert_eq!(listener.path, Path::new("/agent"));
        serde_json::from_str(&listener.message.join("77")).unwrap()
    };
    let state = |status: &str, pid: u32| {
        json!({
            "ociVersion": crate::default_spec::OCI_VERSION,
            "fds": ["seccompFd"],
            "pid": 77,
            "metadata": "m\"",
            "state": {
                "ociVersion": crate::default_spec::OCI_VERSION, "id": "x", "status": status, "pid": pid,
                "bundle": "/b", "annotations": {"key": "}}"},
            },
        })
    };

    let first = read(plan(&spec, &plan_inputs).unwrap());
    let further = read(plan_exec(&spec, spec.process().as_ref().unwrap(), &exec_inputs).unwrap());

    assert_eq!(first, state("creating", 77));
    assert_eq!(further, state("running", 42));
}

/// Security rows 6 and 14: an exec as another user, or with more rights, still inherits nothing.
#[test]
fn row_6_14_an_exec_as_another_user_starts_without_capabilities() {
    let identity = Identity { uid: 1000, gid: 1000, additional_gids: vec![10, 1000], home: "/".into() };
    let user = exec(ExecOptions { identity: Some(identity), ..ExecOptions::default() }).process;
    let privileged = exec(ExecOptions { capabilities: Some(CapabilitySet::ALL), ..ExecOptions::default() }).process;

    let sets = &user.capabilities;
    assert_eq!((sets.effective, sets.permitted, sets.inheritable, sets.ambient), (0, 0, 0, 0));
    assert_eq!(sets.bounding, CapabilitySet::docker().bits());
    assert_eq!((user.uid, user.gid, user.groups), (1000, 1000, vec![10, 1000]));
    assert_eq!(
        (privileged.capabilities.effective, privileged.capabilities.inheritable),
        (CapabilitySet::ALL.bits(), 0)
    );
    assert!(CapabilitySet::ALL.contains(Capability::SysAdmin));
}

#[test]
fn an_exec_adds_to_the_environment_and_the_last_word_counts() {
    let plan = exec(ExecOptions {
        env: vec!["HOME=/x".into(), "N=1".into()],
        cwd: Some("/tmp".into()),
        ..ExecOptions::default()
    });

    assert_eq!(plan.process.env[1..], ["HOME=/x", "N=1"]);
    assert_eq!(plan.process.cwd, Path::new("/tmp"));
}

#[test]
fn an_exec_needs_a_process_to_join() {
    let spec = Defaults::default().build().unwrap();
    let error = plan_exec(&spec, spec.process().as_ref().unwrap(), &ExecInputs::default()).unwrap_err();

    assert_eq!(error.to_string(), "pid: the container has no process to join");
}
