//! What a service gets to make its routes from, and what it finds out with that.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use crate::{
    cli::ServiceArgs,
    config,
    idle::{Drain, Idle},
    metrics::{self, Metrics},
    paths,
};

/// What a service gets to make its routes from.
#[derive(Debug, Clone)]
pub struct Context {
    /// "store", "builder" or "runtime".
    pub name: &'static str,
    /// Its state directory; exists, and no other service has it.
    pub root: PathBuf,
    /// Its configuration file.
    pub config: Option<PathBuf>,
    /// The flags, for what else they say.
    pub args: ServiceArgs,
    /// Guards against stopping when idle.
    pub idle: Idle,
    /// Tells of the stop.
    pub drain: Drain,
    /// Figures, which count calls already.
    pub metrics: Metrics,
}

impl Context {
    /// The configuration that all services and ctl share, or its defaults: strata.toml beside this service's own file.
    pub fn load_shared<T: serde::de::DeserializeOwned + Default>(&self) -> Result<T, config::Error> {
        config::load(Some(self.shared_config().as_path()).filter(|path| path.exists()))
    }

    pub(super) fn shared_config(&self) -> PathBuf {
        let own = self.config.as_deref().and_then(Path::parent);
        own.map_or_else(paths::shared_config, |dir| dir.join("strata.toml"))
    }

    /// What starts this service again when it is gone: program and arguments. None where somebody else looks after it.
    pub fn waker(&self) -> Option<(PathBuf, Vec<OsString>)> {
        let is_on_demand = self.args.listen.as_deref().is_some_and(|text| text.starts_with("fd:"));
        let socket = self.args.socket_path.as_ref().filter(|_| is_on_demand)?;
        // Read now: a binary that was replaced since has another path there.
        let program = std::env::current_exe().ok()?;
        let words: [&OsStr; 5] =
            ["--wake".as_ref(), "--socket-path".as_ref(), socket.as_ref(), "--root".as_ref(), self.root.as_ref()];
        Some((program, words.map(OsStr::to_owned).into()))
    }

    /// Serves the figures where the flag says, else where the configuration does; nowhere, if neither says so.
    pub async fn serve_metrics(&self, configured: Option<&str>) -> Result<(), metrics::Error> {
        match self.args.metrics.as_deref().or(configured) {
            Some(text) => self.metrics.serve(text.parse()?, &self.drain).await.map(drop),
            None => Ok(()),
        }
    }

    /// The configuration, or its defaults.
    pub fn load_config<T: serde::de::DeserializeOwned + Default>(&self) -> Result<T, config::Error> {
        config::load(self.config.as_deref())
    }
}
