//! From a request to a build: a context that is elsewhere is fetched, the Dockerfile read, the time that SOURCE_DATE_EPOCH means
//! found, and the graph planned.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use strata_dockerfile::mount::parse_bool;
use strata_dockerfile::remote::{self, MTime, Remote, redact};
use strata_dockerfile::{Dockerfile, Instruction, Kind, Run};
use strata_types::Platform;
use tokio::sync::{Mutex, Semaphore, mpsc};

use crate::contexts::Fetched;
use crate::devices;
use crate::entitlements::{Entitlement, Entitlements};
use crate::epoch::Places;
use crate::error::Error;
use crate::flight::Flights;
use crate::graph::Graph;
use crate::peers::{Runtime, Store};
use crate::progress::{Progress, Running, StepState};
use crate::remotes::{Remotes, SINGLE};
use crate::scope::Globals;
use crate::session::Session;
use crate::settings;
use crate::solve::{Build, RemoteContext, Request};
use crate::source::Sources;
use crate::stages::{Stages, Wanted};
use crate::steps::Steps;
use crate::tally::Tally;

/// What a build is given.
#[derive(Debug)]
pub struct Given {
    /// What fetching needs.
    pub sources: Arc<Sources>,
    /// The store.
    pub store: Store,
    /// The runtime.
    pub runtime: Runtime,
    /// Lease that holds what is made.
    pub lease: String,
    /// The client.
    pub session: Arc<Session>,
    /// Where progress goes.
    pub progress: Progress,
    /// Steps at work in any build.
    pub flights: Arc<Flights>,
    /// Steps that work at once.
    pub slots: usize,
    /// What steps may do beyond the usual as far as the service is concerned.
    pub entitlements: Vec<Entitlement>,
    /// Where steps are counted.
    pub tally: Arc<Tally>,
    /// Devices, or kinds of them, that every step may have.
    pub open_devices: Vec<String>,
    /// The runtime is on the machine of the builder.
    pub has_local_runtime: bool,
}

/// Makes a build of a request. Nothing of it has run yet, but what is elsewhere is here.
pub async fn build(mut request: Request, given: Given) -> Result<(Arc<Build>, mpsc::Receiver<Wanted>), Error> {
    let Given { sources, store, runtime, lease, session, progress, flights, slots, has_local_runtime, tally, .. } =
        given;
    let remotes = Remotes::new(sources, store.clone(), session.clone(), lease.clone());
    let steps = Steps::default();
    let loading = Loading { remotes: &remotes, progress: &progress, steps: &steps };
    let mut contexts = request.contexts()?;
    contexts.fetched = loading.context(&request).await?;
    loading.dockerfile(&mut request, contexts.fetched.as_ref()).await?;
    let file = strata_dockerfile::parse(&request.dockerfile, &request.dockerfile_name)
        .map_err(|diagnostic| Error::Dockerfile(Box::new(diagnostic)))?;
    settings::check(&file, &request.build_args)?;
    let platform = request.platform.clone().unwrap_or_else(Platform::host);
    let mut globals = Globals::new(&file, request.build_args.clone(), &platform, &request.target)?;
    if let Some(text) = globals.epoch_in_words().map(str::to_owned) {
        let places = Places { file: &file, contexts: &contexts, remotes: &remotes };
        let running = loading.step("[internal] resolve SOURCE_DATE_EPOCH");
        let found = running.within(places.find(&text, &globals, &running)).await;
        let found = found.and_then(|found| found.ok_or_else(|| globals.wrong_epoch(&file)));
        globals.set_epoch(told(&running, found)?);
    }
    let graph = Graph::plan(&file, &request.target, &globals, &contexts)?;
    let entitlements = Entitlements {
        service: given.entitlements,
        open_devices: given.open_devices,
        request: request.allowed.clone(),
        network: request.network,
    };
    let needed: Vec<&Instruction> = graph.needed.iter().flat_map(|&index| &file.stages[index].instructions).collect();
    needed.iter().try_for_each(|instruction| entitlements.check(&file, instruction))?;
    check_devices(&file, &needed, &runtime, &entitlements).await?;
    let (stages, wanted) = Stages::new(file.stages.len());
    let build = Build {
        entitlements,
        has_local_runtime,
        contexts,
        request,
        file,
        graph,
        globals,
        platform,
        session,
        remotes,
        store,
        runtime,
        lease,
        progress,
        slots: Semaphore::new(slots),
        resolutions: Mutex::default(),
        stages,
        flights,
        steps,
        cached: AtomicU32::new(0),
        tally,
        serial: AtomicU32::new(0),
    };
    Ok((Arc::new(build), wanted))
}

/// Refuses devices that are not there or not allowed before anything runs.
async fn check_devices(
    file: &Dockerfile,
    needed: &[&Instruction],
    runtime: &Runtime,
    entitlements: &Entitlements,
) -> Result<(), Error> {
    let runs = needed.iter().filter(|one| devices::wants_any(one));
    let runs: Vec<&Run> =
        runs.filter_map(|one| if let Kind::Run(run) = &one.kind { Some(run) } else { None }).collect();
    if runs.is_empty() {
        return Ok(());
    }
    let known = runtime.devices().await?;
    runs.iter().try_for_each(|run| devices::grant(file, run, &known, entitlements).map(drop))
}

