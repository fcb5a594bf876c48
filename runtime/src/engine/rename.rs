//! Another name for a container, running or not.

use std::sync::Arc;

use strata_types::ContainerName;

use super::{Engine, whole};
use crate::{
    container::{Container, Phase},
    error::Error,
    record::State,
};

impl Engine {
    /// Gives a container another name; those in its networks find it by that one from then on.
    pub async fn rename(self: &Arc<Self>, container: Arc<Container>, name: ContainerName) -> Result<(), Error> {
        let engine = self.clone();
        whole("renaming the container", async move { engine.rename_whole(&container, name).await }).await
    }

    async fn rename_whole(&self, container: &Container, name: ContainerName) -> Result<(), Error> {
        let _guard = container.lifecycle.lock().await;
        if matches!(*container.phases().borrow(), Phase::Gone(_)) {
            return Err(Error::NotFound { name: container.id.to_string() });
        }
        if matches!(container.state(), State::Creating | State::Removing) {
            return Err(Error::Removing { id: container.id.to_string() });
        }
        let before = container.name();
        if name == before {
            return Err(Error::argument("name", format!("the container has the name {name} already")));
        }
        self.check_order(&name, &container.record().spec.dependencies)?;
        self.table().rename(&container.id, name.clone())?;
        let record = container.change(|record| record.name = name.clone());
        if let Err(error) = self.write(record.clone()).await {
            container.change(|record| record.name = before.clone());
            self.table().rename(&container.id, before)?;
            return Err(error);
        }
        self.rename_dependencies(&before, &name).await?;
        if let State::Running(running) = &record.state
            && let Err(error) = self.serve_names(&record, &running.init).await
        {
            tracing::warn!(container = %container.id, %error, "the new name is not answered");
        }
        self.happened(container, "rename", [("oldName", before.to_string())]);
        Ok(())
    }
}
