use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::explore::entry::{Action, Entry, Kind};

fn entry(path: &str, action: Action) -> Entry {
    Entry { path: Bytes::copy_from_slice(path.as_bytes()), action }
}

fn put(facts: Facts) -> Action {
    Action::Put { facts, hard_link: None }
}

/// A file whose content is told by one byte.
fn content(size: u64, content: u8) -> Facts {
    Facts {
        kind: Kind::Regular,
        mode: 0o644,
        size,
        content: (size > 0).then_some([content; 16]),
        ..Facts::implied_directory()
    }
}

pub(in crate::explore) fn file(path: &str, size: u64) -> Entry {
    entry(path, put(content(size, 1)))
}

pub(in crate::explore) fn directory(path: &str) -> Entry {
    entry(path, put(Facts::implied_directory()))
}

pub(in crate::explore) fn removed(path: &str) -> Entry {
    entry(path, Action::Remove)
}

fn implied(path: &str) -> Entry {
    entry(path, Action::Imply)
}

fn opaque(path: &str) -> Entry {
    entry(path, Action::Replace { facts: Facts::implied_directory() })
}

fn link(path: &str, target: &str) -> Entry {
    let facts = Facts { kind: Kind::Symlink, target: target.as_bytes().into(), ..Facts::implied_directory() };
    entry(path, put(facts))
}

fn hard_link(path: &str, first: &str, size: u64) -> Entry {
    let hard_link = Some(Bytes::copy_from_slice(first.as_bytes()));
    entry(path, Action::Put { facts: content(size, 1), hard_link })
}

pub(in crate::explore) fn stack(layers: Vec<Vec<Entry>>) -> Stack {
    let mut builder = Builder::default();
    for layer in layers {
        builder.begin_layer();
        layer.into_iter().for_each(|entry| builder.add(entry));
    }
    builder.finish()
}

/// Paths that are there in the tree up to a layer, by path.
fn tree(stack: &Stack, layer: usize) -> BTreeMap<Vec<u8>, &Facts> {
    let there = (1..stack.len() as Node).filter_map(|node| match stack.state(node, layer) {
        State::Present(facts, _) => Some((stack.path(node), facts)),
        _ => None,
    });
    there.collect()
}

fn paths(stack: &Stack, layer: usize) -> Vec<String> {
    tree(stack, layer).into_keys().map(|path| String::from_utf8(path).unwrap()).collect()
}

fn change(stack: &Stack, path: &str, layer: usize) -> Option<Change> {
    let node = stack.find(path.as_bytes()).unwrap();
    stack.events(node).find(|event| event.0 == layer).map(|event| event.1)
}

#[test]
fn layers_add_change_and_remove() {
    let stack = stack(vec![
        vec![directory("a"), file("a/one", 10), file("a/two", 20)],
        vec![implied("a"), removed("a/one"), entry("a/two", put(content(5, 2))), file("a/three", 1)],
    ]);

    assert_eq!(paths(&stack, 0), ["a", "a/one", "a/two"]);
    assert_eq!(paths(&stack, 1), ["a", "a/three", "a/two"]);
    assert_eq!(change(&stack, "a/one", 1), Some(Change::Removed));
    assert_eq!(change(&stack, "a/two", 1), Some(Change::Changed));
    assert_eq!(change(&stack, "a", 1), None, "what is only implied stays as it is");
    let base = Totals { bytes: 30, added: 3, ..Totals::default() };
    assert_eq!(stack.layers(), [base, Totals { bytes: 6, added: 1, changed: 1, removed: 1, hides: 30 }]);
    let waste: Vec<_> = stack.waste().iter().map(|waste| (stack.path(waste.node), waste.bytes, waste.copies)).collect();
    assert_eq!(waste, [(b"a/two".to_vec(), 20, 1), (b"a/one".to_vec(), 10, 1)]);
    assert_eq!((stack.bytes(), stack.wasted()), (36, 30));
    assert!((stack.efficiency() - 6.0 / 36.0).abs() < 1e-9);
}

