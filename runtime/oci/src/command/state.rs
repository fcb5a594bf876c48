//! `state`: the document of the runtime spec, and what runc adds to it.

use std::path::Path;

use crate::state::State;

pub fn state(root: &Path, id: &str) -> Result<(), String> {
    super::print(&State::load(root, id)?.document())
}
