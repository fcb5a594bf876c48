//! Pulls: the store fetches an image for a build, with the credentials of the build's client.

use std::collections::HashMap;

use strata_proto::store::v1 as pb;
use strata_proto::types::v1::RegistryCredentials;
use strata_types::{Digest, ImageConfig, Platform};

use super::Store;
use crate::error::Error;
use crate::progress::{Moving, Running};

/// Credentials on their way from the client to the store. Nobody here looks into them, and no log shows them.
#[derive(Debug, Clone, Default)]
pub struct Credentials(Vec<RegistryCredentials>);

impl Credentials {
    /// Takes them as the client sent them.
    pub fn new(messages: Vec<RegistryCredentials>) -> Self {
        Self(messages)
    }
}

/// What an image is at its registry.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Digest of the manifest or index that the name stands for.
    pub target: String,
    /// Digest of the manifest of the chosen image.
    pub manifest: Digest,
    /// Its config.
    pub config: ImageConfig,
    /// Its diff-ids, bottom first.
    pub diff_ids: Vec<String>,
}

/// A layer that is fetched: how far that is, or how far it is unpacked.
#[derive(Debug)]
enum Fetched {
    Moving(Moving),
    Unpacking(Moving),
}

impl Store {
    /// What an image is at its registry, for this platform or as suits the store's machine.
    pub async fn resolve(
        &self,
        reference: &str,
        platform: Option<&Platform>,
        credentials: Credentials,
    ) -> Result<Resolved, Error> {
        let request = pb::ResolveImageRequest {
            reference: reference.to_owned(),
            platform: platform.map(super::platform_message),
            credentials: credentials.0,
        };
        let mut client = pb::registry_service_client::RegistryServiceClient::new(self.channel.clone());
        let response = client.resolve_image(request).await;
        let found = response.map_err(|status| Error::peer("store", "resolve the image", status))?.into_inner();
        let config = serde_json::from_slice(&found.config_json)
            .map_err(|source| Error::ImageConfig { image: reference.to_owned(), source })?;
        let manifest = found.manifest.and_then(|manifest| Digest::parse(&manifest.digest).ok());
        let manifest = manifest.ok_or(Error::Answer { peer: "store", what: "a manifest" })?;
        let target = found.target.map(|target| target.digest).unwrap_or_default();
        Ok(Resolved { target, manifest, config, diff_ids: found.diff_ids })
    }

    /// Pulls an image, for this platform or as suits the store's machine, which the lease will hold from then on. `known` is
    /// what its tag stood for, or empty.
    pub async fn pull(
        &self,
        reference: &str,
        known: &str,
        platform: Option<&Platform>,
        credentials: Credentials,
        lease: &str,
        running: &Running,
    ) -> Result<(), Error> {
        let request = pb::PullImageRequest {
            reference: reference.to_owned(),
            platform: platform.map(super::platform_message),
            all_platforms: false,
            credentials: credentials.0,
            lease_id: lease.to_owned(),
            digest: known.to_owned(),
            goes_on_when_usable: false,
        };
        let mut layers = HashMap::new();
        let mut client = pb::registry_service_client::RegistryServiceClient::new(self.channel.clone());
        let mut events = client.pull_image(request).await.map_err(refused)?.into_inner();
        loop {
            let Some(pb::PullImageResponse { event }) = events.message().await.map_err(refused)? else {
                return Err(Error::Answer { peer: "store", what: "the end of a pull" });
            };
            match event {
                Some(pb::pull_image_response::Event::Progress(progress)) => layer(&mut layers, &progress, running),
                Some(pb::pull_image_response::Event::Completed(_)) => return Ok(()),
                // What a build makes of it shall survive the host.
                Some(pb::pull_image_response::Event::Usable(_) | pb::pull_image_response::Event::Resolved(_))
                | None => {}
            }
        }
    }
}

/// Tells how far a layer is. One that is there already is no work.
fn layer(layers: &mut HashMap<String, Fetched>, progress: &pb::TransferProgress, running: &Running) {
    let pb::TransferProgress { digest, offset_bytes, size_bytes, .. } = progress;
    let known = layers.remove(digest);
    let next = match (progress.state(), known) {
        (pb::TransferState::Moving, known) => {
            let mut moving = match known {
                Some(Fetched::Moving(moving)) => moving,
                _ => running.part(digest.as_str()),
            };
            moving.at(*offset_bytes, *size_bytes);
            Some(Fetched::Moving(moving))
        }
        (pb::TransferState::Unpacking, Some(Fetched::Moving(moving))) => {
            moving.done();
            Some(Fetched::Unpacking(running.part(format!("extracting {digest}"))))
        }
        (pb::TransferState::Done, Some(Fetched::Moving(part) | Fetched::Unpacking(part))) => {
            part.done();
            None
        }
        (_, known) => known,
    };
    if let Some(next) = next {
        layers.insert(digest.clone(), next);
    }
}

fn refused(status: tonic::Status) -> Error {
    Error::peer("store", "pull the image", status)
}
