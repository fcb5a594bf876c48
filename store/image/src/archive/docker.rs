//! docker-archives: `manifest.json` lists images, each a config and layers by file name. They have no manifests, so
//! one is made for each image; equal archives give equal manifests.

use std::collections::BTreeMap;
use std::io::Read;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use strata_archive::Compression;
use strata_types::{Descriptor, Digest, Manifest, Reference, media_type};

use super::files::Part;
use super::{Files, Place};
use crate::blob::digest;
use crate::{Config, Error, Limits, Result, Root};

/// One image of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Reads what the archive names; none if it is no docker-archive.
pub(super) fn roots(files: &Files, places: &mut BTreeMap<Digest, Place>, limits: &Limits) -> Result<Option<Vec<Root>>> {
    let Some(list) = files.read("manifest.json", limits.max_manifest)? else { return Ok(None) };
    let list: Vec<Saved> =
        serde_json::from_slice(&list).map_err(|source| Error::Json { what: "manifest.json".into(), source })?;
    if list.len() > limits.max_entries {
        return Err(Error::limit("manifest.json", "images", limits.max_entries as u64));
    }
    let mut left = limits.max_documents;
    let mut roots: Vec<Root> = vec![];
    for saved in list {
        let names = names(&saved)?;
        let descriptor = image(files, places, saved, limits, &mut left)?;
        match roots.iter_mut().find(|root| root.descriptor.digest == descriptor.digest) {
            Some(root) => root.names.extend(names),
            None => roots.push(Root::new(descriptor, names)),
        }
    }
    Ok(Some(roots))
}

fn names(saved: &Saved) -> Result<Vec<Reference>> {
    let texts = saved.repo_tags.iter().flatten();
    texts
        .map(|text| Reference::parse(text).map_err(|error| Error::document("manifest.json", error.to_string())))
        .collect()
}

/// Makes the manifest of one image and notes where its blobs are.
fn image(
    files: &Files,
    places: &mut BTreeMap<Digest, Place>,
    saved: Saved,
    limits: &Limits,
    left: &mut u64,
) -> Result<Descriptor> {
    let missing = |path: &str| Error::member(path.as_bytes(), "manifest.json names it, and it is not there");
    let bytes = files.read(&saved.config, limits.max_config)?.ok_or_else(|| missing(&saved.config))?;
    let too_much = || Error::limit("the documents of all images", "bytes", limits.max_documents);
    *left = left.checked_sub(bytes.len() as u64).ok_or_else(too_much)?;
    let id = digest(&bytes);
    check_name(&saved.config, &id)?;
    let config = Config::parse(&bytes, &format!("config {id}"), limits)?;
    let paths = saved.layers.unwrap_or_default();
    if paths.len() != config.diff_ids.len() {
        let counts = format!("it names {} layers, config {id} has {}", paths.len(), config.diff_ids.len());
        return Err(Error::document("manifest.json", counts));
    }
    let config_descriptor = Descriptor::new(media_type::OCI_CONFIG, id, bytes.len() as u64);
    places.insert(id, Place::File(saved.config));
    let mut layers = Vec::with_capacity(paths.len());
    for (path, diff_id) in paths.into_iter().zip(&config.diff_ids) {
        let part = files.part(&path)?.ok_or_else(|| missing(&path))?;
        let layer = layer(&path, &part, diff_id)?;
        places.entry(layer.digest).or_insert(Place::File(path));
        layers.push(layer);
    }
    let manifest = serde_json::to_vec(&Manifest::new(config_descriptor, layers))
        .map_err(|source| Error::Json { what: format!("manifest of image {id}"), source })?;
    let descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest(&manifest), manifest.len() as u64);
    *left = left.checked_sub(descriptor.size).ok_or_else(too_much)?;
    places.insert(descriptor.digest, Place::Bytes(manifest));
    Ok(descriptor)
}

/// Describes a layer. An uncompressed one has its diff-id as digest: whether that is true shows when it is read. Of a
/// compressed one the digest is found by reading it, unless its name says it.
fn layer(path: &str, part: &Part, diff_id: &Digest) -> Result<Descriptor> {
    let failed = |source| Error::io("read", path, source);
    let media_type = match part.compression().map_err(failed)? {
        Compression::None => {
            check_name(path, diff_id)?;
            return Ok(Descriptor::new(media_type::OCI_LAYER, *diff_id, part.size()));
        }
        Compression::Gzip => media_type::OCI_LAYER_GZIP,
        Compression::Zstd => media_type::OCI_LAYER_ZSTD,
        Compression::Bzip2 | Compression::Xz => {
            let reason = "layers can be compressed with gzip and zstd, not with bzip2 or xz";
            return Err(Error::member(path.as_bytes(), reason));
        }
    };
    let digest = match named_digest(path) {
        // A layer named by its diff-id and compressed afterwards is not what its name says.
        Some(named) if path.starts_with("blobs/") && named != *diff_id => named,
        _ => match part.taken().and_then(|taken| taken.digest) {
            Some(digest) => digest,
            None => hash(part).map_err(failed)?,
        },
    };
    Ok(Descriptor::new(media_type, digest, part.size()))
}

fn hash(part: &Part) -> std::io::Result<Digest> {
    let (mut reader, mut hasher, mut buffer) = (part.reader(), Sha256::new(), vec![0; 256 * 1024]);
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(Digest::from_sha256_bytes(hasher.finalize().into())),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The digest that a file name is made of: `<hex>`, `<hex>.json`, `<hex>.tar`, below any directory. The directories of
/// old archives (`<hex>/layer.tar`) are ids of Docker's own and say nothing.
pub(super) fn named_digest(path: &str) -> Option<Digest> {
    let name = path.rsplit('/').next()?;
    let stem = name.strip_suffix(".json").or(name.strip_suffix(".tar")).unwrap_or(name);
    Digest::from_hex(stem)
}

/// Refuses a file whose name is a digest that its content does not have.
fn check_name(path: &str, actual: &Digest) -> Result<()> {
    match named_digest(path) {
        Some(expected) if expected != *actual => {
            Err(Error::DigestMismatch { what: format!("archive member {path:?}"), expected, actual: *actual })
        }
        _ => Ok(()),
    }
}
