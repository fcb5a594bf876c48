//! Services of another host through `ssh`: there, `ctl system dial-stdio` connects to a service, and starts it when nobody
//! answers, as it does for whoever works on that host.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::error::{Error, Result};

/// Seconds until a host that does not answer is given up.
const CONNECT_SECONDS: u32 = 30;

/// What `ssh` says would be written over a view of the whole screen.
static IS_SILENT: AtomicBool = AtomicBool::new(false);

/// From now on nobody hears what `ssh` says beside the answers of services.
pub fn silence() {
    IS_SILENT.store(true, Ordering::Relaxed);
}

/// A host that `ssh` reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    user: Option<String>,
    host: String,
    port: Option<u16>,
}

impl Ssh {
    /// Reads "ssh://[USER@]HOST[:PORT]"; none: it is no such thing.
    pub fn parse(text: &str) -> Option<Result<Self>> {
        let rest = text.strip_prefix("ssh://")?;
        let wrong =
            |why: &str| Error::usage(format!("invalid host {text:?}: {why}; ssh://[USER@]HOST[:PORT] is expected"));
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        let (host, port) = match place.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let is_plain = |c: char| c.is_alphanumeric() || "._-%:".contains(c);
        // What begins with a minus would be a flag of ssh.
        let is_safe = |word: &str| !word.is_empty() && !word.starts_with('-') && word.chars().all(is_plain);
        if user.is_some_and(|user| user.contains(':')) {
            return Some(Err(wrong("a password has no place in it: keys are what ssh takes")));
        }
        if !is_safe(host) || user.is_some_and(|user| !is_safe(user)) {
            return Some(Err(wrong("a name is missing or cannot be one")));
        }
        let port = match port.map(str::parse).transpose() {
            Ok(port) => port,
            Err(_) => return Some(Err(wrong("the port is no number up to 65535"))),
        };
        Some(Ok(Self { user: user.map(str::to_owned), host: host.to_owned(), port }))
    }

    /// Connects to a service there.
    pub async fn dial(&self, service: &'static str) -> io::Result<Tunnel> {
        let mut command = Command::new("ssh");
        command.args(["-T", "-o", "BatchMode=yes", "-o", &format!("ConnectTimeout={CONNECT_SECONDS}")]);
        if let Some(user) = &self.user {
            command.args(["-l", user]);
        }
        if let Some(port) = self.port {
            command.args(["-p", &port.to_string()]);
        }
        command.args(["--", &self.host, "ctl", "system", "dial-stdio", service]);
        // In a group of its own: Ctrl-C is for the command here, which may want to say something over there yet.
        command.process_group(0).kill_on_drop(true);
        if IS_SILENT.load(Ordering::Relaxed) {
            command.stderr(Stdio::null());
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("cannot start ssh, which must be on PATH: {error}"))
        })?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => Ok(Tunnel { _child: child, input, output }),
            _ => Err(io::Error::other("ssh has no pipes")),
        }
    }
}

impl fmt::Display for Ssh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match self.host.contains(':') {
            true => write!(f, "[{}]", self.host)?,
            false => f.write_str(&self.host)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A connection through a child; the child goes with it.
#[derive(Debug)]
pub struct Tunnel {
    _child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.input).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_survive_their_text() {
        for text in ["ssh://node", "ssh://me@node-1.example", "ssh://me@10.0.0.2:2222", "ssh://[fd00::1]:22"] {
            assert_eq!(Ssh::parse(text).unwrap().unwrap().to_string(), text);
        }
        assert_eq!(Ssh::parse("ssh://node/").unwrap().unwrap().to_string(), "ssh://node");
        assert!(Ssh::parse("tcp:node:1").is_none() && Ssh::parse("node").is_none());
    }

    #[test]
    fn nothing_of_a_host_is_taken_for_a_flag_or_a_password() {
        for text in [
            "ssh://",
            "ssh://-oProxyCommand=x",
            "ssh://-l@node",
            "ssh://me:secret@node",
            "ssh://node:x",
            "ssh://node:70000",
            "ssh://a b",
            "ssh://node/dir",
            "ssh://@node",
            "ssh://no;de",
        ] {
            assert!(Ssh::parse(text).unwrap().is_err(), "{text}");
        }
    }
}
