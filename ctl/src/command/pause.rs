//! `ctl pause` and `ctl unpause`

use strata_proto::runtime::v1 as pb;

use crate::args::Containers;
use crate::error::Result;
use crate::platform::Platform;

/// Lets all processes of containers stand still.
pub async fn pause(platform: &Platform, args: &Containers) -> Result<u8> {
    let containers = platform.containers().await?;
    super::each(&args.containers, |container| {
        let mut client = containers.all.clone();
        async move {
            client.pause_container(pb::PauseContainerRequest { container: container.clone() }).await?;
            Ok(container)
        }
    })
    .await
}

/// Lets them go on.
pub async fn unpause(platform: &Platform, args: &Containers) -> Result<u8> {
    let containers = platform.containers().await?;
    super::each(&args.containers, |container| {
        let mut client = containers.all.clone();
        async move {
            client.unpause_container(pb::UnpauseContainerRequest { container: container.clone() }).await?;
            Ok(container)
        }
    })
    .await
}