/// What is loaded before there is a build.
struct Loading<'a> {
    remotes: &'a Remotes,
    progress: &'a Progress,
    steps: &'a Steps,
}

impl Loading<'_> {
    /// A step that no instruction is, at work.
    fn step(&self, name: &str) -> Running {
        let running = self.progress.running(self.steps.other(), name, 0);
        running.begin("");
        running
    }

    /// The context, where it is not a directory of the client.
    async fn context(&self, request: &Request) -> Result<Option<Fetched>, Error> {
        match &request.remote_context {
            None => Ok(None),
            Some(RemoteContext::Archive { blake3, size }) => {
                let running = self.step("[internal] load remote build context");
                let tree = told(&running, running.within(self.remotes.archive(*blake3, *size)).await)?;
                Ok(Some(Fetched { title: "the archive".to_owned(), tree }))
            }
            Some(RemoteContext::Url(url)) => {
                let remote = main_context(url, request)?;
                let shown = redact(url);
                let running = self.step(&match &remote {
                    Remote::Git(_) => format!("[internal] load git source {shown}"),
                    Remote::Http(_) => "[internal] load remote build context".to_owned(),
                });
                let tree = running.within(self.remotes.context(&remote, true, &running)).await;
                let tree = told(&running, tree.map_err(|failure| Error::unfetched(url, failure)))?;
                Ok(Some(Fetched { title: shown, tree }))
            }
        }
    }

    /// The text of the Dockerfile, where it is elsewhere.
    async fn dockerfile(&self, request: &mut Request, fetched: Option<&Fetched>) -> Result<(), Error> {
        let text = if !request.dockerfile_url.is_empty() {
            let url = request.dockerfile_url.clone();
            let invalid = |problem: String| Error::Invalid { field: "dockerfile_url", problem };
            let Some(Remote::Http(http)) = remote::parse(&url).map_err(|problem| invalid(problem.to_string()))? else {
                return Err(invalid(format!("{:?} is not the URL of a file", redact(&url))));
            };
            let running = self.step(&format!("[internal] load remote Dockerfile from {}", redact(&url)));
            let found = running.within(self.remotes.dockerfile(&http, &running)).await;
            told(&running, found.map_err(|failure| Error::unfetched(&url, failure)))?
        } else if request.has_dockerfile_in_context {
            let problem = || "there is no remote context".to_owned();
            let invalid = || Error::Invalid { field: "has_dockerfile_in_context", problem: problem() };
            self.dockerfile_of(fetched.ok_or_else(invalid)?, &request.dockerfile_name).await?
        } else {
            return Ok(());
        };
        request.dockerfile = String::from_utf8_lossy(&text).into_owned();
        Ok(())
    }

    /// A file that is the whole context is the Dockerfile, whatever its name. In small letters it counts where only that is
    /// there.
    async fn dockerfile_of(&self, fetched: &Fetched, name: &str) -> Result<Vec<u8>, Error> {
        let names = match (fetched.tree.is_single, name) {
            (true, _) => vec![SINGLE],
            (false, "Dockerfile") => vec![name, "dockerfile"],
            (false, name) => vec![name],
        };
        for name in names {
            if let Some(text) = self.remotes.read(&fetched.tree, name).await? {
                return Ok(text);
            }
        }
        Err(Error::NoDockerfile { context: fetched.title.clone(), path: name.to_owned() })
    }
}

/// The context that a URL names, with what build arguments say of it.
fn main_context(url: &str, request: &Request) -> Result<Remote, Error> {
    let invalid = |field, problem: String| Error::Invalid { field, problem };
    let remote = remote::parse_context(url).map_err(|problem| invalid("context_url", problem.to_string()))?;
    let Some(mut remote) = remote else {
        return Err(invalid("context_url", format!("{:?} is not a URL", redact(url))));
    };
    if let Remote::Git(git) = &mut remote {
        let value = |name: &str| request.build_args.get(name).filter(|value| !value.is_empty());
        if let Some(text) = value("BUILDKIT_CONTEXT_KEEP_GIT_DIR") {
            let problem = || format!("BUILDKIT_CONTEXT_KEEP_GIT_DIR: {text:?} is neither true nor false");
            let keeps = parse_bool(text).ok_or_else(|| invalid("build_args", problem()))?;
            // Either of them is enough.
            git.keep_git_dir = Some(keeps || git.keep_git_dir == Some(true));
        }
        if value("SOURCE_DATE_EPOCH").is_some() {
            git.mtime = MTime::Commit;
        }
    }
    Ok(remote)
}

/// Tells how a step ended.
fn told<T>(running: &Running, result: Result<T, Error>) -> Result<T, Error> {
    match &result {
        Ok(_) => running.end(StepState::Done),
        Err(error) => running.fail(error),
    }
    result
}
