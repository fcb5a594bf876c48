//! What FROM, `--from` and the `from` of mounts lead to: stages that are built, images of the store, images at registries.

mod lazy;

use strata_dockerfile::Span;
use strata_types::{Digest, Platform, Reference};

use crate::error::Error;
use crate::graph::Origin;
use crate::image::Draft;
use crate::peers::Lookup;
use crate::progress::{Running, StepState};
use crate::solve::{Build, Pull, StageWork};
use crate::step::ContextLayer;

pub use lazy::{Lazy, Resolutions};

/// What helps where an image is for another platform.
const OTHER_PLATFORM: &str = "`--platform` of ctl build, or of this FROM, chooses the platform";

impl Build {
    /// The layers of what an instruction reads besides the build context, bottom first.
    pub async fn layers_of(
        &self,
        work: &StageWork,
        origin: &Origin,
        span: Span,
        running: &Running,
    ) -> Result<Vec<String>, Error> {
        if let Some(draft) = self.draft_of(work, origin, span, running).await? {
            return self.files(&draft, running).await;
        }
        match origin {
            Origin::Context(name) => Ok(vec![self.whole_context(name, span, running).await?.layer]),
            _ => Ok(Vec::new()),
        }
    }

    /// The stage or image that an instruction reads. `None`: it reads something else.
    pub async fn draft_of(
        &self,
        work: &StageWork,
        origin: &Origin,
        span: Span,
        running: &Running,
    ) -> Result<Option<Draft>, Error> {
        match origin {
            Origin::Scratch | Origin::Context(_) => Ok(None),
            Origin::Stage(index) => {
                let stage = self.stages.wait(self, work.index, *index, span).await?;
                running.builds_on(stage.draft.step);
                Ok(Some(stage.draft.clone()))
            }
            Origin::Image(name) => {
                let (draft, _) = self.image(name, self.request.platform.as_ref(), span, running).await?;
                Ok(Some(draft))
            }
        }
    }

    /// All files of a context that has a name, as a layer.
    pub async fn whole_context(&self, name: &str, span: Span, running: &Running) -> Result<ContextLayer, Error> {
        if let Some(remote) = self.contexts.remote(name) {
            let tree = self.remotes.context(remote, false, running).await;
            let tree = tree.map_err(|failure| self.unfetched(remote.url(), span, failure))?;
            return Ok(ContextLayer { layer: tree.layer, path: "/".to_owned(), digest: tree.key });
        }
        let nothing = || Error::Context { problem: format!("there is no context {name:?}") };
        let local = self.contexts.local(name).ok_or_else(nothing)?;
        self.context_layer(local, "/").await?.ok_or_else(nothing)
    }

    /// An image as a place to start from or to copy from. Tells whether it was there, or was found at its registry by this
    /// build, as the state of a step.
    pub async fn image(
        &self,
        name: &str,
        platform: Option<&Platform>,
        span: Span,
        running: &Running,
    ) -> Result<(Draft, StepState), Error> {
        let reference = Reference::parse(name)
            .map_err(|problem| self.mistake(span, format!("{name:?} is not an image reference: {problem}")))?;
        // What is named by its id is here or nowhere.
        let pull = if Digest::parse(name).is_ok() { Pull::Never } else { self.request.pull };
        let lazy = async || {
            let found = self.resolve(&reference, platform, span, running).await?;
            Ok((Draft::lazy(found), StepState::Done))
        };
        if pull == Pull::Always {
            return lazy().await;
        }
        match (self.store.image(name, platform, &self.lease).await?, pull) {
            (Lookup::Found(base), _) => Ok((Draft::image(*base), StepState::Cached)),
            (Lookup::OtherPlatform(problem), Pull::Missing) => match lazy().await {
                // What is here says more than that a registry has nothing else.
                Err(Error::BaseImage { .. }) => Err(self.no_base(name, span, problem, OTHER_PLATFORM)),
                found => found,
            },
            (Lookup::OtherPlatform(problem), _) => Err(self.no_base(name, span, problem, OTHER_PLATFORM)),
            (Lookup::Absent, Pull::Missing) => lazy().await,
            (Lookup::Absent, _) => {
                let hint = "`ctl images` lists what is there; `ctl pull` fetches an image from its registry";
                Err(self.no_base(name, span, format!("image {name} is not in the store"), hint))
            }
        }
    }

    fn no_base(&self, name: &str, span: Span, message: String, hint: &str) -> Error {
        let diagnostic = self.file.diagnostic(span, message).with_suggestion(hint);
        Error::BaseImage { image: name.to_owned(), diagnostic: Box::new(diagnostic) }
    }
}
