//! What holds for every chain: its layers mean what they mean one after the other, and a flat one shows what it showed.

use proptest::prelude::*;

use super::entries::Item;
use super::{Bench, detail, sequential};
use crate::layer::Backend;

/// Paths of up to three components, some of which may be links.
fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "l", "m"]), 1..4).prop_map(|names| names.join("/"))
}

fn item() -> impl Strategy<Value = Item> {
    prop_oneof![
        3 => (path(), prop::sample::select(vec![0o755u32, 0o700, 0o1777])).prop_map(|(path, mode)| Item::Directory { path, mode }),
        4 => (path(), 0..3u8).prop_map(|(path, text)| Item::File { path, text: text.to_string() }),
        // Targets are never links themselves, so that there are no loops.
        2 => (path(), prop::sample::select(vec!["/t/u", "/t", "/t/v/w"])).prop_map(|(path, target)| Item::Link { path, target: target.into() }),
        1 => path().prop_map(|path| Item::Whiteout { path }),
        1 => path().prop_map(|path| Item::Opaque { path }),
    ]
}

/// A layer names each path once, parents before what is in them, marks before their siblings, and nothing below its
/// own files.
fn layer() -> impl Strategy<Value = Vec<Item>> {
    prop::collection::vec(item(), 1..6).prop_map(|mut items| {
        items.sort_by_key(|item| {
            let (parent, name) = item.path().rsplit_once('/').unwrap_or(("", item.path()));
            let parents: Vec<String> = parent.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect();
            let is_mark = matches!(item, Item::Whiteout { .. });
            let name = if is_mark { format!("\0{name}") } else { name.to_owned() };
            parents.into_iter().chain([name]).collect::<Vec<_>>()
        });
        let mut kept: Vec<Item> = Vec::new();
        for item in items {
            let is_free = kept.iter().all(|other| {
                let (one, two) = (item.path(), other.path());
                let nested = |outer: &str, inner: &str| inner.starts_with(&format!("{outer}/"));
                // A whiteout below a directory that hides everything says nothing.
                let passable = |outer: &Item, inner: &Item| match outer {
                    Item::Directory { .. } => true,
                    Item::Opaque { .. } => !matches!(inner, Item::Whiteout { .. }),
                    _ => false,
                };
                one != two
                    && (!nested(one, two) || passable(&item, other))
                    && (!nested(two, one) || passable(other, &item))
            });
            if is_free {
                kept.push(item);
            }
        }
        kept
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_chain_of_parentless_layers_means_what_sequential_apply_means(layers in prop::collection::vec(layer(), 1..5)) {
        let expected = sequential(&layers);
        prop_assume!(expected.is_some());

        let mut bench = Bench::new();
        layers.iter().for_each(|items| bench.add(items));

        prop_assert_eq!(bench.merged(), expected.unwrap());
    }

    #[test]
    fn a_flat_chain_shows_what_the_stacked_one_shows(
        layers in prop::collection::vec(layer(), 1..5),
        // A bit for each layer that is an image: none, all, those at the bottom, and every other one.
        images in prop::sample::select(vec![0b00000, 0b11111, 0b00011, 0b10101]),
    ) {
        let mut bench = Bench::new();
        for (index, items) in layers.iter().enumerate() {
            bench.add_as(if images >> index & 1 == 1 { Backend::Erofs } else { Backend::Dirs }, items);
        }
        let stacked = bench.assemble();
        let before = bench.shown(&stacked, detail);

        let flat = bench.flatten();

        prop_assert_eq!(bench.shown(&flat, detail), before);
    }
}
