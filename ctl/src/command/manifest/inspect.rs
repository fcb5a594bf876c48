//! `ctl manifest inspect`

use std::io::{IsTerminal, Write};

use base64::Engine;
use serde_json::{Value, json};
use strata_proto::store::v1 as pb;
use strata_proto::types::v1 as types;
use strata_types::{Digest, Reference, media_type};

use super::image_name;
use crate::args::ManifestInspect;
use crate::command::incomplete;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::registries::Registries;
use crate::render;

/// A manifest or an index.
struct Found {
    descriptor: types::Descriptor,
    bytes: bytes::Bytes,
}

/// Prints a list that was made here, or a manifest or an index exactly as its registry has it.
pub async fn run(platform: &Platform, args: &ManifestInspect) -> Result<u8> {
    let reference = image_name(&args.image)?;
    let found = match own_list(platform, &reference).await? {
        Some(found) => found,
        None => resolve(platform, &reference).await?,
    };
    if args.verbose {
        return render::line(format!("{:#}", verbose(platform, &reference, found).await?)).map(|()| 0);
    }
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        // Whoever hashes it gets its digest.
        stdout.lock().write_all(&found.bytes).map_err(render::unwritable)?;
        return Ok(0);
    }
    let text = String::from_utf8_lossy(&found.bytes);
    let harmless: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    render::line(harmless)?;
    Ok(0)
}

/// What the store has under a name or digest.
async fn here(platform: &Platform, reference: &Reference) -> Result<Option<pb::GetManifestResponse>> {
    let request = pb::GetManifestRequest { reference: reference.to_string() };
    match platform.manifests().await?.get_manifest(request).await {
        Ok(reply) => Ok(Some(reply.into_inner())),
        Err(status) => {
            let error = Error::from(status);
            if error.reason == "FAULT_IMAGE_NOT_FOUND" { Ok(None) } else { Err(error) }
        }
    }
}

/// A list of this name that was made here. Of all else the registry knows best.
async fn own_list(platform: &Platform, reference: &Reference) -> Result<Option<Found>> {
    let Some(reply) = here(platform, reference).await? else { return Ok(None) };
    let descriptor = reply.descriptor.ok_or_else(|| incomplete("a descriptor"))?;
    let is_own = reply.is_made_here && media_type::is_index(&descriptor.media_type);
    Ok(is_own.then_some(Found { descriptor, bytes: reply.document_json }))
}

async fn resolve(platform: &Platform, reference: &Reference) -> Result<Found> {
    let credentials = Registries::load()?.credentials(reference).await?;
    let request = pb::ResolveManifestRequest { reference: reference.to_string(), credentials };
    let reply = platform.registry().await?.resolve_manifest(request).await?.into_inner();
    let descriptor = reply.descriptor.ok_or_else(|| incomplete("a descriptor"))?;
    Ok(Found { descriptor, bytes: reply.document_json })
}

/// Docker's form: each manifest with its descriptor; of an index one after the other.
async fn verbose(platform: &Platform, reference: &Reference, found: Found) -> Result<Value> {
    if !media_type::is_index(&found.descriptor.media_type) {
        return one(reference, json!({}), &found);
    }
    let index: Value = serde_json::from_slice(&found.bytes)
        .map_err(|error| Error::new(format!("the index {reference} cannot be read: {error}")))?;
    let mut all = Vec::new();
    for entry in index["manifests"].as_array().into_iter().flatten() {
        let digest = entry["digest"].as_str().and_then(|digest| Digest::parse(digest).ok());
        let Some(digest) = digest else { continue };
        let reference = reference.with_digest(digest);
        let found = match here(platform, &reference).await? {
            Some(reply) => Found {
                descriptor: reply.descriptor.ok_or_else(|| incomplete("a descriptor"))?,
                bytes: reply.document_json,
            },
            None => resolve(platform, &reference).await?,
        };
        all.push(one(&reference, entry.clone(), &found)?);
    }
    Ok(Value::Array(all))
}

fn one(reference: &Reference, entry: Value, found: &Found) -> Result<Value> {
    let document: Value = serde_json::from_slice(&found.bytes)
        .map_err(|error| Error::new(format!("the manifest {reference} cannot be read: {error}")))?;
    let types::Descriptor { media_type, digest, size_bytes } = &found.descriptor;
    let mut descriptor = json!({ "mediaType": media_type, "digest": digest, "size": size_bytes });
    for field in ["platform", "annotations"] {
        if let Some(value) = entry.get(field) {
            descriptor[field] = value.clone();
        }
    }
    let name = match media_type.as_str() {
        media_type::DOCKER_MANIFEST => "SchemaV2Manifest",
        media_type::OCI_MANIFEST => "OCIManifest",
        _ => "Index",
    };
    let raw = base64::engine::general_purpose::STANDARD.encode(&found.bytes);
    Ok(json!({ "Ref": reference.to_string(), "Descriptor": descriptor, "Raw": raw, name: document }))
}
