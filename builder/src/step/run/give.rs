//! What the container of a step gets for its mounts: secrets are asked for now, other layers get a snapshot of their own.

use std::sync::atomic::Ordering;

use super::mounts::{Kind, Mount, Secret};
use crate::error::Error;
use crate::peers::{MountSource, RunStep, StepMount};
use crate::solve::Build;

/// Snapshots that live as long as the step.
#[derive(Debug, Default)]
pub struct Borrowed {
    snapshots: Vec<String>,
}

impl Borrowed {
    /// Removes them. The first error is the one to tell; the lease ends what is left.
    pub async fn give_back(self, build: &Build) -> Result<(), Error> {
        let mut result = Ok(());
        for key in self.snapshots {
            result = result.and(build.store.remove_snapshot(&key).await);
        }
        result
    }
}

/// Adds the mounts to a step.
pub async fn mounts(build: &Build, mounts: &[Mount], step: &mut RunStep, borrowed: &mut Borrowed) -> Result<(), Error> {
    for mount in mounts {
        match &mount.kind {
            Kind::Bind { target, layers, path, is_writable, .. } => {
                let key = format!("{}-{}", build.lease, build.serial.fetch_add(1, Ordering::Relaxed));
                build.store.prepare(&key, layers, &build.lease).await?;
                borrowed.snapshots.push(key.clone());
                let source = MountSource::Snapshot { key, path: path.clone() };
                step.mounts.push(StepMount { target: target.clone(), is_read_only: !is_writable, source });
            }
            Kind::Tmpfs { target, size } => {
                let source = MountSource::Tmpfs { size: *size };
                step.mounts.push(StepMount { target: target.clone(), is_read_only: false, source });
            }
            Kind::Secret(secret) => self::secret(build, mount, secret, step).await?,
        }
    }
    Ok(())
}

async fn secret(build: &Build, mount: &Mount, secret: &Secret, step: &mut RunStep) -> Result<(), Error> {
    let Some(value) = build.session.secret(&secret.id).await? else {
        if !secret.is_required {
            return Ok(());
        }
        let message = format!("secret {:?} is required and was not given", secret.id);
        let hint = format!("`ctl build --secret id={0},src=FILE` gives it, or `id={0},env=NAME`", secret.id);
        let diagnostic = build.file.diagnostic(mount.span, message).with_suggestion(hint);
        return Err(Error::NotGiven { diagnostic: Box::new(diagnostic) });
    };
    if let Some(name) = &secret.env {
        let text = std::str::from_utf8(value.bytes()).ok().filter(|text| !text.contains('\0'));
        let Some(text) = text else {
            let message = format!("secret {:?} is no text, and so cannot be a variable", secret.id);
            return Err(build.mistake(mount.span, message));
        };
        step.secret_env.push(name, text);
    }
    if let Some(target) = &secret.target {
        let source = MountSource::Bytes { data: value, mode: secret.access.mode, owner: secret.access.owner };
        step.mounts.push(StepMount { target: target.clone(), is_read_only: true, source });
    }
    Ok(())
}