#[test]
fn the_same_file_once_more_is_a_change_that_wastes_and_a_directory_once_more_is_none() {
    let layer = || vec![directory("d"), file("d/f", 7), link("d/l", "f"), file("d/empty", 0)];
    let stack = stack(vec![layer(), layer(), layer()]);

    assert_eq!(change(&stack, "d/f", 1), Some(Change::Changed));
    for path in ["d", "d/l", "d/empty"] {
        assert_eq!(change(&stack, path, 1), Some(Change::Kept), "{path}");
    }
    assert_eq!(stack.waste().len(), 1);
    assert_eq!((stack.waste()[0].bytes, stack.waste()[0].copies), (14, 2));
    assert_eq!(stack.layers()[1], Totals { bytes: 7, changed: 1, hides: 7, ..Totals::default() });
}

#[test]
fn a_removed_directory_takes_everything_with_it_and_comes_back_empty() {
    let stack = stack(vec![
        vec![directory("d"), directory("d/e"), file("d/e/f", 3), file("d/g", 4)],
        vec![removed("d")],
        vec![directory("d"), file("d/new", 1)],
    ]);

    assert_eq!(paths(&stack, 1), Vec::<String>::new());
    assert_eq!(paths(&stack, 2), ["d", "d/new"]);
    assert_eq!(stack.layers()[1], Totals { removed: 4, hides: 7, ..Totals::default() });
    assert_eq!(change(&stack, "d", 2), Some(Change::Added));
}

#[test]
fn an_opaque_directory_shows_only_its_own() {
    let stack = stack(vec![
        vec![directory("d"), directory("d/sub"), file("d/old", 3), file("d/sub/deep", 4), file("d/same", 5)],
        vec![opaque("d"), file("d/same", 5), directory("d/sub")],
    ]);

    assert_eq!(paths(&stack, 1), ["d", "d/same", "d/sub"]);
    assert_eq!(change(&stack, "d/same", 1), Some(Change::Changed));
    assert_eq!(change(&stack, "d/sub", 1), Some(Change::Kept), "as good as never gone");
    assert_eq!(change(&stack, "d/sub/deep", 1), Some(Change::Removed));
    assert_eq!(stack.layers()[1].hides, 12);
    assert_eq!(stack.layers()[1].removed, 2);
}

#[test]
fn files_and_directories_replace_each_other() {
    let stack = stack(vec![
        vec![directory("a"), file("a/in", 2), file("b", 3)],
        vec![file("a", 1), directory("b"), file("b/in", 1)],
        vec![directory("a")],
    ]);

    assert_eq!(paths(&stack, 1), ["a", "b", "b/in"]);
    assert_eq!(paths(&stack, 2), ["a", "b", "b/in"]);
    assert_eq!(stack.wasted(), 6);
}

#[test]
fn a_content_with_several_names_counts_once_and_is_wasted_with_its_last() {
    let stack = stack(vec![
        vec![file("a", 10), hard_link("b", "a", 10), hard_link("c", "a", 10)],
        vec![removed("a")],
        vec![removed("b"), file("c", 1)],
    ]);

    assert_eq!(stack.layers()[0].bytes, 10);
    assert_eq!(stack.layers()[1].hides, 0, "two names are left");
    assert_eq!(stack.layers()[2].hides, 10);
    assert_eq!(stack.path(stack.waste()[0].node), b"c");
    let inodes: Vec<_> = ["a", "b", "c"].map(|path| stack.inode(stack.find(path.as_bytes()).unwrap(), 0)).to_vec();
    assert!(inodes[0].is_some() && inodes.iter().all(|inode| *inode == inodes[0]));
}

#[test]
fn what_only_implies_a_directory_follows_the_link_below() {
    let stack = stack(vec![
        vec![directory("usr"), directory("usr/lib"), link("lib", "usr/lib"), file("usr/lib/old", 1)],
        vec![implied("lib"), file("lib/new", 2), removed("lib/old")],
        vec![directory("lib"), file("lib/own", 3)],
    ]);

    assert_eq!(paths(&stack, 1), ["lib", "usr", "usr/lib", "usr/lib/new"]);
    assert_eq!(change(&stack, "usr/lib/old", 1), Some(Change::Removed));
    assert_eq!(
        paths(&stack, 2),
        ["lib", "lib/own", "usr", "usr/lib", "usr/lib/new"],
        "its own entry replaces the link"
    );
}

