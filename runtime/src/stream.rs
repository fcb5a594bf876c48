//! What flows between a client and a process: input one way, output the other. `grpc` speaks it to clients,
//! `monitor` to monitors.

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::spec::TerminalSize;

/// Something for a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Bytes for standard input.
    Stdin(Bytes),
    /// Standard input ends here.
    EndOfInput,
    /// The terminal has a new size.
    Resize(TerminalSize),
    /// A signal.
    Signal(i32),
}

/// Something from a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Bytes of standard output, or of the terminal.
    Stdout(Bytes),
    /// Bytes of standard error.
    Stderr(Bytes),
    /// The process has ended; nothing follows.
    Ended,
    /// The monitor let go of this client, or is gone itself; nothing follows.
    Lost,
}

/// What a client who attaches wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Send standard input.
    pub has_stdin: bool,
    /// Size of the terminal. Absent: leave it.
    pub size: Option<TerminalSize>,
    /// Who waits for whom.
    pub pace: Pace,
}

/// What happens when a client reads too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// The process waits: no output is lost.
    OfClient,
    /// The client is let go.
    OfProcess,
}

/// A connection to the streams of a process.
#[derive(Debug)]
pub struct Attachment {
    /// Where input goes. Dropping it detaches from standard input, without ending it.
    pub input: mpsc::Sender<Input>,
    /// Where output comes from. The last message is `Ended` or `Lost`.
    pub output: mpsc::Receiver<Output>,
}
