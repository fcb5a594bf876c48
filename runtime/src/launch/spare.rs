//! A monitor made ahead: while a step of a build runs, the process that will keep the next one starts, and waits for its
//! plan. One that nobody needs ends after a moment; so does every one whose service ends, because its socket is closed.

use std::{
    os::unix::net::UnixStream,
    process::Child,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A monitor without a plan.
#[derive(Debug)]
pub(super) struct Spare {
    pub child: Child,
    /// Our end of the socketpair.
    pub stream: UnixStream,
}

/// At most one of them.
#[derive(Debug, Default)]
pub(super) struct Spares {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    spare: Option<Spare>,
    /// How many there have been.
    made: u64,
}

impl Spares {
    /// Takes it, if there is one and it lives.
    pub(super) fn take(&self) -> Option<Spare> {
        let mut spare = self.known().spare.take()?;
        // One that has ended by itself is reaped by this look.
        matches!(spare.child.try_wait(), Ok(None)).then_some(spare)
    }

    /// Keeps one for the next container; returns its number. Another one that is there ends.
    pub(super) fn keep(&self, spare: Spare) -> u64 {
        let (former, number) = {
            let mut known = self.known();
            known.made += 1;
            (known.spare.replace(spare), known.made)
        };
        former.into_iter().for_each(end);
        number
    }

    /// Ends the one of this number, unless it was taken.
    pub(super) fn expire(&self, number: u64) {
        let spare = {
            let mut known = self.known();
            if known.made == number { known.spare.take() } else { None }
        };
        spare.into_iter().for_each(end);
    }

    /// Whether there is one.
    pub(super) fn is_there(&self) -> bool {
        self.known().spare.is_some()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end(spare: Spare) {
    let Spare { mut child, stream } = spare;
    drop(stream);
    // It ends by itself without its socket; this is quicker.
    let _ended_already = child.kill();
    let _status = child.wait();
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn spare() -> Spare {
        let (stream, theirs) = UnixStream::pair().expect("a pair of sockets");
        let stdin = Stdio::from(std::os::fd::OwnedFd::from(theirs));
        let child = Command::new("cat").stdin(stdin).stdout(Stdio::null()).spawn().expect("cat is there");
        Spare { child, stream }
    }

    fn is_running(pid: u32) -> bool {
        std::path::Path::new(&format!("/proc/{pid}")).exists()
    }

    #[test]
    fn a_spare_is_taken_once_and_the_next_one_takes_its_place() {
        let spares = Spares::default();
        let first = spare();
        let gone = first.child.id();

        spares.keep(first);
        let number = spares.keep(spare());
        let taken = spares.take().expect("it was kept");

        assert!(!is_running(gone), "the one before it ended");
        assert!(spares.take().is_none());
        spares.expire(number);
        assert!(is_running(taken.child.id()), "who took it has it");
        end(taken);
    }

    #[test]
    fn one_that_nobody_takes_ends_when_its_time_is_over_and_no_other_one() {
        let spares = Spares::default();
        let former = spares.keep(spare());
        let pid = {
            let kept = spare();
            let pid = kept.child.id();
            spares.keep(kept);
            pid
        };

        spares.expire(former);
        assert!(spares.is_there() && is_running(pid));
        spares.expire(former + 1);

        assert!(!spares.is_there() && !is_running(pid));
    }

    #[test]
    fn one_that_ended_by_itself_is_not_taken() {
        let spares = Spares::default();
        let mut dead = spare();
        dead.child.kill().expect("it runs");
        dead.child.wait().expect("it is ours");

        spares.keep(dead);

        assert!(spares.take().is_none());
    }
}
