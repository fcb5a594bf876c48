//! The commands on containers: create, start, run, kill, delete. The process is made by the role `once`
//! of strata-init in this very program, which has one thread and runs from a sealed copy.

use std::{
    error::Error,
    fs,
    io::{ErrorKind, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use oci_spec::runtime::{LinuxResources, Spec};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid};
use strata_init::{plan::Root, wire::Frame};
use strata_oci::{
    cgroup::{self, Cgroup, DefaultDevices, Existing, Layout, Options},
    plan::{PlanInputs, plan},
};

use crate::{
    Make,
    state::{State, Status, directory},
};

/// Makes the container and leaves its process waiting at the FIFO.
pub fn create(root: &Path, make: &Make) -> Result<(), String> {
    let directory = directory(root, &make.id)?;
    fs::create_dir_all(root).map_err(|error| format!("cannot create {}: {error}", root.display()))?;
    fs::create_dir(&directory).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => format!("container {} exists already", make.id),
        _ => format!("cannot create {}: {error}", directory.display()),
    })?;
    let result = make_process(make, &directory);
    if result.is_err() {
        // The first error counts; what cannot be removed is found by `delete --force`.
        let _ = fs::remove_dir_all(&directory);
    }
    result
}

/// Lets the process go on, and waits until it has taken the hint.
pub fn start(root: &Path, id: &str) -> Result<(), String> {
    let state = State::load(root, id)?;
    if state.status() != Status::Created {
        return Err(format!("container {id} is not in state created"));
    }
    let fifo = state.fifo();
    let failed = |error: std::io::Error| format!("cannot start container {id}: {error}");
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut file = fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(&fifo).map_err(failed)?;
    loop {
        match file.read(&mut [0]) {
            Ok(1..) => break,
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(failed(error)),
        }
        if state.status() == Status::Stopped {
            return Err(format!("cannot start container {id}: its process has ended"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    fs::remove_file(&fifo).map_err(failed)
}

/// Makes the container, starts it, waits for its end and removes it; returns the exit status as a shell counts.
pub fn run(root: &Path, make: &Make) -> Result<u8, String> {
    create(root, make)?;
    let outcome = start(root, &make.id).and_then(|()| {
        let state = State::load(root, &make.id)?;
        let pid = Pid::from_raw(state.pid as i32).ok_or("the process has no id")?;
        loop {
            match waitpid(Some(pid), WaitOptions::empty()) {
                Ok(Some((_, status))) => {
                    let code = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal));
                    return Ok(code.unwrap_or(255) as u8);
                }
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(format!("cannot wait for container {}: {error}", make.id)),
            }
        }
    });
    let removed = delete(root, &make.id, true);
    outcome.and_then(|code| removed.map(|()| code))
}

/// Sends a signal to the first process, or to all.
pub fn kill(root: &Path, id: &str, signal: &str, all: bool) -> Result<(), String> {
    let state = State::load(root, id)?;
    let signal = parse_signal(signal)?;
    let failed = |error: &dyn std::fmt::Display| format!("cannot signal container {id}: {error}");
    if all {
        for pid in cgroup(&state)?.pids().map_err(|error| failed(&error))?.into_iter().filter_map(Pid::from_raw) {
            // ESRCH: it ended by itself in the meantime.
            let _ = rustix::process::kill_process(pid, signal);
        }
        return Ok(());
    }
    let pid = Pid::from_raw(state.pid as i32).ok_or_else(|| failed(&"it has no process"))?;
    // The descriptor first, then the check: the pid cannot be reused in between.
    let process = pidfd_open(pid, PidfdFlags::empty());
    if state.status() == Status::Stopped {
        return Err(format!("container {id} is not running"));
    }
    let process = process.map_err(|error| failed(&error))?;
    pidfd_send_signal(&process, signal).map_err(|error| failed(&error))
}

/// Removes cgroup and record.
pub fn delete(root: &Path, id: &str, force: bool) -> Result<(), String> {
    let state = match State::load(root, id) {
        Err(_) if force => {
            // A half-made container, or none.
            return match fs::remove_dir_all(directory(root, id)?) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(format!("cannot remove container {id}: {error}"))
                }
                _ => Ok(()),
            };
        }
        state => state?,
    };
    if state.status() != Status::Stopped && !force {
        return Err(format!("container {id} is not stopped"));
    }
    let cgroup = cgroup(&state)?;
    cgroup.kill_all().and_then(|()| cgroup.remove()).map_err(|error| describe(&error))?;
    fs::remove_dir_all(&state.directory).map_err(|error| format!("cannot remove container {id}: {error}"))
}

