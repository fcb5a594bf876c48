//! The frames that a runtime, a monitor and attached clients exchange: u32 length (little-endian, of
//! all that follows), u8 type, payload. [`Frame::encode`] and [`Decoder`] are pure; [`send`] and
//! [`receive`] block.
//!
//! # Runtime and monitor, over a socketpair that is the monitor's fd 0
//!
//! ```text
//! runtime                          monitor (`strata-init monitor`, or `exec`)
//!   Plan { encoded plan }   ──►      makes namespaces, root and mounts; listens on control_socket
//!                           ◄──      Ready { pid, created }       the process waits to be started
//!   Start                   ──►      (may be sent right behind Plan)
//!                           ◄──      Started                      execve succeeded
//!                           ◄──      LogRotated                   only if the log is compressed; any number of times
//!                           ◄──      Exited { status }            record written, output drained
//!                           ◄──      Failed { .. }                instead of any of the above; final
//! ```
//!
//! Use a stream socketpair, give one end to the child as stdin (stdout and stderr `/dev/null`), close
//! yours to go away: once started, the container goes on without you. Before `Start`, end of file ends
//! the container. The control socket accepts as soon as `Ready` was sent.
//!
//! # Clients, over `control_socket`
//!
//! ```text
//! client                           monitor
//!   Hello { stdin, output, wait } ──►
//!                           ◄──      State { pid, status }        status is set once it has exited
//!   Stdin, StdinClose       ──►                                   only after Hello with stdin
//!   Resize, Signal          ──►
//!   SetWaker                ──►
//!   ClearLog                ──►
//!                           ◄──      LogCleared { errno }         the answer to it
//!                           ◄──      LogRotated                   after Hello with neither input nor output
//!                           ◄──      Stdout, Stderr               only after Hello with output
//!                           ◄──      Exited { status }            last; then end of file
//! ```
//!
//! A client that attaches between `Ready` and `Start` sees all output. One with `wait` unset that does not
//! read is dropped when 1 MiB is queued for it (end of file without `Exited`); one with `wait` set makes the
//! container wait. When the monitor is gone, the exit record is the answer.

use crate::codec::{DecodeError, Reader, Wire, choice, records};
use crate::plan::{MAX_PLAN_BYTES, TerminalSize, Waker};
use std::io::{self, Read, Write};
use std::path::PathBuf;

/// Version of the conversation over the control socket. A monitor lives as long as its container, whatever becomes of the
/// runtime: a runtime speaks this version and those before it. It is raised with each frame of a monitor that a runtime of
/// the version before would not understand; a test holds the bytes of the frames. A monitor hangs up on a frame that it
/// does not know, and who sends one can do without.
pub const VERSION: u32 = 1;

/// The largest frame that is read, other than a plan.
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// Output is cut into frames of at most this many bytes.
pub const CHUNK_BYTES: usize = 64 << 10;

records! {
    /// A mount point that did not exist and was made in the root file system itself.
    pub struct Created {
        /// Its path inside.
        pub path: PathBuf,
        /// Its inode number.
        pub inode: u64,
    }

    /// How a process ended.
    pub struct ExitStatus {
        /// Exit status as a shell counts it: 128 + n for signal n.
        pub code: i32,
        /// The signal that ended it, or 0.
        pub signal: i32,
        /// Whether the out-of-memory killer struck in its cgroup.
        pub oom_killed: bool,
        /// When it ended, in nanoseconds since 1970.
        pub exited_at_nanos: u64,
    }
}

choice! {
    /// One message.
    pub enum Frame {
        /// An encoded [`crate::plan::Plan`].
        1 = Plan {
            /// Its bytes.
            bytes: Vec<u8>,
        },
        /// The process exists and waits.
        2 = Ready {
            /// Its process id as the monitor sees it.
            pid: u32,
            /// The mount points that had to be made, parents first.
            created: Vec<Created>,
        },
        /// Lets the process execute its program.
        3 = Start,
        /// The program was executed.
        4 = Started,
        /// The process ended.
        5 = Exited {
            /// How.
            status: ExitStatus,
        },
        /// The process could not be made or executed.
        6 = Failed {
            /// What was attempted: `mount proc on /proc`, `execute /bin/sh` ...
            step: String,
            /// The error number, or 0.
            errno: i32,
            /// The cause in words.
            text: String,
            /// 126 (cannot be executed), 127 (not found) or 125 (anything else).
            code: i32,
        },
        /// From the process to who made it: namespaces and mounts exist, hooks may run.
        7 = Mounted,
        /// A file of the log was put aside: it can be compressed.
        8 = LogRotated,
        /// The first frame of a client.
        16 = Hello {
            /// Whether it will send input.
            stdin: bool,
            /// Whether it wants output.
            output: bool,
            /// Whether the container waits when this client is slow (otherwise the client is dropped).
            wait: bool,
        },
        /// The answer to Hello.
        17 = State {
            /// The process id.
            pid: u32,
            /// How it ended, if it did.
            status: Option<ExitStatus>,
        },
        /// Input of the process.
        18 = Stdin {
            /// The bytes.
            bytes: Vec<u8>,
        },
        /// The end of the input.
        19 = StdinClose,
        /// Output of the process (of the terminal, if it has one).
        20 = Stdout {
            /// The bytes.
            bytes: Vec<u8>,
        },
        /// Error output of the process.
        21 = Stderr {
            /// The bytes.
            bytes: Vec<u8>,
        },
        /// Changes the size of the terminal.
        22 = Resize {
            /// The new size.
            size: TerminalSize,
        },
        /// Sends a signal to the process.
        23 = Signal {
            /// Its number.
            signal: i32,
        },
        /// Empties the log, and removes its older files.
        24 = ClearLog,
        /// The answer to ClearLog.
        25 = LogCleared {
            /// The error number, or 0. EWOULDBLOCK: somebody has the files locked for a moment.
            errno: i32,
        },
        /// Says anew how a runtime that is gone by the end of the process is started again.
        26 = SetWaker {
            /// As in a plan; unset: it is not.
            waker: Option<Waker>,
        },
    }
}

