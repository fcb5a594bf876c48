//! OCI layouts: `oci-layout`, `index.json`, and `blobs/<algorithm>/<digest>` (image-spec, image-layout.md).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use strata_types::{Descriptor, Digest, Reference, media_type};

use super::{Files, Place};
use crate::{Document, Entry, Error, Index, Kind, Limits, Result, Root};

/// containerd's and buildkit's annotation with a full name.
pub(crate) const IMAGE_NAME: &str = "io.containerd.image.name";
/// OCI's annotation: a tag, by most writers; a full name by some.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// More than any `oci-layout` has.
const MAX_LAYOUT: u64 = 4096;

#[derive(Deserialize)]
struct Layout {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

/// Where a layout has a blob.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.as_hex())
}

/// Reads what the layout names; none if it is no layout.
pub(super) fn roots(files: &Files, places: &mut BTreeMap<Digest, Place>, limits: &Limits) -> Result<Option<Vec<Root>>> {
    let Some(layout) = files.read("oci-layout", MAX_LAYOUT)? else { return Ok(None) };
    let layout: Layout =
        serde_json::from_slice(&layout).map_err(|source| Error::Json { what: "oci-layout".into(), source })?;
    if !layout.version.starts_with("1.") {
        return Err(Error::document("oci-layout", format!("its version {:?} is not 1.x", layout.version)));
    }
    let Some(index) = files.read("index.json", limits.max_manifest)? else {
        return Err(Error::NotAnArchive { reason: "it has oci-layout and no index.json" });
    };
    let document = Document::parse(index, "", limits)?;
    let Kind::Index(index) = &document.kind else {
        return Err(Error::Confused { what: "index.json".into(), reason: "it is a manifest".into() });
    };
    if is_one_image(index) {
        let root = Root::new(document.descriptor.clone(), vec![]);
        places.insert(document.descriptor.digest, Place::Bytes(document.bytes));
        return Ok(Some(vec![root]));
    }
    Ok(Some(merge(index)))
}

/// Is `index.json` itself an index of platforms, as writers of unnamed layouts make it, and not a list of images?
fn is_one_image(index: &Index) -> bool {
    let is_unnamed = |entry: &Entry| {
        let annotations = &entry.descriptor.annotations;
        !annotations.contains_key(IMAGE_NAME) && !annotations.contains_key(REF_NAME)
    };
    let platforms: BTreeSet<_> = index.manifests.iter().filter_map(|entry| entry.platform.as_ref()).collect();
    platforms.len() > 1 && index.manifests.iter().all(|entry| is_unnamed(entry) && entry.platform.is_some())
}

/// One root per digest, with all its names.
fn merge(index: &Index) -> Vec<Root> {
    let mut roots: Vec<Root> = vec![];
    let mut positions: BTreeMap<Digest, usize> = BTreeMap::new();
    for entry in &index.manifests {
        let Descriptor { media_type, digest, size, annotations } = &entry.descriptor;
        let is_document = media_type::is_manifest(media_type) || media_type::is_index(media_type);
        if !is_document || entry.is_attestation() {
            continue;
        }
        let position = *positions.entry(*digest).or_insert_with(|| {
            roots.push(Root::new(Descriptor::new(&**media_type, *digest, *size), vec![]));
            roots.len() - 1
        });
        let root = &mut roots[position];
        match name(annotations) {
            Some(Name::Full(name)) if !root.names.contains(&name) => root.names.push(name),
            Some(Name::Tag(tag)) if root.tag.is_none() => root.tag = Some(tag),
            _ => {}
        }
    }
    roots
}

enum Name {
    Full(Reference),
    Tag(String),
}

/// The name of an entry. One that is neither a name nor a tag is none: the image is known by its digest then.
fn name(annotations: &BTreeMap<String, String>) -> Option<Name> {
    if let Some(name) = annotations.get(IMAGE_NAME).and_then(|text| Reference::parse(text).ok()) {
        return Some(Name::Full(name));
    }
    let text = annotations.get(REF_NAME)?;
    if text.contains(['/', ':']) {
        return Reference::parse(text).ok().map(Name::Full);
    }
    Reference::parse(&format!("x:{text}")).ok().map(|_| Name::Tag(text.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_full_or_tags_or_none() {
        let named = |pairs: &[(&str, &str)]| {
            let annotations = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            match name(&annotations) {
                Some(Name::Full(name)) => name.to_string(),
                Some(Name::Tag(tag)) => format!("tag {tag}"),
                None => "none".into(),
            }
        };
        assert_eq!(named(&[(IMAGE_NAME, "docker.io/library/a:1"), (REF_NAME, "1")]), "docker.io/library/a:1");
        assert_eq!(named(&[(REF_NAME, "12")]), "tag 12");
        assert_eq!(named(&[(REF_NAME, "debian:12")]), "docker.io/library/debian:12");
        assert_eq!(named(&[(REF_NAME, "localhost:5000/x")]), "localhost:5000/x:latest");
        assert_eq!(named(&[(REF_NAME, "a b\u{1b}[2J")]), "none");
        assert_eq!(named(&[(IMAGE_NAME, "../../etc"), (REF_NAME, "../x")]), "none");
        assert_eq!(named(&[]), "none");
    }
}
