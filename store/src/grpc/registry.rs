//! RegistryService.

use std::pin::Pin;

use futures_util::{Stream, StreamExt, stream};
use strata_archive::Compression;
use strata_image::Platforms;
use strata_proto::store::v1::{
    CheckLoginRequest, CheckLoginResponse, FoundRepository, LayerCompression, ManifestFormat, PullCompleted,
    PullImageRequest, PullImageResponse, PullResolved, PullUsable, PushCompleted, PushImageRequest, PushImageResponse,
    ReadTagsRequest, ReadTagsResponse, ResolveImageRequest, ResolveImageResponse, ResolveManifestRequest,
    ResolveManifestResponse, SearchRepositoriesRequest, SearchRepositoriesResponse, TransferProgress, TransferState,
    pull_image_response, push_image_response, registry_service_server::RegistryService,
};
use strata_proto::types::v1::{
    Descriptor as DescriptorMessage, RegistryCredentials, RegistryPassword, registry_credentials::Proof,
};
use strata_registry::{Credentials, Found, Host, Secret};
use strata_types::{Descriptor, Reference};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Service, optional_lease, status};
use crate::figures::{Moves, Outcomes};
use crate::ingest::Writeback;
use crate::remote::{self, Event, Events, Form, Identity, Pull, Pulled, Push, Stage};
use crate::{Error, Result, image};

/// Answers on their way to a client.
const BACKLOG: usize = 64;
/// Most credentials of one request.
const MOST_CREDENTIALS: usize = 64;
/// Tags of one answer.
const TAGS: usize = 1000;
/// Repositories that a search finds where it does not say how many, and the most that it may ask for.
const FOUND: usize = 25;
const MOST_FOUND: usize = 100;
/// The longest term of a search, in bytes.
const LONGEST_TERM: usize = 256;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn reference(text: &str) -> Result<Reference> {
    Reference::parse(text).map_err(Error::field("reference"))
}

fn credentials(message: RegistryCredentials) -> Result<(Host, Credentials)> {
    let host = Host::parse(&message.registry).map_err(Error::field("credentials.registry"))?;
    let credentials = match message.proof {
        Some(Proof::Password(RegistryPassword { username, password })) => {
            Credentials::Password { username, password: Secret::new(password) }
        }
        Some(Proof::IdentityToken(token)) => Credentials::IdentityToken(Secret::new(token)),
        Some(Proof::RegistryToken(token)) => Credentials::RegistryToken(Secret::new(token)),
        None => return Err(Error::invalid("credentials.proof", "it is missing")),
    };
    Ok((host, credentials))
}

pub(super) fn identity(messages: Vec<RegistryCredentials>) -> Result<Identity> {
    if messages.len() > MOST_CREDENTIALS {
        return Err(Error::invalid("credentials", format!("there are more than {MOST_CREDENTIALS}")));
    }
    Ok(Identity::new(messages.into_iter().map(credentials).collect::<Result<_>>()?))
}

pub(super) fn message(descriptor: &Descriptor) -> DescriptorMessage {
    DescriptorMessage {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size_bytes: descriptor.size,
    }
}

pub(super) fn progress(event: &Event) -> Option<TransferProgress> {
    let Event::Transfer { digest, stage, offset, size } = event else { return None };
    let state = match stage {
        Stage::Waiting => TransferState::Waiting,
        Stage::Compressing => TransferState::Compressing,
        Stage::Moving => TransferState::Moving,
        Stage::Unpacking => TransferState::Unpacking,
        Stage::Mounted => TransferState::Mounted,
        Stage::Exists => TransferState::Exists,
        Stage::Done => TransferState::Done,
    };
    let (digest, offset_bytes, size_bytes) = (digest.to_string(), *offset, *size);
    Some(TransferProgress { digest, state: state.into(), offset_bytes, size_bytes })
}

fn pull_event(event: Event) -> Option<PullImageResponse> {
    let event = match &event {
        Event::Resolved { target, layers } => pull_image_response::Event::Resolved(PullResolved {
            target: Some(message(target)),
            layers: layers.iter().map(message).collect(),
        }),
        Event::Usable => pull_image_response::Event::Usable(PullUsable {}),
        Event::Transfer { .. } => pull_image_response::Event::Progress(progress(&event)?),
    };
    Some(PullImageResponse { event: Some(event) })
}

fn push_event(event: Event) -> Option<PushImageResponse> {
    let event = push_image_response::Event::Progress(progress(&event)?);
    Some(PushImageResponse { event: Some(event) })
}

fn pulled(pulled: Pulled) -> PullImageResponse {
    let completed = PullCompleted {
        target: Some(message(&pulled.target)),
        name: pulled.name.map(|name| name.to_string()).unwrap_or_default(),
        was_current: pulled.was_current,
        image: pulled.image.map(|image| image.row.into()),
    };
    PullImageResponse { event: Some(pull_image_response::Event::Completed(completed)) }
}

