//! Descriptions are written together: as soon as somebody waits for one, else when some have come or a moment has passed.
//! A step of a build so costs one commit of the catalog, that of its layer.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strata_archive::Toc;
use strata_types::LayerId;
use tokio::sync::{Notify, oneshot};

use crate::catalog::{Description, blocking};
use crate::disk::Sync;
use crate::{Result, Store};

/// How long descriptions that nobody waits for are kept back.
const PATIENCE: Duration = Duration::from_millis(500);
/// No more of them are kept back.
const MOST: usize = 64;
/// Nor more bytes of their tables of contents.
const MOST_BYTES: usize = 8 << 20;

/// Descriptions on their way to the catalog.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pending: Mutex<Vec<Described>>,
    /// How many wait for a description.
    waiting: AtomicUsize,
    hurry: Notify,
}

/// A description, with its table of contents as bytes and as a table.
#[derive(Debug)]
pub(super) struct Described {
    pub description: Description,
    pub bytes: Vec<u8>,
    pub toc: Toc,
    /// Told when it is written, or why it is not.
    pub written: oneshot::Sender<Result<(), String>>,
}

/// Somebody who waits, until it is dropped.
pub(super) struct Wait<'a>(&'a Batch);

impl Batch {
    /// Nothing is kept back while this is held.
    pub(super) fn wait(&self) -> Wait<'_> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.hurry.notify_one();
        Wait(self)
    }

    /// Takes a description in. It is written soon.
    pub(super) fn push(&self, store: &Arc<Store>, described: Described) {
        let (is_first, is_much) = {
            let mut pending = self.pending.lock().unwrap_or_else(|poison| poison.into_inner());
            pending.push(described);
            let bytes: usize = pending.iter().map(|one| one.bytes.len()).sum();
            (pending.len() == 1, pending.len() >= MOST || bytes >= MOST_BYTES)
        };
        if is_much {
            self.hurry.notify_one();
        }
        if is_first {
            let (store, busy) = (Arc::clone(store), store.idle.busy());
            let drain = store.drain.clone();
            drain.spawn(async move {
                store.layers.batch.write(&store).await;
                drop(busy);
            });
        }
    }

    async fn write(&self, store: &Arc<Store>) {
        if self.waiting.load(Ordering::Acquire) == 0 {
            tokio::select! {
                () = self.hurry.notified() => {}
                () = tokio::time::sleep(PATIENCE) => {}
                () = store.drain.cancelled() => {}
            }
        }
        let all = mem::take(&mut *self.pending.lock().unwrap_or_else(|poison| poison.into_inner()));
        let (mut written, mut parts, mut tables) = (Vec::new(), Vec::new(), Vec::new());
        for one in all {
            tables.push((one.description.id.clone(), one.toc));
            parts.push((one.description, one.bytes));
            written.push(one.written);
        }
        let outcome = record(store, parts).await.map_err(|error| strata_rpc::fault::chain(&error));
        if outcome.is_ok() {
            index(store, tables);
        }
        for one in written {
            // Who no longer waits has no use for it.
            let _ = one.send(outcome.clone());
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Stores what archives of layers are, in one commit.
pub(super) async fn record(store: &Arc<Store>, parts: Vec<(Description, Vec<u8>)>) -> Result<()> {
    // The collector must not take a file whose row is about to come.
    let _guard = store.placing.read().await;
    let mut descriptions = Vec::with_capacity(parts.len());
    for (description, bytes) in parts {
        crate::blob::place(store, bytes, description.toc, Sync::Later).await?;
        descriptions.push(description);
    }
    store.catalog.describe_layers(descriptions).await
}

/// Puts what layers hold into the index of contents, behind: nobody who waits for the layers needs it.
pub(super) fn index(store: &Arc<Store>, tables: Vec<(LayerId, Toc)>) {
    store.contents.begin_record();
    let (recording, busy) = (Recording(Arc::clone(store)), store.idle.busy());
    store.drain.spawn(async move {
        let recorded = blocking(move || {
            tables.iter().try_for_each(|(id, toc)| {
                let contents =
                    toc.contents().map(|(path, size, blake3)| (blake3::Hash::from_bytes(blake3), path, size));
                recording.0.contents.record(id.as_str(), contents)
            })
        })
        .await;
        if let Err(error) = recorded {
            // The index can be made again; the layers are as good without.
            tracing::warn!("cannot index the contents of layers: {}", strata_rpc::fault::chain(&error));
        }
        drop(busy);
    });
}

/// Ends a recording, however it ended.
struct Recording(Arc<Store>);

impl Drop for Recording {
    fn drop(&mut self) {
        self.0.contents.end_record();
    }
}
