//! What the sources of a COPY or ADD are: things of a context, of layers, or contents of the store; and the digest of all that
//! for the cache.

use std::sync::Arc;

use jiff::Timestamp;
use strata_dockerfile::ignore::IgnoreFile;
use strata_dockerfile::{Span, glob, remote};

use super::filter::{Below, Filter};
use super::missing::missing;
use super::remote::Asked;
use super::transfer::{Transfer, absolute, word};
use crate::context::{Blake3, Item, Node, Selected, Walk, select};
use crate::contexts::Local;
use crate::error::Error;
use crate::graph::{self, Origin};
use crate::image::Draft;
use crate::key::Key;
use crate::peers::Listed;
use crate::progress::Running;
use crate::solve::{Build, StageWork};
use crate::source::File;

/// `st_mode` of a directory.
const S_IFDIR: u32 = 0o040_000;
/// `st_mode` of a regular file.
const S_IFREG: u32 = 0o100_000;
/// `st_mode` of a symbolic link.
const S_IFLNK: u32 = 0o120_000;
/// The type bits of `st_mode`.
const S_IFMT: u32 = 0o170_000;

/// Where sources are looked for.
#[derive(Debug, Clone)]
pub enum Place {
    /// A context of the client.
    Context(Arc<Local>),
    /// Layers of the store, bottom first.
    Layers(Arc<[String]>),
}

/// One thing to copy.
#[derive(Debug)]
pub enum Found {
    /// Something of a context.
    Context {
        /// Which context.
        local: Arc<Local>,
        /// What.
        selected: Selected,
    },
    /// Something of layers.
    Tree {
        /// The layers, bottom first.
        layers: Arc<[String]>,
        /// It, as the source names it.
        top: Listed,
        /// What is below it, parents first.
        below: Vec<ListedBelow>,
    },
    /// A content of the builder or of the store with a name.
    Content(Named),
}

/// A file that is not in a tree.
#[derive(Debug)]
pub struct Named {
    /// Its name, where the destination is a directory.
    pub name: String,
    /// Where its bytes are.
    pub bytes: Bytes,
    /// Permission bits.
    pub mode: u32,
    /// Time of last change, in nanoseconds since 1970. `None`: now.
    pub modified: Option<i64>,
    /// It may be an archive that is unpacked.
    pub unpacks: bool,
}

/// The bytes of a file.
#[derive(Debug)]
pub enum Bytes {
    /// Of a heredoc.
    Own(Vec<u8>),
    /// Of the store.
    Stored {
        /// Digest of the content.
        blake3: Blake3,
        /// Its size in bytes.
        size: u64,
    },
    /// Of a web server.
    Remote {
        /// What it has.
        file: Arc<File>,
        /// The source, as it is written.
        url: String,
        /// Where that is.
        span: Span,
    },
}

/// Something below a directory of layers.
#[derive(Debug)]
pub struct ListedBelow {
    /// Its path below the directory.
    pub path: Vec<u8>,
    /// It.
    pub listed: Listed,
    /// It comes along only for what is in it.
    pub is_implied: bool,
}

impl Listed {
    /// It is a directory.
    pub fn is_directory(&self) -> bool {
        self.mode & S_IFMT == S_IFDIR
    }

    /// It is a regular file.
    pub fn is_file(&self) -> bool {
        self.mode & S_IFMT == S_IFREG
    }

    /// It is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.mode & S_IFMT == S_IFLNK
    }
}

impl Below for ListedBelow {
    fn path(&self) -> &[u8] {
        &self.path
    }

    fn is_directory(&self) -> bool {
        self.listed.is_directory()
    }

    fn imply(&mut self) {
        self.is_implied = true;
    }
}

impl Below for Item {
    fn path(&self) -> &[u8] {
        &self.path
    }

    fn is_directory(&self) -> bool {
        matches!(self.node, Node::Directory(_))
    }

    fn imply(&mut self) {
        self.is_implied = true;
    }
}

/// What all sources are, each with what is taken of it.
#[derive(Debug, Default)]
pub struct Sources {
    /// In the order in which they are copied.
    pub found: Vec<(Found, Filter)>,
    /// Digest of names, modes and contents.
    digest: Vec<Blake3>,
}

impl Sources {
    /// A digest of all that is copied.
    pub fn digest(&self) -> Blake3 {
        Key::root("sources").list(&self.digest).finish()
    }

