//! What the sources of a COPY or ADD select in the context: a digest for the cache key first, entries when a layer
//! must be written. Symbolic links in a source resolve inside the context, as a chroot would.

use std::collections::VecDeque;
use std::sync::Arc;

use strata_dockerfile::glob;

use super::{Attributes, Blake3, Describes, Details, Directories, Directory, Entry, Node};
use crate::error::Error;

/// Symbolic links followed in one path, at most.
const MAX_LINKS: usize = 40;
/// Directories inside each other, at most.
const MAX_DEPTH: usize = 1024;
/// Directories that are fetched at once, at most.
const FETCHED_AT_ONCE: usize = 64;
/// Things that a walk tells at once, at most.
const TOLD_AT_ONCE: usize = 4096;
/// Directories that details are asked for at once, at most.
const DESCRIBED_AT_ONCE: usize = 4096;

/// One thing that a source matched.
#[derive(Debug, Clone)]
pub struct Selected {
    /// The last component of the source; "" for the context itself.
    pub name: Vec<u8>,
    /// Its path in the context, links resolved.
    pub path: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// What it is. A symbolic link only if it leads nowhere.
    pub node: Node,
    /// Extended attributes.
    pub attributes: Attributes,
    /// The directory that it is in. `None`: it is the context itself.
    pub parent: Option<Blake3>,
}

/// Something below a directory.
#[derive(Debug, Clone)]
pub struct Item {
    /// Path below the directory.
    pub path: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub node: Node,
    /// Extended attributes.
    pub attributes: Attributes,
    /// Time of last change, in nanoseconds since 1970, where details were asked for.
    pub modified: i64,
    /// Equal numbers in a context, but 0, are names of one file.
    pub same_file: u64,
    /// A directory that is only there for what is in it.
    pub is_implied: bool,
}

/// Finds what one source names. An empty answer: nothing does.
///
/// The part before the first wildcard may lead through links; behind it only real directories are entered.
pub async fn select(root: &Blake3, source: &str, directories: &impl Directories) -> Result<Vec<Selected>, Error> {
    let components: Vec<&str> = clean(source);
    let plain = components.iter().position(|c| glob::has_wildcards(c)).unwrap_or(components.len());
    let parts = components[..plain].iter().map(|c| c.as_bytes().to_vec()).collect();
    let Some(start) = resolve(root, parts, directories).await? else { return Ok(Vec::new()) };
    if plain == components.len() {
        let name = components.last().map(|c| c.as_bytes().to_vec()).unwrap_or_default();
        return Ok(vec![Selected { name, ..start }]);
    }
    let mut level = vec![start];
    for (index, component) in components.iter().enumerate().skip(plain) {
        let is_last = index + 1 == components.len();
        let mut next = Vec::new();
        for at in level {
            let Node::Directory(digest) = &at.node else { continue };
            let directory = directories.fetch(&[*digest]).await?.swap_remove(0);
            for entry in &directory.entries {
                let matched = glob::matches(component, &String::from_utf8_lossy(&entry.name))
                    .map_err(|_| Error::Context { problem: format!("the pattern {source:?} is malformed") })?;
                if !matched {
                    continue;
                }
                let found = found(&at.path, digest, entry);
                if is_last && matches!(entry.node, Node::Symlink(_)) {
                    let parts = found.path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect();
                    let target = resolve(root, parts, directories).await?;
                    next.push(match target {
                        Some(target) => Selected { name: found.name, ..target },
                        None => found,
                    });
                } else if is_last || matches!(entry.node, Node::Directory(_)) {
                    next.push(found);
                }
            }
        }
        level = next;
    }
    Ok(level)
}

/// Everything below a directory, a part at a time, parents first: never more of it than a few directories is in memory.
#[derive(Debug)]
pub struct Walk<'a, E> {
    /// The path of the top in its context.
    top: &'a [u8],
    /// The context whose details of each directory are asked for.
    details_of: Option<&'a str>,
    /// Directories that it refuses are not looked into.
    enters: E,
    /// Directories below that are not fetched yet, how deep they are, and the next one at the end.
    pending: Vec<(Vec<u8>, Blake3, usize)>,
    /// Directories that are fetched, and how much of each was told.
    open: VecDeque<Open>,
    /// Time of the top, once it was fetched.
    pub modified: i64,
}

#[derive(Debug)]
struct Open {
    path: Vec<u8>,
    depth: usize,
    directory: Arc<Directory>,
    details: Details,
    told: usize,
}

impl<'a, E: Fn(&[u8]) -> bool> Walk<'a, E> {
    /// A walk through the directory of this digest.
    pub fn new(digest: &Blake3, top: &'a [u8], details_of: Option<&'a str>, enters: E) -> Self {
        let pending = vec![(Vec::new(), *digest, 1)];
        Self { top, details_of, enters, pending, open: VecDeque::new(), modified: 0 }
    }

