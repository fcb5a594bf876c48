//! Makes the process of a plan and brings it to its second gate: ready, waiting for "go".

use crate::channel::{Channel, HOOKED, MAPPED};
use crate::child;
use crate::execute::run_on;
use crate::failure::{Attempt, Failure};
use crate::hook::{run_hooks, state_document};
use crate::join;
use crate::netlink::Interface;
use crate::plan::{IdMap, Namespace, Plan, Step};
use crate::prepare::{Prepared, prepare};
use crate::userns;
use crate::wire::{Created, Frame};
use rustix::process::{DumpableBehavior, Signal, pidfd_send_signal, set_dumpable_behavior};
use std::fmt::Write;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
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

/// What the caller does with a process that has its namespaces and waits.
pub type Placer<'a> = &'a mut dyn FnMut(u32) -> Result<(), String>;

/// Makes the process; on failure nothing of it is left.
pub(crate) fn spawn(plan: &Plan, stdio: Option<[OwnedFd; 3]>, place: Placer<'_>) -> Result<Spawned, Failure> {
    let is_joining_as_user = plan.target.is_some() && !userns::is_privileged();
    if let (true, Some(score)) = (is_joining_as_user, plan.process.oom_score_adj) {
        // The process will inherit it: once this one has joined the container, the files of both are root's.
        set_oom_score("self", score)?;
    }
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
    let mut kept = vec![ours.as_fd().as_raw_fd(), theirs.as_fd().as_raw_fd()];
    kept.extend(stdio.iter().flatten().map(AsRawFd::as_raw_fd));
    let (mut ours, mut stdio) = (Some(ours), stdio);
    let (pid, pidfd) = join::clone(plan, &mut prepared, &kept, &mut |prepared| {
        drop(ours.take());
        child::run(plan, prepared, &theirs, &mut stdio)
    })?;
    drop((theirs, stdio));
    let ours = ours.expect("only the child gave it up");
    let Prepared { root, interfaces, procs, .. } = prepared;
    let mut spawned = Spawned { pid, pidfd, channel: ours, master: None, created: Vec::new(), root };
    let placed = place(pid).map_err(|text| Failure::new("put the process into its cgroup", text));
    match placed.and_then(|()| bring_up(plan, &procs, &interfaces, is_joining_as_user, &mut spawned)) {
        Ok(()) => Ok(spawned),
        Err(failure) => {
            let _ = pidfd_send_signal(&spawned.pidfd, Signal::KILL);
            let wait = rustix::process::WaitId::PidFd(spawned.pidfd.as_fd());
            let _ = rustix::process::waitid(wait, rustix::process::WaitIdOptions::EXITED);
            Err(failure)
        }
    }
}

fn bring_up(
    plan: &Plan,
    procs: &[PathBuf],
    interfaces: &[(usize, Interface)],
    has_oom_score: bool,
    spawned: &mut Spawned,
) -> Result<(), Failure> {
    let pid = spawned.pid;
    if let (false, Some(score)) = (has_oom_score, plan.process.oom_score_adj) {
        set_oom_score(&pid.to_string(), score)?;
    }
    for procs in procs {
        fs::write(procs, pid.to_string()).attempt(|| format!("join cgroup {}", procs.display()))?;
    }
    if matches!(plan.namespaces.user, Namespace::New) {
        userns::write(pid, plan)?;
    }
    for (index, interface) in interfaces {
        interface.move_to(pid).attempt(|| describe_move(&plan.steps[*index]))?;
    }
    spawned.channel.open_gate(MAPPED, pid).attempt(|| "tell the process that it is mapped".into())?;
    if plan.hooks.run_outside() {
        match hear(spawned)? {
            (Frame::Mounted, _) => run_hooks_outside(plan, pid)?,
            _ => return Err(Failure::new("hear from the process", "it sent an unexpected frame")),
        }
        spawned.channel.open_gate(HOOKED, pid).attempt(|| "tell the process that its hooks have run".into())?;
    }
    match hear(spawned)? {
        (Frame::Ready { created, .. }, master) => {
            spawned.created = created;
            spawned.master = master;
            Ok(())
        }
        _ => Err(Failure::new("hear from the process", "it sent an unexpected frame")),
    }
}

/// Waits for a frame that is no failure.
fn hear(spawned: &Spawned) -> Result<(Frame, Option<OwnedFd>), Failure> {
    match spawned.channel.receive().attempt(|| "hear from the process".into())? {
        Some((Frame::Failed { step, errno, text, code }, _)) => Err(Failure { step, errno, text, code }),
        Some(heard) => Ok(heard),
        None => Err(Failure::new("make the process", "it ended before it was ready")),
    }
}

fn run_hooks_outside(plan: &Plan, pid: u32) -> Result<(), Failure> {
    let state = state_document(&plan.hooks.state, "creating", pid);
    run_hooks("hooks.prestart", &plan.hooks.prestart, &state)?;
    run_hooks("hooks.createRuntime", &plan.hooks.create_runtime, &state)
}

fn set_oom_score(pid: &str, score: i32) -> Result<(), Failure> {
    let step = || format!("set process.oomScoreAdj to {score}");
    fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()).map_err(|error| match error.raw_os_error() {
        Some(libc::EACCES) => {
            Failure { errno: libc::EACCES, ..Failure::new(step(), "it may not be lowered without CAP_SYS_RESOURCE") }
        }
        _ => Failure::of(step(), error),
    })
}

fn describe_move(step: &Step) -> String {
    match step {
        Step::NetDevice { host, name } => format!("move network device {host} into the container as {name}"),
        _ => "move a network device".into(),
    }
}

pub(crate) fn write_map(pid: u32, name: &str, map: &[IdMap]) -> Result<(), Failure> {
    let mut text = String::new();
    for IdMap { inside, outside, count } in map {
        writeln!(text, "{inside} {outside} {count}").expect("a string takes all text");
    }
    fs::write(format!("/proc/{pid}/{name}"), text).attempt(|| format!("write {name}"))
}
