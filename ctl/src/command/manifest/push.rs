//! `ctl manifest push`

use strata_proto::store::v1 as pb;
use strata_types::media_type;

use super::{edit, list_name};
use crate::args::ManifestPush;
use crate::command::{incomplete, push};
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::registries::{self, Registries};
use crate::render;
use crate::render::transfer::{To, Transfer};

/// Pushes a list with what its registry does not have, and prints its digest there.
pub async fn run(platform: &Platform, args: &ManifestPush) -> Result<u8> {
    let name = list_name(&args.list)?;
    let destination = args.destination.as_deref().map(list_name).transpose()?.unwrap_or_else(|| name.clone());
    let request = pb::GetManifestRequest { reference: name.to_string() };
    let found = platform.manifests().await?.get_manifest(request).await?.into_inner();
    let descriptor = found.descriptor.ok_or_else(|| incomplete("a descriptor"))?;
    if !media_type::is_index(&descriptor.media_type) {
        let error = Error::new(format!("{} is an image, not a list", name.familiar()));
        return Err(error.hint(format!("`ctl push {}` pushes it", name.familiar())));
    }
    let keychain = Registries::load()?;
    let mut credentials = keychain.credentials(&destination).await?;
    // Layers may have to come from other registries.
    let own = registries::registry(Some(destination.domain()))?;
    for registry in &found.layer_registries {
        let registry = registries::registry(Some(registry))?;
        if registry != own {
            credentials.extend(keychain.credentials_for(&registry).await?);
        }
    }
    let request = pb::PushImageRequest {
        reference: destination.to_string(),
        source: name.to_string(),
        manifest_format: push::format(args.format).into(),
        credentials,
        ..Default::default()
    };
    // The digest is all that Docker prints.
    let pushed = push::send(platform, request, Transfer::new(To::Stderr, args.quiet)).await?;
    if args.purge {
        edit::delete(platform, &name).await?;
    }
    render::line(pushed.target.ok_or_else(|| incomplete("a target"))?.digest).map(|()| 0)
}
