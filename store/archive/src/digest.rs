//! SHA-256 on a second thread: the stream's owner fills chunks, the thread hashes them.
//! At most [`QUEUE`] chunks wait, and chunks are reused, so memory stays at a few MiB.

use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

pub(crate) const CHUNK: usize = 256 * 1024;
const QUEUE: usize = 4;
const RING: usize = QUEUE + 3;

type Job = (Arc<Vec<u8>>, usize);

/// Hashes a stream that is handed over chunk by chunk.
pub(crate) struct Digesting {
    ring: Vec<Arc<Vec<u8>>>,
    current: usize,
    thread: Option<(SyncSender<Job>, JoinHandle<[u8; 32]>)>,
}

impl Digesting {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = sync_channel::<Job>(QUEUE);
        let thread = std::thread::spawn(move || {
            let mut hash = Sha256::new();
            while let Ok((chunk, length)) = receiver.recv() {
                hash.update(&chunk[..length]);
            }
            hash.finalize().into()
        });
        Self { ring: Vec::new(), current: 0, thread: Some((sender, thread)) }
    }

    /// Returns the current chunk as it was filled.
    pub(crate) fn chunk(&self) -> &[u8] {
        self.ring.get(self.current).map_or(&[], |chunk| chunk.as_slice())
    }

    /// Moves on to a chunk that nobody reads any more.
    pub(crate) fn next(&mut self) -> &mut [u8] {
        if self.ring.len() < RING {
            self.ring.push(Arc::new(vec![0; CHUNK]));
            self.current = self.ring.len() - 1;
        } else {
            self.current = (self.current + 1) % RING;
        }
        self.current_mut()
    }

    /// Returns the current chunk for writing; valid until it is submitted.
    pub(crate) fn current_mut(&mut self) -> &mut [u8] {
        let slot = &mut self.ring[self.current];
        if Arc::get_mut(slot).is_none() {
            *slot = Arc::new(vec![0; CHUNK]);
        }
        Arc::get_mut(slot).expect("a slot without other owners was just ensured")
    }

    /// Hands the first `length` bytes of the current chunk to the hashing thread.
    pub(crate) fn submit(&self, length: usize) {
        if let Some((sender, _)) = &self.thread {
            // The thread ends only when the sender is dropped.
            let _ = sender.send((Arc::clone(&self.ring[self.current]), length));
        }
    }

    /// Returns the digest of everything submitted.
    pub(crate) fn finish(mut self) -> [u8; 32] {
        let (sender, thread) = self.thread.take().expect("finish consumes the only handle");
        drop(sender);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Digesting {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}

/// Formats a SHA-256 as a digest string.
pub(crate) fn sha256_text(digest: &[u8; 32]) -> String {
    format!("sha256:{}", hex::encode(digest))
}
