//! A connection to systemd: its private socket, or a bus. One thread, one call at a time, nothing in the background:
//! the few messages of a container's life do not pay for an asynchronous library.

use std::{
    collections::VecDeque,
    env,
    io::{self, Read, Write},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixStream},
    },
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    Error, Owner,
    wire::{self, Call, Kind, Message, Value, Writer},
};

/// How long systemd may take for an answer or a job, as in other runtimes.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) const SYSTEMD: &str = "org.freedesktop.systemd1";
const MATCH: &str = "type='signal',sender='org.freedesktop.systemd1',\
    interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/// A way to systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    address: Address,
    /// Whether systemd itself listens there, and no bus is in between.
    is_direct: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Path(PathBuf),
    Abstract(Vec<u8>),
}

/// A connection.
#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    is_direct: bool,
    serial: u32,
    /// Bytes that have come and are not looked at yet.
    bytes: Vec<u8>,
    signals: VecDeque<Message>,
}

impl Bus {
    /// Connects to the first place where systemd can be reached.
    pub fn connect(owner: Owner) -> Result<Self, Error> {
        let ways = ways(owner, |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned()));
        let mut tried = Vec::new();
        for way in ways {
            match open(&way.address) {
                Ok(stream) => return Self::begin(stream, way.is_direct),
                Err(error) => tried.push(format!("{}: {}", way.address, plain(&error))),
            }
        }
        Err(Error::Unreachable { owner, tried: tried.join("; ") })
    }

    pub(super) fn begin(stream: UnixStream, is_direct: bool) -> Result<Self, Error> {
        let mut bus = Self { stream, is_direct, serial: 0, bytes: Vec::new(), signals: VecDeque::new() };
        bus.authenticate()?;
        if !is_direct {
            bus.call_bus("Hello", "", Writer::default())?;
            let mut rule = Writer::default();
            rule.value(&Value::Text(MATCH.to_owned()));
            bus.call_bus("AddMatch", "s", rule)?;
            // systemd tells a bus of jobs only while somebody listens; those at its own socket always.
            bus.call_manager("Subscribe", "", Writer::default())?;
        }
        Ok(bus)
    }

    /// EXTERNAL without a name: whoever the kernel says that we are, in whichever user namespace.
    fn authenticate(&mut self) -> Result<(), Error> {
        self.write(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        let deadline = Instant::now() + PATIENCE;
        for expected in ["DATA", "OK "] {
            let line = loop {
                if let Some(end) = self.bytes.windows(2).position(|two| two == b"\r\n") {
                    break self.bytes.drain(..end + 2).collect::<Vec<u8>>();
                }
                if self.bytes.len() > 4096 {
                    return Err(Error::Protocol { reason: "it does not authenticate as D-Bus does" });
                }
                self.fill(deadline)?;
            };
            if !line.starts_with(expected.as_bytes()) {
                return Err(Error::Protocol { reason: "it does not take this user" });
            }
        }
        Ok(())
    }

    /// Calls a method of systemd's manager.
    pub fn call_manager(&mut self, member: &str, signature: &str, body: Writer) -> Result<Message, Error> {
        let interface = "org.freedesktop.systemd1.Manager";
        self.call_systemd(interface, member, signature, body)
    }

    /// Calls a method of the object that is systemd's manager.
    pub fn call_systemd(
        &mut self,
        interface: &str,
        member: &str,
        signature: &str,
        body: Writer,
    ) -> Result<Message, Error> {
        let destination = (!self.is_direct).then_some(SYSTEMD);
        let path = "/org/freedesktop/systemd1";
        self.call(&Call { destination, path, interface, member, signature, body: body.into_bytes() })
    }

    fn call_bus(&mut self, member: &str, signature: &str, body: Writer) -> Result<Message, Error> {
        let (destination, path) = (Some("org.freedesktop.DBus"), "/org/freedesktop/DBus");
        let body = body.into_bytes();
        self.call(&Call { destination, path, interface: "org.freedesktop.DBus", member, signature, body })
    }

    fn call(&mut self, call: &Call<'_>) -> Result<Message, Error> {
        self.serial += 1;
        let message = call.encode(self.serial);
        self.write(&message)?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = self.next(deadline)?;
            match message.kind {
                Kind::Return if message.reply_to == self.serial => return Ok(message),
                Kind::Error if message.reply_to == self.serial => return Err(refusal(call.member, &message)),
                Kind::Signal => self.signals.push_back(message),
                _ => {}
            }
        }
    }

    /// Waits for the end of a job, and returns its result.
    pub fn wait_for_job(&mut self, path: &str) -> Result<String, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let signal = match self.signals.pop_front() {
                Some(signal) => signal,
                None => self.next(deadline)?,
            };
            if signal.kind != Kind::Signal || signal.name != "JobRemoved" || signal.signature != "uoss" {
                continue;
            }
            let mut reader = wire::Reader::new(&signal.body);
            let (_, job, _, result) = (reader.number()?, reader.text()?, reader.text()?, reader.text()?);
            if job == path {
                return Ok(result);
            }
        }
    }

    fn next(&mut self, deadline: Instant) -> Result<Message, Error> {
        loop {
            if let Some(length) = wire::length(&self.bytes)?.filter(|length| *length <= self.bytes.len()) {
                let message: Vec<u8> = self.bytes.drain(..length).collect();
                return wire::decode(&message);
            }
            self.fill(deadline)?;
        }
    }

    fn fill(&mut self, deadline: Instant) -> Result<(), Error> {
        let failed = |source| Error::Io { action: "hear from", source };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(failed(io::ErrorKind::TimedOut.into()));
        }
        self.stream.set_read_timeout(Some(left)).map_err(failed)?;
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(failed(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => {
                self.bytes.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(failed(io::ErrorKind::TimedOut.into())),
            Err(error) => Err(failed(error)),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.stream.write_all(bytes).map_err(|source| Error::Io { action: "speak to", source })
    }
}

fn refusal(member: &str, message: &Message) -> Error {
    let text = match message.signature.starts_with('s') {
        true => wire::Reader::new(&message.body).text().unwrap_or_default(),
        false => String::new(),
    };
    Error::Refused { call: member.to_owned(), name: message.name.clone(), text }
}

/// Where systemd may be reached, the best way first: its own socket needs no bus to be there.
fn ways(owner: Owner, variable: impl Fn(&str) -> Option<String>) -> Vec<Way> {
    let path = |path: String, is_direct| Way { address: Address::Path(path.into()), is_direct };
    let bus = |text: String| addresses(&text).into_iter().map(|address| Way { address, is_direct: false });
    match owner {
        Owner::System => match variable("DBUS_SYSTEM_BUS_ADDRESS") {
            Some(text) => bus(text).collect(),
            None => vec![
                path("/run/systemd/private".to_owned(), true),
                path("/run/dbus/system_bus_socket".to_owned(), false),
            ],
        },
        Owner::User => {
            let uid = rustix::process::geteuid().as_raw();
            let runtime = variable("XDG_RUNTIME_DIR").filter(|path| path.starts_with('/'));
            let runtime = runtime.unwrap_or_else(|| format!("/run/user/{uid}"));
            let mut ways = vec![path(format!("{runtime}/systemd/private"), true)];
            match variable("DBUS_SESSION_BUS_ADDRESS") {
                Some(text) => ways.extend(bus(text)),
                None => ways.push(path(format!("{runtime}/bus"), false)),
            }
            ways
        }
    }
}

/// Returns the Unix sockets of a list like `unix:path=/run/bus,guid=…;unix:abstract=x`.
fn addresses(text: &str) -> Vec<Address> {
    let parts = text.split(';').filter_map(|part| part.strip_prefix("unix:"));
    let keys = parts.flat_map(|part| part.split(',')).filter_map(|key| key.split_once('='));
    keys.filter_map(|(key, value)| match key {
        "path" => Some(Address::Path(String::from_utf8(unescape(value)?).ok()?.into())),
        "abstract" => Some(Address::Abstract(unescape(value)?)),
        _ => None,
    })
    .collect()
}

/// Undoes the `%2f` of addresses.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    Some(bytes)
}

