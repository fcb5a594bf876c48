//! What the sources of a COPY or ADD select in the context: a digest for the cache key first, entries when a layer
//! must be written. Symbolic links in a source resolve inside the context, as a chroot would.

use std::sync::Arc;

use strata_dockerfile::glob;

use super::{Blake3, Directories, Directory, Entry, Node};
use crate::error::Error;

/// Symbolic links followed in one path, at most.
const MAX_LINKS: usize = 40;
/// Directories inside each other, at most.
const MAX_DEPTH: usize = 1024;

/// One thing that a source matched.
#[derive(Debug, Clone)]
pub struct Selected {
    /// Its last component; "" for the context itself.
    pub name: Vec<u8>,
    /// Its path in the context, for messages.
    pub path: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub node: Node,
}

/// What all sources of one instruction matched, in order.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The matches.
    pub matches: Vec<Selected>,
}

impl Selection {
    /// A digest of names, modes and contents.
    pub fn digest(&self) -> Blake3 {
        let mut hasher = blake3::Hasher::new();
        for selected in &self.matches {
            // The directory's own name does not matter: what it holds is placed, not itself.
            match &selected.node {
                Node::Directory(digest) => {
                    hasher.update(b"d").update(&selected.mode.to_le_bytes()).update(digest);
                }
                Node::File { blake3, size } => {
                    hasher.update(b"f").update(&selected.mode.to_le_bytes());
                    hasher.update(&(selected.name.len() as u64).to_le_bytes()).update(&selected.name);
                    hasher.update(&size.to_le_bytes()).update(blake3);
                }
                Node::Symlink(target) => {
                    hasher.update(b"l").update(&(selected.name.len() as u64).to_le_bytes()).update(&selected.name);
                    hasher.update(&(target.len() as u64).to_le_bytes()).update(target);
                }
            }
        }
        *hasher.finalize().as_bytes()
    }
}

/// Finds what one source names. An empty answer: nothing does.
pub async fn select(root: &Blake3, source: &str, directories: &impl Directories) -> Result<Vec<Selected>, Error> {
    let components: Vec<&str> = clean(source);
    let is_pattern = |text: &str| text.contains(['*', '?', '[', '\\']);
    let top = Selected { name: Vec::new(), path: Vec::new(), mode: 0o755, node: Node::Directory(*root) };
    if components.is_empty() {
        return Ok(vec![top]);
    }
    if !components.iter().any(|c| is_pattern(c)) {
        let parts: Vec<Vec<u8>> = components.iter().map(|c| c.as_bytes().to_vec()).collect();
        let name = components.last().map(|c| c.as_bytes().to_vec()).unwrap_or_default();
        let found = resolve(root, parts, directories).await?;
        return Ok(found.map(|found| Selected { name, ..found }).into_iter().collect());
    }
    let mut level = vec![top];
    for (index, component) in components.iter().enumerate() {
        let is_last = index + 1 == components.len();
        let mut next = Vec::new();
        for at in level {
            let Some(directory) = open(root, &at, directories).await? else { continue };
            for entry in &directory.entries {
                let name = String::from_utf8_lossy(&entry.name);
                let matched = glob::matches(component, &name)
                    .map_err(|_| Error::Context { problem: format!("the pattern {source:?} is malformed") })?;
                if !matched {
                    continue;
                }
                let found = found(&at.path, entry);
                if is_last && matches!(entry.node, Node::Symlink(_)) {
                    let parts = found.path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect();
                    let target = resolve(root, parts, directories).await?;
                    next.extend(target.map(|target| Selected { name: found.name, ..target }));
                } else if is_last || !matches!(entry.node, Node::File { .. }) {
                    next.push(found);
                }
            }
        }
        level = next;
    }
    Ok(level)
}

/// Everything below a directory, parents first: paths below it, and entries. One round trip per level.
pub async fn walk(top: &Blake3, directories: &impl Directories) -> Result<Vec<(Vec<u8>, Entry)>, Error> {
    let mut all = Vec::new();
    let mut level = vec![(Vec::new(), *top)];
    for _ in 0..MAX_DEPTH {
        if level.is_empty() {
            return Ok(all);
        }
        let digests: Vec<Blake3> = level.iter().map(|(_, digest)| *digest).collect();
        let fetched = directories.fetch(&digests).await?;
        let mut next = Vec::new();
        for ((path, _), directory) in level.iter().zip(fetched) {
            for entry in &directory.entries {
                let mut below = path.clone();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend_from_slice(&entry.name);
                if let Node::Directory(digest) = entry.node {
                    next.push((below.clone(), digest));
                }
                all.push((below, entry.clone()));
            }
        }
        level = next;
    }
    Err(Error::Context { problem: format!("directories are nested more than {MAX_DEPTH} deep") })
}

fn found(parent: &[u8], entry: &Entry) -> Selected {
    let mut path = parent.to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(&entry.name);
    Selected { name: entry.name.clone(), path, mode: entry.mode, node: entry.node.clone() }
}

async fn open(root: &Blake3, at: &Selected, directories: &impl Directories) -> Result<Option<Arc<Directory>>, Error> {
    match &at.node {
        Node::Directory(digest) => Ok(Some(directories.fetch(&[*digest]).await?.swap_remove(0))),
        Node::Symlink(_) => {
            let mut parts: Vec<Vec<u8>> = at.path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect();
            parts.push(b".".to_vec());
            match resolve(root, parts, directories).await? {
                Some(Selected { node: Node::Directory(digest), .. }) => {
                    Ok(Some(directories.fetch(&[digest]).await?.swap_remove(0)))
                }
                _ => Ok(None),
            }
        }
        Node::File { .. } => Ok(None),
    }
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
        stack.push(found(&parent, entry));
    }
    let top = Selected { name: Vec::new(), path: Vec::new(), mode: 0o755, node: Node::Directory(*root) };
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

    use super::*;

    struct Fake(HashMap<Blake3, Arc<Directory>>);

    impl Directories for Fake {
        async fn fetch(&self, digests: &[Blake3]) -> Result<Vec<Arc<Directory>>, Error> {
            Ok(digests.iter().map(|digest| self.0[digest].clone()).collect())
        }
    }

    fn file(name: &str) -> Entry {
        let node = Node::File { blake3: *blake3::hash(name.as_bytes()).as_bytes(), size: name.len() as u64 };
        Entry { name: name.as_bytes().to_vec(), mode: 0o644, node }
    }

    /// app.py, lib/{a.txt,b.txt}, link -> lib, out -> ../../lib
    fn tree() -> (Blake3, Fake) {
        let (root, lib) = ([1; 32], [2; 32]);
        let link =
            |name: &str, target: &str| Entry { name: name.into(), mode: 0o777, node: Node::Symlink(target.into()) };
        let directory = Entry { name: b"lib".to_vec(), mode: 0o755, node: Node::Directory(lib) };
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
        ] {
            assert_eq!(paths(source).await, expected, "{source}");
        }
    }
}
