//! `RUN --mount`: the options, expanded and checked, and what the mounts read of stages and images. What the container gets
//! is made of it only when the step must run.

use std::sync::Arc;

use strata_dockerfile::mount::{self, MountError};
use strata_dockerfile::{Flag, Run, Span, Word};

use crate::contexts::Local;
use crate::error::Error;
use crate::graph::{self, Origin};
use crate::key::Key;
use crate::peers::{CacheMount, Sharing};
use crate::progress::Running;
use crate::solve::{Build, StageWork};
use crate::step::copy::absolute;

/// Where secrets are that name no target.
const SECRETS: &str = "/run/secrets/";
/// Where sockets of agents are that name no target.
const AGENTS: &str = "/run/buildkit/ssh_agent.";
/// The build argument that keeps cache mounts apart.
const NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

/// One mount of a step.
#[derive(Debug)]
pub struct Mount {
    /// The flag.
    pub span: Span,
    /// What is mounted.
    pub kind: Kind,
}

/// What is mounted.
#[derive(Debug)]
pub enum Kind {
    /// A path of other layers.
    Bind {
        /// Absolute path in the container.
        target: String,
        /// The layers, bottom first.
        layers: Vec<String>,
        /// The path in them.
        path: String,
        /// It can be written to; what is written is thrown away.
        is_writable: bool,
        /// What it shows.
        digest: String,
    },
    /// Memory.
    Tmpfs {
        /// Absolute path in the container.
        target: String,
        /// Bytes at most; 0: half of the memory.
        size: u64,
    },
    /// A directory that is kept.
    Cache {
        /// Absolute path in the container.
        target: String,
        /// It cannot be written to.
        is_read_only: bool,
        /// Which one.
        wanted: CacheMount,
    },
    /// A secret of the client.
    Secret(Secret),
    /// An agent of ssh of the client.
    Agent(Agent),
}

/// An agent of ssh that a step may use.
#[derive(Debug)]
pub struct Agent {
    /// Its id.
    pub id: String,
    /// Its socket in the container.
    pub target: String,
    /// The step does not run without it.
    pub is_required: bool,
    /// Permission bits and owner of the socket.
    pub access: Access,
}

/// A secret that a step may read.
#[derive(Debug)]
pub struct Secret {
    /// Its id.
    pub id: String,
    /// The file that holds it.
    pub target: Option<String>,
    /// The variable that holds it.
    pub env: Option<String>,
    /// The step does not run without it.
    pub is_required: bool,
    /// Permission bits and owner of the file.
    pub access: Access,
}

/// Permission bits and owner of what is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
}

/// A failure of expansion or of the options.
enum Wrong {
    Expansion(Error),
    Options(MountError),
}

impl From<MountError> for Wrong {
    fn from(error: MountError) -> Self {
        Self::Options(error)
    }
}

/// Reads the mounts of a step, in order.
pub async fn read(build: &Build, work: &StageWork, run: &Run, running: &Running) -> Result<Vec<Mount>, Error> {
    let mut mounts: Vec<Mount> = Vec::new();
    for flag in &run.mounts {
        let agents = mounts.iter().filter(|mount| matches!(mount.kind, Kind::Agent(_))).count();
        let mount = Mount { span: flag.value_span, kind: one(build, work, flag, agents, running).await? };
        if let Some(target) = mount.target()
            && mounts.iter().any(|other| other.target() == Some(target))
        {
            return Err(build.mistake(flag.value_span, format!("two mounts have the target {target}")));
        }
        mounts.push(mount);
    }
    Ok(mounts)
}

async fn one(
    build: &Build,
    work: &StageWork,
    flag: &Flag<String>,
    agents: usize,
    running: &Running,
) -> Result<Kind, Error> {
    let span = flag.value_span;
    let expand =
        |value: &str| work.scope.expand(&build.file, &Word::new(value.to_owned(), span)).map_err(Wrong::Expansion);
    let options = mount::parse(&flag.value, expand).map_err(|wrong| match wrong {
        Wrong::Expansion(error) => error,
        Wrong::Options(problem) => {
            let diagnostic = build.file.diagnostic(span, problem.to_string());
            let hint = problem.suggestion().map(|near| format!("did you mean {near:?}?"));
            Error::Dockerfile(Box::new(match hint.or(problem.advice().map(str::to_owned)) {
                Some(hint) => diagnostic.with_suggestion(hint),
                None => diagnostic,
            }))
        }
    })?;
    match options.kind {
        "tmpfs" => {
            let target = target(build, work, &options, span)?;
            Ok(Kind::Tmpfs { target, size: options.get("size").and_then(mount::parse_size).unwrap_or(0) })
        }
        "secret" => Ok(Kind::Secret(secret(&options))),
        "ssh" => Ok(Kind::Agent(agent(&options, agents))),
        "cache" => cache(build, work, &options, span, running).await,
        _ => bind(build, work, &options, span, running).await,
    }
}

