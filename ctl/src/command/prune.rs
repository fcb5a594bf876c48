//! `ctl system prune`, `ctl container prune` and `ctl image prune`

mod filter;

use std::io::{BufRead, Write};

use strata_proto::{runtime::v1 as runtime, store::v1 as store};

use super::{network, volume};
use crate::args::{ContainerPrune, ImagePrune, Prune};
use crate::error::Result;
use crate::filter::wrong;
use crate::platform::Platform;
use crate::render::{self, name, size};

pub use filter::Filter;

/// Removes what nothing uses, after asking.
pub async fn run(platform: &Platform, args: &Prune) -> Result<u8> {
    let filter = Filter::read(&args.filter)?;
    if args.volumes && filter.before.is_some() {
        return Err(wrong("until", "it says nothing of volumes: they go by their labels alone"));
    }
    if !args.force && !is_agreed(args).await? {
        return Ok(0);
    }
    stopped(platform, filter.clone()).await?;
    network::pruned(platform, filter.clone()).await?;
    let mut reclaimed = 0;
    if args.volumes {
        let request = runtime::PruneVolumesRequest { all: false, labels: filter.labels.clone() };
        reclaimed = volume::pruned(platform, request).await?;
    }
    let Filter { before, labels } = filter;
    // A record of the cache has no labels, and is used by builds of later.
    let cache = args.all && before.is_none() && labels.is_empty();
    prune(platform, store::PruneRequest { all_images: args.all, cache, images_only: false, before, labels }, reclaimed)
        .await
}

/// `ctl image prune`: images alone.
pub async fn images(platform: &Platform, args: &ImagePrune) -> Result<u8> {
    let Filter { before, labels } = Filter::read(&args.filter)?;
    let which = if args.all { "all images that no container uses" } else { "all images without a name" };
    let question = format!("WARNING! This will remove {which}.\nAre you sure you want to continue? [y/N] ");
    if !args.force && !agrees(&question).await? {
        return Ok(0);
    }
    let request = store::PruneRequest { all_images: args.all, cache: false, images_only: true, before, labels };
    prune(platform, request, 0).await
}

/// `ctl container prune`: stopped containers alone.
pub async fn containers(platform: &Platform, args: &ContainerPrune) -> Result<u8> {
    let filter = Filter::read(&args.filter)?;
    let question = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] ";
    if args.force || agrees(question).await? {
        stopped(platform, filter).await?;
    }
    Ok(0)
}

/// Removes stopped containers, and tells which.
async fn stopped(platform: &Platform, filter: Filter) -> Result<()> {
    let mut runtime = platform.containers().await?.all;
    let request = runtime::PruneContainersRequest { before: filter.before, labels: filter.labels };
    let deleted = runtime.prune_containers(request).await?.into_inner().deleted;
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
        "WARNING! This will remove:\n  - all stopped containers\n  - all networks that no container uses{volumes}\n  - {images}\n\nAre you sure you want to continue? [y/N] "
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
