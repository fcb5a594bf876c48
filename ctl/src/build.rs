//! `ctl build`: reads the Dockerfile, sends what the builder asks for, shows what it does.

mod agents;
mod attributes;
mod context;
mod contexts;
mod deliver;
mod index;
mod interrupts;
mod layout;
mod own;
mod parallel;
mod place;
mod secrets;
mod upload;
mod walk;

use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::json;
use strata_dockerfile::ignore::IgnoreFile;
use strata_dockerfile::remote::redact;
use strata_proto::builder::v1 as pb;
use strata_proto::types::v1::Descriptor;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::args::{Build, ProgressMode, PullWhen, StepNetwork};
use crate::command::update;
use crate::error::{Error, Result};
use crate::input;
use crate::platform::Platform;
use crate::render::progress::{self, End, Own, Progress};
use crate::render::{self, name};
use agents::Agents;
use context::Context;
use contexts::Contexts;
use deliver::{Delivered, Outputs};
use interrupts::{Ended, Interrupts};
use own::{Meter, Sending};
use place::Place;
use secrets::Secrets;
use upload::Upload;

/// How often the bytes of the context that went out are shown.
const TICK: Duration = Duration::from_millis(100);

/// Builds an image, and takes it where it shall go.
pub async fn run(platform: &Platform, args: &Build) -> Result<u8> {
    let outputs = Outputs::of(args)?;
    let mut interrupts = Interrupts::listen()?;
    let mut progress = Progress::start(mode(args)?)?;
    let result = build(platform, args, &outputs, &mut progress, &mut interrupts).await;
    let end = if matches!(result, Ok(Ended::GivenUp(_))) { End::Cancelled } else { End::Over };
    tokio::select! {
        () = progress.finish(end) => {}
        // A terminal that is stuck shows no end.
        code = interrupts.next() => return Err(Error::silent(code)),
    }
    match result {
        Ok(Ended::Built(built)) => tell(platform, args, &built).map(|()| 0),
        Ok(Ended::GivenUp(code)) => Err(Error::silent(code)),
        Err(error) => Err(error),
    }
}

async fn build(
    platform: &Platform,
    args: &Build,
    outputs: &Outputs,
    progress: &mut Progress,
    interrupts: &mut Interrupts,
) -> Result<Ended<Built>> {
    let prepared = tokio::select! {
        prepared = prepare(platform, args, outputs, progress) => prepared?,
        code = interrupts.next() => return Ok(Ended::GivenUp(code)),
    };
    let (completed, call) = match converse(prepared, progress, interrupts).await? {
        Ended::Built(built) => built,
        Ended::GivenUp(code) => return Ok(Ended::GivenUp(code)),
    };
    let delivered = tokio::select! {
        delivered = outputs.deliver(platform, &completed, progress) => delivered?,
        code = interrupts.next() => return Ok(Ended::GivenUp(code)),
    };
    // The builder keeps what is fetched as long as the call is open.
    drop(call);
    Ok(Ended::Built(Built { completed, delivered }))
}

/// What was built, and what became of it.
struct Built {
    completed: pb::BuildCompleted,
    delivered: Delivered,
}

/// The flags, else what the environment says.
fn mode(args: &Build) -> Result<ProgressMode> {
    let mode = match (args.progress, std::env::var("BUILDKIT_PROGRESS")) {
        (Some(mode), _) => mode,
        (None, Ok(text)) if !text.is_empty() => <ProgressMode as clap::ValueEnum>::from_str(&text, false)
            .map_err(|_| Error::usage(format!("invalid value {text:?} of BUILDKIT_PROGRESS")))?,
        (None, _) => ProgressMode::Auto,
    };
    match (args.quiet, args.progress) {
        (true, None | Some(ProgressMode::Auto | ProgressMode::Quiet)) => Ok(ProgressMode::Quiet),
        (true, Some(_)) => Err(Error::usage("--quiet shows no progress, and --progress says how to show it")),
        (false, _) => Ok(mode),
    }
}

