//! Runtimes alone: crun, runc and our strata-oci run one and the same bundle, with the limits that most people set.
//! No image, no layers, no log: a lower bound.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use super::{Engine, GUEST, IMAGE, Task, first_on_path, version_of};
use crate::{
    Outcome,
    room::{Done, Room},
    work::Work,
};

/// A runtime of the OCI's command line.
pub(crate) struct Bundles {
    name: String,
    program: PathBuf,
    version: String,
    home: PathBuf,
    room: Room,
    /// Containers need names that were not used.
    serial: Cell<u32>,
}

impl Bundles {
    /// Our own.
    pub(crate) fn strata_oci(work: &Work, room: &Room) -> Outcome<Self> {
        Self::new("strata-oci", strata_tests::binaries().join("strata-oci"), work, room)
    }

    /// A peer of this name.
    pub(crate) fn of_peer(name: &str, work: &Work, room: &Room) -> Outcome<Self> {
        Self::new(name, first_on_path(name)?, work, room)
    }

    fn new(name: &str, program: PathBuf, work: &Work, room: &Room) -> Outcome<Self> {
        let version = version_of(&program, room).map_err(|err| format!("{}: {err}", program.display()))?;
        let home = work.home(name)?;
        let rootfs = home.join("rootfs");
        fs::create_dir_all(&rootfs)?;
        tar::Archive::new(fs::File::open(work.image())?).unpack(&rootfs)?;
        let bundles = Self { name: name.to_owned(), program, version, home, room: room.clone(), serial: Cell::new(0) };
        bundles.write("noop", &["noop"])?;
        Ok(bundles)
    }

    fn bundle(&self, words: &str) -> PathBuf {
        self.home.join(words)
    }

    /// Writes a bundle: what `strata-oci spec` says a default container is, without a terminal.
    fn write(&self, name: &str, words: &[&str]) -> Outcome<()> {
        let dir = self.bundle(name);
        fs::create_dir_all(&dir)?;
        let path = dir.join("config.json");
        let mut spec: Value = serde_json::from_slice(&spec_of(&dir)?)?;
        // The oldest crun of today's distributions knows no newer one.
        spec["ociVersion"] = json!("1.0.2");
        spec["root"]["path"] = json!(self.home.join("rootfs"));
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!([&[GUEST], words].concat());
        spec["linux"]["resources"]["memory"] = json!({"limit": 256 << 20});
        spec["linux"]["resources"]["pids"] = json!({"limit": 32});
        spec["linux"]["cgroupsPath"] = json!(format!("/strata-bench/{}-{name}", self.name));
        fs::write(path, serde_json::to_vec(&spec)?)?;
        Ok(())
    }

    /// The command that runs a bundle in the foreground.
    fn run(&self, bundle: &str) -> Command {
        self.serial.set(self.serial.get() + 1);
        let mut command = self.base();
        command.arg("run").arg("--bundle").arg(self.bundle(bundle)).arg(format!("bench-{}", self.serial.get()));
        command
    }

    fn base(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.home.join("state"));
        command
    }
}

fn spec_of(dir: &Path) -> Outcome<Vec<u8>> {
    let program = strata_tests::binaries().join("strata-oci");
    let output = Command::new(&program).arg("spec").arg("--bundle").arg(dir).output()?;
    if !output.status.success() {
        return Err(format!("{}: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(fs::read(dir.join("config.json"))?)
}

impl Engine for Bundles {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn command(&self, task: Task<'_>) -> Option<Command> {
        let mut command = self.base();
        match task {
            Task::Run(IMAGE, ["noop"]) => return Some(self.run("noop")),
            Task::Start(name, seconds) => {
                self.write(name, &["sleep", seconds]).ok()?;
                command.args(["run", "--detach", "--bundle"]).arg(self.bundle(name)).arg(name)
            }
            Task::Exec(name, words) => command.args(["exec", name, GUEST]).args(words),
            Task::Remove(name) => command.args(["delete", "--force", name]),
            Task::Run(..) | Task::Build(..) => return None,
            Task::Load(..) | Task::LoadLayout(..) | Task::Save(..) => return None,
            Task::RemoveImage(..) | Task::Pull(..) | Task::Push(..) => return None,
        };
        Some(command)
    }

    fn finish(&self, command: Command) -> Outcome<Done> {
        self.room.finish(command)
    }

    fn is_runtime(&self) -> bool {
        true
    }

    fn together(&self, number: usize) -> Option<Outcome<Done>> {
        // Each has a cgroup of its own, which the bundle names.
        let names: Vec<String> = (0..number).map(|number| format!("together-{number}")).collect();
        let mut missing = names.iter().filter(|name| !self.bundle(name).exists());
        if let Err(err) = missing.try_for_each(|name| self.write(name, &["noop"])) {
            return Some(Err(err));
        }
        Some(self.room.finish_all(names.iter().map(|name| self.run(name)).collect()))
    }
}
