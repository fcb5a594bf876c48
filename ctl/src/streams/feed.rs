//! What happens here, on its way to a process: standard input, sizes of the terminal, signals.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use strata_proto::runtime::v1 as pb;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::{Keys, Leave, Signals, Wires};
use crate::error::Error;
use crate::terminal;

/// So many of one signal in [`IMPATIENCE`] end `ctl` instead of reaching the process once more.
const ENOUGH: usize = 3;
const IMPATIENCE: Duration = Duration::from_secs(3);

/// Sends what happens here as input of the process, until the receiver is gone.
pub async fn feed<Q: Send + 'static>(
    wires: Wires,
    signals: Signals,
    sender: mpsc::Sender<Q>,
    leave: mpsc::Sender<Leave>,
    wrap: fn(pb::input::Event) -> Q,
) {
    let mut tasks = tokio::task::JoinSet::new();
    let has_keys = wires.terminal && wires.stdin;
    if wires.stdin {
        let keys = wires.terminal.then_some(wires.keys);
        let is_all = !(wires.stdout || wires.stderr);
        tasks.spawn(feed_input(sender.clone(), leave.clone(), keys, is_all, wrap));
    }
    for (signal, kind, name) in signals.0 {
        match has_keys || !wires.signals {
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

/// Sends standard input to its end, or until `keys` are typed. If it is all that is connected, its end is ctl's.
async fn feed_input<Q>(
    sender: mpsc::Sender<Q>,
    leave: mpsc::Sender<Leave>,
    mut keys: Option<Keys>,
    is_all: bool,
    wrap: fn(pb::input::Event) -> Q,
) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 64 << 10];
    let detach = || wrap(pb::input::Event::Detach(pb::Detach {}));
    loop {
        let read = stdin.read(&mut buffer).await.unwrap_or(0);
        if read == 0 {
            let is_sent = sender.send(wrap(pb::input::Event::EndOfInput(pb::EndOfInput {}))).await.is_ok();
            if is_all && is_sent && leave.send(Leave::Fed).await.is_ok() {
                let _ = sender.send(detach()).await;
            }
            return;
        }
        let (bytes, is_over) = match &mut keys {
            None => (Bytes::copy_from_slice(&buffer[..read]), false),
            Some(keys) => {
                let (bytes, is_over) = keys.pass(&buffer[..read]);
                (bytes.into(), is_over)
            }
        };
        if !bytes.is_empty() && sender.send(wrap(pb::input::Event::Stdin(bytes))).await.is_err() {
            return;
        }
        if is_over {
            let _ = leave.send(Leave::Typed).await;
            let _ = sender.send(detach()).await;
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
    leave: mpsc::Sender<Leave>,
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
            let _ = leave.send(Leave::Failed(error.hint(hint))).await;
            return;
        }
        if sender.send(wrap(pb::input::Event::Signal(name.to_owned()))).await.is_err() {
            return;
        }
    }
}

async fn end_at(mut signal: Signal, kind: SignalKind, leave: mpsc::Sender<Leave>) {
    let is_deadly = ![SignalKind::user_defined1(), SignalKind::user_defined2()].contains(&kind);
    while signal.recv().await.is_some() {
        if is_deadly {
            let _ = leave.send(Leave::Failed(Error::silent(code_of(kind)))).await;
        }
    }
}

fn code_of(kind: SignalKind) -> u8 {
    128 + kind.as_raw_value() as u8
}
