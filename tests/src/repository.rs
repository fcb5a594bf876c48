//! Git repositories of the tests, and a server for them.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::eventually;

/// Seconds since 1970 of the first commit; each later one is a minute younger.
pub const COMMITTED: i64 = 1_600_000_000;

/// Repositories in one directory, as a server has them.
#[derive(Debug)]
pub struct Repositories {
    directory: TempDir,
}

/// One of them, with files.
#[derive(Debug)]
pub struct Repository {
    path: PathBuf,
}

impl Default for Repositories {
    fn default() -> Self {
        let directory =
            tempfile::Builder::new().prefix("strata-git-").tempdir_in("/var/tmp").expect("/var/tmp is there");
        Self { directory }
    }
}

impl Repositories {
    /// A new repository, "NAME.git" for a server.
    pub fn add(&self, name: &str, flags: &[&str]) -> Repository {
        let path = self.directory.path().join(format!("{name}.git"));
        let mut words = vec!["init", "--quiet", "--initial-branch=main"];
        words.extend(flags);
        words.push(path.to_str().expect("an ASCII path"));
        git(self.directory.path(), 0, &words);
        let repository = Repository { path };
        // As GitHub does.
        repository.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
        repository
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Serves them with the protocol of git.
    pub fn serve(&self) -> GitServer {
        let port = {
            let free = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
            free.local_addr().expect("it listens").port()
        };
        let child = Command::new("git")
            .args(["daemon", "--reuseaddr", "--export-all", "--listen=127.0.0.1", &format!("--port={port}")])
            .arg(format!("--base-path={}", self.directory.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("git is there: the README names it");
        let server = GitServer { child, port };
        let address = format!("127.0.0.1:{port}");
        eventually("git daemon listens", Duration::from_secs(20), || TcpStream::connect(&address).is_ok());
        server
    }
}

impl Repository {
    /// Runs git in it.
    #[track_caller]
    pub fn git(&self, words: &[&str]) -> String {
        let commits = git(&self.path, 0, &["rev-list", "--all", "--count"]);
        git(&self.path, commits.trim().parse().unwrap_or(0), words)
    }

    /// Where its files are.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file.
    pub fn write(&self, name: &str, content: &str) -> &Self {
        let path = self.path.join(name);
        std::fs::create_dir_all(path.parent().expect("it is below the repository")).expect("a temporary directory");
        std::fs::write(path, content).expect("a temporary directory");
        self
    }

    /// Commits all files; returns the commit.
    #[track_caller]
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", message]);
        self.git(&["update-server-info"]);
        self.git(&["rev-parse", "HEAD"]).trim().to_owned()
    }
}

/// Runs git with nobody's configuration. `age`: commits that are there.
#[track_caller]
fn git(directory: &Path, age: i64, words: &[&str]) -> String {
    let date = format!("{} +0000", COMMITTED + 60 * age);
    let output = Command::new("git")
        .args(["-c", "protocol.file.allow=always", "-c", "user.name=test", "-c", "user.email=test@example.com"])
        .args(words)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_DATE", &date)
        .env("GIT_COMMITTER_DATE", &date)
        .output()
        .expect("git is there: the README names it");
    assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A server of repositories, which ends with this.
#[derive(Debug)]
pub struct GitServer {
    child: Child,
    port: u16,
}

impl GitServer {
    /// The URL of a repository.
    pub fn url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}.git", self.port)
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        if let Some(group) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
