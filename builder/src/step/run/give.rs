//! What the container of a step gets for its mounts: secrets are asked for now, other layers get a snapshot of their own,
//! cache mounts are taken, agents get a socket.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::mounts::{self, Kind, Mount, Secret};
use crate::agent::Agent;
use crate::error::Error;
use crate::peers::{CacheMount, HeldMount, MountSource, RunStep, StepMount};
use crate::solve::Build;

/// What is given for as long as the step runs.
#[derive(Debug, Default)]
pub struct Borrowed {
    agents: Vec<Agent>,
    /// By id and what they begin with.
    caches: BTreeMap<(String, String), HeldMount>,
    snapshots: Vec<String>,
}

impl Borrowed {
    /// Takes all back. The first error is the one to tell; the lease ends what is left.
    pub async fn give_back(self, build: &Build) -> Result<(), Error> {
        let mut result = Ok(());
        for key in self.snapshots {
            result = result.and(build.store.remove_snapshot(&key).await);
        }
        result
    }
}

/// Adds the mounts to a step.
pub async fn mounts(
    build: &Arc<Build>,
    mounts: &[Mount],
    step: &mut RunStep,
    borrowed: &mut Borrowed,
) -> Result<(), Error> {
    take_caches(build, mounts, borrowed).await?;
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
            Kind::Cache { target, is_read_only, wanted } => {
                let held = borrowed.caches.get(&name(wanted)).expect("every cache mount was taken");
                let source = MountSource::Host(held.path.clone());
                step.mounts.push(StepMount { target: target.clone(), is_read_only: *is_read_only, source });
            }
            Kind::Secret(secret) => self::secret(build, mount, secret, step).await?,
            Kind::Agent(agent) => self::agent(build, mount, agent, step, borrowed).await?,
        }
    }
    Ok(())
}

/// What a cache mount is known by.
fn name(wanted: &CacheMount) -> (String, String) {
    (wanted.id.clone(), wanted.base.clone())
}

/// Takes each cache mount once, in one order for all steps: those who wait for each other would wait for ever. Where a step
/// names one several times, it has it as it says first.
async fn take_caches(build: &Build, mounts: &[Mount], borrowed: &mut Borrowed) -> Result<(), Error> {
    let mut all = BTreeMap::new();
    for mount in mounts {
        if let Kind::Cache { wanted, .. } = &mount.kind {
            all.entry(name(wanted)).or_insert((wanted, mount.span));
        }
    }
    for (name, (wanted, span)) in all {
        let held = build.store.hold_cache_mount(wanted).await.map_err(|error| match error {
            Error::Peer { .. } => {
                let message = error.to_string();
                Error::StepRefused { diagnostic: build.at(span, message), source: Box::new(error) }
            }
            other => other,
        })?;
        borrowed.caches.insert(name, held);
    }
    Ok(())
}

/// Something of the client that a step needs and that was not given.
fn not_given(build: &Build, mount: &Mount, message: String, hint: String) -> Error {
    let diagnostic = build.file.diagnostic(mount.span, message).with_suggestion(hint);
    Error::NotGiven { diagnostic: Box::new(diagnostic) }
}

async fn secret(build: &Build, mount: &Mount, secret: &Secret, step: &mut RunStep) -> Result<(), Error> {
    let Some(value) = build.session.secret(&secret.id).await? else {
        if !secret.is_required {
            return Ok(());
        }
        let message = format!("secret {:?} is required and was not given", secret.id);
        let hint = format!("`ctl build --secret id={0},src=FILE` gives it, or `id={0},env=NAME`", secret.id);
        return Err(not_given(build, mount, message, hint));
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

async fn agent(
    build: &Arc<Build>,
    mount: &Mount,
    agent: &mounts::Agent,
    step: &mut RunStep,
    borrowed: &mut Borrowed,
) -> Result<(), Error> {
    if build.session.agent(&agent.id, Vec::new()).await?.is_none() {
        if !agent.is_required {
            return Ok(());
        }
        let message = format!("the ssh agent {:?} is required and was not given", agent.id);
        let hint = format!("`ctl build --ssh {0}` gives it, or `--ssh {0}=KEY`", agent.id);
        return Err(not_given(build, mount, message, hint));
    }
    if !build.has_local_runtime {
        let message = "an ssh agent reaches only steps that run on the host of the builder";
        return Err(Error::Unsupported(build.at(mount.span, message)));
    }
    let number = build.serial.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}-{number}", build.lease);
    let socket = Agent::named(build.session.clone(), &agent.id, &name, agent.access.mode, agent.access.owner)?;
    let source = MountSource::Host(socket.path().to_string_lossy().into_owned());
    step.mounts.push(StepMount { target: agent.target.clone(), is_read_only: false, source });
    borrowed.agents.push(socket);
    Ok(())
}
