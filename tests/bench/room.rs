//! Where engines live: a thread with namespaces of its own. Bridges and rules end with it; of peers also their mounts, lock
//! files and state under /run.
//!
//! The whole program has a network namespace too, so that nothing here touches the machine's. Engines that are compared with
//! their networks have one each; what fetches from a registry shares the program's, where that listens.
//!
//! crun refuses the hybrid cgroup layout, so in here /sys/fs/cgroup/unified is an empty tmpfs; the host's stays as it is.

use std::{
    fs::{self, File},
    io::{Read, Seek},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Sender},
    thread,
    time::{Duration, Instant},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::Outcome;

/// Who lives in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tenant {
    /// With the mounts of the machine
    Ours,
    /// With mounts of its own
    Peer,
}

/// Where peers keep what they know of networks, beside /run. It is not there before one has run.
pub(crate) const STATE_OF_NETWORKS: &str = "/var/lib/cni";
/// No command takes longer.
const DEADLINE: Duration = Duration::from_secs(120);

/// What a command did.
pub(crate) struct Done {
    /// From before its start to its end.
    pub(crate) took: Duration,
    /// What it wrote to its standard output.
    pub(crate) stdout: String,
}

enum Job {
    Run(Command, Sender<Result<Done, String>>),
    RunAll(Vec<Command>, Sender<Result<Done, String>>),
    Spawn(Command, Sender<Result<Child, String>>),
}

/// The thread.
#[derive(Clone)]
pub(crate) struct Room {
    jobs: Sender<Job>,
    network: String,
}

impl Room {
    /// Makes its namespaces; the one of networks only if `has_network`.
    pub(crate) fn open(tenant: Tenant, has_network: bool) -> Outcome<Self> {
        let (jobs, inbox) = mpsc::channel();
        let (ready, readiness) = mpsc::channel();
        thread::spawn(move || {
            let is_set = furnish(tenant, has_network).map_err(|err| format!("cannot make a room: {err}"));
            let is_usable = is_set.is_ok();
            if ready.send(is_set.map(|()| rustix::thread::gettid())).is_err() || !is_usable {
                return;
            }
            for job in inbox {
                // Errors: nobody waits for the answer any more.
                match job {
                    Job::Run(command, answer) => drop(answer.send(finish(command).map_err(|err| err.to_string()))),
                    Job::RunAll(commands, answer) => {
                        drop(answer.send(finish_all(commands).map_err(|err| err.to_string())))
                    }
                    Job::Spawn(mut command, answer) => {
                        drop(answer.send(command.spawn().map_err(|err| err.to_string())))
                    }
                }
            }
        });
        let thread = readiness.recv()??.as_raw_nonzero();
        Ok(Self { jobs, network: format!("/proc/{}/task/{thread}/ns/net", std::process::id()) })
    }

    /// A path that stands for its network namespace while it is there.
    pub(crate) fn network(&self) -> &str {
        &self.network
    }

    /// Runs a script of sh(1) in it.
    pub(crate) fn script(&self, text: &str) -> Outcome<Done> {
        let mut command = Command::new("sh");
        command.args(["-euc", text]);
        self.finish(command)
    }

    /// Runs a command in the room to its successful end.
    pub(crate) fn finish(&self, command: Command) -> Outcome<Done> {
        let (answer, result) = mpsc::channel();
        self.jobs.send(Job::Run(command, answer))?;
        Ok(result.recv()??)
    }

    /// Runs commands in the room, all at once, to their successful end.
    pub(crate) fn finish_all(&self, commands: Vec<Command>) -> Outcome<Done> {
        let (answer, result) = mpsc::channel();
        self.jobs.send(Job::RunAll(commands, answer))?;
        Ok(result.recv()??)
    }

    /// Starts a command in the room.
    pub(crate) fn spawn(&self, command: Command) -> Outcome<Child> {
        let (answer, result) = mpsc::channel();
        self.jobs.send(Job::Spawn(command, answer))?;
        Ok(result.recv()??)
    }
}

/// Gives this thread, and what it starts, a network namespace with a loopback device.
pub(crate) fn leave_network() -> Outcome<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let mut up = Command::new("ip");
    up.args(["link", "set", "lo", "up"]);
    finish(up).map(drop)
}

fn furnish(tenant: Tenant, has_network: bool) -> Outcome<()> {
    if has_network {
        leave_network()?;
    }
    if tenant == Tenant::Ours {
        return Ok(());
    }
    fs::create_dir_all(STATE_OF_NETWORKS)?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)?;
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    for path in ["/run", "/dev/shm", "/sys/fs/cgroup/unified", STATE_OF_NETWORKS] {
        if Path::new(path).is_dir() {
            mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755"))?;
        }
    }
    Ok(())
}

/// Runs a command to its successful end. Its output goes to files: reading pipes would be part of what is measured.
pub(crate) fn finish(mut command: Command) -> Outcome<Done> {
    let (mut out, mut err) = (tempfile::tempfile_in("/var/tmp")?, tempfile::tempfile_in("/var/tmp")?);
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(err.try_clone()?);
    let name = name(&command);
    let start = Instant::now();
    let mut child = command.spawn().map_err(|err| format!("cannot run {name}: {err}"))?;
    let status = wait(&mut child, DEADLINE)?;
    let took = start.elapsed();
    match status {
        Some(status) if status.success() => Ok(Done { took, stdout: text(&mut out)? }),
        Some(status) => Err(format!("{name}: {status}: {}", last_lines(&text(&mut err)?)).into()),
        None => Err(format!("{name}: not done after {DEADLINE:?}").into()),
    }
}

/// Runs commands at once to their successful end; all have ended, even when one failed.
fn finish_all(commands: Vec<Command>) -> Outcome<Done> {
    let mut err = tempfile::tempfile_in("/var/tmp")?;
    let mut children = vec![];
    let mut failed = None;
    let start = Instant::now();
    for mut command in commands {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(err.try_clone()?);
        match command.spawn() {
            Ok(child) => children.push((name(&command), child)),
            Err(err) => failed = Some(format!("cannot run {}: {err}", name(&command))),
        }
    }
    for (name, child) in &mut children {
        match wait(child, DEADLINE)? {
            Some(status) if status.success() => {}
            Some(status) => failed = Some(format!("{name}: {status}")),
            None => failed = Some(format!("{name}: not done after {DEADLINE:?}")),
        }
    }
    let took = start.elapsed();
    match failed {
        Some(failed) => Err(format!("{failed}: {}", last_lines(&text(&mut err)?)).into()),
        None => Ok(Done { took, stdout: String::new() }),
    }
}

/// Waits for a child; None: the time was up, and it was killed.
pub(crate) fn wait(child: &mut Child, time: Duration) -> Outcome<Option<ExitStatus>> {
    let pid = Pid::from_raw(child.id() as i32).ok_or("a child without an id")?;
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: 0 };
    if poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&time))? == 0 {
        pidfd_send_signal(&handle, Signal::KILL)?;
        child.wait()?;
        return Ok(None);
    }
    Ok(Some(child.wait()?))
}

fn name(command: &Command) -> String {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    let text = format!("{} {}", command.get_program().to_string_lossy(), words.join(" "));
    if text.len() > 300 { format!("{}…", text.chars().take(300).collect::<String>()) } else { text }
}

fn text(file: &mut File) -> Outcome<String> {
    let mut bytes = vec![];
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim().lines().rev().take(4).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
