//! Sources that are elsewhere: files of web servers, trees of git repositories. What comes goes to the store; what is kept
//! here is small: how to ask whether a file has changed, and when commits were made.

mod failure;
mod git;
mod http;
mod memory;
mod spool;
mod tree;

use std::path::{Path, PathBuf};

use strata_dockerfile::remote::Algorithm;

pub use failure::Failure;
pub use git::Wanted as WantedTree;
pub use http::{File, Wanted as WantedFile};

use memory::Memory;
pub use spool::{Spool, Spooled};

/// What fetching needs beyond a build.
#[derive(Debug)]
pub struct Sources {
    client: tokio::sync::OnceCell<reqwest::Client>,
    memory: Memory,
    /// Private; for what is on its way to the store.
    passing: PathBuf,
    /// Hosts of ssh that were met, with their keys.
    known_hosts: PathBuf,
}

impl Sources {
    /// Opens the state below the builder's directory. What an earlier process left on its way is removed.
    pub fn open(root: &Path) -> Self {
        let root = root.join("sources");
        let passing = root.join("passing");
        // One builder at a time has this directory.
        let _ = std::fs::remove_dir_all(&passing);
        let known_hosts = root.join("known_hosts");
        Self { client: tokio::sync::OnceCell::new(), memory: Memory::open(root.join("known")), passing, known_hosts }
    }

    /// A file that comes from elsewhere than a server.
    pub fn spool(&self) -> Result<Spool, Failure> {
        Spool::new(&self.passing, Algorithm::Sha256)
    }

    /// A fresh private directory, removed when dropped.
    fn directory(&self) -> Result<tempfile::TempDir, Failure> {
        let failed = |source| Failure::Local { attempt: "make a directory in", path: self.passing.clone(), source };
        std::fs::create_dir_all(&self.passing).map_err(failed)?;
        tempfile::tempdir_in(&self.passing).map_err(failed)
    }
}