/// Writes down and says what was built.
fn tell(platform: &Platform, args: &Build, built: &Built) -> Result<()> {
    let completed = &built.completed;
    if let Some(file) = &args.iidfile {
        write("--iidfile", file, completed.image_id.as_bytes())?;
    }
    if let Some(file) = &args.metadata_file {
        let text = serde_json::to_vec_pretty(&metadata(platform, built)).map_err(|error| Error::of(&error))?;
        write("--metadata-file", file, &text)?;
    }
    if completed.image_id.is_empty() {
        return Ok(());
    }
    match mode(args)? {
        ProgressMode::Quiet => render::line(&completed.image_id),
        ProgressMode::None | ProgressMode::Rawjson => Ok(()),
        ProgressMode::Auto | ProgressMode::Tty | ProgressMode::Plain => {
            let names: Vec<String> = completed.names.iter().map(|full| name::familiar(full)).collect();
            // Without --tag it may have names of earlier builds: they are not this build's doing.
            let named = match args.tag.is_empty() || names.is_empty() {
                true => String::new(),
                false => format!(", named {}", names.join(", ")),
            };
            render::note(format!("built {}{named}", completed.image_id));
            Ok(())
        }
    }
}

fn write(flag: &str, file: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(file, bytes).map_err(|error| Error::new(format!("cannot write {flag} {}: {error}", file.display())))
}

/// What buildx writes of a build, under its keys.
fn metadata(platform: &Platform, built: &Built) -> serde_json::Value {
    let pb::BuildCompleted { image_id, names, manifest, build_id, .. } = &built.completed;
    let reference = format!("{0}/{0}/{build_id}", platform.name);
    let mut all = serde_json::Map::from_iter([("buildx.build.ref".to_owned(), reference.into())]);
    if !image_id.is_empty() {
        all.insert("containerimage.config.digest".to_owned(), image_id.clone().into());
    }
    if let Some(manifest) = built.delivered.pushed.as_ref().or(manifest.as_ref()) {
        let Descriptor { media_type, digest, size_bytes } = manifest;
        let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": size_bytes });
        all.insert("containerimage.descriptor".to_owned(), descriptor);
        all.insert("containerimage.digest".to_owned(), digest.clone().into());
    }
    if !names.is_empty() && !image_id.is_empty() {
        all.insert("image.name".to_owned(), names.join(",").into());
    }
    all.into()
}

type Client = pb::build_service_client::BuildServiceClient<strata_rpc::spans::Channel>;

/// What a conversation starts with.
struct Prepared {
    client: Client,
    start: pb::BuildStart,
    given: Given,
    /// The step that looks at the context, while it does.
    looking: Option<Own>,
}

