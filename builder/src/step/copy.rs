//! COPY, ADD and WORKDIR: what the sources select decides about the cache; only when the layer must be written are
//! contents fetched, and only those that the store lacks.

mod archive;
mod context;

use std::sync::Arc;

use strata_dockerfile::{Add, Copy, Flag, Heredoc, Instruction, Span, Word, meta};

use super::{Keyed, family, owner, through_cache};
use crate::context::{Blake3, Selection, select};
use crate::error::Error;
use crate::graph;
use crate::key::Key;
use crate::peers::{Entry, Placement, Tree};
use crate::progress::Running;
use crate::solve::{Build, StageWork};

/// `st_mode` of a directory.
const S_IFDIR: u32 = 0o040_000;
/// The type bits of `st_mode`.
const S_IFMT: u32 = 0o170_000;

/// What COPY and ADD have in common.
#[derive(Debug)]
pub struct Transfer<'a> {
    name: &'static str,
    sources: &'a [Word],
    heredocs: &'a [Heredoc],
    destination: &'a Word,
    chown: Option<&'a Flag<String>>,
    chmod: Option<&'a Flag<String>>,
    from: Option<&'a Flag<String>>,
    unpacks: bool,
}

impl<'a> From<&'a Copy> for Transfer<'a> {
    fn from(copy: &'a Copy) -> Self {
        Self {
            name: "COPY",
            sources: &copy.sources,
            heredocs: &copy.heredocs,
            destination: &copy.destination,
            chown: copy.chown.as_ref(),
            chmod: copy.chmod.as_ref(),
            from: copy.from.as_ref(),
            unpacks: false,
        }
    }
}

impl<'a> From<&'a Add> for Transfer<'a> {
    fn from(add: &'a Add) -> Self {
        Self {
            name: "ADD",
            sources: &add.sources,
            heredocs: &add.heredocs,
            destination: &add.destination,
            chown: add.chown.as_ref(),
            chmod: add.chmod.as_ref(),
            from: None,
            unpacks: true,
        }
    }
}

/// Where things go, and as whose.
#[derive(Debug, Clone)]
struct Target {
    /// Absolute, without "/" at its end.
    path: String,
    /// The destination can only be a directory.
    is_directory: bool,
    owner: (u32, u32),
    has_owner: bool,
    mode: Option<meta::Mode>,
}

/// What the sources turned out to be.
enum Found {
    Context(Selection, Vec<(String, String)>),
    Tree(Vec<String>, Vec<(String, u32)>),
}

/// Performs a COPY or ADD.
pub async fn perform(
    build: &Arc<Build>,
    work: &mut StageWork,
    instruction: &Instruction,
    transfer: Transfer<'_>,
    running: &Running,
) -> Result<(), Error> {
    let mut sources = Vec::with_capacity(transfer.sources.len());
    for word in transfer.sources {
        sources.push((work.scope.expand(&build.file, word)?, word.span));
    }
    let destination = work.scope.expand(&build.file, transfer.destination)?;
    if sources.len() + transfer.heredocs.len() > 1 && !names_directory(&destination) {
        let message = format!("{} of more than one source needs a destination that ends with /", transfer.name);
        return Err(build.mistake(transfer.destination.span, message));
    }
    let created_by = history(build, work, &transfer, &sources, &destination)?;
    let target = target(build, work, &transfer, &destination).await?;
    let (found, digest) = match transfer.from {
        Some(from) => from_tree(build, work, from, &sources, running).await?,
        None => from_context(build, work, &transfer, &sources).await?,
    };
    let mut target = target;
    if found.len() > 1 && !target.is_directory {
        target.is_directory = true;
    }
    let operation = Key::operation("copy")
        .part(transfer.name)
        .part(digest)
        .part(&target.path)
        .part([u8::from(target.is_directory), u8::from(target.has_owner)])
        .part(target.owner.0.to_le_bytes())
        .part(target.owner.1.to_le_bytes())
        .part(target.mode.as_ref().map_or(String::new(), |mode| format!("{mode:?}")))
        .finish();
    let keyed = Keyed { operation, family: family(build, work, instruction), created_by };
    through_cache(build, work, keyed, running, async |work, step, previous| match found {
        Found::Context(selection, heredocs) => {
            let previous = previous.unwrap_or_default();
            context::write(build, (work, step), &transfer, selection, heredocs, &target, previous).await
        }
        Found::Tree(layers, matches) => {
            let entries = matches.iter().map(|(path, mode)| copied(&layers, path, *mode, &target));
            let tree = Tree { parents: work.draft.layers.clone(), previous: String::new(), entries: entries.collect() };
            build.store.write_tree(tree, step, &build.lease).await
        }
    })
    .await
}

impl Found {
    fn len(&self) -> usize {
        match self {
            Found::Context(selection, heredocs) => selection.matches.len() + heredocs.len(),
            Found::Tree(_, matches) => matches.len(),
        }
    }
}

