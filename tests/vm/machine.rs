//! A guest: QEMU without KVM, Debian's kernel, one archive to boot from. It does jobs, says on a serial line how each of
//! them went, and powers off; one that hangs is ended after a while.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Far more than a guest takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(600);

/// What a guest is to do: a name of one word, and a command of the shell.
pub struct Job {
    pub name: &'static str,
    pub command: String,
}

/// How a job went.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// Exit status; None: the guest ended before it did.
    pub status: Option<i32>,
    /// Both streams.
    pub output: String,
    /// How long it took, in seconds.
    pub seconds: u32,
}

/// A guest that has done its jobs.
pub struct Machine {
    done: BTreeMap<String, Done>,
    /// What the kernel said, and on how it ended.
    console: String,
}

impl Machine {
    /// Boots a kernel with an archive to the end of its jobs, with a file for each serial line in `dir`.
    pub fn boot(kernel: &Path, archive: &Path, dir: &Path) -> Self {
        let (console, results) = (dir.join("console.txt"), dir.join("results.txt"));
        let serial = |path: &Path| format!("file:{}", path.display());
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2560"]);
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-nic", "none"]);
        qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(archive);
        qemu.args(["-append", "console=ttyS0 loglevel=5 panic=-1 mitigations=off"]);
        qemu.args(["-serial", &serial(&console), "-serial", &serial(&results)]);
        let mut child = qemu.stdin(Stdio::null()).spawn().expect("qemu-system-x86 is installed: `make test-v2` does");
        let start = Instant::now();
        let end = loop {
            if let Some(status) = child.try_wait().expect("our own child") {
                break format!("qemu ended with {status}");
            }
            if start.elapsed() > LIMIT {
                child.kill().expect("our own child");
                child.wait().expect("our own child");
                break format!("it did not end in {} seconds", LIMIT.as_secs());
            }
            thread::sleep(Duration::from_millis(20));
        };
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).replace('\r', "");
        Self { done: parse(&text(&results)), console: format!("{}\n{end}", text(&console)) }
    }

    /// How a job went.
    pub fn done(&self, name: &str) -> Done {
        self.done.get(name).cloned().unwrap_or_default()
    }

    /// What the kernel said.
    pub fn console(&self) -> &str {
        &self.console
    }
}

/// Reads the marks that init.sh sets.
fn parse(results: &str) -> BTreeMap<String, Done> {
    let mut all: BTreeMap<String, Done> = BTreeMap::new();
    let mut name = String::new();
    for line in results.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["@@", "begin", begun] => {
                name = (*begun).to_owned();
                all.insert(name.clone(), Done::default());
            }
            ["@@", "end", ended, status, seconds] if *ended == name => {
                let done = all.entry(name.clone()).or_default();
                (done.status, done.seconds) = (status.parse().ok(), seconds.parse().unwrap_or(0));
                name.clear();
            }
            _ => {
                if let Some(done) = all.get_mut(&name) {
                    done.output += line;
                    done.output.push('\n');
                }
            }
        }
    }
    all
}
