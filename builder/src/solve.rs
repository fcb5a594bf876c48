//! One build: stages side by side, the steps of a stage one after the other.
//! The first failure ends every other stage; dropping the future cancels everything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use strata_dockerfile::ignore::IgnoreFile;
use strata_dockerfile::{Dockerfile, Instruction, Kind, Span};
use strata_types::{Platform, Reference};
use tokio::sync::{Mutex, OnceCell, Semaphore, watch};
use tokio::task::JoinSet;

use crate::context::Blake3;
use crate::error::Error;
use crate::graph::{self, Graph, Origin};
use crate::image::Draft;
use crate::peers::{Credentials, Lookup, Network, Runtime, Store};
use crate::progress::{Event, Progress, Running, StepState};
use crate::scope::{Globals, Scope};
use crate::session::Session;
use crate::step;

/// What helps where an image is for another platform.
const OTHER_PLATFORM: &str = "`--platform` of ctl build, or of this FROM, chooses the platform";

/// What to build.
#[derive(Debug, Clone)]
pub struct Request {
    /// Names of the image.
    pub names: Vec<String>,
    /// Text of the Dockerfile.
    pub dockerfile: String,
    /// Its name, for messages.
    pub dockerfile_name: String,
    /// Text of the ignore file.
    pub ignore_file: String,
    /// Its name, for messages.
    pub ignore_file_name: String,
    /// Root of the context. `None`: there is no context.
    pub context_root: Option<Blake3>,
    /// Stage to build; empty: the last.
    pub target: String,
    /// Build arguments.
    pub build_args: BTreeMap<String, String>,
    /// Take nothing from the cache.
    pub no_cache: bool,
    /// Network of RUN steps that do not say.
    pub network: Network,
    /// Labels to add.
    pub labels: BTreeMap<String, String>,
    /// When images are pulled.
    pub pull: Pull,
    /// The client can be asked for credentials.
    pub has_credentials: bool,
    /// The platform to build for. `None`: this machine's, and images that stages start from as they are.
    pub platform: Option<Platform>,
}

/// Pulls of a build, each made once: by name and platform.
pub type Pulls = BTreeMap<(String, Option<Platform>), Arc<OnceCell<()>>>;

/// When a build pulls the images that it starts or copies from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pull {
    /// When the store does not have them.
    Missing,
    /// Each, once per build.
    Always,
    /// Not at all.
    Never,
}

/// What was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// Id of the image.
    pub image_id: String,
    /// Its names.
    pub names: Vec<String>,
    /// Steps that were cached.
    pub cached: u32,
    /// Steps in all.
    pub steps: u32,
}

/// What every step of a build works with.
#[derive(Debug)]
pub struct Build {
    /// The request.
    pub request: Request,
    /// The Dockerfile.
    pub file: Dockerfile,
    /// The ignore file that the client applied.
    pub ignore: IgnoreFile,
    /// What must be built.
    pub graph: Graph,
    /// Global variables.
    pub globals: Globals,
    /// The platform built for.
    pub platform: Platform,
    /// The client.
    pub session: Session,
    /// The store.
    pub store: Store,
    /// The runtime.
    pub runtime: Runtime,
    /// Lease that holds what is made until the image does.
    pub lease: String,
    /// Where progress goes.
    pub progress: Progress,
    /// Steps that work at once.
    pub slots: Semaphore,
    /// Images that this build has pulled, by name and platform: each once, so that all its stages mean the same.
    pub pulls: Mutex<Pulls>,
    /// Steps found in the cache.
    pub cached: AtomicU32,
    /// Number for the keys of snapshots.
    pub serial: AtomicU32,
}

/// A stage being built.
#[derive(Debug)]
pub struct StageWork {
    /// Index of the stage.
    pub index: usize,
    /// The image so far.
    pub draft: Draft,
    /// Variables.
    pub scope: Scope,
    /// Results of the other stages.
    pub others: Arc<BTreeMap<usize, watch::Receiver<Option<Arc<Draft>>>>>,
}

impl Build {
    /// A diagnostic at this place of the Dockerfile.
    pub fn at(&self, span: Span, message: impl Into<String>) -> Box<strata_dockerfile::Diagnostic> {
        Box::new(self.file.diagnostic(span, message))
    }

    /// A mistake at this place of the Dockerfile.
    pub fn mistake(&self, span: Span, message: impl Into<String>) -> Error {
        Error::Dockerfile(self.at(span, message))
    }

    /// Points a peer's refusal at an instruction.
    pub fn blame(&self, instruction: &Instruction, error: Error) -> Error {
        match error {
            Error::Peer { .. } => {
                let message = error.to_string();
                Error::StepRefused { diagnostic: self.at(instruction.name_span, message), source: Box::new(error) }
            }
            other => other,
        }
    }

