//! Starts monitors and speaks with them.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use strata_init::plan::*;
use strata_init::wire::{self, Frame};
use tempfile::TempDir;

/// Docker's 14.
pub const DEFAULT_CAPABILITIES: u64 = 0xa804_25fb;

/// A directory with what a container needs on the host.
pub struct Bench {
    pub directory: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("strata-init-").tempdir_in("/var/tmp").unwrap();
        for name in ["lower/etc", "lower/usr", "lower/tmp", "upper", "work"] {
            std::fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        for name in ["bin", "lib", "lib64", "sbin"] {
            std::os::unix::fs::symlink(format!("usr/{name}"), directory.path().join("lower").join(name)).unwrap();
        }
        Self { directory }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A plan like that of `docker run`, over an overlay.
    pub fn plan(&self, args: &[&str]) -> Plan {
        let capabilities = DEFAULT_CAPABILITIES;
        Plan {
            namespaces: Namespaces {
                mount: Namespace::New,
                pid: Namespace::New,
                network: Namespace::New,
                ipc: Namespace::New,
                uts: Namespace::New,
                cgroup: Namespace::New,
                ..Namespaces::default()
            },
            root: Root::Overlay {
                lowers: vec![self.path("lower")],
                upper: self.path("upper"),
                work: self.path("work"),
                options: ["index=off", "redirect_dir=nofollow", "metacopy=off"].map(String::from).to_vec(),
            },
            steps: steps(),
            process: Process {
                args: args.iter().map(OsString::from).collect(),
                env: vec!["PATH=/usr/local/bin:/usr/bin:/bin".into(), "GREETING=hello".into()],
                cwd: "/".into(),
                capabilities: Capabilities {
                    bounding: capabilities,
                    effective: capabilities,
                    permitted: capabilities,
                    ..Capabilities::default()
                },
                ..Process::default()
            },
            log: Some(log(self.path("log"), 10 << 20, 3)),
            exit_record: Some(self.path("exit.json")),
            control_socket: Some(self.path("control.sock")),
            ..Plan::default()
        }
    }

    /// A plan of a shell command.
    pub fn shell(&self, script: &str) -> Plan {
        self.plan(&["/bin/sh", "-c", script])
    }

    /// A plan of a shell command inside the container of a running process.
    pub fn exec(&self, pid: u32, script: &str) -> Plan {
        let namespaces = libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP;
        Plan {
            namespaces: Namespaces::default(),
            target: Some(Target { pid, start_time: 0, namespaces: namespaces as u32 }),
            root: Root::None,
            steps: Vec::new(),
            log: Some(log(self.path("exec-log"), 0, 1)),
            exit_record: Some(self.path("exec-exit.json")),
            control_socket: Some(self.path("exec.sock")),
            ..self.shell(script)
        }
    }

    pub fn start(&self, plan: &Plan) -> Monitor {
        let mut monitor = Monitor::spawn("monitor");
        monitor.send(&Frame::Plan { bytes: plan.encode() });
        monitor
    }

    /// Runs to the end and returns the exit status (or the failure's) and the log as text.
    pub fn run(&self, plan: &Plan) -> (i32, String) {
        let mut monitor = self.start(plan);
        monitor.send(&Frame::Start);
        let code = monitor.finish();
        (code, plan.log.as_ref().map(|log| log_text(&log.path)).unwrap_or_default())
    }

    pub fn run_shell(&self, script: &str) -> (i32, String) {
        self.run(&self.shell(script))
    }
}

/// A log of this size.
pub fn log(path: PathBuf, max_size: u64, max_files: u32) -> Log {
    Log { path, max_size, max_files, attributes: String::new(), is_compressed: false }
}

fn steps() -> Vec<Step> {
    use attribute::{NODEV, NOEXEC, NOSUID, RDONLY, STRICTATIME};
    let mount = |kind: &str, target: &str, attributes, options: &[&str]| Step::Filesystem {
        kind: kind.into(),
        source: kind.into(),
        target: target.into(),
        attributes,
        options: options.iter().map(|&option| option.into()).collect(),
        copy_up: false,
    };
    let mut steps = vec![
        mount("proc", "/proc", NOSUID | NODEV | NOEXEC, &[]),
        mount("tmpfs", "/dev", NOSUID | STRICTATIME, &["mode=755", "size=65536k"]),
        mount("devpts", "/dev/pts", NOSUID | NOEXEC, &["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        mount("sysfs", "/sys", NOSUID | NODEV | NOEXEC | RDONLY, &[]),
        mount("mqueue", "/dev/mqueue", NOSUID | NODEV | NOEXEC, &[]),
        mount("tmpfs", "/dev/shm", NOSUID | NODEV | NOEXEC, &["mode=1777", "size=65536k"]),
        bind("/usr", "/usr", RDONLY),
    ];
    for (name, minor) in [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)] {
        let path = format!("/dev/{name}").into();
        steps.push(Step::Device { path, block: false, major: 1, minor, mode: 0o666, uid: 0, gid: 0 });
    }
    for (path, target) in [("/dev/fd", "/proc/self/fd"), ("/dev/stdout", "/proc/self/fd/1"), ("/dev/ptmx", "pts/ptmx")]
    {
        steps.push(Step::Symlink { path: path.into(), target: target.into() });
    }
    steps.push(Step::Hostname { name: "inside".into() });
    steps.push(Step::Sysctl { key: "net/ipv4/ping_group_range".into(), value: "0 2147483647".into() });
    steps.push(Step::LoopbackUp);
    for path in ["/proc/keys", "/proc/timer_list", "/proc/acpi", "/sys/firmware", "/proc/absent"] {
        steps.push(Step::Mask { path: path.into() });
    }
    steps.push(Step::ReadOnly { path: "/proc/sys".into() });
    steps
}

/// A recursive private bind.
pub fn bind(source: impl Into<PathBuf>, target: &str, set: u64) -> Step {
    Step::Bind {
        source: source.into(),
        target: target.into(),
        recursive: true,
        attributes: Attributes { set_all: set, ..Attributes::default() },
        propagation: Propagation::Private,
        ids: None,
    }
}

/// The runtime's end of a conversation; the monitor is reaped when it goes.
pub struct Monitor {
    pub process: Child,
    pub socket: Option<UnixStream>,
}

impl Monitor {
    pub fn spawn(role: &str) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_strata-init"))
            .arg(role)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, socket: Some(ours) }
    }