impl Frame {
    /// Returns the bytes to send.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        self.put(&mut out);
        let length = (out.len() - 4) as u32;
        out[..4].copy_from_slice(&length.to_le_bytes());
        out
    }
}

/// Cuts received bytes into frames.
#[derive(Debug)]
pub struct Decoder {
    bytes: Vec<u8>,
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// Returns a decoder of all frames but plans.
    pub fn new() -> Self {
        Self { bytes: Vec::new(), limit: MAX_FRAME_BYTES }
    }

    /// Returns a decoder that also takes plans.
    pub fn with_plans() -> Self {
        Self { bytes: Vec::new(), limit: MAX_PLAN_BYTES + 16 }
    }

    /// Adds received bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns the next whole frame, if there is one. After an error the stream is of no more use.
    #[expect(clippy::should_implement_trait, reason = "an iterator that ends and goes on would mislead")]
    pub fn next(&mut self) -> Result<Option<Frame>, DecodeError> {
        let Some((head, rest)) = self.bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head) as usize;
        if length > self.limit {
            return Err(DecodeError::TooLarge);
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let mut input = Reader(body);
        let frame = Frame::take(&mut input)?;
        input.end()?;
        self.bytes.drain(..4 + length);
        Ok(Some(frame))
    }
}

/// Writes one frame, blocking.
pub fn send(stream: &mut impl Write, frame: &Frame) -> io::Result<()> {
    stream.write_all(&frame.encode())
}

/// Reads one frame, blocking; `None` at the end of the stream. Reads not a byte beyond the frame.
pub fn receive(stream: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut head = [0; 4];
    match stream.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let length = u32::from_le_bytes(head) as usize;
    let mut decoder = Decoder::with_plans();
    if length > decoder.limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, DecodeError::TooLarge));
    }
    let mut body = Vec::with_capacity(length.min(MAX_FRAME_BYTES));
    stream.take(length as u64).read_to_end(&mut body)?;
    decoder.feed(&head);
    decoder.feed(&body);
    match decoder.next() {
        Ok(Some(frame)) => Ok(Some(frame)),
        Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Frame> {
        vec![
            Frame::Ready { pid: 7, created: vec![Created { path: "/etc/hosts".into(), inode: 9 }] },
            Frame::Start,
            Frame::Stdout { bytes: vec![1, 2, 3] },
            Frame::Failed { step: "execute x".into(), errno: 2, text: "no".into(), code: 127 },
        ]
    }

    #[test]
    fn frames_survive_being_cut_into_single_bytes() {
        let bytes: Vec<u8> = samples().iter().flat_map(Frame::encode).collect();
        let (mut decoder, mut frames) = (Decoder::new(), Vec::new());

        for byte in bytes {
            decoder.feed(&[byte]);
            while let Some(frame) = decoder.next().unwrap() {
                frames.push(frame);
            }
        }

        assert_eq!(frames, samples());
    }

    /// What monitors that run understand: see [`VERSION`].
    #[test]
    fn frames_of_the_control_socket_are_the_bytes_that_they_were() {
        let status = ExitStatus { code: 137, signal: 9, oom_killed: true, exited_at_nanos: 1 };
        let waker = Waker { program: "a".into(), args: vec!["b".into()], env: Vec::new(), only_after_failure: true };
        for (frame, bytes) in [
            (Frame::Hello { stdin: true, output: false, wait: true }, "04000000 10 010001"),
            (Frame::State { pid: 7, status: None }, "06000000 11 07000000 00"),
            (Frame::Exited { status }, "12000000 05 89000000 09000000 01 0100000000000000"),
            (Frame::Stdin { bytes: vec![1, 2] }, "07000000 12 02000000 0102"),
            (Frame::StdinClose, "01000000 13"),
            (Frame::Stdout { bytes: vec![255] }, "06000000 14 01000000 ff"),
            (Frame::Stderr { bytes: vec![255] }, "06000000 15 01000000 ff"),
            (Frame::Resize { size: TerminalSize { rows: 24, columns: 80 } }, "05000000 16 1800 5000"),
            (Frame::Signal { signal: 15 }, "05000000 17 0f000000"),
            (Frame::SetWaker { waker: None }, "02000000 1a 00"),
            (Frame::SetWaker { waker: Some(waker) }, "15000000 1a 01 0100000061 0100000001000000 62 00000000 01"),
        ] {
            let encoded: String = frame.encode().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(encoded, bytes.replace(' ', ""), "{frame:?}");
        }
    }

    #[test]
    fn a_frame_over_the_cap_is_refused_before_it_arrives() {
        let mut decoder = Decoder::new();

        decoder.feed(&u32::MAX.to_le_bytes());

        assert_eq!(decoder.next(), Err(DecodeError::TooLarge));
    }

    #[test]
    fn receive_takes_one_frame_and_no_more() {
        let bytes: Vec<u8> = samples().iter().flat_map(Frame::encode).collect();
        let mut stream = bytes.as_slice();

        for frame in samples() {
            assert_eq!(receive(&mut stream).unwrap(), Some(frame));
        }

        assert_eq!(receive(&mut stream).unwrap(), None);
    }
}
