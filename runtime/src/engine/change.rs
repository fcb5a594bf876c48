//! Mounts that come to a container, and go, after it was made: at once where it runs, and whenever it is started again.

use std::sync::Arc;

use rustix::io::Errno;

use super::{Engine, blocking, mounts::image_key, whole};
use crate::{
    container::Container,
    error::Error,
    launch::Change,
    names,
    record::{Record, State},
    spec::{Mount, SecretUse, Source, Spec},
    store::Volatile,
};

impl Engine {
    /// Adds a mount to a container. On failure it has none of it but a mount point.
    pub async fn mount(self: &Arc<Self>, container: Arc<Container>, mount: Mount) -> Result<(), Error> {
        let engine = self.clone();
        whole("adding a mount", async move {
            let _guard = container.lifecycle.lock().await;
            engine.mount_whole(&container, mount).await
        })
        .await
    }

    async fn mount_whole(self: &Arc<Self>, container: &Container, mut mount: Mount) -> Result<(), Error> {
        let record = changeable(container)?;
        let secrets = record.spec.secrets.iter().filter_map(SecretUse::target);
        if record
            .spec
            .mounts
            .iter()
            .map(|other| other.target.as_str())
            .chain(secrets)
            .any(|other| other == mount.target)
        {
            return Err(Error::Mounted { container: record.name.to_string(), target: mount.target });
        }
        super::mounts::check_sources(&only(&record, mount.clone()).spec)?;
        match &mut mount.source {
            Source::Volume(volume) if volume.name.is_none() => volume.name = Some(names::new_volume_name()?),
            Source::Image(image) => {
                let keys: Vec<_> = super::mounts::mounted_snapshots(&record).collect();
                let mut free = (0..).map(|number| image_key(&record.id, number)).filter(|key| !keys.contains(&key));
                image.key = free.next();
            }
            _ => {}
        }
        let index = record.spec.mounts.len();
        // What is made for it is named before it is there.
        self.write(container.change(|record| record.spec.mounts.push(mount))).await?;
        let added = self.add(container, index).await;
        if added.is_err() {
            let mut failed = None;
            let before = container.change(|record| failed = Some(record.spec.mounts.remove(index)));
            if let Some(failed) = failed {
                // Nobody has seen its anonymous volume.
                self.forget_source(&Record { removes_volumes: true, ..only(&before, failed) }).await;
            }
            self.write(before).await?;
        }
        added
    }

    async fn add(&self, container: &Container, index: usize) -> Result<(), Error> {
        self.make_sources(container, index).await?;
        let record = container.record();
        self.fill_volumes(&record, index).await?;
        let State::Running(running) = &record.state else { return Ok(()) };
        let mut alone = only(&record, record.spec.mounts[index].clone());
        let tree = match alone.spec.mounts[0].source.snapshot_key() {
            Some(key) => {
                let volatile = Volatile::of(&record.spec);
                Some(self.store.acquire(key, record.id.as_str(), volatile.into()).await?.mount)
            }
            None => None,
        };
        let held = self.hold_volumes(&alone).await?;
        self.locate(&mut alone)?;
        let added = [alone.spec.mounts[0].clone()];
        let mount = Box::new(alone.spec.mounts.remove(0));
        let (launcher, init) = (self.launcher.clone(), running.init.clone());
        let change = Change::Mount { mount, tree };
        let points = blocking("mounting", move || launcher.change(&init, change)).await?;
        if !points.is_empty()
            && let Err(error) = self.write(container.change(|record| record.add_mount_points(points))).await
        {
            // It is mounted: what is lost is that nobody in the container made its mount point.
            tracing::warn!(container = %record.id, %error, "cannot record a mount point");
        }
        drop(held);
        self.mounted(&record, "mount", &added);
        Ok(())
    }

    /// Takes a mount from a container; files of it that are open stay so until they are closed.
    pub async fn unmount(self: &Arc<Self>, container: Arc<Container>, target: String) -> Result<(), Error> {
        let engine = self.clone();
        whole("taking a mount away", async move {
            let _guard = container.lifecycle.lock().await;
            engine.unmount_whole(&container, target).await
        })
        .await
    }

    async fn unmount_whole(self: &Arc<Self>, container: &Container, target: String) -> Result<(), Error> {
        let record = changeable(container)?;
        let index = record.spec.mounts.iter().position(|mount| mount.target == target);
        let index = index.ok_or_else(|| Error::NotMounted { container: record.name.to_string(), target })?;
        let target = record.spec.mounts[index].target.clone();
        if let State::Running(running) = &record.state {
            let (launcher, init) = (self.launcher.clone(), running.init.clone());
            match blocking("unmounting", move || launcher.change(&init, Change::Unmount { target }).map(drop)).await {
                // The container unmounted it, or removed what it was on.
                Err(Error::Start { errno, .. }) if is_gone(errno) => {}
                result => result?,
            }
        }
        let mut gone = None;
        let after = container.change(|record| gone = Some(record.spec.mounts.remove(index)));
        if let Some(gone) = gone {
            if let State::Running(_) = record.state {
                self.mounted(&record, "unmount", std::slice::from_ref(&gone));
            }
            self.forget_source(&only(&after, gone)).await;
        }
        self.write(after).await
    }

    /// Gives back what was made for a mount. What fails is swept with what else is nobody's.
    async fn forget_source(self: &Arc<Self>, alone: &Record) {
        for key in super::mounts::mounted_snapshots(alone) {
            if let Err(error) = self.store.release(key, alone.id.as_str()).await {
                tracing::warn!(container = %alone.id, %error, "cannot release the snapshot of a mount");
            }
        }
        self.detach_volumes(alone).await;
        if let Err(error) = self.drop_sources(alone).await {
            tracing::warn!(container = %alone.id, %error, "cannot give back what a mount was of");
        }
    }
}

/// The record of a container that can be changed.
pub(super) fn changeable(container: &Container) -> Result<Record, Error> {
    let record = container.record();
    match record.state {
        State::Removing | State::Creating => Err(Error::Removing { id: record.id.to_string() }),
        State::Created | State::Running(_) | State::Exited | State::Restarting => Ok(record),
    }
}

/// A record with this mount and no other.
fn only(record: &Record, mount: Mount) -> Record {
    let spec = Spec { mounts: vec![mount], ..record.spec.clone() };
    Record { spec, ..record.clone() }
}

fn is_gone(errno: i32) -> bool {
    [Errno::INVAL, Errno::NOENT, Errno::NOTDIR].iter().any(|gone| gone.raw_os_error() == errno)
}
