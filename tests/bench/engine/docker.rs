//! Docker: a daemon of its own, with its state, socket and containerd in our directory; a daemon of the host is not touched.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use strata_tests::living;

use super::{Cache, Engine, GUEST, IMAGE, Task, daemon::Daemon, first_on_path, on_path, version_of};
use crate::{
    Outcome,
    room::{Done, Room},
    work::Work,
};

/// A daemon and the client that fits it.
pub(crate) struct Docker {
    client: PathBuf,
    version: String,
    home: PathBuf,
    room: Room,
    daemon: Daemon,
    /// Newer clients need the buildx plugin for it; without, the classic builder does the work.
    buildkit: &'static str,
}

impl Docker {
    /// Starts the daemon and imports the image.
    pub(crate) fn start(work: &Work, room: &Room) -> Outcome<Self> {
        let clients = on_path("docker");
        let client = first_on_path("docker")?;
        let dockerd = first_on_path("dockerd")
            .map_err(|err| format!("{err}; a daemon of the host is not used: images would be left in it"))?;
        let home = work.home("docker")?;
        let mut daemon = Daemon::start("dockerd", daemon(&dockerd, &home)?, &home, room)?;
        let buildkit = "1";
        daemon.wait_until_ready(|| {
            let mut question = base(&client, &home, buildkit);
            question.arg("version");
            question
        })?;
        let mut docker =
            Self { client, version: version_of(&dockerd, room)?, home, room: room.clone(), daemon, buildkit };
        let mut import = docker.base();
        import.arg("import").arg(work.image()).arg(IMAGE);
        room.finish(import)?;
        docker.choose_client(clients, work)?;
        Ok(docker)
    }

    fn base(&self) -> Command {
        base(&self.client, &self.home, self.buildkit)
    }

    /// The first client that builds with BuildKit, else the first that builds at all.
    fn choose_client(&mut self, clients: Vec<PathBuf>, work: &Work) -> Outcome<()> {
        let mut last = None;
        for (buildkit, builder) in [("1", "BuildKit"), ("0", "classic builder")] {
            for client in &clients {
                self.client.clone_from(client);
                self.buildkit = buildkit;
                match self.perform(Task::Build(&work.steps(), "probe", Cache::Used)) {
                    Some(Ok(_)) => {
                        self.version =
                            format!("{}; client {}; {builder}", self.version, version_of(client, &self.room)?);
                        return Ok(());
                    }
                    Some(Err(err)) => last = Some(err),
                    None => {}
                }
            }
        }
        Err(last.unwrap_or_else(|| "no client".into()))
    }
}

fn base(client: &Path, home: &Path, buildkit: &str) -> Command {
    let mut command = Command::new(client);
    command.arg("-H").arg(address(home));
    command.env("DOCKER_CONFIG", home.join("config")).env("DOCKER_BUILDKIT", buildkit);
    for name in ["DOCKER_HOST", "DOCKER_CONTEXT", "BUILDX_BUILDER"] {
        command.env_remove(name);
    }
    command
}

fn address(home: &Path) -> String {
    format!("unix://{}/docker.sock", home.display())
}

fn daemon(dockerd: &Path, home: &Path) -> Outcome<Command> {
    let mut command = Command::new(dockerd);
    command.arg("--data-root").arg(home.join("data")).arg("--exec-root").arg(home.join("exec"));
    command.arg("--pidfile").arg(home.join("pid")).arg("--host").arg(address(home));
    command.arg("--storage-driver=overlay2");
    // A daemon.json of the host is not for this one.
    fs::write(home.join("daemon.json"), "{}")?;
    command.arg("--config-file").arg(home.join("daemon.json"));
    Ok(command)
}

impl Engine for Docker {
    fn name(&self) -> &str {
        "docker"
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn command(&self, task: Task<'_>) -> Option<Command> {
        let mut command = self.base();
        match task {
            Task::Run(image, words) => command.args(["run", "--rm", "--network", "none", image, GUEST]).args(words),
            Task::Start(name, seconds) => command
                .args(["run", "--detach", "--name", name, "--network", "none"])
                .args([IMAGE, GUEST, "sleep", seconds]),
            Task::Exec(name, words) => command.args(["exec", name, GUEST]).args(words),
            Task::Remove(name) => command.args(["rm", "--force", name]),
            Task::Build(context, name, cache) => {
                command.args(["build", "--quiet", "--tag", name]);
                if cache == Cache::Ignored {
                    command.arg("--no-cache");
                }
                command.arg(context)
            }
            Task::Load(archive) => command.args(["load", "--quiet", "--input"]).arg(archive),
            Task::Save(name, file) => command.args(["save", "--output"]).arg(file).arg(name),
            Task::RemoveImage(name) => command.args(["rmi", name]),
            Task::Pull(name) => {
                command.args(["run", "--rm", "--pull", "always", "--network", "none", name, "/bin/true"])
            }
            Task::Push(name) => command.args(["push", "--quiet", name]),
            // Its newer versions do; Debian's does not.
            Task::LoadLayout(_) => return None,
        };
        Some(command)
    }

    fn line(&self) -> Option<Command> {
        Some(self.base())
    }

    fn room(&self) -> Option<&Room> {
        Some(&self.room)
    }

    fn finish(&self, command: Command) -> Outcome<Done> {
        self.room.finish(command)
    }

    fn services(&self) -> Vec<i32> {
        let is_service = |program: &str| ["dockerd", "containerd"].contains(&program);
        living(&self.home).iter().filter(|trace| is_service(trace.program())).map(|trace| trace.pid).collect()
    }

    fn close(&mut self) -> Outcome<()> {
        self.daemon.stop()
    }
}
