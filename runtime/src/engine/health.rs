//! Runs the health check of a container as long as it runs. A check is a further process in it, as of `exec`, but nobody is
//! told of it as of one. One that takes too long is killed with all that it has begun.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{Engine, blocking};
use crate::{
    container::Container,
    engine::Exec,
    health::{Check, MAX_OUTPUT, NO_CODE, OnFailure, Probe, Status},
    monitor::Monitor,
    record::Durability,
    session,
    spec::{Exit, ExitKind, TerminalSize},
    stream::{Attachment, Output, Pace, Wish},
};

/// How a container that is stopped for its health is asked to end.
const STOP_TIME: Duration = Duration::from_secs(10);

/// How much longer a check may take whose processes were killed, until the next one.
const KILLED: Duration = Duration::from_secs(10);

impl Engine {
    /// Checks the health of a container until this run of it ends.
    pub(super) fn watch_health(self: &Arc<Self>, container: &Arc<Container>, monitor: &Arc<Monitor>) {
        let Some(check) = container.record().check else { return };
        let (engine, container, monitor) = (self.clone(), container.clone(), monitor.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = engine.check_health(&container, &monitor, &check) => {}
                _ended = monitor.exited() => {}
            }
        });
    }

    async fn check_health(self: &Arc<Self>, container: &Arc<Container>, monitor: &Arc<Monitor>, check: &Check) {
        let started_at = container.record().started_at.unwrap_or_else(Timestamp::now);
        loop {
            let since = Timestamp::now().duration_since(started_at);
            let status = container.record().health.map_or(Status::Starting, |health| health.status);
            tokio::time::sleep(check.pause(status, Duration::try_from(since).unwrap_or_default())).await;
            // What stands still answers no check.
            if !container.is_running() || container.is_paused() {
                continue;
            }
            // In a task of its own: a check that was begun is ended, even if the container ends before.
            let (engine, host, checked) = (self.clone(), container.clone(), check.clone());
            let probing = tokio::spawn(async move { engine.probe(&host, &checked).await });
            let Ok(probe) = probing.await else { return };
            let is_current = container.monitor().is_some_and(|now| Arc::ptr_eq(&now, monitor));
            if !is_current {
                return;
            }
            if self.take_probe(container, probe, check, started_at).await == Some(Status::Unhealthy) {
                self.act_on_failure(container, check.on_failure);
            }
        }
    }

    /// Notes a result; the new status, if it is another one.
    async fn take_probe(
        &self,
        container: &Container,
        probe: Probe,
        check: &Check,
        started_at: Timestamp,
    ) -> Option<Status> {
        let mut changed = None;
        let record = container.change(|record| {
            let health = record.health.get_or_insert_default();
            changed = health.take(probe, check, started_at).then_some(health.status);
        });
        let status = changed?;
        let action = match status {
            Status::Unhealthy => "health_status: unhealthy",
            Status::Healthy | Status::Starting => "health_status: healthy",
        };
        container.touch();
        self.happened(container, action, []);
        let records = self.records.clone();
        // Only for a runtime that is started again; after a boot it is of no use.
        let written = blocking("writing the record", move || records.write(&record, Durability::Unsynced)).await;
        if let Err(error) = written {
            tracing::warn!(container = %container.id, %error, "cannot record the health of a container");
        }
        Some(status)
    }

    fn act_on_failure(self: &Arc<Self>, container: &Arc<Container>, what: OnFailure) {
        let (engine, container) = (self.clone(), container.clone());
        if what == OnFailure::None {
            return;
        }
        tracing::info!(container = %container.id, ?what, "a container has become unhealthy");
        tokio::spawn(async move {
            let done = match what {
                OnFailure::None => Ok(()),
                OnFailure::Kill => engine.kill_and_wait(&container).await,
                OnFailure::Restart => engine.restart(&container, STOP_TIME, None).await,
                OnFailure::Stop => engine.stop(&container, STOP_TIME, None).await,
            };
            if let Err(error) = done {
                let error = strata_rpc::fault::chain(&error);
                tracing::error!(container = %container.id, error, "cannot end an unhealthy container");
            }
        });
    }

    /// Runs one check to its end.
    async fn probe(self: &Arc<Self>, container: &Arc<Container>, check: &Check) -> Probe {
        let start = Timestamp::now();
        let exec = Exec {
            args: check.args.clone(),
            env: Vec::new(),
            working_directory: String::new(),
            user: String::new(),
            has_terminal: false,
            has_stdin: false,
            is_privileged: false,
            size: TerminalSize::default(),
        };
        let wish = Wish { has_stdin: false, size: None, pace: Pace::OfClient };
        let (exit_code, output) = match self.join(container, exec, Some(wish)).await {
            Err(error) => (NO_CODE, strata_rpc::fault::chain(&error).into_bytes()),
            Ok((monitor, attachment)) => {
                let result = follow(&monitor, attachment, check.timeout).await;
                monitor.ended().await;
                self.launcher.forget_exec(&monitor);
                result
            }
        };
        let mut output = String::from_utf8_lossy(&output).into_owned();
        output.truncate(output.floor_char_boundary(MAX_OUTPUT));
        Probe { start, end: Timestamp::now(), exit_code, output }
    }
}

/// Reads what a check writes until it ends, or its time is over.
async fn follow(monitor: &Monitor, mut attachment: Option<Attachment>, timeout: Duration) -> (i32, Vec<u8>) {
    let mut output = Vec::new();
    let read = async {
        while let Some(attachment) = &mut attachment {
            match attachment.output.recv().await {
                Some(Output::Stdout(bytes) | Output::Stderr(bytes)) => {
                    let room = MAX_OUTPUT.saturating_sub(output.len());
                    output.extend_from_slice(&bytes[..bytes.len().min(room)]);
                }
                Some(Output::Ended | Output::Lost) | None => break,
            }
        }
        monitor.exited().await
    };
    match tokio::time::timeout(timeout, read).await {
        Ok(exit) => (code(&exit), output),
        Err(_) => {
            let leader = monitor.init.identity.clone();
            let killed = blocking("killing a health check", move || {
                session::end(&leader);
                Ok(())
            })
            .await;
            if killed.is_err() || tokio::time::timeout(KILLED, monitor.exited()).await.is_err() {
                // It hangs in the kernel; its monitor has nothing else to wait for.
                monitor.process.signal(9);
            }
            (NO_CODE, format!("Health check exceeded timeout ({timeout:?})").into_bytes())
        }
    }
}

fn code(exit: &Exit) -> i32 {
    match exit.kind {
        ExitKind::Code(code) => i32::try_from(code).unwrap_or(NO_CODE),
        ExitKind::Signal(signal) => i32::try_from(128 + signal).unwrap_or(NO_CODE),
        ExitKind::Unknown(_) => NO_CODE,
    }
}
