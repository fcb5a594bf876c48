//! Ours: `ctl` and three services on demand, in a house of their own.

use std::{fs, process::Command};

use strata_tests::House;

use super::{Cache, Engine, GUEST, IMAGE, Task, version_of};
use crate::{
    Outcome,
    room::{Done, Room},
    work::Work,
};

/// A house with the image in it.
pub(crate) struct Ours {
    name: &'static str,
    house: House,
    version: String,
    room: Room,
}

impl Ours {
    /// Starts the services, the store with these settings, and imports the image.
    pub(crate) fn start(name: &'static str, settings: &str, work: &Work, room: &Room) -> Outcome<Self> {
        let ctl = strata_tests::binaries().join("ctl");
        let version =
            version_of(&ctl, room).map_err(|err| format!("{}: {err} (`make dist` makes it)", ctl.display()))?;
        let house = House::with_root(Some(&work.home(name)?.join("state")));
        if !settings.is_empty() {
            fs::write(house.root().join("etc/store.toml"), settings)?;
        }
        // It has a host of its own, with the networks that it has elsewhere.
        house.configure_runtime("");
        let mut import = house.ctl_command(&["import"]);
        import.arg(work.image()).arg(IMAGE);
        let ours = Self { name, house, version, room: room.clone() };
        ours.finish(import)?;
        Ok(ours)
    }
}

impl Engine for Ours {
    fn name(&self) -> &str {
        self.name
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn command(&self, task: Task<'_>) -> Option<Command> {
        let mut command = self.house.ctl_command(&[]);
        match task {
            Task::Run(image, words) => command.args(["run", "--rm", "--network", "none", image, GUEST]).args(words),
            Task::Start(name, seconds) => {
                command.args(["run", "-d", "--name", name, "--network", "none"]).args([IMAGE, GUEST, "sleep", seconds])
            }
            Task::Exec(name, words) => command.args(["exec", name, GUEST]).args(words),
            Task::Remove(name) => command.args(["rm", "-f", name]),
            Task::Build(context, name, cache) => {
                command.args(["build", "-q", "-t", name]);
                if cache == Cache::Ignored {
                    command.arg("--no-cache");
                }
                command.arg(context)
            }
            Task::Load(archive) => command.args(["load", "-q", "-i"]).arg(archive),
            Task::Save(name, file) => {
                // Peers write layers plain, whatever is asked for.
                command.args(["save", "--compression", "none", "-o"]).arg(file).arg(name)
            }
            Task::RemoveImage(name) => command.args(["rmi", name]),
            Task::Pull(name) => {
                command.args(["run", "--rm", "--pull", "always", "--network", "none", name, "/bin/true"])
            }
            Task::Push(name) => command.args(["push", "-q", name]),
            Task::LoadLayout(archive) => command.args(["load", "-q", "-i"]).arg(archive),
        };
        Some(command)
    }

    fn line(&self) -> Option<Command> {
        Some(self.house.ctl_command(&[]))
    }

    fn room(&self) -> Option<&Room> {
        Some(&self.room)
    }

    fn finish(&self, command: Command) -> Outcome<Done> {
        self.room.finish(command)
    }

    fn services(&self) -> Vec<i32> {
        self.house.services().iter().map(|trace| trace.pid).collect()
    }

    fn builders(&self) -> Vec<i32> {
        let is_builder = |program: &str| program == "strata-builder";
        self.house.services().iter().filter(|trace| is_builder(trace.program())).map(|trace| trace.pid).collect()
    }

    fn rest(&self) -> Outcome<()> {
        let left = self.house.stop();
        if left.is_empty() { Ok(()) } else { Err(format!("its services do not stop: {left:?}").into()) }
    }

    fn close(&mut self) -> Outcome<()> {
        // The house looks for leaks again when it is dropped, and would end the program.
        let complaints = self.house.close();
        if complaints.is_empty() { Ok(()) } else { Err(format!("left behind: {complaints:?}").into()) }
    }
}
