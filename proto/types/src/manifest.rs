//! Image manifests and indexes, as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Descriptor, Platform, media_type};

/// One image: a config and its layers, bottom first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Media type of this document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// Free annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// An OCI manifest.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.into()),
            config,
            layers,
            annotations: BTreeMap::new(),
        }
    }
}

/// Several images under one digest, one per platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Media type of this document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The manifests.
    pub manifests: Vec<IndexEntry>,
    /// Free annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// An OCI index.
    pub fn new(manifests: Vec<IndexEntry>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.into()),
            manifests,
            annotations: BTreeMap::new(),
        }
    }

    /// The entry that serves `platform`: the first whose variant is equal too, else the first of the architecture.
    pub fn select(&self, platform: &Platform) -> Option<&IndexEntry> {
        let of = |exact: bool| {
            self.manifests.iter().find(|entry| {
                entry.platform.as_ref().is_some_and(|p| if exact { p.equals(platform) } else { p.serves(platform) })
            })
        };
        of(true).or_else(|| of(false))
    }
}

/// One manifest of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// The manifest.
    #[serde(flatten)]
    pub descriptor: Descriptor,
    /// The platform it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    fn entry(n: u8, platform: &str) -> IndexEntry {
        let descriptor = Descriptor::new(media_type::OCI_MANIFEST, Digest::from_sha256_bytes([n; 32]), 7);
        IndexEntry { descriptor, platform: Some(Platform::parse(platform).unwrap()) }
    }

    #[test]
    fn an_index_gives_the_manifest_of_the_platform() {
        let index = Index::new(vec![entry(1, "linux/arm/v6"), entry(2, "linux/arm/v7"), entry(3, "linux/amd64")]);
        let chosen = |p| index.select(&Platform::parse(p).unwrap()).map(|e| e.descriptor.digest.as_bytes()[0]);
        assert_eq!(chosen("linux/amd64"), Some(3));
        assert_eq!(chosen("linux/arm/v7"), Some(2));
        assert_eq!(chosen("linux/s390x"), None);
    }

    #[test]
    fn a_manifest_has_the_names_of_the_specification() {
        let config = Descriptor::new(media_type::OCI_CONFIG, Digest::from_sha256_bytes([0; 32]), 3);
        let json = serde_json::to_value(Manifest::new(config, vec![])).unwrap();
        assert_eq!(json["schemaVersion"], 2);
        assert_eq!(json["mediaType"], media_type::OCI_MANIFEST);
        assert_eq!(json["config"]["mediaType"], media_type::OCI_CONFIG);
        assert!(json.get("annotations").is_none());
    }

    #[test]
    fn an_index_entry_is_one_flat_object() {
        let json = serde_json::to_value(entry(1, "linux/arm64/v8")).unwrap();
        assert_eq!(json["size"], 7);
        assert_eq!(json["platform"]["architecture"], "arm64");
        assert_eq!(serde_json::from_value::<IndexEntry>(json).unwrap(), entry(1, "linux/arm64/v8"));
    }
}