/// Reads what is to be built, and begins to look at the context.
async fn prepare(platform: &Platform, args: &Build, outputs: &Outputs, progress: &mut Progress) -> Result<Prepared> {
    let secrets = Secrets::of(&args.secret)?;
    let agents = Agents::of(&args.ssh)?;
    let place = Place::of(args).await?;
    let named = contexts::parse(&args.build_context)?;
    let reading = Own::start(own::DEFINITION, format!("{} from {}", progress::DEFINITION, dockerfile_shown(args)));
    progress.step(reading.running());
    let definition = match definition(args, &place).await {
        Ok(found) => found,
        Err(error) => {
            progress.step(reading.fail(&error));
            return Err(error);
        }
    };
    if let Definition::Text { text, .. } = &definition {
        progress.part(reading.begin("transferring dockerfile:").at(text.len() as u64, 0, true));
    }
    progress.step(reading.end(pb::StepState::Done));
    let mut all = Contexts::default();
    let mut start = pb::BuildStart::default();
    let (mut scan, mut looking) = (None, None);
    match place {
        Place::Directory(top) => {
            let (name, ignore, text) = ignore(&top, &definition, progress)?;
            (start.ignore_file_name, start.ignore_file) = (name, text);
            start.context_root_follows = true;
            let step = Own::start(own::CONTEXT, own::CONTEXT_NAME);
            progress.step(step.running());
            looking = Some(step);
            scan = Some(tokio::task::spawn_blocking(move || Context::scan(&top, &ignore)));
        }
        Place::Url(url) => start.remote_context = Some(pb::build_start::RemoteContext::ContextUrl(url)),
        Place::Archive(archive) => {
            let blake3 = Bytes::copy_from_slice(&archive.blake3);
            let file = pb::ContextFile { blake3, size_bytes: archive.size };
            start.remote_context = Some(pb::build_start::RemoteContext::ContextArchive(file));
            all.archive = Some(archive);
        }
        Place::Nothing(_) => {}
    }
    let client = platform.builds().await?;
    match definition {
        Definition::Text { text, name, .. } => (start.dockerfile, start.dockerfile_name) = (text, name),
        Definition::Url(url) => {
            start.dockerfile_name = redact(&url);
            start.dockerfile_url = url;
        }
        Definition::InContext(path) => {
            start.dockerfile_name = path;
            start.has_dockerfile_in_context = true;
        }
    }
    let mut messages = Vec::with_capacity(named.len());
    let of = args.platform.as_deref().map(input::platform).transpose()?;
    for one in named {
        messages.push(contexts::prepare(platform, one, of.clone(), &mut all).await?);
    }
    let start = pb::BuildStart {
        names: outputs.names.clone(),
        contexts: messages,
        target: args.target.clone().unwrap_or_default(),
        build_args: build_args(&args.build_arg)?,
        no_cache: args.no_cache,
        network: match args.network {
            StepNetwork::Default => pb::BuildNetwork::Unspecified.into(),
            StepNetwork::Host => pb::BuildNetwork::Host.into(),
            StepNetwork::None => pb::BuildNetwork::None.into(),
        },
        labels: input::labels(&[], &args.label)?,
        has_credentials: true,
        platform: of,
        pull: match args.pull {
            PullWhen::Always => pb::BuildPull::Always.into(),
            PullWhen::Missing => pb::BuildPull::Missing.into(),
            PullWhen::Never => pb::BuildPull::Never.into(),
        },
        no_cache_filter: args.no_cache_filter.clone(),
        has_no_image: !outputs.needs_image(),
        keeps_tree: outputs.needs_tree(),
        has_secrets: !secrets.is_empty(),
        has_agents: !agents.is_empty(),
        has_details: true,
        entitlements: input::entitlements(&args.allow),
        extra_hosts: args.add_host.iter().map(|text| input::host(text)).collect::<Result<_>>()?,
        shm_size_bytes: args.shm_size.as_deref().map_or(Ok(0), |text| input::bytes("--shm-size", text))?,
        ulimits: args.ulimit.iter().map(|text| input::ulimit(text)).collect::<Result<_>>()?,
        step_limits: Some(update::of_steps(&args.limits)?),
        ..start
    };
    let given = Given { contexts: ManuallyDrop::new(all), scan, secrets, agents };
    Ok(Prepared { client, start, given, looking })
}

/// What the builder may ask for.
struct Given {
    /// The process ends soon after the build: giving thousands of names back one by one is work for nobody.
    contexts: ManuallyDrop<Contexts>,
    /// The build context, which is being looked at.
    scan: Option<Scan>,
    secrets: Secrets,
    agents: Agents,
}

/// A look at the build context.
type Scan = tokio::task::JoinHandle<Result<Context, context::Error>>;

/// An open call.
type Call = (mpsc::Sender<pb::BuildRequest>, tonic::Streaming<pb::BuildResponse>);

/// The conversation of one build. Dropping it cancels the build; dropping the call that it returns ends it.
async fn converse(
    Prepared { client, start, given, mut looking }: Prepared,
    progress: &mut Progress,
    interrupts: &mut Interrupts,
) -> Result<Ended<(pb::BuildCompleted, Call)>> {
    let ended = talk((client, start, given), &mut looking, progress, interrupts).await;
    // A build that needs nothing of the context does not wait for it.
    if let Some(step) = looking {
        progress.step(step.end(pb::StepState::Cancelled));
    }
    ended
}

