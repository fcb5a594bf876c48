//! Programs that tests run: their output is collected while they run, and none outlives its test.

use std::{
    fmt,
    io::{Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// No command of a test takes longer.
const DEADLINE: Duration = Duration::from_secs(300);

/// Waits until the claim holds; says which one did not.
#[track_caller]
pub fn eventually(what: &str, time: Duration, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < time, "not within {time:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// What a program said and how it ended.
#[derive(Clone)]
pub struct Output {
    /// What was run, for failures.
    pub command: String,
    /// Its exit code; 128 + n for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, code, stdout, stderr, took } = self;
        writeln!(f, "{command}\n  exit code {code} after {took:?}")?;
        write!(f, "--- stdout\n{stdout}--- stderr\n{stderr}---")
    }
}

impl Output {
    /// Insists on exit code 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// Insists on this exit code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// Insists on a failure.
    #[track_caller]
    pub fn fails(self) -> Self {
        assert_ne!(self.code, 0, "should have failed: {self:?}");
        self
    }

    /// Insists on these words in standard error.
    #[track_caller]
    pub fn complains(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in the error of {self:?}");
        }
        self
    }

    /// Insists on these words in standard output.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stdout.contains(word), "no {word:?} in the output of {self:?}");
        }
        self
    }

    /// Standard output without the last line break.
    pub fn text(&self) -> &str {
        self.stdout.trim_end_matches('\n')
    }

    /// Both streams.
    pub fn both(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|err| panic!("{err} in {self:?}"))
    }
}

type Shared = Arc<Mutex<Vec<u8>>>;

/// A program that runs. Dropping it kills it.
pub struct Running {
    command: String,
    child: Child,
    out: Shared,
    err: Shared,
    readers: Vec<JoinHandle<()>>,
    start: Instant,
}

fn collect(mut from: impl Read + Send + 'static, into: &Shared) -> JoinHandle<()> {
    let into = into.clone();
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            into.lock().expect("readers do not panic").extend_from_slice(&buffer[..length]);
        }
    })
}

fn text(bytes: &Shared) -> String {
    String::from_utf8_lossy(&bytes.lock().expect("readers do not panic")).into_owned()
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

impl Running {
    /// Starts it; standard input is empty unless the command says otherwise.
    #[track_caller]
    pub fn spawn(mut command: Command) -> Self {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let name = format!("{} {}", command.get_program().to_string_lossy(), words.join(" "));
        let start = Instant::now();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|err| panic!("cannot run {name}: {err}"));
        let (out, err) = (Shared::default(), Shared::default());
        let readers = vec![
            collect(child.stdout.take().expect("it is piped"), &out),
            collect(child.stderr.take().expect("it is piped"), &err),
        ];
        Self { command: name, child, out, err, readers, start }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        text(&self.out)
    }

    /// Standard error so far.
    pub fn stderr(&self) -> String {
        text(&self.err)
    }

    /// Waits for words in either stream.
    #[track_caller]
    pub fn wait_for(&mut self, words: &str) {
        let start = Instant::now();
        loop {
            if self.stdout().contains(words) || self.stderr().contains(words) {
                return;
            }
            let ended = self.child.try_wait().expect("our own child");
            assert!(
                ended.is_none() && start.elapsed() < DEADLINE / 3,
                "{}: no {words:?} ({ended:?})\n--- stdout\n{}--- stderr\n{}",
                self.command,
                self.stdout(),
                self.stderr()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Writes to its standard input, which must be piped.
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().expect("standard input is piped");
        stdin.write_all(bytes).expect("it reads its input");
    }

    /// Writes to its standard input what it will read: a process that fails at once reads nothing.
    pub fn offer(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().expect("standard input is piped");
        match stdin.write_all(bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            written => written.expect("it reads its input, or is gone"),
        }
    }

    /// Ends its standard input.
    pub fn close(&mut self) {
        self.child.stdin = None;
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        // An ended child stays ours until it is waited for.
        let _ = kill(Pid::from_raw(self.pid()), signal);
    }

    /// Does it still run?
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn finish(self) -> Output {
        self.finish_within(DEADLINE)
    }

    /// Waits for its end, for so long.
    #[track_caller]
    pub fn finish_within(mut self, time: Duration) -> Output {
        self.child.stdin = None;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                break status;
            }
            if self.start.elapsed() > time {
                let said = format!("{} does not end\n{}{}", self.command, self.stdout(), self.stderr());
                drop(self);
                panic!("{said}");
            }
            thread::sleep(Duration::from_millis(2));
        };
        let took = self.start.elapsed();
        // A service that was started inherits nothing, so the streams end with the program.
        let patience = Instant::now();
        while self.readers.iter().any(|reader| !reader.is_finished()) && patience.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(1));
        }
        let held = self.readers.iter().any(|reader| !reader.is_finished());
        assert!(!held, "{} ended, and something still holds its output", self.command);
        Output { command: self.command.clone(), code: code(status), stdout: self.stdout(), stderr: self.stderr(), took }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Errors: it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
