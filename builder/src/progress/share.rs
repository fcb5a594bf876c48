//! What one step prints, told to others who wait for it.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use super::{Event, Progress, Running};

/// Those who listen to a step.
#[derive(Debug, Clone, Default)]
pub struct Sharing {
    listeners: Arc<Mutex<Listeners>>,
}

#[derive(Debug, Default)]
struct Listeners {
    next: u64,
    all: Vec<(u64, Progress, u32)>,
}

/// One who listens, until it is dropped.
#[derive(Debug)]
pub struct Listening {
    sharing: Sharing,
    number: u64,
}

impl Sharing {
    /// Tells what is printed from now on as output of this step, too.
    pub fn listen(&self, running: &Running) -> Listening {
        let mut listeners = self.listeners();
        let number = listeners.next;
        listeners.next += 1;
        listeners.all.push((number, running.progress.clone(), running.step));
        drop(listeners);
        Listening { sharing: self.clone(), number }
    }

    pub(super) fn tell(&self, is_stderr: bool, chunk: &Bytes) {
        for (_, progress, step) in &self.listeners().all {
            progress.tell(Event::Output { step: *step, is_stderr, chunk: chunk.clone() });
        }
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().expect("no holder of this lock panics")
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut listeners = self.sharing.listeners();
        listeners.all.retain(|(number, ..)| *number != self.number);
    }
}
