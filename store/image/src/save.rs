//! Writing plans as archives. Equal plans give equal bytes: members in the order of the plan, owned by root, of 1970.
//!
//! Both forms are OCI layouts. A docker-archive has `manifest.json` besides, as Docker itself writes since version 25:
//! every reader of either form finds what it knows, and no layer is stored twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use serde::Serialize;
use strata_archive::MemberWriter;
use strata_types::{Descriptor, Digest, Index, IndexEntry, Reference};

use crate::archive::layout::{IMAGE_NAME, REF_NAME, blob_path};
use crate::blob::open;
use crate::{BlobSource, Error, Format, Image, Plan, PlannedRoot, Result};

const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// One image of `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    /// Null where there is none, as Docker has it.
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Writes a plan as a tar stream; returns where it went, flushed.
///
/// A docker-archive holds layers as they are in the plan: Docker before 23 cannot read zstd. When this fails, what was
/// written is no archive. [`Error::NoImage`] is a root without an image in a docker-archive.
pub fn tar<W: Write>(plan: &Plan, source: &dyn BlobSource, format: Format, out: W) -> Result<W> {
    let mut writer = MemberWriter::new(out);
    for (name, bytes) in documents(plan, format)? {
        writer.file(name, bytes.len() as u64, &mut &bytes[..])?;
    }
    writer.directory("blobs")?;
    writer.directory("blobs/sha256")?;
    for blob in plan.blobs() {
        let mut bytes = open(source, &blob.descriptor)?;
        let Descriptor { digest, size, .. } = blob.descriptor;
        writer.file(&blob_path(&digest), size, &mut bytes).map_err(|error| of_blob(error, digest))?;
    }
    Ok(writer.finish()?)
}

/// The error of the blob that was being written, where it was not the archive's own.
fn of_blob(error: strata_archive::Error, digest: Digest) -> Error {
    match error {
        strata_archive::Error::Read { source } => Error::unwrap_io(source, |source| Error::Source { digest, source }),
        other => other.into(),
    }
}

/// The files beside the blobs, `index.json` before what Docker needs.
fn documents(plan: &Plan, format: Format) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let mut documents = vec![("index.json", json("index.json", &index(plan))?), ("oci-layout", OCI_LAYOUT.to_vec())];
    if format == Format::DockerArchive {
        let blobs: BTreeSet<Digest> = plan.blobs().iter().map(|blob| blob.descriptor.digest).collect();
        let saved: Vec<Saved> = plan.roots().iter().map(|root| saved(root, &blobs)).collect::<Result<_>>()?;
        documents.push(("manifest.json", json("manifest.json", &saved)?));
    }
    Ok(documents)
}

fn json(name: &str, value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| Error::Json { what: name.to_owned(), source })
}

/// One entry for each name of each root.
fn index(plan: &Plan) -> Index {
    let mut tags: BTreeMap<&str, u32> = BTreeMap::new();
    for root in plan.roots() {
        let tags_of_root = root.names.iter().filter_map(Reference::tag).chain(root.tag.as_deref());
        tags_of_root.for_each(|tag| *tags.entry(tag).or_default() += 1);
    }
    let mut entries = vec![];
    for root in plan.roots() {
        for name in &root.names {
            let full = name.to_string();
            let mut annotations = BTreeMap::from([(IMAGE_NAME.to_owned(), full.clone())]);
            if let Some(tag) = name.tag() {
                // A tag that several images have would name none of them.
                let reference = if tags[tag] == 1 { tag.to_owned() } else { full };
                annotations.insert(REF_NAME.to_owned(), reference);
            }
            entries.push(entry(root, annotations));
        }
        if let Some(tag) = &root.tag {
            entries.push(entry(root, BTreeMap::from([(REF_NAME.to_owned(), tag.clone())])));
        }
        if root.names.is_empty() && root.tag.is_none() {
            // Without a platform too: unnamed entries of several platforms would be read as one image.
            let descriptor = Descriptor { annotations: BTreeMap::new(), ..root.descriptor.clone() };
            entries.push(IndexEntry { descriptor, platform: None });
        }
    }
    Index::new(entries)
}

fn entry(root: &PlannedRoot, annotations: BTreeMap<String, String>) -> IndexEntry {
    let is_image = |image: &&Image| image.manifest.digest == root.descriptor.digest;
    let platform = root.images.iter().find(is_image).map(|image| image.platform.clone());
    IndexEntry { descriptor: Descriptor { annotations, ..root.descriptor.clone() }, platform }
}

/// What Docker needs of a root: of several platforms the first.
fn saved(root: &PlannedRoot, blobs: &BTreeSet<Digest>) -> Result<Saved> {
    let what = || match root.names.first() {
        Some(name) => name.familiar(),
        None => format!("image {}", root.descriptor.digest),
    };
    let image = root.images.first().ok_or_else(|| Error::NoImage { what: what() })?;
    let absent = image.layers.iter().find(|layer| !blobs.contains(&layer.descriptor.digest));
    if let Some(layer) = absent {
        return Err(Error::BlobMissing { digest: layer.descriptor.digest, needed_by: what() });
    }
    let tags: Vec<String> =
        root.names.iter().filter_map(|name| Some(format!("{}:{}", name.familiar_name(), name.tag()?))).collect();
    Ok(Saved {
        config: blob_path(&image.config.digest),
        repo_tags: Some(tags).filter(|tags| !tags.is_empty()),
        layers: image.layers.iter().map(|layer| blob_path(&layer.descriptor.digest)).collect(),
    })
}
