//! What a COPY selects of a stage or an image is asked of earlier builds, where looking would fetch the layers of an image.

use strata_dockerfile::Span;

use super::transfer::{Transfer, word};
use crate::context::Blake3;
use crate::error::Error;
use crate::graph;
use crate::image::Draft;
use crate::key::Key;
use crate::progress::Running;
use crate::solve::{Build, StageWork};

/// A question to the files of a stage.
#[derive(Debug)]
pub struct Recall {
    draft: Draft,
    question: Blake3,
    title: String,
}

/// The stage or image that `--from` names. `None`: it names something else, or nothing is copied from there.
pub async fn read(
    build: &Build,
    work: &StageWork,
    transfer: &Transfer<'_>,
    running: &Running,
) -> Result<Option<Draft>, Error> {
    let Some(from) = transfer.from.filter(|_| transfer.heredocs.is_empty()) else { return Ok(None) };
    let origin = graph::source(&build.file, &build.contexts, &word(from))?;
    build.draft_of(work, &origin, from.value_span, running).await
}

impl Recall {
    /// What these sources are of what `--from` names. `None`: it costs nothing to look.
    pub fn new(transfer: &Transfer<'_>, words: &[(String, Span)], read: Option<&Draft>) -> Option<Self> {
        let from = transfer.from?;
        let draft = read.filter(|draft| draft.parts().0.is_some())?.clone();
        let sources = words.iter().map(|(source, _)| source.as_str());
        let question = Key::root("sources")
            .list(sources.clone())
            .list(transfer.exclude_patterns())
            .part([u8::from(transfer.has_parents)])
            .finish();
        let title =
            format!("what {} --from={} finds: {}", transfer.name, from.value, sources.collect::<Vec<_>>().join(" "));
        Some(Self { draft, question, title })
    }

    /// The digest of the sources that an earlier build found.
    pub async fn known(&self, build: &Build) -> Result<Option<Blake3>, Error> {
        build.recall(&self.draft, &self.question).await
    }

    /// Keeps it for later builds.
    pub async fn keep(&self, build: &Build, digest: Blake3) -> Result<(), Error> {
        build.memorize(&self.draft, &self.question, digest, &self.title).await
    }
}
