//! `pause` and `resume`, by the freezer.

use std::path::Path;

use crate::state::{State, Status, describe};

pub fn pause(root: &Path, id: &str) -> Result<(), String> {
    let state = State::load(root, id)?;
    match state.status() {
        Status::Created | Status::Running => state.cgroup()?.freeze().map_err(|error| describe(&error)),
        status => Err(format!("cannot pause container {id}: it is {}", status.name())),
    }
}

pub fn resume(root: &Path, id: &str) -> Result<(), String> {
    let state = State::load(root, id)?;
    match state.status() {
        Status::Paused => state.cgroup()?.thaw().map_err(|error| describe(&error)),
        status => Err(format!("cannot resume container {id}: it is {}, not paused", status.name())),
    }
}
