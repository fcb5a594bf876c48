//! The floor: what namespaces, mounts, cgroups and one exec cost, done by a mode of the guest that is no runtime.

use std::{cell::Cell, fs, path::PathBuf, process::Command};

use super::{Engine, GUEST, IMAGE, Task};
use crate::{
    Outcome,
    room::{Done, Room},
    work::Work,
};

/// The bare program.
pub(crate) struct Floor {
    rootfs: PathBuf,
    room: Room,
    /// Containers that run at once need names of their own.
    serial: Cell<u32>,
}

impl Floor {
    /// A root file system for it.
    pub(crate) fn start(work: &Work, room: &Room) -> Outcome<Self> {
        let rootfs = work.home("floor")?.join("rootfs");
        fs::create_dir_all(&rootfs)?;
        tar::Archive::new(fs::File::open(work.image())?).unpack(&rootfs)?;
        Ok(Self { rootfs, room: room.clone(), serial: Cell::new(0) })
    }
}

impl Engine for Floor {
    fn name(&self) -> &str {
        "floor"
    }

    fn version(&self) -> &str {
        "no runtime: cgroups, namespaces, mounts and exec, with nothing around them"
    }

    fn command(&self, task: Task<'_>) -> Option<Command> {
        let Task::Run(IMAGE, ["noop"]) = task else { return None };
        self.serial.set(self.serial.get() + 1);
        let mut command = Command::new(strata_tests::guest());
        command.arg("floor").arg(&self.rootfs).arg(format!("floor-{}", self.serial.get())).args([GUEST, "noop"]);
        Some(command)
    }

    fn finish(&self, command: Command) -> Outcome<Done> {
        self.room.finish(command)
    }

    fn services(&self) -> Vec<i32> {
        vec![]
    }

    fn is_runtime(&self) -> bool {
        true
    }

    fn together(&self, number: usize) -> Option<Outcome<Done>> {
        let commands = (0..number).map(|_| self.command(Task::Run(IMAGE, &["noop"]))).collect::<Option<Vec<_>>>()?;
        Some(self.room.finish_all(commands))
    }

    fn close(&mut self) -> Outcome<()> {
        Ok(())
    }
}
