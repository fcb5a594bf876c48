//! `ctl system prune`, `ctl container prune` and `ctl image prune`

use std::io::{BufRead, Write};

use strata_proto::{runtime::v1 as runtime, store::v1 as store};

use super::volume;
use crate::args::{ContainerPrune, ImagePrune, Prune};
use crate::error::Result;
use crate::platform::Platform;
use crate::render::{self, name, size};

/// Removes what nothing uses, after asking.
pub async fn run(platform: &Platform, args: &Prune) -> Result<u8> {
    if !args.force && !is_agreed(args).await? {
        return Ok(0);
    }
    stopped(platform).await?;
    let mut reclaimed = 0;
    if args.volumes {
        reclaimed = volume::pruned(platform, runtime::PruneVolumesRequest::default()).await?;
    }
    let request = store::PruneRequest { all_images: args.all, cache: args.all, images_only: false };
    prune(platform, request, reclaimed).await
}

/// `ctl image prune`: images alone.
pub async fn images(platform: &Platform, args: &ImagePrune) -> Result<u8> {
    let which = if args.all { "all images that no container uses" } else { "all images without a name" };
    let question = format!("WARNING! This will remove {which}.\nAre you sure you want to continue? [y/N] ");
    if !args.force && !agrees(&question).await? {
        return Ok(0);
    }
    prune(platform, store::PruneRequest { all_images: args.all, cache: false, images_only: true }, 0).await
}

/// `ctl container prune`: stopped containers alone.
pub async fn containers(platform: &Platform, args: &ContainerPrune) -> Result<u8> {
    let question = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] ";
    if args.force || agrees(question).await? {
        stopped(platform).await?;
    }
    Ok(0)
}

/// Removes stopped containers, and tells which.
async fn stopped(platform: &Platform) -> Result<()> {
    let mut runtime = platform.containers().await?.all;
    let deleted = runtime.prune_containers(runtime::PruneContainersRequest {}).await?.into_inner().deleted;
    match deleted.is_empty() {
        true => Ok(()),
        false => render::line(format!("Deleted Containers:\n{}\n", deleted.join("\n"))),
    }
}

/// Prunes the store, and tells what that made free beside what is free already.
async fn prune(platform: &Platform, request: store::PruneRequest, reclaimed: u64) -> Result<u8> {
    let pruned = platform.store().await?.prune(request).await?.into_inner();
    if !pruned.untagged.is_empty() || !pruned.deleted_images.is_empty() {
        let untagged = pruned.untagged.iter().map(|full| format!("untagged: {}", name::familiar(full)));
        let deleted = pruned.deleted_images.iter().map(|id| format!("deleted: {id}"));
        let lines: Vec<String> = untagged.chain(deleted).collect();
        render::line(format!("Deleted Images:\n{}\n", lines.join("\n")))?;
    }
    if pruned.cache_records > 0 {
        render::line(format!("Deleted build cache records: {}\n", pruned.cache_records))?;
    }
    render::line(format!("Total reclaimed space: {}", size::human(reclaimed + pruned.reclaimed_bytes)))?;
    Ok(0)
}

async fn is_agreed(args: &Prune) -> Result<bool> {
    let volumes = if args.volumes { "\n  - anonymous volumes that no container uses" } else { "" };
    let images =
        if args.all { "all images that no container uses, and the build cache" } else { "all images without a name" };
    let text = format!(
        "WARNING! This will remove:\n  - all stopped containers{volumes}\n  - {images}\n\nAre you sure you want to continue? [y/N] "
    );
    agrees(&text).await
}

/// Asks, and reads the answer.
pub async fn agrees(question: &str) -> Result<bool> {
    render::text(question)?;
    std::io::stdout().flush().map_err(render::unwritable)?;
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    let answer = answer.await.ok().and_then(std::io::Result::ok).unwrap_or_default();
    if !answer.ends_with('\n') {
        // Nobody answered: what follows is not on the line of the question.
        render::line("")?;
    }
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
