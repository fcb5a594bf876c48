//! Makes the process of a plan and brings it to its second gate: ready, waiting for "go".

use crate::channel::{Channel, MAPPED};
use crate::child;
use crate::execute::run_on;
use crate::failure::{Attempt, Failure};
use crate::plan::{IdMap, Namespace, Plan};
use crate::prepare::{Prepared, prepare};
use crate::sys::{self, Cloned};
use crate::wire::{Created, Frame};
use rustix::process::{DumpableBehavior, Signal, pidfd_send_signal, set_dumpable_behavior};
use std::fmt::Write;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// A process that waits to be started.
pub(crate) struct Spawned {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) channel: Channel,
    /// The pty master, if the plan has a terminal.
    pub(crate) master: Option<OwnedFd>,
    pub(crate) created: Vec<Created>,
    /// Held so that the last close of the overlay, which may sync, comes after the exit was told.
    #[expect(dead_code, reason = "held, not read")]
    pub(crate) root: Option<OwnedFd>,
}

/// Makes the process; on failure nothing of it is left.
pub(crate) fn spawn(plan: &Plan, stdio: Option<[OwnedFd; 3]>) -> Result<Spawned, Failure> {
    if plan.target.is_some() {
        // CVE-2016-9962: the child is seen in the container's pid namespace from its first moment on, and
        // processes there must not reach our descriptors before execve. It inherits this.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).attempt(|| "become non-dumpable".into())?;
    }
    let mut prepared = prepare(plan)?;
    if !plan.process.initial_cpus.is_empty() {
        run_on(&plan.process.initial_cpus).attempt(|| "set process.execCPUAffinity.initial".into())?;
    }
    let (ours, theirs) = Channel::pair().attempt(|| "make a socket pair".into())?;
    let (cgroup, procs) = (prepared.cgroup.take(), std::mem::take(&mut prepared.procs));
    let cloned =
        sys::clone3(prepared.clone_flags, cgroup.as_ref().map(AsFd::as_fd)).attempt(|| "clone the process".into())?;
    let (pid, pidfd) = match cloned {
        Cloned::Child => {
            drop(ours);
            child::run(plan, prepared, &theirs, stdio)
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop((theirs, stdio));
    let Prepared { root, .. } = prepared;
    let mut spawned = Spawned { pid, pidfd, channel: ours, master: None, created: Vec::new(), root };
    match bring_up(plan, &procs, &mut spawned) {
        Ok(()) => Ok(spawned),
        Err(failure) => {
            let _ = pidfd_send_signal(&spawned.pidfd, Signal::KILL);
            let wait = rustix::process::WaitId::PidFd(spawned.pidfd.as_fd());
            let _ = rustix::process::waitid(wait, rustix::process::WaitIdOptions::EXITED);
            Err(failure)
        }
    }
}

fn bring_up(plan: &Plan, procs: &[PathBuf], spawned: &mut Spawned) -> Result<(), Failure> {
    let pid = spawned.pid;
    if let Some(score) = plan.process.oom_score_adj {
        fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string())
            .attempt(|| format!("set process.oomScoreAdj to {score}"))?;
    }
    for procs in procs {
        fs::write(procs, pid.to_string()).attempt(|| format!("join cgroup {}", procs.display()))?;
    }
    if matches!(plan.namespaces.user, Namespace::New) {
        write_map(pid, "uid_map", &plan.uid_map)?;
        if !rustix::process::geteuid().is_root() {
            // user_namespaces(7): without CAP_SETGID outside, groups must be given up first.
            fs::write(format!("/proc/{pid}/setgroups"), "deny").attempt(|| "deny setgroups".into())?;
        }
        write_map(pid, "gid_map", &plan.gid_map)?;
    }
    spawned.channel.open_gate(MAPPED, pid).attempt(|| "tell the process that it is mapped".into())?;
    match spawned.channel.receive().attempt(|| "hear from the process".into())? {
        Some((Frame::Ready { created, .. }, master)) => {
            spawned.created = created;
            spawned.master = master;
            Ok(())
        }
        Some((frame, _)) => Err(Failure::from_frame(frame)
            .unwrap_or_else(|| Failure::new("hear from the process", "it sent an unexpected frame"))),
        None => Err(Failure::new("make the process", "it ended before it was ready")),
    }
}

fn write_map(pid: u32, name: &str, map: &[IdMap]) -> Result<(), Failure> {
    let mut text = String::new();
    for IdMap { inside, outside, count } in map {
        writeln!(text, "{inside} {outside} {count}").expect("a string takes all text");
    }
    fs::write(format!("/proc/{pid}/{name}"), text).attempt(|| format!("write {name}"))
}
