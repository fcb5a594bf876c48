//! Who is sent each line: journald or a server of syslog, over a socket that is never waited for. What it does not take
//! waits in a queue with a bound; what does not fit is dropped and counted. A receiver that is gone is looked for again.

use super::Stream;
use super::message::{self, Line};
use crate::plan::{LogReceiver, ReceiverAddress};
use crate::record::{now_nanos, rfc3339};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send, socket_with,
    sockopt,
};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Between two attempts to reach a receiver.
const RETRY: Duration = Duration::from_secs(1);
/// How long one that the container waits for may take nothing before it waits no longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is dropped for so long is told, though the receiver has not caught up.
const REPORT: Duration = Duration::from_secs(10);
/// How long a peer over TCP may leave what was sent without an answer before it counts as gone.
const UNANSWERED_MILLIS: u32 = 30_000;

pub(super) struct Receiver {
    settings: LogReceiver,
    link: Link,
    queue: VecDeque<Vec<u8>>,
    queued_bytes: u64,
    /// How much of the first message a stream has taken.
    sent: usize,
    dropped: u64,
    /// When a drop was first not told of.
    dropped_at: Option<Instant>,
    /// When it last took something.
    moved_at: Instant,
    process: u32,
    is_closing: bool,
}

enum Link {
    Down { tried_at: Option<Instant> },
    Connecting(OwnedFd),
    Up(OwnedFd),
}

impl Receiver {
    pub(super) fn new(settings: LogReceiver) -> Self {
        Self {
            settings,
            link: Link::Down { tried_at: None },
            queue: VecDeque::new(),
            queued_bytes: 0,
            sent: 0,
            dropped: 0,
            dropped_at: None,
            moved_at: Instant::now(),
            process: 0,
            is_closing: false,
        }
    }

    pub(super) fn set_process(&mut self, pid: u32) {
        self.process = pid;
    }

    /// Queues a line, or drops it.
    pub(super) fn add(&mut self, line: &Line<'_>) {
        let Some(message) = message::encode(&self.settings.form, line, self.process, now_nanos()) else { return };
        if self.queue.is_empty() {
            // What it did before it was asked for nothing says nothing of its speed.
            self.moved_at = Instant::now();
        }
        if self.queued_bytes + message.len() as u64 > self.settings.max_queued_bytes && !self.queue.is_empty() {
            self.drop_one();
        } else {
            self.queued_bytes += message.len() as u64;
            self.queue.push_back(message);
        }
    }