    /// The next things. `None`: that was all.
    pub async fn next(&mut self, directories: &impl Describes) -> Result<Option<Vec<Item>>, Error> {
        if self.open.is_empty() {
            if self.pending.is_empty() {
                return Ok(None);
            }
            self.fetch(directories).await?;
        }
        let Some(mut open) = self.open.pop_front() else { return Ok(Some(Vec::new())) };
        let (mut items, mut below_it) = (Vec::new(), Vec::new());
        let end = open.directory.entries.len().min(open.told + TOLD_AT_ONCE);
        for at in open.told..end {
            let Entry { name, mode, node, attributes } = open.directory.entries[at].clone();
            let (modified, same_file) = open.details.entries.get(at).copied().unwrap_or_default();
            let path = join(&open.path, &name);
            if let Node::Directory(digest) = node
                && (self.enters)(&path)
            {
                below_it.push((path.clone(), digest, open.depth + 1));
            }
            items.push(Item { path, mode, node, attributes, modified, same_file, is_implied: false });
        }
        // The first of them is the next one.
        self.pending.extend(below_it.into_iter().rev());
        open.told = end;
        if open.told < open.directory.entries.len() {
            self.open.push_front(open);
        }
        Ok(Some(items))
    }

    async fn fetch(&mut self, directories: &impl Describes) -> Result<(), Error> {
        let some = self.pending.split_off(self.pending.len().saturating_sub(FETCHED_AT_ONCE));
        if some.iter().any(|(_, _, depth)| *depth > MAX_DEPTH) {
            return Err(Error::Context { problem: format!("directories are nested more than {MAX_DEPTH} deep") });
        }
        let digests: Vec<Blake3> = some.iter().map(|(_, digest, _)| *digest).collect();
        let fetched = directories.fetch(&digests).await?;
        let details = match self.details_of {
            Some(context) => {
                let paths = some.iter().map(|(path, ..)| join(self.top, path));
                describe(context, paths.collect(), directories).await?
            }
            None => vec![Details::default(); some.len()],
        };
        for (((path, _, depth), directory), details) in some.into_iter().zip(fetched).zip(details).rev() {
            if self.details_of.is_some() && details.entries.len() != directory.entries.len() {
                return Err(Error::Context { problem: "details that do not fit their directory".to_owned() });
            }
            if path.is_empty() {
                self.modified = details.modified;
            }
            self.open.push_back(Open { path, depth, directory, details, told: 0 });
        }
        Ok(())
    }
}

/// The time of one thing that is no directory, in nanoseconds since 1970.
pub async fn modified(selected: &Selected, context: &str, directories: &impl Describes) -> Result<i64, Error> {
    let Some(parent) = selected.parent else { return Ok(0) };
    let (path, name) = match selected.path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&selected.path[..at], &selected.path[at + 1..]),
        None => (&[][..], &selected.path[..]),
    };
    let directory = directories.fetch(&[parent]).await?.swap_remove(0);
    let details = describe(context, vec![path.to_vec()], directories).await?.swap_remove(0);
    let at = directory.entries.iter().position(|entry| entry.name == name);
    let found = at.and_then(|at| details.entries.get(at));
    let problem = || Error::Context { problem: "details that do not fit their directory".to_owned() };
    found.map(|(modified, _)| *modified).ok_or_else(problem)
}

async fn describe(context: &str, paths: Vec<Vec<u8>>, directories: &impl Describes) -> Result<Vec<Details>, Error> {
    let mut all = Vec::with_capacity(paths.len());
    for some in paths.chunks(DESCRIBED_AT_ONCE) {
        all.extend(directories.details(context, some.to_vec()).await?);
    }
    Ok(all)
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut joined = path.to_vec();
    if !path.is_empty() && !name.is_empty() {
        joined.push(b'/');
    }
    joined.extend_from_slice(name);
    joined
}

fn found(path: &[u8], parent: &Blake3, entry: &Entry) -> Selected {
    let Entry { name, mode, node, attributes } = entry.clone();
    Selected { path: join(path, &name), name, mode, node, attributes, parent: Some(*parent) }
}

