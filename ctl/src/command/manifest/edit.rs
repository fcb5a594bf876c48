//! Lists are made and changed: read, edited here, and written back if nobody else has changed them.

use serde_json::Value;
use strata_proto::store::v1 as pb;
use strata_types::{Digest, Reference};

use super::list::{self, List};
use super::{image_name, list_name};
use crate::args::{ManifestAdd, ManifestAnnotate, ManifestCreate, ManifestRemove, ManifestRm, Says};
use crate::command::{each, incomplete};
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::registries::Registries;
use crate::render;

/// A list of the store.
struct Kept {
    name: Reference,
    /// Its digest. Empty: it is new.
    digest: String,
    list: List,
}

impl Kept {
    /// Reads a list that must be there.
    async fn read(platform: &Platform, text: &str) -> Result<Self> {
        let name = list_name(text)?;
        let found = Self::find(platform, &name).await?;
        found.ok_or_else(|| {
            Error::new(format!("there is no list {}", name.familiar()))
                .hint("`ctl manifest create LIST IMAGE...` makes one, `ctl manifest ls` shows what there is")
        })
    }

    async fn find(platform: &Platform, name: &Reference) -> Result<Option<Self>> {
        let request = pb::GetManifestRequest { reference: name.to_string() };
        let reply = match platform.manifests().await?.get_manifest(request).await {
            Ok(reply) => reply.into_inner(),
            Err(status) => {
                let error = Error::from(status);
                return if error.reason == "FAULT_IMAGE_NOT_FOUND" { Ok(None) } else { Err(error) };
            }
        };
        let digest = reply.descriptor.ok_or_else(|| incomplete("a descriptor"))?.digest;
        let list = List::parse(&name.familiar(), &reply.document_json)?;
        Ok(Some(Self { name: name.clone(), digest, list }))
    }

    /// Writes it back; answers with its digest.
    async fn write(&self, platform: &Platform) -> Result<String> {
        let request = pb::PutIndexRequest {
            name: self.name.to_string(),
            document_json: self.list.to_bytes().into(),
            expected_digest: Some(self.digest.clone()),
        };
        let reply = platform.manifests().await?.put_index(request).await?.into_inner();
        Ok(reply.descriptor.ok_or_else(|| incomplete("a descriptor"))?.digest)
    }

    /// Adds images.
    async fn add(&mut self, platform: &Platform, images: &[String], all: bool, says: Option<&Says>) -> Result<()> {
        for image in images {
            for mut entry in entries(platform, image, all).await? {
                if let Some(says) = says {
                    list::say(&mut entry, says)?;
                }
                self.list.put(entry);
            }
        }
        Ok(())
    }

    /// The entry that a name or a digest stands for.
    async fn entry(&self, platform: &Platform, image: &str) -> Result<Digest> {
        let absent = || {
            let error = Error::new(format!("{image} is not in the list {}", self.name.familiar()));
            error.hint(format!("`ctl manifest inspect {}` shows what is, with digests", self.name.familiar()))
        };
        if let Ok(digest) = Digest::parse(image) {
            return if self.list.has(&digest) { Ok(digest) } else { Err(absent()) };
        }
        let mut found = Vec::new();
        for entry in entries(platform, image, true).await? {
            let digest = entry["digest"].as_str().and_then(|digest| Digest::parse(digest).ok());
            found.extend(digest.filter(|digest| self.list.has(digest)));
        }
        match found.as_slice() {
            [] => Err(absent()),
            [one] => Ok(*one),
            _ => {
                let digests: Vec<String> = found.iter().map(Digest::to_string).collect();
                let error = Error::usage(format!("{image} stands for several images of the list"));
                Err(error.hint(format!("name one by its digest: {}", digests.join(", "))))
            }
        }
    }
}

/// Entries for what is named, of this store or of its registry.
async fn entries(platform: &Platform, image: &str, all: bool) -> Result<Vec<Value>> {
    let image = image.strip_prefix("docker://").unwrap_or(image);
    // An id is no name, and needs no registry.
    let credentials = match image_name(image) {
        Ok(reference) => Registries::load()?.credentials(&reference).await?,
        Err(_) => Vec::new(),
    };
    let request = pb::FetchEntriesRequest { reference: image.to_owned(), platform: None, all, credentials };
    let reply = platform.manifests().await?.fetch_entries(request).await.map_err(|status| {
        let error = Error::from(status);
        match error.reason.as_str() {
            "FAULT_PLATFORM_NOT_FOUND" => error.hint("`--all` takes everything that it lists"),
            _ => error,
        }
    })?;
    let unreadable = |error: serde_json::Error| Error::new(format!("the entry of {image} cannot be read: {error}"));
    let entries = reply.into_inner().entries.into_iter();
    entries.map(|entry| serde_json::from_slice(&entry.entry_json).map_err(unreadable)).collect()
}

/// `ctl manifest create`
pub async fn create(platform: &Platform, args: &ManifestCreate) -> Result<u8> {
    let name = list_name(&args.list)?;
    let mut kept = match Kept::find(platform, &name).await? {
        Some(_) if !args.amend => {
            let error = Error::new(format!("there is a list {} already", name.familiar()));
            return Err(error.hint("`--amend` adds to it, `ctl manifest rm` deletes it"));
        }
        Some(kept) => kept,
        None => Kept { name, digest: String::new(), list: List::new() },
    };
    kept.add(platform, &args.images, args.all, None).await?;
    kept.write(platform).await?;
    render::line(format!("Created manifest list {}", kept.name)).map(|()| 0)
}

/// `ctl manifest add`
pub async fn add(platform: &Platform, args: &ManifestAdd) -> Result<u8> {
    let mut kept = Kept::read(platform, &args.list).await?;
    kept.add(platform, &args.images, args.all, Some(&args.says)).await?;
    render::line(kept.write(platform).await?).map(|()| 0)
}

/// `ctl manifest annotate`
pub async fn annotate(platform: &Platform, args: &ManifestAnnotate) -> Result<u8> {
    let mut kept = Kept::read(platform, &args.list).await?;
    if args.index {
        kept.list.annotate(&args.says.annotation)?;
    } else if let Some(image) = &args.image {
        let digest = kept.entry(platform, image).await?;
        kept.list.say(&digest, &args.says)?;
    }
    kept.write(platform).await.map(|_| 0)
}

/// `ctl manifest remove`
pub async fn remove(platform: &Platform, args: &ManifestRemove) -> Result<u8> {
    let mut kept = Kept::read(platform, &args.list).await?;
    for image in &args.images {
        let digest = kept.entry(platform, image).await?;
        kept.list.remove(&digest);
    }
    render::line(kept.write(platform).await?).map(|()| 0)
}

/// `ctl manifest rm`
pub async fn rm(platform: &Platform, args: &ManifestRm) -> Result<u8> {
    each(&args.lists, |text| async move {
        let kept = Kept::read(platform, &text).await?;
        delete(platform, &kept.name).await?;
        Ok(format!("Untagged: {}", kept.name.familiar()))
    })
    .await
}

/// Takes the name of a list away.
pub async fn delete(platform: &Platform, name: &Reference) -> Result<()> {
    let request = pb::DeleteImageRequest { reference: name.to_string(), ..Default::default() };
    platform.images().await?.delete_image(request).await?;
    Ok(())
}
