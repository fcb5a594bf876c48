//! The program `git`, in an environment that is all ours: no configuration of anybody, no hooks, no helpers, no keys
//! of anybody, and only protocols that sources have. What starts with it ends with it.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal};
use strata_dockerfile::remote::{UserInfo, redact};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::{Wanted, scope};
use crate::source::{Failure, Sources};

/// Most bytes of an answer.
const MOST: u64 = 16 << 20;
/// Bytes of what it says last that are shown.
const LAST: usize = 2048;
/// Variables of the builder that it sees.
const KEPT: [&str; 11] = [
    "PATH",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
/// What holds for every repository. Protocols that are not named run programs, or read this machine's files.
const CONFIG: &str = "\
[protocol]
\tallow = never
[protocol \"https\"]
\tallow = always
[protocol \"http\"]
\tallow = always
[protocol \"ssh\"]
\tallow = always
[protocol \"git\"]
\tallow = always
[core]
\thooksPath = /dev/null
\taskPass = \"\"
\tfsmonitor = false
\tattributesFile = /dev/null
\texcludesFile = /dev/null
\tautocrlf = false
\tsymlinks = true
\tprotectHFS = true
\tprotectNTFS = true
[credential]
\thelper = \"\"
[init]
\tdefaultBranch = master
[advice]
\tdetachedHead = false
[gc]
\tauto = 0
[maintenance]
\tauto = false
[fetch]
\trecurseSubmodules = false
[submodule]
\talternateLocation = no
[http]
\tlowSpeedLimit = 1
\tlowSpeedTime = 90
";

/// `git` with a directory of its own.
#[derive(Debug)]
pub(super) struct Program {
    directory: tempfile::TempDir,
    ssh: String,
    agent: Option<PathBuf>,
}

impl Program {
    /// Prepares it for a repository. Credentials are in a private file, where nobody sees them who sees processes.
    pub fn new(sources: &Sources, wanted: &Wanted) -> Result<Self, Failure> {
        let directory = sources.directory()?;
        let failed = |source| Failure::Local { attempt: "write", path: directory.path().join("config"), source };
        let mut config = CONFIG.to_owned();
        if let Some(header) = authorization(wanted) {
            let refused = || Failure::Network { problem: "the credentials for its host hold a line break".to_owned() };
            let header = header.trim_end_matches(['\r', '\n']);
            if header.contains(|c: char| c.is_ascii_control()) {
                return Err(refused());
            }
            let scope = quoted(scope(&wanted.git));
            config.push_str(&format!(
                "[http {scope}]\n\textraHeader = {}\n",
                quoted(&format!("Authorization: {header}"))
            ));
        }
        let mut file = std::fs::File::options();
        let mut file =
            file.write(true).create_new(true).mode(0o600).open(directory.path().join("config")).map_err(failed)?;
        file.write_all(config.as_bytes()).map_err(failed)?;
        std::fs::create_dir(directory.path().join("work")).map_err(failed)?;
        Ok(Self { directory, ssh: ssh(&sources.known_hosts), agent: wanted.agent.clone() })
    }

    /// Where files are checked out.
    pub fn place(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    /// Gives the directory away, with all in it.
    pub fn end(self) -> tempfile::TempDir {
        self.directory
    }

    /// Runs it. `action` says for people what it was to do. Dropping the future ends it, and what it has started.
    pub async fn run(&self, action: &'static str, arguments: &[&str]) -> Result<String, Failure> {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(self.place()).env_clear();
        command.envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(self.agent.iter().map(|socket| ("SSH_AUTH_SOCK", socket)));
        command
            .env("HOME", self.directory.path())
            .env("TMPDIR", self.directory.path())
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_CONFIG_GLOBAL", self.directory.path().join("config"))
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_ALLOW_PROTOCOL", "https:http:ssh:git")
            .env("GIT_PROTOCOL_FROM_USER", "0")
            .env("GIT_CEILING_DIRECTORIES", self.directory.path())
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_SSH_VARIANT", "ssh")
            .env("GIT_SSH_COMMAND", &self.ssh)
            .env("GIT_LFS_SKIP_SMUDGE", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Failure::NoGit,
            _ => Failure::Local { attempt: "start", path: "git".into(), source },
        })?;
        let group = Group::of(&child);
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (out, err, ended) = tokio::join!(all(out), last(err), child.wait());
        let ended = ended.map_err(|source| Failure::Local { attempt: "wait for", path: "git".into(), source })?;
        group.ended();
        if !ended.success() {
            let said = redact(err.trim());
            let said = if said.is_empty() { ended.to_string() } else { said };
            return Err(Failure::Git { action, said });
        }
        Ok(out)
    }
}

/// Processes that end when this is dropped, unless they are over.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &tokio::process::Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(id.cast_signed())))
    }

    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
    }
}

/// What it says, up to a bound.
async fn all(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What cannot be read is missed where it is needed.
        let _ = pipe.take(MOST).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The end of what it says.
async fn last(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
            bytes.extend_from_slice(&buffer[..count]);
            bytes.drain(..bytes.len().saturating_sub(LAST));
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn authorization(wanted: &Wanted) -> Option<String> {
    use base64::Engine as _;
    let basic = |UserInfo { name, password }: &UserInfo| {
        let pair = format!("{name}:{}", password.as_deref().unwrap_or_default());
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    };
    wanted.authorization.clone().or_else(|| wanted.git.user.as_ref().map(basic))
}

/// A value as git's configuration has it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// ssh without anybody's configuration and keys. A host is believed when it is met first, and must stay what it was.
fn ssh(known_hosts: &Path) -> String {
    let known = known_hosts.display().to_string().replace('\'', "'\\''");
    format!(
        "ssh -F /dev/null -o BatchMode=yes -o IdentityFile=none -o StrictHostKeyChecking=accept-new \
         -o 'UserKnownHostsFile=\"{known}\"' -o ControlPath=none -o ConnectTimeout=20 -o ServerAliveInterval=15"
    )
}

#[cfg(test)]
mod tests;
