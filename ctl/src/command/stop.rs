//! `ctl stop`

use strata_proto::runtime::v1 as pb;

use crate::args::Stop;
use crate::error::Result;
use crate::input;
use crate::platform::Platform;

/// Asks containers to end, and ends them after a while.
pub async fn run(platform: &Platform, args: &Stop) -> Result<u8> {
    let containers = platform.containers().await?;
    super::each(&args.containers, |container| {
        let mut client = containers.all.clone();
        let request = pb::StopContainerRequest {
            container: container.clone(),
            timeout: args.timeout.map(input::until_kill),
            signal: args.signal.clone().unwrap_or_default(),
        };
        async move {
            client.stop_container(request).await?;
            Ok(container)
        }
    })
    .await
}
