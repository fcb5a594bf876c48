//! `ctl pull`, and the pulls of `ctl run`.

use strata_proto::store::v1 as pb;
use strata_types::Reference;

use crate::args::{Pull, PullWhen};
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::registries::{self, Registries};
use crate::render::transfer::{To, Transfer};
use crate::{input, render};

/// Pulls an image, or all tags of a repository.
pub async fn run(platform: &Platform, args: &Pull) -> Result<u8> {
    let reference = registries::reference(&args.image)?;
    // The platform may come from the environment: the flag for all of them counts.
    let platform_text = args.platform.as_deref().filter(|_| !args.all_platforms);
    let wish = Wish { platform: platform_text.map(input::platform).transpose()?, all: args.all_platforms };
    if !args.all_tags {
        if names_no_tag(&args.image) && !args.quiet {
            render::line("Using default tag: latest")?;
        }
        let shown = Transfer::new(To::Stdout, args.quiet);
        let pulled = pull(platform, &reference, &wish, Until::Completed, shown).await?;
        if !args.quiet {
            told(&reference, &pulled)?;
        }
        render::line(reference.to_string())?;
        return Ok(0);
    }
    if !names_no_tag(&args.image) {
        return Err(Error::usage("--all-tags takes a repository without tag and digest"));
    }
    for tag in tags(platform, &reference).await? {
        // A registry that lists what is no tag has it left out.
        let Ok(one) = reference.with_tag(&tag) else { continue };
        let pulled = pull(platform, &one, &wish, Until::Completed, Transfer::new(To::Stdout, args.quiet)).await?;
        if !args.quiet {
            told(&one, &pulled)?;
        }
    }
    render::line(reference.name())?;
    Ok(0)
}

/// What of an image is wanted.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Its platform.
    pub platform: Option<strata_proto::types::v1::Platform>,
    /// All of its platforms.
    pub all: bool,
}

/// How long a pull is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The image is on disk.
    Completed,
    /// Containers that are removed at their end can start from it; the store brings it to the disk meanwhile.
    Usable,
}

/// Pulls one image.
pub async fn pull(
    platform: &Platform,
    reference: &Reference,
    wish: &Wish,
    until: Until,
    mut shown: Transfer,
) -> Result<pb::PullCompleted> {
    let request = pb::PullImageRequest {
        reference: reference.to_string(),
        platform: wish.platform.clone(),
        all_platforms: wish.all,
        credentials: Registries::load()?.credentials(reference).await?,
        lease_id: String::new(),
        digest: String::new(),
        goes_on_when_usable: until == Until::Usable,
    };
    let mut events = platform.registry().await?.pull_image(request).await?.into_inner();
    let label = reference.tag().map_or_else(|| reference.digest().map(ToString::to_string), |tag| Some(tag.to_owned()));
    shown.title(format!("{}: Pulling from {}", label.unwrap_or_default(), reference.path()));
    let mut target = None;
    let result = loop {
        match events.message().await {
            Ok(Some(reply)) => match reply.event {
                Some(pb::pull_image_response::Event::Resolved(resolved)) => {
                    shown.expect(resolved.layers.iter().map(|layer| (layer.digest.as_str(), layer.size_bytes)));
                    target = resolved.target;
                }
                Some(pb::pull_image_response::Event::Usable(_)) if until == Until::Usable => {
                    break Ok(pb::PullCompleted { target, ..Default::default() });
                }
                Some(pb::pull_image_response::Event::Usable(_)) => {}
                Some(pb::pull_image_response::Event::Progress(progress)) => shown.pulled(&progress),
                Some(pb::pull_image_response::Event::Completed(completed)) => break Ok(completed),
                None => {}
            },
            Ok(None) => break Err(Error::new("the store ended the stream before the pull ended")),
            Err(status) => break Err(Error::from(status)),
        }
    };
    shown.finish();
    result
}

/// Docker's last lines.
fn told(reference: &Reference, pulled: &pb::PullCompleted) -> Result<()> {
    if let Some(target) = &pulled.target {
        render::line(format!("Digest: {}", target.digest))?;
    }
    let name = reference.familiar();
    match pulled.was_current {
        true => render::line(format!("Status: Image is up to date for {name}")),
        false => render::line(format!("Status: Downloaded newer image for {name}")),
    }
}

/// For `ctl run`: pulls what the policy says before the container is made. The output of the container stays alone on
/// standard output.
pub async fn before_run(
    platform: &Platform,
    image: &str,
    wish: &Wish,
    when: PullWhen,
    until: Until,
    quiet: bool,
) -> Result<()> {
    let reference = registries::reference(image)?;
    if when == PullWhen::Missing && !quiet {
        render::note(format!("Unable to find image '{}' locally", reference.familiar()));
    }
    let pulled = pull(platform, &reference, wish, until, Transfer::new(To::Stderr, quiet)).await?;
    if !quiet {
        if let Some(target) = &pulled.target {
            render::note(format!("Digest: {}", target.digest));
        }
        let what = if pulled.was_current { "Image is up to date" } else { "Downloaded newer image" };
        render::note(format!("Status: {what} for {}", reference.familiar()));
    }
    Ok(())
}

/// The tags of a repository.
async fn tags(platform: &Platform, reference: &Reference) -> Result<Vec<String>> {
    let credentials = Registries::load()?.credentials(reference).await?;
    let request = pb::ReadTagsRequest { reference: reference.to_string(), credentials };
    let mut parts = platform.registry().await?.read_tags(request).await?.into_inner();
    let mut tags = Vec::new();
    while let Some(part) = parts.message().await? {
        tags.extend(part.tags);
    }
    Ok(tags)
}

/// A reference to a repository: neither tag nor digest is written.
pub fn names_no_tag(text: &str) -> bool {
    !text.contains('@') && !text.rsplit('/').next().unwrap_or_default().contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_tag() {
        for (text, is_repository) in [
            ("debian", true),
            ("debian:12", false),
            ("reg.example:5000/a/b", true),
            ("reg.example:5000/a/b:1", false),
            ("a@sha256:00", false),
        ] {
            assert_eq!(names_no_tag(text), is_repository, "{text}");
        }
    }
}
