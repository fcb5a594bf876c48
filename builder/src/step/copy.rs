//! COPY and ADD: what the sources select decides about the cache; only when the layer must be written are contents fetched,
//! and only those that the store lacks.

mod archive;
mod filter;
mod find;
mod layer;
mod missing;
mod recall;
mod remote;
mod transfer;
mod write;

use std::sync::Arc;

use strata_dockerfile::Instruction;

use super::{Keyed, family, through_cache};
use crate::error::Error;
use crate::key::Key;
use crate::peers::Tree;
use crate::progress::Running;
use crate::solve::{Build, StageWork};

pub use archive::is_archive;
pub use layer::ContextLayer;
use recall::Recall;
pub use transfer::{Transfer, absolute};

/// Performs a COPY or ADD.
pub async fn perform(
    build: &Arc<Build>,
    work: &mut StageWork,
    instruction: &Instruction,
    transfer: Transfer<'_>,
    running: &Running,
) -> Result<(), Error> {
    let mut words = Vec::with_capacity(transfer.sources.len());
    for word in transfer.sources {
        words.push((work.scope.expand(&build.file, word)?, word.span));
    }
    let destination = work.scope.expand(&build.file, transfer.destination)?;
    if words.len() + transfer.heredocs.len() > 1 && !transfer::names_directory(&destination) {
        let message = format!("{} of more than one source needs a destination that ends with /", transfer.name);
        return Err(build.mistake(transfer.destination.span, message));
    }
    let created_by = transfer.history(build, work, &words, &destination)?;
    let target = transfer.target(build, work, &destination, running).await?;
    let read = recall::read(build, work, &transfer, running).await?;
    let recall = Recall::new(&transfer, &words, read.as_ref());
    let known = match &recall {
        Some(recall) => recall.known(build).await?,
        None => None,
    };
    let (sources, digest) = match known {
        Some(digest) => (None, digest),
        None => {
            let sources = find::all(build, work, &transfer, read.as_ref(), &words, &destination, running).await?;
            let digest = sources.digest();
            if let Some(recall) = recall {
                recall.keep(build, digest).await?;
            }
            (Some(sources), digest)
        }
    };
    let unpacks = transfer.unpack.unwrap_or(transfer.is_add);
    let owner = target.owner.map(|(uid, gid)| [uid.to_le_bytes(), gid.to_le_bytes()].concat());
    let operation = Key::operation("copy")
        .part(digest)
        .part(target.destination())
        .part([u8::from(unpacks), u8::from(target.owner.is_some())])
        .part(owner.unwrap_or_default())
        .part(target.mode.as_ref().map_or(String::new(), |mode| format!("{mode:?}")))
        .finish();
    let is_linked = transfer.is_linked;
    let keyed = Keyed { operation, family: family(build, work, instruction), created_by, is_linked };
    through_cache(build, work, keyed, running, async |work, step, previous| {
        let sources = match sources {
            Some(sources) => sources,
            None => find::all(build, work, &transfer, read.as_ref(), &words, &destination, running).await?,
        };
        remote::deliver(build, &sources, running).await?;
        let parents = if is_linked { Vec::new() } else { build.files(&work.draft, running).await? };
        let tree = Tree { parents, previous: previous.unwrap_or_default(), made: target.made() };
        write::layer(build, &sources, &target, unpacks, (tree, step)).await
    })
    .await
}
