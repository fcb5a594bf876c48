//! Putting layers on each other. What a name is at the moment is its last event; what a layer does to the same name
//! twice counts once.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Change, Event, Inode, NONE, Name, Node, ROOT, Stack, Totals, Waste};
use crate::explore::entry::{Action, Entry, Facts, Kind};

/// Links followed on one way, as the kernel does.
const MOST_LINKS: usize = 40;

/// Layers on their way into a [`Stack`].
#[derive(Debug)]
pub struct Builder {
    stack: Stack,
    text_numbers: HashMap<Arc<[u8]>, u32>,
    nodes: HashMap<(Node, u32), Node>,
    first_child: Vec<Node>,
    next_sibling: Vec<Node>,
    waste: HashMap<Node, (u64, u32)>,
    /// The directories above the last entry of this layer: length of the path up to there, and what it led to.
    way: Vec<(usize, Node)>,
    last_path: Bytes,
    layer: u16,
}

impl Default for Builder {
    fn default() -> Self {
        let stack = Stack {
            names: Vec::new(),
            texts: Vec::new(),
            facts: Vec::new(),
            inode_of: Vec::new(),
            inodes: Vec::new(),
            events: Vec::new(),
            layers: Vec::new(),
            waste: Vec::new(),
            children: Vec::new(),
            starts: Vec::new(),
        };
        let mut builder = Self {
            stack,
            text_numbers: HashMap::new(),
            nodes: HashMap::new(),
            first_child: Vec::new(),
            next_sibling: Vec::new(),
            waste: HashMap::new(),
            way: Vec::new(),
            last_path: Bytes::new(),
            layer: 0,
        };
        let text = builder.text(b"");
        builder.add_name(ROOT, text);
        // The root is there before every layer and is nobody's addition.
        builder.stack.facts.push(Facts::implied_directory());
        builder.stack.inode_of.push(NONE);
        builder.stack.events.push(Event { change: Some(Change::Kept), layer: 0, facts: 0, previous: NONE });
        builder.stack.names[ROOT as usize].last_event = 0;
        builder
    }
}

impl Builder {
    /// Starts the next layer, the bottom one first.
    pub fn begin_layer(&mut self) {
        self.stack.layers.push(Totals::default());
        self.layer = u16::try_from(self.stack.layers.len() - 1).unwrap_or(u16::MAX);
        self.way.clear();
        self.last_path = Bytes::new();
    }

    /// Adds an entry of the layer; directories come before what is in them.
    pub fn add(&mut self, entry: Entry) {
        let node = self.locate(&entry.path);
        self.last_path = entry.path;
        match entry.action {
            Action::Remove => self.remove(node),
            Action::Imply => {
                self.directory(node);
            }
            Action::Replace { facts } => {
                self.remove_below(node);
                self.set(node, Some((facts, None)));
            }
            Action::Put { facts, hard_link } => {
                if facts.kind != Kind::Directory {
                    self.remove_below(node);
                }
                let inode = hard_link.and_then(|first| self.inode_of_link(&first));
                self.set(node, Some((facts, inode)));
            }
        }
    }

    /// Ends the last layer.
    pub fn finish(mut self) -> Stack {
        for event in &self.stack.events[1..] {
            let totals = &mut self.stack.layers[usize::from(event.layer)];
            match event.change {
                Some(Change::Added) => totals.added += 1,
                Some(Change::Changed) => totals.changed += 1,
                Some(Change::Removed) => totals.removed += 1,
                Some(Change::Kept) | None => {}
            }
        }
        let waste = self.waste.into_iter().map(|(node, (bytes, copies))| Waste { node, bytes, copies });
        self.stack.waste = waste.collect();
        self.stack.waste.sort_unstable_by_key(|waste| (std::cmp::Reverse(waste.bytes), waste.node));
        sort_children(&mut self.stack);
        self.stack
    }

    /// The number of a name's text.
    fn text(&mut self, text: &[u8]) -> u32 {
        if let Some(number) = self.text_numbers.get(text) {
            return *number;
        }
        let (text, number) = (Arc::<[u8]>::from(text), self.stack.texts.len() as u32);
        self.stack.texts.push(Arc::clone(&text));
        self.text_numbers.insert(text, number);
        number
    }

    fn add_name(&mut self, parent: Node, text: u32) -> Node {
        let node = self.stack.names.len() as Node;
        self.stack.names.push(Name { parent, text, last_event: NONE });
        self.first_child.push(NONE);
        self.next_sibling.push(NONE);
        if node != ROOT {
            self.nodes.insert((parent, text), node);
            self.next_sibling[node as usize] = self.first_child[parent as usize];
            self.first_child[parent as usize] = node;
        }
        node
    }

