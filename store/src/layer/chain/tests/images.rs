//! Long chains with images among their layers.

use super::*;

/// Files below `d` with contents of their own, so many bytes each.
fn files(names: &[&str], size: usize) -> Vec<Item> {
    let file = |name: &&str| Item::File { path: format!("d/{name}"), text: name.repeat(size) };
    [directory("d", 0o710)].into_iter().chain(names.iter().map(file)).collect()
}

/// Images of which the upper ones hide some of what the lower ones have, and imply a directory.
fn images() -> Bench {
    let mut bench = Bench::new();
    let mut base = files(&["a", "b", "c"], 100_000);
    base.extend([directory("gone", 0o755), file("gone/in"), directory("hidden", 0o700), file("hidden/below")]);
    base.extend([directory("was", 0o755), file("was/in"), link("link", "d/a")]);
    bench.add_as(Backend::Erofs, &base);
    bench.add_as(Backend::Erofs, &[Item::Whiteout { path: "d/a".into() }, file("d/more"), file("gone/too")]);
    bench.add_as(Backend::Erofs, &[Item::Whiteout { path: "d/b".into() }, Item::Whiteout { path: "link".into() }]);
    bench
}

fn devices(index: &Path) -> Vec<String> {
    let mut devices = strata_erofs::devices(&fs::File::open(index).unwrap()).unwrap();
    devices.sort();
    devices
}

#[test]
fn a_chain_of_images_becomes_an_index_without_contents() {
    let bench = images();
    let stacked = bench.assemble();
    assert!(stacked.lowers.len() > 3, "an implied directory is repaired");
    let before = bench.shown(&stacked, detail);

    let flat = bench.flatten();

    let index = bench.chains.flat_path(&bench.ids()).join("0");
    assert_eq!(bench.chains.images().image_at(&flat.lowers[0]).as_ref(), Some(&index));
    assert_eq!(bench.shown(&flat, detail), before);
    assert_eq!(devices(&index), ["l0", "l1", "l2"]);
    let room = index.metadata().unwrap().blocks() * 512;
    assert!(room < 100_000, "{room} bytes");
    let shown = bench.shown(&Chain { lowers: flat.lowers.clone(), root: None }, describe);
    assert!(!shown.iter().any(|line| line.starts_with("d/a ") || line.starts_with("d/b ")), "{shown:?}");
}

#[test]
fn a_longer_chain_of_images_is_merged_with_the_index_of_its_beginning() {
    let mut bench = images();
    bench.flatten();
    bench.add_as(Backend::Erofs, &files(&["e"], 10_000));
    bench.add_as(Backend::Erofs, &[Item::Whiteout { path: "d/c".into() }, file("f")]);
    let stacked = bench.assemble();
    assert!(stacked.lowers.len() < 5, "it stands on the index: {:?}", stacked.lowers);
    let before = bench.shown(&stacked, detail);

    let flat = bench.flatten();

    assert_eq!(bench.shown(&flat, detail), before);
    assert_eq!(devices(&bench.chains.flat_path(&bench.ids()).join("0")), ["l0", "l1", "l2", "l3", "l4"]);
}

#[test]
fn directories_on_images_become_one_and_hide_what_is_below() {
    let mut bench = images();
    bench.add(&[Item::Whiteout { path: "gone".into() }, file("d/c"), directory("was", 0o701), file("was/before")]);
    bench.add(&[Item::Opaque { path: "hidden".into() }, file("hidden/new"), Item::Whiteout { path: "was".into() }]);
    bench.add(&[directory("was", 0o711), file("was/new"), file("d/g"), directory("fresh", 0o755), file("fresh/x")]);
    bench.add(&[Item::Whiteout { path: "fresh/x".into() }, file("fresh/y"), Item::Whiteout { path: "never".into() }]);
    let stacked = bench.assemble();
    let before = bench.shown(&stacked, detail);

    let flat = bench.flatten();

    let made = bench.chains.flat_path(&bench.ids());
    assert_eq!(flat.lowers[0], made.join("0"));
    assert_eq!(bench.chains.images().image_at(&flat.lowers[1]), Some(made.join("1")));
    assert_eq!(bench.shown(&flat, detail), before);
    let shown = bench.shown(&flat, describe);
    for gone in ["gone", "hidden/below", "was/in", "was/before", "fresh/x"] {
        assert!(!shown.iter().any(|line| line.starts_with(&format!("{gone} "))), "{gone} is in {shown:?}");
    }
    assert!(Metadata::at(CWD, &made.join("0/gone")).unwrap().is_whiteout());
    for nothing in ["fresh/x", "was/in", "never"] {
        let mark = Metadata::at(CWD, &made.join("0").join(nothing));
        assert!(mark.is_err(), "there is nothing below that {nothing} would hide, and it is listed");
    }
}

