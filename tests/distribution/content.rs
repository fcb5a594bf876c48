//! Things to push: blobs, manifests, indexes, artifacts; and the plain way to push each.

use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};

use crate::{
    http::{Answer, Request},
    subject::Registry,
};

/// Media types.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker's manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Config of an image.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The empty document.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Layer without compression.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Bytes of any kind.
pub const BYTES: &str = "application/octet-stream";

/// SHA-256 of bytes, with its algorithm.
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// SHA-512 of bytes, with its algorithm.
pub fn sha512(bytes: &[u8]) -> String {
    format!("sha512:{}", hex::encode(Sha512::digest(bytes)))
}

/// Bytes that no other seed gives.
pub fn bytes(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 32);
    let mut state = Sha256::digest(seed.as_bytes());
    while bytes.len() < length {
        bytes.extend_from_slice(&state);
        state = Sha256::digest(state);
    }
    bytes.truncate(length);
    bytes
}

/// A descriptor.
pub fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": sha256(content), "size": content.len()})
}

/// An image, with all its bytes.
pub struct Image {
    /// Its config.
    pub config: Vec<u8>,
    /// Its only layer: an archive of one empty file.
    pub layer: Vec<u8>,
    /// Its manifest.
    pub manifest: Vec<u8>,
}

impl Image {
    /// An image that differs from those of other seeds.
    pub fn new(seed: &str) -> Self {
        let layer = archive(seed);
        let config = json!({
            "architecture": "amd64", "os": "linux", "author": seed,
            "rootfs": {"type": "layers", "diff_ids": [sha256(&layer)]}
        });
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config), "layers": [descriptor(LAYER, &layer)]
        });
        Self { config, layer, manifest: manifest.to_string().into_bytes() }
    }

    /// Digest of its manifest.
    pub fn digest(&self) -> String {
        sha256(&self.manifest)
    }

    /// Pushes its blobs, then its manifest by a tag or a digest.
    #[track_caller]
    pub fn push(&self, registry: &Registry, repository: &str, reference: &str) {
        self.push_blobs(registry, repository);
        put_manifest(registry, repository, reference, MANIFEST, &self.manifest).expect(201);
    }

    /// Pushes its blobs alone.
    #[track_caller]
    pub fn push_blobs(&self, registry: &Registry, repository: &str) {
        push_blob(registry, repository, &self.config);
        push_blob(registry, repository, &self.layer);
    }
}

/// An archive with one file, named after the seed.
pub fn archive(seed: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(seed.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(1_700_000_000);
    builder.append_data(&mut header, "file", seed.as_bytes()).expect("memory takes it");
    builder.into_inner().expect("memory takes it")
}

/// A manifest that is an artifact: of this type, about this subject.
pub fn artifact(artifact_type: Option<&str>, config: &str, subject: Option<Value>, note: &str) -> Vec<u8> {
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(config, b"{}"),
        "layers": [descriptor(EMPTY, b"{}")], "annotations": {"org.example.note": note}
    });
    if let Some(artifact_type) = artifact_type {
        manifest["artifactType"] = artifact_type.into();
    }
    if let Some(subject) = subject {
        manifest["subject"] = subject;
    }
    manifest.to_string().into_bytes()
}

/// An index over manifests.
pub fn index(manifests: &[&[u8]]) -> Vec<u8> {
    let manifests: Vec<Value> = manifests.iter().map(|bytes| descriptor(MANIFEST, bytes)).collect();
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string().into_bytes()
}

/// Begins an upload; returns where it goes on.
#[track_caller]
pub fn begin(registry: &Registry, repository: &str) -> String {
    let answer = registry.post(format!("/v2/{repository}/blobs/uploads/")).expect(202);
    registry.location(&answer)
}

/// The place of an upload, with its digest.
pub fn with_digest(location: &str, digest: &str) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}digest={digest}")
}

/// Pushes a blob by POST and PUT; returns its digest.
#[track_caller]
pub fn push_blob(registry: &Registry, repository: &str, content: &[u8]) -> String {
    let digest = sha256(content);
    let location = begin(registry, repository);
    let request = Request::new("PUT", with_digest(&location, &digest)).header("content-type", BYTES).body(content);
    registry.send(request).expect(201);
    digest
}

/// Pushes a manifest.
pub fn put_manifest(
    registry: &Registry,
    repository: &str,
    reference: &str,
    media_type: &str,
    manifest: &[u8],
) -> Answer {
    let target = format!("/v2/{repository}/manifests/{reference}");
    registry.send(Request::new("PUT", target).header("content-type", media_type).body(manifest))
}
