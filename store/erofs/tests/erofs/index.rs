//! Indices against the images that they are of.

use crate::same::{list, sparse};
use crate::seen::{Image, describe, xattrs};
use crate::tar::{Header, Tar};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use strata_erofs::{Attributes, Directory, Index, Seen};

const OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// Puts all that is in a directory of an image into one of an index.
fn take(index: &mut Index, number: usize, from: &OwnedFd, to: Directory) {
    let stat = rustix::fs::fstat(from).unwrap();
    let mut attributes = xattrs(&format!("/proc/self/fd/{}", from.as_raw_fd()));
    let is_opaque = attributes.remove(OPAQUE).is_some();
    let attributes = Attributes {
        mode: stat.st_mode & 0o7777,
        owner: (stat.st_uid, stat.st_gid),
        modified: (stat.st_mtime, stat.st_mtime_nsec as u32),
        xattrs: attributes.into_iter().collect(),
        is_opaque,
    };
    index.describe(to, &attributes).unwrap();
    for entry in Dir::read_from(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = seen(from, name);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let below = rustix::fs::openat(from, name, flags, Mode::empty()).unwrap();
                let made = index.directory(to, name.to_bytes());
                take(index, number, &below, made);
            }
            FileType::CharacterDevice if stat.st_rdev == 0 => index.mark(to, name.to_bytes()),
            _ => {
                let seen = Seen { inode: stat.st_ino, mode: stat.st_mode, size: stat.st_size as u64 };
                index.take(to, name.to_bytes(), number, seen).unwrap();
            }
        }
    }
}

fn seen(directory: &OwnedFd, name: &std::ffi::CStr) -> Stat {
    rustix::fs::statat(directory, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap()
}

fn written(index: Index) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
    index.write(file.as_file(), [7; 16]).unwrap();
    file
}

fn mounted(index: &File, images: &[&Image]) -> OwnedFd {
    let images: Vec<File> = images.iter().map(|image| image.file.reopen().unwrap()).collect();
    let mount = strata_erofs::mount(index, &images).unwrap_or_else(|error| {
        panic!("{error}: {:?}", std::error::Error::source(&error));
    });
    rustix::fs::openat(mount, ".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

/// Checks that an index of an image shows what the image shows, and an index of that one, too.
#[track_caller]
pub fn check(image: &Image) {
    let root = image.root();
    let mut index = Index::default();
    let number = index.image("one", image.file.reopen().unwrap()).unwrap();
    let top = index.root();
    take(&mut index, number, &root, top);
    let once = written(index);
    let wanted = describe(&root, true);

    let shown = mounted(once.as_file(), &[image]);
    assert_eq!(describe(&shown, true), wanted);

    let mut index = Index::default();
    let number = index.image("", once.reopen().unwrap()).unwrap();
    let top = index.root();
    take(&mut index, number, &shown, top);
    let twice = written(index);
    assert_eq!(strata_erofs::devices(twice.as_file()).unwrap(), ["one"]);
    assert_eq!(describe(&mounted(twice.as_file(), &[image]), true), wanted);
}

#[test]
fn an_index_shows_what_its_image_shows() {
    let bytes: Vec<u8> = (0..20_000_u32).map(|byte| (byte % 253) as u8).collect();
    let acl = list(&[(1, 6, u32::MAX), (2, 7, 1000), (4, 4, 77), (0x10, 5, u32::MAX), (0x20, 0, u32::MAX)]);
    let long = "t".repeat(2000);
    let device = |name: &str, flag, device| Header { name: name.into(), flag, device, ..Header::default() };
    let mut tar = Tar::new()
        .header(&Header { name: b"./".to_vec(), flag: b'5', mode: 0o1711, ..Header::default() })
        .pax(&[("SCHILY.xattr.user.a", b"1"), ("SCHILY.xattr.system.posix_acl_access", &acl), ("mtime", b"1.5")])
        .file("a/file", bytes.clone())
        .link("a/file", "again")
        .file("empty", "")
        .symlink("short", "a/short")
        .pax(&[("linkpath", long.as_bytes()), ("SCHILY.xattr.trusted.x", b"1")])
        .symlink("", "long")
        .header(&device("null", b'3', (1, 3)))
        .header(&device("loop", b'4', (7, 300)))
        .header(&device("pipe", b'6', (0, 0)))
        .file(".wh.gone", "")
        .pax(&[("SCHILY.xattr.user.b", b"2")])
        .dir("opaque", 0o2750)
        .file("opaque/.wh..wh..opq", "")
        .raw(&sparse("holes", &[(3, b"x"), (4097, b"y"), (12_287, &bytes[..5000])], 20_001).0)
        .raw(&sparse("nothing", &[], 1 << 20).0);
    for size in [1, 511, 512, 513, 4095, 4096, 4097] {
        tar = tar.file(format!("sizes/of-{size}"), &bytes[..size]);
    }

    check(&Image::write(&tar.end()).unwrap());
}

#[test]
fn an_index_of_many_images_has_the_contents_of_each_and_none_of_its_own() {
    let images: Vec<Image> = (0..40_u8)
        .map(|number| Image::write(&Tar::new().file(number.to_string(), vec![number; 100_000]).end()).unwrap())
        .collect();
    let mut index = Index::default();
    let top = index.root();
    for (number, image) in images.iter().enumerate() {
        let source = index.image(&format!("layer-{number}"), image.file.reopen().unwrap()).unwrap();
        take(&mut index, source, &image.root(), top);
    }

    let index = written(index);

    let root = mounted(index.as_file(), &images.iter().collect::<Vec<_>>());
    for number in 0..40_u8 {
        let file = rustix::fs::openat(&root, number.to_string(), OFlags::RDONLY, Mode::empty()).unwrap();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut File::from(file), &mut content).unwrap();
        assert!(content == vec![number; 100_000], "the content of {number} is another");
    }
    let room = index.as_file().metadata().unwrap().blocks() * 512;
    assert!(room < 100_000, "{room} bytes");
}

#[test]
fn an_index_takes_only_what_an_image_shows() {
    let image = Image::write(&Tar::new().dir("a", 0o755).file("file", "x").end()).unwrap();
    let root = image.root();
    let mut index = Index::default();
    let number = index.image("one", image.file.reopen().unwrap()).unwrap();
    let top = index.root();
    let (file, directory) = (seen(&root, c"file"), seen(&root, c"a"));
    let right = Seen { inode: file.st_ino, mode: file.st_mode, size: 1 };

    for wrong in [
        Seen { size: 2, ..right },
        Seen { mode: right.mode | 0o4000, ..right },
        Seen { inode: directory.st_ino, ..right },
        Seen { inode: u64::MAX, ..right },
        Seen { inode: directory.st_ino, mode: directory.st_mode, size: directory.st_size as u64 },
    ] {
        let error = index.take(top, b"name", number, wrong).unwrap_err();
        assert!(matches!(error, strata_erofs::Error::Damaged { .. }), "{wrong:?}: {error}");
    }
    index.take(top, b"name", number, right).unwrap();
    let no_image = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
    no_image.as_file().set_len(1 << 20).unwrap();
    assert!(matches!(index.image("no", no_image.reopen().unwrap()), Err(strata_erofs::Error::Damaged { .. })));
}
