//! Configuration files: TOML, refused with path and place when something in them is unknown.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read configuration {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It says something that is not understood.
    #[error("invalid configuration {path}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
}

/// Loads `path`, or the defaults where there is none. `T` must be `#[serde(deny_unknown_fields, default)]`.
pub fn load<T: DeserializeOwned + Default>(path: Option<&Path>) -> Result<T, Error> {
    let Some(path) = path else { return Ok(T::default()) };
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
    toml::from_str(&text).map_err(|source| Error::Parse { path: path.into(), source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Sample {
        grace: u32,
    }

    #[test]
    fn a_misspelt_key_is_refused_with_path_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.toml");
        std::fs::write(&path, "grace = 3\n").unwrap();
        assert_eq!(load::<Sample>(Some(&path)).unwrap(), Sample { grace: 3 });
        std::fs::write(&path, "\ngrase = 3\n").unwrap();
        let text = crate::fault::chain(&load::<Sample>(Some(&path)).unwrap_err());
        assert!(text.contains("store.toml") && text.contains("line 2") && text.contains("grase"), "{text}");
        assert_eq!(load::<Sample>(None).unwrap(), Sample::default());
    }
}
