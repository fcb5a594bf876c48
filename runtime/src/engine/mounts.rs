//! What a container's mounts need outside of it: volumes that are made and filled, snapshots of images, and what of that goes
//! with the container. The record names each before it is made.

use std::{collections::BTreeSet, sync::Arc};

use strata_types::{ContainerId, SnapshotKey, VolumeName};
use tokio::sync::OwnedRwLockReadGuard;

use super::{Engine, blocking, finish, snapshot_key};
use crate::{
    container::Container,
    error::{Error, VolumeError},
    names,
    record::{Durability, Record},
    spec::{Mount, Source, Spec, VolumeMount},
    store::Volatile,
    volume::{ANONYMOUS, New, Volume, content::Mounted},
};

impl Engine {
    /// Chooses what a request leaves open: mounts of other containers, names of volumes, keys of snapshots.
    pub(super) fn settle(&self, id: &ContainerId, spec: &mut Spec) -> Result<(), Error> {
        let mut inherited: Vec<Mount> = Vec::new();
        for from in std::mem::take(&mut spec.volumes_from) {
            let record = self.find(&from.container)?.record();
            for mut mount in record.spec.mounts {
                match &mut mount.source {
                    Source::Volume(volume) => volume.no_copy = true,
                    Source::Image(image) => image.key = None,
                    Source::Bind(_) => {}
                    Source::Tmpfs(_) | Source::Bytes { .. } | Source::Snapshot { .. } => continue,
                }
                mount.is_read_only |= from.is_read_only;
                // Of two that have it, the later one counts.
                inherited.retain(|other| other.target != mount.target);
                inherited.push(mount);
            }
        }
        inherited.retain(|mount| !spec.mounts.iter().any(|own| own.target == mount.target));
        spec.mounts.extend(inherited);
        for (number, mount) in spec.mounts.iter_mut().enumerate() {
            match &mut mount.source {
                Source::Volume(volume) if volume.name.is_none() => volume.name = Some(names::new_volume_name()?),
                Source::Image(image) => image.key = Some(image_key(id, number)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes volumes, and snapshots of images, of the mounts from the one with this index on. The record of the container
    /// names them already.
    pub(super) async fn make_sources(&self, container: &Container, first: usize) -> Result<(), Error> {
        let record = container.record();
        let volatile = volatile(&record);
        for (index, mount) in record.spec.mounts.iter().enumerate().skip(first) {
            let Source::Image(image) = &mount.source else { continue };
            let Some(key) = &image.key else { continue };
            let prepared =
                self.store.prepare(key, &image.image, record.spec.platform.as_ref(), volatile.into()).await?;
            container.change(|record| {
                if let Source::Image(image) = &mut record.spec.mounts[index].source {
                    image.image_id = prepared.image_id;
                }
            });
        }
        let wanted = record.spec.mounts[first..].iter().filter_map(volume);
        let wanted: Vec<New> = wanted.map(|(name, volume)| new(name, volume, record.durability())).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let known = self.volumes.clone();
        blocking("making volumes", move || wanted.into_iter().try_for_each(|new| known.ensure(new).map(drop))).await
    }

    /// Gives empty volumes what the image has where they are mounted, from the mount with this index on.
    pub(super) async fn fill_volumes(&self, record: &Record, first: usize) -> Result<(), Error> {
        for mount in &record.spec.mounts[first..] {
            let Source::Volume(VolumeMount { name: Some(name), no_copy: false, sub_path, .. }) = &mount.source else {
                continue;
            };
            if sub_path.as_os_str().is_empty() && self.volumes.find(name)?.file_system().is_none() {
                self.fill(record, &self.volumes.find(name)?, &mount.target).await?;
            }
        }
        Ok(())
    }

    async fn fill(&self, record: &Record, volume: &Arc<Volume>, target: &str) -> Result<(), Error> {
        let alone = volume.content.clone().write_owned().await;
        let looked_at = volume.clone();
        if !blocking("looking into a volume", move || looked_at.is_empty()).await? {
            return Ok(());
        }
        let Some(archive) = self.store.export(&snapshot_key(record), target).await? else { return Ok(()) };
        let is_mounted = self.users_of(&volume.record.name).iter().any(|user| user.is_running());
        let mounted = if is_mounted { Mounted::Yes } else { Mounted::No };
        let (volume, durability) = (volume.clone(), record.durability());
        blocking("filling a volume", move || volume.replace(archive, mounted, durability)).await?;
        drop(alone);
        Ok(())
    }

    /// Says where the volumes of a container are.
    pub(super) fn locate(&self, record: &mut Record) -> Result<(), Error> {
        for mount in &mut record.spec.mounts {
            if let Source::Volume(volume) = &mut mount.source
                && let Some(name) = &volume.name
            {
                volume.place = Some(self.volumes.find(name)?.place());
            }
        }
        Ok(())
    }

    /// Keeps the volumes of a container as they are until the guards go: the same directories, with the same content.
    pub(super) async fn hold_volumes(&self, record: &Record) -> Result<Vec<OwnedRwLockReadGuard<()>>, Error> {
        // Each once, whatever it is mounted at: a second time would wait for those who wait for the first.
        let names: BTreeSet<&VolumeName> = volumes(record).map(|(name, _)| name).collect();
        let mut guards = Vec::new();
        for name in names {
            let volume = self.volumes.find(name)?;
            guards.push(volume.content.clone().read_owned().await);
            if volume.file_system().is_some() || volume.size_limit().is_some() {
                let launcher = self.launcher.clone();
                blocking("mounting a volume", move || volume.attach(&launcher)).await?;
            }
        }
        Ok(guards)
    }

    /// Unmounts the volumes of a record that are file systems, where no container runs any more that has them.
    pub(super) async fn detach_volumes(&self, record: &Record) {
        let names: BTreeSet<&VolumeName> = volumes(record).map(|(name, _)| name).collect();
        for volume in names.into_iter().filter_map(|name| self.volumes.find(name).ok()) {
            self.detach_unused(volume).await;
        }
    }

    /// Unmounts a volume that is a file system, where no container runs that has it.
    pub(super) async fn detach_unused(&self, volume: Arc<Volume>) {
        if volume.file_system().is_none() {
            return;
        }
        // Who is about to start with it has it until it runs.
        let alone = volume.content.clone().write_owned().await;
        if self.users_of(&volume.record.name).iter().any(|user| user.is_running()) {
            return;
        }
        let (name, launcher) = (volume.record.name.clone(), self.launcher.clone());
        if let Err(error) = blocking("unmounting a volume", move || volume.detach(&launcher)).await {
            tracing::error!(volume = %name, %error, "cannot unmount a volume that no container uses");
        }
        drop(alone);
    }

    /// Gives back what `make_sources` made: snapshots of images, and anonymous volumes if the record says so.
    pub(super) async fn drop_sources(self: &Arc<Self>, record: &Record) -> Result<(), Error> {
        for mount in &record.spec.mounts {
            if let Source::Image(image) = &mount.source
                && let Some(key) = &image.key
            {
                finish::patiently(|| self.store.remove(key, record.id.as_str())).await?;
            }
        }
        let is_anonymous = |(_, volume): &(&VolumeName, &VolumeMount)| volume.is_anonymous;
        let names: Vec<VolumeName> = match record.removes_volumes {
            true => volumes(record).filter(is_anonymous).map(|(name, _)| name.clone()).collect(),
            false => Vec::new(),
        };
        if names.is_empty() {
            return Ok(());
        }
        let (engine, id) = (self.clone(), record.id.clone());
        blocking("removing volumes", move || {
            for name in names {
                match engine.remove_volume(&name, Some(&id)) {
                    // Others have it too, or it never was, or went before.
                    Ok(_) | Err(Error::Volume(VolumeError::InUse { .. } | VolumeError::NotFound { .. })) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
        .await
    }
}

/// The volumes that the image of a container asks for, where nothing else is mounted.
pub(super) fn of_image<'a>(paths: impl Iterator<Item = &'a String>, mounts: &[Mount]) -> Result<Vec<Mount>, Error> {
    let mut added: Vec<Mount> = Vec::new();
    for path in paths {
        let Some(target) = clean(path) else { continue };
        if mounts.iter().chain(&added).any(|mount| mount.target == target) {
            continue;
        }
        let volume = VolumeMount { name: Some(names::new_volume_name()?), ..VolumeMount::anonymous() };
        added.push(Mount { target, is_read_only: false, mode: String::new(), source: Source::Volume(volume) });
    }
    Ok(added)
}

/// An absolute path without dots, as images may have them. None: the root itself, or no path.
fn clean(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let is_path = !parts.is_empty() && !path.contains('\0') && parts[0] != "proc";
    is_path.then(|| format!("/{}", parts.join("/")))
}

/// Volumes of a container that have names, which all have that are made.
fn volumes(record: &Record) -> impl Iterator<Item = (&VolumeName, &VolumeMount)> {
    record.spec.mounts.iter().filter_map(volume)
}

fn volume(mount: &Mount) -> Option<(&VolumeName, &VolumeMount)> {
    match &mount.source {
        Source::Volume(volume) => volume.name.as_ref().map(|name| (name, volume)),
        _ => None,
    }
}

fn new(name: &VolumeName, volume: &VolumeMount, durability: Durability) -> New {
    let mut labels = volume.labels.clone();
    if volume.is_anonymous {
        labels.insert(ANONYMOUS.to_owned(), String::new());
    }
    // A volume with a name outlives the container, whatever that is.
    let durability = if volume.is_anonymous { durability } else { Durability::Synced };
    New { name: name.clone(), options: volume.options.clone(), labels, durability }
}

/// Whether what belongs to a container need not survive a crash of the host: what its record does not survive.
pub(super) fn volatile(record: &Record) -> Volatile {
    match record.durability() {
        Durability::Unsynced => Volatile::Yes,
        Durability::Synced => Volatile::No,
    }
}

/// Key of the snapshot that shows an image in a container.
pub(super) fn image_key(id: &ContainerId, number: usize) -> SnapshotKey {
    SnapshotKey::parse(format!("{id}-{number}")).expect("digits and a dash are a key")
}

/// The container that a snapshot belongs to by its key: its root, or an image in it.
pub(super) fn owner_of(key: &str) -> Option<ContainerId> {
    let id = key.split_once('-').map_or(key, |(id, _)| id);
    ContainerId::parse(id).ok()
}

/// The snapshots that a container mounts, in the order of its mounts.
pub(super) fn mounted_snapshots(record: &Record) -> impl Iterator<Item = &SnapshotKey> {
    record.spec.mounts.iter().filter_map(|mount| mount.source.snapshot_key())
}

/// Sources of binds must exist, unless they may be made.
pub(super) fn check_sources(spec: &Spec) -> Result<(), Error> {
    for mount in &spec.mounts {
        if let Source::Bind(bind) = &mount.source
            && !bind.create
            && !bind.path.exists()
        {
            return Err(Error::SourceNotFound { path: bind.path.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::own_key, *};

    #[test]
    fn volumes_of_an_image_are_made_where_nothing_else_is() {
        let mount = |target: &str| Mount {
            target: target.into(),
            is_read_only: false,
            mode: String::new(),
            source: Source::Volume(VolumeMount::anonymous()),
        };
        let paths = ["/data", "/data/", "cache", "/", "/x/../data", "/x/../../deep/./er", "/own", "/proc/x"];
        let paths: Vec<String> = paths.map(str::to_owned).to_vec();

        let added = of_image(paths.iter(), &[mount("/own")]).unwrap();

        let targets: Vec<_> = added.iter().map(|mount| mount.target.as_str()).collect();
        assert_eq!(targets, ["/data", "/cache", "/deep/er"]);
        assert!(added.iter().all(|mount| mount.source.volume_name().is_some()));
    }

    #[test]
    fn snapshots_of_a_container_are_known_by_their_keys() {
        let id = ContainerId::from_bytes([7; 32]);
        assert_eq!(owner_of(own_key(&id).as_str()), Some(id.clone()));
        assert_eq!(owner_of(image_key(&id, 12).as_str()), Some(id));
        for other in ["build-1", "", "-", "abc-0"] {
            assert_eq!(owner_of(other), None);
        }
    }
}
