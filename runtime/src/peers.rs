//! The store of this node, over gRPC. All that is asked of it is idempotent, so a call that finds the store gone
//! starts it again (where it is local) and asks once more.

use std::{future::Future, io::Read, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use strata_proto::{
    store::v1::{
        AcquireSnapshotRequest, CopySnapshotRequest, ExportSnapshotRequest, HoldLeaseRequest, ListSnapshotsRequest,
        MountStub, PrepareSnapshotRequest, ReadTreeFileRequest, ReleaseSnapshotRequest, RemoveSnapshotRequest,
        layer_service_client::LayerServiceClient, lease_service_client::LeaseServiceClient,
        snapshot_service_client::SnapshotServiceClient,
    },
    types::v1 as wire,
};
use strata_rpc::{
    Endpoint,
    fault::{is_lost, reason_of},
    identity::ClientTls,
    serve::BuildError,
    spans::{Channel, traced},
    spawn::{self, OnDemand},
};
use strata_types::{ImageConfig, LayerId, Mount, Platform, SnapshotKey};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    config::Tls,
    error::Error,
    spec::MountPoint,
    store::{Acquired, Listed, Prepared, Store, Volatile, Writing},
};

/// Containers that ran shorter never open a session.
const SESSION_AFTER: Duration = Duration::from_secs(5);

/// Between two attempts to open a session.
const SESSION_AGAIN: Duration = Duration::from_secs(3);

/// The largest message: a list of a thousand snapshots of many layers.
const LARGEST: usize = 16 << 20;

/// Where the store is.
enum Target {
    /// On a socket of this host, started when it is gone.
    OnDemand(OnDemand),
    /// Where the configuration says, started by somebody else.
    Elsewhere(Endpoint, Option<ClientTls>),
}

/// The client of the node's store.
pub struct StorePeer {
    target: Target,
    channel: tokio::sync::Mutex<Option<Channel>>,
}

impl StorePeer {
    /// A client; nothing is connected yet.
    pub fn new(endpoint: Option<&str>, tls: Option<&Tls>) -> Result<Arc<Self>, BuildError> {
        let usual = OnDemand::service("store")?;
        let target = match endpoint.map(Endpoint::parse).transpose()? {
            None => Target::OnDemand(usual),
            Some(Endpoint::Unix(path)) if path == usual.socket => Target::OnDemand(usual),
            Some(endpoint) => {
                let tls = tls.map(|tls| ClientTls::load(&tls.ca, &tls.cert, &tls.key)).transpose()?;
                Target::Elsewhere(endpoint, tls)
            }
        };
        Ok(Arc::new(Self { target, channel: tokio::sync::Mutex::new(None) }))
    }

    /// Keeps a session on the store until the token is cancelled.
    pub fn hold_session(self: &Arc<Self>, until: CancellationToken) {
        let peer = self.clone();
        tokio::spawn(async move {
            let session = async {
                tokio::time::sleep(SESSION_AFTER).await;
                loop {
                    if let Err(error) = peer.session().await {
                        tracing::warn!(%error, "the session on the store has ended");
                    }
                    tokio::time::sleep(SESSION_AGAIN).await;
                }
            };
            // Dropping the stream ends the session; its lease holds nothing.
            let _ended = until.run_until_cancelled(session).await;
        });
    }

    /// One session, until it breaks.
    async fn session(&self) -> Result<(), Error> {
        let held = self.call("hold a session", |channel| async move {
            let grace = Some(prost_types::Duration { seconds: 1, nanos: 0 });
            let request = HoldLeaseRequest { holder: "runtime with containers".into(), grace };
            LeaseServiceClient::new(channel).hold_lease(request).await
        });
        let mut stream = held.await?;
        while let Some(message) = stream.next().await {
            message.map_err(|status| self.refusal("hold a session", &status))?;
        }
        Ok(())
    }

