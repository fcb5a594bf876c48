//! Named contexts: a TOML file in the configuration directory. "default" is this host and is always there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Name of the context that needs no entry.
pub const DEFAULT: &str = "default";

/// All contexts.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// The one in use.
    #[serde(default = "default_name")]
    pub current: String,
    /// By name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Named>,
}

/// One context.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Endpoint of the store.
    pub store: String,
    /// Endpoint of the builder.
    pub builder: String,
    /// Endpoint of the runtime.
    pub runtime: String,
    /// Certificate authority of the services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<PathBuf>,
    /// Certificate of this client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
}

fn default_name() -> String {
    DEFAULT.to_owned()
}

fn file() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    let base = base.ok_or_else(|| Error::new("neither XDG_CONFIG_HOME nor HOME is set: no place for contexts"))?;
    Ok(base.join("strata/contexts.toml"))
}

impl Contexts {
    /// Reads the file; without one there is only "default".
    pub fn load() -> Result<Self> {
        let Ok(path) = file() else { return Ok(Self { current: default_name(), contexts: BTreeMap::new() }) };
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text)
                .map_err(|error| Error::new(format!("cannot read the contexts in {}: {error}", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self { current: default_name(), contexts: BTreeMap::new() })
            }
            Err(error) => Err(Error::new(format!("cannot read {}: {error}", path.display()))),
        }
    }

    /// Writes the file, whole or not at all.
    pub fn save(&self) -> Result<()> {
        let path = file()?;
        let text = toml::to_string_pretty(self).map_err(|error| Error::of(&error))?;
        write_whole(&path, &text).map_err(|error| Error::new(format!("cannot write {}: {error}", path.display())))
    }

    /// A context by name.
    pub fn find(&self, name: &str) -> Result<&Named> {
        self.contexts.get(name).ok_or_else(|| {
            Error::usage(format!("there is no context {name:?}")).hint("`ctl context ls` lists the contexts")
        })
    }
}

fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let part = path.with_extension(format!("part{}", std::process::id()));
    fs::write(&part, text)?;
    fs::rename(&part, path)
}
