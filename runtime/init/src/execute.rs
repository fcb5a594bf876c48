//! From "go" to execve: limits, scheduling, labels, ids, capabilities, and the system call filter last of all.

use crate::channel::Channel;
use crate::failure::{Attempt, Failure};
use crate::first;
use crate::hook::{Occasion, run_all, state_document};
use crate::listener::Teller;
use crate::plan::{Capabilities, Plan, Process, Rlimit, Seccomp};
use crate::prepare::Prepared;
use crate::steps::write_proc;
use crate::sys;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{self, CapabilitySet, CapabilitySets, CpuSet};
use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Does what may fail for want of permission or kernel and does no harm to the rest, before the process is ready.
pub(crate) fn make_ready(process: &Process, prepared: &Prepared) -> Result<(), Failure> {
    raise_limits(process)?;
    set_scheduling(process)?;
    set_labels(process, prepared)?;
    for fd in &process.keep_fds {
        sys::keep_open(*fd).attempt(|| format!("keep descriptor {fd}"))?;
    }
    Ok(())
}

/// Executes the program once it is started; `start` reads a byte of the FIFO, then its end, or the failure before it.
pub(crate) fn execute_when_started(
    plan: &Plan,
    prepared: &mut Prepared,
    program: &CString,
    channel: &Channel,
    pid: u32,
) -> Result<Infallible, Failure> {
    let starter = pass_fifo(prepared).attempt(|| "open the exec fifo".into())?;
    let result = run_start_hooks(plan)
        .and_then(|()| close_what_is_ours(&plan.process, prepared, channel, starter.as_ref()))
        .and_then(|()| execute(plan, prepared, program, channel, pid));
    if let (Some(starter), Err(failure)) = (starter, &result) {
        let _ = rustix::io::write(starter, failure.to_string().as_bytes());
    }
    result
}

fn execute(
    plan: &Plan,
    prepared: &mut Prepared,
    program: &CString,
    channel: &Channel,
    pid: u32,
) -> Result<Infallible, Failure> {
    let process = &plan.process;
    let name = process.args.first().map(|name| name.to_string_lossy().into_owned());
    let name = name.ok_or_else(|| Failure::new("execute the process", "it has no arguments"))?;
    let to_c = |list: &[std::ffi::OsString]| -> Result<Vec<CString>, Failure> {
        let each = list.iter().map(|text| CString::new(text.as_bytes()));
        each.collect::<Result<_, _>>().map_err(|_| Failure::execute(&name, Errno::INVAL))
    };
    let (args, env) = (to_c(&process.args)?, to_c(&process.env)?);
    process.rlimits.iter().try_for_each(set_limit)?;
    rustix::process::umask(Mode::from_raw_mode(process.umask.unwrap_or(0o022)));
    if process.has_init {
        first::split(process, plan.streams.terminal.is_some(), channel)?;
    }
    sys::reset_signals();
    let teller = match (process.seccomp.as_ref().and_then(|seccomp| seccomp.listener.as_ref()), prepared.agent.take()) {
        (Some(listener), Some(agent)) => Some(Teller::begin(listener, agent, channel, pid)?),
        _ => None,
    };
    take_identity(process, process.seccomp.as_ref(), teller)?;
    let Err(errno) = nix::unistd::execve(program, &args, &env);
    Err(Failure::execute(&name, errno))
}

/// Closes what only the making needed. execve does too, but a moment after the process has become the container's to
/// trace: until then it holds the sockets that tell of a failure, and no more.
fn close_what_is_ours(
    process: &Process,
    prepared: &Prepared,
    channel: &Channel,
    starter: Option<&OwnedFd>,
) -> Result<(), Failure> {
    let mut kept = vec![0, 1, 2, channel.as_fd().as_raw_fd()];
    kept.extend(starter.map(AsRawFd::as_raw_fd));
    kept.extend(prepared.agent.as_ref().map(AsRawFd::as_raw_fd));
    kept.extend(&process.keep_fds);
    kept.sort_unstable();
    sys::close_others(&kept).attempt(|| "close what is not the process's".into())
}

/// Lets the hooks inside run, as what the container's own process will be: they may be the image's programs.
fn run_start_hooks(plan: &Plan) -> Result<(), Failure> {
    let hooks = &plan.hooks;
    if hooks.start_container.is_empty() {
        return Ok(());
    }
    // We still have more rights than they, and descriptors.
    let dumpable = |behavior| set_dumpable_behavior(behavior).attempt(|| "become non-dumpable".into());
    dumpable(DumpableBehavior::NotDumpable)?;
    let state = state_document(&hooks.state, "created", std::process::id());
    let confined = || confine(&plan.process);
    let field = "hooks.startContainer";
    run_all(&hooks.start_container, &Occasion { field, state: &state, orderer: None, before: &confined })?;
    dumpable(DumpableBehavior::Dumpable)
}

