//! `RUN --mount`: the options, expanded and checked, and what the mounts read of stages and images. What the container gets
//! is made of it only when the step must run.

use strata_dockerfile::mount::{self, MountError};
use strata_dockerfile::{Flag, Run, Span, Word};

use crate::error::Error;
use crate::graph::{self, Origin};
use crate::key::Key;
use crate::progress::Running;
use crate::solve::{Build, StageWork};
use crate::step::copy::absolute;

/// Where secrets are that name no target.
const SECRETS: &str = "/run/secrets/";

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
    /// A secret of the client.
    Secret(Secret),
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
        let mount = Mount { span: flag.value_span, kind: one(build, work, flag, running).await? };
        if let Some(target) = mount.target()
            && mounts.iter().any(|other| other.target() == Some(target))
        {
            return Err(build.mistake(flag.value_span, format!("two mounts have the target {target}")));
        }
        mounts.push(mount);
    }
    Ok(mounts)
}

async fn one(build: &Build, work: &StageWork, flag: &Flag<String>, running: &Running) -> Result<Kind, Error> {
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
        "bind" => bind(build, work, &options, flag, running).await,
        kind => {
            let message = format!("RUN --mount=type={kind} is not available yet");
            Err(Error::Unsupported(build.at(span, message)))
        }
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
    flag: &Flag<String>,
    running: &Running,
) -> Result<Kind, Error> {
    let span = flag.value_span;
    let target = target(build, work, options, span)?;
    let Some(from) = options.get("from").filter(|from| !from.is_empty()) else {
        let message = "RUN --mount=type=bind of the build context is not available yet";
        let diagnostic = build.file.diagnostic(span, message);
        let hint = "a stage that copies it can be mounted: FROM scratch AS context, COPY . /, and from=context";
        return Err(Error::Unsupported(Box::new(diagnostic.with_suggestion(hint))));
    };
    let origin = graph::source(&build.file, &build.contexts, &Word::new(from.to_owned(), span))?;
    let layers = build.layers_of(work, &origin, span, running).await?;
    let path = absolute("/", options.get("source").unwrap_or_default());
    let digest = shown(build, &origin, &layers, &path, span).await?;
    Ok(Kind::Bind { target, layers, path, is_writable: is_writable(options, false), digest })
}

/// Digest of what a path of layers shows. Of a whole tree it is that of the layers: nothing has to be read for it.
async fn shown(build: &Build, origin: &Origin, layers: &[String], path: &str, span: Span) -> Result<String, Error> {
    if path == "/" {
        return Ok(hex::encode(Key::root("layers").list(layers).finish()));
    }
    let pattern: String =
        path.chars().flat_map(|c| r"*?[\".contains(c).then_some('\\').into_iter().chain([c])).collect();
    let listed = build.store.list_tree(layers, &pattern, true).await?;
    if listed.is_empty() {
        let what = match origin {
            Origin::Image(name) => format!("image {name}"),
            Origin::Context(name) => format!("the context {name}"),
            Origin::Stage(index) => format!("stage {}", graph::title(&build.file.stages[*index])),
            Origin::Scratch => "scratch, which is empty".to_owned(),
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
            Kind::Bind { target, .. } | Kind::Tmpfs { target, .. } => Some(target),
            Kind::Secret(secret) => secret.target.as_deref(),
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
    fn what_is_not_said_of_access_is_the_default() {
        let root = |mode| Access { mode, owner: (0, 0) };
        assert_eq!(access(&options("type=secret,id=a"), 0o400), root(0o400));
        assert_eq!(access(&options("type=secret,id=a,mode=4440"), 0o400), root(0o440));
        let owned = access(&options("type=secret,id=a,uid=5,gid=6"), 0o400);
        assert_eq!(owned, Access { mode: 0o400, owner: (5, 6) });
    }
}
