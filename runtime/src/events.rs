//! What happens to containers, told to whoever watches. A watcher that is too slow loses the oldest events.

use jiff::Timestamp;
use strata_types::{ContainerId, ContainerName};
use tokio::sync::broadcast;

use crate::spec::Exit;

/// Events kept for a slow watcher.
const KEPT: usize = 1024;

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// What.
    pub action: Action,
    /// The container.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// How it ended, with `Die`.
    pub exit: Option<Exit>,
}

/// Docker's names of what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Made.
    Create,
    /// Started.
    Start,
    /// Ended.
    Die,
    /// Removed.
    Destroy,
    /// Sent a signal.
    Kill,
    /// A further process started.
    ExecStart,
    /// A further process ended.
    ExecDie,
    /// Out of memory.
    Oom,
    /// Given another name.
    Rename,
    /// Ended and started again.
    Restart,
    /// Given other limits.
    Update,
    /// Its processes were made to stand still.
    Pause,
    /// Its processes go on.
    Unpause,
}

impl Action {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Die => "die",
            Self::Destroy => "destroy",
            Self::Kill => "kill",
            Self::ExecStart => "exec_start",
            Self::ExecDie => "exec_die",
            Self::Oom => "oom",
            Self::Rename => "rename",
            Self::Restart => "restart",
            Self::Update => "update",
            Self::Pause => "pause",
            Self::Unpause => "unpause",
        }
    }
}

/// Where events go out.
#[derive(Debug, Clone)]
pub struct Events(broadcast::Sender<Event>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::channel(KEPT).0)
    }
}

impl Events {
    /// Tells everybody who watches; nobody may.
    pub fn tell(&self, action: Action, id: &ContainerId, name: &ContainerName, exit: Option<Exit>) {
        let _nobody_watches =
            self.0.send(Event { at: Timestamp::now(), action, id: id.clone(), name: name.clone(), exit });
    }

    /// Watches from now on.
    pub fn watch(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }
}