/// Performs a WORKDIR.
pub async fn working_directory(
    build: &Arc<Build>,
    work: &mut StageWork,
    instruction: &Instruction,
    word: &Word,
    running: &Running,
) -> Result<(), Error> {
    let text = work.scope.expand(&build.file, word)?;
    if text.is_empty() {
        return Err(build.mistake(word.span, "the working directory is empty after expansion"));
    }
    let path = absolute(&work.draft.working_directory(), &text);
    let created_by = format!("WORKDIR {path}");
    let user = work.draft.config.config.user.clone();
    work.draft.config.config.working_dir = path.clone();
    let owner = match user.as_str() {
        "" | "0" | "root" => (0, 0),
        user => owner::resolve(build, work, user, word.span).await?,
    };
    let operation =
        Key::operation("workdir").part(&path).part(owner.0.to_le_bytes()).part(owner.1.to_le_bytes()).finish();
    let keyed = Keyed { operation, family: family(build, work, instruction), created_by };
    through_cache(build, work, keyed, running, async |work, step, _| {
        let entry = Entry {
            destination: path,
            name_in_directory: Vec::new(),
            placement: Placement::Directory { explicit: false },
            mode: Some(0o755),
            owner: Some(owner),
        };
        let tree = Tree { parents: work.draft.layers.clone(), previous: String::new(), entries: vec![entry] };
        build.store.write_tree(tree, step, &build.lease).await
    })
    .await
}

fn word(flag: &Flag<String>) -> Word {
    Word::new(flag.value.clone(), flag.value_span)
}

fn names_directory(destination: &str) -> bool {
    destination.ends_with('/')
        || matches!(destination, "." | "..")
        || destination.ends_with("/.")
        || destination.ends_with("/..")
}

/// Joins and cleans a path; ".." stops at the root.
pub(super) fn absolute(working_directory: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{working_directory}/{path}") };
    let mut components: Vec<&str> = Vec::new();
    for component in joined.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop();
            }
            name => components.push(name),
        }
    }
    format!("/{}", components.join("/"))
}

async fn target(build: &Build, work: &StageWork, transfer: &Transfer<'_>, destination: &str) -> Result<Target, Error> {
    let mode = match transfer.chmod {
        None => None,
        Some(flag) => {
            let text = work.scope.expand(&build.file, &word(flag))?;
            Some(mode(build, &text, flag)?)
        }
    };
    let owner = match transfer.chown {
        None => (0, 0),
        Some(flag) => {
            let text = work.scope.expand(&build.file, &word(flag))?;
            owner::resolve(build, work, &text, flag.value_span).await?
        }
    };
    Ok(Target {
        path: absolute(&work.draft.working_directory(), destination),
        is_directory: names_directory(destination),
        owner,
        has_owner: transfer.chown.is_some(),
        mode,
    })
}

fn mode(build: &Build, text: &str, flag: &Flag<String>) -> Result<meta::Mode, Error> {
    meta::parse_chmod(text).map_err(|problem| build.mistake(flag.value_span, problem.to_string()))
}

impl Target {
    /// Permission bits of something that has `bits` in its source.
    fn bits(&self, bits: u32, is_directory: bool) -> u32 {
        self.mode.as_ref().map_or(bits, |mode| mode.apply(bits, is_directory))
    }
}

fn history(
    build: &Build,
    work: &StageWork,
    transfer: &Transfer<'_>,
    sources: &[(String, Span)],
    destination: &str,
) -> Result<String, Error> {
    let mut text = transfer.name.to_owned();
    for (name, flag) in [("chown", transfer.chown), ("chmod", transfer.chmod)] {
        if let Some(flag) = flag {
            text.push_str(&format!(" --{name}={}", work.scope.expand(&build.file, &word(flag))?));
        }
    }
    for (source, _) in sources {
        text.push_str(&format!(" {source}"));
    }
    for heredoc in transfer.heredocs {
        text.push_str(&format!(" <<{}", heredoc.name));
    }
    text.push_str(&format!(" {destination} # buildkit"));
    Ok(text)
}

async fn from_context(
    build: &Build,
    work: &StageWork,
    transfer: &Transfer<'_>,
    sources: &[(String, Span)],
) -> Result<(Found, Blake3), Error> {
    let mut selection = Selection::default();
    for (source, span) in sources {
        refuse_remote(build, transfer, source, *span)?;
        let Some(root) = &build.request.context_root else {
            return Err(build.mistake(*span, "this build has no context to copy from"));
        };
        let matches = select(root, source, &build.session).await?;
        let is_pattern = source.contains(['*', '?', '[']);
        if matches.is_empty() && !is_pattern {
            return Err(missing(build, source, *span));
        }
        selection.matches.extend(matches);
    }
    let mut heredocs = Vec::new();
    let mut key = Key::root("sources").part(selection.digest());
    for heredoc in transfer.heredocs {
        let text = work.scope.expand_document(&build.file, heredoc)?;
        key = key.part(&heredoc.name).part(&text);
        heredocs.push((heredoc.name.clone(), text));
    }
    if selection.matches.is_empty() && heredocs.is_empty() {
        // Every pattern matched nothing: Docker accepts one source so, but not all of them.
        let (source, span) = sources.first().map_or(("", transfer.destination.span), |(s, span)| (s.as_str(), *span));
        return Err(missing(build, source, span));
    }
    Ok((Found::Context(selection, heredocs), key.finish()))
}

