//! What the tests have in common: a directory, an image, daemons, programs that are called with a limit of time.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The engine under test.
pub const ENGINE: &str = env!("CARGO_BIN_EXE_strata-oci");

/// A server that ends with status 7 when it is told to.
pub const SERVER: &str = "trap 'exit 7' TERM; echo on; while :; do sleep 0.05; done";

/// A directory of a test, and the daemons in it; dropped, nothing of either is left.
pub struct Work {
    daemons: Vec<Child>,
    directory: TempDir,
}

/// What a program said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub output: String,
    pub error: String,
}

impl Work {
    pub fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        Self { daemons: Vec::new(), directory: tempfile::tempdir_in("/var/tmp").unwrap() }
    }

    /// A path below the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The same as a text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).into_os_string().into_string().unwrap()
    }

    /// The parent of all cgroups of the test's containers.
    pub fn cgroup(&self) -> String {
        let name = self.directory.path().file_name().unwrap().to_str().unwrap();
        format!("/strata-engines-{}", name.trim_start_matches('.'))
    }

    /// A tar of a root file system with a shell and a few programs.
    pub fn tar(&self) -> String {
        let tar = self.text("image.tar");
        let template = crate::bundle::template();
        let status = Command::new("tar").arg("-C").arg(template.path()).args(["-cf", &tar, "."]).status();
        assert!(status.unwrap().success());
        tar
    }

    /// Starts a daemon, and waits until its socket is there.
    pub fn daemon(&mut self, command: &mut Command, socket: &Path) {
        let log = fs::File::create(self.path("daemon.log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        self.daemons.push(command.spawn().unwrap());
        for _ in 0..1200 {
            if std::os::unix::net::UnixStream::connect(socket).is_ok() {
                return;
            }
            if self.daemons.last_mut().unwrap().try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("the daemon does not listen: {}", fs::read_to_string(self.path("daemon.log")).unwrap());
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        for mut daemon in self.daemons.drain(..).rev() {
            let _ = kill_process(Pid::from_child(&daemon), Signal::TERM);
            let _ = daemon.wait();
        }
        // What a daemon leaves mounted: dockerd the namespace of its host network.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below = |point: &&str| Path::new(point).starts_with(self.directory.path());
        let points: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(below).collect();
        for point in points.into_iter().rev() {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        for hierarchy in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
            remove_cgroups(&hierarchy.join(&self.cgroup()[1..]));
        }
    }
}

fn remove_cgroups(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    let _ = fs::remove_dir(directory);
}

/// Demands a program of a Debian package.
pub fn demand(package: &str, programs: &[&str]) {
    for program in programs {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let directories: Vec<PathBuf> = std::env::split_paths(&path).chain(["/usr/sbin".into()]).collect();
        let is_there = directories.iter().any(|directory| directory.join(program).exists());
        assert!(is_there, "{program} is missing: this test needs Debian's package {package}");
    }
}

/// Calls a program; one that takes two minutes is ended, and has no good status.
pub fn call(command: &Command) -> Said {
    let mut limited = Command::new("timeout");
    limited.args(["--kill-after", "5", "120"]).arg(command.get_program()).args(command.get_args());
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    let output = limited.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: output.status.code(), output: text(output.stdout), error: text(output.stderr) }
}

/// Calls a program as from a terminal.
pub fn call_in_terminal(command: &Command) -> Said {
    let quote = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().unwrap().replace('\'', "'\\''"));
    let words: Vec<String> = [command.get_program()].into_iter().chain(command.get_args()).map(quote).collect();
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    call(&script)
}

impl Said {
    /// The output of a success.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.output
    }

    /// A failure with this status.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        self.error
    }
}

/// Asks until the answer is right.
#[track_caller]
pub fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("waited in vain for {what}");
}

/// The image as an archive that containerd imports: docker-archive, which needs digests but no compression.
pub fn oci_archive(work: &Work) -> String {
    let tar = work.tar();
    let layer = sha256(Path::new(&tar));
    let directory = work.path("archive");
    fs::create_dir(&directory).unwrap();
    fs::rename(&tar, directory.join("layer.tar")).unwrap();
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Env": ["PATH=/bin:/usr/bin"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
    });
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    let manifest = serde_json::json!([
        {"Config": "config.json", "RepoTags": ["strata:test"], "Layers": ["layer.tar"]}
    ]);
    fs::write(directory.join("manifest.json"), manifest.to_string()).unwrap();
    let archive = work.text("archive.tar");
    let status = Command::new("tar").arg("-C").arg(&directory).args(["-cf", &archive, "."]).status();
    assert!(status.unwrap().success());
    archive
}

fn sha256(path: &Path) -> String {
    let said = call(Command::new("sha256sum").arg(path));
    said.ok().split(' ').next().unwrap().to_owned()
}
