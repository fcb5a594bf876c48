//! `ctl manifest`

mod edit;
mod inspect;
mod list;
mod ls;
mod push;

use strata_types::Reference;

use crate::args::Manifest;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::registries;

/// Does what is asked with lists of images.
pub async fn run(platform: &Platform, command: &Manifest) -> Result<u8> {
    match command {
        Manifest::Add(args) => edit::add(platform, args).await,
        Manifest::Annotate(args) => edit::annotate(platform, args).await,
        Manifest::Create(args) => edit::create(platform, args).await,
        Manifest::Inspect(args) => inspect::run(platform, args).await,
        Manifest::Ls(args) => ls::run(platform, args).await,
        Manifest::Push(args) => push::run(platform, args).await,
        Manifest::Remove(args) => edit::remove(platform, args).await,
        Manifest::Rm(args) => edit::rm(platform, args).await,
    }
}

/// The name of a list: one with a tag.
fn list_name(text: &str) -> Result<Reference> {
    let reference = image_name(text)?;
    match reference.digest() {
        None => Ok(reference),
        Some(_) => Err(Error::usage(format!("{text}: a list has a name with a tag, and no digest"))),
    }
}

/// The name of an image, with podman's prefix for registries or without.
fn image_name(text: &str) -> Result<Reference> {
    registries::reference(text.strip_prefix("docker://").unwrap_or(text))
}
