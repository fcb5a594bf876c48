//! The configuration file of the store.

use std::time::Duration;

use strata_registry::Registries;

use crate::build_cache::BuildCache;
use crate::layer::Backend;

/// The `[blobs]` table.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Blobs {
    /// What becomes of compressed layers when they are unpacked.
    pub keep: Keep,
}

/// Which compressed layers are kept beside their trees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// All: push, save and the registry need nobody else.
    #[default]
    Always,
    /// Those that no registry is known to have, and those that were pushed to ours. The others are let go once they are
    /// unpacked and on disk, and fetched again by digest when they are needed.
    WithoutSource,
}

/// Settings; every one has a default.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Seconds that an object is left alone after it was made, though nothing references it.
    pub garbage_grace_seconds: u64,
    /// Seconds between an event that may leave garbage and the look for it.
    pub garbage_delay_seconds: u64,
    /// Seconds that a blob which came in part waits to be continued.
    pub partial_seconds: u64,
    /// When build cache records go by themselves.
    pub build_cache: BuildCache,
    /// What is kept of blobs.
    pub blobs: Blobs,
    /// How layers that come as archives are kept: "dirs" or "erofs".
    pub layer_backend: Backend,
    /// The registry that this store serves, if any.
    pub registry: crate::serve::config::Settings,
    /// Where metrics are served: "ADDRESS:PORT", or a port on loopback. Unset: nowhere.
    pub metrics: Option<String>,
    /// Registries. Unset: those of strata.toml, which builder and ctl read too.
    pub registries: Option<Registries>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            garbage_grace_seconds: 60,
            garbage_delay_seconds: 5,
            partial_seconds: 24 * 3600,
            build_cache: BuildCache::default(),
            blobs: Blobs::default(),
            layer_backend: Backend::default(),
            registry: crate::serve::config::Settings::default(),
            metrics: None,
            registries: None,
        }
    }
}

impl Config {
    /// How long an unreferenced object is left alone.
    pub fn garbage_grace(&self) -> Duration {
        Duration::from_secs(self.garbage_grace_seconds)
    }

    /// How long a blob that came in part waits to be continued.
    pub fn partial_time(&self) -> Duration {
        Duration::from_secs(self.partial_seconds)
    }

    /// How long the collector waits for more to come.
    pub fn garbage_delay(&self) -> Duration {
        Duration::from_secs(self.garbage_delay_seconds)
    }
}