    /// Adds a file that is not in a tree; `digest` stands for its bytes.
    pub fn push_content(&mut self, named: Named, digest: impl AsRef<[u8]>) {
        let key = Key::root("content").part(&named.name).part(named.mode.to_le_bytes()).part(digest);
        self.digest.push(key.part([u8::from(named.unpacks)]).finish());
        self.found.push((Found::Content(named), Filter::default()));
    }

    /// Adds what a source names in layers.
    pub async fn push_tree(
        &mut self,
        build: &Build,
        layers: &Arc<[String]>,
        source: &str,
        filter: &Filter,
    ) -> Result<usize, Error> {
        let pattern = absolute("/", source);
        let listed = build.store.list_tree(layers, &pattern, true).await?;
        let depth = pattern.split('/').filter(|c| !c.is_empty()).count();
        let mut count = 0;
        for (top, below) in grouped(listed, depth) {
            if top.is_symlink() {
                continue;
            }
            let below = filter.apply(below);
            let below = if is_single(filter, &top) && !filter.takes(name_of(&top)) { continue } else { below };
            let mut key = Key::root("tree").part([u8::from(top.is_directory())]);
            // Where the tree stands does not matter, what is below does; a file brings its name.
            if !top.is_directory() {
                key = key.part(name_of(&top)).part(&top.digest);
            }
            for one in &below {
                key = key.part(&one.path).part(&one.listed.digest).part([u8::from(one.is_implied)]);
            }
            self.digest.push(key.finish());
            self.found.push((Found::Tree { layers: Arc::clone(layers), top, below }, filter.clone()));
            count += 1;
        }
        Ok(count)
    }

    /// Turns files of layers that are archives into contents that are unpacked, from this place among the sources on.
    async fn find_archives(&mut self, build: &Build, from: usize, span: Span) -> Result<(), Error> {
        for (found, _) in &mut self.found[from..] {
            let Found::Tree { layers, top, .. } = found else { continue };
            if !top.is_file() {
                continue;
            }
            let archive = build.remotes.archive_in(layers, &top.path).await;
            let archive = archive.map_err(|failure| build.unfetched("the context", span, failure))?;
            if let Some((blake3, size)) = archive {
                let (name, mode) = (String::from_utf8_lossy(name_of(top)).into_owned(), top.mode & 0o7777);
                let (bytes, modified) = (Bytes::Stored { blake3, size }, top.modified);
                *found = Found::Content(Named { name, bytes, mode, modified, unpacks: true });
            }
        }
        Ok(())
    }

    /// A time that all files of a source have is a part of what it is.
    pub fn push_time(&mut self, time: Timestamp) {
        self.digest.push(Key::root("time").part(time.as_second().to_le_bytes()).finish());
    }

    /// Adds what a source names in a context.
    async fn push_context(
        &mut self,
        build: &Build,
        local: &Arc<Local>,
        source: &str,
        filter: &Filter,
    ) -> Result<usize, Error> {
        let mut count = 0;
        let root = build.session.root(local).await?;
        for selected in select(&root, source, &build.session).await? {
            if matches!(selected.node, Node::Symlink(_)) {
                continue;
            }
            let is_directory = matches!(selected.node, Node::Directory(_));
            if !is_directory && (filter.include.is_some() || !filter.takes(&selected.name)) {
                continue;
            }
            self.digest.push(context_digest(build, &selected, filter).await?);
            self.found.push((Found::Context { local: Arc::clone(local), selected }, filter.clone()));
            count += 1;
        }
        Ok(count)
    }
}

/// A file is what the source names itself.
fn is_single(filter: &Filter, top: &Listed) -> bool {
    !top.is_directory() && !filter.is_open()
}

