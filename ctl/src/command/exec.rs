//! `ctl exec`

use strata_proto::runtime::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::args::Exec;
use crate::error::Result;
use crate::input;
use crate::platform::Platform;
use crate::streams::{self, Event, Keys, Signals, Wires};
use crate::terminal;

/// Runs a further process in a container.
pub async fn run(platform: &Platform, args: &Exec) -> Result<u8> {
    let start = pb::ExecStart {
        container: args.container().to_owned(),
        args: args.command().to_vec(),
        env: input::environment(&args.env_file, &args.env)?,
        working_directory: args.workdir.as_deref().map(input::directory).transpose()?.unwrap_or_default(),
        user: args.user.clone().unwrap_or_default(),
        has_terminal: args.tty,
        has_stdin: args.interactive && !args.detach,
        is_detached: args.detach,
        is_privileged: args.privileged,
        terminal_size: if args.tty { terminal::size() } else { None }
            .map(|(columns, rows)| pb::TerminalSize { columns, rows }),
    };
    let keys = Keys::of_user(args.keys.detach_keys.as_deref())?;
    if !args.detach {
        streams::check_terminal(args.interactive, args.tty)?;
    }
    let mut client = platform.containers().await?.streams;
    let signals = Signals::register()?;
    let (sender, receiver) = mpsc::channel(16);
    // The channel has room for the first message.
    let _ = sender.try_send(pb::ExecRequest { event: Some(pb::exec_request::Event::Start(start)) });
    let mut events = client.exec(ReceiverStream::new(receiver)).await?.into_inner();
    if args.detach {
        // A process that cannot be started is an error here; one that runs is nobody's business any more.
        events.message().await?;
        return Ok(0);
    }
    let read = |reply: pb::ExecResponse| match reply.event? {
        pb::exec_response::Event::Started(_) => Some(Event::Started),
        pb::exec_response::Event::Output(output) => Some(Event::Output(output)),
        pb::exec_response::Event::Exited(exit) => Some(Event::Exited(exit)),
    };
    let wrap =
        |event| pb::ExecRequest { event: Some(pb::exec_request::Event::Input(pb::Input { event: Some(event) })) };
    let wires = Wires {
        stdin: args.interactive,
        stdout: true,
        stderr: true,
        terminal: args.tty,
        signals: true,
        keys,
        announces: None,
        again: None,
    };
    streams::converse(events, read, sender, wrap, wires, signals).await
}
