//! An image of an OCI layout as a context: only it is sent to the store, without a name.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use strata_archive::MemberWriter;
use strata_proto::types::v1::Platform as PlatformMessage;
use strata_rpc::chunks;
use strata_types::Digest;

use crate::command::load::{Chunks, load};
use crate::error::{Error, Result};
use crate::platform::Platform;

/// Key of the annotation that names an image in an index.
const NAME: &str = "org.opencontainers.image.ref.name";

/// Largest document of a layout that is read, in bytes.
const LARGEST: u64 = 4 << 20;

/// Sends the image with this tag or digest to the store, and returns its id there.
pub async fn send(
    platform: &Platform,
    directory: &Path,
    wanted: Option<&str>,
    of: Option<PlatformMessage>,
) -> Result<String> {
    let shown = format!("the OCI layout {}", directory.display());
    let (from, name) = (directory.to_owned(), wanted.map(str::to_owned));
    let picked = tokio::task::spawn_blocking(move || pick(&from, name.as_deref()));
    let picked = picked.await.map_err(|error| Error::of(&error))?;
    let (descriptor, blobs) = picked.map_err(|problem| Error::new(format!("cannot use {shown}: {problem}")))?;
    let from = directory.to_owned();
    let archive: Chunks = Box::pin(chunks::from_write(move |out| pack(&from, &descriptor, &blobs, out)));
    let loaded = load(platform, archive, of, &shown).await?;
    let id = loaded.into_iter().map(|image| image.image_id).find(|id| !id.is_empty());
    id.ok_or_else(|| Error::new(format!("{shown} has no image for this platform")))
}

/// The descriptor of the image, and the digests of all that belongs to it.
fn pick(directory: &Path, wanted: Option<&str>) -> Result<(Value, BTreeSet<String>), String> {
    let index = document(&directory.join("index.json"))?;
    let manifests = index["manifests"].as_array().cloned().unwrap_or_default();
    let name_of = |manifest: &Value| manifest["annotations"][NAME].as_str().map(str::to_owned);
    let is_named = |manifest: &&Value, tag: &str| {
        name_of(manifest).is_some_and(|name| name == tag || name.ends_with(&format!(":{tag}")))
    };
    let found = match wanted {
        Some(text) if text.contains(':') => manifests.iter().find(|one| one["digest"].as_str() == Some(text)),
        Some(tag) => manifests.iter().find(|one| is_named(one, tag)),
        None => manifests.iter().find(|one| is_named(one, "latest")).or(match manifests.as_slice() {
            [only] => Some(only),
            _ => None,
        }),
    };
    let descriptor = match (found, wanted) {
        (Some(found), _) => found.clone(),
        // What an index does not list can be there all the same.
        (None, Some(text)) if text.contains(':') => {
            let found = document(&blob(directory, text)?)?;
            let size = fs::metadata(blob(directory, text)?).map_err(|error| error.to_string())?.len();
            json!({ "mediaType": found["mediaType"], "digest": text, "size": size })
        }
        (None, _) => {
            let names: Vec<String> = manifests.iter().filter_map(name_of).collect();
            let known =
                if names.is_empty() { "it names none".to_owned() } else { format!("it has {}", names.join(", ")) };
            return Err(format!("there is no image {}: {known}", wanted.unwrap_or("latest")));
        }
    };
    let mut blobs = BTreeSet::new();
    gather(directory, &descriptor, &mut blobs)?;
    let descriptor = json!({
        "mediaType": descriptor["mediaType"], "digest": descriptor["digest"], "size": descriptor["size"],
    });
    Ok((descriptor, blobs))
}

/// Adds what a manifest or index leads to. Images of other platforms may be missing.
fn gather(directory: &Path, descriptor: &Value, blobs: &mut BTreeSet<String>) -> Result<(), String> {
    let digest = descriptor["digest"].as_str().ok_or("a descriptor without a digest")?;
    let path = blob(directory, digest)?;
    if !blobs.insert(digest.to_owned()) {
        return Ok(());
    }
    let document = document(&path)?;
    for image in document["manifests"].as_array().into_iter().flatten() {
        let is_there =
            image["digest"].as_str().and_then(|digest| blob(directory, digest).ok()).is_some_and(|p| p.exists());
        if is_there {
            gather(directory, image, blobs)?;
        }
    }
    for part in std::iter::once(&document["config"]).chain(document["layers"].as_array().into_iter().flatten()) {
        if let Some(digest) = part["digest"].as_str() {
            blob(directory, digest)?;
            blobs.insert(digest.to_owned());
        }
    }
    Ok(())
}

