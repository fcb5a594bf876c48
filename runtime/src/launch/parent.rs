//! The cgroup that those of containers are in.

use strata_oci::cgroup::Cgroup;

use super::Launcher;
use crate::error::Error;

impl Launcher {
    /// Removes it, unless something is in it: another runtime may have containers there. A user's is in a delegated place,
    /// which goes with the session.
    pub fn remove_parent(&self) -> Result<(), Error> {
        let (false, Some(layout)) = (self.is_limited(), &self.0.layout) else { return Ok(()) };
        let name = format!("/{}", self.0.config.file.cgroup_parent.trim_matches('/'));
        let group = Cgroup::open(layout, &name);
        let group = group.map_err(|error| Error::Host { source: error.into() })?;
        let _is_gone = group.remove_empty();
        Ok(())
    }
}