/// Gives up what a process inside must not have that is not the program: a hook, an init. Its filter has no listener, which is the process's own: what would be
/// notified is then ENOSYS.
pub(crate) fn confine(process: &Process) -> Result<(), Failure> {
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let seccomp = process.seccomp.as_ref().map(|seccomp| Seccomp {
        flags: seccomp.flags & !(listener as u32),
        program: seccomp.program.clone(),
        listener: None,
    });
    take_identity(process, seccomp.as_ref(), None)
}

/// Blocks until somebody opens the FIFO for reading: `start`. Returns it, to be closed by execve.
fn pass_fifo(prepared: &Prepared) -> Result<Option<OwnedFd>, Errno> {
    let (Some(fifo), Some(procfs)) = (&prepared.fifo, &prepared.procfs) else { return Ok(None) };
    let path = format!("thread-self/fd/{}", fifo.as_raw_fd());
    let fifo = rustix::fs::openat(procfs, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&fifo, &[0])?;
    Ok(Some(fifo))
}

/// Raises what is to be raised: that takes permission, lowering does not; but this process could not go on with
/// few descriptors or little memory.
fn raise_limits(process: &Process) -> Result<(), Failure> {
    for limit in &process.rlimits {
        let (soft, hard) = sys::getrlimit(limit.resource).attempt(|| set_limit_step(limit))?;
        if limit.hard > hard {
            set_limit(&Rlimit { soft, ..limit.clone() })?;
        }
    }
    Ok(())
}

fn set_limit(limit: &Rlimit) -> Result<(), Failure> {
    match sys::setrlimit(limit.resource, limit.soft, limit.hard) {
        Err(Errno::PERM) if !limit.required => Ok(()),
        result => result.attempt(|| set_limit_step(limit)),
    }
}

fn set_limit_step(limit: &Rlimit) -> String {
    format!("set process.rlimits {}", limit_name(limit.resource))
}

/// Returns the name of a limit; asm-generic/resource.h has them in this order.
fn limit_name(resource: u32) -> String {
    const NAMES: [&str; 16] = [
        "CPU",
        "FSIZE",
        "DATA",
        "STACK",
        "CORE",
        "RSS",
        "NPROC",
        "NOFILE",
        "MEMLOCK",
        "AS",
        "LOCKS",
        "SIGPENDING",
        "MSGQUEUE",
        "NICE",
        "RTPRIO",
        "RTTIME",
    ];
    NAMES.get(resource as usize).map_or_else(|| resource.to_string(), |name| format!("RLIMIT_{name}"))
}

fn set_scheduling(process: &Process) -> Result<(), Failure> {
    if !process.final_cpus.is_empty() {
        run_on(&process.final_cpus).attempt(|| "set process.execCPUAffinity.final".into())?;
    }
    if let Some(scheduler) = &process.scheduler {
        sys::set_scheduler(scheduler).attempt(|| "set process.scheduler".into())?;
    }
    if let Some(priority) = process.io_priority {
        sys::set_io_priority(priority).attempt(|| "set process.ioPriority".into())?;
    }
    if let Some(policy) = &process.memory_policy {
        sys::set_memory_policy(policy.mode, &policy.nodes).attempt(|| "set linux.memoryPolicy".into())?;
    }
    if let Some(personality) = process.personality {
        sys::set_personality(personality).attempt(|| "set linux.personality".into())?;
    }
    Ok(())
}

/// Restricts this thread to CPUs.
pub(crate) fn run_on(cpus: &[u32]) -> Result<(), Errno> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        if cpu as usize >= CpuSet::MAX_CPU {
            return Err(Errno::INVAL);
        }
        set.set(cpu as usize);
    }
    thread::sched_setaffinity(None, &set)
}

