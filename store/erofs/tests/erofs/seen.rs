//! Trees as text, and an archive in both forms.

use crate::tar::Scratch;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use strata_archive::{Applied, ApplyOptions, Limits, verify};

/// An archive in an image.
pub struct Image {
    pub file: tempfile::NamedTempFile,
    pub applied: Applied,
}

impl Image {
    pub fn write(tar: &[u8]) -> Result<Self, strata_erofs::Error> {
        Self::within(tar, Limits::default())
    }

    pub fn within(tar: &[u8], limits: Limits) -> Result<Self, strata_erofs::Error> {
        let file = tempfile::NamedTempFile::new_in("/var/tmp").expect("/var/tmp can be written");
        let options = ApplyOptions { limits, ..ApplyOptions::default() };
        let applied = strata_erofs::write(tar, file.as_file(), &options)?;
        Ok(Self { file, applied })
    }

    /// Opens the root of the mounted image.
    pub fn root(&self) -> OwnedFd {
        let mount = strata_erofs::mount(self.file.as_file(), &[]).unwrap_or_else(|error| {
            panic!("{error}: {:?}", std::error::Error::source(&error));
        });
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(mount, ".", flags, Mode::empty()).expect("a root")
    }

    pub fn archive(&self) -> Vec<u8> {
        let file = self.file.reopen().expect("a file");
        let mut tar = Vec::new();
        let mut reader = strata_erofs::archive(file, self.applied.tar_size).expect("an image");
        reader.read_to_end(&mut tar).expect("an archive");
        tar
    }
}

/// Says how far an archive gets in each form, and checks that it is equally far.
#[track_caller]
pub fn check(tar: &[u8]) -> bool {
    let scratch = Scratch::new();
    match (scratch.apply(tar), Image::write(tar)) {
        (Ok(directory), Ok(image)) => {
            equal(&scratch, &directory, &image, tar);
            true
        }
        (Err(one), Err(other)) => {
            assert_eq!(told(&one), told(&other));
            false
        }
        (one, other) => panic!(
            "the directory says {:?}, the image {:?}",
            one.map(|_| ()).map_err(|error| told(&error)),
            other.map(|_| ()).map_err(|error| told(&error))
        ),
    }
}

fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

#[track_caller]
fn equal(scratch: &Scratch, directory: &Applied, image: &Image, tar: &[u8]) {
    let applied = &image.applied;
    assert_eq!(
        (&directory.diff_id, directory.size, directory.tar_size, directory.entries),
        (&applied.diff_id, applied.size, applied.tar_size, applied.entries)
    );
    assert_eq!(directory.implied, applied.implied);
    assert_eq!((directory.has_root, directory.is_root_opaque), (applied.has_root, applied.is_root_opaque));
    let root = image.root();
    assert_eq!(describe(&scratch.root(), directory.has_root), describe(&root, directory.has_root));
    assert_eq!(verify(&applied.toc, root.as_fd()).expect("a readable tree"), []);
    let mut rebuilt = Vec::new();
    applied.toc.rebuild(root.as_fd(), &mut rebuilt).expect("a whole tree");
    assert!(rebuilt == tar, "the archive made from the mounted image differs");
    assert!(image.archive() == tar, "the archive in the image differs");
}

/// Describes a tree, a line for each name.
pub fn describe(root: &OwnedFd, has_root: bool) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    let mut first = HashMap::new();
    let mut pending = vec![(String::new(), rustix::fs::openat(root, ".", OFlags::RDONLY, Mode::empty()).unwrap())];
    lines.insert(".".to_owned(), line(root, ".", has_root));
    while let Some((path, directory)) = pending.pop() {
        for entry in Dir::read_from(&directory).unwrap() {
            let entry = entry.unwrap();
            let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
            if name == "." || name == ".." {
                continue;
            }
            let shown = format!("{path}/{}", entry.file_name().to_bytes().escape_ascii());
            let stat = rustix::fs::statat(&directory, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW).unwrap();
            let kind = FileType::from_raw_mode(stat.st_mode);
            assert_eq!(entry.file_type(), kind, "{shown}: the listing says another type");
            if kind == FileType::Directory {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let child = rustix::fs::openat(&directory, name.as_os_str(), flags, Mode::empty()).unwrap();
                pending.push((shown.clone(), child));
            }
            first.entry(stat.st_ino).or_insert_with(Vec::new).push(shown.clone());
            lines.insert(shown, line(&directory, name.as_os_str(), true));
        }
    }
    for mut names in first.into_values() {
        names.sort();
        for name in &names {
            *lines.get_mut(name).unwrap() += &format!(" {names:?}");
        }
    }
    lines
}

fn line(directory: &OwnedFd, name: impl AsRef<std::ffi::OsStr>, has_time: bool) -> String {
    let name = name.as_ref();
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    let kind = FileType::from_raw_mode(stat.st_mode);
    let is_mark = kind == FileType::CharacterDevice && stat.st_rdev == 0;
    let mut line = format!("{:o} names {} device {:x}", stat.st_mode, stat.st_nlink, stat.st_rdev);
    // A mark is nobody's: on a disk it has the time and, below a set-gid directory, the group of its making.
    if !is_mark {
        line += &format!(" of {}:{}", stat.st_uid, stat.st_gid);
    }
    if has_time && !is_mark {
        line += &format!(" at {}.{}", stat.st_mtime, stat.st_mtime_nsec);
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    let opened = rustix::fs::openat(directory, name, flags, Mode::empty()).unwrap();
    let link = format!("/proc/self/fd/{}", opened.as_raw_fd());
    for (name, value) in xattrs(&link) {
        line += &format!(" {}={}", name.escape_ascii(), value.escape_ascii());
    }
    match kind {
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(directory, name, Vec::new()).unwrap();
            line += &format!(" -> {} ({})", target.as_bytes().escape_ascii(), stat.st_size);
        }
        FileType::RegularFile => {
            let file = File::from(rustix::fs::openat(directory, name, OFlags::RDONLY, Mode::empty()).unwrap());
            line += &format!(" {} bytes {}", stat.st_size, content(file));
        }
        _ => {}
    }
    line
}

/// A digest of a file and what is in its first mebibytes; the rest of a huge one is looked at where it holds data.
fn content(mut file: File) -> String {
    let mut hash = std::hash::DefaultHasher::new();
    let mut buffer = vec![0; 1 << 20];
    for _ in 0..64 {
        let count = file.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        std::hash::Hasher::write(&mut hash, &buffer[..count]);
    }
    format!("{:x}", std::hash::Hasher::finish(&hash))
}

pub fn xattrs(link: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 1 << 16];
    let length = rustix::fs::listxattr(link, &mut names).unwrap();
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 1 << 16];
            let length = rustix::fs::getxattr(link, name, &mut value).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect()
}
