//! Ctrl-C and SIGTERM: the first gives the build up and lets the builder clean up, the second leaves at once.

use std::time::Duration;

use strata_proto::builder::v1 as pb;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::error::{Error, Result};

/// How long the builder may take to say that it has cleaned up. It goes on without us.
const PATIENCE: Duration = Duration::from_millis(600);

/// How a build ended.
#[derive(Debug)]
pub enum Ended<T> {
    /// It is done.
    Built(T),
    /// It was given up: the exit code.
    GivenUp(u8),
}

/// Signals that end a build.
#[derive(Debug)]
pub struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    /// From now on these signals do not kill.
    pub fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(|error| Error::of(&error));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// The exit code of the next one.
    pub async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
        }
    }

    /// Has the builder give up, and waits until it has cleaned up, for another signal, or for a moment.
    pub async fn give_up(
        &mut self,
        sender: &mpsc::Sender<pb::BuildRequest>,
        events: &mut tonic::Streaming<pb::BuildResponse>,
    ) {
        let cancel = pb::BuildRequest { event: Some(pb::build_request::Event::Cancel(pb::BuildCancel {})) };
        let end = async {
            // A builder that is gone has given up.
            let _ = sender.send(cancel).await;
            while let Ok(Some(_)) = events.message().await {}
        };
        tokio::select! {
            () = end => {}
            _ = self.next() => {}
            () = tokio::time::sleep(PATIENCE) => {}
        }
    }
}
