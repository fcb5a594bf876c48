//! `ctl top`

use strata_proto::runtime::v1 as pb;

use crate::args::Top;
use crate::error::Result;
use crate::platform::Platform;
use crate::render::table;

/// Shows the processes of a container.
pub async fn run(platform: &Platform, args: &Top) -> Result<u8> {
    let request = pb::ReadProcessesRequest { container: args.container.clone(), ps_args: args.ps_args.clone() };
    let reply = platform.containers().await?.all.read_processes(request).await?.into_inner();
    let mut rows = vec![reply.titles];
    rows.extend(reply.processes.into_iter().map(|process| process.cells));
    table::print(&rows)?;
    Ok(0)
}
