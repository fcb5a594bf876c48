//! `delete`: what `create` made is removed, the processes that are left first.

use std::{fs, io::ErrorKind, path::Path};

use strata_oci::{hooks::Later, rdt::Groups};

use crate::{
    attached::Attached,
    container::warn,
    rootless,
    state::{State, Status, describe, directory},
};

/// Removes a stopped container.
#[derive(clap::Args)]
pub struct Delete {
    /// Kills it first, and does not mind if it is absent.
    #[arg(short, long)]
    pub force: bool,
    /// Name of the container.
    pub id: String,
}

pub fn delete(root: &Path, id: &str, force: bool) -> Result<(), String> {
    let state = match State::load(root, id) {
        Err(_) if force => {
            // A half-made container, or none.
            return match fs::remove_dir_all(directory(root, id)?) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(format!("cannot remove container {id}: {error}"))
                }
                _ => Ok(()),
            };
        }
        state => state?,
    };
    let status = state.status();
    if status != Status::Stopped && !force {
        return Err(format!("cannot delete container {id}: it is {}, it is not stopped", status.name()));
    }
    if status == Status::Creating {
        // Its process waits for the maker and ends with it.
        rootless::kill_process(state.maker.0, state.maker.1)?;
    }
    if state.has_cgroup() {
        state.cgroup.remove().map_err(|error| describe(&error))?;
    } else {
        rootless::kill_process(state.pid, state.start_time)?;
    }
    state.resctrl.as_ref().map_or(Ok(()), Groups::remove).map_err(|error| describe(&error))?;
    state.attached.as_ref().map_or(Ok(()), Attached::detach)?;
    let later = Later::load(&state.directory);
    fs::remove_dir_all(&state.directory).map_err(|error| format!("cannot remove container {id}: {error}"))?;
    let later = later.map_err(|error| format!("cannot read the hooks of container {id}: {error}"))?;
    warn(&later.run_poststop());
    Ok(())
}
