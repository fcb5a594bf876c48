//! What FROM, `--from` and the `from` of mounts lead to: stages that are built, images of the store, which pulls them first
//! where that is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use strata_dockerfile::Span;
use strata_types::{Digest, Platform, Reference};
use tokio::sync::OnceCell;

use crate::error::Error;
use crate::graph::Origin;
use crate::image::Draft;
use crate::peers::{Credentials, Lookup};
use crate::progress::{Running, StepState};
use crate::solve::{Build, Pull, StageWork};
use crate::step::ContextLayer;

/// Pulls of a build, each made once: by name and platform.
pub type Pulls = BTreeMap<(String, Option<Platform>), Arc<OnceCell<()>>>;

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
        match origin {
            Origin::Scratch => Ok(Vec::new()),
            Origin::Stage(index) => {
                let stage = self.stages.wait(self, work.index, *index, span).await?;
                running.builds_on(stage.draft.step);
                Ok(stage.draft.layers.clone())
            }
            Origin::Image(name) => Ok(self.image(name, self.request.platform.as_ref(), span, running).await?.0.layers),
            Origin::Context(name) => Ok(vec![self.whole_context(name).await?.layer]),
        }
    }

    /// All files of a context that has a name, as a layer.
    pub async fn whole_context(&self, name: &str) -> Result<ContextLayer, Error> {
        let nothing = || Error::Context { problem: format!("there is no context {name:?}") };
        let local = self.contexts.local(name).ok_or_else(nothing)?;
        self.context_layer(local, "/").await?.ok_or_else(nothing)
    }

    /// An image as a place to start from or to copy from. Tells whether it was there, or was pulled by this build, as the
    /// state of a step.
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
        if pull == Pull::Always {
            self.pull(&reference, platform, span, running).await?;
        }
        let mut found = self.store.image(name, platform, &self.lease).await?;
        let is_pulled = match (&found, pull) {
            (Lookup::Found(_), pull) => pull == Pull::Always,
            (_, Pull::Missing) => {
                let pulled = self.pull(&reference, platform, span, running).await;
                if let (Err(Error::BaseImage { .. }), Lookup::OtherPlatform(problem)) = (&pulled, &found) {
                    // What is here says more than that a registry has nothing else.
                    return Err(self.no_base(name, span, problem.clone(), OTHER_PLATFORM));
                }
                pulled?;
                found = self.store.image(name, platform, &self.lease).await?;
                true
            }
            (_, Pull::Always | Pull::Never) => false,
        };
        match found {
            Lookup::Found(base) => {
                Ok((Draft::image(*base), if is_pulled { StepState::Done } else { StepState::Cached }))
            }
            Lookup::OtherPlatform(problem) => Err(self.no_base(name, span, problem, OTHER_PLATFORM)),
            Lookup::Absent => {
                let hint = "`ctl images` lists what is there; `ctl pull` fetches an image from its registry";
                Err(self.no_base(name, span, format!("image {name} is not in the store"), hint))
            }
        }
    }

    /// Has the store pull an image, once per build.
    async fn pull(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        span: Span,
        running: &Running,
    ) -> Result<(), Error> {
        let once = self.pulls.lock().await.entry((reference.to_string(), platform.cloned())).or_default().clone();
        let pulled = once.get_or_try_init(|| async {
            running.begin("");
            let credentials = match self.request.has_credentials {
                true => self.session.credentials(reference.domain()).await?,
                false => Credentials::default(),
            };
            self.store.pull(&reference.to_string(), platform, credentials, &self.lease, running).await
        });
        pulled.await.map(|_| ()).map_err(|error| match error {
            Error::Peer { status, .. } if is_no_image(&status) => {
                let name = reference.familiar();
                let message = format!("image {name} is not in the store, and cannot be pulled: {}", status.message());
                self.no_base(&name, span, message, "is the name right? `ctl login` helps where the image is private")
            }
            Error::Peer { .. } => {
                let message = error.to_string();
                Error::StepRefused { diagnostic: self.at(span, message), source: Box::new(error) }
            }
            other => other,
        })
    }

    fn no_base(&self, name: &str, span: Span, message: String, hint: &str) -> Error {
        let diagnostic = self.file.diagnostic(span, message).with_suggestion(hint);
        Error::BaseImage { image: name.to_owned(), diagnostic: Box::new(diagnostic) }
    }
}

/// Does the registry say that there is no such image, at least for us? Docker Hub denies what does not exist.
fn is_no_image(status: &tonic::Status) -> bool {
    let reasons = [
        "FAULT_REGISTRY_NOT_FOUND",
        "FAULT_REGISTRY_UNAUTHORIZED",
        "FAULT_REGISTRY_DENIED",
        "FAULT_PLATFORM_NOT_FOUND",
    ];
    strata_rpc::reason_of(status).is_some_and(|reason| reasons.contains(&reason.as_str()))
}