    /// Sends as much as it takes.
    pub(super) fn flush(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        self.reach();
        while let (Link::Up(socket), Some(message)) = (&self.link, self.queue.front()) {
            match send(socket, &message[self.sent..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => {
                    self.moved_at = Instant::now();
                    self.sent += count;
                    if !self.is_stream() || self.sent >= message.len() {
                        self.pop();
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                // Too long for a datagram; or, of UDP, what became of an earlier one.
                Err(errno) if errno == Errno::MSGSIZE || self.is_udp() => {
                    self.pop();
                    self.drop_one();
                }
                Err(_) => self.lose(),
            }
        }
    }

    /// What is queued will not be sent any more.
    pub(super) fn give_up(&mut self) {
        self.flush();
        self.is_closing = true;
        for _ in 0..self.queue.len() {
            self.drop_one();
        }
        self.queue.clear();
    }

    /// A sentence about what was dropped, once it can be told how much: when the receiver has caught up, at the end, or when
    /// it lasts. The receiver gets it too.
    pub(super) fn take_report(&mut self) -> Option<String> {
        let lasts = self.dropped_at?.elapsed() >= REPORT;
        if !(lasts || self.is_closing || self.queue.is_empty()) {
            return None;
        }
        let plural = if self.dropped == 1 { "message was" } else { "messages were" };
        let report = format!("{} {plural} not taken by {} and dropped", self.dropped, self.settings.name);
        (self.dropped, self.dropped_at) = (0, None);
        if !self.is_closing {
            let (text, time) = (format!("[strata: {report}]"), rfc3339(now_nanos()));
            let line = Line { text: text.as_bytes(), stream: Stream::Stderr, is_whole: true, time: &time };
            if let Some(message) = message::encode(&self.settings.form, &line, self.process, now_nanos()) {
                self.queued_bytes += message.len() as u64;
                self.queue.push_back(message);
                self.flush();
            }
        }
        Some(report)
    }

    /// How long the container goes on waiting; `None`: it does not.
    pub(super) fn patience(&self) -> Option<Duration> {
        let is_full = self.queued_bytes >= self.settings.max_queued_bytes / 2;
        if !self.settings.waits || !is_full || !matches!(self.link, Link::Up(_)) {
            return None;
        }
        PATIENCE.checked_sub(self.moved_at.elapsed()).filter(|left| !left.is_zero())
    }

    pub(super) fn interest(&self) -> Option<BorrowedFd<'_>> {
        match &self.link {
            Link::Connecting(socket) => Some(socket.as_fd()),
            Link::Up(socket) if !self.queue.is_empty() => Some(socket.as_fd()),
            _ => None,
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.queue.is_empty() || matches!(self.link, Link::Down { .. })
    }

    /// How long until it is looked for again.
    pub(super) fn timer(&self) -> Option<Duration> {
        match &self.link {
            Link::Down { tried_at: Some(at) } if !self.queue.is_empty() => Some(RETRY.saturating_sub(at.elapsed())),
            _ => None,
        }
    }

    /// Comes closer to a connection, and sees whether there is one still.
    fn reach(&mut self) {
        match &self.link {
            Link::Down { tried_at } if tried_at.is_none_or(|at| at.elapsed() >= RETRY) => self.open(),
            Link::Connecting(_) => self.see_whether_connected(),
            // One that has closed would take a message and lose it.
            Link::Up(socket) if self.is_stream() && self.sent == 0 && has_hung_up(socket) => {
                self.lose();
                self.open();
            }
            _ => {}
        }
    }

    fn open(&mut self) {
        self.link = match open(&self.settings.address) {
            Ok((socket, true)) => Link::Up(socket),
            Ok((socket, false)) => Link::Connecting(socket),
            Err(_) => Link::Down { tried_at: Some(Instant::now()) },
        };
        self.moved_at = Instant::now();
    }

    fn see_whether_connected(&mut self) {
        let Link::Connecting(socket) = &self.link else { return };
        // Without an error it is connected, or on the way still: only one that is connected has a peer.
        match (sockopt::socket_error(socket), rustix::net::getpeername(socket)) {
            (Ok(Ok(())), Ok(Some(_))) => {
                let Link::Connecting(socket) = std::mem::replace(&mut self.link, Link::Down { tried_at: None }) else {
                    return;
                };
                self.link = Link::Up(socket);
                self.moved_at = Instant::now();
            }
            (Ok(Ok(())), _) => {}
            _ => self.lose(),
        }
    }

    fn lose(&mut self) {
        self.link = Link::Down { tried_at: Some(Instant::now()) };
        // A new connection begins with a whole message.
        self.sent = 0;
    }

    fn pop(&mut self) {
        if let Some(message) = self.queue.pop_front() {
            self.queued_bytes -= message.len() as u64;
        }
        self.sent = 0;
    }

    fn drop_one(&mut self) {
        self.dropped += 1;
        self.dropped_at.get_or_insert_with(Instant::now);
    }

    fn is_stream(&self) -> bool {
        matches!(self.settings.address, ReceiverAddress::Stream { .. } | ReceiverAddress::Tcp { .. })
    }

    fn is_udp(&self) -> bool {
        matches!(self.settings.address, ReceiverAddress::Udp { .. })
    }
}

/// Begins to connect, without waiting; says whether it is done.
fn open(address: &ReceiverAddress) -> Result<(OwnedFd, bool), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (socket, connected) = match address {
        ReceiverAddress::Datagrams { path } | ReceiverAddress::Stream { path } => {
            let is_stream = matches!(address, ReceiverAddress::Stream { .. });
            let kind = if is_stream { SocketType::STREAM } else { SocketType::DGRAM };
            let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
            let connected = connect(&socket, &SocketAddrUnix::new(path.as_path())?);
            (socket, connected)
        }
        ReceiverAddress::Udp { address: text } | ReceiverAddress::Tcp { address: text } => {
            let peer: SocketAddr = text.parse().map_err(|_| Errno::INVAL)?;
            let family = if peer.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let is_stream = matches!(address, ReceiverAddress::Tcp { .. });
            let kind = if is_stream { SocketType::STREAM } else { SocketType::DGRAM };
            let socket = socket_with(family, kind, flags, None)?;
            if is_stream {
                sockopt::set_tcp_user_timeout(&socket, UNANSWERED_MILLIS)?;
            }
            let connected = connect(&socket, &peer);
            (socket, connected)
        }
    };
    match connected {
        Ok(()) => Ok((socket, true)),
        Err(Errno::INPROGRESS) => Ok((socket, false)),
        Err(errno) => Err(errno),
    }
}

/// Whether a stream has ended on the other side. What that says is nothing to us; of one that says much the end is seen later.
fn has_hung_up(socket: &OwnedFd) -> bool {
    let mut bytes = [0_u8; 512];
    for _ in 0..8 {
        match recv(socket, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return true,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return errno != Errno::AGAIN,
        }
    }
    false
}
