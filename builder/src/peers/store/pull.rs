//! Pulls: the store fetches an image for a build, with the credentials of the build's client.

use strata_proto::store::v1 as pb;
use strata_proto::types::v1::RegistryCredentials;

use strata_types::Platform;

use super::Store;
use crate::error::Error;

/// Credentials on their way from the client to the store. Nobody here looks into them, and no log shows them.
#[derive(Debug, Clone, Default)]
pub struct Credentials(Vec<RegistryCredentials>);

impl Credentials {
    /// Takes them as the client sent them.
    pub fn new(messages: Vec<RegistryCredentials>) -> Self {
        Self(messages)
    }
}

/// A pull under way.
#[derive(Debug)]
pub struct Pulling(tonic::Streaming<pb::PullImageResponse>);

impl Store {
    /// Starts to pull an image, for this platform or as suits the store's machine, which the lease will hold.
    pub async fn pull(
        &self,
        reference: &str,
        platform: Option<&Platform>,
        credentials: Credentials,
        lease: &str,
    ) -> Result<Pulling, Error> {
        let request = pb::PullImageRequest {
            reference: reference.to_owned(),
            platform: platform.map(super::platform_message),
            all_platforms: false,
            credentials: credentials.0,
            lease_id: lease.to_owned(),
        };
        let mut client = pb::registry_service_client::RegistryServiceClient::new(self.channel.clone());
        let events = client.pull_image(request).await.map_err(refused)?;
        Ok(Pulling(events.into_inner()))
    }
}

impl Pulling {
    /// The next thing to tell people. None: the image is there.
    pub async fn next(&mut self) -> Result<Option<String>, Error> {
        loop {
            let event = self.0.message().await.map_err(refused)?;
            let Some(pb::PullImageResponse { event }) = event else {
                return Err(Error::Answer { peer: "store", what: "the end of a pull" });
            };
            match event {
                Some(pb::pull_image_response::Event::Resolved(resolved)) => {
                    let digest = resolved.target.map(|target| target.digest).unwrap_or_default();
                    return Ok(Some(format!("pulling {digest}")));
                }
                Some(pb::pull_image_response::Event::Progress(progress))
                    if progress.state() == pb::TransferState::Done =>
                {
                    return Ok(Some(format!("layer {} is there", progress.digest)));
                }
                Some(pb::pull_image_response::Event::Progress(_)) | None => {}
                Some(pb::pull_image_response::Event::Completed(_)) => return Ok(None),
            }
        }
    }
}

fn refused(status: tonic::Status) -> Error {
    Error::peer("store", "pull the image", status)
}
