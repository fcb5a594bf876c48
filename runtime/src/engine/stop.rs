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
        container.running_monitor()?.signal(number)?;
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
        let own = container.record().process.stop_signal;
        let number = number.map_or_else(|| signal::parse("stop_signal", &own), Ok)?;
        if !timeout.is_zero() {
            match self.signal(container, number).await {
                Ok(()) => self.let_go_on(container).await?,
                Err(Error::NotRunning { .. }) => return Ok(()),
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
                let _ended = monitor.signal(signal::KILL);
                self.happened(container, "kill", [("signal", signal::KILL.to_string())]);
                self.let_go_on(container).await?;
            }
            // Started by nobody we can reach: the cgroup is what is left.
            Err(_) if !container.is_running() => return Ok(()),
            Err(_) => {
                let (launcher, id) = (self.launcher.clone(), container.id.clone());
                blocking("killing the cgroup", move || launcher.kill(&id)).await?;
                if let State::Running(running) = container.state()
                    && let Some(process) = Process::find(&running.init)
                {
                    self.end_first_process(&container.id, &process).await;
                }
            }
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
}
