//! Layers put on each other, entry by entry: one arena of all names there ever were, and for each name what the
//! layers did with it. From that, the merged tree up to any layer is a look at the last event that is not later.
//!
//! A parent's number is always below its children's, so that sums over trees are one pass over an array. The merging
//! is that of the store (store/src/layer/chain.rs): a whiteout hides, an opaque directory hides what is below it, a
//! directory that is only implied keeps the one below, or follows the link below.

mod build;

use std::sync::Arc;

use super::entry::Facts;

pub use build::Builder;

/// Number of a name in the arena.
pub type Node = u32;

/// The root directory.
pub const ROOT: Node = 0;

const NONE: u32 = u32::MAX;

/// What a layer did with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// It is new.
    Added,
    /// It was there, and is other now; or it is the same, and its bytes are in the image once more.
    Changed,
    /// It is there no more.
    Removed,
    /// It was named again, and nothing came of it.
    Kept,
}

/// One thing that a layer did with a name.
#[derive(Clone, Copy, Debug)]
struct Event {
    /// None: another event of the same layer took its place.
    change: Option<Change>,
    layer: u16,
    /// What it is since; for a removed one, what it was.
    facts: u32,
    /// The event before, of an earlier layer.
    previous: u32,
}

/// The content that names share.
#[derive(Clone, Copy, Debug)]
struct Inode {
    size: u64,
    layer: u16,
    /// Names that lead to it in the newest tree.
    names: u32,
}

/// A name.
#[derive(Clone, Copy, Debug)]
struct Name {
    parent: Node,
    text: u32,
    last_event: u32,
}

/// What is at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State<'a> {
    /// Nothing.
    Absent,
    /// Something, which the layer asked for has put there or found.
    Present(&'a Facts, Option<Change>),
    /// Nothing since the layer asked for, which removed this.
    Removed(&'a Facts),
}

/// What one layer did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of its files, each content once however many names it has.
    pub bytes: u64,
    /// Names added.
    pub added: u64,
    /// Names changed.
    pub changed: u64,
    /// Names removed.
    pub removed: u64,
    /// Bytes of the layers below that nobody can see since this layer.
    pub hides: u64,
}

/// Bytes that the image carries and nobody can see, at one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waste {
    /// The path.
    pub node: Node,
    /// The bytes.
    pub bytes: u64,
    /// Contents that were overwritten or removed there.
    pub copies: u32,
}

/// Layers put on each other.
#[derive(Debug)]
pub struct Stack {
    names: Vec<Name>,
    texts: Vec<Arc<[u8]>>,
    facts: Vec<Facts>,
    /// Number of the inode of each of the facts.
    inode_of: Vec<u32>,
    inodes: Vec<Inode>,
    events: Vec<Event>,
    layers: Vec<Totals>,
    waste: Vec<Waste>,
    /// Children of all names, those of one together and sorted; `starts` says where they begin.
    children: Vec<Node>,
    starts: Vec<u32>,
}

impl Stack {
    /// What each layer did, bottom first.
    pub fn layers(&self) -> &[Totals] {
        &self.layers
    }

    /// How many names there ever were, the root included.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// The directory that a name is in; the root is in itself.
    pub fn parent(&self, node: Node) -> Node {
        self.names[node as usize].parent
    }

    /// A name without its directory; the root's is empty.
    pub fn name(&self, node: Node) -> &[u8] {
        &self.texts[self.names[node as usize].text as usize]
    }

    /// The whole path, without a slash in front.
    pub fn path(&self, node: Node) -> Vec<u8> {
        let mut parts = Vec::new();
        let mut at = node;
        while at != ROOT {
            parts.push(self.name(at));
            at = self.parent(at);
        }
        parts.reverse();
        parts.join(&b'/')
    }

    /// All names that ever were in a directory, in byte order.
    pub fn children(&self, node: Node) -> &[Node] {
        &self.children[self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize]
    }

    /// Finds a path that was there in some layer.
    #[cfg(test)]
    pub fn find(&self, path: &[u8]) -> Option<Node> {
        let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        names.into_iter().try_fold(ROOT, |at, name| {
            let children = self.children(at);
            let index = children.binary_search_by(|child| self.name(*child).cmp(name)).ok()?;
            Some(children[index])
        })
    }

    /// What is at a name in the tree up to a layer, that one included.
    pub fn state(&self, node: Node, layer: usize) -> State<'_> {
        let mut at = self.names[node as usize].last_event;
        while at != NONE {
            let event = &self.events[at as usize];
            if usize::from(event.layer) <= layer {
                let (facts, is_new) = (&self.facts[event.facts as usize], usize::from(event.layer) == layer);
                return match event.change {
                    Some(Change::Removed) if is_new => State::Removed(facts),
                    Some(Change::Removed) | None => State::Absent,
                    change => State::Present(facts, change.filter(|_| is_new)),
                };
            }
            at = event.previous;
        }
        State::Absent
    }

    /// What the layers did with a name: layer, change, and what it was or is; the newest first.
    pub fn events(&self, node: Node) -> impl Iterator<Item = (usize, Change, &Facts)> {
        let mut at = self.names[node as usize].last_event;
        std::iter::from_fn(move || {
            let event = self.events.get(at as usize)?;
            at = event.previous;
            Some((usize::from(event.layer), event.change?, &self.facts[event.facts as usize]))
        })
    }

    /// The content behind a name in the tree up to a layer, where it is a file with bytes: equal for hard links.
    pub fn inode(&self, node: Node, layer: usize) -> Option<u32> {
        let mut at = self.names[node as usize].last_event;
        while at != NONE {
            let event = &self.events[at as usize];
            if usize::from(event.layer) <= layer {
                return Some(self.inode_of[event.facts as usize]).filter(|inode| *inode != NONE);
            }
            at = event.previous;
        }
        None
    }

    /// How many contents there ever were.
    pub fn inodes(&self) -> usize {
        self.inodes.len()
    }

    /// Where bytes are wasted, the most first.
    ///
    /// A layer's content is wasted when a later layer took away its last name: by overwriting it (even with the same
    /// bytes) or by removing it. It counts at the path where that happened.
    pub fn waste(&self) -> &[Waste] {
        &self.waste
    }

    /// Bytes of all layers.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.bytes).sum()
    }

    /// Bytes of all layers that nobody can see in the whole image.
    pub fn wasted(&self) -> u64 {
        self.layers.iter().map(|layer| layer.hides).sum()
    }

    /// Share of the bytes that can be seen, 0 to 1; an image without bytes wastes none.
    pub fn efficiency(&self) -> f64 {
        match self.bytes() {
            0 => 1.0,
            bytes => 1.0 - self.wasted() as f64 / bytes as f64,
        }
    }
}

#[cfg(test)]
pub(in crate::explore) mod tests;
