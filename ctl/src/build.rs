//! `ctl build`: reads the Dockerfile, sends what the builder asks for, shows what it does.

mod context;
mod index;
mod upload;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use strata_dockerfile::ignore::IgnoreFile;
use strata_proto::builder::v1 as pb;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::args::{Build, Network, ProgressMode, PullWhen};
use crate::error::{Error, Result};
use crate::input;
use crate::platform::Platform;
use crate::render::progress::Progress;
use crate::render::{self, name};
use context::Context;
use upload::Upload;

/// How often the live view shows that time passes.
const TICK: Duration = Duration::from_millis(200);

/// Builds an image.
pub async fn run(platform: &Platform, args: &Build) -> Result<u8> {
    let top = context_directory(&args.path)?;
    let (dockerfile, dockerfile_name, file) = dockerfile(args).await?;
    let (ignore_name, ignore_text) = ignore_file(&top, file.as_deref())?;
    let ignore = IgnoreFile::parse(&ignore_text).map_err(|error| Error::new(format!("{ignore_name}: {error}")))?;
    let scan = tokio::task::spawn_blocking(move || Context::scan(&top, &ignore));
    let (client, scanned) = tokio::join!(platform.builds(), scan);
    let scanned = scanned.map_err(|error| Error::of(&error))?.map_err(|error| Error::of(&error))?;
    let start = pb::BuildStart {
        names: args.tag.clone(),
        dockerfile,
        dockerfile_name,
        ignore_file: Bytes::from(ignore_text),
        ignore_file_name: ignore_name,
        context_root: Bytes::copy_from_slice(&scanned.root),
        target: args.target.clone().unwrap_or_default(),
        build_args: build_args(&args.build_arg)?,
        no_cache: args.no_cache,
        network: match args.network {
            Network::Host => pb::BuildNetwork::Host.into(),
            Network::None => pb::BuildNetwork::None.into(),
        },
        labels: input::labels(&args.label)?,
        has_credentials: true,
        platform: args.platform.as_deref().map(input::platform).transpose()?,
        pull: match args.pull {
            PullWhen::Always => pb::BuildPull::Always.into(),
            PullWhen::Missing => pb::BuildPull::Missing.into(),
            PullWhen::Never => pb::BuildPull::Never.into(),
        },
    };
    let mut progress = Progress::new(args.quiet, args.progress == ProgressMode::Plain);
    let result = converse(client?, start, scanned, &mut progress).await;
    progress.finish();
    let built = result?;
    if let Some(file) = &args.iidfile {
        std::fs::write(file, &built.image_id)
            .map_err(|error| Error::new(format!("cannot write --iidfile {}: {error}", file.display())))?;
    }
    if args.quiet {
        render::line(&built.image_id)?;
    } else {
        let names: Vec<String> = built.names.iter().map(|full| name::familiar(full)).collect();
        // Without --tag it may have names of earlier builds: they are not this build's doing.
        let named = if args.tag.is_empty() || names.is_empty() {
            String::new()
        } else {
            format!(", named {}", names.join(", "))
        };
        render::note(format!("built {}{named}", built.image_id));
    }
    Ok(0)
}

type Client = pb::build_service_client::BuildServiceClient<tonic::transport::Channel>;

/// The conversation of one build. Dropping it cancels the build.
async fn converse(
    mut client: Client,
    start: pb::BuildStart,
    context: Context,
    progress: &mut Progress,
) -> Result<pb::BuildCompleted> {
    let (sender, receiver) = mpsc::channel(8);
    // The channel has room for the first message.
    let _ = sender.try_send(pb::BuildRequest { event: Some(pb::build_request::Event::Start(start)) });
    let mut events = client.build(ReceiverStream::new(receiver)).await?.into_inner();
    let mut upload = Upload::start(context, sender);
    let mut tick = tokio::time::interval(TICK);
    loop {
        let reply = tokio::select! {
            reply = events.message() => reply?,
            error = upload.failure() => return Err(error),
            _ = tick.tick() => {
                progress.tick();
                continue;
            }
        };
        let Some(reply) = reply else { return Err(Error::new("the builder ended the stream before the build ended")) };
        match reply.event {
            Some(pb::build_response::Event::NeedDirectories(need)) => upload.directories(need.digests),
            Some(pb::build_response::Event::NeedContents(need)) => upload.contents(need.blake3),
            Some(pb::build_response::Event::NeedCredentials(need)) => upload.credentials(need.registry),
            Some(pb::build_response::Event::Step(step)) => progress.step(&step),
            Some(pb::build_response::Event::Output(output)) => progress.output(&output),
            Some(pb::build_response::Event::Warning(warning)) => progress.warning(&warning),
            Some(pb::build_response::Event::Completed(completed)) => return Ok(completed),
            None => {}
        }
    }
}

fn context_directory(path: &Path) -> Result<PathBuf> {
    let text = path.to_string_lossy();
    if text == "-" || text.contains("://") || text.starts_with("git@") {
        let error = Error::usage(format!("a build context from {text:?} is not available yet"));
        return Err(error.hint("name a directory"));
    }
    let failed = |error| Error::new(format!("cannot open the build context {text}: {error}"));
    let top = path.canonicalize().map_err(failed)?;
    if !top.is_dir() {
        let hint = "`ctl build -f FILE DIRECTORY` names another Dockerfile";
        return Err(Error::new(format!("the build context {text} is not a directory")).hint(hint));
    }
    Ok(top)
}

/// Text, name for messages, and path of the Dockerfile, if it has one.
async fn dockerfile(args: &Build) -> Result<(Bytes, String, Option<PathBuf>)> {
    if args.file.as_deref() == Some(Path::new("-")) {
        let mut text = Vec::new();
        let read = tokio::io::stdin().read_to_end(&mut text).await;
        read.map_err(|error| Error::new(format!("cannot read the Dockerfile from standard input: {error}")))?;
        return Ok((text.into(), "Dockerfile".to_owned(), None));
    }
    let (path, shown) = match &args.file {
        Some(path) => (path.clone(), path.display().to_string()),
        None => (args.path.join("Dockerfile"), "Dockerfile".to_owned()),
    };
    match std::fs::read(&path) {
        Ok(text) => Ok((text.into(), shown, Some(path))),
        Err(error) => {
            let error = Error::new(format!("cannot read the Dockerfile {}: {error}", path.display()));
            Err(error.hint("`-f FILE` names another one, `-f -` reads it from standard input"))
        }
    }
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
