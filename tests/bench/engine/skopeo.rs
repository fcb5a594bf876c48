//! Skopeo and umoci: one fetches an image into a layout, the other unpacks it. Nothing runs.

use std::{path::PathBuf, process::Command};

use super::{Engine, Task, first_on_path, version_of};
use crate::{
    Outcome,
    room::{Done, Room},
    work::Work,
};

/// Both, as one engine.
pub(crate) struct Skopeo {
    skopeo: PathBuf,
    umoci: PathBuf,
    version: String,
    home: PathBuf,
    room: Room,
}

impl Skopeo {
    /// Finds both.
    pub(crate) fn start(work: &Work, room: &Room) -> Outcome<Self> {
        let (skopeo, umoci) = (first_on_path("skopeo")?, first_on_path("umoci")?);
        let version = format!("{}; {}", version_of(&skopeo, room)?, version_of(&umoci, room)?);
        Ok(Self { skopeo, umoci, version, home: work.home("skopeo")?, room: room.clone() })
    }
}

impl Engine for Skopeo {
    fn name(&self) -> &str {
        "skopeo+umoci"
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn command(&self, task: Task<'_>) -> Option<Command> {
        let mut command = Command::new("/bin/sh");
        command.current_dir(&self.home).env("TMPDIR", &self.home).arg("-c");
        match task {
            Task::Pull(name) => {
                // Layers of an earlier image are in the layout already; a bundle is made anew.
                let script = r#"set -e
rm -rf bundle
"$1" copy --quiet --insecure-policy --src-tls-verify=false "docker://$3" oci:layout:new
"$2" unpack --image layout:new bundle"#;
                command.arg(script).arg("sh").arg(&self.skopeo).arg(&self.umoci).arg(name);
            }
            Task::RemoveImage(_) => {
                command.arg("rm -rf layout bundle");
            }
            _ => return None,
        }
        Some(command)
    }

    fn finish(&self, command: Command) -> Outcome<Done> {
        self.room.finish(command)
    }
}
