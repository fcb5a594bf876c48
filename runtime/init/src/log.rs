//! The container's log: its output cut into lines, each for a file (`log/file.rs`) and for whoever is sent it
//! (`log/receiver.rs`), where there are such. Nothing here stops the copy loop: what cannot be written or sent is counted,
//! and the count is written when it can be.

mod file;
mod message;
mod receiver;

use crate::plan;
use crate::record::{now_nanos, rfc3339};
use file::File;
use message::Line;
use receiver::Receiver;
use std::fmt::Write as _;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// A longer line is cut into several entries, all but the last without its newline.
const MAX_LINE_BYTES: usize = 16 << 10;
/// How long a receiver that takes something may take for the rest, once the container has ended.
const LINGER: Duration = Duration::from_secs(2);

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

pub(crate) struct Log {
    file: Option<File>,
    receiver: Option<Receiver>,
    partial: [Vec<u8>; 2],
}

impl Log {
    /// `None` where nothing is logged.
    pub(crate) fn open(file: Option<&plan::Log>, receiver: Option<&plan::LogReceiver>) -> io::Result<Option<Self>> {
        if file.is_none() && receiver.is_none() {
            return Ok(None);
        }
        let file = file.map(File::open).transpose()?;
        let receiver = receiver.map(|settings| Receiver::new(settings.clone()));
        Ok(Some(Self { file, receiver, partial: [Vec::new(), Vec::new()] }))
    }

    /// Whose lines these are: what receivers are told.
    pub(crate) fn set_process(&mut self, pid: u32) {
        if let Some(receiver) = &mut self.receiver {
            receiver.set_process(pid);
        }
    }

    /// Takes output as it comes; whole lines are written at once.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8], now_nanos: u64) {
        let mut partial = std::mem::take(&mut self.partial[stream as usize]);
        let mut entries = String::with_capacity(bytes.len() + bytes.len() / 2 + 128);
        let time = rfc3339(now_nanos);
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = MAX_LINE_BYTES - partial.len();
            let window = &rest[..rest.len().min(room)];
            let end = window.iter().position(|&byte| byte == b'\n').map_or(window.len(), |index| index + 1);
            let (line, tail) = rest.split_at(end);
            rest = tail;
            let is_complete = line.ends_with(b"\n") || partial.len() + line.len() == MAX_LINE_BYTES;
            if !is_complete {
                partial.extend_from_slice(line);
            } else if partial.is_empty() {
                self.put(&mut entries, line, stream, &time);
            } else {
                partial.extend_from_slice(line);
                self.put(&mut entries, &partial, stream, &time);
                partial.clear();
            }
        }
        self.partial[stream as usize] = partial;
        self.append(&entries);
    }

    /// Writes lines that never got their newline.
    pub(crate) fn finish(&mut self, now_nanos: u64) {
        let mut entries = String::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let partial = std::mem::take(&mut self.partial[stream as usize]);
            if !partial.is_empty() {
                self.put(&mut entries, &partial, stream, &rfc3339(now_nanos));
            }
        }
        self.append(&entries);
    }

    /// Notes what is still with us and will not be sent.
    pub(crate) fn close(&mut self) {
        if let Some(receiver) = &mut self.receiver {
            receiver.give_up();
        }
        self.tend();
    }

    /// Sends what waits, and notes what was dropped.
    pub(crate) fn tend(&mut self) {
        let Some(receiver) = &mut self.receiver else { return };
        receiver.flush();
        if let (Some(report), Some(file)) = (receiver.take_report(), &mut self.file) {
            file.note(&report, now_nanos());
        }
    }

    /// Empties the file and drops the older ones. What is still to be sent stays so.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), File::clear)
    }

    /// Whether a file was put aside since this was last asked, of a log that somebody compresses.
    pub(crate) fn take_rotated(&mut self) -> bool {
        self.file.as_mut().is_some_and(File::take_rotated)
    }

    /// Whether the container has to wait: for a receiver that is slow but takes what it is sent, where the plan says so.
    pub(crate) fn is_behind(&self) -> bool {
        self.receiver.as_ref().is_some_and(|receiver| receiver.patience().is_some())
    }

    /// What becomes writable when the receiver takes more.
    pub(crate) fn interest(&self) -> Option<BorrowedFd<'_>> {
        self.receiver.as_ref().and_then(Receiver::interest)
    }

    /// Whether nothing waits to be sent, or nobody is there to take it; `told_at` is when everyone was told of the end.
    pub(crate) fn is_settled(&self, told_at: Instant) -> bool {
        self.receiver.as_ref().is_none_or(Receiver::is_settled) || told_at.elapsed() >= LINGER
    }

    /// How long until something is to be done without anything having happened.
    pub(crate) fn timer(&self, told_at: Option<Instant>) -> Option<Duration> {
        let receiver = self.receiver.as_ref()?;
        let linger = told_at.filter(|_| !receiver.is_settled()).map(|at| LINGER.saturating_sub(at.elapsed()));
        [receiver.timer(), receiver.patience(), linger].into_iter().flatten().min()
    }

    fn put(&mut self, entries: &mut String, line: &[u8], stream: Stream, time: &str) {
        if let Some(file) = &self.file {
            file.push_entry(entries, line, stream, time);
        }
        if let Some(receiver) = &mut self.receiver {
            let (text, is_whole) = match line.strip_suffix(b"\n") {
                Some(text) => (text, true),
                // A shorter one is what was there at the end.
                None => (line, line.len() < MAX_LINE_BYTES),
            };
            receiver.add(&Line { text, stream, is_whole, time });
        }
    }

    fn append(&mut self, entries: &str) {
        if let Some(file) = &mut self.file {
            file.append(entries);
        }
        self.tend();
    }
}

/// Appends text as the inside of a JSON string.
pub(crate) fn push_json(out: &mut String, text: &str) {
    let mut plain = 0;
    for (index, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[plain..index]);
        plain = index + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => {
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
    }
    out.push_str(&text[plain..]);
}

#[cfg(test)]
mod tests;
