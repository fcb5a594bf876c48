//! Mounts of a container that runs: `strata-init change` acts on them in its mount namespace. Blocking, on threads for it.

use std::{os::unix::net::UnixStream, path::PathBuf, time::Duration};

use strata_init::{
    plan::{Plan, Step, Target},
    wire::{self, Frame},
};

use super::{Launcher, insert, mounts, outline, spare::Spare};
use crate::{
    error::Error,
    monitor::{Failure, mount_point},
    record::Identity,
    spec::{Mount, MountPoint},
};

/// `CLONE_NEWNS` of clone(2).
const MOUNT_NAMESPACE: u32 = 0x2_0000;

/// How long a change may take; a file system that does not answer holds up its own container.
const CHANGED: Duration = Duration::from_secs(60);

/// What shall be another way.
#[derive(Debug)]
pub enum Change {
    /// Something is mounted.
    Mount {
        /// It, with where its volume is.
        mount: Box<Mount>,
        /// The snapshot that it shows.
        tree: Option<strata_types::Mount>,
    },
    /// What is mounted there is taken away.
    Unmount {
        /// Mount point.
        target: String,
    },
}

impl Launcher {
    /// Changes the mounts of a container whose first process this is. All of it happens, or nothing but
    /// mount points. Returns those that had to be made.
    pub fn change(&self, process: &Identity, change: Change) -> Result<Vec<MountPoint>, Error> {
        let steps = steps(change)?;
        let target = Target { pid: process.pid, start_time: process.started, namespaces: MOUNT_NAMESPACE };
        let plan = Plan { target: Some(target), steps, ..Plan::default() };
        let Spare { mut child, mut stream } = self.execute("change")?;
        let answer = converse(&mut stream, &plan);
        if answer.is_err() {
            let _ended_already = child.kill();
        }
        let _status = child.wait();
        answer.map_err(|source| Error::io("speak to", "strata-init", source))?
    }
}

fn steps(change: Change) -> Result<Vec<Step>, Error> {
    match change {
        Change::Unmount { target } => Ok(vec![Step::Unmount { target: PathBuf::from(target) }]),
        Change::Mount { mount, tree } => {
            let mounts = std::slice::from_ref(&*mount);
            let mut steps = outline::mount_steps(&mounts::mounts(mounts, Vec::new())?)?;
            insert::mounts(&mut steps, mounts, tree.as_slice())?;
            Ok(steps)
        }
    }
}

fn converse(stream: &mut UnixStream, plan: &Plan) -> std::io::Result<Result<Vec<MountPoint>, Error>> {
    stream.set_read_timeout(Some(CHANGED))?;
    wire::send(stream, &Frame::Plan { bytes: plan.encode() })?;
    match wire::receive(stream)? {
        Some(Frame::Ready { created, .. }) => Ok(Ok(created.into_iter().map(mount_point).collect())),
        Some(Frame::Failed { step, errno, text, code }) => Ok(Err(Failure { step, errno, text, code }.into())),
        _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}
