//! Chains against applying archives one after the other, which a second, plainer implementation does here: `reference`.

mod entries;
mod images;
mod laws;
mod reference;

use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use entries::{Item, archive};
use reference::reference;
use rustix::fs::{CWD, FileType};

use super::*;
use crate::layer::Backend;
use crate::tree::Metadata;

/// Describes a tree, one line for each entry.
fn describe(directory: &OwnedFd, path: &Path, lines: &mut Vec<String>) {
    for name in tree::names(directory.as_fd(), path).unwrap() {
        let below = path.join(&name);
        // Overlay lists a whiteout that has nothing below it, but does not find it.
        let Ok(metadata) = Metadata::at(directory.as_fd(), Path::new(&name)) else { continue };
        let shown = format!("{} {:o}", below.display(), metadata.mode);
        match metadata.kind() {
            FileType::Directory => {
                lines.push(shown);
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                describe(&rustix::fs::openat(directory, &name, flags, Mode::empty()).unwrap(), &below, lines);
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(directory, &name, Vec::new()).unwrap();
                lines.push(format!("{shown} -> {}", target.to_str().unwrap()));
            }
            _ => {
                let file = rustix::fs::openat(directory, &name, OFlags::RDONLY, Mode::empty()).unwrap();
                lines.push(format!("{shown} {}", io::read_to_string(fs::File::from(file)).unwrap()));
            }
        }
    }
}

type Describe = fn(&OwnedFd, &Path, &mut Vec<String>);

/// Describes all that a process can see of a tree but the numbers of inodes and what counts their names. Instead of its
/// number, each file has the line of its first name.
fn detail(directory: &OwnedFd, path: &Path, lines: &mut Vec<String>) {
    let mut names = tree::names(directory.as_fd(), path).unwrap();
    names.sort();
    for name in names {
        let below = path.join(&name);
        let Ok(found) = Metadata::at(directory.as_fd(), Path::new(&name)) else { continue };
        let Metadata { mode, uid, gid, device, modified, .. } = found;
        let mut line = format!("{} {mode:o} {uid} {gid} {device} {modified:?}", below.display());
        let is_directory = found.kind() == FileType::Directory;
        if !is_directory {
            let stat = rustix::fs::statat(directory, &name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
            line.push_str(&format!(" {}{MARK}{}:{}", found.size, stat.st_dev, stat.st_ino));
        }
        let mut open = None;
        if found.kind() == FileType::Symlink {
            line = format!("-> {:?} {line}", rustix::fs::readlinkat(directory, &name, Vec::new()).unwrap());
        }
        if is_directory || found.kind() == FileType::RegularFile {
            let opened = rustix::fs::openat(directory, &name, OFlags::RDONLY, Mode::empty()).unwrap();
            line = format!("{:?} {line}", tree::xattrs(opened.as_fd()).unwrap());
            if !is_directory {
                let content = fs::read(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&opened))).unwrap();
                line = format!("{} {line}", blake3::hash(&content));
            }
            open = Some(opened);
        }
        lines.push(line);
        if let (true, Some(opened)) = (is_directory, open) {
            detail(&opened, &below, lines);
        }
    }
}

/// What stands before the number of an inode at the end of a line.
const MARK: char = '\0';

/// Replaces the numbers of inodes.
fn without_numbers(lines: Vec<String>) -> Vec<String> {
    let mut first = HashMap::new();
    let lines = lines.into_iter().enumerate();
    lines
        .map(|(index, line)| match line.split_once(MARK) {
            Some((rest, number)) => format!("{rest} as {}", first.entry(number.to_owned()).or_insert(index)),
            None => line,
        })
        .collect()
}

struct Bench {
    base: tempfile::TempDir,
    chains: Chains,
    links: Vec<Link>,
    tocs: HashMap<String, Toc>,
}

