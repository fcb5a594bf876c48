//! What is measured: an engine says which command does a task, and where it runs.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Outcome,
    room::{Done, Room},
};

mod bundles;
mod containerd;
mod daemon;
mod docker;
mod floor;
mod ours;
mod podman;
mod skopeo;

pub(crate) use bundles::Bundles;
pub(crate) use containerd::Containerd;
pub(crate) use docker::Docker;
pub(crate) use floor::Floor;
pub(crate) use ours::Ours;
pub(crate) use podman::{Buildah, Podman};
pub(crate) use skopeo::Skopeo;

/// Name of the image that all have.
pub(crate) const IMAGE: &str = "guest";
/// The program in it.
pub(crate) const GUEST: &str = "/guest";

/// Whether a build may take results from its cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cache {
    /// As always
    Used,
    /// `--no-cache`
    Ignored,
}

/// What an engine is asked to do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Task<'a> {
    /// Make a container without network, run the guest with these words in it, remove it.
    Run(&'a str, &'a [&'a str]),
    /// Start a container of this name in the background, in which the guest sleeps for so long.
    Start(&'a str, &'a str),
    /// Run the guest with these words in it.
    Exec(&'a str, &'a [&'a str]),
    /// Remove it, running or not.
    Remove(&'a str),
    /// Build a context under a name.
    Build(&'a Path, &'a str, Cache),
    /// Load the images of an archive.
    Load(&'a Path),
    /// Save an image of this name to a file, as docker-archive.
    Save(&'a str, &'a Path),
    /// Remove the image of this name.
    RemoveImage(&'a str),
    /// Pull the image of this name, whatever is there, and run `/bin/true` of it.
    Pull(&'a str),
    /// Push the image of this name.
    Push(&'a str),
    /// Load the image of an OCI layout in one tar.
    LoadLayout(&'a Path),
}

/// One of those that are compared.
pub(crate) trait Engine {
    /// Its command.
    fn name(&self) -> &str;
    /// What it says about itself.
    fn version(&self) -> &str;
    /// The command that does a task; None: it has none.
    fn command(&self, task: Task<'_>) -> Option<Command>;
    /// Its command line, if that has Docker's words; None: it has others.
    fn line(&self) -> Option<Command> {
        None
    }

    /// Where it lives, if it makes networks.
    fn room(&self) -> Option<&Room> {
        None
    }

    /// Runs one to its successful end.
    fn finish(&self, command: Command) -> Outcome<Done>;
    /// Its services that run now, of whatever kind.
    fn services(&self) -> Vec<i32> {
        vec![]
    }

    /// Those of them that build.
    fn builders(&self) -> Vec<i32> {
        self.services()
    }

    /// Stops its services, where the next command starts them again.
    fn rest(&self) -> Outcome<()> {
        Ok(())
    }

    /// Stops and removes all of it.
    fn close(&mut self) -> Outcome<()> {
        Ok(())
    }

    /// Does it run bundles, without images and logs?
    fn is_runtime(&self) -> bool {
        false
    }

    /// Runs so many no-ops at once, to the end of all; None: it cannot.
    fn together(&self, _number: usize) -> Option<Outcome<Done>> {
        None
    }

    /// Does a task; None: it cannot.
    fn perform(&self, task: Task<'_>) -> Option<Outcome<Done>> {
        Some(self.finish(self.command(task)?))
    }
}

/// All programs of a name on PATH, and where Debian puts those that only root uses.
fn on_path(name: &str) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let mut found: Vec<PathBuf> = vec![];
    for program in dirs.map(|dir| dir.join(name)).filter(|path| path.is_file()) {
        if !found.contains(&program) {
            found.push(program);
        }
    }
    found
}

/// The first of them.
fn first_on_path(name: &str) -> Outcome<PathBuf> {
    on_path(name).into_iter().next().ok_or_else(|| format!("no {name} on PATH (`make peers` installs it)").into())
}

/// First line of what `--version` prints. Asked in the room: crun makes its directory under /run even for that.
fn version_of(program: &Path, room: &Room) -> Outcome<String> {
    let mut command = Command::new(program);
    command.arg("--version");
    Ok(room.finish(command)?.stdout.lines().next().unwrap_or("unknown").to_owned())
}
