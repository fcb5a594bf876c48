//! Between monitor and child: gates one way (a byte and a number), frames (one of them with the pty master)
//! the other way. A sequenced-packet socketpair, so that its end says that execve closed it.

use crate::wire::{Decoder, Frame};
use rustix::fs::OFlags;
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The monitor has written id maps and cgroups.
pub(crate) const MAPPED: u8 = b'M';
/// The hooks outside have run; waited for only if there are some.
pub(crate) const HOOKED: u8 = b'H';
/// The process may execute its program.
pub(crate) const GO: u8 = b'G';

pub(crate) struct Channel(OwnedFd);

impl Channel {
    pub(crate) fn pair() -> Result<(Self, Self), Errno> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(ours), Self(theirs)))
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Lets the child through; it learns its process id as the monitor sees it.
    pub(crate) fn open_gate(&self, gate: u8, pid: u32) -> Result<(), Errno> {
        let [one, two, three, four] = pid.to_ne_bytes();
        rustix::net::send(&self.0, &[gate, one, two, three, four], SendFlags::NOSIGNAL).map(drop)
    }

    /// Waits for a gate, and returns the process id that came with it; `None` if the monitor is gone.
    pub(crate) fn wait_for_gate(&self, gate: u8) -> Option<u32> {
        let mut bytes = [0; 5];
        loop {
            match rustix::io::read(&self.0, &mut bytes) {
                Err(Errno::INTR) => {}
                Ok(5) if bytes[0] == gate => return Some(u32::from_ne_bytes(bytes[1..].try_into().ok()?)),
                _ => return None,
            }
        }
    }

    /// Returns the same end again.
    pub(crate) fn try_clone(&self) -> Result<Self, Errno> {
        rustix::io::fcntl_dupfd_cloexec(&self.0, 3).map(Self)
    }

    pub(crate) fn report(&self, frame: &Frame, fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        send_with_fd(self.0.as_fd(), &frame.encode(), fd)
    }

    /// Waits for a frame; `None` when the other end was closed without one.
    pub(crate) fn receive(&self) -> Result<Option<(Frame, Option<OwnedFd>)>, Errno> {
        let mut bytes = vec![0; 256 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            match recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                result => break result?,
            }
        };
        let mut fd = None;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                fd = fds.last().or(fd);
            }
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        let mut decoder = Decoder::new();
        decoder.feed(&bytes[..received.bytes]);
        match decoder.next() {
            Ok(Some(frame)) => Ok(Some((frame, fd))),
            _ => Err(Errno::PROTO),
        }
    }
}

/// Sends bytes with, perhaps, a descriptor.
pub(crate) fn send_with_fd(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL).map(drop)
}

/// Makes reads and writes of a descriptor return instead of waiting.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)
}
