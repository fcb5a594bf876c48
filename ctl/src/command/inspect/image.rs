//! What Docker's API says of an image.

use serde_json::{Value, json};
use strata_proto::store::v1 as pb;

use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::render::name;

/// Names with the digests by which registries know them. What was made here no registry knows.
pub async fn digests(platform: &Platform, image: &pb::Image) -> Result<Vec<String>> {
    let mut client = platform.manifests().await?;
    let mut found = Vec::new();
    for name in &image.names {
        let request = pb::GetManifestRequest { reference: name.clone() };
        // A name that has gone meanwhile has no digest.
        let Ok(reply) = client.get_manifest(request).await else { continue };
        let reply = reply.into_inner();
        let digest = reply.descriptor.map(|descriptor| descriptor.digest).unwrap_or_default();
        let (repository, _) = name::repository_and_tag(name);
        let full = format!("{repository}@{digest}");
        if !reply.is_made_here && !found.contains(&full) {
            found.push(full);
        }
    }
    Ok(found)
}

/// The image, by Docker's names.
pub fn value(image: &pb::Image, digests: Vec<String>) -> Result<Value> {
    let config: Value = serde_json::from_slice(&image.config_json)
        .map_err(|error| Error::new(format!("the config of {} cannot be read: {error}", image.id)))?;
    let names: Vec<String> = image.names.iter().map(|full| name::familiar(full)).collect();
    let layers: Vec<&str> = image.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let manifest = image.manifest.clone().unwrap_or_default();
    let last = config["history"].as_array().and_then(|all| all.last());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut value = json!({
        "Id": image.id,
        "RepoTags": names,
        "RepoDigests": digests,
        "Comment": last.map_or_else(String::new, |last| text(&last["comment"])),
        "Created": config["created"],
        "Author": text(&config["author"]),
        "Config": config["config"],
        "Architecture": config["architecture"],
        "Os": config["os"],
        "Size": image.size_bytes,
        "GraphDriver": { "Name": "overlayfs", "Data": null },
        "RootFS": { "Type": "layers", "Layers": layers },
        "Descriptor": { "mediaType": manifest.media_type, "digest": manifest.digest, "size": manifest.size_bytes },
    });
    if let Some(variant) = config.get("variant") {
        value["Variant"] = variant.clone();
    }
    Ok(value)
}
