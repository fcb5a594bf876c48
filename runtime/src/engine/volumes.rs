//! Volumes as callers see them: made, found, removed, written and read as archives. Who uses one is known from the records
//! of containers alone, so that nothing has to be counted, and a crash forgets nobody.

use std::{
    collections::{BTreeMap, HashMap},
    io::Read,
    sync::Arc,
};

use strata_types::{ContainerId, LabelCondition, VolumeName};

use super::{Engine, blocking, whole};
use crate::{
    container::Container,
    error::{Error, VolumeError},
    names,
    record::Durability,
    volume::{ANONYMOUS, New, Volume, Volumes, content::Mounted},
};

/// Which volumes to prune, of those that no container uses.
#[derive(Debug, Clone)]
pub struct Prunable {
    /// Those with a name too.
    pub all: bool,
    /// What their labels must be.
    pub labels: Vec<LabelCondition>,
}

/// What was pruned.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    /// Names of the volumes removed.
    pub names: Vec<VolumeName>,
    /// Bytes of the disk that they had.
    pub bytes: u64,
}

impl Prunable {
    fn takes(&self, volume: &Volume) -> bool {
        (self.all || volume.is_anonymous())
            && self.labels.iter().all(|condition| condition.holds(&volume.record.labels))
    }
}

impl Engine {
    /// The volumes of this node.
    pub fn volumes(&self) -> &Arc<Volumes> {
        &self.volumes
    }

    /// Containers that use a volume, whether they run or not, by id.
    pub fn users_of(&self, name: &VolumeName) -> Vec<Arc<Container>> {
        self.table().after("").filter(|container| container.uses(name)).cloned().collect()
    }

    /// The ids of the containers that use each volume that is used.
    pub fn users_of_volumes(&self) -> HashMap<VolumeName, Vec<ContainerId>> {
        let mut users: HashMap<VolumeName, Vec<ContainerId>> = HashMap::new();
        for container in self.table().after("") {
            for name in container.volumes() {
                users.entry(name).or_default().push(container.id.clone());
            }
        }
        users
    }

    /// Makes a volume; one without a name is anonymous.
    pub async fn create_volume(
        &self,
        name: Option<VolumeName>,
        options: BTreeMap<String, String>,
        mut labels: BTreeMap<String, String>,
        durability: Durability,
    ) -> Result<Arc<Volume>, Error> {
        if name.is_none() {
            labels.insert(ANONYMOUS.to_owned(), String::new());
        }
        let name = name.map_or_else(names::new_volume_name, Ok)?;
        let volumes = self.volumes.clone();
        blocking("making a volume", move || volumes.ensure(New { name, options, labels, durability })).await
    }

    /// Removes a volume that no container uses. Returns the bytes of the disk that it had.
    pub async fn delete_volume(self: &Arc<Self>, name: VolumeName) -> Result<u64, Error> {
        let engine = self.clone();
        blocking("removing a volume", move || engine.remove_volume(&name, None)).await
    }

    /// Removes a volume, unless a container other than this one uses it. Blocking.
    pub(super) fn remove_volume(&self, name: &VolumeName, except: Option<&ContainerId>) -> Result<u64, Error> {
        let discarded = self.volumes.discard(name, |volume| {
            let users = self.users_of(name).into_iter().filter(|user| Some(&user.id) != except);
            let holders: Vec<_> = users.map(|user| (user.id.to_string(), user.name().to_string())).collect();
            match holders.is_empty() {
                true => volume.detach(&self.launcher),
                false => Err(VolumeError::InUse { name: name.to_string(), holders }.into()),
            }
        })?;
        let size = discarded.size();
        discarded.remove()?;
        Ok(size)
    }

    /// Removes volumes that no container uses.
    pub async fn prune_volumes(self: &Arc<Self>, prunable: Prunable) -> Result<Pruned, Error> {
        let engine = self.clone();
        blocking("pruning volumes", move || {
            let mut pruned = Pruned::default();
            for volume in engine.volumes.page("", usize::MAX).into_iter().filter(|volume| prunable.takes(volume)) {
                let name = volume.record.name.clone();
                match engine.remove_volume(&name, None) {
                    Ok(bytes) => {
                        pruned.names.push(name);
                        pruned.bytes += bytes;
                    }
                    // Somebody was faster, in one way or the other.
                    Err(Error::Volume(VolumeError::InUse { .. } | VolumeError::NotFound { .. })) => {}
                    Err(error) => tracing::warn!(volume = %name, %error, "cannot prune a volume"),
                }
            }
            Ok(pruned)
        })
        .await
    }

    /// Puts what is in an archive into a volume, which is made where there is none.
    pub async fn import_volume(
        self: &Arc<Self>,
        name: VolumeName,
        may_replace: bool,
        archive: impl Read + Send + 'static,
    ) -> Result<Arc<Volume>, Error> {
        let engine = self.clone();
        whole("importing a volume", async move {
            let is_new = engine.volumes.find(&name).is_err();
            let (options, labels) = Default::default();
            let volume = engine.create_volume(Some(name.clone()), options, labels, Durability::Synced).await?;
            let imported = engine.import_into(&volume, may_replace, archive).await;
            if imported.is_err() && is_new {
                let this = engine.clone();
                // The first error is the one to tell. Who began to use it meanwhile keeps it, empty.
                let _ = blocking("undoing an import", move || this.remove_volume(&name, None)).await;
            }
            imported.map(|()| volume)
        })
        .await
    }

    async fn import_into(
        &self,
        volume: &Arc<Volume>,
        may_replace: bool,
        archive: impl Read + Send + 'static,
    ) -> Result<(), Error> {
        let alone = volume.content.clone().write_owned().await;
        let name = &volume.record.name;
        let running = self.users_of(name).into_iter().filter(|user| user.is_running());
        let holders: Vec<_> = running.map(|user| (user.id.to_string(), user.name().to_string())).collect();
        if !holders.is_empty() {
            return Err(VolumeError::InUse { name: name.to_string(), holders }.into());
        }
        let volume = volume.clone();
        let import = move || {
            let may_go = may_replace && volume.place().device.is_none();
            if !may_go && !volume.is_empty()? {
                return Err(VolumeError::NotEmpty { name: volume.record.name.to_string() }.into());
            }
            volume.replace(archive, Mounted::No, Durability::Synced)
        };
        let imported = blocking("importing a volume", import).await;
        drop(alone);
        imported
    }
}
