//! Pulls: the store fetches an image for a build, with the credentials of the build's client.

use std::collections::HashMap;

use strata_proto::store::v1 as pb;
use strata_proto::types::v1::RegistryCredentials;
use strata_types::Platform;

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

/// A layer that is fetched: how far that is, or how far it is unpacked.
#[derive(Debug)]
enum Fetched {
    Moving(Moving),
    Unpacking(Moving),
}

impl Store {
    /// Pulls an image, for this platform or as suits the store's machine, which the lease will hold from then on.
    pub async fn pull(
        &self,
        reference: &str,
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
            digest: String::new(),
        };
        let mut resolving = Some(running.part(format!("resolve {reference}")));
        let mut layers = HashMap::new();
        let mut client = pb::registry_service_client::RegistryServiceClient::new(self.channel.clone());
        let mut events = client.pull_image(request).await.map_err(refused)?.into_inner();
        loop {
            let Some(pb::PullImageResponse { event }) = events.message().await.map_err(refused)? else {
                return Err(Error::Answer { peer: "store", what: "the end of a pull" });
            };
            if let (Some(_), Some(resolving)) = (&event, resolving.take()) {
                resolving.done();
            }
            match event {
                Some(pb::pull_image_response::Event::Progress(progress)) => layer(&mut layers, &progress, running),
                Some(pb::pull_image_response::Event::Completed(_)) => return Ok(()),
                Some(pb::pull_image_response::Event::Resolved(_)) | None => {}
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
