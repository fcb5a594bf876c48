//! A further process in a running container: a plan that joins its namespaces, with a monitor of its own.

use std::sync::Arc;

use super::{Engine, blocking, hostname, whole};
use crate::{
    container::Container,
    error::Error,
    launch::Joining,
    monitor::Monitor,
    spec::TerminalSize,
    stream::{Attachment, Wish},
};

/// What to execute.
#[derive(Debug, Clone)]
pub struct Exec {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Environment on top of the container's.
    pub env: Vec<String>,
    /// Working directory. Empty: the container's.
    pub working_directory: String,
    /// User. Empty: the container's.
    pub user: String,
    /// It has a terminal.
    pub has_terminal: bool,
    /// Standard input comes from the client.
    pub has_stdin: bool,
    /// All capabilities.
    pub is_privileged: bool,
    /// Size of the terminal.
    pub size: TerminalSize,
}

impl Engine {
    /// Executes in a running container. Without a wish the process is detached.
    pub async fn exec(
        self: &Arc<Self>,
        container: &Arc<Container>,
        exec: Exec,
        wish: Option<Wish>,
    ) -> Result<(Arc<Monitor>, Option<Attachment>), Error> {
        let (engine, container) = (self.clone(), container.clone());
        whole("executing", async move { engine.exec_whole(container, exec, wish).await }).await
    }

    async fn exec_whole(
        self: &Arc<Self>,
        container: Arc<Container>,
        exec: Exec,
        wish: Option<Wish>,
    ) -> Result<(Arc<Monitor>, Option<Attachment>), Error> {
        let command = exec.args.join(" ");
        let (monitor, attachment) = self.join(&container, exec, wish).await?;
        let number = monitor.exec_id();
        self.happened(&container, &format!("exec_create: {command}"), [("execID", number.clone())]);
        self.happened(&container, &format!("exec_start: {command}"), [("execID", number.clone())]);
        let (engine, watched) = (self.clone(), monitor.clone());
        tokio::spawn(async move {
            let exit = tokio::select! {
                exit = watched.exited() => exit,
                // It ends with its container.
                _ended = container.ended() => {
                    watched.hurry();
                    watched.exited().await
                }
            };
            engine.happened(&container, "exec_die", [("execID", number), ("exitCode", exit.shell_code())]);
            watched.ended().await;
            engine.launcher.forget_exec(&watched);
        });
        Ok((monitor, attachment))
    }

    /// Begins a further process. Who does so waits for the end of its monitor, and for what that leaves.
    pub(super) async fn join(
        &self,
        container: &Container,
        exec: Exec,
        wish: Option<Wish>,
    ) -> Result<(Arc<Monitor>, Option<Attachment>), Error> {
        let host = container.moving_monitor()?;
        let mut record = container.record();
        self.reveal_variables(&mut record).await?;
        let job = Joining { hostname: hostname(&record), record, target: host.init.identity.clone(), exec };
        let launcher = self.launcher.clone();
        let launch = blocking("preparing the process", move || launcher.join(&job)).await?;
        let monitor = Arc::new(Monitor::ready(launch).await?);
        let attachment = match wish {
            Some(wish) => Some(monitor.attach(wish).await?),
            None => None,
        };
        monitor.start().await?;
        Ok((monitor, attachment))
    }
}
