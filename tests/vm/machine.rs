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

use crate::{
    job::{Done, Job},
    root::{made, pack},
};

/// Far more than a guest takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(900);

/// A guest that has done its jobs.
pub struct Machine {
    done: BTreeMap<String, Done>,
    /// What the kernel said, and on how it ended.
    console: String,
}

impl Machine {
    /// Boots Debian from a tar, with our binaries in it, to the end of these jobs.
    pub fn boot(debian: &Path, jobs: &[Job]) -> Self {
        Self::boot_with("", debian, jobs)
    }

    /// The same, with more words for the kernel and its first process.
    pub fn boot_with(words: &str, debian: &Path, jobs: &[Job]) -> Self {
        let dir = tempfile::Builder::new().prefix("strata-vm-").tempdir_in("/var/tmp").expect("/var/tmp is there");
        let file = |name| dir.path().join(name);
        let (archive, console, results) = (file("root.cpio"), file("console.txt"), file("results.txt"));
        pack(debian, jobs, &archive).expect("the archive can be written");
        let serial = |path: &Path| format!("file:{}", path.display());
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2560"]);
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-nic", "none"]);
        qemu.arg("-kernel").arg(made("vm/vmlinuz")).arg("-initrd").arg(archive);
        qemu.args(["-append", &format!("console=ttyS0 loglevel=5 panic=-1 mitigations=off {words}")]);
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

    /// How a job went, which must be well.
    #[track_caller]
    pub fn done(&self, name: &str) -> Done {
        let done = self.done.get(name).cloned().unwrap_or_default();
        println!("{name}: {} seconds\n{}", done.seconds, done.output);
        assert!(done.status == Some(0), "{name} ended with {:?}\n--- console\n{}", done.status, self.console);
        done
    }

    /// A job that ran tests: some, and all passed.
    #[track_caller]
    pub fn passes(&self, name: &str) {
        assert!(self.done(name).passed() > 0, "{name} ran no test");
    }
}

/// Reads the marks that work.sh sets.
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
