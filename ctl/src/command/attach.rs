//! `ctl attach`, and what `run` and `start` share with it: a container's streams and its end.

use strata_proto::runtime::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::args::Attach;
use crate::error::Result;
use crate::platform::{Containers, Platform};
use crate::render::table;
use crate::streams::{self, Event, Keys, Signals, Wires};
use crate::terminal;

/// Whether a container is started that does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It is, after attaching: nothing that it says is lost.
    Yes,
    /// It must run.
    No,
}

/// Attaches to a container that runs.
pub async fn run(platform: &Platform, args: &Attach) -> Result<u8> {
    let mut containers = platform.containers().await?;
    let signals = Signals::register()?;
    let keys = Keys::of_user(args.attaching.keys.detach_keys.as_deref())?;
    let (id, spec) = find(&mut containers, &args.container).await?;
    let wires = Wires {
        stdin: !args.no_stdin && spec.has_stdin,
        stdout: true,
        stderr: true,
        terminal: spec.has_terminal,
        signals: args.attaching.sig_proxy,
        keys,
        announces: None,
        again: None,
    };
    streams::check_terminal(wires.stdin, wires.terminal)?;
    follow(&mut containers, id, wires, signals, Start::No).await
}

/// Id and spec of a container.
pub async fn find(containers: &mut Containers, name: &str) -> Result<(String, pb::ContainerSpec)> {
    let found = containers.all.get_container(pb::GetContainerRequest { container: name.to_owned() }).await?;
    let found = found.into_inner().container.ok_or_else(|| super::incomplete("a container"))?;
    Ok((found.id, found.spec.unwrap_or_default()))
}

/// Attaches to a container; ends with its exit code.
pub async fn follow(
    containers: &mut Containers,
    id: String,
    wires: Wires,
    signals: Signals,
    start: Start,
) -> Result<u8> {
    let again = Some(format!("ctl attach {}", table::short_id(&id)));
    let wires = Wires { again, ..wires };
    let (sender, receiver) = mpsc::channel(16);
    let size = if wires.terminal { terminal::size() } else { None };
    let start = pb::AttachStart {
        container: id,
        has_stdin: wires.stdin,
        start_container: start == Start::Yes,
        terminal_size: size.map(|(columns, rows)| pb::TerminalSize { columns, rows }),
    };
    // The channel has room for the first message.
    let _ = sender.try_send(pb::AttachRequest { event: Some(pb::attach_request::Event::Start(start)) });
    let events = containers.streams.attach(ReceiverStream::new(receiver)).await?.into_inner();
    let read = |reply: pb::AttachResponse| match reply.event? {
        pb::attach_response::Event::Started(_) => Some(Event::Started),
        pb::attach_response::Event::Output(output) => Some(Event::Output(output)),
        pb::attach_response::Event::Exited(exit) => Some(Event::Exited(exit)),
    };
    let wrap =
        |event| pb::AttachRequest { event: Some(pb::attach_request::Event::Input(pb::Input { event: Some(event) })) };
    streams::converse(events, read, sender, wrap, wires, signals).await
}
