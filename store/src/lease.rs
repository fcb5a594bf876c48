//! Leases: sessions that hold objects while their stream is open, and for a grace after it.

use std::sync::Arc;
use std::time::Duration;

use strata_types::LeaseId;

use crate::catalog::LeaseRow;
use crate::{Error, Result, Store};

/// How long a session's lease outlives its stream unless the client says otherwise.
pub const GRACE: Duration = Duration::from_secs(600);
/// The longest such time.
pub const LONGEST_GRACE: Duration = Duration::from_secs(3600);

/// A random text of `length` characters a-z and 0-9 that starts with a letter.
pub fn random_text(length: usize) -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut bytes = vec![0_u8; length];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .expect("Linux has had getrandom since 3.17");
    let pick = |(index, byte): (usize, &u8)| LETTERS[usize::from(*byte) % if index == 0 { 26 } else { 36 }];
    bytes.iter().enumerate().map(pick).map(char::from).collect()
}

/// A session's lease. Dropped, its grace begins.
#[derive(Debug)]
pub struct Session {
    store: Arc<Store>,
    row: LeaseRow,
}

impl Session {
    /// Makes a lease that lives until `grace` after the session is dropped.
    pub async fn begin(store: &Arc<Store>, holder: &str, grace: Duration) -> Result<Self> {
        if holder.is_empty() || holder.len() > 256 {
            return Err(Error::invalid("holder", "it must have 1 to 256 characters"));
        }
        if grace > LONGEST_GRACE {
            return Err(Error::invalid("grace", "it must be at most 1 hour"));
        }
        let id = LeaseId::parse(random_text(20)).map_err(Error::field("lease_id"))?;
        let grace = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        let row = store.catalog.create_lease(&id, holder, Some(grace)).await?;
        Ok(Self { store: Arc::clone(store), row })
    }

    /// The lease.
    pub fn lease(&self) -> &LeaseRow {
        &self.row
    }

    /// Ends the lease now: what only it held becomes garbage.
    pub async fn end(self) -> Result<()> {
        self.store.catalog.delete_lease(&self.row.id).await?;
        self.store.collector.wake();
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let (store, id) = (Arc::clone(&self.store), self.row.id.clone());
        // Outside of a runtime the process ends; the next start begins the grace of all sessions.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = store.catalog.end_session(&id).await {
                    tracing::warn!("cannot end session {id}: {}", strata_rpc::fault::chain(&error));
                }
                store.collector.wake();
            });
        }
    }
}
