//! What of a stack is shown: the tree up to a layer or only what the layer changed, filtered, sorted, unfolded.
//!
//! Marks and sizes of all names are computed together, in two passes over arrays; rows exist only for what is
//! unfolded; what a row says is made when it is drawn. So a million names cost milliseconds, and scrolling nothing.

use std::collections::HashSet;

use super::entry::{Facts, Kind};
use super::stack::{Change, Node, ROOT, Stack, State};

/// Which names of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everything that is there up to the layer.
    Everything,
    /// What the layer added, changed and removed.
    Changes,
}

/// Order within a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// By name.
    Name,
    /// The largest first.
    Size,
}

/// What the layer did with a name, or below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// It is not there.
    Absent,
    /// Nothing.
    Same,
    /// Something below it.
    Within,
    /// Added it.
    Added,
    /// Changed it.
    Changed,
    /// Removed it.
    Removed,
}

impl Mark {
    /// One character that tells it without colours.
    pub fn letter(self) -> char {
        match self {
            Self::Absent | Self::Same => ' ',
            Self::Within => '·',
            Self::Added => '+',
            Self::Changed => '~',
            Self::Removed => '-',
        }
    }

    fn is_change(self) -> bool {
        matches!(self, Self::Added | Self::Changed | Self::Removed)
    }
}

/// Kinds of change that are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// What was added.
    pub added: bool,
    /// What was changed.
    pub changed: bool,
    /// What was removed.
    pub removed: bool,
    /// What stayed.
    pub same: bool,
}

impl Default for Shown {
    fn default() -> Self {
        Self { added: true, changed: true, removed: true, same: true }
    }
}

impl Shown {
    fn has(self, mark: Mark) -> bool {
        match mark {
            Mark::Absent => false,
            Mark::Same | Mark::Within => self.same,
            Mark::Added => self.added,
            Mark::Changed => self.changed,
            Mark::Removed => self.removed,
        }
    }
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The layer.
    pub layer: usize,
    /// Which names.
    pub scope: Scope,
    /// Kinds of change.
    pub shown: Shown,
    /// Only paths that hold this text. Without capitals in it, capitals do not matter.
    pub text: String,
    /// Order within a directory.
    pub sort: Sort,
}

/// Which directories are unfolded when nobody touched them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Unfolded {
    /// Those that only lead to something: to changes, or to what was searched for.
    #[default]
    Leading,
    All,
    None,
}

/// Directories that somebody folded or unfolded, against the rule.
#[derive(Clone, Debug, Default)]
struct Folds {
    rule: Unfolded,
    touched: HashSet<Node>,
}

/// One row of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The name.
    pub node: Node,
    /// Directories above it, below the root.
    pub depth: u16,
}

/// The shown part of a stack.
#[derive(Debug)]
pub struct View {
    wanted: Wanted,
    marks: Vec<Mark>,
    sizes: Vec<u64>,
    is_shown: Vec<bool>,
    /// Directories with something below them that the search found.
    leads: Vec<bool>,
    folds: [Folds; 3],
    rows: Vec<Row>,
}

impl View {
    /// A view of a stack.
    pub fn new(stack: &Stack, wanted: Wanted) -> Self {
        let mut view = Self {
            wanted,
            marks: Vec::new(),
            sizes: Vec::new(),
            is_shown: Vec::new(),
            leads: Vec::new(),
            folds: Default::default(),
            rows: Vec::new(),
        };
        view.mark_all(stack);
        view.choose(stack);
        view.unfold_rows(stack);
        view
    }

    /// What is wanted.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Changes what is wanted.
    pub fn want(&mut self, stack: &Stack, wanted: Wanted) {
        if self.wanted == wanted {
            return;
        }
        if self.wanted.text != wanted.text {
            self.folds[2] = Folds::default();
        }
        let before = std::mem::replace(&mut self.wanted, wanted);
        // Each of the passes takes its time with a million names.
        if (before.layer, before.scope) != (self.wanted.layer, self.wanted.scope) {
            self.mark_all(stack);
        }
        if (Wanted { sort: self.wanted.sort, ..before }) != self.wanted {
            self.choose(stack);
        }
        self.unfold_rows(stack);
    }

