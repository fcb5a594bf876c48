//! `ctl rename`

use strata_proto::runtime::v1 as pb;

use crate::args::Rename;
use crate::error::Result;
use crate::platform::Platform;

/// Gives a container another name.
pub async fn run(platform: &Platform, args: &Rename) -> Result<u8> {
    let request = pb::RenameContainerRequest { container: args.container.clone(), name: args.name.clone() };
    platform.containers().await?.all.rename_container(request).await?;
    Ok(0)
}