/// What is looked for where, and how much of it.
fn search(request: SearchRepositoriesRequest) -> Result<(Host, String, usize, Identity)> {
    let SearchRepositoriesRequest { registry, term, limit, credentials } = request;
    let host = Host::parse(&registry).map_err(Error::field("registry"))?;
    if term.len() > LONGEST_TERM {
        return Err(Error::invalid("term", format!("it is longer than {LONGEST_TERM} bytes")));
    }
    if term.is_empty() && host.is_hub() {
        return Err(Error::invalid("term", "it is empty, and Docker Hub does not list all that it has"));
    }
    let most = match limit as usize {
        0 => FOUND,
        limit @ 1..=MOST_FOUND => limit,
        _ => return Err(Error::invalid("limit", format!("it is more than {MOST_FOUND}"))),
    };
    Ok((host, term, most, identity(credentials)?))
}

fn pull(request: PullImageRequest) -> Result<Pull> {
    let platforms = match (request.platform, request.all_platforms) {
        (None, true) => Platforms::All,
        (None, false) => Platforms::Host,
        (Some(one), false) => Platforms::Only(super::platform("platform", one)?),
        (Some(_), true) => return Err(Error::invalid("platform", "it cannot be set together with all_platforms")),
    };
    let reference = reference(&request.reference)?;
    let known = match request.digest.as_str() {
        "" => None,
        _ if reference.digest().is_some() => {
            return Err(Error::invalid("digest", "it cannot be set together with a digest in the reference"));
        }
        digest => Some(super::digest("digest", digest)?),
    };
    Ok(Pull {
        reference,
        platforms,
        identity: identity(request.credentials)?,
        lease: optional_lease(&request.lease_id)?,
        known,
        writeback: if request.goes_on_when_usable { Writeback::Behind } else { Writeback::Ahead },
    })
}

fn push(request: PushImageRequest) -> Result<Push> {
    let compression = match LayerCompression::try_from(request.compression) {
        Ok(LayerCompression::Unspecified) => None,
        Ok(LayerCompression::Gzip) => Some(Compression::Gzip),
        Ok(LayerCompression::Zstd) => Some(Compression::Zstd),
        Ok(LayerCompression::None) => Some(Compression::None),
        Err(_) => return Err(Error::invalid("compression", "an unknown value")),
    };
    if request.force_compression && compression.is_none() {
        return Err(Error::invalid("force_compression", "it says nothing without compression"));
    }
    let form = match ManifestFormat::try_from(request.manifest_format) {
        Ok(ManifestFormat::Unspecified) => None,
        Ok(ManifestFormat::Oci) => Some(Form::Oci),
        Ok(ManifestFormat::Docker) => Some(Form::Docker),
        Err(_) => return Err(Error::invalid("manifest_format", "an unknown value")),
    };
    let source = Some(request.source).filter(|source| !source.is_empty());
    Ok(Push {
        reference: image::tag_name("reference", &request.reference)?,
        source: source.map(|source| image::tag_name("source", &source)).transpose()?,
        form,
        platform: request.platform.map(|one| super::platform("platform", one)).transpose()?,
        compression,
        force: request.force_compression,
        identity: identity(request.credentials)?,
    })
}

impl Service {
    /// Does work while its client listens, and sends what it tells and its end. Whoever leaves stops it.
    fn tell<T, F>(
        &self,
        work: impl FnOnce(Events) -> F + Send + 'static,
        read: fn(Event) -> Option<T>,
        counted: fn(&Moves) -> &Outcomes,
    ) -> Response<Answers<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let (answers, receiver) = mpsc::channel(BACKLOG);
        let (store, drain, busy) = (self.store.clone(), self.store.drain.clone(), self.store.idle.busy());
        self.store.drain.spawn(async move {
            let (events, told) = Events::channel();
            let work = work(events);
            let both = async { tokio::join!(work, forward(told, read, &answers)).0 };
            let result = tokio::select! {
                result = both => result,
                () = answers.closed() => Err(Error::Interrupted),
                () = drain.cancelled() => Err(Error::Interrupted),
            };
            counted(&store.moves).count(&result);
            // A client that is gone needs no answer.
            let _ = answers.send(result.map_err(status)).await;
            drop(busy);
        });
        Response::new(Box::pin(ReceiverStream::new(receiver)))
    }
}

async fn forward<T>(
    mut told: mpsc::Receiver<Event>,
    read: fn(Event) -> Option<T>,
    answers: &mpsc::Sender<Result<T, Status>>,
) {
    while let Some(event) = told.recv().await {
        if let Some(answer) = read(event)
            && answers.send(Ok(answer)).await.is_err()
        {
            return;
        }
    }
}

#[tonic::async_trait]
impl RegistryService for Service {
    type PullImageStream = Answers<PullImageResponse>;
    type PushImageStream = Answers<PushImageResponse>;
    type ReadTagsStream = Answers<ReadTagsResponse>;

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Result<Response<Self::PullImageStream>, Status> {
        let pull = pull(request.into_inner()).map_err(status)?;
        let store = self.store.clone();
        let work = |events| async move { remote::pull(&store, pull, &events).await.map(pulled) };
        Ok(self.tell(work, pull_event, |moves| &moves.pulls))
    }

