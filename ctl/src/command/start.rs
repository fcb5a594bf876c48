//! `ctl start`

use strata_proto::runtime::v1 as pb;

use super::attach;
use crate::args::Start;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::streams::{self, Keys, Signals, Wires};

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
    let (id, spec) = attach::find(&mut containers, container).await?;
    let wires = Wires {
        stdin: args.interactive && spec.has_stdin,
        stdout: true,
        stderr: true,
        terminal: spec.has_terminal,
        signals: true,
        keys: Keys::of_user(args.keys.detach_keys.as_deref())?,
        announces: None,
        again: None,
    };
    streams::check_terminal(wires.stdin, wires.terminal)?;
    attach::follow(&mut containers, id, wires, signals, attach::Start::Yes).await
}