impl Bench {
    fn new() -> Self {
        // Overlay needs a file system with extended attributes of the trusted class.
        let base = tempfile::tempdir_in("/var/tmp").unwrap();
        fs::create_dir(base.path().join("layers")).unwrap();
        fs::create_dir(base.path().join("trash")).unwrap();
        let chains = Self::open(base.path(), "boot");
        Self { base, chains, links: Vec::new(), tocs: HashMap::new() }
    }

    fn open(base: &Path, boot_id: &str) -> Chains {
        Chains::open(base, &base.join("layers"), boot_id, Trash::new(base.join("trash"))).unwrap()
    }

    fn ids(&self) -> Vec<String> {
        self.links.iter().map(|link| link.id.clone()).collect()
    }

    /// Makes the chain flat, however short.
    fn flatten(&self) -> Arc<Chain> {
        let stacked = self.assemble();
        self.chains.flatten(&self.ids(), &|| true).unwrap();
        let flat = self.assemble();
        assert_eq!(flat.lowers.len(), flat::runs(&stacked.lowers, self.chains.images()).len());
        flat
    }

    fn add(&mut self, items: &[Item]) {
        self.add_as(Backend::Dirs, items);
    }

    fn add_as(&mut self, backend: Backend, items: &[Item]) {
        let id = format!("l{}", self.links.len());
        let layer = self.base.path().join("layers").join(&id);
        let applied = backend.apply(&layer, &archive(items)[..]).unwrap();
        self.tocs.insert(id.clone(), applied.toc);
        let shape =
            Shape { implied: applied.implied, has_root: applied.has_root, is_root_opaque: applied.is_root_opaque };
        self.links.push(Link { id, shape: Arc::new(shape) });
    }

    fn assemble(&self) -> Arc<Chain> {
        self.chains.assemble(&self.links, &|id| Ok(self.tocs[id].clone())).unwrap()
    }

    fn merged(&self) -> Vec<String> {
        self.shown(&self.assemble(), describe)
    }

    fn shown(&self, chain: &Chain, describe: Describe) -> Vec<String> {
        let view = View::open(&chain.lowers, self.chains.empty()).unwrap();
        let mut lines = Vec::new();
        let root = view.lookup(Path::new("/"), OFlags::RDONLY | OFlags::DIRECTORY).unwrap();
        describe(&root, Path::new(""), &mut lines);
        without_numbers(lines)
    }
}

fn sequential(layers: &[Vec<Item>]) -> Option<Vec<String>> {
    let base = tempfile::tempdir_in("/var/tmp").unwrap();
    layers.iter().try_for_each(|items| reference(base.path(), items))?;
    let mut lines = Vec::new();
    describe(&open(base.path()).unwrap(), Path::new(""), &mut lines);
    Some(lines)
}

fn directory(path: &str, mode: u32) -> Item {
    Item::Directory { path: path.into(), mode }
}

fn file(path: &str) -> Item {
    Item::File { path: path.into(), text: path.into() }
}

fn link(path: &str, target: &str) -> Item {
    Item::Link { path: path.into(), target: target.into() }
}

fn check(layers: &[Vec<Item>]) {
    let mut bench = Bench::new();
    layers.iter().for_each(|items| bench.add(items));

    assert_eq!(bench.merged(), sequential(layers).unwrap());
}

#[test]
fn an_implied_directory_keeps_the_mode_that_it_has_below() {
    check(&[vec![directory("tmp", 0o1777), directory("tmp/a", 0o700)], vec![file("tmp/a/b")], vec![file("tmp/c")]]);
}

#[test]
fn an_implied_directory_follows_the_link_that_it_is_below() {
    check(&[
        vec![directory("usr", 0o755), directory("usr/lib", 0o750), link("lib", "usr/lib")],
        vec![file("lib/x/y"), file("usr/lib/z")],
        vec![Item::Whiteout { path: "lib/z".into() }],
    ]);
}

