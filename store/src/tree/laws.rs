//! The laws of layers, on real trees and the kernel's own overlay: `unpack(pack(tree)) == tree`, and
//! `apply(diff(a, b), a) == b`, where a writable mount over `a` is what made `b`.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use strata_archive::{ApplyOptions, DiffOptions};

use super::{Entry, Made, Plan, Source, TreeCopy, View, write};
use crate::content::Contents;
use crate::layer::Images;

/// What is done to a tree. What cannot be done is left.
#[derive(Clone, Debug)]
enum Act {
    Write(String, Vec<u8>),
    Directory(String),
    Symlink(String, String),
    Link(String, String),
    Fifo(String),
    Mode(String, u32),
    Owner(String, u32),
    Attribute(String, Vec<u8>),
    Time(String, i64),
    Rename(String, String),
    Remove(String),
}

/// Few names, so that they meet.
fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4).prop_map(|names| names.join("/"))
}

fn act() -> impl Strategy<Value = Act> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        3 => (path(), bytes()).prop_map(|(path, bytes)| Act::Write(path, bytes)),
        4 => path().prop_map(Act::Directory),
        1 => (path(), path()).prop_map(|(path, target)| Act::Symlink(path, target)),
        2 => (path(), path()).prop_map(|(path, old)| Act::Link(path, old)),
        1 => path().prop_map(Act::Fifo),
        1 => (path(), 0_u32..0o10000).prop_map(|(path, mode)| Act::Mode(path, mode)),
        1 => (path(), 0_u32..70_000).prop_map(|(path, owner)| Act::Owner(path, owner)),
        1 => (path(), bytes()).prop_map(|(path, value)| Act::Attribute(path, value)),
        1 => (path(), -9_i64..2_000_000_000).prop_map(|(path, time)| Act::Time(path, time)),
        2 => (path(), path()).prop_map(|(from, to)| Act::Rename(from, to)),
        3 => path().prop_map(Act::Remove),
    ]
}

impl Act {
    fn perform(&self, root: &Path) -> Option<()> {
        let is_plain = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| !found.is_symlink());
        match self {
            Self::Write(path, bytes) => {
                let path = root.join(path);
                let is_fifo = fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file());
                if !is_fifo { fs::write(path, bytes).ok() } else { None }
            }
            Self::Directory(path) => fs::create_dir(root.join(path)).ok(),
            Self::Symlink(path, target) => std::os::unix::fs::symlink(target, root.join(path)).ok(),
            Self::Link(path, old) => fs::hard_link(root.join(old), root.join(path)).ok(),
            Self::Fifo(path) => {
                rustix::fs::mknodat(CWD, root.join(path), FileType::Fifo, Mode::from_raw_mode(0o640), 0).ok()
            }
            Self::Mode(path, mode) => {
                let path = root.join(path);
                if is_plain(&path) { fs::set_permissions(path, fs::Permissions::from_mode(*mode)).ok() } else { None }
            }
            Self::Owner(path, owner) => std::os::unix::fs::lchown(root.join(path), Some(*owner), Some(owner / 2)).ok(),
            Self::Attribute(path, value) => {
                let path = root.join(path);
                let takes = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file() || found.is_dir());
                if takes { rustix::fs::setxattr(path, "user.law", value, XattrFlags::empty()).ok() } else { None }
            }
            Self::Time(path, seconds) => {
                let time = Timespec { tv_sec: *seconds, tv_nsec: 0 };
                let times = Timestamps { last_access: time, last_modification: time };
                rustix::fs::utimensat(CWD, root.join(path), &times, AtFlags::SYMLINK_NOFOLLOW).ok()
            }
            Self::Rename(from, to) => fs::rename(root.join(from), root.join(to)).ok(),
            Self::Remove(path) => {
                let path = root.join(path);
                match fs::symlink_metadata(&path).ok()?.is_dir() {
                    true => fs::remove_dir_all(path).ok(),
                    false => fs::remove_file(path).ok(),
                }
            }
        }
    }
}

fn perform(acts: &[Act], root: &Path) {
    for act in acts {
        // What cannot be done is left.
        let _ = act.perform(root);
    }
}

/// Everything about a name that an archive keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    mode: u32,
    owner: (u32, u32),
    seconds: i64,
    /// Content of a file, or target of a link.
    content: Vec<u8>,
    attribute: Option<Vec<u8>>,
    /// The first name of its inode.
    first: PathBuf,
}

