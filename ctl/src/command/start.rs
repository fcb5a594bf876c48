//! `ctl start`

use strata_proto::runtime::v1 as pb;

use super::run::attach;
use crate::args::Start;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::streams::{self, Signals, Wires};

/// Starts containers that were made before, and attaches when asked.
pub async fn run(platform: &Platform, args: &Start) -> Result<u8> {
    if args.attach || args.interactive {
        return attached(platform, args).await.map_err(Error::in_run);
    }
    let containers = platform.containers().await?;
    super::each(&args.containers, |container| {
        let mut client = containers.all.clone();
        async move {
            let request = pb::StartContainerRequest { container: container.clone(), terminal_size: None };
            client.start_container(request).await?;
            Ok(container)
        }
    })
    .await
}

async fn attached(platform: &Platform, args: &Start) -> Result<u8> {
    let [container] = args.containers.as_slice() else {
        return Err(Error::usage("only one container can be started and attached to"));
    };
    let mut containers = platform.containers().await?;
    let signals = Signals::register()?;
    let found = containers.all.get_container(pb::GetContainerRequest { container: container.clone() }).await?;
    let found = found.into_inner().container.ok_or_else(|| super::incomplete("a container"))?;
    let spec = found.spec.unwrap_or_default();
    let wires = Wires { stdin: args.interactive && spec.has_stdin, terminal: spec.has_terminal };
    streams::check_terminal(wires.stdin, wires.terminal)?;
    attach(&mut containers, found.id, wires, signals).await
}
