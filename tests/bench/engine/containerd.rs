//! containerd and `ctr`: a daemon of its own, with its state and socket in our directory; the host's is not touched.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Engine, Task, first_on_path, version_of};
use crate::{
    Outcome,
    room::{self, Done, Room},
    work::Work,
};

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(20);

/// A daemon and its client for developers, which Debian has.
pub(crate) struct Containerd {
    ctr: PathBuf,
    version: String,
    home: PathBuf,
    room: Room,
    daemon: Child,
}

impl Containerd {
    /// Starts the daemon.
    pub(crate) fn start(work: &Work, room: &Room) -> Outcome<Self> {
        let (ctr, containerd) = (first_on_path("ctr")?, first_on_path("containerd")?);
        let home = work.home("containerd")?;
        let config = home.join("config.toml");
        let disabled = r#"disabled_plugins = ["io.containerd.grpc.v1.cri"]"#;
        fs::write(&config, format!("version = 2\n{disabled}\n"))?;
        let log = File::create(home.join("log"))?;
        let mut command = Command::new(&containerd);
        command.arg("--config").arg(&config).arg("--address").arg(home.join("socket"));
        command.arg("--root").arg(home.join("root")).arg("--state").arg(home.join("state"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).env("TMPDIR", &home);
        let version = version_of(&containerd, room)?;
        let daemon = room.spawn(command)?;
        let mut containerd = Self { ctr, version, home, room: room.clone(), daemon };
        containerd.wait_until_ready()?;
        Ok(containerd)
    }

    fn base(&self) -> Command {
        let mut command = Command::new(&self.ctr);
        command.arg("--address").arg(self.home.join("socket"));
        command
    }

    fn wait_until_ready(&mut self) -> Outcome<()> {
        let start = Instant::now();
        loop {
            let mut command = self.base();
            command.arg("version");
            let Err(err) = self.room.finish(command) else { return Ok(()) };
            if self.daemon.try_wait()?.is_some() || start.elapsed() > START {
                return Err(format!("containerd does not start: {err}").into());
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn stop(&mut self) -> Outcome<()> {
        if self.daemon.try_wait()?.is_some() {
            return Ok(());
        }
        kill(Pid::from_raw(self.daemon.id() as i32), Signal::SIGTERM)?;
        match room::wait(&mut self.daemon, STOP)? {
            Some(_) => Ok(()),
            None => Err("containerd did not stop and was killed".into()),
        }
    }
}

impl Engine for Containerd {
    fn name(&self) -> &str {
        "containerd"
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn command(&self, task: Task<'_>) -> Option<Command> {
        let mut command = self.base();
        match task {
            Task::LoadLayout(archive) => command.args(["images", "import"]).arg(archive),
            Task::RemoveImage(name) => command.args(["images", "rm", "--sync", name]),
            _ => return None,
        };
        Some(command)
    }

    fn finish(&self, command: Command) -> Outcome<Done> {
        self.room.finish(command)
    }

    fn services(&self) -> Vec<i32> {
        vec![]
    }

    fn close(&mut self) -> Outcome<()> {
        self.stop()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // close() has said what went wrong; this is for the ways that did not get there.
        let _ = self.stop();
    }
}
