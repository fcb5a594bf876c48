//! Who writes a record has its turn: two that write one at a time would take each other's temporary file away, and the older
//! copy could come last.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use strata_types::ContainerId;

/// What is on the disk of a record.
#[derive(Debug, Default)]
pub struct Last {
    /// The revision that was written last.
    pub written: u64,
    /// The last one that is known to survive a crash of the host.
    pub synced: u64,
}

/// The turns of all records. Those of a container begin with its first write in this process, and end with its removal.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<ContainerId, Arc<Mutex<Last>>>>);

impl Turns {
    /// Does something with a record while nobody else does.
    pub fn take<T>(&self, id: &ContainerId, act: impl FnOnce(&mut Last) -> T) -> T {
        let turn = lock(&self.0).entry(id.clone()).or_default().clone();
        act(&mut lock(&turn))
    }

    /// Forgets a container that is no more.
    pub fn end(&self, id: &ContainerId) {
        lock(&self.0).remove(id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What a panic left is as it was between two turns.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
