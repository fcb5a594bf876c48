//! `ctl restart`

use strata_proto::runtime::v1 as pb;

use crate::args::Restart;
use crate::error::Result;
use crate::input;
use crate::platform::Platform;

/// Stops containers that run, and starts each of them.
pub async fn run(platform: &Platform, args: &Restart) -> Result<u8> {
    let containers = platform.containers().await?;
    super::each(&args.containers, |container| {
        let mut client = containers.all.clone();
        let request = pb::RestartContainerRequest {
            container: container.clone(),
            timeout: args.timeout.map(input::until_kill),
            signal: args.signal.clone().unwrap_or_default(),
        };
        async move {
            client.restart_container(request).await?;
            Ok(container)
        }
    })
    .await
}