/// Asks for the labels that execve takes on.
fn set_labels(process: &Process, prepared: &Prepared) -> Result<(), Failure> {
    if let Some(profile) = &process.apparmor_profile {
        let step = || format!("use process.apparmorProfile {profile}");
        match write_proc(prepared, "thread-self/attr/apparmor/exec", format!("exec {profile}").as_bytes()) {
            // The directory is AppArmor's own, since Linux 4.17.
            Err(Errno::NOENT) => return Err(Failure::new(step(), "the kernel has no AppArmor")),
            result => result.attempt(step)?,
        }
    }
    if let Some(label) = &process.selinux_label {
        write_proc(prepared, "thread-self/attr/exec", label.as_bytes())
            .attempt(|| format!("use process.selinuxLabel {label}"))?;
    }
    Ok(())
}

/// Takes ids, capabilities and the filter.
///
/// Without no_new_privs a filter needs CAP_SYS_ADMIN: that is kept until the filter is in place, so that only
/// capset(2) and execve(2) are left for it to judge.
fn take_identity(process: &Process, seccomp: Option<&Seccomp>, teller: Option<Teller>) -> Result<(), Failure> {
    let own = thread::capabilities(None).attempt(|| "read capabilities".into())?;
    bound(process.capabilities.bounding)?;
    take_ids(process)?;
    let taken = within(&process.capabilities, own.permitted);
    let mut first = taken;
    if seccomp.is_some() && !process.no_new_privileges {
        let admin = CapabilitySet::SYS_ADMIN & own.permitted;
        first.effective |= admin;
        first.permitted |= admin;
    }
    let set = |sets| thread::set_capabilities(None, sets).attempt(|| "set process.capabilities".into());
    set(first)?;
    raise_ambient(&process.capabilities, taken)?;
    if process.no_new_privileges {
        thread::set_no_new_privs(true).attempt(|| "set process.noNewPrivileges".into())?;
    }
    if let Some(seccomp) = seccomp {
        load_seccomp(seccomp, teller)?;
    }
    if first == taken { Ok(()) } else { set(taken) }
}

fn load_seccomp(seccomp: &Seccomp, teller: Option<Teller>) -> Result<(), Failure> {
    let listener =
        sys::seccomp(seccomp.flags, &seccomp.program).attempt(|| "load the filter of linux.seccomp".into())?;
    if let (Some(listener), Some(teller)) = (listener, teller) {
        teller.tell(listener);
    }
    Ok(())
}

/// Drops what is not in the bounding set.
fn bound(bounding: u64) -> Result<(), Failure> {
    for number in (0..64).filter(|number| bounding & (1 << number) == 0) {
        match thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            // Beyond the last capability of this kernel.
            Err(Errno::INVAL) => break,
            result => result.attempt(|| format!("drop capability {number}"))?,
        }
    }
    Ok(())
}

fn take_ids(process: &Process) -> Result<(), Failure> {
    thread::set_keep_capabilities(true).attempt(|| "keep capabilities".into())?;
    let groups: Vec<Gid> = process.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    match thread::set_thread_groups(&groups) {
        // A user namespace whose setgroups is "deny" has no groups to drop.
        Err(Errno::PERM) if groups.is_empty() => {}
        Err(Errno::PERM) => {
            let text = "a user namespace made without newgidmap or CAP_SETGID allows none";
            return Err(Failure { errno: libc::EPERM, ..Failure::new("set supplementary groups", text) });
        }
        result => result.attempt(|| "set the groups of process.user.additionalGids".into())?,
    }
    let gid = Gid::from_raw(process.gid);
    thread::set_thread_res_gid(gid, gid, gid).attempt(|| format!("become process.user.gid {}", process.gid))?;
    let uid = Uid::from_raw(process.uid);
    thread::set_thread_res_uid(uid, uid, uid).attempt(|| format!("become process.user.uid {}", process.uid))
}

/// Returns the asked sets; what this process does not have itself (a host without CAP_SYS_RESOURCE, say) it cannot give.
fn within(sets: &Capabilities, permitted: CapabilitySet) -> CapabilitySets {
    let within = |bits: u64| CapabilitySet::from_bits_retain(bits) & permitted;
    CapabilitySets {
        effective: within(sets.effective & sets.permitted),
        permitted: within(sets.permitted),
        inheritable: within(sets.inheritable),
    }
}

fn raise_ambient(sets: &Capabilities, taken: CapabilitySets) -> Result<(), Failure> {
    thread::clear_ambient_capability_set().attempt(|| "clear ambient capabilities".into())?;
    let ambient = CapabilitySet::from_bits_retain(sets.ambient) & taken.permitted & taken.inheritable;
    for number in (0..64).filter(|number| ambient.bits() & (1 << number) != 0) {
        thread::configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(1 << number), true)
            .attempt(|| format!("raise ambient capability {number}"))?;
    }
    Ok(())
}
