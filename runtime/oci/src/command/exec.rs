//! `exec`: a further process in a running container: its namespaces, its cgroup, its filter.

use std::{fs, path::PathBuf};

use oci_spec::runtime::{LinuxCapabilities, Process, Spec, UserBuilder};
use strata_init::{
    Failure, Made,
    plan::{Cgroups, Plan, Streams},
};
use strata_oci::{
    capabilities::CapabilitySet,
    extra,
    plan::{ExecInputs, plan_exec},
    rdt::Groups,
    systemd::{Manager, Owner},
    user::strict_id,
};

use crate::{
    Global,
    console::{Console, host_size},
    container::{kept_fds, warn_of_process, write_pid_file},
    foreground::{Signals, wait},
    report, rootless,
    state::{State, Status, describe},
};

/// Executes a further process in a running container.
#[derive(clap::Args)]
pub struct Exec {
    /// Unix socket that receives the terminal's master.
    #[arg(long)]
    console_socket: Option<PathBuf>,
    /// Working directory.
    #[arg(long)]
    cwd: Option<PathBuf>,
    /// Variable, as NAME=value; may be repeated.
    #[arg(short, long)]
    env: Vec<String>,
    /// Gives the process a terminal.
    #[arg(short, long)]
    tty: bool,
    /// User id, or user and group id as UID:GID.
    #[arg(short, long)]
    user: Option<String>,
    /// Supplementary group id; may be repeated.
    #[arg(short = 'g', long)]
    additional_gids: Vec<u32>,
    /// File with the process as in a spec, instead of options and arguments.
    #[arg(short, long)]
    process: Option<PathBuf>,
    /// Does not wait for the end.
    #[arg(short, long)]
    detach: bool,
    /// File that gets the process id.
    #[arg(long)]
    pid_file: Option<PathBuf>,
    /// SELinux label of the process.
    #[arg(long)]
    process_label: Option<String>,
    /// AppArmor profile of the process.
    #[arg(long)]
    apparmor: Option<String>,
    /// Sets no_new_privs.
    #[arg(long)]
    no_new_privs: bool,
    /// Capability to add; may be repeated.
    #[arg(short, long)]
    cap: Vec<String>,
    /// How many descriptors from 3 on the process inherits.
    #[arg(long, default_value_t = 0)]
    preserve_fds: u32,
    /// Cgroup below the container's, as PATH, or on v1 as CONTROLLER[,CONTROLLER]:PATH; may be repeated.
    #[arg(long)]
    cgroup: Vec<String>,
    /// Allows a paused container; the process waits until it is resumed.
    #[arg(long)]
    ignore_paused: bool,
    /// Does not take the process's orphans as children.
    #[arg(long)]
    no_subreaper: bool,
    /// Name of the container.
    id: String,
    /// Program and arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl Exec {
    pub fn run(&self, global: &Global) -> Result<u8, String> {
        let kept = kept_fds(0, self.preserve_fds)?;
        strata_init::close_inherited(&kept).map_err(|failure| failure.to_string())?;
        let state = State::load(&global.root()?, &self.id)?;
        match state.status() {
            Status::Created | Status::Running => {}
            Status::Paused if self.ignore_paused => {}
            Status::Paused => return Err("cannot exec in a paused container (--ignore-paused allows it)".to_owned()),
            status => return Err(format!("cannot exec in container {}: it is {}", self.id, status.name())),
        }
        if state.attached.is_some() {
            let why = "it has no mount namespace, so a further process would have the host's root";
            return Err(format!("cannot exec in container {}: {why}", self.id));
        }
        let spec = state.spec()?;
        let process = self.process(&spec)?;
        let has_terminal = process.terminal().unwrap_or(false);
        match (has_terminal, self.detach, &self.console_socket) {
            (true, true, None) => return Err("--detach: without --console-socket nobody holds the terminal".to_owned()),
            (false, _, Some(_)) => return Err("--console-socket: the process has no terminal".to_owned()),
            _ => {}
        }
        let inputs = ExecInputs {
            bundle: state.bundle.clone(),
            cgroups: self.cgroups(&state)?,
            id: state.id.clone(),
            keep_fds: kept,
            // One that `--no-new-keyring` left out is made now, for this process.
            keyring: Some(state.keyring()),
            pid: state.pid,
            start_time: state.start_time,
            streams: Streams { terminal: host_size(), ..Streams::default() },
            ..ExecInputs::default()
        };
        let mut plan = plan_exec(&spec, &process, &inputs).map_err(|error| describe(&error))?;
        if let Some(note) = rootless::fit(&mut plan) {
            report::note(global, &note);
        }
        plan.console_socket.clone_from(&self.console_socket);
        if self.detach {
            let made = self.made(&plan, &state).map_err(|failure| failure.to_string())?;
            let pid = made.pid();
            made.execute().map_err(|failure| failure.to_string())?;
            return write_pid_file(self.pid_file.as_deref(), pid).map(|()| 0);
        }
        let signals = Signals::block()?;
        if !self.no_subreaper {
            let own = rustix::process::Pid::from_raw(1);
            rustix::process::set_child_subreaper(own).map_err(|error| format!("cannot become a subreaper: {error}"))?;
        }
        let mut made = self.made(&plan, &state).map_err(|failure| failure.to_string())?;
        let pid = made.pid();
        let mut console = made.take_terminal().map(Console::new).transpose()?;
        made.execute().map_err(|failure| failure.to_string())?;
        write_pid_file(self.pid_file.as_deref(), pid)?;
        wait(pid, &signals, console.as_mut(), None)
    }

