//! `ctl export`

use futures_util::StreamExt;
use strata_proto::runtime::v1::GetContainerRequest;
use strata_proto::store::v1::ExportSnapshotRequest;
use strata_rpc::chunks;

use crate::args::Export;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::{receiving, terminal};

/// Asks the store for what the container's snapshot shows, and writes it.
pub async fn run(platform: &Platform, args: &Export) -> Result<u8> {
    if args.output.is_none() && terminal::is_output() {
        return Err(Error::usage("an archive is nothing to look at: standard output is a terminal")
            .hint("`ctl export -o FILE` writes a file, `ctl export ... > FILE` does as well"));
    }
    let request = GetContainerRequest { container: args.container.clone() };
    let found = platform.containers().await?.all.get_container(request).await?.into_inner();
    let container = found.container.ok_or_else(|| super::incomplete("a container"))?;
    let request = ExportSnapshotRequest { key: container.snapshot_key, path: String::new() };
    let chunks = platform.snapshots().await?.export_snapshot(request).await?.into_inner();
    let archive = chunks::to_read(chunks.map(|message| message.map(|message| message.chunk)));
    receiving::archive(archive, args.output.clone()).await?;
    Ok(0)
}