    pub fn send(&mut self, frame: &Frame) {
        wire::send(self.socket.as_mut().unwrap(), frame).unwrap();
    }

    pub fn receive(&mut self) -> Frame {
        wire::receive(self.socket.as_mut().unwrap()).unwrap().expect("the monitor hung up")
    }

    /// Waits until the process is ready, and returns its id.
    pub fn ready(&mut self) -> u32 {
        match self.receive() {
            Frame::Ready { pid, .. } => pid,
            other => panic!("not ready: {other:?}"),
        }
    }

    /// Starts a ready process, and waits until its program runs.
    pub fn go(&mut self) {
        self.send(&Frame::Start);
        assert_eq!(self.receive(), Frame::Started);
    }

    /// Returns the last word's exit code, and waits for the monitor's end.
    pub fn finish(&mut self) -> i32 {
        let code = loop {
            match self.receive() {
                Frame::Exited { status } => break status.code,
                Frame::Failed { code, .. } => break code,
                _ => {}
            }
        };
        self.process.wait().unwrap();
        code
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.socket = None;
        if std::thread::panicking() {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

/// A client of a control socket.
pub struct Client(pub UnixStream);

impl Client {
    /// Attaches, and returns the state that was told.
    pub fn attach(path: &Path, stdin: bool, wait: bool) -> (Self, Frame) {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        wire::send(&mut stream, &Frame::Hello { stdin, output: true, wait }).unwrap();
        let state = wire::receive(&mut stream).unwrap().unwrap();
        (Self(stream), state)
    }

    pub fn send(&mut self, frame: &Frame) {
        wire::send(&mut self.0, frame).unwrap();
    }

    /// Reads output until `until` says that it is enough, or the exit.
    pub fn read(&mut self, mut until: impl FnMut(&str) -> bool) -> (String, Option<i32>) {
        let mut text = String::new();
        loop {
            match wire::receive(&mut self.0).unwrap() {
                Some(Frame::Stdout { bytes } | Frame::Stderr { bytes }) => {
                    text.push_str(&String::from_utf8_lossy(&bytes));
                    if until(&text) {
                        return (text, None);
                    }
                }
                Some(Frame::Exited { status }) => return (text, Some(status.code)),
                other => panic!("unexpected {other:?} after {text:?}"),
            }
        }
    }
}

/// The text of a log, its entries joined.
pub fn log_text(path: &Path) -> String {
    let log = std::fs::read_to_string(path).unwrap_or_default();
    let entry = |line: &str| {
        let text = line.strip_prefix("{\"log\":\"").unwrap().split("\",\"stream\":").next().unwrap().to_owned();
        text.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r").replace("\\\"", "\"").replace("\\\\", "\\")
    };
    log.lines().map(entry).collect()
}

/// Waits for a condition that another process makes true.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::sleep(Duration::from_millis(5));
    }
}
