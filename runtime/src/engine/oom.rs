//! Tells at once when the kernel kills for want of memory in a container that has a limit of it, even if its first process
//! survives that. Where there is no limit it is told with the end.

use std::{os::fd::AsFd, sync::Arc};

use strata_oci::cgroup::{OomNotice, OomWatch};
use tokio::io::{Interest, unix::AsyncFd};

use super::Engine;
use crate::{container::Container, error::Error, monitor::Monitor};

impl Engine {
    /// Watches a container until this run of it ends.
    pub(super) fn watch_memory(self: &Arc<Self>, container: &Arc<Container>, monitor: &Arc<Monitor>) {
        if container.record().spec.limits.memory_bytes.is_none() {
            return;
        }
        let watch = match self.launcher.watch_oom(&container.id) {
            Ok(Some(watch)) => watch,
            Ok(None) => return,
            Err(error) => {
                let error = strata_rpc::fault::chain(&error);
                tracing::warn!(container = %container.id, error, "cannot watch the memory of a container");
                return;
            }
        };
        let (engine, container, monitor) = (self.clone(), container.clone(), monitor.clone());
        tokio::spawn(async move {
            tokio::select! {
                _gone = engine.hear_of_memory(&container, watch) => {}
                _ended = monitor.exited() => {}
            }
        });
    }

    async fn hear_of_memory(&self, container: &Container, mut watch: OomWatch) -> Result<(), Error> {
        let failed = |e| Error::io("watch the memory of", container.id.as_str(), e);
        let notices = watch.as_fd().try_clone_to_owned().map_err(failed)?;
        #[expect(deprecated, reason = "the new form is unsafe to call; an OwnedFd never changes its descriptor")]
        let notices = AsyncFd::with_interest(notices, Interest::READABLE).map_err(failed)?;
        loop {
            notices.readable().await.map_err(failed)?.clear_ready();
            match watch.take() {
                OomNotice::OutOfMemory => self.tell_out_of_memory(container),
                OomNotice::Nothing => {}
                OomNotice::Gone => return Ok(()),
            }
        }
    }

    /// Tells it, once a run.
    pub(super) fn tell_out_of_memory(&self, container: &Container) {
        let mut is_known = false;
        container.change(|record| is_known = std::mem::replace(&mut record.is_out_of_memory, true));
        if !is_known {
            self.tally.out_of_memory();
            self.happened(container, "oom", []);
        }
    }
}