#[test]
fn a_chain_of_layers_without_implied_directories_is_the_layers_themselves() {
    let mut bench = Bench::new();
    bench.add(&[directory("a", 0o700)]);
    bench.add(&[file("b")]);

    let chain = bench.assemble();

    let layers = bench.base.path().join("layers");
    assert_eq!(chain.lowers, [layers.join("l1"), layers.join("l0")]);
}

#[test]
fn repairs_are_found_again_and_go_with_their_layers() {
    let mut bench = Bench::new();
    bench.add(&[directory("a", 0o700)]);
    bench.add(&[file("a/b")]);
    let chain = bench.assemble();

    let again = Bench::open(bench.base.path(), "boot");
    let load = |_: &str| -> Result<Toc, Box<dyn std::error::Error + Send + Sync>> { Err("not needed".into()) };
    assert_eq!(again.assemble(&bench.links, &load).unwrap().lowers, chain.lowers);
    assert!(chain.lowers[0].metadata().unwrap().mode() & 0o170000 == 0o040000);
    again.sweep(|id| id != "l1").unwrap();
    assert!(!chain.lowers[0].exists());
}

/// Layers with what trees can have: hard links, attributes, devices, marks, a root of its own.
fn rich() -> Bench {
    let mut bench = Bench::new();
    let mut own = vec![directory("a", 0o2750), file("a/one"), file("a/two"), file("gone"), directory("hidden", 0o700)];
    own.extend([file("hidden/below"), link("link", "a/one"), directory("d", 0o711), file("d/kept"), file("replaced")]);
    bench.add(&own);
    let layer = bench.base.path().join("layers/l0");
    fs::remove_file(layer.join("a/two")).unwrap();
    fs::hard_link(layer.join("a/one"), layer.join("a/two")).unwrap();
    let set = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(layer.join(path), name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("a", "user.directory", b"yes");
    set("a/one", "user.file", b"\0\xff");
    set("link", "trusted.link", b"yes");
    let fifo = rustix::fs::mknodat(CWD, layer.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0);
    fifo.unwrap();
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(CWD, layer.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), null).unwrap();
    bench.add(&[Item::Whiteout { path: "gone".into() }, Item::Opaque { path: "hidden".into() }, file("hidden/new")]);
    bench.add(&[file("d/deep/er"), directory("replaced", 0o755), file("replaced/in"), file("a/three")]);
    bench
}

#[test]
fn a_flat_chain_keeps_hard_links_attributes_devices_and_hides_what_was_hidden() {
    let bench = rich();
    let stacked = bench.assemble();
    let before = bench.shown(&stacked, detail);

    let flat = bench.flatten();

    assert_eq!(bench.shown(&flat, detail), before);
    let root = &flat.lowers[0];
    let inode = |path: &Path| fs::symlink_metadata(path).unwrap().ino();
    let layer = bench.base.path().join("layers/l0");
    for path in ["a/one", "a/two", "link", "fifo", "null", "d/kept"] {
        assert_eq!(inode(&root.join(path)), inode(&layer.join(path)), "{path} is what the layer has");
    }
    for path in ["gone", "hidden/below"] {
        assert!(fs::symlink_metadata(root.join(path)).is_err(), "{path} has no mark and no place");
    }
}

#[test]
fn the_root_of_a_flat_chain_is_that_of_the_layer_that_has_one() {
    let mut bench = Bench::new();
    bench.add(&[file("a")]);
    bench.add(&[file("b")]);
    let one = bench.base.path().join("layers/l0");
    fs::set_permissions(&one, fs::Permissions::from_mode(0o1711)).unwrap();
    let shape = |has_root| Arc::new(Shape { has_root, ..Shape::default() });
    (bench.links[0].shape, bench.links[1].shape) = (shape(true), shape(false));

    let flat = bench.flatten();

    assert_eq!(flat.root.as_ref(), Some(&one));
    assert_eq!(flat.lowers[0].metadata().unwrap().mode() & 0o7777, 0o1711);
}