#[test]
fn a_single_image_below_directories_stays_itself() {
    let mut bench = Bench::new();
    bench.add_as(Backend::Erofs, &files(&["a", "b"], 1000));
    let base = bench.assemble().lowers.clone();
    bench.add(&[Item::Whiteout { path: "d/a".into() }]);
    bench.add(&[file("c")]);
    let before = bench.shown(&bench.assemble(), detail);

    let flat = bench.flatten();

    assert_eq!(flat.lowers[1..], base, "so that its pages are those of all its containers");
    assert_eq!(bench.shown(&flat, detail), before);
    let again = Bench::open(bench.base.path(), "boot");
    let found = again.assemble(&bench.links, &|id| Ok(bench.tocs[id].clone())).unwrap();
    assert_eq!(found.lowers[0], flat.lowers[0]);
    assert_eq!(again.images().image_at(&found.lowers[1]), Some(bench.base.path().join("layers/l0")));
    assert_eq!(bench.shown(&found, detail), before);
}

#[test]
fn an_index_is_found_again_and_goes_with_its_layers_and_so_does_its_mount() {
    let bench = images();
    let before = bench.shown(&bench.flatten(), detail);
    let index = bench.chains.flat_path(&bench.ids()).join("0");
    let again = Bench::open(bench.base.path(), "boot");
    let load = |_: &str| -> Result<Toc, Box<dyn std::error::Error + Send + Sync>> { Err("not needed".into()) };

    let found = again.assemble(&bench.links, &load).unwrap();

    assert_eq!(again.images().image_at(&found.lowers[0]).as_ref(), Some(&index));
    assert_eq!(bench.shown(&found, detail), before);
    again.sweep(|id| id != "l1").unwrap();
    again.images().sweep();
    assert!(!index.exists());
    assert_eq!(again.images().image_at(&found.lowers[0]), None);
}

#[test]
fn an_index_that_is_cut_off_leaves_the_stack_and_no_name() {
    let mut bench = images();
    let many: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    bench.add_as(Backend::Erofs, &files(&many.iter().map(String::as_str).collect::<Vec<_>>(), 1));
    let stacked = bench.assemble();

    assert!(!bench.chains.flatten(&bench.ids(), &|| false).unwrap());

    assert_eq!(bench.assemble().lowers, stacked.lowers);
    let left = crate::disk::names(&bench.base.path().join("chains")).unwrap();
    assert!(left.iter().all(|name| !name.ends_with("-merged") && !name.starts_with(UNFINISHED)), "{left:?}");
    assert!(bench.chains.flatten(&bench.ids(), &|| true).unwrap(), "it can be tried again");
}

#[test]
fn an_index_that_cannot_be_mounted_is_in_nobodys_way() {
    let bench = images();
    let before = bench.shown(&bench.flatten(), detail);
    let index = bench.chains.flat_path(&bench.ids()).join("0");
    fs::write(&index, vec![0; 100_000]).unwrap();

    let again = Bench::open(bench.base.path(), "boot");
    let found = again.assemble(&bench.links, &|id| Ok(bench.tocs[id].clone())).unwrap();

    assert!(found.lowers.len() > 3, "the stack: {:?}", found.lowers);
    assert_eq!(bench.shown(&found, detail), before);
    assert!(!index.exists());
    assert!(again.flatten(&bench.ids(), &|| true).unwrap(), "it is made again");
    let found = again.assemble(&bench.links, &|id| Ok(bench.tocs[id].clone())).unwrap();
    assert_eq!(found.lowers.len(), 1);
    assert_eq!(bench.shown(&found, detail), before);
}

#[test]
fn only_chains_that_become_much_shorter_are_wanted_flat() {
    let bench = images();
    let ids: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let image = bench.assemble().lowers.last().unwrap().clone();
    let directories = vec![PathBuf::from("x"); FLAT_ABOVE];
    let with = |lowers: &[PathBuf]| Chain { lowers: [&directories[..], lowers].concat(), root: None };
    let alternately = [image.clone(), PathBuf::from("x")].into_iter().cycle().take(60).collect();

    assert!(!bench.chains.begin_flat(&ids, &with(std::slice::from_ref(&image))), "30 and one are two for 31");
    assert!(!bench.chains.begin_flat(&ids, &Chain { lowers: alternately, root: None }), "nothing is next to its like");
    assert!(bench.chains.begin_flat(&ids, &with(&[PathBuf::from("x"), image])));
}