fn open(address: &Address) -> io::Result<UnixStream> {
    match address {
        Address::Path(path) => UnixStream::connect(path),
        Address::Abstract(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
    }
}

/// An error without its number.
fn plain(error: &io::Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase()
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(formatter, "{}", path.display()),
            Self::Abstract(name) => write!(formatter, "@{}", String::from_utf8_lossy(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(owner: Owner, variables: &[(&str, &str)]) -> Vec<String> {
        let variable = |name: &str| variables.iter().find(|(have, _)| *have == name).map(|(_, text)| text.to_string());
        let direct = |way: &Way| if way.is_direct { "direct " } else { "" };
        ways(owner, variable).iter().map(|way| format!("{}{}", direct(way), way.address)).collect()
    }

    #[test]
    fn systemds_own_socket_comes_before_a_bus_unless_one_is_named() {
        assert_eq!(
            shown(Owner::System, &[("XDG_RUNTIME_DIR", "/r")]),
            ["direct /run/systemd/private", "/run/dbus/system_bus_socket"]
        );
        assert_eq!(shown(Owner::System, &[("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/x%20y,guid=1")]), ["/x y"]);
        assert_eq!(shown(Owner::User, &[("XDG_RUNTIME_DIR", "/r")]), ["direct /r/systemd/private", "/r/bus"]);
        let session =
            [("XDG_RUNTIME_DIR", "/r"), ("DBUS_SESSION_BUS_ADDRESS", "tcp:host=h;unix:abstract=/tmp/b,guid=7")];
        assert_eq!(shown(Owner::User, &session), ["direct /r/systemd/private", "@/tmp/b"]);
    }

    #[test]
    fn addresses_that_make_no_sense_are_none() {
        for text in ["", "unix:", "unix:path", "unix:path=%4", "unix:path=%zz", "nonce-tcp:host=x"] {
            assert_eq!(addresses(text), [], "{text:?}");
        }
    }
}