    /// Calls the store; one that is gone is started and called again.
    async fn call<T, F>(&self, attempt: &'static str, call: impl Fn(Channel) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let channel = self.channel(false).await?;
        let first = match call(channel).await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) => status,
        };
        if !is_lost(&first) {
            return Err(self.refusal(attempt, &first));
        }
        let channel = self.channel(true).await?;
        let second = call(channel).await;
        second.map(tonic::Response::into_inner).map_err(|status| self.refusal(attempt, &status))
    }

    /// The channel; with `anew`, a new one to a store that was started if need be.
    async fn channel(&self, anew: bool) -> Result<Channel, Error> {
        let mut channel = self.channel.lock().await;
        if let (Some(channel), false) = (channel.as_ref(), anew) {
            return Ok(channel.clone());
        }
        *channel = None;
        let opened = match &self.target {
            Target::OnDemand(service) => spawn::ensure(service.clone()).await.map_err(|e| self.unavailable(&e))?,
            Target::Elsewhere(endpoint, tls) => {
                strata_rpc::connect_eager(endpoint, tls.as_ref()).await.map_err(|e| self.unavailable(&e))?
            }
        };
        Ok(channel.insert(traced(opened)).clone())
    }

    fn endpoint(&self) -> String {
        match &self.target {
            Target::OnDemand(service) => format!("unix:{}", service.socket.display()),
            Target::Elsewhere(endpoint, _) => endpoint.to_string(),
        }
    }

    fn unavailable(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        Error::StoreUnavailable { endpoint: self.endpoint(), problem: strata_rpc::fault::chain(error) }
    }

    fn refusal(&self, attempt: &'static str, status: &Status) -> Error {
        refusal(&self.endpoint(), attempt, status)
    }

    fn snapshots(channel: Channel) -> SnapshotServiceClient<Channel> {
        SnapshotServiceClient::new(channel).max_decoding_message_size(LARGEST)
    }

    /// The store answered with something that makes no sense.
    fn nonsense(attempt: &'static str, message: impl Into<String>) -> Error {
        Error::StoreRefused { attempt, reason: "FAULT_UNSPECIFIED".into(), message: message.into() }
    }
}

/// What the store at an endpoint says.
fn refusal(endpoint: &str, attempt: &'static str, status: &Status) -> Error {
    match (status.code(), reason_of(status)) {
        (_, Some(reason)) => Error::StoreRefused { attempt, reason, message: status.message().to_owned() },
        (_, None) if is_lost(status) => {
            Error::StoreUnavailable { endpoint: endpoint.to_owned(), problem: status.message().to_owned() }
        }
        (code, None) => {
            Error::StoreRefused { attempt, reason: format!("{code:?}"), message: status.message().to_owned() }
        }
    }
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::StoreRefused { reason, .. } if reason == "FAULT_SNAPSHOT_NOT_FOUND")
}