/// The target, absolute; a relative one counts from the working directory.
fn target(build: &Build, work: &StageWork, options: &mount::Mount, span: Span) -> Result<String, Error> {
    let target = absolute(&work.draft.working_directory(), options.get("target").unwrap_or_default());
    match target.as_str() {
        "/" => Err(build.mistake(span, "the root itself cannot be mounted over: target=/")),
        _ => Ok(target),
    }
}

fn secret(options: &mount::Mount) -> Secret {
    let given = |key| options.get(key).filter(|value| !value.is_empty()).map(str::to_owned);
    let target = given("target").map(|target| absolute("/", &target));
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    // The parser has seen to it that one of them is there.
    let id = given("source").or(given("id")).or_else(|| target.as_deref().map(last)).unwrap_or_default();
    let env = given("env");
    let target = match (&target, &env) {
        (None, None) => Some(format!("{SECRETS}{}", last(&id))),
        _ => target,
    };
    Secret { id, target, env, is_required: is_true(options, "required"), access: access(options, 0o400) }
}

fn agent(options: &mount::Mount, number: usize) -> Agent {
    let given = |key| options.get(key).filter(|value| !value.is_empty());
    Agent {
        id: given("id").unwrap_or("default").to_owned(),
        target: given("target").map_or_else(|| format!("{AGENTS}{number}"), |target| absolute("/", target)),
        is_required: is_true(options, "required"),
        access: access(options, 0o600),
    }
}

fn is_true(options: &mount::Mount, key: &str) -> bool {
    options.get(key).and_then(mount::parse_bool).unwrap_or(false)
}

fn access(options: &mount::Mount, mode: u32) -> Access {
    let id = |key| options.get(key).and_then(|text| text.parse().ok()).unwrap_or(0);
    let mode = options.get("mode").and_then(|text| u32::from_str_radix(text, 8).ok()).unwrap_or(mode);
    Access { mode: mode & 0o777, owner: (id("uid"), id("gid")) }
}

/// Of `ro` and `rw` the last one counts.
fn is_writable(options: &mount::Mount, otherwise: bool) -> bool {
    let last = options.options.iter().rev().find(|(key, _)| matches!(*key, "ro" | "rw"));
    last.map_or(otherwise, |(key, value)| mount::parse_bool(value).unwrap_or(true) == (*key == "rw"))
}

async fn bind(
    build: &Build,
    work: &StageWork,
    options: &mount::Mount,
    span: Span,
    running: &Running,
) -> Result<Kind, Error> {
    let target = target(build, work, options, span)?;
    let path = absolute("/", options.get("source").unwrap_or_default());
    let is_writable = is_writable(options, false);
    let from = options.get("from").filter(|from| !from.is_empty());
    let (layers, origin) = match from {
        None => match (&build.contexts.fetched, &build.contexts.main) {
            (Some(fetched), _) => (vec![fetched.tree.layer.clone()], None),
            (None, Some(local)) => return of_context(build, local, target, &path, is_writable, span).await,
            (None, None) => return Err(build.mistake(span, "this build has no context to mount")),
        },
        Some(from) => {
            let origin = graph::source(&build.file, &build.contexts, &Word::new(from.to_owned(), span))?;
            if let Origin::Context(name) = &origin
                && let Some(local) = build.contexts.local(name)
            {
                return of_context(build, local, target, &path, is_writable, span).await;
            }
            (build.layers_of(work, &origin, span, running).await?, Some(origin))
        }
    };
    let digest = shown(build, origin.as_ref(), &layers, &path, span).await?;
    Ok(Kind::Bind { target, layers, path, is_writable, digest })
}

/// A mount of what a path of a local context names: of a directory only what is in it is brought to the store.
async fn of_context(
    build: &Build,
    local: &Arc<Local>,
    target: String,
    path: &str,
    is_writable: bool,
    span: Span,
) -> Result<Kind, Error> {
    let Some(found) = build.context_layer(local, &literal(path)).await? else {
        let diagnostic = Box::new(build.file.diagnostic(span, format!("{path:?} is not in {}", local.title())));
        return Err(Error::Source { path: path.to_owned(), ignored_by: None, diagnostic });
    };
    let digest = hex::encode(found.digest);
    Ok(Kind::Bind { target, layers: vec![found.layer], path: found.path, is_writable, digest })
}