fn look(root: &Path) -> BTreeMap<PathBuf, Found> {
    let (mut found, mut pending) = (BTreeMap::new(), vec![PathBuf::new()]);
    while let Some(path) = pending.pop() {
        let full = if path.as_os_str().is_empty() { root.to_path_buf() } else { root.join(&path) };
        // Through the link of a descriptor the root is what it leads to.
        let stat = if path.as_os_str().is_empty() { fs::metadata(&full) } else { fs::symlink_metadata(&full) };
        // Overlay lists a mark that has nothing below it, and does not find it.
        let Ok(stat) = stat else { continue };
        let kind = stat.file_type();
        let content = if kind.is_file() {
            fs::read(&full).unwrap()
        } else if kind.is_symlink() {
            fs::read_link(&full).unwrap().into_os_string().into_encoded_bytes()
        } else {
            Vec::new()
        };
        if kind.is_dir() {
            pending.extend(fs::read_dir(&full).unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        }
        let mut value = vec![0; 64];
        let attribute = match kind.is_file() || kind.is_dir() {
            true => rustix::fs::getxattr(&full, "user.law", &mut value).ok().map(|length| value[..length].to_vec()),
            false => None,
        };
        let one = Found {
            mode: if kind.is_symlink() { 0 } else { stat.mode() },
            owner: (stat.uid(), stat.gid()),
            seconds: stat.mtime(),
            content,
            attribute,
            first: path.clone(),
        };
        found.insert(path, ((stat.dev(), stat.ino(), kind.is_dir()), one));
    }
    let mut firsts = BTreeMap::new();
    for (path, (id, _)) in &found {
        firsts.entry(*id).or_insert_with(|| path.clone());
    }
    found.into_iter().map(|(path, (id, one))| (path, Found { first: firsts[&id].clone(), ..one })).collect()
}

/// A tree on a disk that takes attributes of users.
fn scratch() -> tempfile::TempDir {
    let root = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    root
}

fn pack(root: &Path) -> Vec<u8> {
    let (root, mut tar) = (fs::File::open(root).unwrap(), Vec::new());
    let options = DiffOptions { root: true, ..DiffOptions::default() };
    strata_archive::pack(root.as_fd(), &options, &mut tar).unwrap();
    tar
}

fn unpack(tar: &[u8], root: &Path) {
    let root = fs::File::open(root).unwrap();
    strata_archive::apply(tar, root.as_fd(), &ApplyOptions::default()).unwrap();
}

fn place_of(view: &View) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", view.root().as_raw_fd()))
}

/// Copies a tree to a new layer: as a whole, or name by name, as `COPY --exclude` does.
fn copy(tree: &Path, upper: &Path, is_whole: bool) {
    let base = scratch();
    for name in ["work", "empty", "layers"] {
        fs::create_dir(base.path().join(name)).unwrap();
    }
    let contents = Contents::open(base.path(), Images::new(&base.path().join("layers")).into()).unwrap();
    let plan = Plan {
        lowers: Vec::new(),
        upper: upper.to_path_buf(),
        work: base.path().join("work"),
        empty: base.path().join("empty"),
        working_directory: "/".into(),
        previous: None,
        modified: None,
        made: Made::default(),
    };
    let what =
        TreeCopy { lowers: vec![tree.to_path_buf()], path: "/".into(), contents_only: true, ..Default::default() };
    let whole = Entry::new("/", Source::Copy(what.clone()));
    let paths = look(tree).into_keys().filter(|path| !path.as_os_str().is_empty());
    let alone = paths.map(|path| {
        let what = TreeCopy { path: path.clone(), alone: true, ..what.clone() };
        Entry { below: path, ..Entry::new("/", Source::Copy(what)) }
    });
    let entries = if is_whole { vec![whole] } else { alone.collect() };
    write(&plan, &contents, [Ok(entries)]).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_packed_and_unpacked_is_the_same_tree(acts in prop::collection::vec(act(), 0..30)) {
        let (tree, again) = (scratch(), scratch());
        perform(&acts, tree.path());

        unpack(&pack(tree.path()), again.path());

        prop_assert_eq!(look(again.path()), look(tree.path()));
    }

    #[test]
    fn a_copy_of_a_tree_is_the_tree(acts in prop::collection::vec(act(), 0..30), is_whole in any::<bool>()) {
        let (tree, upper) = (scratch(), scratch());
        perform(&acts, tree.path());

        copy(tree.path(), upper.path(), is_whole);

        let (mut copied, mut wanted) = (look(upper.path()), look(tree.path()));
        if !is_whole {
            // What holds the names is the destination, which is not copied.
            copied.remove(Path::new(""));
            wanted.remove(Path::new(""));
        }
        // Of what has several names, files keep them: that is what COPY promises.
        for (path, found) in copied.iter_mut().chain(wanted.iter_mut()) {
            if found.mode & 0o170_000 != 0o100_000 {
                found.first.clone_from(path);
            }
        }
        prop_assert_eq!(copied, wanted);
    }

    #[test]
    fn a_difference_that_is_applied_to_where_it_began_leads_to_where_it_ended(
        before in prop::collection::vec(act(), 0..20),
        after in prop::collection::vec(act(), 0..20),
    ) {
        let (lower, upper, work, again) = (scratch(), scratch(), scratch(), scratch());
        perform(&before, lower.path());
        let lowers = [lower.path().to_path_buf()];
        let wanted = {
            let view = View::open_writable(&lowers, upper.path(), work.path()).unwrap();
            perform(&after, &place_of(&view));
            look(&place_of(&view))
        };

        unpack(&pack(upper.path()), again.path());

        let view = View::open(&[again.path().to_path_buf(), lower.path().to_path_buf()], work.path()).unwrap();
        prop_assert_eq!(look(&place_of(&view)), wanted);
    }
}
