//! Signals: kill, stop with a deadline, and the honest answer when a process does not die.

use std::{sync::Arc, time::Duration};

use super::{Engine, blocking, whole};
use crate::{container::Container, error::Error, identity::Process, record::State, signal, spec::TerminalSize};

/// How long a killed container may take to end before the caller is told that it hangs.
const KILL_TIME: Duration = Duration::from_secs(10);

impl Engine {
    /// Sends a signal to the first process. A paused one takes it when it goes on; a kill lets it. One that asks it to end is
    /// taken for a stop: no restart policy follows.
    pub async fn kill(&self, container: &Container, number: i32) -> Result<(), Error> {
        if self.asks_to_end(container, number) && container.is_live() {
            self.note_stop(container).await?;
            self.cancel_restart(container).await?;
            if !container.is_running() {
                return Ok(());
            }
        }
        self.signal(container, number).await
    }

    fn asks_to_end(&self, container: &Container, number: i32) -> bool {
        let own = signal::parse("stop_signal", &container.record().process.stop_signal);
        signal::ASKS_TO_END.contains(&number) || own.is_ok_and(|own| own == number)
    }

    async fn signal(&self, container: &Container, number: i32) -> Result<(), Error> {
        match container.running_monitor() {
            Ok(monitor) => monitor.signal(number)?,
            Err(error) if signal_unwatched(container, number) => tracing::debug!(%error, "sent without a monitor"),
            Err(error) => return Err(error),
        }
        self.happened(container, "kill", [("signal", number.to_string())]);
        if number == signal::KILL { self.let_go_on(container).await } else { Ok(()) }
    }

    /// Sends the stop signal, waits up to `timeout`, then kills.
    pub async fn stop(
        self: &Arc<Self>,
        container: &Arc<Container>,
        timeout: Duration,
        number: Option<i32>,
    ) -> Result<(), Error> {
        if !container.is_live() {
            return Ok(());
        }
        self.note_stop(container).await?;
        self.cancel_restart(container).await?;
        if !container.is_running() {
            return Ok(());
        }
        if let Ok(monitor) = container.running_monitor() {
            monitor.hurry();
        }
        let own = container.record().process.stop_signal;
        let number = number.map_or_else(|| signal::parse("stop_signal", &own), Ok)?;
        if !timeout.is_zero() {
            match self.signal(container, number).await {
                Ok(()) => self.let_go_on(container).await?,
                // Its process has ended. That it has is still to be told, or was just now.
                Err(Error::NotRunning { .. }) => {}
                Err(error) => return Err(error),
            }
            if tokio::time::timeout(timeout, container.ended()).await.is_ok() {
                return self.settled(container).await;
            }
        }
        self.kill_and_wait(container).await?;
        self.settled(container).await
    }

    /// Stops a container that runs, and starts it in any case. One that removes itself at its end stays for this.
    pub async fn restart(
        self: &Arc<Self>,
        container: &Arc<Container>,
        timeout: Duration,
        number: Option<i32>,
    ) -> Result<(), Error> {
        let (engine, container) = (self.clone(), container.clone());
        whole("restarting the container", async move {
            // Who follows its log goes on.
            let _starting = container.about_to_start();
            let kept = container.keep();
            engine.stop(&container, timeout, number).await?;
            drop(kept);
            engine.start(&container, TerminalSize::default(), None).await?;
            engine.happened(&container, "restart", []);
            Ok(())
        })
        .await
    }

    /// Waits until the cgroup is gone and the snapshot free: what follows a stop may rely on it. Then it is stopped.
    async fn settled(&self, container: &Container) -> Result<(), Error> {
        drop(container.lifecycle.lock().await);
        self.happened(container, "stop", []);
        Ok(())
    }

    /// Kills every process of a container and waits for the end.
    pub(super) async fn kill_and_wait(self: &Arc<Self>, container: &Arc<Container>) -> Result<(), Error> {
        match container.running_monitor() {
            Ok(monitor) => {
                monitor.hurry();
                let _ended = monitor.signal(signal::KILL);
                self.happened(container, "kill", [("signal", signal::KILL.to_string())]);
                self.let_go_on(container).await?;
            }
            Err(_) if !container.is_running() => return Ok(()),
            Err(_) => self.kill_unwatched(container).await?,
        }
        match tokio::time::timeout(KILL_TIME, container.ended()).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let (launcher, id) = (self.launcher.clone(), container.id.clone());
                let hanging = blocking("looking at what hangs", move || Ok(launcher.hanging(&id))).await?;
                Err(Error::StopPending { id: container.id.to_string(), hanging })
            }
        }
    }

    /// Kills a container whose monitor has not answered: the cgroup is what can be reached.
    async fn kill_unwatched(&self, container: &Container) -> Result<(), Error> {
        let (launcher, id) = (self.launcher.clone(), container.id.clone());
        blocking("killing the cgroup", move || launcher.kill(&id)).await?;
        let State::Running(running) = container.state() else { return Ok(()) };
        if let Some(process) = Process::find(&running.init) {
            self.end_first_process(&container.id, &process).await;
        }
        signal_unwatched(container, signal::KILL);
        Ok(())
    }
}

/// Sends a signal to the first process of a container whose monitor has not answered yet. Says whether that runs.
fn signal_unwatched(container: &Container, number: i32) -> bool {
    let State::Running(running) = container.state() else { return false };
    if let (signal::KILL, Some(monitor)) = (number, Process::find(&running.monitor)) {
        // One that stands still would not see the end.
        monitor.signal(signal::CONTINUE);
    }
    Process::find(&running.init).is_some_and(|process| process.signal(number))
}
