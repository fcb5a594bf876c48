//! What COPY and ADD leave behind, seen in the merged view of the new layer and its parents.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::layer::Images;

struct Bench {
    base: tempfile::TempDir,
    contents: Contents,
}

impl Bench {
    /// Makes a store with one layer that looks like a small Debian.
    fn new() -> Self {
        let base = tempfile::tempdir_in("/var/tmp").unwrap();
        for directory in ["layers/base/usr/lib", "layers/base/tmp", "empty"] {
            fs::create_dir_all(base.path().join(directory)).unwrap();
        }
        let root = base.path().join("layers/base");
        symlink("usr/lib", root.join("lib")).unwrap();
        fs::write(root.join("usr/lib/file"), "base").unwrap();
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::File::open(root.join("tmp")).unwrap().set_modified(UNIX_EPOCH).unwrap();
        let contents = Contents::open(base.path(), Images::new(&base.path().join("layers")).into()).unwrap();
        Self { base, contents }
    }

    fn layer(&self, name: &str) -> PathBuf {
        self.base.path().join("layers").join(name)
    }

    fn put(&self, text: &str) -> Source {
        Source::File { blake3: self.contents.put("lease", text.as_bytes()).unwrap(), same_file: 0 }
    }

    fn plan(&self, name: &str) -> Plan {
        let (upper, work) = (self.layer(name), self.base.path().join(format!("work-{name}")));
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&work).unwrap();
        Plan {
            lowers: vec![self.layer("base")],
            upper,
            work,
            empty: self.base.path().join("empty"),
            working_directory: "/".into(),
            previous: None,
            modified: None,
            made: Made::default(),
        }
    }

    fn write(&self, name: &str, entries: Vec<Entry>) -> Result<PathBuf> {
        let plan = self.plan(name);
        write(&plan, &self.contents, [Ok(entries)])?;
        Ok(plan.upper)
    }
}