    /// Builds the target and makes the image.
    pub async fn run(self: Arc<Self>) -> Result<Built, Error> {
        self.announce().await;
        let drafts = self.clone().stages().await?;
        let mut draft = (*drafts).clone();
        for (key, value) in &self.request.labels {
            draft.config.config.labels.insert(key.clone(), value.clone());
        }
        draft.config.created = draft.created.map(|at| at.to_string());
        draft.config.extra.remove("container_config");
        let (image_id, names) =
            self.store.create_image(&draft.config, &draft.layers, &self.request.names, &self.lease).await?;
        let cached = self.cached.load(Ordering::Relaxed);
        Ok(Built { image_id, names, cached, steps: self.graph.steps.len() as u32 })
    }

    async fn announce(&self) {
        for warning in &self.file.warnings {
            let event = Event::Warning { text: warning.to_string(), line: warning.line as u32 };
            self.progress.tell(event).await;
        }
        let stages = self.graph.stages.keys().flat_map(|&index| &self.file.stages[index].instructions);
        let args = stages.filter_map(|i| if let Kind::Arg(args) = &i.kind { Some(args) } else { None }).flatten();
        let declared: Vec<&str> = args.chain(&self.file.global_args).map(|arg| arg.name.as_str()).collect();
        for name in self.globals.unused(&declared) {
            let text = format!("build argument {name:?} is declared by no ARG");
            self.progress.tell(Event::Warning { text, line: 0 }).await;
        }
        for (&(stage, at), &step) in &self.graph.steps {
            let (text, line) = self.step_text(stage, at);
            self.progress.waiting(step, &graph::step_name(&self.file, stage, at, &text), line).await;
        }
    }

    fn step_text(&self, stage: usize, at: usize) -> (String, u32) {
        let stage = &self.file.stages[stage];
        match at.checked_sub(1) {
            None => (stage.original.clone(), stage.line as u32),
            Some(at) => (stage.instructions[at].original.clone(), stage.instructions[at].line as u32),
        }
    }

