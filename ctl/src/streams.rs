//! Between this process's streams and a process in a container: bytes, sizes and signals one way, output the other.

mod feed;
mod keys;

use std::io::{IsTerminal, Write};

use futures_util::StreamExt;
use strata_proto::runtime::v1 as pb;
use strata_rpc::fault;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::error::{Error, Result};
use crate::render;
use crate::terminal;

pub use keys::Keys;

/// What is connected.
#[derive(Debug, Clone)]
pub struct Wires {
    /// Send standard input.
    pub stdin: bool,
    /// Show standard output, or the terminal.
    pub stdout: bool,
    /// Show standard error.
    pub stderr: bool,
    /// The process has a terminal: raw bytes, sizes, no signals.
    pub terminal: bool,
    /// Signals go on to the process; otherwise they end `ctl`.
    pub signals: bool,
    /// What leaves the process alone when it is typed on the terminal.
    pub keys: Keys,
    /// Printed once the process runs.
    pub announces: Option<String>,
    /// The command that connects anew, where there is one.
    pub again: Option<String>,
}

/// Why `ctl` leaves before the process ends.
enum Leave {
    /// The keys for it were typed.
    Typed,
    /// All input is sent, and nothing else was asked for.
    Fed,
    /// It cannot go on, or was told to end.
    Failed(Error),
}

/// What came from the runtime.
pub enum Event {
    /// The process runs.
    Started,
    /// It wrote something.
    Output(pb::Output),
    /// It has ended.
    Exited(pb::ExitStatus),
}

/// Signals that go on to the container's process. From the moment they are registered none is lost.
pub struct Signals(Vec<(Signal, SignalKind, &'static str)>);

impl Signals {
    /// Takes the signals over from their default actions.
    pub fn register() -> Result<Self> {
        let forwarded = [
            (SignalKind::hangup(), "HUP"),
            (SignalKind::interrupt(), "INT"),
            (SignalKind::quit(), "QUIT"),
            (SignalKind::terminate(), "TERM"),
            (SignalKind::user_defined1(), "USR1"),
            (SignalKind::user_defined2(), "USR2"),
        ];
        let registered = forwarded.into_iter().map(|(kind, name)| Ok((signal(kind)?, kind, name)));
        registered.collect::<std::io::Result<_>>().map(Self).map_err(|error| Error::of(&error))
    }
}

/// Follows a process to its end and returns its exit code. `read` says what a reply is, `wrap` makes an input a request.
pub async fn converse<Q: Send + 'static, R>(
    events: Streaming<R>,
    read: fn(R) -> Option<Event>,
    sender: mpsc::Sender<Q>,
    wrap: fn(pb::input::Event) -> Q,
    mut wires: Wires,
    signals: Signals,
) -> Result<u8> {
    let mut events = std::pin::pin!(events.filter_map(|reply| async move { reply.map(read).transpose() }));
    let mut signals = Some(signals);
    // Dropped at every return: the terminal is given back, and nothing more is sent.
    let mut raw = None;
    let mut feeding = tokio::task::JoinSet::new();
    let (leave, mut leaving) = mpsc::channel(1);
    let mut left = None;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            Some(why) = leaving.recv() => match why {
                Leave::Failed(error) => return Err(error),
                // The runtime ends the stream when it has taken the word.
                why => {
                    left = Some(why);
                    continue;
                }
            },
        };
        let Some(event) = event else { break };
        match event.map_err(|status: Status| interrupted(status, &wires))? {
            Event::Started => {
                // Raw from here on: an error before this point shows on an ordinary terminal.
                if raw.is_none() && wires.terminal && wires.stdin && terminal::is_input() {
                    raw = Some(terminal::Raw::enter()?);
                }
                if let Some(id) = wires.announces.take() {
                    render::line(id)?;
                }
                if let Some(signals) = signals.take() {
                    feeding.spawn(feed::feed(wires.clone(), signals, sender.clone(), leave.clone(), wrap));
                }
            }
            Event::Output(output) if left.is_none() => show(output, &wires)?,
            Event::Output(_) => {}
            Event::Exited(exit) => return exit_code(&exit),
        }
    }
    drop(raw);
    match left.or_else(|| leaving.try_recv().ok()) {
        Some(Leave::Typed) => render::note("read escape sequence"),
        Some(Leave::Fed) => {}
        Some(Leave::Failed(error)) => return Err(error),
        None => return Err(cut_off(&wires)),
    }
    Ok(0)
}

/// An error in the middle of the stream. Where it is the runtime that went away, the process goes on.
fn interrupted(status: Status, wires: &Wires) -> Error {
    let is_lost = fault::is_lost(&status);
    let error = Error::from(status);
    if is_lost { hinted(error, wires) } else { error }
}

fn cut_off(wires: &Wires) -> Error {
    hinted(Error::new("the runtime ended the stream before the process ended"), wires)
}

fn hinted(error: Error, wires: &Wires) -> Error {
    match &wires.again {
        Some(again) => {
            error.hint(format!("the container goes on: `{again}` connects anew, `ctl ps -a` shows how it is"))
        }
        None => error.hint("`ctl ps -a` shows what became of it"),
    }
}

/// Writes output of the process to this process's streams.
fn show(output: pb::Output, wires: &Wires) -> Result<()> {
    let result = match output.stream {
        Some(pb::output::Stream::Stdout(chunk)) if wires.stdout => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(&chunk).and_then(|()| stdout.flush())
        }
        Some(pb::output::Stream::Stderr(chunk)) if wires.stderr => std::io::stderr().lock().write_all(&chunk),
        _ => Ok(()),
    };
    result.map_err(render::unwritable)
}

/// The exit code of `ctl` for the end of a process.
pub fn exit_code(exit: &pb::ExitStatus) -> Result<u8> {
    match &exit.kind {
        Some(pb::exit_status::Kind::Code(code)) => Ok(*code as u8),
        Some(pb::exit_status::Kind::Signal(signal)) => Ok(128 + *signal as u8),
        Some(pb::exit_status::Kind::Unknown(why)) => {
            Err(Error::new(format!("the exit status is not known: {why}")).with_code(255))
        }
        None => Err(Error::new("the runtime gave an exit status that says nothing").with_code(255)),
    }
}

/// Refuses `-it` when standard input is no terminal.
pub fn check_terminal(stdin: bool, terminal: bool) -> Result<()> {
    if stdin && terminal && !std::io::stdin().is_terminal() {
        let error = Error::usage("the input device is not a TTY");
        return Err(error.hint("leave -t out when standard input is not a terminal"));
    }
    Ok(())
}
