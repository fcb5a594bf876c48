//! Manifests and indexes: parsed strictly, with the bytes as they came, so that digests stay.
//! What one reader would take for a manifest and another for an index is refused (CVE-2021-41190).

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use strata_types::{Descriptor, Digest, Platform, media_type};

use crate::blob::digest;
use crate::{Error, Limits, Result, media, platform};

/// Docker's first manifests, which hold no config and are signed inside.
const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
const SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// A manifest or an index with its bytes.
#[derive(Clone, Debug)]
pub struct Document {
    /// Media type, digest and size; no annotations.
    pub descriptor: Descriptor,
    /// The bytes as they came.
    pub bytes: Vec<u8>,
    /// What they say.
    pub kind: Kind,
}

/// What a document is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// One image, artifact or attestation.
    Manifest(Box<Manifest>),
    /// Several of them, or further indexes.
    Index(Box<Index>),
}

/// A descriptor in a document, with what only documents say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Media type, digest, size and annotations.
    pub descriptor: Descriptor,
    /// The platform of an index entry.
    pub platform: Option<Platform>,
    /// What kind of artifact it is.
    pub artifact_type: Option<String>,
    /// Where else the content may be fetched. Never with credentials (CVE-2020-15157).
    pub urls: Vec<String>,
}

/// What a manifest says.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The config.
    pub config: Entry,
    /// The layers, bottom first.
    pub layers: Vec<Entry>,
    /// What kind of artifact this is; none for images.
    pub artifact_type: Option<String>,
    /// The manifest that this one is about; it need not exist.
    pub subject: Option<Entry>,
    /// Free annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What an index says.
#[derive(Clone, Debug)]
pub struct Index {
    /// Its entries, in order.
    pub manifests: Vec<Entry>,
    /// What kind of artifact this is; none for images.
    pub artifact_type: Option<String>,
    /// The manifest that this one is about; it need not exist.
    pub subject: Option<Entry>,
    /// Free annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Document {
    /// Parses and checks a document that was announced as `declared`: a media type without parameters, or an empty
    /// text where nothing was announced; then the document itself must say what it is.
    ///
    /// Refuses what is longer than the limits allow, another media type inside than outside, fields of manifest and
    /// index in one document, and schema 1.
    pub fn parse(bytes: Vec<u8>, declared: &str, limits: &Limits) -> Result<Self> {
        let digest = digest(&bytes);
        let what = format!("document {digest}");
        if bytes.len() as u64 > limits.max_manifest {
            return Err(Error::limit(what, "bytes", limits.max_manifest));
        }
        let json = |source| Error::Json { what: what.clone(), source };
        let seen: Seen = serde_json::from_slice(&bytes).map_err(json)?;
        let media_type = decide(&seen, declared, &what)?;
        let kind = if media_type::is_index(&media_type) {
            let wire: WireIndex = serde_json::from_slice(&bytes).map_err(json)?;
            Kind::Index(Box::new(wire.check(&what, limits)?))
        } else {
            let wire: WireManifest = serde_json::from_slice(&bytes).map_err(json)?;
            Kind::Manifest(Box::new(wire.check(&what, limits)?))
        };
        let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        Ok(Self { descriptor, bytes, kind })
    }
}

impl Entry {
    /// Is this an attestation of BuildKit about another entry of the same index?
    pub fn is_attestation(&self) -> bool {
        self.descriptor.annotations.contains_key(media::REFERENCE_TYPE)
    }

    /// Is this a layer that may be missing?
    pub fn is_foreign(&self) -> bool {
        media::layer_type(&self.descriptor.media_type)
            .is_some_and(|found| found.distribution == media::Distribution::Foreign)
    }
}

impl Manifest {
    /// Is this an image that containers can start from? If not it is an artifact: moved as it is, never looked into.
    pub fn is_image(&self) -> bool {
        self.artifact_type.is_none() && media::is_config(&self.config.descriptor.media_type)
    }
}

/// Finds out what a document is, from what was announced and from what it says.
fn decide(seen: &Seen, declared: &str, what: &str) -> Result<String> {
    let confused = |reason: String| Err(Error::Confused { what: what.to_owned(), reason });
    if let Some(name) = &seen.misspelt {
        return confused(format!("its field {name:?} would be read by programs that ignore case"));
    }
    let inside = seen.media_type.as_deref().unwrap_or("");
    if !declared.is_empty() && !inside.is_empty() && declared != inside {
        return confused(format!("it was announced as {declared:?} and calls itself {inside:?}"));
    }
    let media_type = if declared.is_empty() { inside } else { declared };
    if seen.schema_version == Some(1) || seen.fs_layers || matches!(media_type, SCHEMA1 | SCHEMA1_SIGNED) {
        return Err(Error::document(what, "it is a schema 1 manifest, out of use since 2017; push the image again"));
    }
    if seen.schema_version != Some(2) {
        return Err(Error::document(what, "its schemaVersion is not 2"));
    }
    let is_manifest = seen.config || seen.layers;
    match (is_manifest, seen.manifests) {
        (true, true) => return confused("it has fields of a manifest and of an index".into()),
        (false, false) => return Err(Error::document(what, "it has neither config and layers nor manifests")),
        _ => {}
    }
    let fits = match media_type {
        // Where neither side names a type, the fields decide, and only one reading is left.
        "" if is_manifest => return Ok(media_type::OCI_MANIFEST.to_owned()),
        "" => return Ok(media_type::OCI_INDEX.to_owned()),
        known if media_type::is_manifest(known) => is_manifest,
        known if media_type::is_index(known) => seen.manifests,
        other => return Err(Error::document(what, format!("{other:?} is no media type of a manifest or an index"))),
    };
    if fits { Ok(media_type.to_owned()) } else { confused(format!("its fields do not belong to a {media_type:?}")) }
}

