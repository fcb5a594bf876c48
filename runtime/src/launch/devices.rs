//! CDI devices of a container: the edits to its spec, and what hooks and shares of the processor need around it. What must
//! be done at its end is kept in its directory, so that a restarted service does it too.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use oci_spec::runtime::Spec as OciSpec;
use strata_oci::{
    hooks::{self, Later},
    plan::{DeviceNodes, PlanInputs},
    rdt::Groups,
    unprivileged,
};
use strata_types::ContainerId;

use super::{Prepared, remove_file};
use crate::{
    cdi::{self, Nodes, Registry},
    error::Error,
    record::Record,
};

/// The file that names groups of resctrl.
const GROUPS: &str = "resctrl.json";

/// What a container with devices has besides others.
#[derive(Debug, Default)]
pub struct Around {
    container: Option<hooks::Container>,
    resctrl: Vec<PathBuf>,
}

/// Makes the edits of a container's devices to its spec.
pub fn prepare(directories: &[PathBuf], job: &Prepared, spec: &mut OciSpec) -> Result<Around, Error> {
    let names = &job.record.spec.cdi_devices;
    if names.is_empty() {
        return Ok(Around::default());
    }
    let registry = Registry::read(directories);
    let nodes = match unprivileged::device_nodes() {
        DeviceNodes::Make => Nodes::Make,
        DeviceNodes::Bind => Nodes::Bind,
    };
    let edited = registry.edits(names).and_then(|edits| cdi::apply(spec, &edits, nodes));
    edited.map_err(|error| refused(&error))?;
    let container = match spec.hooks() {
        None => None,
        Some(_) => Some(bundle(job, spec)?),
    };
    let rdt = spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref());
    let resctrl = match rdt {
        None => Vec::new(),
        Some(rdt) => {
            let groups = Groups::make(rdt, job.record.id.as_str()).map_err(|error| refused(&error))?;
            keep(&job.dir, &groups)?;
            groups.tasks()
        }
    };
    Ok(Around { container, resctrl })
}

fn refused(error: &(dyn std::error::Error + 'static)) -> Error {
    Error::Start { step: "devices".to_owned(), errno: 0, exit_code: 128, text: strata_rpc::fault::chain(error) }
}

impl Around {
    /// Adds what a plan needs.
    pub fn add_to(&self, inputs: PlanInputs) -> PlanInputs {
        PlanInputs { container: self.container.clone(), resctrl: self.resctrl.clone(), ..inputs }
    }

    /// Keeps the hooks that run later, now that there is a plan.
    pub fn keep(&self, job: &Prepared, spec: &OciSpec) -> Result<(), Error> {
        let Some(container) = &self.container else { return Ok(()) };
        Later::of(spec, container).save(&job.dir).map_err(|e| Error::io("write hooks to", &job.dir, e))
    }
}

/// What hooks look for: config.json, and a directory where those that run before the root is entered find it.
fn bundle(job: &Prepared, spec: &OciSpec) -> Result<hooks::Container, Error> {
    let root = job.dir.join("rootfs");
    match fs::create_dir(&root) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(Error::io("create", root, error)),
        _ => {}
    }
    let mut shown = spec.clone();
    if let Some(env) = shown.process_mut().as_mut().and_then(|process| process.env_mut().as_mut()) {
        env.retain(|pair| !job.record.spec.secret_env.0.contains(pair));
    }
    let path = job.dir.join("config.json");
    let failed = |e: io::Error| Error::io("write", &path, e);
    let bytes = serde_json::to_vec(&shown).map_err(|error| failed(error.into()))?;
    let mut file =
        fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path).map_err(failed)?;
    file.write_all(&bytes).map_err(failed)?;
    Ok(hooks::Container { id: job.record.id.to_string(), bundle: job.dir.clone(), root_at: Some(root) })
}

fn keep(dir: &Path, groups: &Groups) -> Result<(), Error> {
    let path = dir.join(GROUPS);
    let kept = serde_json::to_vec(groups).map_err(io::Error::from).and_then(|bytes| fs::write(&path, bytes));
    kept.map_err(|error| {
        // The first error counts.
        let _ = groups.remove();
        Error::io("write", path, error)
    })
}

/// Whether something is to be done when a container has started and ended.
pub fn is_concerned(record: &Record) -> bool {
    !record.spec.cdi_devices.is_empty()
}

/// Runs the hooks of a container whose process was executed; after a failure it is to be killed.
pub fn started(dir: &Path, pid: u32) -> Result<(), Error> {
    let later = Later::load(dir).map_err(|e| Error::io("read hooks of", dir, e))?;
    if !later.has_poststart() {
        return Ok(());
    }
    later.run_poststart(pid).map_err(|failure| Error::Start {
        step: failure.step.clone(),
        errno: failure.errno,
        exit_code: 128,
        text: failure.to_string(),
    })
}

/// Does what is to be done at the end of a container. What fails is logged: the container is gone anyway.
pub fn ended(dir: &Path, id: &ContainerId) {
    match Later::take(dir) {
        Err(error) => tracing::warn!(container = %id, %error, "cannot read the hooks of an ended container"),
        Ok(later) => {
            for failure in later.run_poststop() {
                tracing::warn!(container = %id, %failure, "a hook of an ended container failed");
            }
        }
    }
    if let Err(error) = release(dir) {
        tracing::warn!(container = %id, %error, "cannot remove the resctrl groups of an ended container");
    }
}

fn release(dir: &Path) -> Result<(), Error> {
    let path = dir.join(GROUPS);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        bytes => bytes.map_err(|e| Error::io("read", &path, e))?,
    };
    let groups: Groups = serde_json::from_slice(&bytes).map_err(|e| Error::io("read", &path, e))?;
    groups.remove().map_err(|error| refused(&error))?;
    remove_file(&path)
}
