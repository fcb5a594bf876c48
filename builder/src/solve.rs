//! One build: what was asked for, what every step works with, and the image at its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use strata_dockerfile::ignore::{IgnoreError, IgnoreFile};
use strata_dockerfile::{Dockerfile, Instruction, Kind, Span, remote};
use strata_types::Platform;
use tokio::sync::{Mutex, Semaphore, mpsc};

use crate::context::Blake3;
use crate::contexts::{Contexts, Local, Named, Root};
use crate::entitlements::{Entitlements, Grant};
use crate::error::Error;
use crate::export::{self, Exported};
use crate::flight::Flights;
use crate::graph::{self, Graph, Origin};
use crate::image::Draft;
use crate::origin::Resolutions;
use crate::peers::{Network, Runtime, StepLimits, Store, Ulimit};
use crate::progress::{Event, Progress, StepState};
use crate::remotes::Remotes;
use crate::scope::{Globals, Scope};
use crate::session::{Offers, Session};
use crate::source::Failure;
use crate::stages::{self, Stages, Wanted};
use crate::steps::{self, Place, Steps};
use crate::tally::Tally;

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
    pub context_root: Option<Root>,
    /// A context that is not of the client's files.
    pub remote_context: Option<RemoteContext>,
    /// The Dockerfile is a file of that.
    pub has_dockerfile_in_context: bool,
    /// URL of the Dockerfile; empty: its text is here.
    pub dockerfile_url: String,
    /// Contexts with names.
    pub contexts: Vec<(String, NamedSource)>,
    /// Stage to build; empty: the last.
    pub target: String,
    /// Build arguments.
    pub build_args: BTreeMap<String, String>,
    /// Take nothing from the cache.
    pub no_cache: bool,
    /// Names or numbers of stages that take nothing from the cache.
    pub no_cache_filter: Vec<String>,
    /// Make an image.
    pub makes_image: bool,
    /// Keep the files of the result for the client.
    pub keeps_tree: bool,
    /// Network of RUN steps that do not say.
    pub network: Network,
    /// Labels to add.
    pub labels: BTreeMap<String, String>,
    /// What the request lets steps do beyond the usual.
    pub allowed: Vec<Grant>,
    /// Names in /etc/hosts of steps beyond the usual ones, with their addresses.
    pub extra_hosts: Vec<(String, String)>,
    /// Size of /dev/shm of steps in bytes; 0: the usual.
    pub shm_size: u64,
    /// Limits of each process of steps.
    pub ulimits: Vec<Ulimit>,
    /// Limits of the containers of RUN steps, which decide about no key.
    pub step_limits: StepLimits,
    /// When images are pulled.
    pub pull: Pull,
    /// The client can be asked for credentials.
    pub has_credentials: bool,
    /// What else the client can be asked for.
    pub offers: Offers,
    /// The platform to build for. `None`: this machine's, and images that stages start from as they are.
    pub platform: Option<Platform>,
}

/// A context with a name, as it was asked for.
#[derive(Debug, Clone)]
pub enum NamedSource {
    /// A directory of the client.
    Local {
        /// Its root.
        root: Blake3,
        /// Text of its ignore file.
        ignore_file: String,
        /// Its name, for messages.
        ignore_file_name: String,
    },
    /// An image, by name or id.
    Image(String),
    /// A git repository, or a file of a web server.
    Url(String),
}

/// The context of a build that is no directory of the client.
#[derive(Debug, Clone)]
pub enum RemoteContext {
    /// A git repository, or a file of a web server.
    Url(String),
    /// An archive that the client holds.
    Archive {
        /// Its digest.
        blake3: Blake3,
        /// Its size in bytes.
        size: u64,
    },
}

