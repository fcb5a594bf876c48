//! config-linux.md, "Seccomp": what a filter does to the program, and the agent that is asked.

use std::{
    fs,
    os::{fd::OwnedFd, unix::net::UnixListener},
};

use serde_json::{Value, json};

use crate::bundle::Bundle;

/// A container whose `mkdir` meets `rule`.
fn with(script: &str, rule: Value) -> Bundle {
    let mut rule = rule;
    rule["names"] = json!(["mkdir", "mkdirat"]);
    Bundle::new(script, |spec| {
        spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    })
}

/// Spec: config-linux.md, Seccomp: ERRNO fails the call with errnoRet, or EPERM
#[test]
fn errno_is_what_the_program_sees() {
    let see = |rule: Value| String::from_utf8(with("mkdir /x 2>&1; true", rule).run().stdout).unwrap();

    assert!(see(json!({"action": "SCMP_ACT_ERRNO"})).contains("Operation not permitted"));
    assert!(see(json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 28})).contains("No space left on device"));
    assert_eq!(see(json!({"action": "SCMP_ACT_ALLOW"})), "");
    assert_eq!(see(json!({"action": "SCMP_ACT_LOG"})), "");
    // Without a tracer the call is not there.
    assert!(see(json!({"action": "SCMP_ACT_TRACE"})).contains("Function not implemented"));
}

/// Spec: config-linux.md, Seccomp: KILL, KILL_THREAD, KILL_PROCESS and TRAP end the program by SIGSYS
#[test]
fn killing_actions_end_the_program() {
    for action in ["KILL", "KILL_THREAD", "KILL_PROCESS", "TRAP"] {
        let bundle = with("mkdir /x; echo $?", json!({"action": format!("SCMP_ACT_{action}")}));

        let output = bundle.run();

        assert!(String::from_utf8_lossy(&output.stdout).contains("159"), "{action}: {output:?}");
    }
}

/// Spec: config-linux.md, Seccomp: args compare the arguments of the call
#[test]
fn a_rule_with_arguments_is_for_those_only() {
    // mkdir(1) asks for mode 0777 less the umask, which the kernel applies: the argument is 0777 without -m.
    let rule = json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28,
        "args": [{"index": 1, "value": 0o777, "op": "SCMP_CMP_EQ"}]});
    let bundle = Bundle::new("mkdir /x 2>&1; mkdir -m 700 /y && echo made", |spec| {
        spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    });

    let text = bundle.output();

    assert!(text.contains("No space left") && text.ends_with("made\n"), "{text}");
}

/// Spec: config-linux.md, Seccomp: flags are those of seccomp(2)
#[test]
fn flags_are_taken() {
    for flags in
        [json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]), json!(["SECCOMP_FILTER_FLAG_TSYNC"])]
    {
        let bundle = Bundle::new("cat /proc/self/status", |spec| {
            spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags});
        });
        assert!(bundle.output().contains("Seccomp:\t2\n"));
    }
}

/// Spec: config-linux.md, Seccomp: an errno for an action that takes none is an error, and so is a rule without names
#[test]
fn filters_that_make_no_sense_are_refused_by_field() {
    for (seccomp, field) in [
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}), "linux.seccomp.defaultErrnoRet: "),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_ERRNO"}]}),
            "linux.seccomp.syscalls[0].names: ",
        ),
        (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "linux.seccomp.listenerPath: "),
        (
            json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/nowhere/agent"}),
            "cannot connect to linux.seccomp.listenerPath /nowhere/agent: ",
        ),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"]}), "SCMP_ARCH_VAX"),
    ] {
        let error = Bundle::new("true", |spec| spec["linux"]["seccomp"] = seccomp.clone()).refused();
        assert!(error.contains(field), "{seccomp}: {error}");
    }
}

/// A filter that forbids nearly all that the engine itself does: only what the program calls is listed.
#[test]
fn the_filter_is_loaded_so_late_that_it_need_not_know_the_engine() {
    for no_new_privileges in [false, true] {
        let bundle = Bundle::new("", |spec| {
            let calls = "execve brk mmap munmap mprotect openat open read pread64 close fstat newfstatat access arch_prctl \
                set_tid_address set_robust_list rseq prlimit64 getrandom exit_group write capset";
            let names: Vec<&str> = calls.split_whitespace().collect();
            spec["process"]["args"] = json!(["/bin/cat", "/proc/self/status"]);
            spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
            spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            spec["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ERRNO",
                "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}, {"names": ["fadvise64"], "action": "SCMP_ACT_LOG"}],
            });
        });

        let text = bundle.output();

        assert!(text.contains("Uid:\t1000\t") && text.contains("CapEff:\t0000000000000000"), "{text}");
    }
}

/// Waits for the first notification and hangs up, which fails the call with ENOSYS; returns the message that came
/// with the listener.
fn hang_up(agent: &UnixListener) -> Value {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let (connection, _) = agent.accept().unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut message = vec![0; 64 << 10];
    let mut parts = [rustix::io::IoSliceMut::new(&mut message)];
    let mut length = recvmsg(&connection, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
    let listener: OwnedFd = ancillary
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        })
        .expect("a descriptor comes with the first bytes");
    // One message for each connection: it ends here.
    loop {
        match rustix::io::read(&connection, &mut message[length..]).unwrap() {
            0 => break,
            more => length += more,
        }
    }
    let mut waiting = [rustix::event::PollFd::new(&listener, rustix::event::PollFlags::IN)];
    assert_eq!(rustix::event::poll(&mut waiting, None), Ok(1));
    assert!(waiting[0].revents().contains(rustix::event::PollFlags::IN), "a call waits for the answer");
    serde_json::from_slice(&message[..length]).unwrap()
}

/// Spec: config-linux.md, Seccomp: NOTIFY sends listener and container process state to the agent, who decides
#[test]
fn an_agent_decides_for_the_program() {
    for no_new_privileges in [false, true] {
        let bundle = with("mkdir /x 2>&1; exit 3", json!({"action": "SCMP_ACT_NOTIFY"}));
        let path = bundle.path("agent");
        let agent = UnixListener::bind(&path).unwrap();
        let mut spec: Value = serde_json::from_slice(&fs::read(bundle.path("config.json")).unwrap()).unwrap();
        spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
        spec["linux"]["seccomp"]["listenerPath"] = json!(path);
        spec["linux"]["seccomp"]["listenerMetadata"] = json!("some \"data\"");
        spec["linux"]["seccomp"]["flags"] = json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
        spec["annotations"] = json!({"some": "thing"});
        fs::write(bundle.path("config.json"), spec.to_string()).unwrap();

        let thread = std::thread::spawn(move || hang_up(&agent));
        let output = bundle.run();
        let message = thread.join().unwrap();

        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("Function not implemented"), "{output:?}");
        assert_eq!(message["fds"], json!(["seccompFd"]));
        assert_eq!(message["metadata"], "some \"data\"");
        assert_eq!(message["state"]["id"], "c");
        assert_eq!(message["state"]["annotations"]["some"], "thing");
        assert_eq!(message["pid"], message["state"]["pid"]);
        assert!(message["pid"].as_u64().unwrap() > 1);
    }
}
