//! The floor: what namespaces, mounts, cgroups and one exec cost, done by a mode of the guest that is no runtime; and
//! what inflating and writing files costs, done by a mode of this program that is no store.

use std::{cell::Cell, env, fs, path::PathBuf, process::Command};

use super::{Engine, GUEST, IMAGE, Task};
use crate::{
    Outcome,
    room::{Done, Room},
    unpack,
    work::Work,
};

/// The bare program.
pub(crate) struct Floor {
    rootfs: PathBuf,
    /// Images that can be pulled, and their layers.
    images: Vec<(String, Vec<PathBuf>)>,
    unpacked: PathBuf,
    room: Room,
    /// Containers that run at once need names of their own.
    serial: Cell<u32>,
}

impl Floor {
    /// A root file system for it.
    pub(crate) fn start(work: &Work, room: &Room) -> Outcome<Self> {
        let home = work.home("floor")?;
        let (rootfs, unpacked) = (home.join("rootfs"), home.join("unpacked"));
        fs::create_dir_all(&rootfs)?;
        tar::Archive::new(fs::File::open(work.image())?).unpack(&rootfs)?;
        let images = work.hub().map(|hub| [hub.one(), hub.many()].map(|name| (name.clone(), hub.layers(&name))));
        let images = images.into_iter().flatten().collect();
        Ok(Self { rootfs, images, unpacked, room: room.clone(), serial: Cell::new(0) })
    }
}

impl Engine for Floor {
    fn name(&self) -> &str {
        "floor"
    }

    fn version(&self) -> &str {
        "no runtime: cgroups, namespaces, mounts and exec; no store: layers inflated and written; nothing around them"
    }

    fn command(&self, task: Task<'_>) -> Option<Command> {
        match task {
            Task::Run(IMAGE, ["noop"]) => {
                self.serial.set(self.serial.get() + 1);
                let mut command = Command::new(strata_tests::guest());
                let name = format!("floor-{}", self.serial.get());
                command.arg("floor").arg(&self.rootfs).arg(name).args([GUEST, "noop"]);
                Some(command)
            }
            Task::Pull(wanted) => {
                let (_, layers) = self.images.iter().find(|(name, _)| name == wanted)?;
                let mut command = Command::new(env::current_exe().ok()?);
                command.arg(unpack::WORD).arg(&self.unpacked).args(layers);
                Some(command)
            }
            Task::RemoveImage(_) => {
                let mut command = Command::new("rm");
                command.arg("-rf").arg(&self.unpacked);
                Some(command)
            }
            _ => None,
        }
    }

    fn room(&self) -> Option<&Room> {
        Some(&self.room)
    }

    fn finish(&self, command: Command) -> Outcome<Done> {
        self.room.finish(command)
    }

    fn is_runtime(&self) -> bool {
        true
    }

    fn together(&self, number: usize) -> Option<Outcome<Done>> {
        let commands = (0..number).map(|_| self.command(Task::Run(IMAGE, &["noop"]))).collect::<Option<Vec<_>>>()?;
        Some(self.room.finish_all(commands))
    }
}
