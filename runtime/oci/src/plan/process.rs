//! The process of a spec: arguments, environment, ids, capability sets, limits and the compiled filter.
//! `scheduling` does how it is scheduled.

use std::sync::{Mutex, PoisonError};

use std::path::Path;

use oci_spec::runtime::{Capabilities as Names, Linux, LinuxSeccomp, PosixRlimitType, Process as SpecProcess, Spec};
use serde_json::json;
use strata_init::plan::{Capabilities, Listener, Process, Rlimit, Seccomp};

use super::{Error, absolute, invalid, scheduling, unsupported};
use crate::{capabilities::CapabilitySet, default_spec::OCI_VERSION, seccomp};

/// The longest single argument or variable execve(2) takes, its NUL included: MAX_ARG_STRLEN.
const MAX_TEXT_BYTES: usize = 128 << 10;

/// Filters compiled lately: nearly all containers share one, and compiling takes longer than all else here.
static COMPILED: Mutex<Vec<(LinuxSeccomp, seccomp::Filter)>> = Mutex::new(Vec::new());

/// The container that a process belongs to.
pub(super) struct Container<'a> {
    pub(super) bundle: &'a Path,
    pub(super) id: &'a str,
    /// Name of the session keyring.
    pub(super) keyring: Option<&'a str>,
    /// The running first process, for a further one.
    pub(super) pid: Option<u32>,
    pub(super) spec: &'a Spec,
}

/// Checks the process and turns it into the plan's.
pub(super) fn process(process: &SpecProcess, container: &Container<'_>) -> Result<Process, Error> {
    refuse_unsupported(process)?;
    let none = Linux::default();
    let linux = container.spec.linux().as_ref().unwrap_or(&none);
    let args = texts("process.args", process.args().as_deref().unwrap_or_default())?;
    if args.first().is_none_or(|program| program.is_empty()) {
        return Err(invalid("process.args", "there is no program to execute"));
    }
    let user = process.user();
    for (field, id) in [("process.user.uid", user.uid()), ("process.user.gid", user.gid())] {
        if id == u32::MAX {
            return Err(invalid(field, "4294967295 is not an id"));
        }
    }
    if let Some(umask) = user.umask().filter(|umask| *umask > 0o777) {
        return Err(invalid("process.user.umask", format!("{umask:o} is over 777")));
    }
    let oom_score_adj = process.oom_score_adj();
    if oom_score_adj.is_some_and(|score| !(-1000..=1000).contains(&score)) {
        return Err(invalid("process.oomScoreAdj", "it is not from -1000 to 1000"));
    }
    let affinity = process.exec_cpu_affinity().as_ref().map(scheduling::affinity).transpose()?;
    // It is for further processes only, whatever the first one's says.
    let (initial_cpus, final_cpus) = affinity.filter(|_| container.pid.is_some()).unwrap_or_default();
    let text = |text: &Option<String>, field| match text.as_deref().filter(|text| !text.is_empty()) {
        Some(text) if text.contains('\0') => Err(invalid(field, "it has a NUL byte")),
        text => Ok(text.map(str::to_owned)),
    };
    Ok(Process {
        args: args.iter().map(Into::into).collect(),
        env: environment(process)?.iter().map(Into::into).collect(),
        cwd: absolute(process.cwd(), || "process.cwd".to_owned())?,
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask(),
        capabilities: capabilities(process)?,
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        seccomp: linux.seccomp().as_ref().map(|filter| compiled(filter, container)).transpose()?,
        rlimits: rlimits(process)?,
        oom_score_adj,
        scheduler: process.scheduler().as_ref().map(scheduling::scheduler).transpose()?,
        io_priority: process.io_priority().as_ref().map(scheduling::io_priority).transpose()?,
        initial_cpus,
        final_cpus,
        memory_policy: linux.memory_policy().as_ref().map(scheduling::memory_policy).transpose()?,
        personality: linux.personality().as_ref().map(scheduling::personality).transpose()?,
        keyring: container.keyring.map(str::to_owned),
        apparmor_profile: text(process.apparmor_profile(), "process.apparmorProfile")?,
        selinux_label: text(process.selinux_label(), "process.selinuxLabel")?,
        has_init: false,
        keep_fds: Vec::new(),
    })
}

fn refuse_unsupported(process: &SpecProcess) -> Result<(), Error> {
    for (field, is_set) in [
        ("process.commandLine", process.command_line().is_some()),
        ("process.user.username", process.user().username().as_ref().is_some_and(|name| !name.is_empty())),
    ] {
        if is_set {
            return Err(unsupported(field));
        }
    }
    Ok(())
}

fn texts<'a>(field: &str, texts: &'a [String]) -> Result<&'a [String], Error> {
    for (index, text) in texts.iter().enumerate() {
        if text.contains('\0') {
            return Err(invalid(format!("{field}[{index}]"), "it has a NUL byte"));
        }
        if text.len() >= MAX_TEXT_BYTES {
            return Err(invalid(format!("{field}[{index}]"), format!("{} bytes are more than 131071", text.len())));
        }
    }
    Ok(texts)
}

