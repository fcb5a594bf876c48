//! Images that are at their registry: what they are is known, and their layers come when a step or the end of the build needs
//! files.

use std::collections::BTreeMap;
use std::sync::Arc;

use strata_dockerfile::Span;
use strata_types::{Platform, Reference};
use tokio::sync::OnceCell;

use crate::error::Error;
use crate::image::Draft;
use crate::peers::{Credentials, Lookup, Resolved};
use crate::progress::Running;
use crate::solve::Build;

/// What images are at their registries, by name and platform: all stages of a build mean the same.
pub type Resolutions = BTreeMap<(String, Option<Platform>), Arc<OnceCell<Arc<Lazy>>>>;

/// An image at its registry.
#[derive(Debug)]
pub struct Lazy {
    /// The name that leads there.
    reference: Reference,
    /// The platform that was asked for.
    platform: Option<Platform>,
    /// What it is.
    pub resolved: Resolved,
    /// Its layers in the store, bottom first, from when they are here.
    layers: OnceCell<Vec<String>>,
}

impl Lazy {
    /// Its layers, if they are here.
    pub fn here(&self) -> Option<&[String]> {
        self.layers.get().map(Vec::as_slice)
    }
}

impl Build {
    /// What an image is at its registry, asked once per build.
    pub async fn resolve(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        span: Span,
        running: &Running,
    ) -> Result<Arc<Lazy>, Error> {
        let once = self.resolutions.lock().await.entry((reference.to_string(), platform.cloned())).or_default().clone();
        let resolve = || async {
            running.begin("");
            let part = running.part(format!("resolve {reference}"));
            let credentials = self.credentials(reference).await?;
            let resolved = self.store.resolve(&reference.to_string(), platform, credentials).await?;
            part.done();
            let (reference, platform) = (reference.clone(), platform.cloned());
            let lazy = Lazy { reference, platform, resolved, layers: OnceCell::new() };
            if self.exactly(&lazy).await?.is_some() {
                // It has another name here: nothing is left to fetch.
                lazy.layers.get_or_try_init(|| self.fetch(&lazy, running)).await?;
            }
            Ok(Arc::new(lazy))
        };
        once.get_or_try_init(resolve).await.cloned().map_err(|error| match error {
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

    /// The layers of a stage, bottom first. Those of an image that is still at its registry are fetched now.
    pub async fn files(&self, draft: &Draft, running: &Running) -> Result<Vec<String>, Error> {
        if let (Some(lazy), _) = draft.parts() {
            lazy.layers.get_or_try_init(|| self.fetch(lazy, running)).await?;
        }
        draft.here().ok_or(Error::Answer { peer: "store", what: "the layers of an image that it has pulled" })
    }

    async fn fetch(&self, lazy: &Lazy, running: &Running) -> Result<Vec<String>, Error> {
        let Lazy { reference, platform, resolved, .. } = lazy;
        running.begin("");
        let credentials = self.credentials(reference).await?;
        // The name may stand for something newer by now; this build goes on with what it began with.
        let known = if reference.digest().is_none() { resolved.target.as_str() } else { "" };
        self.store.pull(&reference.to_string(), known, platform.as_ref(), credentials, &self.lease, running).await?;
        self.exactly(lazy).await?.ok_or(Error::Answer { peer: "store", what: "an image that it has pulled" })
    }

    /// The layers of just this image, if they are here.
    async fn exactly(&self, lazy: &Lazy) -> Result<Option<Vec<String>>, Error> {
        let exact = lazy.reference.with_digest(lazy.resolved.manifest).to_string();
        match self.store.image(&exact, None, &self.lease).await? {
            Lookup::Found(base) => Ok(Some(base.layers)),
            Lookup::OtherPlatform(_) | Lookup::Absent => Ok(None),
        }
    }

    async fn credentials(&self, reference: &Reference) -> Result<Credentials, Error> {
        match self.request.has_credentials {
            true => self.session.credentials(reference.domain()).await,
            false => Ok(Credentials::default()),
        }
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