    async fn stages(self: Arc<Self>) -> Result<Arc<Draft>, Error> {
        let mut senders = BTreeMap::new();
        let mut receivers = BTreeMap::new();
        for &index in self.graph.stages.keys() {
            let (sender, receiver) = watch::channel(None);
            senders.insert(index, sender);
            receivers.insert(index, receiver);
        }
        let receivers = Arc::new(receivers);
        let mut tasks = JoinSet::new();
        for (index, sender) in senders {
            let (build, receivers) = (self.clone(), receivers.clone());
            tasks.spawn(async move {
                let draft = build.stage(index, receivers).await?;
                // Whoever waits is a task of the same set.
                let _ = sender.send(Some(Arc::new(draft)));
                Ok::<(), Error>(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(result) => result?,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => return Err(Error::Cancelled),
            }
        }
        receivers[&self.graph.target].borrow().clone().ok_or(Error::Cancelled)
    }

    async fn stage(
        self: &Arc<Self>,
        index: usize,
        others: Arc<BTreeMap<usize, watch::Receiver<Option<Arc<Draft>>>>>,
    ) -> Result<Draft, Error> {
        let draft = self.base(index, &others).await?;
        let scope = Scope::new(&self.globals);
        let mut work = StageWork { index, draft, scope, others };
        for (at, instruction) in self.file.stages[index].instructions.iter().enumerate() {
            step::perform(self, &mut work, at, instruction).await?;
        }
        Ok(work.draft)
    }

    async fn base(
        &self,
        index: usize,
        others: &BTreeMap<usize, watch::Receiver<Option<Arc<Draft>>>>,
    ) -> Result<Draft, Error> {
        match &self.graph.stages[&index] {
            Origin::Scratch => Ok(Draft::scratch(self.graph.platforms.get(&index).unwrap_or(&self.platform))),
            Origin::Stage(earlier) => Ok(wait_for(others, *earlier).await?.derive()),
            Origin::Image(name) => {
                let stage = &self.file.stages[index];
                let step = self.graph.steps[&(index, 0)];
                let shown = graph::step_name(&self.file, index, 0, &format!("FROM {name}"));
                let running = self.progress.running(step, &shown, stage.line as u32);
                let platform = self.graph.platforms.get(&index).or(self.request.platform.as_ref());
                let draft = self.image(name, platform, stage.base.span, &running).await;
                match draft {
                    Ok((draft, state)) => {
                        if !draft.config.config.on_build.is_empty() {
                            let message = format!("image {name} has ONBUILD triggers, which are not available yet");
                            return Err(Error::Unsupported(self.at(stage.base.span, message)));
                        }
                        if state == StepState::Cached {
                            self.cached.fetch_add(1, Ordering::Relaxed);
                        }
                        running.end(state).await;
                        Ok(draft)
                    }
                    Err(error) => {
                        running.end(StepState::Failed).await;
                        Err(error)
                    }
                }
            }
        }
    }

    /// An image as a place to start from or to copy from: of the store, which pulls it first where that is asked for.
    /// Tells whether it was there, or was pulled by this build, as the state of a step.
    pub async fn image(
        &self,
        name: &str,
        platform: Option<&Platform>,
        span: Span,
        running: &Running,
    ) -> Result<(Draft, StepState), Error> {
        let reference = Reference::parse(name)
            .map_err(|problem| self.mistake(span, format!("{name:?} is not an image reference: {problem}")))?;
        if self.request.pull == Pull::Always {
            self.pull(&reference, platform, span, running).await?;
        }
        let mut found = self.store.image(name, platform, &self.lease).await?;
        let is_pulled = match (&found, self.request.pull) {
            (Lookup::Found(_), pull) => pull == Pull::Always,
            (_, Pull::Missing) => {
                let pulled = self.pull(&reference, platform, span, running).await;
                if let (Err(Error::BaseImage { .. }), Lookup::OtherPlatform(problem)) = (&pulled, &found) {
                    // What is here says more than that a registry has nothing else.
                    return Err(self.no_base(name, span, problem.clone(), OTHER_PLATFORM));
                }
                pulled?;
                found = self.store.image(name, platform, &self.lease).await?;
                true
            }
            (_, Pull::Always | Pull::Never) => false,
        };
        match found {
            Lookup::Found(base) => {
                Ok((Draft::image(*base), if is_pulled { StepState::Done } else { StepState::Cached }))
            }
            Lookup::OtherPlatform(problem) => Err(self.no_base(name, span, problem, OTHER_PLATFORM)),
            Lookup::Absent => {
                let hint = "`ctl images` lists what is there; `ctl pull` fetches an image from its registry";
                Err(self.no_base(name, span, format!("image {name} is not in the store"), hint))
            }
        }
    }

    /// Has the store pull an image, once per build.
    async fn pull(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        span: Span,
        running: &Running,
    ) -> Result<(), Error> {
        let once = self.pulls.lock().await.entry((reference.to_string(), platform.cloned())).or_default().clone();
        let pulled = once.get_or_try_init(|| async {
            running.begin("").await;
            let credentials = match self.request.has_credentials {
                true => self.session.credentials(reference.domain()).await?,
                false => Credentials::default(),
            };
            let mut pulling = self.store.pull(&reference.to_string(), platform, credentials, &self.lease).await?;
            while let Some(line) = pulling.next().await? {
                let (step, chunk) = (running.step(), format!("{line}\n").into());
                self.progress.tell(Event::Output { step, is_stderr: false, chunk }).await;
            }
            Ok(())
        });
        pulled.await.map(|_| ()).map_err(|error| match error {
            Error::Peer { status, .. } if is_no_image(&status) => {
                let name = reference.familiar();
                let message = format!("image {name} is not in the store, and cannot be pulled: {}", status.message());
                self.no_base(&name, span, message, "is the name right? `ctl login` helps where the image is private")
            }
            Error::Peer { .. } => {
                let message = error.to_string();
                Error::StepRefused { diagnostic: self.at(span, message), source: Box::new(error) }
            }
            other => other,
        })
    }

    fn no_base(&self, name: &str, span: Span, message: String, hint: &str) -> Error {
        let diagnostic = self.file.diagnostic(span, message).with_suggestion(hint);
        Error::BaseImage { image: name.to_owned(), diagnostic: Box::new(diagnostic) }
    }
}

/// Does the registry say that there is no such image, at least for us? Docker Hub denies what does not exist.
fn is_no_image(status: &tonic::Status) -> bool {
    let reasons = [
        "FAULT_REGISTRY_NOT_FOUND",
        "FAULT_REGISTRY_UNAUTHORIZED",
        "FAULT_REGISTRY_DENIED",
        "FAULT_PLATFORM_NOT_FOUND",
    ];
    strata_rpc::reason_of(status).is_some_and(|reason| reasons.contains(&reason.as_str()))
}

/// The finished draft of another stage.
pub async fn wait_for(
    others: &BTreeMap<usize, watch::Receiver<Option<Arc<Draft>>>>,
    index: usize,
) -> Result<Arc<Draft>, Error> {
    let mut receiver = others.get(&index).ok_or(Error::Cancelled)?.clone();
    // The sender goes without a value only when its stage failed: that failure is what the build reports.
    let draft = receiver.wait_for(Option::is_some).await.map_err(|_| Error::Cancelled)?;
    draft.clone().ok_or(Error::Cancelled)
}
