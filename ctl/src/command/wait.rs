//! `ctl wait`

use futures_util::{StreamExt, stream::FuturesOrdered};
use strata_proto::runtime::v1 as pb;

use crate::args::{Wait, WaitFor};
use crate::error::Result;
use crate::platform::Platform;
use crate::{render, streams};

/// Waits for all containers at the same time, and prints their exit codes in the order of their names.
pub async fn run(platform: &Platform, args: &Wait) -> Result<u8> {
    let containers = platform.containers().await?;
    let condition = match args.condition {
        WaitFor::NotRunning => pb::WaitCondition::NotRunning,
        WaitFor::NextExit => pb::WaitCondition::NextExit,
        WaitFor::Removed => pb::WaitCondition::Removed,
        WaitFor::Healthy => pb::WaitCondition::Healthy,
    };
    let wait = |container: &String| {
        let mut client = containers.all.clone();
        let request = pb::WaitContainerRequest { container: container.clone(), condition: condition.into() };
        async move {
            let reply = client.wait_container(request).await?.into_inner();
            streams::exit_code(&reply.exit.ok_or_else(|| super::incomplete("an exit status"))?)
        }
    };
    let mut waits: FuturesOrdered<_> = args.containers.iter().map(wait).collect();
    let mut code = 0;
    while let Some(ended) = waits.next().await {
        match ended {
            Ok(exit) => render::line(exit)?,
            Err(error) => {
                error.print();
                code = 1;
            }
        }
    }
    Ok(code)
}