/// A pattern that matches just this path.
fn literal(path: &str) -> String {
    path.chars().flat_map(|c| r"*?[\".contains(c).then_some('\\').into_iter().chain([c])).collect()
}

async fn cache(
    build: &Build,
    work: &StageWork,
    options: &mount::Mount,
    span: Span,
    running: &Running,
) -> Result<Kind, Error> {
    let given = |key| options.get(key).filter(|value| !value.is_empty());
    let target = target(build, work, options, span)?;
    let id = given("id").map_or_else(|| absolute("/", options.get("target").unwrap_or_default()), str::to_owned);
    let id = match build.request.build_args.get(NAMESPACE).map_or("", String::as_str) {
        "" => id,
        namespace => format!("{namespace}/{id}"),
    };
    let path = absolute("/", options.get("source").unwrap_or_default());
    let layers = match given("from") {
        Some(from) => {
            let origin = graph::source(&build.file, &build.contexts, &Word::new(from.to_owned(), span))?;
            let layers = build.layers_of(work, &origin, span, running).await?;
            Some((shown(build, Some(&origin), &layers, &path, span).await?, layers))
        }
        None if path != "/" => {
            let diagnostic = build.file.diagnostic(span, "the source of a cache mount needs from");
            let hint = "from=STAGE names what an empty cache is filled with, and source a directory in it";
            return Err(Error::Dockerfile(Box::new(diagnostic.with_suggestion(hint))));
        }
        None => None,
    };
    let id_of = |key| given(key).and_then(|text| text.parse().ok());
    let mode = given("mode").and_then(|text| u32::from_str_radix(text, 8).ok()).map(|mode| mode & 0o7777);
    let (uid, gid): (Option<u32>, Option<u32>) = (id_of("uid"), id_of("gid"));
    let sharing = match given("sharing").map(str::to_lowercase).as_deref() {
        Some("private") => Sharing::Private,
        Some("locked") => Sharing::Locked,
        _ => Sharing::Shared,
    };
    let base = base(layers.as_ref().map(|(digest, _)| digest.as_str()), mode, uid, gid);
    let layers = layers.map(|(_, layers)| layers).unwrap_or_default();
    let wanted = CacheMount { id, base, layers, path, mode, uid, gid, sharing };
    Ok(Kind::Cache { target, is_read_only: !is_writable(options, true), wanted })
}

/// What a cache mount begins with, as a digest: with something else it is another one. Empty: with nothing.
fn base(content: Option<&str>, mode: Option<u32>, uid: Option<u32>, gid: Option<u32>) -> String {
    if content.is_none() && mode.is_none() && uid.is_none() && gid.is_none() {
        return String::new();
    }
    let number = |number: Option<u32>| number.map(u32::to_le_bytes);
    hex::encode(Key::root("base").list(content).list(number(mode)).list(number(uid)).list(number(gid)).finish())
}

/// Digest of what a path of layers shows. Of a whole tree it is that of the layers: nothing has to be read for it.
async fn shown(
    build: &Build,
    origin: Option<&Origin>,
    layers: &[String],
    path: &str,
    span: Span,
) -> Result<String, Error> {
    if path == "/" {
        return Ok(hex::encode(Key::root("layers").list(layers).finish()));
    }
    let listed = build.store.list_tree(layers, &literal(path), true).await?;
    if listed.is_empty() {
        let what = match origin {
            None => "the build context".to_owned(),
            Some(Origin::Image(name)) => format!("image {name}"),
            Some(Origin::Context(name)) => format!("the context {name}"),
            Some(Origin::Stage(index)) => format!("stage {}", graph::title(&build.file.stages[*index])),
            Some(Origin::Scratch) => "scratch, which is empty".to_owned(),
        };
        let diagnostic = Box::new(build.file.diagnostic(span, format!("{path:?} is not in {what}")));
        return Err(Error::Source { path: path.to_owned(), ignored_by: None, diagnostic });
    }
    let below = |listed: &[u8]| listed.get(path.len()..).unwrap_or_default().to_vec();
    let key = listed.iter().fold(Key::root("shown"), |key, one| key.part(below(&one.path)).part(&one.digest));
    Ok(hex::encode(key.finish()))
}

impl Mount {
    /// The path in the container, if there is one.
    pub fn target(&self) -> Option<&str> {
        match &self.kind {
            Kind::Bind { target, .. } | Kind::Tmpfs { target, .. } | Kind::Cache { target, .. } => Some(target),
            Kind::Secret(secret) => secret.target.as_deref(),
            Kind::Agent(agent) => Some(&agent.target),
        }
    }

    /// The socket of an agent, if it is one: where the variable of ssh points.
    pub fn socket(&self) -> Option<&str> {
        match &self.kind {
            Kind::Agent(agent) => Some(&agent.target),
            _ => None,
        }
    }

    /// Adds what the step gets to its key: of secrets where they are, never what they are.
    pub fn add_to(&self, key: Key) -> Key {
        let access = |key: Key, access: &Access| {
            key.part(access.mode.to_le_bytes()).part(access.owner.0.to_le_bytes()).part(access.owner.1.to_le_bytes())
        };
        match &self.kind {
            Kind::Bind { target, is_writable, digest, .. } => {
                key.part("bind").part(target).part([u8::from(*is_writable)]).part(digest)
            }
            Kind::Tmpfs { target, size } => key.part("tmpfs").part(target).part(size.to_le_bytes()),
            Kind::Cache { target, is_read_only, wanted } => {
                let key = key.part("cache").part(target).part([u8::from(*is_read_only), wanted.sharing as u8]);
                key.part(&wanted.id).part(&wanted.base)
            }
            Kind::Agent(agent) => access(key.part("ssh").part(&agent.id).part(&agent.target), &agent.access),
            Kind::Secret(secret) => {
                let key = key.part("secret").part(&secret.id).list(&secret.target).list(&secret.env);
                access(key, &secret.access)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> mount::Mount {
        mount::parse::<MountError>(text, |value| Ok(value.to_owned())).expect(text)
    }

    #[test]
    fn a_secret_is_a_file_unless_it_is_a_variable() {
        for (text, id, target, env) in [
            ("type=secret,id=a", "a", Some("/run/secrets/a"), None),
            ("type=secret,id=dir/a", "dir/a", Some("/run/secrets/a"), None),
            ("type=secret,target=/root/.netrc", ".netrc", Some("/root/.netrc"), None),
            ("type=secret,id=a,target=etc/../x", "a", Some("/x"), None),
            ("type=secret,id=a,env=A", "a", None, Some("A")),
            ("type=secret,id=a,env=A,target=/x", "a", Some("/x"), Some("A")),
        ] {
            let secret = secret(&options(text));
            let found = (secret.id.as_str(), secret.target.as_deref(), secret.env.as_deref());
            assert_eq!(found, (id, target, env), "{text}");
        }
    }

    #[test]
    fn the_last_of_ro_and_rw_counts() {
        for (text, expected) in [
            ("target=/x", false),
            ("target=/x,rw", true),
            ("target=/x,rw,ro", false),
            ("target=/x,readwrite=false", false),
            ("target=/x,ro=false", true),
            ("target=/x,ro,rw", true),
        ] {
            assert_eq!(is_writable(&options(text), false), expected, "{text}");
        }
    }

    #[test]
    fn sockets_of_agents_are_numbered() {
        for (text, number, id, target) in [
            ("type=ssh", 0, "default", "/run/buildkit/ssh_agent.0"),
            ("type=ssh,id=deploy", 1, "deploy", "/run/buildkit/ssh_agent.1"),
            ("type=ssh,target=/agent", 1, "default", "/agent"),
        ] {
            let agent = agent(&options(text), number);
            assert_eq!((agent.id.as_str(), agent.target.as_str()), (id, target), "{text}");
            assert_eq!(agent.access, Access { mode: 0o600, owner: (0, 0) });
        }
    }

    #[test]
    fn a_cache_that_begins_otherwise_is_another_one() {
        let bases = [
            base(None, None, None, None),
            base(None, Some(0o755), None, None),
            base(None, None, Some(5), None),
            base(None, None, None, Some(5)),
            base(Some("digest"), None, None, None),
            base(Some("other"), None, None, None),
        ];

        assert!(bases[0].is_empty());
        assert_eq!(bases.iter().collect::<std::collections::BTreeSet<_>>().len(), bases.len());
    }

    #[test]
    fn what_is_not_said_of_access_is_the_default() {
        let root = |mode| Access { mode, owner: (0, 0) };
        assert_eq!(access(&options("type=secret,id=a"), 0o400), root(0o400));
        assert_eq!(access(&options("type=secret,id=a,mode=4440"), 0o400), root(0o440));
        let owned = access(&options("type=secret,id=a,uid=5,gid=6"), 0o400);
        assert_eq!(owned, Access { mode: 0o400, owner: (5, 6) });
    }
}
