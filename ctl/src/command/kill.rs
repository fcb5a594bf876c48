//! `ctl kill`

use strata_proto::runtime::v1 as pb;

use crate::args::Kill;
use crate::error::Result;
use crate::platform::Platform;

/// Sends a signal to containers.
pub async fn run(platform: &Platform, args: &Kill) -> Result<u8> {
    let containers = platform.containers().await?;
    super::each(&args.containers, |container| {
        let mut client = containers.all.clone();
        let signal = args.signal.clone();
        async move {
            client.kill_container(pb::KillContainerRequest { container: container.clone(), signal }).await?;
            Ok(container)
        }
    })
    .await
}
