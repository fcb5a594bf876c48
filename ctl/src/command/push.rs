//! `ctl push`

use strata_proto::store::v1 as pb;
use strata_types::Reference;

use crate::args::{ManifestFormat, Push, PushCompression};
use crate::command::pull::names_no_tag;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::registries::{self, Registries};
use crate::render::transfer::{To, Transfer};
use crate::{input, render};

/// Pushes an image, or all tags of a repository that the store has.
pub async fn run(platform: &Platform, args: &Push) -> Result<u8> {
    let reference = registries::reference(&args.image)?;
    if reference.digest().is_some() {
        let error = Error::usage("an image is pushed under a tag, not under a digest");
        return Err(error.hint("`ctl tag IMAGE NAME:TAG` gives it one"));
    }
    if !args.all_tags {
        if names_no_tag(&args.image) && !args.quiet {
            render::line("Using default tag: latest")?;
        }
        push(platform, &reference, args).await?;
        render::line(reference.to_string()).map(|()| 0)
    } else if !names_no_tag(&args.image) {
        Err(Error::usage("--all-tags takes a repository without a tag"))
    } else {
        let all = tags(platform, &reference).await?;
        if all.is_empty() {
            return Err(Error::new(format!("the store has no image of {}", reference.familiar_name())));
        }
        for one in all {
            push(platform, &one, args).await?;
        }
        render::line(reference.name()).map(|()| 0)
    }
}

async fn push(platform: &Platform, reference: &Reference, args: &Push) -> Result<()> {
    let request = pb::PushImageRequest {
        reference: reference.to_string(),
        platform: args.platform.as_deref().map(input::platform).transpose()?,
        compression: match args.compression {
            None => pb::LayerCompression::Unspecified.into(),
            Some(PushCompression::Gzip) => pb::LayerCompression::Gzip.into(),
            Some(PushCompression::Zstd) => pb::LayerCompression::Zstd.into(),
            Some(PushCompression::None) => pb::LayerCompression::None.into(),
        },
        force_compression: args.force_compression,
        manifest_format: format(args.format).into(),
        credentials: Registries::load()?.credentials(reference).await?,
        ..Default::default()
    };
    let pushed = send(platform, request, Transfer::new(To::Stdout, args.quiet)).await?;
    if pushed.is_partial {
        render::note("note: only the image of one platform was pushed; the others of its index are not in the store");
    }
    if let Some(target) = pushed.target.filter(|_| !args.quiet) {
        let tag = reference.tag().unwrap_or_default();
        render::line(format!("{tag}: digest: {} size: {}", target.digest, target.size_bytes))?;
    }
    Ok(())
}

/// The form that was asked for, as requests have it.
pub fn format(format: Option<ManifestFormat>) -> pb::ManifestFormat {
    match format {
        None => pb::ManifestFormat::Unspecified,
        Some(ManifestFormat::Oci) => pb::ManifestFormat::Oci,
        Some(ManifestFormat::Docker) => pb::ManifestFormat::Docker,
    }
}

/// Carries out one push and shows how it goes.
pub async fn send(
    platform: &Platform,
    request: pb::PushImageRequest,
    mut shown: Transfer,
) -> Result<pb::PushCompleted> {
    let repository = registries::reference(&request.reference)?.name();
    let mut events = platform.registry().await?.push_image(request).await?.into_inner();
    shown.title(format!("The push refers to repository [{repository}]"));
    let result = loop {
        match events.message().await {
            Ok(Some(reply)) => match reply.event {
                Some(pb::push_image_response::Event::Progress(progress)) => shown.pushed(&progress),
                Some(pb::push_image_response::Event::Completed(completed)) => break Ok(completed),
                None => {}
            },
            Ok(None) => break Err(Error::new("the store ended the stream before the push ended")),
            Err(status) => break Err(Error::from(status)),
        }
    };
    shown.finish();
    result
}

/// The names of a repository that the store has.
async fn tags(platform: &Platform, repository: &Reference) -> Result<Vec<Reference>> {
    let mut client = platform.images().await?;
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListImagesRequest { page_size: 1000, page_token, reference: repository.name() };
        let page = client.list_images(request).await?.into_inner();
        let all = page.images.iter().flat_map(|image| &image.names);
        let of_it = all.filter_map(|name| Reference::parse(name).ok()).filter(|name| name.name() == repository.name());
        names.extend(of_it.map(|name| name.to_string()));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    names.sort();
    names.dedup();
    names.iter().map(|name| registries::reference(name)).collect()
}
