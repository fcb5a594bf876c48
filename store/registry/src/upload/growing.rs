//! Blobs that are sent while they are being made: one request without a length, as `docker push` sends layers, and the
//! digest at the end. What goes wrong with that is no harm: whoever calls has the whole blob soon, and sends it as any
//! other.

use std::{io, pin::pin};

use futures_util::future::BoxFuture;
use reqwest::Method;
use strata_types::{Descriptor, Digest};

use super::{BlobSource, Cause, Error, Pushed, Repository, Result, Upload};
use crate::{answer::Codes, error::Item, session::Call};

/// Bytes that are still being made. The stream of [`BlobSource::open`] follows them to their end.
pub trait GrowingSource: BlobSource {
    /// What it is, once all of it is there.
    fn whole(&self) -> BoxFuture<'_, io::Result<Descriptor>>;
}

impl Repository {
    /// Pushes a blob while it is being made; errors call it by `called`. What the registry turns out to have is not sent
    /// to the end. Where the settings want chunks, nothing is sent before all is there.
    ///
    /// Nothing is tried again here: that is [`Repository::push_blob`]'s, with the whole blob.
    pub async fn push_growing(&self, called: Digest, source: &dyn GrowingSource) -> Result<Pushed> {
        let failed = |cause| Error::request("push", self.subject(Item::Blob(called)), cause);
        let settings = self.session.connections.registries.settings(&self.own.host);
        if settings.chunk_bytes.is_some() {
            let whole = source.whole().await.map_err(|source| failed(Cause::Source { source }))?;
            return self.push_blob(&whole, source, None).await;
        }
        let _place = self.session.connections.transfer(&self.own.host).await;
        let mut upload = Upload::new(self, &Descriptor::new("", called, 0), source);
        let pushed = upload.grow(source).await;
        if !matches!(pushed, Ok(Pushed::Sent)) {
            upload.cancel().await;
        }
        pushed.map_err(failed)
    }
}

impl Upload<'_> {
    async fn grow(&mut self, source: &dyn GrowingSource) -> Result<Pushed, Cause> {
        self.begin(None).await?;
        let location = self.location.clone().ok_or_else(|| self.lost(Codes::default()))?;
        let (answer, whole) = {
            let mut call = Call::new(self.endpoint, Method::PATCH, location.clone(), self.scopes.clone());
            let mut sending = pin!(self.stream(&mut call, None));
            let mut whole = source.whole();
            let failed = |source| Cause::Source { source };
            tokio::select! {
                // Bytes that cannot be made break the stream, which says why.
                biased;
                answer = &mut sending => (answer?, whole.await.map_err(failed)?),
                known = &mut whole => {
                    let known = known.map_err(failed)?;
                    // Where bytes go slower than they are made, it pays to ask whether they have to go at all.
                    let is_there = self.repository.has(known.digest, Some(known.size));
                    tokio::select! {
                        answer = &mut sending => (answer?, known),
                        there = is_there => match there {
                            Ok(true) => return Ok(Pushed::Present),
                            _ => (sending.await?, known),
                        },
                    }
                }
            }
        };
        match answer.status().as_u16() {
            200..=204 => {}
            404 | 416 => return Err(self.lost(Codes::default())),
            _ => return Err(self.session.refusal(self.endpoint, answer).await),
        }
        (self.digest, self.size) = (whole.digest, whole.size);
        self.moved(&location, answer.headers())?;
        self.offset = self.stands_at(answer.headers()).filter(|stands| *stands > 0).unwrap_or(self.size);
        self.check_offset()?;
        if self.offset < self.size {
            return Err(self.lost(Codes::default()));
        }
        let location = self.location.clone().ok_or_else(|| self.lost(Codes::default()))?;
        self.end(location).await?;
        Ok(Pushed::Sent)
    }
}
