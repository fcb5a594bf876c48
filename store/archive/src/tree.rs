//! What a tree should look like: names, and the inodes behind them.
//! `apply` and `diff` fill it, the table of contents keeps it, `verify` compares it with the disk.

use std::collections::BTreeMap;

/// A modification time; nanoseconds count forward also before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: i64,
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    Directory,
    Symlink,
    Char,
    Block,
    Fifo,
    /// Overlay's own mark that a name of a lower layer is hidden: a character device 0/0.
    Whiteout,
}

impl Kind {
    /// Says whether only the first user namespace may make it.
    pub(crate) fn is_device(self) -> bool {
        matches!(self, Self::Char | Self::Block)
    }

    /// Says whether it takes attributes of users.
    pub(crate) fn is_file(self) -> bool {
        matches!(self, Self::Regular | Self::Directory)
    }
}

/// Extended attributes by name, sorted.
pub(crate) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Everything about a node but its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inode {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) device: (u32, u32),
    pub(crate) size: u64,
    pub(crate) link: Vec<u8>,
    pub(crate) xattrs: Xattrs,
    /// Index of its bytes in the table of contents; none when it is empty.
    pub(crate) content: Option<usize>,
    /// Made because something below it was named, not because it was.
    pub(crate) is_implied: bool,
    /// Hides the directory of that name in lower layers.
    pub(crate) is_opaque: bool,
    /// How many names lead here.
    pub(crate) names: u32,
}

/// A tree by full path; the root, when it is part of the archive, is the empty path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) inodes: Vec<Inode>,
    pub(crate) names: BTreeMap<Vec<u8>, usize>,
}

impl Inode {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            device: (0, 0),
            size: 0,
            link: Vec::new(),
            xattrs: Xattrs::new(),
            content: None,
            is_implied: false,
            is_opaque: false,
            names: 0,
        }
    }

    pub(crate) fn implied_directory(owner: (u32, u32)) -> Self {
        Self { mode: 0o755, uid: owner.0, gid: owner.1, is_implied: true, ..Self::new(Kind::Directory) }
    }
}

impl Tree {
    pub(crate) fn get(&self, path: &[u8]) -> Option<&Inode> {
        Some(&self.inodes[*self.names.get(path)?])
    }

    pub(crate) fn get_mut(&mut self, path: &[u8]) -> Option<&mut Inode> {
        Some(&mut self.inodes[*self.names.get(path)?])
    }

    pub(crate) fn insert(&mut self, path: Vec<u8>, inode: Inode) -> usize {
        self.inodes.push(Inode { names: 1, ..inode });
        self.names.insert(path, self.inodes.len() - 1);
        self.inodes.len() - 1
    }

    /// Gives the inode of `target` a second name; says whether there is one.
    pub(crate) fn link(&mut self, path: Vec<u8>, target: &[u8]) -> bool {
        let Some(index) = self.names.get(target).copied() else { return false };
        self.names.insert(path, index);
        self.inodes[index].names += 1;
        true
    }

    /// Forgets a name; returns its inode's index and another name of it.
    pub(crate) fn remove(&mut self, path: &[u8]) -> Option<(usize, Option<Vec<u8>>)> {
        let index = self.names.remove(path)?;
        self.inodes[index].names -= 1;
        let other = match self.inodes[index].names {
            0 => None,
            _ => self.names.iter().find(|(_, other)| **other == index).map(|(name, _)| name.clone()),
        };
        Some((index, other))
    }

    /// Lists implied directories that a lower layer's directory of that name would show through.
    pub(crate) fn implied(&self) -> Vec<Vec<u8>> {
        let implied = self.names.iter().filter(|(path, index)| {
            self.inodes[**index].is_implied
                && !std::iter::once(path.as_slice()).chain(ancestors(path)).any(|above| self.is_opaque(above))
        });
        implied.map(|(path, _)| path.clone()).collect()
    }

    fn is_opaque(&self, path: &[u8]) -> bool {
        self.get(path).is_some_and(|inode| inode.is_opaque)
    }
}

/// Lists the directories above a path, the root last.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path), |path| match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => Some(&path[..slash]),
        None if path.is_empty() => None,
        None => Some(&[]),
    })
    .skip(1)
}

/// Joins a directory's path and a name.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    path.extend_from_slice(directory);
    if !directory.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
