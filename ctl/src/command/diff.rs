//! `ctl diff`

use std::io::{BufWriter, Write};

use strata_proto::runtime::v1::{CreatedMountPoint, GetContainerRequest};
use strata_proto::store::v1::{self as store, SnapshotChangeKind};

use crate::args::Diff;
use crate::error::Result;
use crate::platform::Platform;
use crate::render;

/// Prints what a container changed of its image, a line each: added, changed, deleted.
pub async fn run(platform: &Platform, args: &Diff) -> Result<u8> {
    let request = GetContainerRequest { container: args.container.clone() };
    let found = platform.containers().await?.all.get_container(request).await?.into_inner();
    let container = found.container.ok_or_else(|| super::incomplete("a container"))?;
    let stubs = stubs(container.created_mount_points);
    let request = store::DiffSnapshotRequest { key: container.snapshot_key, stubs };
    let mut replies = platform.snapshots().await?.diff_snapshot(request).await?.into_inner();
    let mut out = BufWriter::new(std::io::stdout());
    while let Some(reply) = replies.message().await? {
        for change in reply.changes {
            let letter = match change.kind() {
                SnapshotChangeKind::Added => b"A ",
                SnapshotChangeKind::Changed => b"C ",
                SnapshotChangeKind::Removed => b"D ",
                SnapshotChangeKind::Unspecified => continue,
            };
            out.write_all(&[letter, &change.path[..], b"\n"].concat()).map_err(render::unwritable)?;
        }
    }
    out.flush().map_err(render::unwritable)?;
    Ok(0)
}

/// Mount points as the store takes them.
pub fn stubs(points: Vec<CreatedMountPoint>) -> Vec<store::MountStub> {
    points.into_iter().map(|point| store::MountStub { path: point.path, inode: point.inode }).collect()
}