impl Request {
    /// The contexts, their ignore files read.
    pub fn contexts(&self) -> Result<Contexts, Error> {
        let local = |name: &str, root: Root, text: &str, ignore_name: &str| {
            let invalid = |problem: IgnoreError| {
                let context = if name.is_empty() { String::new() } else { format!("of the context {name}: ") };
                Error::Invalid { field: "ignore_file", problem: format!("{context}{problem}") }
            };
            let ignore = IgnoreFile::parse(text).map_err(invalid)?;
            Ok(Local { name: name.to_owned(), root, ignore, ignore_name: ignore_name.to_owned() })
        };
        // Without a context, too, a mistake in its ignore file is one.
        let root = self.context_root.unwrap_or(Root::Follows);
        let main = local("", root, &self.ignore_file, &self.ignore_file_name)?;
        let mut named = Vec::with_capacity(self.contexts.len());
        for (name, source) in &self.contexts {
            let context = match source {
                NamedSource::Local { root, ignore_file, ignore_file_name } => {
                    Named::Local(Arc::new(local(name, Root::Known(*root), ignore_file, ignore_file_name)?))
                }
                NamedSource::Image(image) => Named::Image(image.clone()),
                NamedSource::Url(url) => {
                    let invalid = |problem: String| Error::Invalid { field: "contexts", problem };
                    let remote = remote::parse(url).map_err(|problem| invalid(problem.to_string()))?;
                    let remote = remote.ok_or_else(|| invalid(format!("{url:?} is no URL")))?;
                    Named::Remote { name: name.clone(), remote }
                }
            };
            named.push((name.clone(), context));
        }
        let platform = self.platform.clone().unwrap_or_else(Platform::host);
        Contexts::new(self.context_root.map(|_| main), named, &platform)
    }
}

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
    /// The result.
    pub exported: Exported,
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
    /// The contexts.
    pub contexts: Contexts,
    /// What steps may do beyond the usual.
    pub entitlements: Entitlements,
    /// What must be built.
    pub graph: Graph,
    /// Global variables.
    pub globals: Globals,
    /// The platform built for.
    pub platform: Platform,
    /// The client.
    pub session: Arc<Session>,
    /// What is fetched from elsewhere.
    pub remotes: Remotes,
    /// The store.
    pub store: Store,
    /// The runtime.
    pub runtime: Runtime,
    /// The runtime is on this host, and finds sockets of ours.
    pub has_local_runtime: bool,
    /// Lease that holds what is made until the image does.
    pub lease: String,
    /// Where progress goes.
    pub progress: Progress,
    /// Steps that work at once.
    pub slots: Semaphore,
    /// Images at registries that it has met.
    pub resolutions: Mutex<Resolutions>,
    /// The stages that are being built.
    pub stages: Stages,
    /// Steps at work in any build.
    pub flights: Arc<Flights>,
    /// Numbers of the steps.
    pub steps: Steps,
    /// Steps found in the cache.
    pub cached: AtomicU32,
    /// Steps of all builds, by what became of them.
    pub tally: Arc<Tally>,
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
    /// Triggers of what it starts from.
    pub triggers: Vec<Instruction>,
}

impl StageWork {
    /// A stage that starts.
    pub fn new(index: usize, draft: Draft, scope: Scope) -> Self {
        let mut scope = scope;
        scope.start(&draft.config.config);
        Self { index, draft, scope, triggers: Vec::new() }
    }
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

    /// A source that cannot be had, named at this place of the Dockerfile.
    pub fn unfetched(&self, url: &str, span: Span, failure: Failure) -> Error {
        Error::unfetched(url, failure).at(&self.file, span)
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

    /// Points what went wrong in a trigger at the FROM that brought it.
    pub fn blame_base(&self, stage: usize, trigger: &str, error: Error) -> Error {
        let span = self.file.stages[stage].base.span;
        error.point_at(|at| {
            let message = format!("{} (in the trigger `{trigger}` of this image)", at.message);
            let diagnostic = self.file.diagnostic(span, message);
            match &at.suggestion {
                Some(suggestion) => diagnostic.with_suggestion(suggestion.clone()),
                None => diagnostic,
            }
        })
    }

    /// Counts a step that has ended.
    pub fn count(&self, state: StepState) {
        self.tally.step(state);
        if state == StepState::Cached {
            self.cached.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Builds the target and makes the image.
    pub async fn run(self: Arc<Self>, wanted: mpsc::Receiver<Wanted>) -> Result<Built, Error> {
        self.announce();
        let target = stages::run(&self, wanted).await?;
        let config = target.draft.finish(&self.request.labels, self.request.platform.as_ref(), self.globals.epoch());
        let exported = export::run(&self, &config, &target.draft).await?;
        let cached = self.cached.load(Ordering::Relaxed);
        Ok(Built { exported, cached, steps: self.steps.count() })
    }

    fn announce(&self) {
        for warning in &self.file.warnings {
            let event = Event::Warning { text: warning.to_string(), line: warning.line as u32 };
            self.progress.tell(event);
        }
        let stages = self.graph.needed.iter().flat_map(|&index| &self.file.stages[index].instructions);
        let args = stages.filter_map(|i| if let Kind::Arg(args) = &i.kind { Some(args) } else { None }).flatten();
        let declared: Vec<&str> = args.chain(&self.file.global_args).map(|arg| arg.name.as_str()).collect();
        for name in self.globals.unused(&declared) {
            let text = format!("build argument {name:?} is declared by no ARG");
            self.progress.tell(Event::Warning { text, line: 0 });
        }
        for &index in &self.graph.needed {
            let (stage, plan) = (&self.file.stages[index], &self.graph.plans[index]);
            if matches!(plan.base, Origin::Image(_) | Origin::Context(_)) {
                self.announce_step(index, Place::From, &stage.original, stage.line);
            }
            if plan.is_replaced {
                continue;
            }
            for (at, instruction) in stage.instructions.iter().enumerate() {
                if graph::makes_layer(&instruction.kind) {
                    let (text, line) = (&instruction.original, instruction.line);
                    self.announce_step(index, Place::Instruction(at), text, line);
                }
            }
        }
    }

    fn announce_step(&self, stage: usize, place: Place, text: &str, line: usize) {
        let name = steps::name(&self.file, &self.graph.plans[stage].base, stage, (place, &[]), text);
        self.progress.waiting(self.steps.number(stage, place), &name, line as u32);
    }
}
