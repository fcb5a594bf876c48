//! The wire: requests become builds, events become messages. Translation only.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_util::Stream;
use jiff::Timestamp;
use strata_proto::builder::v1 as pb;
use strata_proto::builder::v1::build_service_server::{BuildService, BuildServiceServer};
use strata_proto::builder::v1::system_service_server::{SystemService, SystemServiceServer};
use strata_proto::types::v1::Descriptor;
use strata_rpc::{Drain, Idle, to_status};
use strata_types::Platform;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::config::Config;
use crate::context;
use crate::contexts::Root;
use crate::entitlements::{Entitlement, Grant};
use crate::error::Error;
use crate::flight::Flights;
use crate::peers::{Credentials, Network, Peers, Ulimit};
use crate::progress::{self, Event, Part, StepState, Told};
use crate::secret::Secret;
use crate::session::{Ask, Content, DirectoryCache, FromClient, Offers, Session};
use crate::setup::{self, Given};
use crate::solve::{self, Built, NamedSource, Pull, RemoteContext};
use crate::source::Sources;
use crate::tally::Tally;

/// Messages on their way to a client.
const BACKLOG: usize = 256;

/// The builder's services.
#[derive(Debug, Clone)]
pub struct Service {
    peers: Arc<Peers>,
    directories: Arc<DirectoryCache>,
    flights: Arc<Flights>,
    sources: Arc<Sources>,
    slots: usize,
    entitlements: Vec<Entitlement>,
    open_devices: Vec<String>,
    root: String,
    tally: Arc<Tally>,
    idle: Idle,
    drain: Drain,
}

/// The gRPC services of a builder with this configuration.
pub fn service(
    config: Config,
    root: String,
    tally: Arc<Tally>,
    idle: Idle,
    drain: Drain,
) -> Result<tonic::service::Routes, Error> {
    let slots = config.parallelism.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from));
    let directories = Arc::new(DirectoryCache::default());
    let flights = Arc::new(Flights::default());
    let read = |name: &String| {
        Entitlement::parse(name).map_err(|problem| Error::Invalid { field: "insecure_entitlements", problem })
    };
    let entitlements = config.insecure_entitlements.iter().map(read).collect::<Result<_, _>>()?;
    let open_devices = config.auto_allowed_devices.clone();
    let sources = Arc::new(Sources::open(Path::new(&root)));
    let peers = Arc::new(Peers::new(config)?);
    let service =
        Service { peers, directories, flights, sources, slots, entitlements, open_devices, root, tally, idle, drain };
    let mut routes = tonic::service::Routes::builder();
    routes.add_service(BuildServiceServer::new(service.clone()).max_decoding_message_size(16 << 20));
    routes.add_service(SystemServiceServer::new(service));
    Ok(routes.routes())
}

#[tonic::async_trait]
impl SystemService for Service {
    async fn get_info(&self, _: Request<pb::GetInfoRequest>) -> Result<Response<pb::GetInfoResponse>, Status> {
        let fact = |label: &str, value: String| strata_proto::types::v1::Fact { label: label.to_owned(), value };
        let info = strata_proto::types::v1::ServiceInfo {
            name: "builder".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            root_path: self.root.clone(),
            facts: vec![fact("Steps at once", self.slots.to_string()), fact("Platform", Platform::host().to_string())],
        };
        Ok(Response::new(pb::GetInfoResponse { info: Some(info) }))
    }
}

type Answers = mpsc::Sender<Result<pb::BuildResponse, Status>>;

#[tonic::async_trait]
impl BuildService for Service {
    type BuildStream = Pin<Box<dyn Stream<Item = Result<pb::BuildResponse, Status>> + Send>>;