impl Store for StorePeer {
    fn prepare<'a>(
        &'a self,
        key: &'a SnapshotKey,
        image: &'a str,
        platform: Option<&'a Platform>,
        writing: Writing,
    ) -> BoxFuture<'a, Result<Prepared, Error>> {
        Box::pin(async move {
            const ATTEMPT: &str = "prepare a snapshot";
            let platform = platform.cloned().map(|Platform { os, architecture, variant }| wire::Platform {
                os,
                architecture,
                variant: variant.unwrap_or_default(),
            });
            let request = PrepareSnapshotRequest {
                key: key.to_string(),
                image: image.into(),
                volatile: writing.volatile == Volatile::Yes,
                size_limit_bytes: writing.limit.unwrap_or(0),
                platform,
                ..Default::default()
            };
            let answer = self.call(ATTEMPT, |channel| {
                let request = request.clone();
                async move { Self::snapshots(channel).prepare_snapshot(request).await }
            });
            let response = answer.await.map_err(|error| match error {
                Error::StoreRefused { reason, .. } if reason == "FAULT_IMAGE_NOT_FOUND" => {
                    Error::ImageNotFound { image: image.to_owned() }
                }
                Error::StoreRefused { reason, message, .. } if reason == "FAULT_PLATFORM_NOT_FOUND" => {
                    Error::PlatformNotFound { problem: message }
                }
                error => limited(error),
            })?;
            let config: ImageConfig = serde_json::from_slice(&response.image_config_json)
                .map_err(|error| Self::nonsense(ATTEMPT, format!("the config of the image is not JSON: {error}")))?;
            let image_id = response.snapshot.map(|snapshot| snapshot.image_id).unwrap_or_default();
            Ok(Prepared { image_id, config: config.config })
        })
    }

    fn acquire<'a>(
        &'a self,
        key: &'a SnapshotKey,
        holder: &'a str,
        writing: Writing,
    ) -> BoxFuture<'a, Result<Acquired, Error>> {
        Box::pin(async move {
            const ATTEMPT: &str = "acquire a snapshot";
            let request = AcquireSnapshotRequest {
                key: key.to_string(),
                holder: holder.into(),
                volatile: writing.volatile == Volatile::Yes,
                size_limit_bytes: writing.limit.unwrap_or(0),
            };
            let answer = self.call(ATTEMPT, |channel| {
                let request = request.clone();
                async move { Self::snapshots(channel).acquire_snapshot(request).await }
            });
            let response = answer.await.map_err(limited)?;
            let mount = response.mount.ok_or_else(|| Self::nonsense(ATTEMPT, "the answer has no mount"))?;
            let layers = response.snapshot.map(|snapshot| snapshot.layer_ids).unwrap_or_default();
            let layers = layers.into_iter().map(LayerId::parse).collect::<Result<_, _>>();
            let layers = layers.map_err(|invalid| Self::nonsense(ATTEMPT, invalid.to_string()))?;
            Ok(Acquired { mount: mount_of(mount).map_err(|problem| Self::nonsense(ATTEMPT, problem))?, layers })
        })
    }

    fn release<'a>(&'a self, key: &'a SnapshotKey, holder: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let request = ReleaseSnapshotRequest { key: key.to_string(), holder: holder.into() };
            let answer = self.call("release a snapshot", |channel| {
                let request = request.clone();
                async move { Self::snapshots(channel).release_snapshot(request).await }
            });
            match answer.await {
                Ok(_) => Ok(()),
                Err(error) if is_missing(&error) => Ok(()),
                // Held by somebody else: then not by us.
                Err(Error::StoreRefused { reason, .. }) if reason == "FAULT_SNAPSHOT_HELD" => Ok(()),
                Err(error) => Err(error),
            }
        })
    }

    fn remove<'a>(&'a self, key: &'a SnapshotKey, holder: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let request = RemoveSnapshotRequest { key: key.to_string(), allow_missing: true, holder: holder.into() };
            let answer = self.call("remove a snapshot", |channel| {
                let request = request.clone();
                async move { Self::snapshots(channel).remove_snapshot(request).await }
            });
            answer.await.map(drop)
        })
    }

    fn export<'a>(
        &'a self,
        key: &'a SnapshotKey,
        path: &'a str,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Read + Send>>, Error>> {
        Box::pin(async move {
            const ATTEMPT: &str = "export a directory of a snapshot";
            let request = ExportSnapshotRequest { key: key.to_string(), path: path.into() };
            let answer = self.call(ATTEMPT, |channel| {
                let request = request.clone();
                async move { Self::snapshots(channel).export_snapshot(request).await }
            });
            let stream = match answer.await {
                Ok(stream) => stream,
                Err(error) if is_no_directory(&error) => return Ok(None),
                Err(error) => return Err(error),
            };
            let endpoint = self.endpoint();
            let chunks = stream.map(move |message| match message {
                Ok(message) => Ok(message.chunk),
                Err(status) => Err(refusal(&endpoint, ATTEMPT, &status)),
            });
            let reader: Box<dyn Read + Send> = Box::new(strata_rpc::chunks::to_read(chunks));
            Ok(Some(reader))
        })
    }

    fn copy<'a>(
        &'a self,
        key: &'a SnapshotKey,
        lease: &'a str,
        points: &'a [MountPoint],
    ) -> BoxFuture<'a, Result<String, Error>> {
        Box::pin(async move {
            let stub = |point: &MountPoint| MountStub { path: point.path.clone(), inode: point.inode };
            let request = CopySnapshotRequest {
                key: key.to_string(),
                lease_id: lease.to_owned(),
                stubs: points.iter().map(stub).collect(),
            };
            let answer = self.call("copy a snapshot", |channel| {
                let request = request.clone();
                async move { Self::snapshots(channel).copy_snapshot(request).await }
            });
            Ok(answer.await?.layer.map(|layer| layer.id).unwrap_or_default())
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>, Error>> {
        Box::pin(async move {
            let mut all = Vec::new();
            let mut request = ListSnapshotsRequest { page_size: 1000, page_token: String::new() };
            loop {
                let answer = self.call("list snapshots", |channel| {
                    let request = request.clone();
                    async move { Self::snapshots(channel).list_snapshots(request).await }
                });
                let page = answer.await?;
                let listed = page.snapshots.into_iter();
                all.extend(listed.map(|snapshot| Listed { key: snapshot.key, holder: snapshot.holder }));
                if page.next_page_token.is_empty() {
                    return Ok(all);
                }
                request.page_token = page.next_page_token;
            }
        })
    }

    fn read_file<'a>(&'a self, layers: &'a [LayerId], path: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, Error>> {
        Box::pin(async move {
            const ATTEMPT: &str = "read a file of an image";
            let layer_ids = layers.iter().map(LayerId::to_string).collect();
            let max_bytes = strata_oci::user::MAX_FILE_BYTES as u64;
            let request = ReadTreeFileRequest { layer_ids, path: path.into(), max_bytes };
            let answer = self.call(ATTEMPT, |channel| {
                let request = request.clone();
                async move { LayerServiceClient::new(channel).read_tree_file(request).await }
            });
            let mut stream = match answer.await {
                Ok(stream) => stream,
                Err(error) if is_no_file(&error) => return Ok(None),
                Err(error) => return Err(error),
            };
            let mut bytes = Vec::new();
            while let Some(message) = stream.next().await {
                match message.map_err(|status| self.refusal(ATTEMPT, &status)) {
                    Ok(message) => bytes.extend_from_slice(&message.chunk),
                    Err(error) if is_no_file(&error) => return Ok(None),
                    Err(error) => return Err(error),
                }
            }
            Ok(Some(bytes))
        })
    }
}