/// Where a blob is. What is no digest cannot lead out of the layout.
fn blob(directory: &Path, digest: &str) -> Result<PathBuf, String> {
    let parsed = Digest::parse(digest).map_err(|problem| problem.to_string())?;
    let text = parsed.to_string();
    let (algorithm, hex) = text.split_once(':').ok_or("a digest without an algorithm")?;
    Ok(directory.join("blobs").join(algorithm).join(hex))
}

fn document(path: &Path) -> Result<Value, String> {
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    let mut text = Vec::new();
    File::open(path).map_err(failed)?.take(LARGEST).read_to_end(&mut text).map_err(failed)?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn pack(directory: &Path, descriptor: &Value, blobs: &BTreeSet<String>, out: &mut dyn io::Write) -> io::Result<()> {
    let told = |error: strata_archive::Error| match error {
        strata_archive::Error::Write { source } => source,
        error => io::Error::other(strata_rpc::fault::chain(&error)),
    };
    let mut tar = MemberWriter::new(out);
    let index = json!({ "schemaVersion": 2, "manifests": [descriptor] }).to_string();
    for (name, text) in [("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#), ("index.json", &index)] {
        tar.file(name, text.len() as u64, &mut text.as_bytes()).map_err(told)?;
    }
    for digest in blobs {
        let path = blob(directory, digest).map_err(io::Error::other)?;
        let mut file = File::open(&path).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
        let name = format!("blobs/{}", digest.replacen(':', "/", 1));
        tar.file(&name, file.metadata()?.len(), &mut file).map_err(told)?;
    }
    tar.finish().map(drop).map_err(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(names: &[&str]) -> (tempfile::TempDir, Vec<String>) {
        let directory = tempfile::tempdir().expect("a directory");
        let blobs = directory.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).expect("a directory");
        let put = |text: String| {
            let hex = hex_of(&text);
            fs::write(blobs.join(&hex), text).expect("a file");
            format!("sha256:{hex}")
        };
        let mut manifests = Vec::new();
        let mut digests = Vec::new();
        for name in names {
            let config = put(format!("config of {name}"));
            let digest = put(json!({ "config": { "digest": config }, "layers": [] }).to_string());
            manifests.push(json!({ "digest": digest, "size": 1, "annotations": { NAME: name } }));
            digests.push(digest);
        }
        let index = json!({ "manifests": manifests }).to_string();
        fs::write(directory.path().join("index.json"), index).expect("a file");
        (directory, digests)
    }

    fn hex_of(text: &str) -> String {
        use sha2::Digest as _;
        sha2::Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn an_image_is_picked_by_tag_by_digest_or_as_the_latest() {
        let (several, digests) = layout(&["1", "example.com/x:latest"]);
        let (only, alone) = layout(&["any"]);

        let picked = |directory: &Path, wanted: Option<&str>| {
            pick(directory, wanted).map(|(descriptor, _)| descriptor["digest"].as_str().unwrap_or_default().to_owned())
        };
        assert_eq!(picked(several.path(), Some("1")), Ok(digests[0].clone()));
        assert_eq!(picked(several.path(), None), Ok(digests[1].clone()));
        assert_eq!(picked(several.path(), Some(&digests[0])), Ok(digests[0].clone()));
        assert_eq!(picked(only.path(), None), Ok(alone[0].clone()));
        let problem = picked(several.path(), Some("2")).expect_err("there is no such tag");
        assert_eq!(problem, "there is no image 2: it has 1, example.com/x:latest");
    }

    #[test]
    fn only_what_belongs_to_the_image_is_sent() {
        let (directory, digests) = layout(&["1", "2"]);

        let (descriptor, blobs) = pick(directory.path(), Some("1")).expect("it is there");

        assert_eq!(blobs.len(), 2);
        assert!(blobs.contains(&digests[0]) && !blobs.contains(&digests[1]));
        assert!(descriptor.get("annotations").is_none(), "{descriptor}");
        let mut tar = Vec::new();
        pack(directory.path(), &descriptor, &blobs, &mut tar).expect("it is packed");
        let members = strata_archive::members(io::Cursor::new(tar), u64::MAX).expect("an archive");
        assert_eq!(members.len(), 4);
    }

    #[test]
    fn digests_do_not_lead_out_of_a_layout() {
        assert!(blob(Path::new("/x"), "sha256:../../etc/passwd").is_err());
    }
}