    fn child(&mut self, parent: Node, name: &[u8]) -> Node {
        let text = self.text(name);
        match self.nodes.get(&(parent, text)) {
            Some(node) => *node,
            None => self.add_name(parent, text),
        }
    }

    /// Finds the place of a path. What leads there becomes directories where it is none.
    fn locate(&mut self, path: &Bytes) -> Node {
        let common = path.iter().zip(&self.last_path).take_while(|(left, right)| left == right).count();
        while self.way.last().is_some_and(|(length, _)| *length > common || path.get(*length) != Some(&b'/')) {
            self.way.pop();
        }
        let (mut start, mut at) = self.way.last().map_or((0, ROOT), |(length, node)| (length + 1, *node));
        while let Some(length) = path[start..].iter().position(|byte| *byte == b'/') {
            let child = self.child(at, &path[start..start + length]);
            at = self.directory(child);
            start += length;
            self.way.push((start, at));
            start += 1;
        }
        if path.is_empty() { ROOT } else { self.child(at, &path[start..]) }
    }

    /// The facts of what is at a name now.
    fn facts(&self, node: Node) -> Option<&Facts> {
        self.event(node).map(|event| &self.stack.facts[event.facts as usize])
    }

    fn event(&self, node: Node) -> Option<&Event> {
        let event = self.stack.events.get(self.stack.names[node as usize].last_event as usize)?;
        (event.change != Some(Change::Removed)).then_some(event)
    }

    /// Sees to it that a name is a directory: the one that is there, the one that a link there leads to, a new one.
    fn directory(&mut self, node: Node) -> Node {
        match self.facts(node).map(|facts| facts.kind) {
            Some(Kind::Directory) => node,
            Some(Kind::Symlink) => self.follow(node),
            _ => self.make_directory(node),
        }
    }

    fn make_directory(&mut self, node: Node) -> Node {
        self.set(node, Some((Facts::implied_directory(), None)));
        node
    }

    /// The directory that a link leads to; what is missing on the way is made. A loop is replaced.
    fn follow(&mut self, link: Node) -> Node {
        let (mut at, mut hops) = (self.stack.parent(link), 0);
        let mut rest = Vec::new();
        self.read_link(link, &mut at, &mut rest);
        while let Some(name) = rest.pop() {
            match &*name {
                b"" | b"." => continue,
                b".." => at = self.stack.parent(at),
                name => {
                    let child = self.child(at, name);
                    match self.facts(child).map(|facts| facts.kind) {
                        Some(Kind::Directory) => at = child,
                        Some(Kind::Symlink) => {
                            hops += 1;
                            if hops > MOST_LINKS {
                                return self.make_directory(link);
                            }
                            self.read_link(child, &mut at, &mut rest);
                        }
                        _ => at = self.make_directory(child),
                    }
                }
            }
        }
        at
    }

    /// Puts the names of a link's target on the way.
    fn read_link(&self, link: Node, at: &mut Node, rest: &mut Vec<Box<[u8]>>) {
        let Some(facts) = self.facts(link) else { return };
        if facts.target.first() == Some(&b'/') {
            *at = ROOT;
        }
        rest.extend(facts.target.split(|byte| *byte == b'/').rev().map(Box::from));
    }

    /// The content that the first name of a file has in this layer.
    fn inode_of_link(&mut self, path: &Bytes) -> Option<u32> {
        let mut at = ROOT;
        let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        for (index, name) in names.iter().enumerate() {
            at = self.child(at, name);
            if index + 1 < names.len() && self.facts(at).is_some_and(|facts| facts.kind == Kind::Symlink) {
                at = self.follow(at);
            }
        }
        let inode = self.stack.inode_of[self.event(at)?.facts as usize];
        (self.stack.inodes.get(inode as usize)?.layer == self.layer).then_some(inode)
    }

    /// Takes a name away, with all that is below.
    fn remove(&mut self, node: Node) {
        self.remove_below(node);
        if self.facts(node).is_some() {
            self.set(node, None);
        }
    }

    /// Takes away all that is below a name. Below what is not there nothing is.
    fn remove_below(&mut self, node: Node) {
        if self.facts(node).is_none_or(|facts| facts.kind != Kind::Directory) {
            return;
        }
        let mut open = vec![self.first_child[node as usize]];
        while let Some(at) = open.pop() {
            if at == NONE {
                continue;
            }
            open.push(self.next_sibling[at as usize]);
            if self.facts(at).is_some() {
                open.push(self.first_child[at as usize]);
                self.set(at, None);
            }
        }
    }