/// Security row 34 (CVE-2026-57231): an entry without a name or a value could make a libc look elsewhere.
///
/// Of two entries with one name the last counts, as in a shell.
fn environment(process: &SpecProcess) -> Result<Vec<&String>, Error> {
    let env = texts("process.env", process.env().as_deref().unwrap_or_default())?;
    let mut kept: Vec<&String> = Vec::with_capacity(env.len());
    let name = |entry: &'_ str| entry.split('=').next().unwrap_or_default().len();
    for (index, entry) in env.iter().enumerate() {
        if !entry.contains('=') || entry.starts_with('=') {
            return Err(invalid(format!("process.env[{index}]"), format!("{entry:?} is not of the form NAME=value")));
        }
        kept.retain(|have| name(have) != name(entry) || have[..name(have)] != entry[..name(entry)]);
        kept.push(entry);
    }
    Ok(kept)
}

fn capabilities(process: &SpecProcess) -> Result<Capabilities, Error> {
    let Some(sets) = process.capabilities() else { return Ok(Capabilities::default()) };
    let set = |names: &Option<Names>| names.as_ref().map(CapabilitySet::from).unwrap_or_default();
    let (effective, permitted) = (set(sets.effective()), set(sets.permitted()));
    let (inheritable, ambient) = (set(sets.inheritable()), set(sets.ambient()));
    for (field, extra) in [
        ("process.capabilities.effective", effective.difference(permitted)),
        ("process.capabilities.ambient", ambient.difference(permitted.intersection(inheritable))),
    ] {
        if !extra.is_empty() {
            // capabilities(7): the kernel would refuse it with EPERM.
            return Err(invalid(field, format!("{extra:?} must also be in the sets it is taken from")));
        }
    }
    Ok(Capabilities {
        bounding: set(sets.bounding()).bits(),
        effective: effective.bits(),
        permitted: permitted.bits(),
        inheritable: inheritable.bits(),
        ambient: ambient.bits(),
    })
}

fn rlimits(process: &SpecProcess) -> Result<Vec<Rlimit>, Error> {
    let mut limits: Vec<Rlimit> = Vec::new();
    for (index, limit) in process.rlimits().iter().flatten().enumerate() {
        let field = || format!("process.rlimits[{index}]");
        let resource = resource(limit.typ());
        if limits.iter().any(|have| have.resource == resource) {
            return Err(invalid(field(), format!("{} is listed twice", limit.typ())));
        }
        if limit.soft() > limit.hard() {
            return Err(invalid(field(), "the soft limit is over the hard limit"));
        }
        limits.push(Rlimit { resource, soft: limit.soft(), hard: limit.hard(), required: true });
    }
    Ok(limits)
}

/// Returns the kernel's number. asm-generic/resource.h
fn resource(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => 0,
        PosixRlimitType::RlimitFsize => 1,
        PosixRlimitType::RlimitData => 2,
        PosixRlimitType::RlimitStack => 3,
        PosixRlimitType::RlimitCore => 4,
        PosixRlimitType::RlimitRss => 5,
        PosixRlimitType::RlimitNproc => 6,
        PosixRlimitType::RlimitNofile => 7,
        PosixRlimitType::RlimitMemlock => 8,
        PosixRlimitType::RlimitAs => 9,
        PosixRlimitType::RlimitLocks => 10,
        PosixRlimitType::RlimitSigpending => 11,
        PosixRlimitType::RlimitMsgqueue => 12,
        PosixRlimitType::RlimitNice => 13,
        PosixRlimitType::RlimitRtprio => 14,
        PosixRlimitType::RlimitRttime => 15,
    }
}

fn compiled(filter: &LinuxSeccomp, container: &Container<'_>) -> Result<Seccomp, Error> {
    let mut cache = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let plan = |compiled: &seccomp::Filter| Seccomp {
        flags: compiled.flags,
        program: compiled.program.clone(),
        listener: compiled.listener.clone().map(|path| Listener { path, message: message(filter, container) }),
    };
    if let Some((_, compiled)) = cache.iter().find(|(known, _)| known == filter) {
        return Ok(plan(compiled));
    }
    let compiled = seccomp::compile(filter)?;
    let result = plan(&compiled);
    cache.truncate(15);
    cache.insert(0, (filter.clone(), compiled));
    Ok(result)
}

/// Returns the "container process state" of the specification in pieces; the process id stands between each two.
fn message(filter: &LinuxSeccomp, container: &Container<'_>) -> Vec<String> {
    let status = if container.pid.is_some() { "running" } else { "creating" };
    let state = json!({
        "ociVersion": OCI_VERSION,
        "id": container.id,
        "status": status,
        "bundle": container.bundle,
        "annotations": container.spec.annotations().clone().unwrap_or_default(),
    })
    .to_string();
    let state = state.strip_suffix('}').expect("an object ends with a brace");
    let metadata = filter.listener_metadata().as_deref().unwrap_or_default();
    let begin = format!("{{\"ociVersion\":{},\"fds\":[\"seccompFd\"],\"pid\":", json!(OCI_VERSION));
    let middle = format!(",\"metadata\":{},\"state\":{state},\"pid\":", json!(metadata));
    match container.pid {
        Some(pid) => vec![begin, format!("{middle}{pid}}}}}")],
        None => vec![begin, middle, "}}".to_owned()],
    }
}
