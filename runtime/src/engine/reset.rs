//! The end of all state: every container, volume and network, and what the host has of them.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Engine, WithVolumes, blocking};
use crate::error::Error;

/// So many containers are removed at a time.
const AT_A_TIME: usize = 16;

/// What is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Containers, running or not.
    pub containers: usize,
    /// Volumes, with names and without.
    pub volumes: usize,
    /// Networks, the default one too.
    pub networks: usize,
}

impl Engine {
    /// Removes every container, running ones too, then every volume and network. What can be removed is, and the first
    /// failure is told: a store that does not answer keeps records of containers, but not their processes and networks. What
    /// is made meanwhile may stay.
    pub async fn reset(self: &Arc<Self>) -> Result<Removed, Error> {
        let containers = self.reset_containers().await;
        let engine = self.clone();
        let volumes = blocking("removing volumes", move || {
            let volumes = engine.volumes.page("", usize::MAX);
            let count = volumes.len();
            volumes.into_iter().try_for_each(|one| engine.remove_volume(&one.record.name, None).map(drop))?;
            Ok(count)
        })
        .await;
        let networks = self.networks.clear().await;
        let engine = self.clone();
        let parent = blocking("removing the cgroup of containers", move || engine.launcher.remove_parent()).await;
        let removed = Removed { containers: containers?, volumes: volumes?, networks: networks? };
        parent.map(|()| removed)
    }

    /// Removes all containers. Some may be in the way of others: another round removes those, as long as one removes any.
    async fn reset_containers(self: &Arc<Self>) -> Result<usize, Error> {
        let mut removed = 0;
        loop {
            let containers = self.page("", usize::MAX, true);
            let (before, mut failure) = (removed, None);
            for some in containers.chunks(AT_A_TIME) {
                let mut tasks = JoinSet::new();
                for container in some.iter().cloned() {
                    let engine = self.clone();
                    tasks.spawn(async move { engine.delete(container, true, WithVolumes::Yes).await });
                }
                while let Some(done) = tasks.join_next().await {
                    match done.map_err(|_| Error::Lost { what: "removing the container" })? {
                        Ok(()) => removed += 1,
                        // Its own end was faster.
                        Err(Error::NotFound { .. }) => {}
                        Err(error) => failure = failure.or(Some(error)),
                    }
                }
            }
            match failure {
                None => return Ok(removed),
                Some(error) if before == removed => return Err(error),
                Some(_) => {}
            }
        }
    }
}
