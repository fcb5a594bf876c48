//! containerd and `ctr`: a daemon of its own, with its state and socket in our directory; the host's is not touched.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Engine, Task, daemon::Daemon, first_on_path, version_of};
use crate::{
    Outcome,
    room::{Done, Room},
    work::Work,
};

/// A daemon and its client for developers, which Debian has.
pub(crate) struct Containerd {
    ctr: PathBuf,
    version: String,
    home: PathBuf,
    room: Room,
    daemon: Daemon,
}

impl Containerd {
    /// Starts the daemon.
    pub(crate) fn start(work: &Work, room: &Room) -> Outcome<Self> {
        let (ctr, containerd) = (first_on_path("ctr")?, first_on_path("containerd")?);
        let home = work.home("containerd")?;
        let config = home.join("config.toml");
        let disabled = r#"disabled_plugins = ["io.containerd.grpc.v1.cri"]"#;
        fs::write(&config, format!("version = 2\n{disabled}\n"))?;
        let mut command = Command::new(&containerd);
        command.arg("--config").arg(&config).arg("--address").arg(home.join("socket"));
        command.arg("--root").arg(home.join("root")).arg("--state").arg(home.join("state"));
        let version = version_of(&containerd, room)?;
        let mut daemon = Daemon::start("containerd", command, &home, room)?;
        daemon.wait_until_ready(|| {
            let mut question = base(&ctr, &home);
            question.arg("version");
            question
        })?;
        Ok(Self { ctr, version, home, room: room.clone(), daemon })
    }
}

fn base(ctr: &Path, home: &Path) -> Command {
    let mut command = Command::new(ctr);
    command.arg("--address").arg(home.join("socket"));
    command
}

impl Engine for Containerd {
    fn name(&self) -> &str {
        "containerd"
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn command(&self, task: Task<'_>) -> Option<Command> {
        let mut command = base(&self.ctr, &self.home);
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

    fn close(&mut self) -> Outcome<()> {
        self.daemon.stop()
    }
}
