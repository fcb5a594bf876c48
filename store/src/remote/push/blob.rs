//! What is pushed of blobs: layers in the form that is wanted, each once, from wherever they are.

use std::pin::pin;

use strata_archive::Compression;
use strata_image::layer_type;
use strata_registry::{Host, Kind as Refusal, Pushed as Way};
use strata_types::{Descriptor, Digest, Reference};

use super::{Form, Work};
use crate::remote::outgoing::{Outgoing, OutgoingGrowth};
use crate::remote::{Event, Stage};
use crate::{Error, Result, layer};

impl Work {
    /// Pushes one layer, in another form where that is wanted; answers with what it has become.
    pub(super) async fn layer(
        &self,
        layer: &Descriptor,
        diff_id: Option<Digest>,
        is_made_here: bool,
    ) -> Result<Descriptor> {
        let form = layer_type(&layer.media_type).map(|kind| kind.compression);
        let is_other = form.is_some_and(|form| form != self.compression);
        let is_raw = form == Some(Compression::None);
        let is_unknown_there = form == Some(Compression::Zstd) && self.form == Some(Form::Docker);
        let wanted = match diff_id {
            Some(diff_id) if is_other && ((is_raw && is_made_here) || self.force || is_unknown_there) => {
                Some((diff_id, self.compression))
            }
            // Kept as a tree alone: the archive has to be written first.
            Some(diff_id) if is_raw => Some((diff_id, Compression::None)),
            _ => None,
        };
        let Some((diff_id, compression)) = wanted else { return self.send(layer, layer, diff_id).await };
        match self.form(&diff_id, compression).await? {
            Some(form) => self.send(layer, &form, Some(diff_id)).await,
            None if compression == Compression::None => {
                let _place = self.compressing.acquire().await;
                let made = layer::archive(&self.store, &diff_id, compression, &self.lease).await?;
                self.send(layer, &made.ok_or(Error::BlobNotFound { digest: layer.digest })?, Some(diff_id)).await
            }
            None => self.make(layer, diff_id, compression).await,
        }
    }

    /// A layer in another form: one that the registry has, else one that is here.
    async fn form(&self, diff_id: &Digest, compression: Compression) -> Result<Option<Descriptor>> {
        let is_wanted = |media_type: &str| layer_type(media_type).is_some_and(|kind| kind.compression == compression);
        let forms = self.store.catalog.forms(diff_id).await?;
        let is_here = forms.iter().any(|form| form.is_here && is_wanted(&form.descriptor.media_type));
        if is_here {
            // Found by a request of another one.
            return layer::archive(&self.store, diff_id, compression, &self.lease).await;
        }
        for form in forms.into_iter().filter(|form| is_wanted(&form.descriptor.media_type)) {
            if self.repository.has_blob(form.descriptor.digest).await? {
                return Ok(Some(form.descriptor));
            }
        }
        Ok(None)
    }

    /// Compresses a layer, and sends it meanwhile.
    async fn make(&self, layer: &Descriptor, diff_id: Digest, compression: Compression) -> Result<Descriptor> {
        let place = self.compressing.acquire().await;
        self.tell(layer, Stage::Compressing).await;
        let (grower, growing) = layer::growing();
        let source = OutgoingGrowth { growing, told: (layer.digest, self.events.clone()) };
        let mut making = pin!(async {
            let made = layer::archive_growing(&self.store, &diff_id, compression, &self.lease, grower).await;
            // The next one may be compressed while this one is still being sent.
            drop(place);
            made
        });
        let mut sending = pin!(self.repository.push_growing(layer.digest, &source));
        let (made, sent) = tokio::select! {
            made = &mut making => (made?, sending.await),
            sent = &mut sending => match sent {
                // Nothing will help that, and nobody needs the layer.
                Err(error) if !matches!(error.kind(), Refusal::Unavailable | Refusal::RateLimited | Refusal::Local) => {
                    return Err(error.into());
                }
                sent => (making.await?, sent),
            },
        };
        let made = made.ok_or(Error::BlobNotFound { digest: layer.digest })?;
        match sent {
            Ok(way) => self.sent(layer, &made, Some(diff_id), way).await,
            Err(error) => {
                tracing::debug!("a layer is sent again from its start: {}", strata_rpc::fault::chain(&error));
                self.send(layer, &made, Some(diff_id)).await
            }
        }
    }

    /// Pushes one blob; events call it by the digest that it has here.
    pub(super) async fn send(
        &self,
        here: &Descriptor,
        sent: &Descriptor,
        diff_id: Option<Digest>,
    ) -> Result<Descriptor> {
        let neighbour = self.neighbour(&sent.digest).await?;
        let told = (here.digest, self.events.clone());
        let outgoing = Outgoing::of_blob(&self.store, sent, Some(told)).or_from_elsewhere(&self.lease, &self.identity);
        let pushed = self.repository.push_blob(sent, &outgoing, neighbour.as_deref()).await;
        let way = pushed.map_err(|error| outgoing.explain(error))?;
        self.sent(here, sent, diff_id, way).await
    }

    /// Writes down and tells that the registry has a blob.
    async fn sent(
        &self,
        here: &Descriptor,
        sent: &Descriptor,
        diff_id: Option<Digest>,
        way: Way,
    ) -> Result<Descriptor> {
        let stage = match way {
            Way::Present => Stage::Exists,
            Way::Mounted => Stage::Mounted,
            Way::Sent => Stage::Done,
        };
        // From now on it can be had from there again, or be mounted by a neighbour.
        if let Some(diff_id) = diff_id.filter(|diff_id| *diff_id != sent.digest)
            && self.store.catalog.form(&sent.digest).await?.is_none_or(|form| form.source.is_empty())
        {
            let source = format!("{}/{}", self.registry, self.path);
            self.store.catalog.put_layer_blob(sent, &diff_id, &source).await?;
        }
        self.events.tell(Event::Transfer { digest: here.digest, stage, offset: sent.size, size: sent.size }).await;
        Ok(sent.clone())
    }

    /// Another repository of the same registry that a blob came from or went to.
    pub(super) async fn neighbour(&self, digest: &Digest) -> Result<Option<String>> {
        let Some(form) = self.store.catalog.form(digest).await? else { return Ok(None) };
        let source = Reference::parse(&form.source).ok();
        let source = source.filter(|source| Host::of(source) == self.registry && source.path() != self.path);
        Ok(source.map(|source| source.path().to_owned()))
    }

    pub(super) async fn tell(&self, blob: &Descriptor, stage: Stage) {
        self.events.tell(Event::Transfer { digest: blob.digest, stage, offset: 0, size: 0 }).await;
    }
}
