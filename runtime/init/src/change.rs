//! The role `change`: acts on steps in the mount namespace of a container that runs, and ends. What comes from the host is
//! opened before the namespace is joined; what is inside is found from its root by descriptor, as when it was made.

use crate::failure::{Attempt, Failure};
use crate::monitor::receive_plan;
use crate::part;
use crate::place::Place;
use crate::plan::{Plan, Step};
use crate::prepare::{Prepared, prepare};
use crate::steps::{self, Masks};
use crate::wire::{self, Created, Frame};
use nix::sched::CloneFlags;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// Runs the role: one Plan frame in, one Ready (with process 0) or Failed frame out.
pub(crate) fn change(socket: OwnedFd) -> Result<(), Failure> {
    let mut runtime = UnixStream::from(socket);
    let outcome = receive_plan(&mut runtime).and_then(|plan| act(&plan));
    let frame = match &outcome {
        Ok(created) => Frame::Ready { pid: 0, created: created.clone() },
        Err(failure) => failure.to_frame(),
    };
    let _ = wire::send(&mut runtime, &frame);
    outcome.map(drop)
}

/// Acts on the steps; returns the mount points that had to be made.
fn act(plan: &Plan) -> Result<Vec<Created>, Failure> {
    let mut prepared = prepare(plan)?;
    let target = prepared.target.take();
    let target = target.ok_or_else(|| Failure::new("join the container", "the plan names no process"))?;
    // CVE-2016-9962: it has descriptors of the host, and is in a mount namespace of the container.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).attempt(|| "become non-dumpable".into())?;
    rustix::process::umask(Mode::empty());
    take_parts(plan, &mut prepared)?;
    target.enter_late()?;
    let mut place = root().attempt(|| "open the root of the container".into())?;
    let mut masks = Masks::default();
    for (index, step) in plan.steps.iter().enumerate() {
        match step {
            Step::Overlay { target, attributes, .. } => {
                let part = prepared.trees[index].take().expect("the part of every overlay was taken");
                steps::bind_part(&mut place, part, target, *attributes)?;
            }
            Step::MemoryFile { target, .. } => {
                let step = format!("mount a file in memory on {}", target.display());
                return Err(Failure::new(step, "that is for the start of a container"));
            }
            step => steps::run(step, index, &mut place, &mut prepared, &mut masks)?,
        }
    }
    Ok(std::mem::take(&mut place.created))
}

/// Takes the parts of overlays that are wanted. They are attached for it, and that is for nobody to see, least of all the
/// container: it happens in a mount namespace of this process alone.
fn take_parts(plan: &Plan, prepared: &mut Prepared) -> Result<(), Failure> {
    if !plan.steps.iter().any(|step| matches!(step, Step::Overlay { .. })) {
        return Ok(());
    }
    let step = || "make a mount namespace".to_owned();
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).attempt(step)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).attempt(step)?;
    let own = root().attempt(step)?;
    for (step, tree) in plan.steps.iter().zip(&mut prepared.trees) {
        let Step::Overlay { path, target, .. } = step else { continue };
        let whole = tree.take().expect("prepare mounted every overlay");
        let part = part::of(&own, whole, path);
        *tree = Some(part.attempt(|| format!("find {} for {}", path.display(), target.display()))?);
    }
    Ok(())
}

fn root() -> Result<Place, Errno> {
    open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).and_then(Place::new)
}
