//! What must be known of an image's config to check it against its manifest: the platform and the diff-ids.
//! The whole document is [`strata_types::ImageConfig`]; it is not parsed here, since it keeps fields that are not known.

use serde::Deserialize;
use strata_types::{Digest, Platform, RootFs};

use crate::{Error, Limits, Result, platform};

/// The checked head of a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The platform, normalised.
    pub platform: Platform,
    /// Digests of the uncompressed layers, bottom first.
    pub diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    rootfs: RootFs,
}

impl Config {
    /// Parses and checks a config; `what` names it in errors.
    ///
    /// An absent operating system or architecture means Linux on amd64, as in images made before they were required.
    pub fn parse(bytes: &[u8], what: &str, limits: &Limits) -> Result<Self> {
        if bytes.len() as u64 > limits.max_config {
            return Err(Error::limit(what, "bytes", limits.max_config));
        }
        let wire: Wire =
            serde_json::from_slice(bytes).map_err(|source| Error::Json { what: what.to_owned(), source })?;
        if wire.rootfs.kind != "layers" {
            return Err(Error::document(what, format!("its root file system is of type {:?}", wire.rootfs.kind)));
        }
        if wire.rootfs.diff_ids.len() > limits.max_layers {
            return Err(Error::limit(what, "layers", limits.max_layers as u64));
        }
        let or = |text: String, usual: &str| if text.is_empty() { usual.to_owned() } else { text };
        let (os, architecture) = (or(wire.os, "linux"), or(wire.architecture, "amd64"));
        let platform = platform::named(&os, &architecture, wire.variant.as_deref())
            .ok_or_else(|| Error::document(what, "its operating system, architecture or variant is malformed"))?;
        Ok(Self { platform, diff_ids: wire.rootfs.diff_ids })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config> {
        Config::parse(text.as_bytes(), "config x", &Limits { max_config: 300, max_layers: 2, ..Limits::default() })
    }

    #[test]
    fn the_platform_is_normalised_and_the_usual_one_where_it_is_absent() {
        let with = |fields: &str| parse(&format!("{{{fields}\"rootfs\":{{\"type\":\"layers\"}}}}")).unwrap();
        assert_eq!(with("").platform.to_string(), "linux/amd64");
        assert_eq!(with("\"os\":\"Linux\",\"architecture\":\"aarch64\",").platform.to_string(), "linux/arm64");
        let variant = "\"os\":\"linux\",\"architecture\":\"arm\",\"variant\":\"v6\",";
        assert_eq!(with(variant).platform.to_string(), "linux/arm/v6");
    }

    #[test]
    fn a_config_that_lies_or_is_too_large_is_refused() {
        let digest = format!("\"sha256:{}\"", "0".repeat(64));
        for bad in [
            "{}".to_owned(),
            r#"{"rootfs":{"type":"disk"}}"#.to_owned(),
            r#"{"rootfs":{"type":"layers","diff_ids":["../x"]}}"#.to_owned(),
            r#"{"rootfs":{"type":"layers"},"rootfs":{"type":"layers"}}"#.to_owned(),
            r#"{"os":"a/b","rootfs":{"type":"layers"}}"#.to_owned(),
            format!(r#"{{"rootfs":{{"type":"layers","diff_ids":[{digest},{digest},{digest}]}}}}"#),
            format!(r#"{{"rootfs":{{"type":"layers"}},"x":"{}"}}"#, "x".repeat(300)),
        ] {
            assert!(parse(&bad).is_err(), "{bad} was taken");
        }
    }
}