fn name_of(listed: &Listed) -> &[u8] {
    listed.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// Takes a listing apart: what matched, and what is below each.
fn grouped(listed: Vec<Listed>, depth: usize) -> Vec<(Listed, Vec<ListedBelow>)> {
    let depth_of = |path: &[u8]| path.split(|byte| *byte == b'/').filter(|c| !c.is_empty()).count();
    let (tops, rest): (Vec<Listed>, Vec<Listed>) = listed.into_iter().partition(|one| depth_of(&one.path) == depth);
    let mut groups: Vec<(Listed, Vec<ListedBelow>)> = tops.into_iter().map(|top| (top, Vec::new())).collect();
    let mut current = 0;
    for listed in rest {
        let is_in = |top: &Listed| match top.path.as_slice() {
            b"/" => true,
            path => listed.path.strip_prefix(path).is_some_and(|rest| rest.starts_with(b"/")),
        };
        if !groups.get(current).is_some_and(|(top, _)| is_in(top)) {
            match groups.iter().position(|(top, _)| is_in(top)) {
                Some(at) => current = at,
                None => continue,
            }
        }
        let (top, below) = &mut groups[current];
        let start = if top.path == b"/" { 1 } else { top.path.len() + 1 };
        below.push(ListedBelow { path: listed.path[start..].to_vec(), listed, is_implied: false });
    }
    groups
}

/// A digest of a whole thing of a context.
pub(super) async fn digest(build: &Build, selected: &Selected) -> Result<Blake3, Error> {
    context_digest(build, selected, &Filter::default()).await
}

/// A digest of what is copied of a thing of a context. Where a directory stands does not matter: what it holds is placed, not
/// itself.
async fn context_digest(build: &Build, selected: &Selected, filter: &Filter) -> Result<Blake3, Error> {
    let Node::Directory(digest) = &selected.node else {
        let mut key = Key::root("file").part(&selected.name);
        key = node_key(key, selected.mode, &selected.node);
        return Ok(attributes_key(key, &selected.attributes).finish());
    };
    if filter.is_open() {
        return Ok(Key::root("directory").part(digest).finish());
    }
    let mut walk = Walk::new(digest, &[], None, |path: &[u8]| filter.enters(path));
    let mut parts = filter.in_parts();
    let mut key = Key::root("part of a directory");
    while let Some(items) = walk.next(&build.session).await? {
        for item in parts.apply(items) {
            key = node_key(key.part(&item.path).part([u8::from(item.is_implied)]), item.mode, &item.node);
            key = attributes_key(key, &item.attributes);
        }
    }
    Ok(key.finish())
}

fn node_key(key: Key, mode: u32, node: &Node) -> Key {
    match node {
        Node::Directory(_) => key.part("d").part(mode.to_le_bytes()),
        Node::File { blake3, .. } => key.part("f").part(mode.to_le_bytes()).part(blake3),
        Node::Symlink(target) => key.part("l").part(target),
        Node::Special(special) => {
            let numbers = [special.kind, special.major, special.minor].map(u32::to_le_bytes).concat();
            key.part("s").part(mode.to_le_bytes()).part(numbers)
        }
    }
}

fn attributes_key(key: Key, attributes: &[(String, Vec<u8>)]) -> Key {
    key.list(attributes.iter().map(|(name, _)| name)).list(attributes.iter().map(|(_, value)| value))
}

/// Finds everything that an instruction copies. `read` is the stage or image that `--from` names.
pub async fn all(
    build: &Build,
    work: &StageWork,
    transfer: &Transfer<'_>,
    read: Option<&Draft>,
    words: &[(String, Span)],
    destination: &str,
    running: &Running,
) -> Result<Sources, Error> {
    let mut sources = Sources::default();
    let checksum = super::remote::checksum(build, work, transfer, words)?;
    let exclude = transfer.excludes(build)?;
    let place = match words.iter().find(|(source, _)| !remote::is_remote(source)) {
        Some((_, span)) => Some(place(build, work, transfer, (read, *span), running).await?),
        None => None,
    };
    for (source, span) in words {
        if remote::is_remote(source) {
            let (source, span, checksum, exclude) = (source.as_str(), *span, checksum.clone(), &exclude);
            let asked = Asked { transfer, source, span, checksum, exclude };
            super::remote::find(build, asked, destination, &mut sources, running).await?;
            continue;
        }
        // Every source that is not remote has it.
        let Some(place) = &place else { continue };
        one(build, transfer, place, (source, *span), &exclude, &mut sources).await?;
    }
    for heredoc in transfer.heredocs {
        let text = work.scope.expand_document(&build.file, heredoc)?;
        let (name, bytes) = (heredoc.name.clone(), text.into_bytes());
        let digest = *blake3::hash(&bytes).as_bytes();
        let named = Named { name, bytes: Bytes::Own(bytes), mode: 0o644, modified: None, unpacks: false };
        sources.push_content(named, digest);
    }
    let is_nothing = sources.found.is_empty() && !transfer.has_parents;
    if let (true, Some(place), Some((source, span))) = (is_nothing, &place, words.first()) {
        // Every pattern matched nothing: Docker accepts some that do, but not all of them.
        return Err(missing(build, place, transfer.from.is_some(), (source, *span)).await);
    }
    Ok(sources)
}

async fn one(
    build: &Build,
    transfer: &Transfer<'_>,
    place: &Place,
    (source, span): (&str, Span),
    exclude: &IgnoreFile,
    sources: &mut Sources,
) -> Result<(), Error> {
    let (top, filter) = match transfer.has_parents {
        false => (source.to_owned(), Filter { include: None, exclude: exclude.clone() }),
        true => {
            // What stands before a "./" is left out of the destination.
            let (top, pattern) = source.split_once("/./").unwrap_or(("/", source));
            let pattern = absolute("/", pattern);
            let include = IgnoreFile::from_patterns([pattern.trim_start_matches('/')]);
            let include = include.map_err(|problem| build.mistake(span, problem.to_string()))?;
            // The whole of a context is no pattern.
            let include = (pattern != "/").then_some(include);
            (top.to_owned(), Filter { include, exclude: exclude.clone() })
        }
    };
    let before = sources.found.len();
    let count = match place {
        Place::Context(local) => sources.push_context(build, local, &top, &filter).await?,
        Place::Layers(layers) => {
            let count = sources.push_tree(build, layers, &top, &filter).await?;
            // Archives of a context that is elsewhere are unpacked as those of the client's.
            if transfer.is_add && transfer.unpack != Some(false) {
                sources.find_archives(build, before, span).await?;
            }
            count
        }
    };
    if glob::has_wildcards(source) {
        return Ok(());
    }
    let is_there = match filter.include {
        None => count > 0,
        Some(_) => {
            let mut is_there = false;
            for (found, filter) in &sources.found[before..] {
                is_there |= has_any(build, found, filter).await?;
            }
            is_there
        }
    };
    if is_there { Ok(()) } else { Err(missing(build, place, transfer.from.is_some(), (source, span)).await) }
}

/// Something of it is taken.
async fn has_any(build: &Build, found: &Found, filter: &Filter) -> Result<bool, Error> {
    match found {
        Found::Tree { below, .. } => Ok(!below.is_empty()),
        Found::Content(_) => Ok(true),
        Found::Context { selected, .. } => {
            let Node::Directory(digest) = &selected.node else { return Ok(true) };
            let mut walk = Walk::new(digest, &[], None, |path: &[u8]| filter.enters(path));
            while let Some(items) = walk.next(&build.session).await? {
                if items.iter().any(|item| filter.takes(&item.path)) {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

/// Where the sources of an instruction are.
async fn place(
    build: &Build,
    work: &StageWork,
    transfer: &Transfer<'_>,
    (read, span): (Option<&Draft>, Span),
    running: &Running,
) -> Result<Place, Error> {
    if let Some(draft) = read {
        return Ok(Place::Layers(build.files(draft, running).await?.into()));
    }
    let Some(from) = transfer.from else {
        if let Some(fetched) = &build.contexts.fetched {
            return Ok(Place::Layers([fetched.tree.layer.clone()].into()));
        }
        let main = build.contexts.main.clone().map(Place::Context);
        return main.ok_or_else(|| build.mistake(span, "this build has no context to copy from"));
    };
    let origin = graph::source(&build.file, &build.contexts, &word(from))?;
    if let Origin::Context(name) = &origin
        && let Some(local) = build.contexts.local(name)
    {
        return Ok(Place::Context(Arc::clone(local)));
    }
    Ok(Place::Layers(build.layers_of(work, &origin, from.value_span, running).await?.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_taken_apart_by_what_matched() {
        let listed = |path: &str| Listed {
            path: path.as_bytes().to_vec(),
            mode: S_IFDIR,
            digest: String::new(),
            modified: None,
        };
        let paths = ["/usr/lib", "/usr/lib-y", "/usr/lib-y/z", "/usr/lib/x", "/usr/lib/x/y"];

        let groups = grouped(paths.map(listed).to_vec(), 2);

        let shown: Vec<(&[u8], Vec<&[u8]>)> = groups
            .iter()
            .map(|(top, below)| (top.path.as_slice(), below.iter().map(|one| one.path.as_slice()).collect()))
            .collect();
        assert_eq!(shown, [(&b"/usr/lib"[..], vec![&b"x"[..], b"x/y"]), (b"/usr/lib-y", vec![b"z"])]);
    }
}