fn make_process(make: &Make, directory: &Path) -> Result<(), String> {
    let bundle = fs::canonicalize(&make.bundle)
        .map_err(|error| format!("cannot open bundle {}: {error}", make.bundle.display()))?;
    let spec = load_spec(&bundle)?;
    let fifo = directory.join("exec.fifo");
    // Writable by others, whatever the umask: the process opens it when it is already the container's user.
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o622);
    nix::unistd::mkfifo(&fifo, mode)
        .and_then(|()| {
            nix::sys::stat::fchmodat(nix::fcntl::AT_FDCWD, &fifo, mode, nix::sys::stat::FchmodatFlags::FollowSymlink)
        })
        .map_err(|error| format!("cannot create {}: {error}", fifo.display()))?;

    let name = cgroup_name(&spec, &make.id)?;
    let none = LinuxResources::default();
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()).unwrap_or(&none);
    let layout = Layout::detect().map_err(|error| describe(&error))?;
    let options = Options { existing: Existing::Adopt, default_devices: DefaultDevices::Yes, ..Options::default() };
    let cgroup = Cgroup::create_with(&layout, &name, resources, &options).map_err(|error| describe(&error))?;
    let result = plan_and_make(make, &bundle, &spec, &cgroup, &fifo).and_then(|pid| {
        let state = State::new(&make.id, pid, &bundle, &name, &spec, directory);
        state.save()?;
        let Some(pid_file) = &make.pid_file else { return Ok(()) };
        fs::write(pid_file, pid.to_string()).map_err(|error| format!("cannot write {}: {error}", pid_file.display()))
    });
    if result.is_err() {
        let _ = cgroup.kill_all().and_then(|()| cgroup.remove());
    }
    result
}

fn plan_and_make(make: &Make, bundle: &Path, spec: &Spec, cgroup: &Cgroup, fifo: &Path) -> Result<u32, String> {
    let root = spec.root().as_ref().ok_or("root: a container needs one")?;
    let inputs = PlanInputs {
        cgroups: cgroup.to_plan(),
        cgroup_view: cgroup.view(),
        console_socket: make.console_socket.clone(),
        exec_fifo: Some(fifo.to_owned()),
        root: Root::Bind { path: bundle.join(root.path()) },
        ..PlanInputs::default()
    };
    let plan = plan(spec, &inputs).map_err(|error| describe(&error))?;
    match strata_init::make_once(&plan) {
        Ok(Frame::Ready { pid, .. }) => Ok(pid),
        Ok(_) => Err("strata-init answered with an unexpected frame".to_owned()),
        Err(failure) => Err(failure.to_string()),
    }
}

/// Loads config.json; relative sources of binds are below the bundle (runtime spec, "Mounts").
fn load_spec(bundle: &Path) -> Result<Spec, String> {
    let path = bundle.join("config.json");
    let bytes = fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let mut spec: Spec =
        serde_json::from_slice(&bytes).map_err(|error| format!("{} is not a runtime spec: {error}", path.display()))?;
    for mount in spec.mounts_mut().iter_mut().flatten() {
        let is_bind = mount.typ().as_deref() == Some("bind")
            || mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind");
        if let (true, Some(source)) = (is_bind, mount.source().clone()) {
            mount.set_source(Some(bundle.join(source)));
        }
    }
    Ok(spec)
}

/// The path that `spec` writes as an example is no choice.
fn cgroup_name(spec: &Spec, id: &str) -> Result<String, String> {
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
    let path = path.filter(|path| *path != Path::new("/strata/default"));
    cgroup::name_of(path, id).map_err(|error| format!("linux.cgroupsPath: {}", describe(&error)))
}

fn cgroup(state: &State) -> Result<Cgroup, String> {
    Layout::detect().and_then(|layout| Cgroup::open(&layout, &state.cgroup)).map_err(|error| describe(&error))
}

fn parse_signal(text: &str) -> Result<Signal, String> {
    let upper = text.to_ascii_uppercase();
    let name = if upper.starts_with("SIG") { upper.clone() } else { format!("SIG{upper}") };
    let number =
        upper.parse::<i32>().ok().or(name.parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32));
    number.and_then(Signal::from_named_raw).ok_or_else(|| format!("{text:?} is not a signal"))
}

/// Joins an error with its causes.
fn describe(error: &dyn Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_numbers_or_names_in_any_case() {
        for text in ["9", "KILL", "SIGKILL", "sigkill", "kill"] {
            assert_eq!(parse_signal(text), Ok(Signal::KILL), "{text}");
        }
        for text in ["", "0", "-9", "999", "SIG", "NOPE", "9x"] {
            assert!(parse_signal(text).is_err(), "{text}");
        }
    }
}
