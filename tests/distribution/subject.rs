//! The registry under test: ours, or Debian's `docker-registry` as a control that the tests ask nothing special.

use std::{
    fs,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::Command,
    time::Duration,
};

use nix::sys::signal::Signal;
use strata_tests::{Running, binaries, eventually, made};
use tempfile::TempDir;

use crate::http::{self, Answer, Request};

/// Docker's registry has OCI's manifests for those alone who say that they know them.
const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, */*";

/// Which program serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `strata-store --registry`.
    Ours,
    /// `docker-registry`.
    Control,
}

/// A registry of one test, on loopback without TLS.
pub struct Registry {
    /// Which program it is.
    pub kind: Kind,
    /// Where it listens.
    pub address: SocketAddr,
    running: Running,
    directory: TempDir,
}

/// Makes a test of every body over both registries.
macro_rules! over_both {
    ($($body:ident),+ $(,)?) => {
        mod ours {
            $(#[test] fn $body() { crate::subject::over(crate::subject::Kind::Ours, super::$body); })+
        }
        mod control {
            $(#[test] fn $body() { crate::subject::over(crate::subject::Kind::Control, super::$body); })+
        }
    };
}
pub(crate) use over_both;

/// Makes a test of every body over ours, and one that says that the control, which is version 2.8, fails it still:
/// a row that it learns leaves this list.
macro_rules! unknown_to_control {
    ($($body:ident),+ $(,)?) => {
        mod only_ours {
            $(#[test] fn $body() { crate::subject::over(crate::subject::Kind::Ours, super::$body); })+
        }
        mod unknown_to_control {
            $(#[test] fn $body() { crate::subject::fails_over_control(super::$body); })+
        }
    };
}
pub(crate) use unknown_to_control;

/// Makes a test of every body over ours: what the specification leaves open and we decided.
macro_rules! over_ours {
    ($($body:ident),+ $(,)?) => {
        mod ours_decided {
            $(#[test] fn $body() { crate::subject::over(crate::subject::Kind::Ours, super::$body); })+
        }
    };
}
pub(crate) use over_ours;

/// Runs a body over a registry of its own.
pub fn over(kind: Kind, body: impl FnOnce(&Registry)) {
    let registry = Registry::start(kind);
    body(&registry);
    registry.stop();
}

/// Runs a body that the control must fail.
pub fn fails_over_control(body: impl FnOnce(&Registry)) {
    let registry = Registry::start(Kind::Control);
    let outcome = catch_unwind(AssertUnwindSafe(|| body(&registry)));
    registry.stop();
    assert!(outcome.is_err(), "the control passes this now: move the test to those over both");
}

impl Registry {
    /// Starts one.
    pub fn start(kind: Kind) -> Self {
        let directory =
            tempfile::Builder::new().prefix("strata-registry-").tempdir_in("/var/tmp").expect("/var/tmp is there");
        match kind {
            Kind::Ours => Self::ours(directory, ""),
            Kind::Control => Self::control(directory),
        }
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.running.pid()
    }

    /// Ours, with these lines in its configuration.
    pub fn configured(configuration: &str) -> Self {
        let directory =
            tempfile::Builder::new().prefix("strata-registry-").tempdir_in("/var/tmp").expect("/var/tmp is there");
        Self::ours(directory, configuration)
    }

    fn control(directory: TempDir) -> Self {
        let root = directory.path().join("state");
        let configuration = directory.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp: {{addr: \"127.0.0.1:0\"}}\n",
            root.display()
        );
        fs::write(&configuration, text).expect("a temporary directory");
        let program = made("/usr/bin/docker-registry".into(), "make packages-test");
        let mut command = Command::new(program);
        command.arg("serve").arg(&configuration);
        Self::running(Kind::Control, command, "listening on ", directory)
    }

    fn ours(directory: TempDir, configuration: &str) -> Self {
        let file = directory.path().join("store.toml");
        fs::write(&file, configuration).expect("a temporary directory");
        let mut command = Command::new(binaries().join("strata-store"));
        command.arg("--root").arg(directory.path().join("state")).arg("--config").arg(&file);
        command.arg("--listen").arg(format!("unix:{}", directory.path().join("run/store.sock").display()));
        command.args(["--registry", "127.0.0.1:0"]);
        fs::create_dir(directory.path().join("run")).expect("a temporary directory");
        Self::running(Kind::Ours, command, "registry serves on ", directory)
    }

    fn running(kind: Kind, command: Command, words: &str, directory: TempDir) -> Self {
        let mut running = Running::spawn(command);
        running.wait_for(words);
        let address = || {
            let said = format!("{}{}", running.stdout(), running.stderr());
            let after = said.split(words).nth(1)?.to_owned();
            let end = after.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))?;
            after[..end].parse().ok()
        };
        let mut found = None;
        eventually("the registry says where it listens", Duration::from_secs(10), || {
            found = address();
            found.is_some()
        });
        let address = found.expect("the line above waited for it");
        Self { kind, address, running, directory }
    }

    /// Directory of its state.
    pub fn state(&self) -> std::path::PathBuf {
        self.directory.path().join("state")
    }

    /// Directory of the test.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Socket of the store's own interface; ours only.
    pub fn socket(&self) -> std::path::PathBuf {
        self.directory.path().join("run/store.sock")
    }

    /// What it has printed so far.
    pub fn said(&self) -> String {
        format!("{}{}", self.running.stdout(), self.running.stderr())
    }

    /// Sends a request.
    pub fn send(&self, request: Request) -> Answer {
        http::send(self.address, &request)
    }

    /// Sends a request that is cut off.
    pub fn abandon(&self, request: Request) {
        http::abandon(self.address, &request);
    }

    /// GET, as a client of today does it.
    pub fn get(&self, target: impl Into<String>) -> Answer {
        self.send(Request::new("GET", target).header("accept", ACCEPTED))
    }

    /// HEAD, likewise.
    pub fn head(&self, target: impl Into<String>) -> Answer {
        self.send(Request::new("HEAD", target).header("accept", ACCEPTED))
    }

    /// DELETE.
    pub fn delete(&self, target: impl Into<String>) -> Answer {
        self.send(Request::new("DELETE", target))
    }

    /// POST without a body.
    pub fn post(&self, target: impl Into<String>) -> Answer {
        self.send(Request::new("POST", target))
    }

    /// The path of a Location header, which may be a whole URL.
    #[track_caller]
    pub fn location(&self, answer: &Answer) -> String {
        let text = answer.must("location");
        let rest = text.strip_prefix("http://").and_then(|rest| rest.find('/').map(|slash| rest[slash..].to_owned()));
        rest.unwrap_or_else(|| text.to_owned())
    }

    /// Stops it as an administrator would, and starts it again over the same state: ours only.
    pub fn restart(self) -> Self {
        let Self { running, directory, .. } = self;
        running.signal(Signal::SIGTERM);
        running.finish_within(Duration::from_secs(40)).ok();
        let configuration = fs::read_to_string(directory.path().join("store.toml")).expect("it was written");
        fs::remove_dir_all(directory.path().join("run")).expect("a temporary directory");
        Self::ours(directory, &configuration)
    }

    /// Kills it and starts it again over the same state: ours only.
    pub fn crash(self) -> Self {
        let Self { running, directory, .. } = self;
        running.signal(Signal::SIGKILL);
        running.finish_within(Duration::from_secs(40)).fails();
        let configuration = fs::read_to_string(directory.path().join("store.toml")).expect("it was written");
        fs::remove_dir_all(directory.path().join("run")).expect("a temporary directory");
        Self::ours(directory, &configuration)
    }

    /// Stops it as an administrator would; ours must stop well, and without a complaint in its log.
    pub fn stop(self) {
        self.running.signal(Signal::SIGTERM);
        let kind = self.kind;
        let output = self.running.finish_within(Duration::from_secs(40));
        if kind == Kind::Ours {
            let output = output.ok();
            let both = output.both();
            assert!(!both.contains(" ERROR ") && !both.contains("panicked"), "{output:?}");
        }
    }
}
