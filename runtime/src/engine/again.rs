//! Starts that nobody asks for: by the restart policy of a container that has ended, and of those that are to run when this
//! service, or its host, starts anew. A container that waits for such a start is `Restarting`, on the disk too.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use super::{Engine, order, start::Cause};
use crate::{
    container::{Container, Phase},
    error::Error,
    record::State,
    spec::TerminalSize,
};

impl Engine {
    /// Starts a container that waits to be started again, after a pause, until it runs or is to run no longer.
    /// Boxed, since the end of what it starts leads here again.
    pub(super) fn start_again(self: &Arc<Self>, container: &Arc<Container>) -> BoxFuture<'static, ()> {
        let (engine, container) = (self.clone(), container.clone());
        Box::pin(async move {
            let _presence = engine.presence.enter();
            let mut run = container.record().last_run();
            while container.state() == State::Restarting && waited(&container, container.pause_after(run)).await {
                if engine.start_by_policy(&container).await {
                    return;
                }
                run = Duration::ZERO;
            }
        })
    }

    /// Whether it needs no further attempt.
    async fn start_by_policy(self: &Arc<Self>, container: &Arc<Container>) -> bool {
        match self.start_for(container, TerminalSize::default(), None, Cause::Policy).await {
            Ok(_) => true,
            Err(error) => {
                let error = strata_rpc::fault::chain(&error);
                tracing::warn!(container = %container.id, error, "cannot start a container again");
                false
            }
        }
    }

    /// Starts what is to run when this service starts, those first that others depend on. After a mere nap of this service
    /// only what had been waiting already.
    pub(super) async fn start_anew(self: Arc<Self>, was_napping: bool) {
        let _presence = self.presence.enter();
        let all: Vec<_> = self.page("", usize::MAX, true);
        let is_due = |container: &Arc<Container>| {
            container.state() == State::Restarting || (!was_napping && container.record().is_due_anew())
        };
        let due: Vec<_> = all.into_iter().filter(is_due).collect();
        for container in &due {
            container.change(|record| {
                if record.state == State::Exited {
                    record.state = State::Restarting;
                    record.is_stopped_by_hand = false;
                    record.restart_count = 0;
                }
            });
        }
        for container in order::sorted(due) {
            if !self.start_by_policy(&container).await {
                tokio::spawn(self.start_again(&container));
            }
        }
    }

    /// Notes that this service stops because nothing is left to do: who was stopped by hand is not started when it is back.
    pub fn note_nap(&self) {
        if let Err(error) = self.records.note_nap() {
            tracing::warn!(%error, "cannot note that this service stops for want of work");
        }
    }

    /// Marks a container as stopped by somebody, so that its policy leaves it alone. On the disk, where it has a policy.
    pub(super) async fn note_stop(&self, container: &Container) -> Result<(), Error> {
        let record = container.change(|record| record.is_stopped_by_hand = true);
        if record.spec.restart.is_set() { self.write(record).await } else { Ok(()) }
    }

    /// Lets a container rest that waits to be started again.
    pub(super) async fn cancel_restart(&self, container: &Container) -> Result<(), Error> {
        // Who runs is to be killed even while something else is done to it.
        if container.state() != State::Restarting {
            return Ok(());
        }
        let _guard = container.lifecycle.lock().await;
        if container.state() != State::Restarting {
            return Ok(());
        }
        let record = container.change(|record| {
            record.state = State::Exited;
            record.is_stopped_by_hand = true;
        });
        if let Some(exit) = record.exit.clone() {
            container.set_phase(Phase::Ended(exit));
        }
        self.write(record).await
    }
}

/// Waits; false: it is no longer to be started.
async fn waited(container: &Container, pause: Duration) -> bool {
    let mut phases = container.phases();
    let moved_on = phases.wait_for(|_| container.state() != State::Restarting);
    tokio::time::timeout(pause, moved_on).await.is_err()
}
