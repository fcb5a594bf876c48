//! Between this process's streams and a process in a container: bytes, sizes and signals one way, output the other.

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use strata_proto::runtime::v1 as pb;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::error::{Error, Result};
use crate::render;
use crate::terminal;

/// What is connected.
#[derive(Debug, Clone, Copy)]
pub struct Wires {
    /// Send standard input.
    pub stdin: bool,
    /// The process has a terminal: raw bytes, sizes, no signals.
    pub terminal: bool,
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

/// So many of one signal in [`IMPATIENCE`] end `ctl` instead of reaching the process once more.
const ENOUGH: usize = 3;
const IMPATIENCE: Duration = Duration::from_secs(3);

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
    wires: Wires,
    signals: Signals,
) -> Result<u8> {
    let mut events = std::pin::pin!(events.filter_map(|reply| async move { reply.map(read).transpose() }));
    let mut signals = Some(signals);
    // Dropped at every return: the terminal is given back, and nothing more is sent.
    let mut raw = None;
    let mut feeding = tokio::task::JoinSet::new();
    let (leave, mut leaving) = mpsc::channel(1);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            Some(error) = leaving.recv() => return Err(error),
        };
        let Some(event) = event else { break };
        match event.map_err(|status: Status| Error::from(status))? {
            Event::Started => {
                // Raw from here on: an error before this point shows on an ordinary terminal.
                if raw.is_none() && wires.terminal && wires.stdin && terminal::is_input() {
                    raw = Some(terminal::Raw::enter()?);
                }
                if let Some(signals) = signals.take() {
                    feeding.spawn(feed(wires, signals, sender.clone(), leave.clone(), wrap));
                }
            }
            Event::Output(output) => show(output)?,
            Event::Exited(exit) => return exit_code(&exit),
        }
    }
    Err(Error::new("the runtime ended the stream before the process ended").hint("`ctl ps -a` shows what became of it"))
}

/// Sends what happens here as input of the process, until the receiver is gone.
async fn feed<Q: Send + 'static>(
    wires: Wires,
    signals: Signals,
    sender: mpsc::Sender<Q>,
    leave: mpsc::Sender<Error>,
    wrap: fn(pb::input::Event) -> Q,
) {
    let mut tasks = tokio::task::JoinSet::new();
    if wires.stdin {
        tasks.spawn(feed_input(sender.clone(), wrap));
    }
    for (signal, kind, name) in signals.0 {
        match wires.terminal && wires.stdin {
            // Keys arrive as bytes: a signal is meant for ctl itself, whose terminal is gone or who is to end.
            true => tasks.spawn(end_at(signal, kind, leave.clone())),
            false => tasks.spawn(feed_signal(signal, kind, name, sender.clone(), leave.clone(), wrap)),
        };
    }
    if wires.terminal {
        tasks.spawn(feed_sizes(sender, wrap));
    }
    while tasks.join_next().await.is_some() {}
}

async fn feed_input<Q>(sender: mpsc::Sender<Q>, wrap: fn(pb::input::Event) -> Q) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = stdin.read(&mut buffer).await.unwrap_or(0);
        let event = match read {
            0 => pb::input::Event::EndOfInput(pb::EndOfInput {}),
            _ => pb::input::Event::Stdin(Bytes::copy_from_slice(&buffer[..read])),
        };
        if sender.send(wrap(event)).await.is_err() || read == 0 {
            return;
        }
    }
}

async fn feed_sizes<Q>(sender: mpsc::Sender<Q>, wrap: fn(pb::input::Event) -> Q) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    // The first is what it was resized to before the signal was heard.
    loop {
        if let Some((columns, rows)) = terminal::size() {
            let resize = pb::input::Event::Resize(pb::TerminalSize { columns, rows });
            if sender.send(wrap(resize)).await.is_err() {
                return;
            }
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}

async fn feed_signal<Q>(
    mut signal: Signal,
    kind: SignalKind,
    name: &str,
    sender: mpsc::Sender<Q>,
    leave: mpsc::Sender<Error>,
    wrap: fn(pb::input::Event) -> Q,
) {
    let mut recent = VecDeque::new();
    while signal.recv().await.is_some() {
        recent.push_back(Instant::now());
        if recent.len() > ENOUGH {
            recent.pop_front();
        }
        let is_final = matches!(name, "INT" | "TERM") && recent.len() == ENOUGH;
        if is_final && recent.front().is_some_and(|first| first.elapsed() < IMPATIENCE) {
            let error = Error::new("the process does not end at the signal, ctl does").with_code(code_of(kind));
            let hint = "the container goes on running: `ctl ps` shows it, `ctl kill` ends it";
            let _ = leave.send(error.hint(hint)).await;
            return;
        }
        if sender.send(wrap(pb::input::Event::Signal(name.to_owned()))).await.is_err() {
            return;
        }
    }
}

async fn end_at(mut signal: Signal, kind: SignalKind, leave: mpsc::Sender<Error>) {
    let is_deadly = ![SignalKind::user_defined1(), SignalKind::user_defined2()].contains(&kind);
    while signal.recv().await.is_some() {
        if is_deadly {
            let _ = leave.send(Error::silent(code_of(kind))).await;
        }
    }
}

fn code_of(kind: SignalKind) -> u8 {
    128 + kind.as_raw_value() as u8
}

/// Writes output of the process to this process's streams.
fn show(output: pb::Output) -> Result<()> {
    let result = match output.stream {
        Some(pb::output::Stream::Stdout(chunk)) => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(&chunk).and_then(|()| stdout.flush())
        }
        Some(pb::output::Stream::Stderr(chunk)) => std::io::stderr().lock().write_all(&chunk),
        None => Ok(()),
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
