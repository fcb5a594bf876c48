//! Mounts that an OCI spec has no words for, put among the steps of a plan: bytes in memory, and paths of snapshots, images
//! and volumes, which are looked up in these by descriptor when they are mounted.

use std::path::Path;

use strata_init::plan::{Root, Step, attribute};

use super::{mounts::place_of, root_of};
use crate::{
    error::Error,
    record::Identity,
    spec::{Mount, Source},
};

/// Adds mounts to the steps that mount the others: parents before children. `trees` are the snapshots that they show, in
/// their order.
pub fn mounts(steps: &mut Vec<Step>, mounts: &[Mount], trees: &[strata_types::Mount]) -> Result<(), Error> {
    let mut trees = trees.iter();
    let mut added = Vec::new();
    for mount in mounts {
        added.extend(step(mount, &mut trees)?);
    }
    added.sort_by_key(|step| target(step).map_or(0, |target| target.components().count()));
    for step in added {
        let at = place(steps, target(&step).unwrap_or(Path::new("/")));
        steps.insert(at, step);
    }
    Ok(())
}

/// Adds the /dev/shm of the container that a process is in.
pub fn shm(steps: &mut Vec<Step>, process: &Identity) {
    let tree = Root::Inside { pid: process.pid, start_time: process.started, path: "/dev/shm".into() };
    let attributes = attribute::NOSUID | attribute::NODEV | attribute::NOEXEC;
    let target = Path::new("/dev/shm");
    let at = place(steps, target);
    steps.insert(at, Step::Overlay { tree, path: "/".into(), target: target.into(), attributes });
}

fn step<'a>(mount: &Mount, trees: &mut impl Iterator<Item = &'a strata_types::Mount>) -> Result<Option<Step>, Error> {
    let target = mount.target.clone().into();
    let read_only = |is_read_only| if is_read_only { attribute::RDONLY } else { 0 };
    let attributes = read_only(mount.is_read_only);
    Ok(match &mount.source {
        Source::Bytes { data, mode, owner: (uid, gid) } => {
            let mode = if *mode == 0 { 0o400 } else { *mode };
            let attributes = attributes | attribute::NOSUID | attribute::NODEV;
            Some(Step::MemoryFile { target, bytes: data.clone(), mode, uid: *uid, gid: *gid, attributes })
        }
        Source::Snapshot { path, .. } => {
            let tree = trees.next().expect("every snapshot was acquired");
            Some(Step::Overlay { tree: root_of(tree), path: path.clone(), target, attributes })
        }
        Source::Image(image) => {
            let tree = trees.next().expect("every image was acquired");
            let attributes = attribute::RDONLY;
            Some(Step::Overlay { tree: root_of(tree), path: image.path.clone(), target, attributes })
        }
        Source::Volume(volume) if !volume.sub_path.as_os_str().is_empty() => {
            let (path, is_read_only) = place_of(mount, volume)?;
            let (tree, path) = (Root::Bind { path }, volume.sub_path.clone());
            Some(Step::Overlay { tree, path, target, attributes: read_only(is_read_only) })
        }
        Source::Bind(_) | Source::Tmpfs(_) | Source::Volume(_) => None,
    })
}

/// After every mount, but before what is mounted below it.
fn place(steps: &[Step], path: &Path) -> usize {
    let is_below = |step: &Step| target(step).is_some_and(|other| other != path && other.starts_with(path));
    let last = || steps.iter().rposition(|step| target(step).is_some()).map_or(0, |at| at + 1);
    steps.iter().position(is_below).unwrap_or_else(last)
}

fn target(step: &Step) -> Option<&Path> {
    match step {
        Step::Bind { target, .. }
        | Step::Filesystem { target, .. }
        | Step::MemoryFile { target, .. }
        | Step::Overlay { target, .. } => Some(target),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tmpfs(target: &str) -> Step {
        let (kind, source) = ("tmpfs".to_owned(), "tmpfs".to_owned());
        Step::Filesystem { kind, source, target: target.into(), attributes: 0, options: vec![], copy_up: false }
    }

    #[test]
    fn a_mount_comes_after_its_parents_and_before_its_children() {
        let mask = Step::Mask { path: "/proc/kcore".into() };
        let steps = [tmpfs("/run"), tmpfs("/src/build"), tmpfs("/z"), mask];

        assert_eq!(place(&steps, Path::new("/src")), 1);
        assert_eq!(place(&steps, Path::new("/run/secrets/x")), 3);
        assert_eq!(place(&steps, Path::new("/sr")), 3);
    }
}
