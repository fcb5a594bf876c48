//! `ctl rm`

use strata_proto::runtime::v1 as pb;

use crate::args::Rm;
use crate::error::Result;
use crate::platform::Platform;

/// Removes containers.
pub async fn run(platform: &Platform, args: &Rm) -> Result<u8> {
    let containers = platform.containers().await?;
    super::each(&args.containers, |container| {
        let mut client = containers.all.clone();
        // As Docker: with -f it does not matter whether there is one.
        let (force, allow_missing, volumes) = (args.force, args.force, args.volumes);
        async move {
            let request = pb::DeleteContainerRequest { container: container.clone(), force, allow_missing, volumes };
            client.delete_container(request).await?;
            Ok(container)
        }
    })
    .await
}