    /// Has systemd bring the process into a scope where we cannot: a user may not move processes between the cgroups
    /// of a login and those of the own systemd, and v1 has a hierarchy that is systemd's alone.
    fn made(&self, plan: &Plan, state: &State) -> Result<Made, Failure> {
        let is_v1 = !plan.cgroups.procs.is_empty();
        let is_needed = |owner| owner == Owner::User || is_v1;
        match state.cgroup.unit().filter(|unit| is_needed(unit.owner) && self.cgroup.is_empty()) {
            None => Made::new(plan),
            Some(unit) => {
                let cgroups = Cgroups { late: unit.owner == Owner::User, ..plan.cgroups.clone() };
                let plan = Plan { cgroups, ..plan.clone() };
                let attach = |pid| Manager::connect(unit.owner)?.attach(&unit.name, pid);
                Made::placed(&plan, &mut |pid| attach(pid).map_err(|error| describe(&error)))
            }
        }
    }

    /// The process of the file, or the container's with the changes of the options.
    fn process(&self, spec: &Spec) -> Result<Process, String> {
        if let Some(path) = &self.process {
            let bytes = fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            let (process, warnings) =
                extra::process(&bytes).map_err(|error| format!("{} is no process: {error}", path.display()))?;
            warn_of_process(&warnings, Some(&process));
            return Ok(process);
        }
        if self.args.is_empty() {
            return Err("exec: there is no program to execute".to_owned());
        }
        let mut process = spec.process().clone().ok_or("the container's spec has no process")?;
        process.set_args(Some(self.args.clone())).set_terminal(Some(self.tty)).set_console_size(None);
        let mut env = process.env().clone().unwrap_or_default();
        env.extend(self.env.iter().cloned());
        process.set_env(Some(env));
        if let Some(cwd) = &self.cwd {
            process.set_cwd(cwd.clone());
        }
        if let Some(profile) = &self.apparmor {
            process.set_apparmor_profile(Some(profile.clone()));
        }
        if let Some(label) = &self.process_label {
            process.set_selinux_label(Some(label.clone()));
        }
        if self.no_new_privs {
            process.set_no_new_privileges(Some(true));
        }
        self.change_user(&mut process)?;
        self.add_capabilities(&mut process)?;
        Ok(process)
    }

    fn change_user(&self, process: &mut Process) -> Result<(), String> {
        let mut user = process.user().clone();
        if let Some(text) = &self.user {
            let bad = || format!("--user {text:?} is not of the form UID or UID:GID");
            let (uid, gid) = text.split_once(':').map_or((text.as_str(), None), |(uid, gid)| (uid, Some(gid)));
            let uid = strict_id(uid).ok_or_else(bad)?;
            let gid = gid.map_or(Some(user.gid()), strict_id).ok_or_else(bad)?;
            let new = UserBuilder::default().uid(uid).gid(gid).build().map_err(|error| error.to_string())?;
            let (umask, groups) = (user.umask(), user.additional_gids().clone());
            user = new;
            user.set_umask(umask).set_additional_gids(groups);
        }
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        groups.extend(&self.additional_gids);
        user.set_additional_gids(Some(groups));
        process.set_user(user);
        Ok(())
    }

    /// Adds to what the process can have and has; inheritable and ambient stay (CVE-2022-29162).
    fn add_capabilities(&self, process: &mut Process) -> Result<(), String> {
        if self.cap.is_empty() {
            return Ok(());
        }
        let names = serde_json::json!({"bounding": self.cap}).to_string();
        let added: LinuxCapabilities =
            serde_json::from_slice(names.as_bytes()).map_err(|error| format!("--cap: {error}"))?;
        let added = added.bounding().as_ref().map(CapabilitySet::from).unwrap_or_default();
        let mut sets = process.capabilities().clone().unwrap_or_default();
        let with = |have: &Option<oci_spec::runtime::Capabilities>| {
            Some(have.as_ref().map(CapabilitySet::from).unwrap_or_default().union(added).to_spec())
        };
        let (bounding, effective, permitted) = (with(sets.bounding()), with(sets.effective()), with(sets.permitted()));
        sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
        process.set_capabilities(Some(sets));
        Ok(())
    }

    /// The container's cgroup, or one below it.
    fn cgroups(&self, state: &State) -> Result<Cgroups, String> {
        if !state.has_cgroup() && self.cgroup.is_empty() {
            return Ok(Cgroups::default());
        }
        let cgroup = state.cgroup()?;
        let mut plan = cgroup.to_plan_beside(state.pid);
        for option in &self.cgroup {
            let (controllers, below) = option
                .split_once(':')
                .map_or((None, option.as_str()), |(one, path)| (Some(one.split(',').collect::<Vec<_>>()), path));
            let below = below.trim_matches('/');
            if below.split('/').any(|part| part == "..") {
                return Err(format!("--cgroup {option:?} leaves the container's cgroup"));
            }
            if let Some(unified) = plan.unified.as_mut().filter(|_| controllers.is_none()) {
                unified.push(below);
            }
            for procs in &mut plan.procs {
                let Some(directory) = procs.parent() else { continue };
                // v1: the mount point is named after its controllers.
                let is_meant = |wanted: &Vec<&str>| {
                    directory.components().any(|part| {
                        let part = part.as_os_str().to_string_lossy();
                        part.split(',').any(|controller| wanted.contains(&controller))
                    })
                };
                if controllers.as_ref().is_none_or(is_meant) {
                    *procs = directory.join(below).join("cgroup.procs");
                }
            }
        }
        plan.procs.extend(state.resctrl.as_ref().map(Groups::tasks).unwrap_or_default());
        Ok(plan)
    }
}
