//! `ctl wait`

use strata_proto::runtime::v1 as pb;

use crate::args::Containers;
use crate::error::Result;
use crate::platform::Platform;
use crate::streams;

/// Waits for the end of containers and prints their exit codes.
pub async fn run(platform: &Platform, args: &Containers) -> Result<u8> {
    let containers = platform.containers().await?;
    super::each(&args.containers, |container| {
        let mut client = containers.all.clone();
        async move {
            let reply = client.wait_container(pb::WaitContainerRequest { container }).await?.into_inner();
            let exit = reply.exit.ok_or_else(|| super::incomplete("an exit status"))?;
            Ok(streams::exit_code(&exit)?.to_string())
        }
    })
    .await
}
