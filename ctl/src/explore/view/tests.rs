use proptest::prelude::*;

use super::*;
use crate::explore::stack::tests::{arbitrary_layer, directory, file, removed, stack};

fn wanted(layer: usize, scope: Scope) -> Wanted {
    Wanted { layer, scope, shown: Shown::default(), text: String::new(), sort: Sort::Name }
}

/// A base, and a layer that adds, changes and removes.
fn example() -> Stack {
    stack(vec![
        vec![
            directory("bin"),
            file("bin/small", 1),
            file("bin/large", 100),
            directory("etc"),
            file("etc/conf", 10),
            directory("old"),
            file("old/a", 5),
            file("old/b", 6),
        ],
        vec![file("bin/New", 50), file("etc/conf", 20), removed("old")],
    ])
}

/// "+bin/New 50" for each row, indented.
fn rows(view: &View, stack: &Stack) -> Vec<String> {
    let row = |row: &Row| {
        let name = String::from_utf8_lossy(stack.name(row.node));
        let (indent, mark) = ("  ".repeat(row.depth.into()), view.mark(row.node).letter());
        format!("{indent}{mark}{name} {}", view.size(row.node))
    };
    view.rows().iter().map(row).collect()
}

#[test]
fn the_tree_up_to_a_layer_is_folded_and_marked() {
    let stack = example();
    let mut view = View::new(&stack, wanted(1, Scope::Everything));

    assert_eq!(rows(&view, &stack), ["·bin 151", "·etc 20", "-old 11"]);
    assert_eq!(view.size(ROOT), 171, "what is removed is not in the sum");
    view.toggle(&stack, stack.find(b"bin").unwrap());
    assert_eq!(rows(&view, &stack), ["·bin 151", "  +New 50", "   large 100", "   small 1", "·etc 20", "-old 11"]);
    view.want(&stack, wanted(0, Scope::Everything));
    assert_eq!(rows(&view, &stack), ["+bin 101", "  +large 100", "  +small 1", "+etc 10", "+old 11"]);
}

#[test]
fn changes_show_only_what_the_layer_did_and_unfold_what_leads_there() {
    let stack = example();
    let mut view = View::new(&stack, wanted(1, Scope::Changes));

    assert_eq!(rows(&view, &stack), ["·bin 50", "  +New 50", "·etc 20", "  ~conf 20", "-old 11"]);
    view.toggle(&stack, stack.find(b"old").unwrap());
    assert_eq!(rows(&view, &stack)[4..], ["-old 11", "  -a 5", "  -b 6"]);
    view.unfold_all(&stack, false);
    assert_eq!(rows(&view, &stack), ["·bin 50", "·etc 20", "-old 11"]);
    view.unfold_all(&stack, true);
    assert_eq!(view.rows().len(), 7);
}

#[test]
fn kinds_of_change_can_be_left_out() {
    let stack = example();
    let shown = Shown { added: false, same: false, ..Shown::default() };
    let mut view = View::new(&stack, Wanted { shown, ..wanted(1, Scope::Everything) });
    view.unfold_all(&stack, true);

    assert_eq!(rows(&view, &stack), ["·etc 20", "  ~conf 20", "-old 11", "  -a 5", "  -b 6"]);
}

#[test]
fn a_search_unfolds_what_leads_to_what_it_finds() {
    let stack = example();
    let search = |text: &str| {
        let view = View::new(&stack, Wanted { text: text.to_owned(), ..wanted(1, Scope::Everything) });
        rows(&view, &stack)
    };

    assert_eq!(search("new"), ["·bin 151", "  +New 50"]);
    assert_eq!(search("New"), ["·bin 151", "  +New 50"]);
    assert_eq!(search("NEW"), [""; 0], "capitals matter when there are some");
    assert_eq!(search("bin"), ["·bin 151"], "what is found itself stays folded");
    assert_eq!(search("/etc/c"), ["·etc 20", "  ~conf 20"]);
    assert_eq!(search("l"), ["·bin 151", "   large 100", "   small 1", "-old 11"]);
}

#[test]
fn a_view_that_was_changed_is_as_one_made_anew() {
    let stack = example();
    let mut view = View::new(&stack, wanted(0, Scope::Everything));
    let search = |text: &str, layer| Wanted { text: text.to_owned(), ..wanted(layer, Scope::Everything) };
    let steps = [
        search("e", 0),
        search("e", 1),
        wanted(1, Scope::Changes),
        Wanted { sort: Sort::Size, ..wanted(1, Scope::Changes) },
        Wanted { shown: Shown { removed: false, ..Shown::default() }, ..wanted(1, Scope::Everything) },
        wanted(0, Scope::Everything),
    ];
    for step in steps {
        view.want(&stack, step.clone());

        assert_eq!(rows(&view, &stack), rows(&View::new(&stack, step.clone()), &stack), "{step:?}");
    }
}

#[test]
fn the_largest_come_first_when_wanted() {
    let stack = example();
    let mut view = View::new(&stack, Wanted { sort: Sort::Size, ..wanted(1, Scope::Everything) });
    view.toggle(&stack, stack.find(b"bin").unwrap());

    assert_eq!(rows(&view, &stack), ["·bin 151", "   large 100", "  +New 50", "   small 1", "·etc 20", "-old 11"]);
    view.want(&stack, wanted(1, Scope::Everything));
    assert_eq!(rows(&view, &stack)[1], "  +New 50");
}

#[test]
fn the_row_of_a_folded_name_is_that_of_its_directory() {
    let stack = example();
    let view = View::new(&stack, wanted(1, Scope::Everything));

    assert_eq!(view.find(&stack, stack.find(b"etc/conf").unwrap()), Some(1));
    assert_eq!(view.find(&stack, stack.find(b"old").unwrap()), Some(2));
    assert_eq!(view.find(&stack, ROOT), None);
}

proptest! {
    #[test]
    fn sizes_of_trees_agree_with_those_of_layers(layers in prop::collection::vec(arbitrary_layer(), 1..6)) {
        let stack = stack(layers);
        let mut visible = 0;
        for (layer, totals) in stack.layers().iter().enumerate() {
            visible = visible + totals.bytes - totals.hides;
            let view = View::new(&stack, wanted(layer, Scope::Everything));
            prop_assert_eq!(view.size(ROOT), visible, "layer {}", layer);
            let changes = View::new(&stack, wanted(layer, Scope::Changes));
            prop_assert_eq!(changes.size(ROOT), totals.bytes, "layer {}", layer);
        }
    }

    #[test]
    fn unfolded_trees_show_every_name_below_its_directory(layers in prop::collection::vec(arbitrary_layer(), 1..6)) {
        let stack = stack(layers);
        for layer in 0..stack.layers().len() {
            let mut view = View::new(&stack, wanted(layer, Scope::Everything));
            view.unfold_all(&stack, true);
            let shown: Vec<Node> = view.rows().iter().map(|row| row.node).collect();
            let there = (1..stack.len() as Node).filter(|node| view.mark(*node) != Mark::Absent);
            prop_assert_eq!(shown.len(), there.clone().count());
            for node in there {
                let at = shown.iter().position(|other| *other == node).unwrap();
                let parent = stack.parent(node);
                prop_assert!(parent == ROOT || shown[..at].contains(&parent));
                prop_assert_eq!(usize::from(view.rows()[at].depth), stack.path(node).split(|byte| *byte == b'/').count() - 1);
            }
        }
    }
}