    /// The rows, from the top.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// What the layer did with a name.
    pub fn mark(&self, node: Node) -> Mark {
        self.marks[node as usize]
    }

    /// Bytes of a file, or of all files below a directory; in [`Scope::Changes`] only those that the layer brought.
    /// What was removed does not count in the directories that stay.
    pub fn size(&self, node: Node) -> u64 {
        self.sizes[node as usize]
    }

    /// What a name is, or was until this layer.
    pub fn facts<'s>(&self, stack: &'s Stack, node: Node) -> Option<&'s Facts> {
        match stack.state(node, self.wanted.layer) {
            State::Absent => None,
            State::Present(facts, _) | State::Removed(facts) => Some(facts),
        }
    }

    /// Whether a directory is unfolded.
    pub fn is_unfolded(&self, node: Node) -> bool {
        let folds = &self.folds[self.fold_set()];
        let by_rule = match folds.rule {
            Unfolded::All => true,
            Unfolded::None => false,
            Unfolded::Leading if !self.wanted.text.is_empty() => self.leads[node as usize],
            Unfolded::Leading => self.wanted.scope == Scope::Changes && !self.marks[node as usize].is_change(),
        };
        by_rule != folds.touched.contains(&node)
    }

    /// Whether a name has anything below it to show.
    pub fn is_foldable(&self, stack: &Stack, node: Node) -> bool {
        stack.children(node).iter().any(|child| self.is_shown[*child as usize])
    }

    /// Folds or unfolds a directory.
    pub fn toggle(&mut self, stack: &Stack, node: Node) {
        let set = self.fold_set();
        let touched = &mut self.folds[set].touched;
        if !touched.remove(&node) {
            touched.insert(node);
        }
        self.unfold_rows(stack);
    }

    /// Unfolds what a name is in, so that it has a row.
    pub fn reveal(&mut self, stack: &Stack, node: Node) {
        let mut at = stack.parent(node);
        while at != ROOT {
            if !self.is_unfolded(at) {
                self.toggle(stack, at);
            }
            at = stack.parent(at);
        }
    }

    /// Unfolds everything, or folds it.
    pub fn unfold_all(&mut self, stack: &Stack, is_unfolded: bool) {
        let set = self.fold_set();
        let rule = if is_unfolded { Unfolded::All } else { Unfolded::None };
        self.folds[set] = Folds { rule, touched: HashSet::new() };
        self.unfold_rows(stack);
    }

    /// The row of a name, or of the nearest directory above it that has one.
    pub fn find(&self, stack: &Stack, node: Node) -> Option<usize> {
        let mut at = node;
        while at != ROOT {
            if let Some(index) = self.rows.iter().position(|row| row.node == at) {
                return Some(index);
            }
            at = stack.parent(at);
        }
        None
    }

    fn fold_set(&self) -> usize {
        match self.wanted.scope {
            _ if !self.wanted.text.is_empty() => 2,
            Scope::Everything => 0,
            Scope::Changes => 1,
        }
    }

    /// Marks and sizes: down the array for each name itself, up again for the directories.
    fn mark_all(&mut self, stack: &Stack) {
        let count = stack.len();
        self.marks = vec![Mark::Absent; count];
        self.sizes = vec![0; count];
        let mut is_counted = vec![false; stack.inodes()];
        for node in 0..count as Node {
            let (mark, facts) = match stack.state(node, self.wanted.layer) {
                State::Absent => continue,
                State::Present(facts, change) => (mark(change), facts),
                State::Removed(facts) => (Mark::Removed, facts),
            };
            self.marks[node as usize] = mark;
            if facts.kind != Kind::Regular || (self.wanted.scope == Scope::Changes && !mark.is_change()) {
                continue;
            }
            // A content with several names counts at the first; at what is removed it counts for itself.
            let inode = stack.inode(node, self.wanted.layer).map(|inode| inode as usize);
            if mark == Mark::Removed || inode.is_some_and(|inode| !std::mem::replace(&mut is_counted[inode], true)) {
                self.sizes[node as usize] = facts.size;
            }
        }
        for node in (1..count).rev() {
            let parent = stack.parent(node as Node) as usize;
            if self.marks[node] != Mark::Removed || self.marks[parent] == Mark::Removed {
                self.sizes[parent] += self.sizes[node];
            }
            if self.marks[node] >= Mark::Within && self.marks[parent] == Mark::Same {
                self.marks[parent] = Mark::Within;
            }
        }
    }

    /// What the filters leave, and the directories that lead there.
    fn choose(&mut self, stack: &Stack) {
        let count = stack.len();
        let search = Search::new(&self.wanted.text);
        let mut is_found = vec![search.is_empty(); count];
        let mut leads = vec![false; count];
        self.is_shown = vec![false; count];
        for node in 1..count {
            let parent = stack.parent(node as Node) as usize;
            let is_match = is_found[parent] || search.finds(stack, node as Node);
            is_found[node] = is_match;
            let mark = self.marks[node];
            let is_in_scope = self.wanted.scope == Scope::Everything || mark.is_change();
            self.is_shown[node] = is_match && is_in_scope && self.wanted.shown.has(mark);
            leads[node] = self.is_shown[node] && !is_found[parent];
        }
        for node in (1..count).rev() {
            let parent = stack.parent(node as Node) as usize;
            self.is_shown[parent] |= self.is_shown[node];
            leads[parent] |= leads[node];
        }
        // What was found itself leads nowhere further, unless something below was found for itself.
        self.leads = vec![false; count];
        for (node, leads) in leads.iter().enumerate().skip(1) {
            let parent = stack.parent(node as Node) as usize;
            self.leads[parent] |= *leads && !is_found[parent];
        }
    }

    /// Makes the rows of what is unfolded.
    fn unfold_rows(&mut self, stack: &Stack) {
        let mut rows = std::mem::take(&mut self.rows);
        rows.clear();
        let mut open = Vec::new();
        self.push_children(stack, ROOT, 0, &mut open);
        while let Some(row) = open.pop() {
            rows.push(row);
            if self.is_unfolded(row.node) {
                self.push_children(stack, row.node, row.depth.saturating_add(1), &mut open);
            }
        }
        self.rows = rows;
    }

    /// Puts what a directory shows on the pile, so that the first comes off first.
    fn push_children(&self, stack: &Stack, node: Node, depth: u16, open: &mut Vec<Row>) {
        let start = open.len();
        let children = stack.children(node).iter().filter(|child| self.is_shown[**child as usize]);
        open.extend(children.map(|child| Row { node: *child, depth }));
        open[start..].reverse();
        if self.wanted.sort == Sort::Size {
            // Stable, so names keep their order among equals.
            open[start..].sort_by_key(|row| self.sizes[row.node as usize]);
        }
    }
}

