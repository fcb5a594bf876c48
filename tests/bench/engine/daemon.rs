//! A daemon of a peer: started in the room, with its state and log in our directory, and ended with its engine.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    Outcome,
    room::{self, Room},
};

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(20);

/// A daemon that runs.
pub(super) struct Daemon {
    name: &'static str,
    log: PathBuf,
    room: Room,
    child: Child,
}

impl Daemon {
    /// Starts it.
    pub(super) fn start(name: &'static str, mut command: Command, home: &Path, room: &Room) -> Outcome<Self> {
        let path = home.join("log");
        let log = File::create(&path)?;
        command.env("TMPDIR", home).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self { name, log: path, room: room.clone(), child: room.spawn(command)? })
    }

    /// Waits until it answers this question.
    pub(super) fn wait_until_ready(&mut self, question: impl Fn() -> Command) -> Outcome<()> {
        let start = Instant::now();
        loop {
            let Err(err) = self.room.finish(question()) else { return Ok(()) };
            if self.child.try_wait()?.is_some() || start.elapsed() > START {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(3).collect();
                return Err(format!("{} does not start: {err}: {}", self.name, last.join(" | ")).into());
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Ends it, unless it has ended.
    pub(super) fn stop(&mut self) -> Outcome<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)?;
        match room::wait(&mut self.child, STOP)? {
            Some(_) => Ok(()),
            None => Err(format!("{} did not stop and was killed", self.name).into()),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // close() has said what went wrong; this is for the ways that did not get there.
        let _ = self.stop();
    }
}
