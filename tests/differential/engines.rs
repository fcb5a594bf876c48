//! Who builds: `ctl` in a house of its own, dockerd with BuildKit, buildah; each with its state in the test's directory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::sys::signal::Signal;
use strata_tests::{House, Output, Running, eventually, made};

use crate::case::Case;

/// Builds images and saves them.
pub trait Engine: Sync {
    /// Its name in cases and differences.
    fn name(&self) -> &'static str;
    /// Takes an image from a docker-archive.
    fn load(&self, archive: &Path);
    /// Builds a context under a name.
    fn build(&self, case: &Case, context: &Path, name: &str) -> Output;
    /// Saves an image as a docker-archive.
    fn save(&self, name: &str, archive: &Path);
}

fn text(path: &Path) -> &str {
    path.to_str().expect("an ASCII path")
}

/// A program in a mount namespace of its own, where its mounts end with it.
fn alone(program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", program]);
    command
}

/// We.
pub struct Ours(House);

impl Ours {
    pub fn start() -> Self {
        Self(House::start())
    }
}

impl Engine for Ours {
    fn name(&self) -> &'static str {
        "ours"
    }

    fn load(&self, archive: &Path) {
        self.0.ctl(&["load", "-i", text(archive)]).ok();
    }

    fn build(&self, case: &Case, context: &Path, name: &str) -> Output {
        let flags: Vec<&str> = case.flags.iter().map(String::as_str).collect();
        self.0.ctl(&[&["build", "--progress", "plain", "-t", name], &flags[..], &[text(context)]].concat())
    }

    fn save(&self, name: &str, archive: &Path) {
        self.0.ctl(&["save", "-o", text(archive), name]).ok();
    }
}

/// BuildKit, as Debian's dockerd has it.
pub struct Docker {
    home: PathBuf,
    daemon: Option<Running>,
}

impl Docker {
    /// Starts dockerd. Where it is not there, or ends, the test fails with the reason.
    pub fn start(work: &Path) -> Self {
        for program in ["/usr/sbin/dockerd", "/usr/bin/docker"] {
            made(program.into(), "make packages-test");
        }
        let home = work.join("docker");
        fs::create_dir(&home).unwrap();
        fs::write(home.join("daemon.json"), "{}").unwrap();
        let mut command = alone("/usr/sbin/dockerd");
        for (option, name) in
            [("--config-file", "daemon.json"), ("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")]
        {
            command.arg(option).arg(home.join(name));
        }
        command.arg(format!("--host=unix://{}/socket", home.display()));
        command.args([
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
            "--storage-driver=overlay2",
        ]);
        command.env("TMPDIR", &home);
        let mut docker = Self { daemon: Some(Running::spawn(command)), home };
        eventually("dockerd answers", Duration::from_secs(60), || {
            let daemon = docker.daemon.as_mut().expect("it was started");
            assert!(daemon.is_running(), "dockerd ended:\n{}{}", daemon.stdout(), daemon.stderr());
            docker.call(&["version"]).code == 0
        });
        docker
    }

    /// Where its containerd has what a container that runs was made from.
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.home.join("exec/containerd/daemon/io.containerd.runtime.v2.task/moby").join(id)
    }

    /// Runs the client to its end.
    pub fn call(&self, words: &[&str]) -> Output {
        let mut command = Command::new("/usr/bin/docker");
        command.arg("-H").arg(format!("unix://{}/socket", self.home.display()));
        command.env("DOCKER_CONFIG", self.home.join("client")).env("DOCKER_BUILDKIT", "1").env_remove("DOCKER_HOST");
        command.args(words);
        Running::spawn(command).finish()
    }
}

impl Engine for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn load(&self, archive: &Path) {
        self.call(&["load", "--quiet", "--input", text(archive)]).ok();
    }

    fn build(&self, case: &Case, context: &Path, name: &str) -> Output {
        let flags: Vec<&str> = case.flags.iter().map(String::as_str).collect();
        let fixed = ["build", "--progress", "plain", "--network", "none", "--tag", name];
        self.call(&[&fixed, &flags[..], &[text(context)]].concat())
    }

    fn save(&self, name: &str, archive: &Path) {
        self.call(&["save", "--output", text(archive), name]).ok();
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.signal(Signal::SIGTERM);
            // Counted from its start.
            daemon.finish_within(Duration::from_secs(1800));
        }
    }
}

/// buildah, without a runtime.
pub struct Buildah {
    home: PathBuf,
}

impl Buildah {
    pub fn start(work: &Path) -> Self {
        let home = work.join("buildah");
        fs::create_dir(&home).unwrap();
        fs::write(home.join("containers.conf"), "[containers]\ndefault_ulimits = []\n").unwrap();
        fs::write(home.join("registries.conf"), "unqualified-search-registries = [\"docker.io\"]\n").unwrap();
        fs::write(home.join("policy.json"), r#"{"default": [{"type": "insecureAcceptAnything"}]}"#).unwrap();
        Self { home }
    }

    fn call(&self, words: &[&str]) -> Output {
        let mut command = alone("/usr/bin/buildah");
        command.arg("--root").arg(self.home.join("root")).arg("--runroot").arg(self.home.join("run"));
        command.args(["--storage-driver", "overlay"]).args(words);
        command.env("CONTAINERS_CONF", self.home.join("containers.conf"));
        command.env("CONTAINERS_REGISTRIES_CONF", self.home.join("registries.conf"));
        command.env("TMPDIR", &self.home).env("HOME", &self.home).env("XDG_RUNTIME_DIR", &self.home);
        Running::spawn(command).finish()
    }

    fn policy(&self) -> String {
        format!("--signature-policy={}", text(&self.home.join("policy.json")))
    }
}

impl Engine for Buildah {
    fn name(&self) -> &'static str {
        "buildah"
    }

    fn load(&self, archive: &Path) {
        self.call(&["pull", "--quiet", &self.policy(), &format!("docker-archive:{}", text(archive))]).ok();
    }

    fn build(&self, case: &Case, context: &Path, name: &str) -> Output {
        let flags: Vec<&str> = case.flags.iter().map(String::as_str).collect();
        let fixed = ["build", "--layers", "--isolation", "chroot", "--pull-never", "--format", "docker", "--tag", name];
        self.call(&[&fixed, &flags[..], &[&self.policy(), text(context)]].concat())
    }

    fn save(&self, name: &str, archive: &Path) {
        let to = format!("docker-archive:{}:{name}", text(archive));
        self.call(&["push", "--quiet", &self.policy(), name, &to]).ok();
    }
}