#[test]
fn a_longer_chain_stands_on_the_flat_form_of_its_beginning() {
    let mut bench = rich();
    bench.flatten();
    bench.add(&[Item::Whiteout { path: "a/one".into() }, file("a/four")]);

    let chain = bench.assemble();

    assert_eq!(chain.lowers.last(), Some(&bench.chains.flat_path(&bench.ids()[..3]).join("0")));
    let after = bench.shown(&chain, detail);
    let stacked = Bench::open(bench.base.path(), "another boot");
    let stacked = stacked.assemble(&bench.links, &|id| Ok(bench.tocs[id].clone())).unwrap();
    assert!(stacked.lowers.len() > 3);
    assert_eq!(after, bench.shown(&stacked, detail));
}

#[test]
fn a_chain_that_was_assembled_before_changes_to_the_flat_form_of_its_beginning() {
    let mut bench = rich();
    let beginning = bench.ids();
    bench.add(&[file("a/four")]);
    let stacked = bench.assemble();
    let before = bench.shown(&stacked, detail);

    assert!(bench.chains.flatten(&beginning, &|| true).unwrap());

    let chain = bench.assemble();
    assert!(chain.lowers.len() < stacked.lowers.len());
    assert_eq!(chain.lowers.last(), Some(&bench.chains.flat_path(&beginning).join("0")));
    assert_eq!(bench.shown(&chain, detail), before);
}

#[test]
fn a_flat_chain_is_found_again_and_goes_with_its_layers_and_its_boot() {
    let bench = rich();
    let flat = bench.flatten().lowers[0].clone();
    let load = |_: &str| -> Result<Toc, Box<dyn std::error::Error + Send + Sync>> { Err("not needed".into()) };

    let again = Bench::open(bench.base.path(), "boot");
    assert_eq!(again.assemble(&bench.links, &load).unwrap().lowers, std::slice::from_ref(&flat));
    again.sweep(|id| id != "l1").unwrap();
    assert!(!flat.exists());

    bench.chains.known.lock().unwrap().clear();
    let flat = bench.flatten().lowers[0].clone();
    Bench::open(bench.base.path(), "another boot");
    assert!(!flat.exists(), "nothing of it was synced");
}

#[test]
fn a_merge_that_is_cut_off_leaves_the_stack_and_no_name() {
    let bench = rich();
    let stacked = bench.assemble();
    for number in 0..300 {
        fs::write(bench.base.path().join("layers/l2/d").join(number.to_string()), "").unwrap();
    }

    assert!(!bench.chains.flatten(&bench.ids(), &|| false).unwrap());

    assert_eq!(bench.assemble().lowers, stacked.lowers);
    let left = crate::disk::names(&bench.base.path().join("chains")).unwrap();
    assert!(left.iter().all(|name| !name.ends_with("-merged") && !name.starts_with(UNFINISHED)), "{left:?}");
    // A kill leaves a directory that is not whole.
    let killed = bench.base.path().join("chains/new-1-1/0/x");
    fs::create_dir_all(&killed).unwrap();
    Bench::open(bench.base.path(), "boot");
    assert!(!killed.exists());
    assert!(bench.chains.flatten(&bench.ids(), &|| true).unwrap(), "it can be tried again");
}

#[test]
fn only_long_chains_are_wanted_flat_and_each_beginning_once() {
    let bench = Bench::new();
    let ids: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let chain = |length: usize| Chain { lowers: vec![PathBuf::from("x"); length], root: None };

    assert!(!bench.chains.begin_flat(&ids, &chain(FLAT_ABOVE)));
    assert!(bench.chains.begin_flat(&ids[..31], &chain(FLAT_ABOVE + 1)));
    assert!(!bench.chains.begin_flat(&ids[..31], &chain(FLAT_ABOVE + 1)), "it is under way");
    assert!(!bench.chains.begin_flat(&ids, &chain(FLAT_ABOVE + 10)), "its beginning is under way");
    assert!(bench.chains.begin_flat(&ids[..30], &chain(FLAT_ABOVE + 1)), "what is shorter is another one");
}
