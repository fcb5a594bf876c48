//! Looking at what containers use.

use std::sync::Arc;

use strata_types::{ContainerId, ContainerName};

use super::{Engine, blocking};
use crate::{
    container::Container,
    error::Error,
    record::State,
    spec::Network,
    usage::{Traffic, Usage},
};

/// A container and what it uses.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// What it uses; nothing, if it does not run.
    pub usage: Option<Usage>,
}

impl Engine {
    /// Looks at containers, one after the other.
    pub async fn usage(&self, containers: Vec<Arc<Container>>) -> Result<Vec<Sample>, Error> {
        let launcher = self.launcher.clone();
        blocking("looking at the usage of containers", move || {
            let sample = |container: &Arc<Container>| {
                let record = container.record();
                let usage = match &record.state {
                    State::Running(running) => {
                        // The interfaces of the host are not its own.
                        let has_own = record.spec.network != Network::Host;
                        let traffic = if has_own { Traffic::of(running.init.pid) } else { Some(Traffic::default()) };
                        Some(Usage::now(launcher.stats(&record.id)?, traffic))
                    }
                    _ => None,
                };
                Ok::<_, Error>(Sample { id: record.id, name: record.name, usage })
            };
            containers.iter().map(sample).collect()
        })
        .await
    }
}
