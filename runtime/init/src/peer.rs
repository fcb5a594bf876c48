//! One connection of the monitor: frames in, bytes out. Nothing here waits.

use crate::wire::{Decoder, Frame};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

/// What may be queued for a client that the container does not wait for.
const MAX_QUEUED_BYTES: usize = 1 << 20;
/// From here on the container waits for a client that asked for it.
const WAIT_QUEUED_BYTES: usize = 256 << 10;

pub(crate) struct Peer {
    pub(crate) stream: UnixStream,
    /// What its Hello asked for; unset before.
    pub(crate) wants: Option<Wants>,
    /// Whether nothing more comes from it.
    pub(crate) is_gone: bool,
    /// Whether it takes nothing more. What it sent before is still to be read: the end of the container's input, say.
    is_deaf: bool,
    decoder: Decoder,
    queue: Vec<u8>,
    sent: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Wants {
    pub(crate) stdin: bool,
    pub(crate) output: bool,
    pub(crate) wait: bool,
}

impl Peer {
    pub(crate) fn new(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            wants: None,
            is_gone: false,
            is_deaf: false,
            decoder: Decoder::new(),
            queue: Vec::new(),
            sent: 0,
        })
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.len() - self.sent
    }

    /// Whether the container has to wait for this client.
    pub(crate) fn is_behind(&self) -> bool {
        !self.is_deaf && self.wants.is_some_and(|wants| wants.wait) && self.queued() > WAIT_QUEUED_BYTES
    }

    pub(crate) fn send(&mut self, frame: &Frame) {
        self.send_encoded(&frame.encode());
    }

    pub(crate) fn send_encoded(&mut self, bytes: &[u8]) {
        if self.is_deaf {
            return;
        }
        self.queue.extend_from_slice(bytes);
        self.flush();
        let must_keep_up = !self.wants.is_some_and(|wants| wants.wait);
        if must_keep_up && self.queued() > MAX_QUEUED_BYTES {
            self.is_gone = true;
        }
    }

    pub(crate) fn flush(&mut self) {
        while self.queued() > 0 {
            match self.stream.write(&self.queue[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.is_deaf = true;
                    self.sent = self.queue.len();
                }
            }
        }
        if self.queued() == 0 {
            self.queue.clear();
            self.sent = 0;
        } else if self.sent > WAIT_QUEUED_BYTES {
            self.queue.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Reads once and returns the whole frames; a peer that ends or talks nonsense is gone.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Vec<Frame> {
        match self.stream.read(buffer) {
            Ok(0) => self.is_gone = true,
            Ok(count) => self.decoder.feed(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.is_gone = true,
        }
        let mut frames = Vec::new();
        loop {
            match self.decoder.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return frames,
                Err(_) => {
                    self.is_gone = true;
                    return frames;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Frame;

    #[test]
    fn what_a_client_sent_before_it_went_is_read_though_it_hears_no_more() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut peer = Peer::new(ours).unwrap();
        peer.wants = Some(Wants { stdin: true, output: true, wait: true });
        while peer.queued() == 0 {
            peer.send(&Frame::Stdout { bytes: vec![b'o'; 50_000] });
        }
        theirs.write_all(&Frame::Stdin { bytes: vec![b'i'; 50_000] }.encode()).unwrap();
        theirs.write_all(&Frame::StdinClose.encode()).unwrap();
        drop(theirs);

        peer.send(&Frame::Stdout { bytes: vec![b'o'; 50_000] });

        assert!(!peer.is_gone && !peer.is_behind(), "{} bytes for nobody", peer.queued());
        let (mut buffer, mut frames) = (vec![0; 4096], vec![]);
        while !peer.is_gone {
            frames.extend(peer.receive(&mut buffer));
        }
        assert!(
            matches!(&frames[..], [Frame::Stdin { bytes }, Frame::StdinClose] if bytes.len() == 50_000),
            "{frames:?}"
        );
    }
}
