//! `--ssh`: agents whose keys a build may use. The builder sends each question of a step; only what lists keys and what
//! signs is passed on, so that no build changes an agent.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use strata_proto::builder::v1 as pb;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::error::{Error, Result};

/// Lists the keys: draft-miller-ssh-agent, SSH_AGENTC_REQUEST_IDENTITIES.
const REQUEST_IDENTITIES: u8 = 11;
/// Signs: SSH_AGENTC_SIGN_REQUEST.
const SIGN_REQUEST: u8 = 13;
/// What was asked for is not done: SSH_AGENT_FAILURE.
const FAILURE: u8 = 5;
/// The longest message, as of OpenSSH.
const LONGEST: u32 = 256 << 10;

/// The agents of a build, by id.
#[derive(Debug, Default)]
pub struct Agents(HashMap<String, Agent>);

#[derive(Debug)]
struct Agent {
    socket: PathBuf,
    /// Ours, with the keys of files.
    _own: Option<Own>,
}

/// An `ssh-agent` for one build; it ends when this is dropped.
#[derive(Debug)]
struct Own(Child);

impl Drop for Own {
    fn drop(&mut self) {
        // Asked politely it takes its socket along.
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

impl Agents {
    /// Reads the flags, and starts agents for keys that are given as files.
    pub fn of(flags: &[String]) -> Result<Self> {
        let mut all = HashMap::new();
        for flag in flags {
            let (id, paths) = flag.split_once('=').map_or((flag.as_str(), ""), |(id, paths)| (id, paths));
            let wrong = |why: String| {
                let error = Error::usage(format!("invalid --ssh {flag:?}: {why}"));
                error.hint("it is written as default, ID=SOCKET or ID=KEY[,KEY]")
            };
            if id.is_empty() {
                return Err(wrong("the id is missing".to_owned()));
            }
            let paths: Vec<PathBuf> = match paths {
                "" => std::env::var_os("SSH_AUTH_SOCK")
                    .filter(|path| !path.is_empty())
                    .map(PathBuf::from)
                    .into_iter()
                    .collect(),
                paths => paths.split(',').map(PathBuf::from).collect(),
            };
            let agent = agent(&paths).map_err(wrong)?;
            if all.insert(id.to_owned(), agent).is_some() {
                return Err(wrong(format!("the id {id:?} is there already")));
            }
        }
        Ok(Self(all))
    }

    /// There are some.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Answers a question of the builder; an empty one asks whether there is such an agent.
    pub async fn answer(&self, pb::NeedAgent { number, id, message }: pb::NeedAgent) -> pb::BuildAgent {
        let (answer, problem) = match (self.0.get(&id), message.first()) {
            (None, _) => (None, String::new()),
            (Some(_), None) => (Some(Bytes::new()), String::new()),
            (Some(agent), Some(&(REQUEST_IDENTITIES | SIGN_REQUEST))) => match ask(&agent.socket, &message).await {
                Ok(answer) => (Some(answer.into()), String::new()),
                Err(error) => (None, format!("cannot ask the agent at {}: {error}", agent.socket.display())),
            },
            (Some(_), Some(_)) => (Some(Bytes::from_static(&[FAILURE])), String::new()),
        };
        pb::BuildAgent { number, answer, problem }
    }
}

/// One question and its answer.
async fn ask(socket: &Path, message: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_u32(message.len() as u32).await?;
    stream.write_all(message).await?;
    let length = stream.read_u32().await?;
    if !(1..=LONGEST).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its answer is empty or too long"));
    }
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// The agent at a socket, or one of our own with the keys of files.
fn agent(paths: &[PathBuf]) -> std::result::Result<Agent, String> {
    let Some(first) = paths.first() else {
        return Err("SSH_AUTH_SOCK is not set: no agent is running, or it was not forwarded".to_owned());
    };
    let mut sockets = 0;
    for path in paths {
        let found = std::fs::metadata(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        sockets += usize::from(found.file_type().is_socket());
    }
    match (sockets, paths.len()) {
        (0, _) => {
            let (own, socket) = start(paths)?;
            Ok(Agent { socket, _own: Some(own) })
        }
        (1, 1) => Ok(Agent { socket: first.clone(), _own: None }),
        _ => Err("an agent is one socket, or keys".to_owned()),
    }
}

/// Starts `ssh-agent` and gives it the keys: what they are never leaves the programs of OpenSSH.
fn start(keys: &[PathBuf]) -> std::result::Result<(Own, PathBuf), String> {
    let failed = |program: &str, error: io::Error| format!("cannot run {program}, which keys in files need: {error}");
    for key in keys {
        // Otherwise somebody would be asked for a passphrase in the middle of the progress.
        let mut test = Command::new("ssh-keygen");
        test.args(["-y", "-P", "", "-f"]).arg(key).stdin(Stdio::null());
        let output = test.output().map_err(|error| failed("ssh-keygen", error))?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            let why = why.lines().find(|line| !line.starts_with('@')).unwrap_or("it has a passphrase");
            return Err(format!("cannot use the key {}: {why}", key.display()));
        }
    }
    let mut command = Command::new("ssh-agent");
    command.arg("-D").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut own = Own(command.spawn().map_err(|error| failed("ssh-agent", error))?);
    let mut line = String::new();
    if let Some(out) = own.0.stdout.take() {
        BufReader::new(out).read_line(&mut line).map_err(|error| failed("ssh-agent", error))?;
    }
    let socket = line.strip_prefix("SSH_AUTH_SOCK=").and_then(|rest| rest.split(';').next());
    let socket = socket.map(PathBuf::from).ok_or_else(|| format!("ssh-agent said {line:?}"))?;
    let mut add = Command::new("ssh-add");
    add.arg("-q").args(keys).env("SSH_AUTH_SOCK", &socket).stdin(Stdio::null());
    let output = add.output().map_err(|error| failed("ssh-add", error))?;
    if !output.status.success() {
        return Err(format!("ssh-add: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok((own, socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        for (flag, why) in [
            ("=x", "the id is missing"),
            ("default=/nonexistent/key", "/nonexistent/key"),
            ("default=/dev/null", "cannot use the key /dev/null"),
        ] {
            let error = Agents::of(&[flag.to_owned()]).expect_err(flag);
            assert!(error.message.contains(why), "{flag}: {}", error.message);
        }
    }

    #[tokio::test]
    async fn a_question_that_changes_the_agent_is_not_passed_on() {
        let agent = Agent { socket: "/nonexistent".into(), _own: None };
        let agents = Agents(HashMap::from([("default".to_owned(), agent)]));
        let ask = async |id: &str, message: &'static [u8]| {
            let need = pb::NeedAgent { number: 7, id: id.to_owned(), message: Bytes::from_static(message) };
            agents.answer(need).await
        };

        assert_eq!(ask("default", b"").await.answer, Some(Bytes::new()));
        assert_eq!(ask("other", b"").await.answer, None);
        for kind in (0..=255_u8).filter(|kind| !matches!(kind, 11 | 13)) {
            let need = pb::NeedAgent { number: 7, id: "default".to_owned(), message: vec![kind, 0].into() };
            assert_eq!(agents.answer(need).await.answer, Some(Bytes::from_static(&[FAILURE])), "{kind}");
        }
        assert!(ask("default", b"\x0b").await.problem.contains("/nonexistent"));
    }
}