/// Walks a path; links are followed inside the root, the last component's too, as COPY does.
async fn resolve(
    root: &Blake3,
    parts: Vec<Vec<u8>>,
    directories: &impl Directories,
) -> Result<Option<Selected>, Error> {
    let mut pending: Vec<Vec<u8>> = parts.into_iter().rev().collect();
    let mut stack: Vec<Selected> = Vec::new();
    let mut links = 0;
    while let Some(part) = pending.pop() {
        match part.as_slice() {
            b"" | b"." => continue,
            b".." => {
                stack.pop();
                continue;
            }
            _ => {}
        }
        let digest = match stack.last().map(|s| &s.node) {
            None => *root,
            Some(Node::Directory(digest)) => *digest,
            Some(_) => return Ok(None),
        };
        let directory = directories.fetch(&[digest]).await?.swap_remove(0);
        let Some(entry) = directory.get(&part) else { return Ok(None) };
        let parent = stack.last().map(|s| s.path.clone()).unwrap_or_default();
        if let Node::Symlink(target) = &entry.node {
            links += 1;
            if links > MAX_LINKS {
                let path = String::from_utf8_lossy(&entry.name).into_owned();
                return Err(Error::Context { problem: format!("too many symbolic links at {path:?}") });
            }
            if target.first() == Some(&b'/') {
                stack.clear();
            }
            pending.extend(target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
            continue;
        }
        stack.push(found(&parent, &digest, entry));
    }
    let top = Selected {
        name: Vec::new(),
        path: Vec::new(),
        mode: 0o755,
        node: Node::Directory(*root),
        attributes: Vec::new(),
        parent: None,
    };
    Ok(Some(stack.pop().unwrap_or(top)))
}

/// The components of a source: "." and empty ones gone, ".." resolved but never above the root.
fn clean(source: &str) -> Vec<&str> {
    let mut components: Vec<&str> = Vec::new();
    for component in source.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop();
            }
            name => components.push(name),
        }
    }
    components
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use super::*;
    use crate::context::Directory;

    struct Fake(HashMap<Blake3, Arc<Directory>>);

    impl Directories for Fake {
        async fn fetch(&self, digests: &[Blake3]) -> Result<Vec<Arc<Directory>>, Error> {
            Ok(digests.iter().map(|digest| self.0[digest].clone()).collect())
        }
    }

    impl Describes for Fake {
        async fn details(&self, _: &str, _: Vec<Vec<u8>>) -> Result<Vec<Details>, Error> {
            unreachable!("nobody asks for details")
        }
    }

    fn file(name: &str) -> Entry {
        let node = Node::File { blake3: *blake3::hash(name.as_bytes()).as_bytes(), size: name.len() as u64 };
        Entry { name: name.as_bytes().to_vec(), mode: 0o644, node, attributes: Vec::new() }
    }

    /// app.py, lib/{a.txt,b.txt}, link -> lib, out -> ../../lib
    fn tree() -> (Blake3, Fake) {
        let (root, lib) = ([1; 32], [2; 32]);
        let link = |name: &str, target: &str| {
            let node = Node::Symlink(target.into());
            Entry { name: name.into(), mode: 0o777, node, attributes: Vec::new() }
        };
        let node = Node::Directory(lib);
        let directory = Entry { name: b"lib".to_vec(), mode: 0o755, node, attributes: Vec::new() };
        let top = vec![file("app.py"), directory, link("link", "lib"), link("out", "../../lib")];
        let map = HashMap::from([
            (root, Arc::new(Directory { entries: top })),
            (lib, Arc::new(Directory { entries: vec![file("a.txt"), file("b.txt")] })),
        ]);
        (root, Fake(map))
    }

    async fn paths(source: &str) -> Vec<String> {
        let (root, fake) = tree();
        let found = select(&root, source, &fake).await.expect("the tree is whole");
        found.into_iter().map(|s| String::from_utf8(s.path).expect("names are ASCII")).collect()
    }

    #[tokio::test]
    async fn sources_select_what_docker_selects() {
        for (source, expected) in [
            (".", vec![""]),
            ("app.py", vec!["app.py"]),
            ("./lib/../app.py", vec!["app.py"]),
            ("/lib/a.txt", vec!["lib/a.txt"]),
            ("*.py", vec!["app.py"]),
            ("lib/*.txt", vec!["lib/a.txt", "lib/b.txt"]),
            ("link/a.txt", vec!["lib/a.txt"]),
            ("out/b.txt", vec!["lib/b.txt"]),
            ("../../app.py", vec!["app.py"]),
            ("missing", vec![]),
            ("app.py/x", vec![]),
            ("*.none", vec![]),
            ("link", vec!["lib"]),
            ("lin*", vec!["lib"]),
            ("l*/a.txt", vec!["lib/a.txt"]),
        ] {
            assert_eq!(paths(source).await, expected, "{source}");
        }
    }

    #[tokio::test]
    async fn a_walk_tells_all_that_may_be_entered_parents_first_and_a_large_directory_in_parts() {
        let (mut directories, many) = (HashMap::new(), 2 * TOLD_AT_ONCE + 1);
        let names: Vec<String> = (0..many).map(|number| format!("f{number:08}")).collect();
        directories.insert([2; 32], Arc::new(Directory { entries: names.iter().map(|name| file(name)).collect() }));
        directories.insert([3; 32], Arc::new(Directory { entries: vec![file("hidden")] }));
        let directory = |name: &str, digest: u8| {
            let node = Node::Directory([digest; 32]);
            Entry { name: name.into(), mode: 0o755, node, attributes: Vec::new() }
        };
        let top = vec![directory("closed", 3), directory("large", 2), file("z")];
        directories.insert([1; 32], Arc::new(Directory { entries: top }));
        let fake = Fake(directories);

        let mut walk = Walk::new(&[1; 32], &[], None, |path: &[u8]| path != b"closed");
        let (mut told, mut largest) = (Vec::new(), 0);
        while let Some(items) = walk.next(&fake).await.expect("the tree is whole") {
            largest = largest.max(items.len());
            told.extend(items.into_iter().map(|item| String::from_utf8(item.path).expect("names are ASCII")));
        }

        assert_eq!((largest, told.len()), (TOLD_AT_ONCE, 3 + many));
        assert_eq!(told[..4], ["closed", "large", "z", "large/f00000000"]);
    }
}
