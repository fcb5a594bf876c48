//! A terminal for a program that wants one: a pseudo-terminal whose other side the test reads, types on and resizes.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

/// A program on a terminal.
pub struct Terminal {
    master: File,
    child: Child,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Runs a command on a new terminal of this size. `setsid -c` makes it the controlling one.
    pub fn run(command: &Command, rows: u16, columns: u16) -> Self {
        let master: OwnedFd =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a free pty");
        grantpt(&master).expect("our own pty");
        unlockpt(&master).expect("our own pty");
        let name = ptsname(&master, Vec::new()).expect("our own pty").into_string().expect("an ASCII name");
        tcsetwinsize(&master, size(rows, columns)).expect("our own pty");
        let side = || Stdio::from(OpenOptions::new().read(true).write(true).open(&name).expect("our own pty"));
        let mut wrapped = Command::new("setsid");
        wrapped.arg("--ctty").arg("--wait").arg(command.get_program()).args(command.get_args());
        wrapped.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        wrapped.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let child = wrapped.stdin(side()).stdout(side()).stderr(side()).spawn().expect("util-linux is installed");
        let master = File::from(master);
        let screen = Arc::new(Mutex::new(vec![]));
        let (mut reader, into) = (master.try_clone().expect("a descriptor"), screen.clone());
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                into.lock().expect("readers do not panic").extend_from_slice(&buffer[..length]);
            }
        });
        Self { master, child, screen }
    }

    /// Everything shown so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().expect("readers do not panic")).into_owned()
    }

    /// Waits until the words are shown after what was shown before them.
    #[track_caller]
    pub fn wait_for(&self, words: &str) {
        self.wait_for_after(0, words);
    }

    /// Waits until the words are shown behind the first so many bytes.
    #[track_caller]
    pub fn wait_for_after(&self, bytes: usize, words: &str) {
        let start = Instant::now();
        while !self.shown().get(bytes..).is_some_and(|text| text.contains(words)) {
            assert!(start.elapsed() < Duration::from_secs(30), "no {words:?} on the terminal:\n{}", self.shown());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Types a line or a key, and returns how much was shown before.
    pub fn press(&mut self, keys: &str) -> usize {
        let shown = self.shown().len();
        self.master.write_all(keys.as_bytes()).expect("the terminal is open");
        shown
    }

    /// Types a line and waits for an answer that the echo of the line itself does not have.
    #[track_caller]
    pub fn ask(&mut self, line: &str, answer: &str) {
        let before = self.press(&format!("{line}\n"));
        self.wait_for_after(before, answer);
    }

    /// Gives the terminal a new size.
    pub fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.master, size(rows, columns)).expect("our own pty");
    }

    /// Tells the program that its terminal is gone.
    pub fn hang_up(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, signal).expect("our own child");
    }

    /// Lines are edited by the terminal: no program has it in raw mode.
    pub fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.master).expect("our own pty").local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Waits for the end; its exit code.
    #[track_caller]
    pub fn finish(mut self) -> i32 {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status.code().unwrap_or(-1);
            }
            assert!(start.elapsed() < Duration::from_secs(60), "it does not end:\n{}", self.shown());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Errors: it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
