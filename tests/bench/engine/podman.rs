//! Podman and Buildah: no daemon; state, locks and policy in a directory of their own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Cache, Engine, GUEST, IMAGE, Task, first_on_path, version_of};
use crate::{
    Outcome,
    room::{Done, Room},
    work::Work,
};

/// Without limits that only CAP_SYS_RESOURCE could raise.
const CONTAINERS: &str = "[containers]\ndefault_ulimits = []\n";

/// What both need: storage of their own, and settings that fit any root.
struct Storage {
    program: PathBuf,
    version: String,
    home: PathBuf,
    room: Room,
}

impl Storage {
    fn new(name: &str, work: &Work, room: &Room) -> Outcome<Self> {
        let program = first_on_path(name)?;
        let version = version_of(&program, room)?;
        let home = work.home(name)?;
        fs::write(home.join("containers.conf"), CONTAINERS)?;
        fs::write(home.join("registries.conf"), "")?;
        fs::write(home.join("policy.json"), r#"{"default": [{"type": "insecureAcceptAnything"}]}"#)?;
        Ok(Self { program, version, home, room: room.clone() })
    }

    fn base(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.home.join("root")).arg("--runroot").arg(self.home.join("run"));
        command.args(["--storage-driver", "overlay"]);
        self.surround(&mut command);
        command
    }

    fn surround(&self, command: &mut Command) {
        command.env("CONTAINERS_CONF", self.home.join("containers.conf"));
        command.env("CONTAINERS_REGISTRIES_CONF", self.home.join("registries.conf"));
        command.env("TMPDIR", &self.home).env("HOME", &self.home).env("XDG_RUNTIME_DIR", &self.home);
    }

    fn run(&self, arguments: &[&str]) -> Outcome<Done> {
        let mut command = self.base();
        command.args(arguments);
        self.room.finish(command)
    }

    /// Adds `build` and its flags; they are the same in both.
    fn build(&self, command: &mut Command, context: &Path, name: &str, cache: Cache) {
        command.args(["build", "--quiet", "--layers", "--tag", name]);
        command.arg("--signature-policy").arg(self.home.join("policy.json"));
        if cache == Cache::Ignored {
            command.arg("--no-cache");
        }
        command.arg(context);
    }

    /// Unmounts and removes all containers of the storage; the room's end unmounts what it forgot.
    fn remove_all(&self) -> Outcome<()> {
        self.run(&["rm", "--all"]).map(drop)
    }
}

/// Podman.
pub(crate) struct Podman(Storage);

impl Podman {
    /// Imports the image.
    pub(crate) fn start(work: &Work, room: &Room) -> Outcome<Self> {
        let podman = Self(Storage::new("podman", work, room)?);
        let mut import = podman.base();
        import.args(["import", "--quiet"]).arg(work.image()).arg(IMAGE);
        podman.0.room.finish(import)?;
        Ok(podman)
    }

    fn base(&self) -> Command {
        let mut command = self.0.base();
        command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "file"]);
        command.arg("--tmpdir").arg(self.0.home.join("tmp"));
        command
    }
}

impl Engine for Podman {
    fn name(&self) -> &str {
        "podman"
    }

    fn version(&self) -> &str {
        &self.0.version
    }

    fn command(&self, task: Task<'_>) -> Option<Command> {
        let mut command = self.base();
        match task {
            Task::Run(image, words) => {
                command.args(["run", "--rm", "--pull", "never", "--network", "none", image, GUEST]).args(words);
            }
            Task::Start(name, seconds) => {
                command.args(["run", "--detach", "--pull", "never", "--network", "none", "--name", name]);
                command.args([IMAGE, GUEST, "sleep", seconds]);
            }
            Task::Exec(name, words) => {
                command.args(["exec", name, GUEST]).args(words);
            }
            Task::Remove(name) => {
                command.args(["rm", "--force", "--time", "0", name]);
            }
            Task::Build(context, name, cache) => self.0.build(&mut command, context, name, cache),
            Task::Load(archive) => {
                command.args(["load", "--quiet", "--signature-policy"]).arg(self.0.home.join("policy.json"));
                command.arg("--input").arg(archive);
            }
            Task::Save(name, file) => {
                command.args(["save", "--quiet", "--signature-policy"]).arg(self.0.home.join("policy.json"));
                command.args(["--format", "docker-archive", "--output"]).arg(file).arg(name);
            }
            Task::RemoveImage(name) => {
                command.args(["rmi", name]);
            }
            Task::Pull(name) => {
                command.args(["run", "--rm", "--pull", "always", "--tls-verify=false", "--network", "none"]);
                // It takes no policy of ours here: the host's has to be there, as Debian's packages bring it.
                command.args([name, "/bin/true"]);
            }
            Task::Push(name) => {
                command.args(["push", "--quiet", "--tls-verify=false", "--signature-policy"]);
                command.arg(self.0.home.join("policy.json")).arg(name);
            }
            Task::LoadLayout(archive) => return self.command(Task::Load(archive)),
        }
        Some(command)
    }

    fn line(&self) -> Option<Command> {
        Some(self.base())
    }

    fn room(&self) -> Option<&Room> {
        Some(&self.0.room)
    }

    fn finish(&self, command: Command) -> Outcome<Done> {
        self.0.room.finish(command)
    }

    fn close(&mut self) -> Outcome<()> {
        let mut command = self.base();
        command.args(["rm", "--all", "--force", "--time", "0"]);
        self.0.room.finish(command).map(drop)
    }
}

/// Buildah.
pub(crate) struct Buildah(Storage);

impl Buildah {
    /// Makes the image from nothing and the tar.
    pub(crate) fn start(work: &Work, room: &Room) -> Outcome<Self> {
        let storage = Storage::new("buildah", work, room)?;
        let image = work.image();
        let tar = image.to_str().ok_or("the temporary directory's path is not UTF-8")?;
        storage.run(&["from", "--name", "base", "scratch"])?;
        storage.run(&["add", "--quiet", "base", tar, "/"])?;
        storage.run(&["commit", "--quiet", "base", IMAGE])?;
        storage.run(&["rm", "base"])?;
        Ok(Self(storage))
    }
}

impl Engine for Buildah {
    fn name(&self) -> &str {
        "buildah"
    }

    fn version(&self) -> &str {
        &self.0.version
    }

    fn command(&self, task: Task<'_>) -> Option<Command> {
        match task {
            // Buildah has no command that makes, runs and removes: three do.
            Task::Run(image, words) => {
                let script = r#"set -e; image=$1; shift
name=$("$@" from --pull-never --network none "$image")
"$@" run "$name" -- $WORDS
"$@" rm "$name" >/dev/null"#;
                let mut command = Command::new("/bin/sh");
                self.0.surround(&mut command);
                command.env("WORDS", format!("{GUEST} {}", words.join(" ")));
                command.args(["-c", script, "sh", image]);
                let base = self.0.base();
                command.arg(base.get_program()).args(base.get_args());
                Some(command)
            }
            Task::Build(context, name, cache) => {
                let mut command = self.0.base();
                self.0.build(&mut command, context, name, cache);
                Some(command)
            }
            Task::Start(..) | Task::Exec(..) | Task::Remove(..) => None,
            Task::Load(..) | Task::LoadLayout(..) | Task::Save(..) => None,
            Task::RemoveImage(..) | Task::Pull(..) | Task::Push(..) => None,
        }
    }

    fn finish(&self, command: Command) -> Outcome<Done> {
        self.0.room.finish(command)
    }

    fn close(&mut self) -> Outcome<()> {
        self.0.remove_all()
    }
}
