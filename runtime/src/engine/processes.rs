//! Looking at the processes of a container that runs.

use std::sync::Arc;

use super::{Engine, blocking};
use crate::{
    container::Container,
    error::Error,
    processes::{self, Table},
};

impl Engine {
    /// A table of the processes of a container; with arguments, as the host's ps makes it.
    pub async fn processes(&self, container: &Arc<Container>, ps_args: Vec<String>) -> Result<Table, Error> {
        let init = container.running_monitor()?.init.identity.clone();
        let (launcher, id) = (self.launcher.clone(), container.id.clone());
        blocking("looking at processes", move || {
            let pids = launcher.pids(&id)?.unwrap_or_else(|| processes::beside(&init));
            if ps_args.is_empty() { Ok(processes::table(&pids)) } else { processes::by_ps(&ps_args, &pids) }
        })
        .await
    }
}
