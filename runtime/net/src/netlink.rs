//! Netlink as far as links and firewall rules need it: messages written into one batch, sent in one call, answers read.
//! One writer for both families: netlink(7), include/uapi/linux/netlink.h. `route` and `nft` know the messages.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::{
    fd::AsFd,
    io::Errno,
    net::{
        AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, recv, send, socket_with,
        sockopt::{self, Timeout},
    },
};

/// Flags of `struct nlmsghdr`.
pub const REQUEST: u16 = 0x1;
/// The kernel is to answer with a number, 0 for success.
pub const ACK: u16 = 0x4;
/// Refuse what exists.
pub const EXCLUSIVE: u16 = 0x200;
/// Make what does not exist.
pub const CREATE: u16 = 0x400;
/// Add at the end.
pub const APPEND: u16 = 0x800;
/// Everything there is.
pub const DUMP: u16 = 0x300;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;
/// NLA_F_NESTED: the attribute holds attributes.
const NESTED: u16 = 0x8000;
/// NLA_TYPE_MASK.
const KIND: u16 = 0x3fff;

/// How long the kernel may take to answer: it does so before send(2) returns, a dump goes on after.
const ANSWER: Duration = Duration::from_secs(20);

/// Room for a batch: the largest is that of a whole table.
const SEND_BUFFER: usize = 8 << 20;

/// Messages in the order in which the kernel takes them.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    count: u32,
    /// The last message that asks for an answer.
    last: u32,
    /// It is taken as a whole or not at all: nfnetlink's batches, whose first message begins them.
    is_transaction: bool,
}

impl Batch {
    /// No messages yet of what is taken as a whole or not at all.
    pub fn transaction() -> Self {
        Self { is_transaction: true, ..Self::default() }
    }

    /// Appends a message: its kind, flags, the header of its family, attributes. Returns its sequence number.
    pub fn message(&mut self, kind: u16, flags: u16, header: &[u8], fill: impl FnOnce(&mut Attributes<'_>)) -> u32 {
        self.count += 1;
        if flags & ACK != 0 {
            self.last = self.count;
        }
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(self.count.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(header);
        fill(&mut Attributes(&mut self.bytes));
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.count
    }

    /// No message is in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Attributes of a message that is being written: `struct nlattr`.
#[derive(Debug)]
pub struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    /// Bytes as they are.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.0.extend((value.len() as u16 + 4).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// A text, with the NUL that ends it.
    pub fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes);
    }

    /// A number in the order of this machine: rtnetlink.
    pub fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// A number in the order of the network: nfnetlink.
    pub fn big(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Attributes within an attribute, behind a header of their own if `header` is not empty.
    pub fn nest(&mut self, kind: u16, header: &[u8], fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend((kind | NESTED).to_ne_bytes());
        self.0.extend(header);
        fill(&mut Attributes(self.0));
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Attributes within an attribute, as the kernel wrote them.
    pub fn raw(&mut self, kind: u16, value: &[u8]) {
        self.bytes(kind | NESTED, value);
    }

    /// How long the message is so far: the length of an attribute is a 16-bit number.
    pub fn length(&self) -> usize {
        self.0.len()
    }
}

/// The kernel's side of a conversation.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Links, addresses, routes of the network namespace of this thread. The socket stays in it.
    pub fn route() -> io::Result<Self> {
        // No protocol is number 0, and that is NETLINK_ROUTE.
        Self::open(None)
    }

    /// Netfilter of the network namespace of this thread.
    pub fn netfilter() -> io::Result<Self> {
        Self::open(Some(netlink::NETFILTER))
    }

    /// Links, addresses, routes, with the messages of some groups of listeners. It waits without an end.
    pub fn route_groups(groups: u32) -> io::Result<Self> {
        Self::listener(None, groups)
    }

    /// Netfilter, with the messages of some groups of listeners (bits: 1 << (group - 1)). It waits without an end.
    pub fn netfilter_groups(groups: u32) -> io::Result<Self> {
        Self::listener(Some(netlink::NETFILTER), groups)
    }

    fn listener(protocol: Option<Protocol>, groups: u32) -> io::Result<Self> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        bind(&fd, &netlink::SocketAddrNetlink::new(0, groups))?;
        Ok(Self(fd))
    }

    fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        sockopt::set_socket_timeout(&fd, Timeout::Recv, Some(ANSWER))?;
        Ok(Self(fd))
    }

    /// Sends a batch and waits for the answer to the last message that asks for one. The first refusal is the error.
    pub fn send(&self, batch: &Batch) -> Result<(), Errno> {
        if batch.is_empty() {
            return Ok(());
        }
        if batch.bytes.len() > 100 << 10 {
            // The kernel's limit of an ordinary socket is about 200 KiB: socket(7), wmem_max.
            let _limited = sockopt::set_socket_send_buffer_size_force(&self.0, SEND_BUFFER);
            let _limited = sockopt::set_socket_recv_buffer_size_force(&self.0, SEND_BUFFER);
        }
        self.write(batch)?;
        let (mut refused, mut is_over) = (Ok(()), false);
        while !is_over {
            self.read(|message| {
                if message.kind != NLMSG_ERROR {
                    return;
                }
                if refused.is_ok() {
                    refused = message.outcome();
                }
                // Who may not do any of it is told so with the number of the first message: nfnetlink_rcv_batch().
                is_over |= message.sequence == batch.last || (batch.is_transaction && message.sequence == 1);
            })?;
        }
        refused
    }

    /// Sends one request and hands out what is answered, until the end.
    pub fn ask(&self, batch: &Batch, mut each: impl FnMut(u16, &[u8])) -> Result<(), Errno> {
        self.write(batch)?;
        let mut end = None;
        while end.is_none() {
            self.read(|message| match message.kind {
                NLMSG_DONE => end = Some(message.outcome()),
                NLMSG_ERROR => end = Some(message.outcome()),
                kind => each(kind, message.payload),
            })?;
        }
        end.unwrap_or(Ok(()))
    }

    /// Hands out the kinds of messages that come, for a listener.
    pub fn listen(&self, mut each: impl FnMut(u16, &[u8])) -> Result<(), Errno> {
        self.read(|message| each(message.kind, message.payload))
    }

    fn write(&self, batch: &Batch) -> Result<(), Errno> {
        send(self.0.as_fd(), &batch.bytes, SendFlags::empty()).map(drop)
    }

    fn read(&self, mut each: impl FnMut(Message<'_>)) -> Result<(), Errno> {
        let mut buffer = vec![0_u8; 64 << 10];
        let length = loop {
            match recv(self.0.as_fd(), buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((length, _)) => break length,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        };
        let mut rest = &buffer[..length];
        while let Some((message, next)) = Message::first(rest) {
            each(message);
            rest = next;
        }
        Ok(())
    }
}

/// One message of the kernel.
struct Message<'a> {
    kind: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The first message of some bytes, and those behind it.
    fn first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let length = number(bytes)? as usize;
        let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
        let sequence = number(bytes.get(8..)?)?;
        let payload = bytes.get(HEADER..length)?;
        Some((Self { kind, sequence, payload }, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
    }

    /// The number in an answer: 0 or a negative error number.
    fn outcome(&self) -> Result<(), Errno> {
        match number(self.payload).map_or(-1, |number| number as i32) {
            0 => Ok(()),
            code => Err(Errno::from_raw_os_error(-code)),
        }
    }
}

/// The first number of some bytes, in the order of this machine.
pub fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk))
}

/// Attributes of a message of the kernel, by kind; what does not fit ends them.
pub fn attributes(mut rest: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let [a, b, c, d, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let Some(value) = rest.get(4..length) else { break };
        found.push((u16::from_ne_bytes([c, d]) & KIND, value));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// A text of an attribute, without the NUL that ends it.
pub fn text(value: &[u8]) -> String {
    let value = value.strip_suffix(&[0]).unwrap_or(value);
    String::from_utf8_lossy(value).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut batch = Batch::default();
        batch.message(16, ACK, &[7; 16], |attributes| {
            attributes.text(3, "eth0");
            attributes.nest(18, &[], |inner| inner.number(1, 42));
            attributes.big(5, 1);
        });
        batch.message(17, 0, &[], |_| {});

        let (first, rest) = Message::first(&batch.bytes).unwrap();
        let (second, end) = Message::first(rest).unwrap();

        assert_eq!((first.kind, first.sequence, second.kind, second.sequence, end.len()), (16, 1, 17, 2, 0));
        let found = attributes(&first.payload[16..]);
        assert_eq!(found[0], (3, b"eth0\0".as_slice()));
        assert_eq!(attributes(found[1].1), [(1, 42_u32.to_ne_bytes().as_slice())]);
        assert_eq!(found[2], (5, [0, 0, 0, 1].as_slice()));
    }

    #[test]
    fn broken_messages_are_none() {
        let mut batch = Batch::default();
        batch.message(16, 0, &[0; 4], |attributes| attributes.text(3, "eth0"));
        for length in 0..batch.bytes.len() {
            assert!(Message::first(&batch.bytes[..length]).is_none(), "{length}");
        }
        assert!(attributes(&[255, 255, 3, 0, 1]).is_empty() && attributes(&[0, 0, 0, 0]).is_empty());
    }

    #[test]
    fn a_refusal_is_the_kernels_error() {
        let mut batch = Batch::default();
        // No interface has this number.
        batch.message(17, ACK, &[[0; 4], i32::MAX.to_ne_bytes(), [0; 4], [0; 4]].concat(), |_| {});
        let refused = Socket::route().unwrap().send(&batch).unwrap_err();
        assert!(matches!(refused, Errno::NODEV | Errno::PERM), "{refused}");
    }
}
