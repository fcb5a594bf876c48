//! Other limits and another restart policy for a container: in force at once where it runs, and whenever it is started again;
//! or not at all.

use std::sync::Arc;

use super::{Engine, blocking, change::changeable, whole};
use crate::{
    container::{Container, Phase},
    error::Error,
    record::{Record, State},
    restart::Policy,
    spec::{RealTime, Spec, limits},
};

/// What is to be otherwise with a container. What is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// Limits.
    pub limits: limits::Change,
    /// Limits of real time.
    pub real_time: RealTime,
    /// What follows its end.
    pub restart: Option<Policy>,
}

impl Engine {
    /// Changes limits and restart policy of a container. On failure they are what they were.
    pub async fn update(self: &Arc<Self>, container: Arc<Container>, update: Update) -> Result<(), Error> {
        let engine = self.clone();
        whole("updating the container", async move {
            let _guard = container.lifecycle.lock().await;
            engine.update_whole(&container, update).await
        })
        .await
    }

    async fn update_whole(&self, container: &Container, update: Update) -> Result<(), Error> {
        let record = changeable(container)?;
        let before = record.spec.clone();
        let after = Spec {
            limits: before.limits.with(update.limits, "limits")?,
            fixed_limits: before.fixed_limits.with(update.real_time)?,
            restart: update.restart.unwrap_or(before.restart),
            ..before.clone()
        };
        if update.restart.is_some_and(Policy::is_set) && before.auto_remove {
            let problem = "restart policy cannot be updated because AutoRemove is enabled for the container";
            return Err(Error::argument("restart_policy", problem));
        }
        let (has_limits, has_policy) = (differ(&before, &after), after.restart != before.restart);
        if has_limits {
            self.apply(&record, &before, &after).await?;
        }
        if has_limits || has_policy {
            let changed = container.change(|record| {
                put(record, &after);
                record.rest();
            });
            let rests = changed.state != record.state;
            if let Err(error) = self.write(changed).await {
                container.change(|now| {
                    put(now, &before);
                    if rests {
                        now.state = record.state.clone();
                    }
                });
                if has_limits {
                    self.apply(&record, &after, &before).await?;
                }
                return Err(error);
            }
            if let Some(exit) = record.exit.clone().filter(|_| rests) {
                container.set_phase(Phase::Ended(exit));
            }
        }
        if has_policy {
            self.tell_waker(container, after.restart).await;
        }
        self.happened(container, "update", []);
        Ok(())
    }

    /// Puts limits in force in a container that runs.
    async fn apply(&self, record: &Record, before: &Spec, after: &Spec) -> Result<(), Error> {
        let State::Running(_) = record.state else { return Ok(()) };
        let (launcher, record) = (self.launcher.clone(), record.clone());
        let (before, after) = (before.clone(), after.clone());
        blocking("changing limits", move || launcher.update(&record, &before, &after)).await
    }

    /// Lets the monitor of a container that runs know whether somebody has to hear of its end.
    async fn tell_waker(&self, container: &Container, policy: Policy) {
        let Ok(monitor) = container.running_monitor() else { return };
        if let Err(error) = monitor.set_waker(self.launcher.waker(&policy)).await {
            tracing::warn!(container = %container.id, %error, "cannot tell a monitor of another restart policy");
        }
    }
}

/// Whether there are limits to change.
fn differ(before: &Spec, after: &Spec) -> bool {
    before.limits != after.limits || before.fixed_limits != after.fixed_limits
}

/// Puts into a record what can be updated.
fn put(record: &mut Record, spec: &Spec) {
    record.spec.limits = spec.limits.clone();
    record.spec.fixed_limits = spec.fixed_limits.clone();
    record.spec.restart = spec.restart;
}