#[test]
fn links_lead_up_and_around_but_never_out_and_loops_are_replaced() {
    let base = || {
        vec![
            directory("a"),
            link("a/absolute", "/x/y"),
            link("a/up", "../../../../b/./c"),
            link("loop", "pool"),
            link("pool", "loop"),
        ]
    };
    let top = vec![
        implied("a"),
        implied("a/absolute"),
        file("a/absolute/f", 1),
        implied("a/up"),
        file("a/up/g", 1),
        implied("loop"),
        file("loop/h", 1),
    ];
    let stack = stack(vec![base(), top]);

    let there = paths(&stack, 1);
    for path in ["x/y/f", "b/c/g", "loop/h"] {
        assert!(there.iter().any(|other| other == path), "{path} in {there:?}");
    }
}

#[test]
fn parents_that_nobody_listed_are_there_all_the_same() {
    let stack = stack(vec![vec![file("a/b/c", 1)], vec![removed("a"), file("a/b/d", 1)]]);

    assert_eq!(paths(&stack, 0), ["a", "a/b", "a/b/c"]);
    assert_eq!(paths(&stack, 1), ["a", "a/b", "a/b/d"]);
}

#[test]
fn a_layer_that_describes_the_root_changes_it_only_later() {
    let root = |mode| entry("", put(Facts { mode, ..Facts::implied_directory() }));
    let stack = stack(vec![vec![root(0o700)], vec![root(0o700)], vec![root(0o755)]]);

    let changes: Vec<_> = stack.events(ROOT).map(|(layer, change, _)| (layer, change)).collect();
    assert_eq!(changes[..3], [(2, Change::Changed), (1, Change::Kept), (0, Change::Kept)]);
    assert_eq!(stack.layers()[0].changed, 0);
}

#[test]
fn children_are_sorted_and_found() {
    let stack = stack(vec![vec![file("b", 1), file("a", 1), directory("c"), file("c/z", 1), file("c/a", 1)]]);

    let names: Vec<&[u8]> = stack.children(ROOT).iter().map(|node| stack.name(*node)).collect();
    assert_eq!(names, [b"a", b"b", b"c"]);
    assert_eq!(stack.find(b"c/z").map(|node| stack.path(node)), Some(b"c/z".to_vec()));
    assert_eq!(stack.find(b"c/y"), None);
    assert_eq!(stack.find(b""), Some(ROOT));
}

/// What a layer has at a path: a model as plain as can be.
#[derive(Clone, Debug, PartialEq)]
enum Model {
    File { size: u64, content: u8, same_as: Option<usize> },
    Directory { mode: u32 },
    Implied,
    Opaque,
    Whiteout,
}

pub(in crate::explore) fn arbitrary_layer() -> impl Strategy<Value = Vec<Entry>> {
    let path = prop::collection::vec(prop::sample::select(vec!["a", "b", "a.b", "c"]), 1..4);
    let what = prop_oneof![
        4 => (0..4_u64, 0..3_u8, prop::option::of(0..8_usize))
            .prop_map(|(size, content, same_as)| Model::File { size, content, same_as }),
        2 => (0..2_u32).prop_map(|mode| Model::Directory { mode: 0o755 - mode }),
        1 => Just(Model::Opaque),
        2 => Just(Model::Whiteout),
    ];
    prop::collection::vec((path, what), 0..12).prop_map(|wanted| {
        let mut layer: BTreeMap<String, Model> = BTreeMap::new();
        for (names, what) in wanted {
            let path = names.join("/");
            for length in 1..names.len() {
                let above = layer.entry(names[..length].join("/")).or_insert(Model::Implied);
                if !matches!(above, Model::Directory { .. } | Model::Implied | Model::Opaque) {
                    *above = Model::Directory { mode: 0o755 };
                }
            }
            let is_directory = matches!(what, Model::Directory { .. } | Model::Opaque);
            let has_more = layer.keys().any(|other| other.starts_with(&format!("{path}/")));
            if is_directory || !has_more {
                layer.insert(path, what);
            }
        }
        entries(layer)
    })
}