async fn talk(
    (mut client, start, given): (Client, pb::BuildStart, Given),
    looking: &mut Option<Own>,
    progress: &mut Progress,
    interrupts: &mut Interrupts,
) -> Result<Ended<(pb::BuildCompleted, Call)>> {
    let (sender, receiver) = mpsc::channel(8);
    // The channel has room for the first message.
    let _ = sender.try_send(pb::BuildRequest { event: Some(pb::build_request::Event::Start(start)) });
    let meter = Arc::new(Meter::default());
    let counted = meter.clone();
    let requests = ReceiverStream::new(receiver).inspect(move |request| counted.count(request));
    let mut events = tokio::select! {
        events = client.build(requests) => events?.into_inner(),
        code = interrupts.next() => return Ok(Ended::GivenUp(code)),
    };
    let mut upload = Upload::start(given, sender.clone());
    let mut sending = Sending::new(meter);
    let mut tick = tokio::time::interval(TICK);
    loop {
        let reply = tokio::select! {
            reply = events.message() => reply?,
            said = upload.said() => match (said, looking.take()) {
                (Ok(()), Some(step)) => {
                    progress.step(step.end(pb::StepState::Done));
                    continue;
                }
                (Ok(()), None) => continue,
                (Err(error), Some(step)) => {
                    progress.step(step.fail(&error));
                    return Err(error);
                }
                (Err(error), None) => return Err(error),
            },
            _ = tick.tick() => {
                sending.show(progress);
                continue;
            }
            code = interrupts.next() => {
                interrupts.give_up(&sender, &mut events).await;
                return Ok(Ended::GivenUp(code));
            }
        };
        let Some(reply) = reply else { return Err(Error::new("the builder ended the stream before the build ended")) };
        match reply.event {
            Some(pb::build_response::Event::NeedDirectories(need)) => upload.directories(need.digests),
            Some(pb::build_response::Event::NeedContents(need)) => {
                sending.asked(need.blake3.len(), progress);
                upload.contents(need.blake3);
            }
            Some(pb::build_response::Event::NeedDetails(need)) => upload.details(need),
            Some(pb::build_response::Event::NeedCredentials(need)) => upload.credentials(need.registry),
            Some(pb::build_response::Event::NeedSecret(need)) => upload.secret(need),
            Some(pb::build_response::Event::NeedAgent(need)) => upload.agent(need),
            Some(pb::build_response::Event::Step(step)) => progress.step(step),
            Some(pb::build_response::Event::Part(part)) => progress.part(part),
            Some(pb::build_response::Event::Output(output)) => progress.output(output),
            Some(pb::build_response::Event::Warning(warning)) => progress.warning(warning),
            Some(pb::build_response::Event::Completed(completed)) => {
                sending.show(progress);
                return Ok(Ended::Built((completed, (sender, events))));
            }
            None => {}
        }
    }
}

