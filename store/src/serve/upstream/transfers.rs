//! Blobs on their way through: each is fetched once, however many clients want it, and they read it while it comes.
//!
//! What a client gets is read from the file that is being written. Its last byte is held back until all are known to be
//! the right ones: of a blob that is wrong, nobody ever has the whole. A fetch goes on when its clients have left.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, stream};
use strata_registry::Repository;
use strata_rpc::fault::chain;
use strata_types::{Descriptor, Digest};
use tokio::sync::watch;

use crate::catalog::blocking;
use crate::ingest::{self, Order, Report, Step, Writeback};
use crate::lease::{GRACE, Session};
use crate::remote::Source;
use crate::serve::Fault;
use crate::{Error, Result, Store, blob};

/// Bytes that are read at a time.
const PIECE: u64 = 256 * 1024;

/// The blobs that are being fetched.
#[derive(Clone, Debug, Default)]
pub(in crate::serve) struct Transfers(Arc<Mutex<HashMap<Digest, watch::Receiver<State>>>>);

/// How far a blob is.
#[derive(Clone, Debug)]
enum State {
    /// Nothing of it has come.
    Waiting,
    /// So many bytes can be read, `before` of them from an earlier try.
    Coming { before: u64, kept: u64 },
    /// It is a blob of the store.
    Here,
    /// It does not come.
    Failed(Arc<Error>),
}

/// What is to be fetched, and from where.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) store: Arc<Store>,
    pub(super) there: Repository,
    /// The repository as people name it.
    pub(super) name: String,
    pub(super) blob: Descriptor,
}

/// A blob that comes, or is here by now.
#[derive(Debug)]
pub(in crate::serve) struct Coming {
    store: Arc<Store>,
    blob: Descriptor,
    state: watch::Receiver<State>,
}

impl Transfers {
    fn under_way(&self) -> MutexGuard<'_, HashMap<Digest, watch::Receiver<State>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to fetch a blob, unless that has begun.
    pub(super) fn join(&self, wanted: Wanted) -> Coming {
        let (store, blob) = (Arc::clone(&wanted.store), wanted.blob.clone());
        let mut under_way = self.under_way();
        let begun = under_way.get(&blob.digest).filter(|state| state.has_changed().is_ok()).cloned();
        let state = begun.unwrap_or_else(|| {
            let (sender, receiver) = watch::channel(State::Waiting);
            under_way.insert(blob.digest, receiver.clone());
            let transfers = self.clone();
            store.drain.spawn(async move {
                let sender = Arc::new(sender);
                let ended = match fetch(&wanted, &sender).await {
                    Ok(()) => State::Here,
                    Err(error) => State::Failed(Arc::new(error)),
                };
                // Whoever comes from here on finds the blob, or tries again.
                transfers.under_way().remove(&wanted.blob.digest);
                sender.send_replace(ended);
            });
            receiver
        });
        drop(under_way);
        Coming { store, blob, state }
    }
}

async fn fetch(wanted: &Wanted, sender: &Arc<watch::Sender<State>>) -> Result<()> {
    let session = Session::begin(&wanted.store, "a pull through the registry", GRACE).await?;
    let fetch = Arc::new(Source { repository: wanted.there.clone(), name: wanted.name.clone() });
    let told = Arc::clone(sender);
    let report: Report = Arc::new(move |_, step| {
        if let Step::Kept { bytes: kept } = step {
            told.send_modify(|state| {
                let before = if let State::Coming { before, .. } = state { *before } else { kept };
                *state = State::Coming { before, kept };
            });
        }
    });
    let order = Order {
        fetch,
        lease: session.lease().id.clone(),
        report,
        blob: wanted.blob.clone(),
        writeback: Writeback::Ahead,
    };
    let brought = ingest::blob(&wanted.store, order).await;
    session.end().await?;
    brought.map(drop)
}

