//! The table `[traces]` of strata.toml, which all services and `ctl` read.

use std::path::Path;

use serde::Deserialize;

use crate::config;

/// Where traces go.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A collector that takes OTLP over gRPC, "http://HOST:4317". Absent: nowhere, unless the environment says so.
    pub endpoint: Option<String>,
}

/// The file as far as this module reads it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Shared {
    traces: Config,
}

impl Config {
    /// Reads the table of the file, which need not be there.
    pub fn load(path: &Path) -> Result<Self, config::Error> {
        Ok(config::load::<Shared>(Some(path).filter(|path| path.exists()))?.traces)
    }
}
