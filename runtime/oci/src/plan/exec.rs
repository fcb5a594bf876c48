//! A second process in a running container: the same checks, and the namespaces of the first.

use std::path::PathBuf;

use oci_spec::{
    OciSpecError,
    runtime::{BoxBuilder, LinuxCapabilitiesBuilder, LinuxNamespaceType, Process, Spec, UserBuilder},
};
use strata_init::plan::{Cgroups, Log, Plan, Streams, Target};

use super::{Error, invalid, process, streams};
use crate::{capabilities::CapabilitySet, user::Identity};

/// What the caller knows about the running container and about this process's surroundings.
#[derive(Debug, Clone, Default)]
pub struct ExecInputs {
    /// The cgroups to join: the container's.
    pub cgroups: Cgroups,
    /// Directory of the container's bundle, for the agent of its system call filter.
    pub bundle: PathBuf,
    /// Unix socket that the exec's own monitor listens on.
    pub control_socket: Option<PathBuf>,
    /// File for the exit record.
    pub exit_record: Option<PathBuf>,
    /// Name of the container, for the same agent.
    pub id: String,
    /// Descriptors that stay open across execve.
    pub keep_fds: Vec<i32>,
    /// Name of the session keyring to join; unset: the caller's is kept.
    pub keyring: Option<String>,
    /// Log file.
    pub log: Option<Log>,
    /// The container's first process.
    pub pid: u32,
    /// Its start time, field 22 of `/proc/<pid>/stat`, so that a reused pid is noticed; 0: not checked.
    pub start_time: u64,
    /// Standard streams.
    pub streams: Streams,
}

/// What an exec may change about the container's process. `ExecOptions::default()` changes nothing.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// Program and arguments.
    pub args: Vec<String>,
    /// The bounding set instead of the container's, for a privileged exec.
    pub capabilities: Option<CapabilitySet>,
    /// Columns and rows of the terminal.
    pub console_size: Option<(u16, u16)>,
    /// Working directory instead of the container's.
    pub cwd: Option<PathBuf>,
    /// Variables after the container's; of two with one name the last counts.
    pub env: Vec<String>,
    /// Ids instead of the container's.
    pub identity: Option<Identity>,
    /// Whether standard streams are a terminal.
    pub terminal: bool,
}

impl ExecOptions {
    /// Returns the process to execute in the container of `spec`.
    ///
    /// Without a change of user or capabilities it has the container's five sets (CVE-2025-27612).
    pub fn process(self, spec: &Spec) -> Result<Process, OciSpecError> {
        let mut process = spec.process().clone().unwrap_or_default();
        let container_uid = process.user().uid();
        process.set_args(Some(self.args)).set_terminal(Some(self.terminal)).set_console_size(None);
        let mut env = process.env().clone().unwrap_or_default();
        env.extend(self.env);
        process.set_env(Some(env));
        if let Some(cwd) = self.cwd {
            process.set_cwd(cwd);
        }
        if let (true, Some((columns, rows))) = (self.terminal, self.console_size) {
            let size = BoxBuilder::default().width(u64::from(columns)).height(u64::from(rows)).build()?;
            process.set_console_size(Some(size));
        }
        if let Some(identity) = &self.identity {
            let mut user = UserBuilder::default().uid(identity.uid).gid(identity.gid).build()?;
            user.set_umask(process.user().umask());
            user.set_additional_gids(Some(identity.additional_gids.clone()));
            process.set_user(user);
        }
        let uid = process.user().uid();
        if self.capabilities.is_some() || uid != container_uid {
            let container = process.capabilities().as_ref().and_then(|sets| sets.bounding().as_ref());
            let bounding = self.capabilities.or(container.map(CapabilitySet::from)).unwrap_or_default();
            let active = if uid == 0 { bounding } else { CapabilitySet::EMPTY };
            let sets = LinuxCapabilitiesBuilder::default()
                .bounding(bounding.to_spec())
                .effective(active.to_spec())
                .permitted(active.to_spec())
                .inheritable(CapabilitySet::EMPTY.to_spec())
                .ambient(CapabilitySet::EMPTY.to_spec())
                .build()?;
            process.set_capabilities(Some(sets));
        }
        Ok(process)
    }
}

/// Turns `process` into a plan that joins the container made from `spec`, under the container's own filter.
pub fn plan_exec(spec: &Spec, process: &Process, inputs: &ExecInputs) -> Result<Plan, Error> {
    if inputs.pid == 0 {
        return Err(invalid("pid", "the container has no process to join"));
    }
    let linux = spec.linux().as_ref();
    let container = process::Container {
        bundle: &inputs.bundle,
        id: &inputs.id,
        keyring: inputs.keyring.as_deref(),
        pid: Some(inputs.pid),
        spec,
    };
    let mut planned = process::process(process, &container)?;
    planned.keep_fds = inputs.keep_fds.clone();
    if let Some(linux) = linux {
        let (uid_map, gid_map) = super::id_maps(linux, &super::namespaces(linux)?)?;
        super::ids::check(&planned, &uid_map, &gid_map)?;
    }
    let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
    // A namespace that is not listed is the host's, where the exec is already.
    let namespaces = namespaces.into_iter().flatten().fold(0, |bits, one| bits | clone_flag(one.typ()));
    Ok(Plan {
        target: Some(Target { pid: inputs.pid, start_time: inputs.start_time, namespaces }),
        process: planned,
        cgroups: inputs.cgroups.clone(),
        streams: streams(process, &inputs.streams)?,
        log: inputs.log.clone(),
        exit_record: inputs.exit_record.clone(),
        control_socket: inputs.control_socket.clone(),
        ..Plan::default()
    })
}

/// Returns the `CLONE_NEW*` bit. linux/sched.h
fn clone_flag(kind: LinuxNamespaceType) -> u32 {
    match kind {
        LinuxNamespaceType::Time => 0x80,
        LinuxNamespaceType::Mount => 0x2_0000,
        LinuxNamespaceType::Cgroup => 0x200_0000,
        LinuxNamespaceType::Uts => 0x400_0000,
        LinuxNamespaceType::Ipc => 0x800_0000,
        LinuxNamespaceType::User => 0x1000_0000,
        LinuxNamespaceType::Pid => 0x2000_0000,
        LinuxNamespaceType::Network => 0x4000_0000,
    }
}