    async fn build(
        &self,
        request: Request<Streaming<pb::BuildRequest>>,
    ) -> Result<Response<Self::BuildStream>, Status> {
        let mut incoming = request.into_inner();
        let Some(pb::BuildRequest { event: Some(pb::build_request::Event::Start(start)) }) = incoming.message().await?
        else {
            let problem = "the first message must be `start`".to_owned();
            return Err(to_status(&Error::Invalid { field: "start", problem }));
        };
        let request = read_start(start).map_err(|error| to_status(&error))?;
        let (answers, receiver) = mpsc::channel(BACKLOG);
        let (service, busy) = (self.clone(), self.idle.busy());
        self.drain.spawn(async move {
            let conducted = service.conduct(request, incoming, &answers).await;
            service.tally.built(&conducted);
            if let Err(error) = conducted {
                // A client that is gone has cancelled; nobody is left to be told.
                let _ = answers.send(Err(to_status(&error))).await;
            }
            drop(busy);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl Service {
    async fn conduct(
        &self,
        request: solve::Request,
        incoming: Streaming<pb::BuildRequest>,
        answers: &Answers,
    ) -> Result<(), Error> {
        let holder = format!("build {}", request.names.first().map_or("without a name", String::as_str));
        let (store, lease) = self.peers.hold(&holder).await?;
        let runtime = self.peers.runtime();
        let (asks, asked) = mpsc::channel(8);
        let (progress, told) = progress::channel();
        let (session, contents) = Session::new(self.directories.clone(), asks, request.offers);
        let session = Arc::new(session);
        let client = Arc::downgrade(&session);
        let given = Given {
            sources: self.sources.clone(),
            entitlements: self.entitlements.clone(),
            open_devices: self.open_devices.clone(),
            store: store.clone(),
            runtime,
            has_local_runtime: self.peers.has_local_runtime(),
            lease: lease.id.clone(),
            session,
            progress,
            flights: self.flights.clone(),
            slots: self.slots,
            tally: self.tally.clone(),
        };
        let result = self.drive((request, given), (client, incoming, contents), (asked, told), answers).await;
        let built = match result {
            Ok(built) => built,
            Err(error) => {
                // The lease would end by itself; the first error is the one to report.
                let _ = store.release(lease).await;
                return Err(error);
            }
        };
        let completed = completed(built, &lease.id);
        let snapshot = completed.snapshot_key.clone();
        let _ = answers.send(Ok(response(pb::build_response::Event::Completed(completed)))).await;
        if !snapshot.is_empty() {
            // The client fetches the files now, and ends the call when it has them.
            tokio::select! {
                () = answers.closed() => {}
                () = self.drain.cancelled() => {}
            }
            store.remove_snapshot(&snapshot).await?;
        }
        store.release(lease).await?;
        self.peers.keep(store);
        Ok(())
    }

    async fn drive(
        &self,
        (request, given): (solve::Request, Given),
        (session, incoming, contents): (Weak<Session>, Streaming<pb::BuildRequest>, mpsc::Sender<Content>),
        (asked, told): (mpsc::Receiver<Ask>, Told),
        answers: &Answers,
    ) -> Result<Built, Error> {
        let given_up = CancellationToken::new();
        let listener = tokio::spawn(listen(session, incoming, contents, given_up.clone()));
        let work = async {
            // The channels close with the build, and so forwarding ends after the last event.
            let (build, wanted) = setup::build(request, given).await?;
            build.run(wanted).await
        };
        let result = tokio::select! {
            (result, ()) = async { tokio::join!(work, forward(asked, told, answers)) } => result,
            () = answers.closed() => Err(Error::Cancelled),
            () = given_up.cancelled() => Err(Error::Cancelled),
            () = self.drain.cancelled() => Err(Error::Cancelled),
        };
        listener.abort();
        result
    }
}

/// Hands what the client sends to the session until one of them is gone. The session is not held while this waits: its end
/// is the end of what the build is told.
async fn listen(
    session: Weak<Session>,
    mut incoming: Streaming<pb::BuildRequest>,
    contents: mpsc::Sender<Content>,
    given_up: CancellationToken,
) {
    loop {
        let message = incoming.message().await;
        let Some(session) = session.upgrade() else { return };
        let event = match message {
            Ok(Some(message)) => message.event,
            Ok(None) => return session.close("the client ended the stream".to_owned()),
            Err(status) => return session.close(format!("the client is gone: {}", status.message())),
        };
        let taken = match read_event(event) {
            Ok(FromClient::Content(content)) => {
                drop(session);
                match contents.send(content).await {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            }
            Ok(FromClient::Directories { encodings, continues }) => session.take_directories(encodings, continues),
            Ok(FromClient::Details(details)) => session.take_details(details),
            Ok(FromClient::Root(root)) => session.take_root(root),
            Ok(FromClient::Credentials { registry, found }) => session.take_credentials(&registry, found),
            Ok(FromClient::Answer { number, answer }) => session.take_answer(number, answer),
            Ok(FromClient::Cancel) => return given_up.cancel(),
            Err(error) => Err(error),
        };
        if let Err(error) = taken {
            return session.close(error.to_string());
        }
    }
}

async fn forward(mut asked: mpsc::Receiver<Ask>, mut told: Told, answers: &Answers) {
    loop {
        let event = tokio::select! {
            Some(ask) = asked.recv() => ask_event(ask),
            Some((at, event)) = told.recv() => progress_event(at, event),
            else => return,
        };
        if answers.send(Ok(response(event))).await.is_err() {
            return;
        }
    }
}

fn completed(built: Built, build_id: &str) -> pb::BuildCompleted {
    let Built { exported, cached, steps } = built;
    pb::BuildCompleted {
        image_id: exported.image_id,
        names: exported.names,
        cached_steps: cached,
        steps,
        snapshot_key: exported.snapshot,
        manifest: exported.manifest.map(|manifest| Descriptor {
            media_type: manifest.media_type,
            digest: manifest.digest,
            size_bytes: manifest.size,
        }),
        build_id: build_id.to_owned(),
    }
}

fn response(event: pb::build_response::Event) -> pb::BuildResponse {
    pb::BuildResponse { event: Some(event) }
}

fn ask_event(ask: Ask) -> pb::build_response::Event {
    let bytes = |digests: Vec<context::Blake3>| digests.iter().map(|d| Bytes::copy_from_slice(d)).collect();
    match ask {
        Ask::Directories(digests) => {
            pb::build_response::Event::NeedDirectories(pb::NeedDirectories { digests: bytes(digests) })
        }
        Ask::Contents(digests) => pb::build_response::Event::NeedContents(pb::NeedContents { blake3: bytes(digests) }),
        Ask::Details { context, paths } => {
            let paths = paths.into_iter().map(Bytes::from).collect();
            pb::build_response::Event::NeedDetails(pb::NeedDetails { context, paths })
        }
        Ask::Credentials(registry) => pb::build_response::Event::NeedCredentials(pb::NeedCredentials { registry }),
        Ask::Agent { number, id, message } => {
            pb::build_response::Event::NeedAgent(pb::NeedAgent { number, id, message: message.into() })
        }
        Ask::Secret { number, id } => pb::build_response::Event::NeedSecret(pb::NeedSecret { number, id }),
    }
}

fn progress_event(at: Timestamp, event: Event) -> pb::build_response::Event {
    match event {
        Event::Step { step, name, state, started, took, line, reason, error, inputs } => {
            let state = match state {
                StepState::Waiting => pb::StepState::Waiting,
                StepState::Running => pb::StepState::Running,
                StepState::Done => pb::StepState::Done,
                StepState::Cached => pb::StepState::Cached,
                StepState::Failed => pb::StepState::Failed,
                StepState::Cancelled => pb::StepState::Cancelled,
            };
            pb::build_response::Event::Step(pb::StepProgress {
                step,
                name: name.to_string(),
                state: state.into(),
                started_at: started.map(timestamp),
                took: took.map(|took| prost_types::Duration {
                    seconds: i64::try_from(took.as_secs()).unwrap_or(i64::MAX),
                    nanos: took.subsec_nanos() as i32,
                }),
                line,
                reason,
                inputs,
                error,
            })
        }
        Event::Output { step, is_stderr, chunk } => {
            pb::build_response::Event::Output(pb::StepOutput { step, is_stderr, chunk, at: Some(timestamp(at)) })
        }
        Event::Part(Part { step, name, current, total, started, completed }) => {
            pb::build_response::Event::Part(pb::StepPart {
                step,
                name: name.to_string(),
                current_bytes: current,
                total_bytes: total,
                started_at: Some(timestamp(started)),
                completed_at: completed.map(timestamp),
                at: Some(timestamp(at)),
            })
        }
        Event::Warning { text, line } => pb::build_response::Event::Warning(pb::Warning { text, line }),
    }
}

fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
}

fn read_start(start: pb::BuildStart) -> Result<solve::Request, Error> {
    let network = match pb::BuildNetwork::try_from(start.network) {
        Ok(pb::BuildNetwork::Unspecified) => Network::Default,
        Ok(pb::BuildNetwork::Host) => Network::Host,
        Ok(pb::BuildNetwork::None) => Network::None,
        Err(_) => return Err(Error::Invalid { field: "network", problem: "an unknown value".to_owned() }),
    };
    let mut allowed: Vec<_> = start.entitlements.iter().map(|name| grant(name)).collect::<Result<_, _>>()?;
    if network == Network::Host {
        // Who says so for all steps has allowed it.
        allowed.push(Grant::Whole(Entitlement::HostNetwork));
    }
    let pull = match pb::BuildPull::try_from(start.pull) {
        Ok(pb::BuildPull::Unspecified | pb::BuildPull::Missing) => Pull::Missing,
        Ok(pb::BuildPull::Always) => Pull::Always,
        Ok(pb::BuildPull::Never) => Pull::Never,
        Err(_) => return Err(Error::Invalid { field: "pull", problem: "an unknown value".to_owned() }),
    };
    let text = |bytes: &Bytes, field| {
        String::from_utf8(bytes.to_vec()).map_err(|_| Error::Invalid { field, problem: "it is not UTF-8".to_owned() })
    };
    for name in &start.names {
        strata_types::Reference::parse(name)
            .map_err(|problem| Error::Invalid { field: "names", problem: format!("{name:?}: {problem}") })?;
    }
    let root = |bytes: &Bytes, field| {
        let wrong = |_| Error::Invalid { field, problem: "it is not 32 bytes long".to_owned() };
        context::digest(bytes).map_err(wrong)
    };
    let context_root = match (start.context_root.is_empty(), start.context_root_follows) {
        (true, false) => None,
        (true, true) => Some(Root::Follows),
        (false, false) => Some(Root::Known(root(&start.context_root, "context_root")?)),
        (false, true) => {
            let problem = "a root that follows is here already".to_owned();
            return Err(Error::Invalid { field: "context_root", problem });
        }
    };
    let remote_context = match start.remote_context {
        None => None,
        Some(pb::build_start::RemoteContext::ContextUrl(url)) => Some(RemoteContext::Url(url)),
        Some(pb::build_start::RemoteContext::ContextArchive(archive)) => {
            let blake3 = root(&archive.blake3, "context_archive")?;
            Some(RemoteContext::Archive { blake3, size: archive.size_bytes })
        }
    };
    let mut contexts = Vec::with_capacity(start.contexts.len());
    for pb::NamedContext { name, source } in start.contexts {
        let source = match source {
            Some(pb::named_context::Source::Image(image)) => NamedSource::Image(image),
            Some(pb::named_context::Source::Url(url)) => NamedSource::Url(url),
            Some(pb::named_context::Source::Local(local)) => NamedSource::Local {
                root: root(&local.root, "contexts")?,
                ignore_file: text(&local.ignore_file, "contexts")?,
                ignore_file_name: local.ignore_file_name,
            },
            None => return Err(Error::Invalid { field: "contexts", problem: format!("{name:?} is nothing") }),
        };
        contexts.push((name, source));
    }
    Ok(solve::Request {
        names: start.names,
        dockerfile: String::from_utf8_lossy(&start.dockerfile).into_owned(),
        dockerfile_name: start.dockerfile_name,
        ignore_file: text(&start.ignore_file, "ignore_file")?,
        ignore_file_name: start.ignore_file_name,
        context_root,
        remote_context,
        has_dockerfile_in_context: start.has_dockerfile_in_context,
        dockerfile_url: start.dockerfile_url,
        contexts,
        target: start.target,
        build_args: start.build_args.into_iter().collect(),
        no_cache: start.no_cache,
        no_cache_filter: start.no_cache_filter,
        makes_image: !start.has_no_image,
        keeps_tree: start.keeps_tree,
        network,
        allowed,
        extra_hosts: start.extra_hosts.into_iter().map(|host| (host.name, host.address)).collect(),
        shm_size: start.shm_size_bytes,
        ulimits: start.ulimits.into_iter().map(Ulimit::from).collect(),
        step_limits: start.step_limits.unwrap_or_default().into(),
        labels: start.labels.into_iter().collect(),
        pull,
        has_credentials: start.has_credentials,
        offers: Offers {
            secrets: start.has_secrets,
            agents: start.has_agents,
            details: start.has_details,
            later_root: start.context_root_follows,
        },
        platform: start.platform.map(platform).transpose()?,
    })
}

fn grant(name: &str) -> Result<Grant, Error> {
    Grant::parse(name).map_err(|problem| Error::Invalid { field: "entitlements", problem })
}

fn platform(message: strata_proto::types::v1::Platform) -> Result<Platform, Error> {
    let strata_proto::types::v1::Platform { os, architecture, variant } = message;
    let invalid = |problem: String| Error::Invalid { field: "platform", problem };
    if [&os, &architecture, &variant].iter().any(|part| part.contains('/')) {
        return Err(invalid("its parts contain a \"/\"".to_owned()));
    }
    let slash = if variant.is_empty() { "" } else { "/" };
    Platform::parse(&format!("{os}/{architecture}{slash}{variant}")).map_err(|problem| invalid(problem.to_string()))
}

fn read_event(event: Option<pb::build_request::Event>) -> Result<FromClient, Error> {
    use prost::Message;
    match event {
        Some(pb::build_request::Event::Directories(directories)) => {
            let encodings = directories.directories.iter().map(Message::encode_to_vec).collect();
            Ok(FromClient::Directories { encodings, continues: directories.continues })
        }
        Some(pb::build_request::Event::Content(content)) => {
            let blake3 = match content.blake3.is_empty() {
                true => None,
                false => Some(context::digest(&content.blake3)?),
            };
            Ok(FromClient::Content(Content { blake3, chunk: content.chunk, is_last: content.last }))
        }
        Some(pb::build_request::Event::Details(details)) => {
            details.directories.into_iter().map(details_of).collect::<Result<_, _>>().map(FromClient::Details)
        }
        Some(pb::build_request::Event::Root(root)) => Ok(FromClient::Root(context::digest(&root.digest)?)),
        Some(pb::build_request::Event::Credentials(credentials)) => {
            let pb::BuildCredentials { registry, credentials, problem } = credentials;
            let found = if problem.is_empty() { Ok(Credentials::new(credentials)) } else { Err(problem) };
            Ok(FromClient::Credentials { registry, found })
        }
        Some(pb::build_request::Event::Secret(pb::BuildSecret { number, value, problem })) => {
            let answer = if problem.is_empty() { Ok(value.map(Secret::new)) } else { Err(problem) };
            Ok(FromClient::Answer { number, answer })
        }
        Some(pb::build_request::Event::Agent(pb::BuildAgent { number, answer, problem })) => {
            let answer = if problem.is_empty() { Ok(answer.map(Secret::new)) } else { Err(problem) };
            Ok(FromClient::Answer { number, answer })
        }
        Some(pb::build_request::Event::Cancel(pb::BuildCancel {})) => Ok(FromClient::Cancel),
        Some(pb::build_request::Event::Start(_)) | None => {
            Err(Error::Context { problem: "a message that does not belong here".to_owned() })
        }
    }
}

fn details_of(message: pb::DirectoryDetails) -> Result<context::Details, Error> {
    let pb::DirectoryDetails { modified_ns, entries_modified_ns, mut same_file } = message;
    if same_file.is_empty() {
        same_file = vec![0; entries_modified_ns.len()];
    }
    if same_file.len() != entries_modified_ns.len() {
        return Err(Error::Context { problem: "details of a directory that do not fit each other".to_owned() });
    }
    Ok(context::Details { modified: modified_ns, entries: entries_modified_ns.into_iter().zip(same_file).collect() })
}

#[cfg(test)]
mod tests;