impl Coming {
    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.blob.size
    }

    /// Waits until its registry gives something of it. None: it has no such blob.
    pub async fn begun(self) -> Result<Option<Self>, Fault> {
        let has_begun = |state: &State| match state {
            State::Waiting => false,
            State::Coming { before, kept } => kept > before,
            State::Here | State::Failed(_) => true,
        };
        self.wait_for(has_begun).await
    }

    /// Waits until it is here. None: its registry has no such blob.
    pub async fn here(self) -> Result<Option<Self>, Fault> {
        self.wait_for(|state| matches!(state, State::Here | State::Failed(_))).await
    }

    async fn wait_for(mut self, is_enough: impl FnMut(&State) -> bool) -> Result<Option<Self>, Fault> {
        let state = self.state.wait_for(is_enough).await.map(|state| (*state).clone());
        match state {
            Ok(State::Failed(error)) => match &*error {
                Error::Registry(error) if error.kind() == strata_registry::Kind::NotFound => Ok(None),
                Error::Registry(_) => Err(Fault::Upstream(error)),
                _ => Err(Fault::Store(error)),
            },
            Ok(_) => Ok(Some(self)),
            Err(_) => Err(Error::Interrupted.into()),
        }
    }

    /// The bytes from `start` to before `end`, as they come.
    pub fn bytes(self, start: u64, end: u64) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let reading = Reading { coming: self, file: None, at: start, end };
        stream::try_unfold(reading, |mut reading| async move {
            let piece = reading.next().await.map_err(|error| {
                tracing::warn!("a pull through the registry was cut off: {}", chain(&error));
                io::Error::other(error)
            })?;
            Ok(piece.map(|piece| (piece, reading)))
        })
    }
}

/// One client's place in a blob.
struct Reading {
    coming: Coming,
    file: Option<File>,
    at: u64,
    end: u64,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while self.at < self.end {
            let (limit, is_here) = self.limit()?;
            if self.at < limit && self.open(is_here).await? {
                return self.read(limit).await.map(Some);
            }
            if self.coming.state.changed().await.is_err() && !is_here {
                return Err(Error::Interrupted);
            }
        }
        Ok(None)
    }

    /// How far may be read now, and whether all of it is here.
    fn limit(&mut self) -> Result<(u64, bool)> {
        match &*self.coming.state.borrow_and_update() {
            State::Waiting => Ok((0, false)),
            State::Coming { kept, .. } => {
                Ok(((*kept).min(self.coming.blob.size.saturating_sub(1)).min(self.end), false))
            }
            State::Here => Ok((self.end, true)),
            // The cause was told where the fetch ended.
            State::Failed(_) => Err(Error::Interrupted),
        }
    }

    /// Opens the file, unless it is open; false where it has just moved to its last place.
    async fn open(&mut self, is_here: bool) -> Result<bool> {
        if self.file.is_some() {
            return Ok(true);
        }
        let digest = self.coming.blob.digest;
        if is_here {
            self.file = Some(blob::open(&self.coming.store, &digest).await?.0);
        } else {
            let path = blob::partial_path(&self.coming.store, &digest);
            self.file = blocking(move || match File::open(&path) {
                Ok(file) => Ok(Some(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(Error::io("open", path, source)),
            })
            .await?;
        }
        Ok(self.file.is_some())
    }

    async fn read(&mut self, limit: u64) -> Result<Bytes> {
        // Open, as whoever calls has seen.
        let Some(mut file) = self.file.take() else { return Err(Error::Interrupted) };
        let (at, length) = (self.at, PIECE.min(limit - self.at));
        let path = self.coming.store.paths.blob(&self.coming.blob.digest);
        let (file, piece) = blocking(move || {
            let mut piece = vec![0; length as usize];
            let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut piece));
            read.map_err(|source| Error::io("read", path, source))?;
            Ok::<_, Error>((file, Bytes::from(piece)))
        })
        .await?;
        self.file = Some(file);
        self.at += length;
        Ok(piece)
    }
}