    async fn push_image(&self, request: Request<PushImageRequest>) -> Result<Response<Self::PushImageStream>, Status> {
        let push = push(request.into_inner()).map_err(status)?;
        let store = self.store.clone();
        let work = |events| async move {
            let name = push.reference.to_string();
            let pushed = remote::push(&store, push, &events).await?;
            let completed =
                PushCompleted { target: Some(message(&pushed.target)), name, is_partial: pushed.is_partial };
            Ok(PushImageResponse { event: Some(push_image_response::Event::Completed(completed)) })
        };
        Ok(self.tell(work, push_event, |moves| &moves.pushes))
    }

    async fn resolve_manifest(
        &self,
        request: Request<ResolveManifestRequest>,
    ) -> Result<Response<ResolveManifestResponse>, Status> {
        let ResolveManifestRequest { reference: text, credentials } = request.into_inner();
        let reference = reference(&text).map_err(status)?;
        let identity = identity(credentials).map_err(status)?;
        let document = remote::manifest(&self.store, &reference, &identity).await.map_err(status)?;
        let descriptor = Descriptor::new(&*document.media_type, document.digest, document.bytes.len() as u64);
        let (descriptor, document_json) = (Some(message(&descriptor)), document.bytes);
        Ok(Response::new(ResolveManifestResponse { descriptor, document_json }))
    }

    async fn resolve_image(
        &self,
        request: Request<ResolveImageRequest>,
    ) -> Result<Response<ResolveImageResponse>, Status> {
        let ResolveImageRequest { reference: text, platform, credentials } = request.into_inner();
        let reference = reference(&text).map_err(status)?;
        let platforms = match platform {
            Some(one) => Platforms::Only(super::platform("platform", one).map_err(status)?),
            None => Platforms::Host,
        };
        let identity = identity(credentials).map_err(status)?;
        let resolved = remote::resolve(&self.store, &reference, platforms, &identity).await.map_err(status)?;
        Ok(Response::new(ResolveImageResponse {
            target: Some(message(&resolved.target)),
            manifest: Some(message(&resolved.image.manifest)),
            config_json: resolved.config,
            diff_ids: resolved.image.diff_ids.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn read_tags(&self, request: Request<ReadTagsRequest>) -> Result<Response<Self::ReadTagsStream>, Status> {
        let ReadTagsRequest { reference: text, credentials } = request.into_inner();
        let reference = reference(&text).map_err(status)?;
        let identity = identity(credentials).map_err(status)?;
        let pages = self.store.remotes.repository(&reference, &identity).map_err(status)?.tags();
        let next = |mut pages: strata_registry::TagPages| async move {
            match pages.next().await {
                Ok(page) => Ok(page.map(|page| (page, pages))),
                Err(error) => Err(status(error.into())),
            }
        };
        let parts = stream::try_unfold(pages, next).flat_map(|page| {
            let parts: Vec<Result<ReadTagsResponse, Status>> = match page {
                Ok(tags) => tags.chunks(TAGS).map(|tags| Ok(ReadTagsResponse { tags: tags.to_vec() })).collect(),
                Err(status) => vec![Err(status)],
            };
            stream::iter(parts)
        });
        Ok(Response::new(Box::pin(parts)))
    }

    async fn search_repositories(
        &self,
        request: Request<SearchRepositoriesRequest>,
    ) -> Result<Response<SearchRepositoriesResponse>, Status> {
        let (host, term, most, identity) = search(request.into_inner()).map_err(status)?;
        let found = remote::search(&self.store, &host, &term, most, &identity).await.map_err(status)?;
        let repository = |Found { name, description, stars, is_official, is_automated }| FoundRepository {
            name,
            description,
            stars,
            is_official,
            is_automated,
        };
        Ok(Response::new(SearchRepositoriesResponse { repositories: found.into_iter().map(repository).collect() }))
    }

    async fn check_login(&self, request: Request<CheckLoginRequest>) -> Result<Response<CheckLoginResponse>, Status> {
        let given = request.into_inner().credentials;
        let given = given.ok_or_else(|| status(Error::invalid("credentials", "they are missing")))?;
        let (host, given) = credentials(given).map_err(status)?;
        let proof = match remote::login(&self.store, &host, given).await.map_err(status)? {
            Credentials::Password { username, password } => {
                Proof::Password(RegistryPassword { username, password: password.reveal().to_owned() })
            }
            Credentials::IdentityToken(token) => Proof::IdentityToken(token.reveal().to_owned()),
            Credentials::RegistryToken(token) => Proof::RegistryToken(token.reveal().to_owned()),
        };
        let keep = RegistryCredentials { registry: host.to_string(), proof: Some(proof) };
        Ok(Response::new(CheckLoginResponse { credentials: Some(keep) }))
    }
}