/// A layer's entries; a file may share its content with an earlier one of the same layer.
fn entries(layer: BTreeMap<String, Model>) -> Vec<Entry> {
    let mut files: Vec<(String, Facts)> = vec![];
    let mut all = vec![];
    for (path, what) in layer {
        let action = match what {
            Model::File { same_as: Some(index), .. } if index < files.len() => {
                let (first, facts) = files[index].clone();
                Action::Put { facts, hard_link: Some(first.into()) }
            }
            Model::File { size, content: byte, .. } => {
                files.push((path.clone(), content(size, byte)));
                put(content(size, byte))
            }
            Model::Directory { mode } => put(Facts { mode, ..Facts::implied_directory() }),
            Model::Implied => Action::Imply,
            Model::Opaque => Action::Replace { facts: Facts::implied_directory() },
            Model::Whiteout => Action::Remove,
        };
        all.push(entry(&path, action));
    }
    all
}

/// A tree by path: facts, and which content it is (layer, first name).
type Plain = BTreeMap<Vec<u8>, (Facts, (usize, Vec<u8>))>;

fn apply(tree: &mut Plain, number: usize, layer: &[Entry]) {
    let below = |tree: &mut Plain, path: &[u8]| {
        let prefix = [path, b"/"].concat();
        tree.retain(|other, _| !other.starts_with(&prefix));
    };
    for Entry { path, action } in layer {
        let path = path.to_vec();
        match action {
            Action::Remove => {
                below(tree, &path);
                tree.remove(&path);
            }
            Action::Imply if tree.get(&path).is_some_and(|(facts, _)| facts.kind == Kind::Directory) => {}
            Action::Imply => {
                tree.insert(path.clone(), (Facts::implied_directory(), (number, path)));
            }
            Action::Replace { facts } => {
                below(tree, &path);
                tree.insert(path.clone(), (facts.clone(), (number, path)));
            }
            Action::Put { facts, hard_link } => {
                if facts.kind != Kind::Directory {
                    below(tree, &path);
                }
                let first = hard_link.as_ref().map_or(path.clone(), |first| first.to_vec());
                tree.insert(path, (facts.clone(), (number, first)));
            }
        }
    }
}

fn bytes(tree: &Plain) -> u64 {
    let contents: BTreeMap<_, _> = tree.values().map(|(facts, content)| (content, facts.size)).collect();
    contents.values().sum()
}

proptest! {
    #[test]
    fn the_tree_of_events_is_what_applying_layers_in_order_gives(
        layers in prop::collection::vec(arbitrary_layer(), 1..6)
    ) {
        let made = stack(layers.clone());

        let mut plain = Plain::new();
        let mut total = 0;
        for (number, layer) in layers.iter().enumerate() {
            let before = plain.clone();
            apply(&mut plain, number, layer);
            let expected: BTreeMap<_, _> = plain.iter().map(|(path, (facts, _))| (path.clone(), facts)).collect();
            prop_assert_eq!(tree(&made, number), expected, "up to layer {}", number);
            let mut own = Plain::new();
            apply(&mut own, number, layer);
            prop_assert_eq!(made.layers()[number].bytes, bytes(&own), "bytes of layer {}", number);
            total += bytes(&own);
            prop_assert_eq!(bytes(&before) + bytes(&own) - made.layers()[number].hides, bytes(&plain));
            let removed = before.keys().filter(|path| !plain.contains_key(*path)).count();
            let added = plain.keys().filter(|path| !before.contains_key(*path)).count();
            prop_assert_eq!((made.layers()[number].removed, made.layers()[number].added), (removed as u64, added as u64));
        }
        prop_assert_eq!(made.bytes(), total);
        prop_assert_eq!(made.wasted(), total - bytes(&plain));
        prop_assert_eq!(made.waste().iter().map(|waste| waste.bytes).sum::<u64>(), made.wasted());
        for node in 1..made.len() as Node {
            prop_assert!(made.parent(node) < node);
            prop_assert!(made.children(made.parent(node)).contains(&node));
        }
    }
}