/// Which fields stand at the top of a document. Nothing else is kept of it.
#[derive(Default)]
struct Seen {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: bool,
    layers: bool,
    manifests: bool,
    fs_layers: bool,
    misspelt: Option<String>,
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(SeenVisitor)
    }
}

struct SeenVisitor;

impl<'de> Visitor<'de> for SeenVisitor {
    type Value = Seen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a manifest or an index")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seen, A::Error> {
        const NAMES: [&str; 6] = ["schemaVersion", "mediaType", "config", "layers", "manifests", "fsLayers"];
        let mut seen = Seen::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "schemaVersion" => seen.schema_version = Some(map.next_value()?),
                "mediaType" => seen.media_type = map.next_value()?,
                other => {
                    match other {
                        "config" => seen.config = true,
                        "layers" => seen.layers = true,
                        "manifests" => seen.manifests = true,
                        "fsLayers" => seen.fs_layers = true,
                        // Go's decoder takes "Layers" for "layers".
                        _ if NAMES.iter().any(|name| name.eq_ignore_ascii_case(other)) => {
                            seen.misspelt = Some(key.clone());
                        }
                        _ => {}
                    }
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(seen)
    }
}

// The wire forms name fields that are used; others are skipped without being kept. A field that stands twice is an
// error of serde's, which is wanted: readers differ about which one counts.

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireManifest {
    config: WireEntry,
    #[serde(default)]
    layers: Option<Vec<WireEntry>>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    subject: Option<WireEntry>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    // Only there so that serde refuses a second one.
    #[serde(default, rename = "mediaType")]
    _media_type: Option<IgnoredAny>,
    #[serde(default, rename = "schemaVersion")]
    _schema_version: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireIndex {
    #[serde(default)]
    manifests: Option<Vec<WireEntry>>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    subject: Option<WireEntry>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default, rename = "mediaType")]
    _media_type: Option<IgnoredAny>,
    #[serde(default, rename = "schemaVersion")]
    _schema_version: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireEntry {
    media_type: String,
    digest: Digest,
    // Negative, fractional and too large numbers are errors of serde's.
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    platform: Option<WirePlatform>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    urls: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct WirePlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

impl WireManifest {
    fn check(self, what: &str, limits: &Limits) -> Result<Manifest> {
        Ok(Manifest {
            config: self.config.check(what)?,
            layers: entries(self.layers, what, "layers", limits.max_layers)?,
            artifact_type: self.artifact_type.filter(|text| !text.is_empty()),
            subject: self.subject.map(|subject| subject.check(what)).transpose()?,
            annotations: self.annotations.unwrap_or_default(),
        })
    }
}

impl WireIndex {
    fn check(self, what: &str, limits: &Limits) -> Result<Index> {
        Ok(Index {
            manifests: entries(self.manifests, what, "entries", limits.max_entries)?,
            artifact_type: self.artifact_type.filter(|text| !text.is_empty()),
            subject: self.subject.map(|subject| subject.check(what)).transpose()?,
            annotations: self.annotations.unwrap_or_default(),
        })
    }
}

fn entries(wire: Option<Vec<WireEntry>>, what: &str, unit: &'static str, limit: usize) -> Result<Vec<Entry>> {
    // Go writes an empty list as null.
    let wire = wire.unwrap_or_default();
    if wire.len() > limit {
        return Err(Error::limit(what, unit, limit as u64));
    }
    let mut sizes = BTreeMap::new();
    let mut found = Vec::with_capacity(wire.len());
    for entry in wire {
        let entry = entry.check(what)?;
        let Descriptor { digest, size, .. } = entry.descriptor;
        if *sizes.entry(digest).or_insert(size) != size {
            return Err(Error::document(what, format!("it gives blob {digest} two sizes")));
        }
        found.push(entry);
    }
    Ok(found)
}

impl WireEntry {
    fn check(self, what: &str) -> Result<Entry> {
        // image-spec and Go's readers have a signed size.
        if i64::try_from(self.size).is_err() {
            return Err(Error::document(what, format!("blob {} has an impossible size", self.digest)));
        }
        let mut descriptor = Descriptor::new(self.media_type, self.digest, self.size);
        descriptor.annotations = self.annotations.unwrap_or_default();
        Ok(Entry {
            descriptor,
            platform: self.platform.and_then(WirePlatform::normalise),
            artifact_type: self.artifact_type.filter(|text| !text.is_empty()),
            urls: self.urls.unwrap_or_default(),
        })
    }
}

impl WirePlatform {
    /// The platform in Go's names; one that is not named, or malformed, is none.
    fn normalise(self) -> Option<Platform> {
        platform::named(&self.os, &self.architecture, self.variant.as_deref())
    }
}

#[cfg(test)]
mod tests;