    /// Gives a name facts, with the content that it shares, or takes them.
    fn set(&mut self, node: Node, facts: Option<(Facts, Option<u32>)>) {
        let is_released = self.retract(node);
        let before = self.event(node).map(|event| event.facts);
        let change = match (before, &facts) {
            (None, None) => return,
            // Its first description; before, nobody had said anything of it.
            (Some(0), Some(_)) => Change::Kept,
            (None, Some(_)) => Change::Added,
            (Some(_), None) => Change::Removed,
            (Some(before), Some((facts, _))) => {
                let before = &self.stack.facts[before as usize];
                let is_same = facts.size == 0 && facts.differences(before).is_empty();
                if is_same { Change::Kept } else { Change::Changed }
            }
        };
        if let Some(before) = before
            && !is_released
        {
            self.release(node, before);
        }
        let facts = match facts {
            Some((facts, inode)) => self.keep(facts, inode),
            // Removed: `before` is what it was.
            None => before.unwrap_or_default(),
        };
        let previous = self.stack.names[node as usize].last_event;
        self.stack.names[node as usize].last_event = self.stack.events.len() as u32;
        self.stack.events.push(Event { change: Some(change), layer: self.layer, facts, previous });
    }

    /// Takes back what this layer did with a name before; says whether the content below it is released.
    fn retract(&mut self, node: Node) -> bool {
        let last = self.stack.names[node as usize].last_event;
        let Some(event) = self.stack.events.get(last as usize).copied() else { return false };
        // The root's first event is that of no layer.
        if event.layer != self.layer || last == 0 {
            return false;
        }
        self.stack.events[last as usize].change = None;
        self.stack.names[node as usize].last_event = event.previous;
        let inode = self.stack.inode_of[event.facts as usize] as usize;
        if event.change != Some(Change::Removed)
            && let Some(inode) = self.stack.inodes.get_mut(inode)
        {
            inode.names -= 1;
            if inode.names == 0 {
                self.stack.layers[usize::from(inode.layer)].bytes -= inode.size;
            }
        }
        event.change != Some(Change::Added)
    }

    /// A name leaves content behind.
    fn release(&mut self, node: Node, facts: u32) {
        let inode = self.stack.inode_of[facts as usize] as usize;
        let Some(inode) = self.stack.inodes.get_mut(inode) else { return };
        inode.names -= 1;
        if inode.names == 0 {
            self.stack.layers[usize::from(self.layer)].hides += inode.size;
            let waste = self.waste.entry(node).or_default();
            waste.0 += inode.size;
            waste.1 += 1;
        }
    }

    /// Writes facts down; files with bytes have a content, their own or one that another name has.
    fn keep(&mut self, facts: Facts, shared: Option<u32>) -> u32 {
        let totals = &mut self.stack.layers[usize::from(self.layer)];
        let inode = match shared.filter(|inode| self.stack.inodes[*inode as usize].size == facts.size) {
            _ if facts.size == 0 => NONE,
            Some(number) => {
                let inode = &mut self.stack.inodes[number as usize];
                if inode.names == 0 {
                    totals.bytes += inode.size;
                }
                inode.names += 1;
                number
            }
            None => {
                totals.bytes += facts.size;
                self.stack.inodes.push(Inode { size: facts.size, layer: self.layer, names: 1 });
                self.stack.inodes.len() as u32 - 1
            }
        };
        self.stack.facts.push(facts);
        self.stack.inode_of.push(inode);
        self.stack.facts.len() as u32 - 1
    }
}

/// Puts children of one directory together, sorted by name.
fn sort_children(stack: &mut Stack) {
    let mut starts = vec![0_u32; stack.names.len() + 2];
    for name in &stack.names[1..] {
        starts[name.parent as usize + 2] += 1;
    }
    for index in 1..starts.len() {
        starts[index] += starts[index - 1];
    }
    let mut children = vec![0; stack.names.len() - 1];
    for (node, name) in stack.names.iter().enumerate().skip(1) {
        let next = &mut starts[name.parent as usize + 1];
        children[*next as usize] = node as Node;
        *next += 1;
    }
    starts.pop();
    let text = |node: &Node| &*stack.texts[stack.names[*node as usize].text as usize];
    for pair in starts.windows(2) {
        children[pair[0] as usize..pair[1] as usize].sort_unstable_by(|left, right| text(left).cmp(text(right)));
    }
    (stack.children, stack.starts) = (children, starts);
}
