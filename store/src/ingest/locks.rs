//! Who works on what: turns by blob and by diff-id, and how many layers at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use strata_types::Digest;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// Something that one request at a time works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Blob(Digest),
    /// Contents of a layer that come from another store.
    Contents(Digest),
    Layer(Digest),
}

/// Turns and permits of one store.
#[derive(Debug)]
pub(crate) struct Ingests {
    turns: Mutex<HashMap<Key, Weak<AsyncMutex<()>>>>,
    permits: Arc<Semaphore>,
}

impl Default for Ingests {
    fn default() -> Self {
        // Each layer has threads that inflate, hash and write; more layers than cores only take memory.
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self { turns: Mutex::default(), permits: Arc::new(Semaphore::new(cores.clamp(2, 8))) }
    }
}

impl Ingests {
    /// Waits for the turn at a key; it ends with the guard.
    pub(crate) async fn turn(&self, key: Key) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            match turns.get(&key).and_then(Weak::upgrade) {
                Some(turn) => turn,
                None => {
                    turns.retain(|_, turn| turn.strong_count() > 0);
                    let turn = Arc::new(AsyncMutex::new(()));
                    turns.insert(key, Arc::downgrade(&turn));
                    turn
                }
            }
        };
        turn.lock_owned().await
    }

    /// Waits until one more layer may be worked on.
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }
}
