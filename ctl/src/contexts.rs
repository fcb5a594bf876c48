//! Named contexts: a TOML file in the configuration directory. "default" is this host and is always there.

mod way;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

pub use way::Way;

use crate::error::{Error, Result};

/// Name of the context that needs no entry.
pub const DEFAULT: &str = "default";

/// The directory that `--config` names.
static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();

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
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// What it is for, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Endpoint of the store: unix:PATH, tcp:HOST:PORT or ssh://[USER@]HOST[:PORT].
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

/// Takes the directory that `--config` names, once.
pub fn choose_directory(directory: PathBuf) {
    // A second call does not come: main makes one.
    let _ = DIRECTORY.set(directory);
}

/// The directory that `--config` names, if it was given.
pub fn chosen_directory() -> Option<&'static Path> {
    DIRECTORY.get().map(PathBuf::as_path)
}

fn directory() -> Result<PathBuf> {
    if let Some(chosen) = chosen_directory() {
        return Ok(chosen.to_owned());
    }
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    let base = base.ok_or_else(|| Error::new("neither XDG_CONFIG_HOME nor HOME is set: no place for contexts"))?;
    Ok(base.join("strata"))
}

/// The file of all contexts.
pub fn file() -> Result<PathBuf> {
    Ok(directory()?.join("contexts.toml"))
}

/// Where the certificates of an imported context are.
pub fn tls_directory(name: &str) -> Result<PathBuf> {
    Ok(directory()?.join("tls").join(name))
}

/// Says whether a context may be called so: its name is a part of paths.
pub fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(is_plain)
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
        let text = toml::to_string_pretty(self).map_err(|error| Error::of(&error))?;
        write_whole(&file()?, text.as_bytes())
    }

    /// A context by name.
    pub fn find(&self, name: &str) -> Result<&Named> {
        self.contexts.get(name).ok_or_else(|| {
            let error = Error::usage(format!("there is no context {name:?}"));
            let near = strata_dockerfile::nearest(name, self.contexts.keys().map(String::as_str).chain([DEFAULT]));
            let error = near.into_iter().fold(error, |error, near| error.hint(format!("did you mean {near}?")));
            error.hint("`ctl context ls` lists the contexts")
        })
    }
}

/// Writes a file that only its owner reads, whole or not at all.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let part = path.with_extension(format!("part{}", std::process::id()));
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        std::io::Write::write_all(&mut file, bytes)?;
        fs::rename(&part, path)
    };
    write().map_err(|error: std::io::Error| Error::new(format!("cannot write {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_path() {
        for name in ["prod", "prod-2", "a.b_c", "7"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", ".x", "-x", "a/b", "a b", "ä"] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