/// A context that cannot be read.
fn unreadable(error: context::Error) -> Error {
    let told = Error::of(&error);
    let is_denied = std::error::Error::source(&error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .is_some_and(|source| source.kind() == std::io::ErrorKind::PermissionDenied);
    match is_denied {
        true => told.hint("what the image does not need can be left out: a pattern in .dockerignore does it"),
        false => told,
    }
}

/// The ignore file of a directory that is the build context: its name, what it says, and its text.
fn ignore(top: &Path, definition: &Definition, progress: &mut Progress) -> Result<(String, IgnoreFile, Bytes)> {
    let reading = Own::start(own::IGNORE, "[internal] load .dockerignore");
    progress.step(reading.running());
    let file = if let Definition::Text { path, .. } = definition { path.as_deref() } else { None };
    let (name, text) = ignore_file(top, file)?;
    let parsed = IgnoreFile::parse(&text).map_err(|error| Error::new(format!("{name}: {error}")))?;
    if !text.is_empty() {
        progress.part(reading.begin("transferring context:").at(text.len() as u64, 0, true));
    }
    progress.step(reading.end(pb::StepState::Done));
    Ok((name, parsed, text.into()))
}

/// Where the Dockerfile is.
enum Definition {
    /// Here.
    Text {
        /// Its text.
        text: Bytes,
        /// Its name, for messages.
        name: String,
        /// Where it was read, if it is a file.
        path: Option<PathBuf>,
    },
    /// At a URL.
    Url(String),
    /// In the context, which is not here, under this path.
    InContext(String),
}

/// Reads the Dockerfile, if it is here.
async fn definition(args: &Build, place: &Place) -> Result<Definition> {
    let text = |text: Vec<u8>| Definition::Text { text: text.into(), name: "Dockerfile".to_owned(), path: None };
    if let Place::Nothing(dockerfile) = place {
        return Ok(text(dockerfile.clone()));
    }
    if args.file.as_deref() == Some(Path::new("-")) {
        let mut read = Vec::new();
        let result = tokio::io::stdin().read_to_end(&mut read).await;
        result.map_err(|error| Error::new(format!("cannot read the Dockerfile from standard input: {error}")))?;
        return Ok(text(read));
    }
    if let Some(url) = args.file.as_deref().map(place::dockerfile_url).transpose()?.flatten() {
        return Ok(Definition::Url(url));
    }
    if let (Place::Url(_) | Place::Archive(_), file) = (place, args.file.as_deref().unwrap_or(Path::new("Dockerfile")))
        && !file.is_absolute()
    {
        return Ok(Definition::InContext(file.display().to_string()));
    }
    let (path, shown) = match &args.file {
        Some(path) => (path.clone(), path.display().to_string()),
        None => (usual_dockerfile(&args.path), "Dockerfile".to_owned()),
    };
    contexts::stays_inside(&args.path, &path)?;
    match std::fs::read(&path) {
        Ok(text) => Ok(Definition::Text { text: text.into(), name: shown, path: Some(path) }),
        Err(error) => {
            let error = Error::new(format!("cannot read the Dockerfile {}: {error}", path.display()));
            let other = args.path.join("Containerfile");
            let hint = match args.file.is_none() && other.is_file() {
                true => format!("`-f {}` names the one that is there", other.display()),
                false => "`-f FILE` names another one, `-f -` reads it from standard input".to_owned(),
            };
            Err(error.hint(hint))
        }
    }
}

/// "Dockerfile" in the context; in small letters where only that is there, as for BuildKit.
fn usual_dockerfile(context: &Path) -> PathBuf {
    let (usual, small) = (context.join("Dockerfile"), context.join("dockerfile"));
    if !usual.exists() && small.is_file() { small } else { usual }
}

/// The name of the Dockerfile, for people.
fn dockerfile_shown(args: &Build) -> String {
    let name = args.file.as_deref().filter(|path| *path != Path::new("-")).and_then(Path::file_name);
    name.map_or_else(|| "Dockerfile".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The ignore file that belongs to this Dockerfile, else that of the context.
fn ignore_file(top: &Path, dockerfile: Option<&Path>) -> Result<(String, String)> {
    let own = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for path in own.into_iter().chain([top.join(".dockerignore")]) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        contexts::stays_inside(top, &path)?;
        match std::fs::read_to_string(&path) {
            Ok(text) => return Ok((name, text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::new(format!("cannot read {}: {error}", path.display()))),
        }
    }
    Ok((".dockerignore".to_owned(), String::new()))
}

/// "NAME=VALUE", or "NAME" with the value of this process's environment.
fn build_args(flags: &[String]) -> Result<HashMap<String, String>> {
    let mut all = HashMap::new();
    for flag in flags {
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag.as_str(), std::env::var(flag).ok()),
        };
        if name.is_empty() {
            return Err(Error::usage(format!("invalid --build-arg {flag:?}: NAME=VALUE is expected")));
        }
        if let Some(value) = value {
            all.insert(name.to_owned(), value);
        }
    }
    Ok(all)
}