fn entry(destination: &str, source: Source) -> Entry {
    Entry::new(destination, source)
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_copy_to_lib_lands_in_usr_lib_of_a_merged_base() {
    let bench = Bench::new();

    let layer = bench.write("new", vec![entry("/lib/x", bench.put("x"))]).unwrap();

    assert_eq!(read(layer.join("usr/lib/x")), "x");
    assert!(!layer.join("lib").exists());
}

#[test]
fn parents_are_as_below_and_missing_ones_are_made() {
    let bench = Bench::new();

    let layer =
        bench.write("new", vec![entry("tmp/a", bench.put("x")), entry("one/two/three", bench.put("y"))]).unwrap();

    let tmp = fs::metadata(layer.join("tmp")).unwrap();
    assert_eq!((tmp.mode() & 0o7777, tmp.mtime()), (0o1777, 0));
    assert_eq!(fs::metadata(layer.join("one/two")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fs::metadata(layer.join("one/two/three")).unwrap().mode() & 0o7777, 0o644);
}

#[test]
fn a_directory_over_a_file_and_a_file_over_a_directory_are_refused() {
    let bench = Bench::new();

    let over_file = bench.write("one", vec![entry("/usr/lib/file", Source::Directory { explicit: true })]);
    let below_file = bench.write("two", vec![entry("/usr/lib/file/x", bench.put("x"))]);
    let over_directory = bench.write("three", vec![entry("/usr/lib", bench.put("x"))]);

    assert!(matches!(over_file, Err(Error::NotADirectory { .. })), "{over_file:?}");
    assert!(matches!(below_file, Err(Error::NotADirectory { .. })), "{below_file:?}");
    assert!(matches!(over_directory, Err(Error::NotAFile { .. })), "{over_directory:?}");
}

/// CVE-2014-6407, row 52, for trees that are copied.
#[test]
fn a_link_never_leads_out_of_the_root() {
    let bench = Bench::new();
    let outside = bench.base.path().join("outside");
    fs::create_dir(&outside).unwrap();

    let target = Source::Symlink { target: outside.as_os_str().as_bytes().to_vec() };
    let up = Source::Symlink { target: b"../../../../../../..".to_vec() };
    let entries =
        vec![entry("out", target), entry("out/x", bench.put("x")), entry("up", up), entry("up/y", bench.put("y"))];
    let layer = bench.write("new", entries).unwrap();

    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(read(layer.join(outside.strip_prefix("/").unwrap()).join("x")), "x");
    assert_eq!(read(layer.join("y")), "y");
}

#[test]
fn a_staged_content_is_taken_once_and_copied_afterwards() {
    let bench = Bench::new();
    let private = Owner { mode: Some(0o600), uid: Some(7), gid: None };

    let one = bench.write("one", vec![entry("a", bench.put("x")), entry("b", bench.put("x"))]).unwrap();
    let second = Entry { owner: private, ..entry("a", bench.put("x")) };
    let two = bench.write("two", vec![second]).unwrap();

    let [a, b, other] = [one.join("a"), one.join("b"), two.join("a")].map(|path| fs::metadata(path).unwrap());
    assert_ne!(a.ino(), b.ino());
    assert_ne!(a.ino(), other.ino());
    assert_eq!((a.mode() & 0o7777, a.uid()), (0o644, 0));
    assert_eq!((other.mode() & 0o7777, other.uid()), (0o600, 7));
}

#[test]
fn an_equal_file_of_the_previous_layer_is_shared_and_another_is_not() {
    let bench = Bench::new();
    let one = bench.write("one", vec![entry("a", bench.put("x"))]).unwrap();
    let hash = blake3::hash(b"x");
    bench.contents.record("one", [(hash, b"a".as_slice(), 1)]).unwrap();
    bench.contents.sweep(|_| false).unwrap();

    let file = || Source::File { blake3: hash, same_file: 0 };
    let two = bench.write("two", vec![entry("a", file()), entry("b", file())]).unwrap();
    let owned = Entry { owner: Owner { uid: Some(5), ..Owner::default() }, ..entry("a", file()) };
    let three = bench.write("three", vec![owned]).unwrap();

    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(two.join("a")), inode(one.join("a")));
    assert_ne!(inode(two.join("b")), inode(one.join("a")));
    assert_ne!(inode(three.join("a")), inode(one.join("a")));
    assert_eq!(read(two.join("b")), "x");
}

#[test]
fn a_name_goes_below_a_destination_that_is_a_directory() {
    let bench = Bench::new();
    let named = |to: &str| Entry { name_in_directory: b"name".to_vec(), ..entry(to, bench.put(to)) };

    let layer = bench.write("new", vec![named("/lib"), named("/other")]).unwrap();

    assert_eq!(read(layer.join("usr/lib/name")), "/lib");
    assert_eq!(read(layer.join("other")), "/other");
}

#[test]
fn a_content_that_is_nowhere_is_an_error() {
    let bench = Bench::new();

    let result = bench.write("new", vec![entry("a", Source::File { blake3: blake3::hash(b"none"), same_file: 0 })]);

    assert!(matches!(result, Err(Error::ContentNotFound { .. })));
}

#[test]
fn a_copy_from_another_tree_keeps_links_and_hard_links_and_hides_what_is_hidden() {
    let bench = Bench::new();
    let (low, top) = (bench.layer("low"), bench.layer("top"));
    fs::create_dir_all(low.join("app/sub")).unwrap();
    fs::create_dir_all(top.join("app")).unwrap();
    fs::write(low.join("app/one"), "1").unwrap();
    fs::hard_link(low.join("app/one"), low.join("app/sub/same")).unwrap();
    fs::write(low.join("app/gone"), "x").unwrap();
    symlink("one", low.join("app/link")).unwrap();
    symlink("app", low.join("alias")).unwrap();
    let device = rustix::fs::makedev(0, 0);
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, top.join("app/gone"), kind, Mode::empty(), device).unwrap();
    let lowers = vec![top.clone(), low.clone()];
    let from = |path: &str| {
        let (lowers, path) = (lowers.clone(), path.into());
        Source::Copy(TreeCopy { lowers, path, contents_only: true, ..TreeCopy::default() })
    };

    let layer = bench.write("new", vec![entry("/lib/", from("/alias")), entry("/tmp", from("/app/link"))]).unwrap();

    let copied = layer.join("usr/lib");
    assert_eq!(read(copied.join("one")), "1");
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(copied.join("one")), inode(copied.join("sub/same")));
    assert_eq!(fs::read_link(copied.join("link")).unwrap(), Path::new("one"));
    assert!(fs::symlink_metadata(copied.join("gone")).is_err());
    assert_eq!(read(layer.join("tmp/link")), "1");
}

#[test]
fn a_copy_with_an_owner_does_not_change_the_source() {
    let bench = Bench::new();
    let source = bench.layer("base").join("usr/lib/file");
    let (lowers, path) = (vec![bench.layer("base")], "/lib/file".into());
    let from = Source::Copy(TreeCopy { lowers, path, ..TreeCopy::default() });
    let owned = Entry { owner: Owner { uid: Some(5), gid: Some(6), mode: None }, ..entry("/copy", from) };

    let layer = bench.write("new", vec![owned]).unwrap();

    let copy = fs::metadata(layer.join("copy")).unwrap();
    assert_eq!((copy.uid(), copy.gid(), copy.mtime()), (5, 6, fs::metadata(&source).unwrap().mtime()));
    assert_eq!(fs::metadata(&source).unwrap().uid(), 0);
}

#[test]
fn an_archive_is_unpacked_through_links_below_its_destination() {
    let bench = Bench::new();
    let tree = bench.base.path().join("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::write(tree.join("sub/kept"), "unpacked").unwrap();
    let mut tar = Vec::new();
    let root = open(&tree).unwrap();
    strata_archive::pack(std::os::fd::AsFd::as_fd(&root), &strata_archive::DiffOptions::default(), &mut tar).unwrap();
    let mut incoming = bench.contents.incoming(blake3::hash(&tar)).unwrap();
    incoming.write(&tar).unwrap();
    bench.contents.finish("lease", incoming).unwrap();

    let archive = Source::Archive { blake3: blake3::hash(&tar) };
    let entries = vec![entry("/lib/", archive), entry("/after", bench.put("x"))];
    let layer = bench.write("new", entries).unwrap();

    assert_eq!(read(layer.join("usr/lib/sub/kept")), "unpacked");
    assert_eq!(read(layer.join("after")), "x");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains("work-new"));
}
