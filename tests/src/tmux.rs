//! A terminal as people have one: a shell in tmux, which makes a screen of what programs write, so that a test sees what a
//! person would. Its server is the test's own and ends with it. Where the bytes matter and not the picture, there is `Terminal`.

use std::{
    env, fs,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{House, Output, Running, binaries, eventually};

/// Two slow cores have many tests to run.
const PATIENCE: Duration = Duration::from_secs(90);

/// The one window there is.
const WINDOW: &str = "main";

/// What the shell says when it waits.
const PROMPT: &str = "host>";

/// A shell on a screen, in the environment of a house, where `ctl` is on PATH. It must go before its house does.
pub struct Tmux<'a> {
    house: &'a House,
    socket: PathBuf,
    server: i32,
}

impl<'a> Tmux<'a> {
    /// Starts a server, and a shell on a screen of this size.
    #[track_caller]
    pub fn start(house: &'a House, rows: u16, columns: u16) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let socket = house.path(&format!("tmux{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let mut tmux = Self { house, socket, server: 0 };
        let path = format!("{}:{}", binaries().display(), env::var("PATH").expect("there is a PATH"));
        let mut command = tmux.command(&["-f", "/dev/null", "new-session", "-d", "-s", WINDOW]);
        command.args(["-x", &columns.to_string(), "-y", &rows.to_string(), "bash", "--norc", "--noprofile"]);
        command.env("PATH", path).env("PS1", format!("{PROMPT} ")).env_remove("PROMPT_COMMAND");
        Running::spawn(command).finish().ok();
        tmux.server = tmux.ask("#{pid}").parse().expect("a server has a number");
        tmux.wait_for_prompt();
        tmux
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.house.command("tmux");
        // What it prints is UTF-8, whatever the locale of whoever runs the tests. TMUX would be the tmux of that person.
        command.arg("-u").arg("-S").arg(&self.socket).args(words).env_remove("TMUX");
        command
    }

    #[track_caller]
    fn call(&self, words: &[&str]) -> Output {
        Running::spawn(self.command(words)).finish().ok()
    }

    /// What tmux says of the window.
    #[track_caller]
    fn ask(&self, format: &str) -> String {
        self.call(&["display-message", "-p", "-t", WINDOW, format]).text().to_owned()
    }

    /// What is on the screen: its lines, without blanks at their ends.
    #[track_caller]
    pub fn screen(&self) -> String {
        self.call(&["capture-pane", "-p", "-t", WINDOW]).stdout
    }

    /// The same with one blank for each run of them.
    #[track_caller]
    pub fn words(&self) -> String {
        self.screen().lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
    }

    /// Whether a program has the whole screen, from which the shell's comes back.
    #[track_caller]
    pub fn is_taken(&self) -> bool {
        self.ask("#{alternate_on}") == "1"
    }

    /// Presses keys by tmux's names for them: "C-c", "Enter", "j".
    #[track_caller]
    pub fn press(&self, keys: &[&str]) {
        self.call(&[&["send-keys", "-t", WINDOW], keys].concat());
    }

    /// Types a text as it is.
    #[track_caller]
    pub fn write(&self, text: &str) {
        self.call(&["send-keys", "-t", WINDOW, "-l", "--", text]);
    }

    /// Types a line.
    #[track_caller]
    pub fn line(&self, text: &str) {
        self.write(text);
        self.press(&["Enter"]);
    }

    /// Types a line, and waits for an answer that the line itself does not have.
    #[track_caller]
    pub fn run(&self, line: &str, answer: &str) {
        assert!(!line.contains(answer), "the echo of {line:?} has {answer:?}");
        self.line(line);
        self.wait_for(answer);
    }

    /// Gives the window another size.
    #[track_caller]
    pub fn resize(&self, rows: u16, columns: u16) {
        self.call(&["resize-window", "-t", WINDOW, "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// Waits until words are on the screen, with one blank for each run of them.
    #[track_caller]
    pub fn wait_for(&self, words: &str) {
        self.wait_until(&format!("{words:?} is there"), |screen| screen.contains(words));
    }

    /// Waits until the shell of the screen waits for a line, and no program of it has the keys.
    #[track_caller]
    pub fn wait_for_prompt(&self) {
        self.wait_until("the shell that waits", |screen| screen.trim_end().ends_with(PROMPT));
    }

    /// Waits until the screen is so; see [`Self::words`].
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut holds: impl FnMut(&str) -> bool) {
        let start = Instant::now();
        loop {
            let words = self.words();
            if holds(&words) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "not on the screen: {what}\n{}", self.screen());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a program has taken the screen, or given it back.
    #[track_caller]
    pub fn wait_for_screen(&self, taken: bool) {
        let start = Instant::now();
        while self.is_taken() != taken {
            assert!(start.elapsed() < PATIENCE, "the screen is not taken ({taken}):\n{}", self.screen());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        // Errors: it has ended, as its last shell has.
        let _ = self.command(&["kill-server"]).output();
        if self.server != 0 && !thread::panicking() {
            // What has no arguments any more is a zombie, if that.
            let line = format!("/proc/{}/cmdline", self.server);
            eventually("tmux ends", PATIENCE, || fs::read(&line).unwrap_or_default().is_empty());
        }
    }
}