/// A limit that cannot hold, in the store's words: which file system, and what to do.
fn limited(error: Error) -> Error {
    match error {
        Error::StoreRefused { reason, message, .. } if reason == "FAULT_QUOTA_UNAVAILABLE" => {
            Error::Limit { field: "size".to_owned(), source: message.into() }
        }
        error => error,
    }
}

/// A directory called passwd says as little about users as no file at all.
fn is_no_file(error: &Error) -> bool {
    let reasons = ["FAULT_PATH_NOT_FOUND", "FAULT_NOT_A_FILE"];
    matches!(error, Error::StoreRefused { reason, .. } if reasons.contains(&reason.as_str()))
}

/// An image that has something else than a directory there has no content for a volume.
fn is_no_directory(error: &Error) -> bool {
    let reasons = ["FAULT_PATH_NOT_FOUND", "FAULT_NOT_A_DIRECTORY"];
    matches!(error, Error::StoreRefused { reason, .. } if reasons.contains(&reason.as_str()))
}

fn mount_of(mount: wire::Mount) -> Result<Mount, String> {
    if mount.kind != "overlay" {
        return Err(format!("a root file system of kind {:?} is not known", mount.kind));
    }
    let absolute = |path: &String| path.starts_with('/');
    let paths_are_absolute = mount.lower_paths.iter().all(absolute)
        && [&mount.upper_path, &mount.work_path].into_iter().all(absolute)
        && !mount.lower_paths.is_empty();
    if !paths_are_absolute {
        return Err("the mount lacks lower, upper or work directory".to_owned());
    }
    let lowers = mount.lower_paths.into_iter().map(Into::into).collect();
    let mut overlay = Mount::overlay(lowers, Some((mount.upper_path.into(), mount.work_path.into())));
    overlay.options = mount.options;
    Ok(overlay)
}