fn refuse_remote(build: &Build, transfer: &Transfer<'_>, source: &str, span: Span) -> Result<(), Error> {
    match (graph::is_remote(source), transfer.unpacks) {
        (true, true) => Err(Error::Unsupported(build.at(span, "ADD of a URL is not available yet"))),
        (true, false) => Err(build.mistake(span, "COPY takes no URL; ADD does")),
        (false, _) => Ok(()),
    }
}

fn missing(build: &Build, source: &str, span: Span) -> Error {
    let path = absolute("/", source);
    let pattern = build.ignore.matching_pattern(path.trim_start_matches('/')).map(|pattern| pattern.text.clone());
    let diagnostic = match &pattern {
        Some(pattern) => build.file.diagnostic(
            span,
            format!(
                "{source:?} is excluded from the build context by {pattern:?} in {}",
                build.request.ignore_file_name
            ),
        ),
        None => build.file.diagnostic(span, format!("{source:?} is not in the build context")),
    };
    Error::Source { path: source.to_owned(), ignored_by: pattern, diagnostic: Box::new(diagnostic) }
}

async fn from_tree(
    build: &Build,
    work: &StageWork,
    from: &Flag<String>,
    sources: &[(String, Span)],
    running: &Running,
) -> Result<(Found, Blake3), Error> {
    let origin = graph::source(&build.file, &word(from))?;
    let layers = build.layers_of(work, &origin, from.value_span, running).await?;
    let mut matches = Vec::new();
    let mut key = Key::root("tree");
    for (source, span) in sources {
        let pattern = absolute("/", source);
        let depth = pattern.split('/').filter(|c| !c.is_empty()).count();
        let listed = build.store.list_tree(&layers, &pattern, true).await?;
        if listed.is_empty() && !source.contains(['*', '?', '[']) {
            let message = format!("{source:?} is not in what --from names");
            let diagnostic = Box::new(build.file.diagnostic(*span, message));
            return Err(Error::Source { path: source.clone(), ignored_by: None, diagnostic });
        }
        for entry in listed {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            let components: Vec<&str> = path.split('/').filter(|c| !c.is_empty()).collect();
            let is_top = components.len() == depth;
            let is_directory = entry.mode & S_IFMT == S_IFDIR;
            // Where the tree stands does not matter, what is below does; a file brings its name.
            let skip = if is_top && !is_directory { depth.saturating_sub(1) } else { depth };
            key = key.part(components[skip.min(components.len())..].join("/")).part(&entry.digest);
            if is_top {
                matches.push((path, entry.mode));
            }
        }
    }
    Ok((Found::Tree(layers, matches), key.finish()))
}

fn copied(layers: &[String], path: &str, mode: u32, target: &Target) -> Entry {
    let is_directory = mode & S_IFMT == S_IFDIR;
    let name = path.rsplit('/').next().unwrap_or_default();
    let (destination, name_in_directory) = place(target, name.as_bytes(), is_directory);
    Entry {
        destination,
        name_in_directory,
        placement: Placement::Copy { layers: layers.to_vec(), path: path.to_owned(), contents_only: is_directory },
        mode: target.mode.as_ref().map(|change| change.apply(mode & 0o7777, is_directory)),
        // What comes from another tree belongs to root unless --chown says otherwise, as from the context.
        owner: Some(target.owner),
    }
}

/// Destination of one match, and the name it gets when that is a directory.
fn place(target: &Target, name: &[u8], is_directory: bool) -> (String, Vec<u8>) {
    if is_directory {
        return (target.path.clone(), Vec::new());
    }
    match (target.is_directory, std::str::from_utf8(name)) {
        (true, Ok(name)) => (format!("{}/{name}", target.path.trim_end_matches('/')), Vec::new()),
        _ => (target.path.clone(), name.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_cleaned_below_the_root() {
        for (cwd, path, expected) in [
            ("/", "app", "/app"),
            ("/app", ".", "/app"),
            ("/app", "./x/../y/", "/app/y"),
            ("/app", "/z", "/z"),
            ("/", "../../etc", "/etc"),
        ] {
            assert_eq!(absolute(cwd, path), expected, "{cwd} {path}");
        }
    }
}
