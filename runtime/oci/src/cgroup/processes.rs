//! The processes of a cgroup: listed, frozen, killed; and the removal of what they leave.

use std::{
    fs, io,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Cgroup, Error, Version, is_gone, keyed, read, write};

impl Cgroup {
    /// Returns every process in the cgroup and below it, ascending.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        let mut pids = Vec::new();
        for directory in &self.directories {
            collect_pids(&directory.path, &mut pids)?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Says whether no process is left in the cgroup or below it.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.pids()?.is_empty())
    }

    /// Kills every process in the cgroup and below it, and waits until none is left.
    ///
    /// Zombies nobody reaps count as gone on v2 only; the monitor reaps its own.
    pub fn kill_all(&self) -> Result<(), Error> {
        let mut wait = Duration::from_micros(200);
        for _ in 0..16 {
            if self.kill_once()? {
                return Ok(());
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(Duration::from_millis(250));
        }
        let path = self.directories.first().map(|directory| directory.path.clone()).unwrap_or_default();
        if self.is_empty()? { Ok(()) } else { Err(Error::Unkillable { path }) }
    }

    /// Sends one round of SIGKILL; true if there was nobody to send it to.
    fn kill_once(&self) -> Result<bool, Error> {
        if self.is_empty()? {
            return Ok(true);
        }
        if self.version == Version::V2 {
            let kill = self.directories[0].path.join("cgroup.kill");
            match fs::write(&kill, "1") {
                Ok(()) => return self.is_empty(),
                // cgroup.kill came with Linux 5.14
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(source) => return Err(Error::Io { action: "write", path: kill, source }),
            }
        }
        self.signal_all(Signal::KILL)
    }

    /// Sends a signal to every process in the cgroup and below it; true if there was none.
    ///
    /// They are frozen meanwhile, as they cannot fork then: one pass reaches them all, who get it when thawed.
    pub fn signal_all(&self, signal: Signal) -> Result<bool, Error> {
        let was_frozen = self.is_frozen().unwrap_or(false);
        let frozen = was_frozen || self.freeze().is_ok();
        let pids = self.pids();
        for pid in pids.iter().flatten().filter_map(|pid| Pid::from_raw(*pid)) {
            // ESRCH: it ended by itself in the meantime.
            let _ = kill_process(pid, signal);
        }
        // A paused container stays paused, but for a signal that must reach it.
        if frozen && (!was_frozen || signal == Signal::KILL) {
            self.thaw()?;
        }
        pids.map(|pids| pids.is_empty())
    }

    /// Stops every process of the cgroup until [`Cgroup::thaw`], and waits until they stand still.
    pub fn freeze(&self) -> Result<(), Error> {
        self.set_frozen("1", "FROZEN")
    }

    /// Lets frozen processes go on.
    pub fn thaw(&self) -> Result<(), Error> {
        self.set_frozen("0", "THAWED")
    }

    /// Says whether the processes are frozen, or were told to be.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        let directory = self.directory("freezer", "the state of the container")?;
        match directory.version {
            Version::V1 => Ok(read(&directory.path.join("freezer.state"))?.trim() != "THAWED"),
            Version::V2 => Ok(read(&directory.path.join("cgroup.freeze"))?.trim() == "1"),
        }
    }

    fn set_frozen(&self, v2: &str, v1: &str) -> Result<(), Error> {
        let directory = self.directory("freezer", "the state of the container")?;
        let is_v2 = directory.version == Version::V2;
        let (file, value) = if is_v2 { ("cgroup.freeze", v2) } else { ("freezer.state", v1) };
        let path = directory.path.join(file);
        let done = || -> Result<bool, Error> {
            if !is_v2 {
                return Ok(read(&path)?.trim() == v1);
            }
            let events = read(&directory.path.join("cgroup.events"))?;
            Ok(keyed(&events, "frozen") == v2.parse().ok())
        };
        let mut wait = Duration::from_micros(100);
        for _ in 0..14 {
            // v1 must be told again while FREEZING: a process that forked meanwhile is only caught then.
            write(&path, value)?;
            if done()? {
                return Ok(());
            }
            std::thread::sleep(wait);
            wait *= 2;
        }
        if v1 == "FROZEN" {
            // Half a freeze helps nobody.
            let _ = write(&path, if is_v2 { "0" } else { "THAWED" });
        }
        Err(Error::Io { action: "freeze or thaw by", path, source: io::Error::from(ErrorKind::TimedOut) })
    }

    /// Removes the cgroup if nothing is in it: the kernel refuses to remove one that has processes or children. False if
    /// something is left, and then the freezer too, which goes last because it is needed to kill what is left.
    pub fn remove_empty(&self) -> bool {
        let freezer = self.directory("freezer", "").map(|directory| directory.path.as_path()).ok();
        let others = self.directories.iter().map(|directory| directory.path.as_path());
        let others = others.filter(|path| Some(*path) != freezer);
        others.chain(freezer).all(|path| fs::remove_dir(path).map_or_else(|error| is_gone(&error), |()| true))
    }

    /// Removes the cgroup and what its processes made below it; absent is fine.
    ///
    /// The kernel says EBUSY for a moment after the last process ended, so this waits up to a second.
    pub fn remove(&self) -> Result<(), Error> {
        self.directories.iter().try_for_each(|directory| remove_tree(&directory.path))
    }
}

pub(super) fn collect_pids(directory: &Path, pids: &mut Vec<i32>) -> Result<(), Error> {
    let path = directory.join("cgroup.procs");
    match fs::read_to_string(&path) {
        Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0)),
        // ENODEV: removed while it was open.
        Err(error) if is_gone(&error) => return Ok(()),
        // EOPNOTSUPP: the threads of a threaded cgroup are listed with their processes, further up.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => {}
        Err(source) => return Err(Error::Io { action: "read", path, source }),
    }
    children(directory)?.iter().try_for_each(|child| collect_pids(child, pids))
}

fn children(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        Err(source) => return Err(Error::Io { action: "read", path: directory.to_owned(), source }),
    };
    let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(directories.map(|entry| entry.path()).collect())
}

fn remove_tree(directory: &Path) -> Result<(), Error> {
    let mut wait = Duration::from_micros(200);
    for attempt in 0.. {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ResourceBusy && attempt < 13 => {
                children(directory)?.iter().try_for_each(|child| remove_tree(child))?;
                std::thread::sleep(wait);
                wait = (wait * 2).min(Duration::from_millis(200));
            }
            Err(source) => return Err(Error::Io { action: "remove", path: directory.to_owned(), source }),
        }
    }
    Ok(())
}