fn mark(change: Option<Change>) -> Mark {
    match change {
        Some(Change::Added) => Mark::Added,
        Some(Change::Changed) => Mark::Changed,
        Some(Change::Removed) => Mark::Removed,
        Some(Change::Kept) | None => Mark::Same,
    }
}

/// A text to look for in paths.
pub(super) struct Search {
    text: Vec<u8>,
    ignores_case: bool,
    is_of_path: bool,
}

impl Search {
    pub(super) fn new(text: &str) -> Self {
        let ignores_case = !text.chars().any(char::is_uppercase);
        Self { text: text.as_bytes().to_vec(), ignores_case, is_of_path: text.contains('/') }
    }

    fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Whether a path, with a slash in front, holds the text.
    pub(super) fn finds_path(&self, path: &[u8]) -> bool {
        self.is_empty() || self.is_in(path)
    }

    /// Whether the name holds the text; with a slash in the text, whether the path does.
    fn finds(&self, stack: &Stack, node: Node) -> bool {
        if self.is_of_path {
            let path = [b"/", &*stack.path(node)].concat();
            return self.is_in(&path);
        }
        self.is_in(stack.name(node))
    }

    fn is_in(&self, name: &[u8]) -> bool {
        let Some((first, rest)) = self.text.split_first() else { return true };
        let Some(last_start) = name.len().checked_sub(self.text.len()) else { return false };
        // Most places are passed over by their first byte.
        (0..=last_start).any(|start| {
            let tail = &name[start + 1..start + 1 + rest.len()];
            match self.ignores_case {
                true => name[start].eq_ignore_ascii_case(first) && tail.eq_ignore_ascii_case(rest),
                false => name[start] == *first && tail == rest,
            }
        })
    }
}

#[cfg(test)]
mod tests;
