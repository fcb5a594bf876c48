//! One kind of entry at a time.

use crate::seen::{Image, check};
use crate::tar::{Header, Tar};
use std::os::unix::fs::FileExt;

/// An access control list of these entries: tag, permissions, id.
pub fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        value.extend(id.to_le_bytes());
    }
    value
}

#[track_caller]
fn same(tar: Tar) {
    assert!(check(&tar.end()), "the archive is refused");
}

#[track_caller]
fn refused(tar: Tar) {
    assert!(!check(&tar.end()), "the archive is not refused");
}

#[test]
fn an_archive_of_nothing_is_an_empty_directory() {
    same(Tar::new());
}

#[test]
fn files_of_every_size_around_blocks_and_pages_keep_their_bytes() {
    let mut tar = Tar::new();
    for size in [0, 1, 511, 512, 513, 4095, 4096, 4097, 12_288, 300_000] {
        let content: Vec<u8> = (0..size).map(|byte: u32| (byte % 251) as u8).collect();
        tar = tar.file(format!("of-{size}"), content);
    }
    same(tar);
}

#[test]
fn owners_modes_and_times_are_kept() {
    let mut tar = Tar::new();
    for (mode, owner, mtime) in [(0o7777, (1, 2), 0), (0, (0o7_777_776, 65_534), 1), (0o4711, (0, 0), 0o77_777_777_777)]
    {
        for flag in *b"0562" {
            let name = format!("{}-{mode:o}", flag as char).into_bytes();
            tar = tar.header(&Header { name, flag, mode, owner, mtime, link: b"x".to_vec(), ..Header::default() });
        }
    }
    for time in ["-1.5", "-2147483648", "1.000000001", "99999999999999"] {
        tar = tar.pax(&[("mtime", time.as_bytes()), ("uid", b"4294967294"), ("gid", b"70000")]).file(time, "");
    }
    same(tar.header(&Header { name: b"./".to_vec(), flag: b'5', mode: 0o1711, ..Header::default() }));
}

#[test]
fn attributes_of_all_classes_are_kept_and_those_of_no_class_dropped() {
    let long = vec![b'v'; 3000];
    let records: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.user.empty", b""),
        ("SCHILY.xattr.user.a", b"any\0bytes\n"),
        ("SCHILY.xattr.trusted.long", &long),
        ("SCHILY.xattr.security.other", b"x"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.unknown.class", b"x"),
    ];
    let special = &records[2..];
    same(
        Tar::new()
            .pax(records)
            .file("file", "x")
            .pax(records)
            .dir("directory", 0o755)
            .pax(special)
            .symlink("target", "link")
            .pax(special)
            .header(&Header { name: b"fifo".to_vec(), flag: b'6', ..Header::default() }),
    );
}

#[test]
fn capabilities_are_kept_and_nonsense_in_their_place_refused() {
    let two = [&[1, 0, 0, 2][..], &[0x20, 0, 0, 0], &[0; 12]].concat();
    let three = [&[0, 0, 0, 3][..], &[0x20, 0, 0, 0], &[0; 12], &100_000_u32.to_le_bytes()].concat();
    let with = |value: &[u8]| Tar::new().pax(&[("SCHILY.xattr.security.capability", value)]).file("ping", "x");

    same(with(&two));
    same(with(&three));
    refused(with(b"nonsense"));
    refused(with(&two[..12]));
}

#[test]
fn attributes_that_no_disk_takes_are_refused() {
    let with = |name: &str| Tar::new().pax(&[(name, b"x")]);

    refused(with("SCHILY.xattr.user.").file("a", ""));
    refused(with("SCHILY.xattr.user.x").symlink("a", "link"));
    refused(with("SCHILY.xattr.system.posix_acl_default").file("a", ""));
    refused(Tar::new().pax(&[(&format!("SCHILY.xattr.user.{}", "n".repeat(300)), b"x")]).file("a", ""));
}

#[test]
fn access_control_lists_are_what_the_kernel_makes_of_them() {
    const NO_ID: u32 = u32::MAX;
    let full = list(&[(1, 6, NO_ID), (2, 7, 1000), (4, 4, 77), (8, 5, 50), (0x10, 5, NO_ID), (0x20, 0, NO_ID)]);
    let plain = list(&[(1, 7, NO_ID), (4, 1, NO_ID), (0x20, 2, NO_ID)]);
    let (access, default) = ("SCHILY.xattr.system.posix_acl_access", "SCHILY.xattr.system.posix_acl_default");

    same(
        Tar::new()
            .pax(&[(access, &full)])
            .file("file", "x")
            .pax(&[(access, &plain)])
            .file("plain", "x")
            .pax(&[(access, &full), (default, &full)])
            .dir("directory", 0o2750)
            .file("directory/inside", "does not inherit")
            .pax(&[(default, &plain)])
            .dir("plain-default", 0o700)
            .pax(&[(access, &full)])
            .symlink("x", "link"),
    );
    for bad in [
        list(&[(1, 6, NO_ID), (2, 7, 1000), (4, 4, NO_ID), (0x20, 0, NO_ID)]),
        list(&[(4, 4, NO_ID), (1, 6, NO_ID), (0x20, 0, NO_ID)]),
        list(&[(1, 8, NO_ID), (4, 4, NO_ID), (0x20, 0, NO_ID)]),
        list(&[(1, 7, NO_ID), (4, 4, NO_ID)]),
        full[..full.len() - 1].to_vec(),
    ] {
        refused(Tar::new().pax(&[(access, &bad)]).file("file", "x"));
    }
}

#[test]
fn links_devices_and_fifos_are_kept() {
    let device = |name: &str, flag, device| Header { name: name.into(), flag, device, ..Header::default() };
    same(
        Tar::new()
            .file("one", "1")
            .link("one", "two")
            .dir("directory", 0o755)
            .link("two", "directory/three")
            .symlink("one", "symbolic")
            .link("symbolic", "symbolic-again")
            .header(&device("null", b'3', (1, 3)))
            .header(&device("loop", b'4', (7, 300)))
            .header(&device("large", b'3', (0xfff, 0xf_ffff)))
            .header(&device("pipe", b'6', (0, 0)))
            .link("pipe", "pipe-again"),
    );
    refused(Tar::new().header(&device("mark", b'3', (0, 0))));
    refused(Tar::new().header(&device("beyond", b'3', (0o777_777, 1))));
}

#[test]
fn symlinks_of_every_length_lead_where_they_led() {
    let mut tar = Tar::new();
    for length in [1, 60, 99, 447, 448, 449, 511, 512, 513, 2000, 4095] {
        let target = "t".repeat(length);
        tar = tar.pax(&[("linkpath", target.as_bytes())]).symlink("", &format!("to-{length}"));
    }
    same(tar.pax(&[("SCHILY.xattr.trusted.x", b"1")]).symlink("short", "with-attribute"));
}

#[test]
fn names_are_found_in_directories_of_any_size() {
    let mut tar = Tar::new().dir("full", 0o755);
    for number in 0..3000 {
        tar = tar.file(format!("full/{number}"), format!("{number}"));
    }
    // Around '.' in the order of bytes, and as long as names are.
    for name in ["!", "-", "..a", "...", ".a", "\u{fc}", "\u{7f}"] {
        tar = tar.file(format!("around/{name}"), name);
    }
    let long = "n".repeat(255);
    for first in ["a", "b", "c"] {
        let path = format!("long/{first}{}", &long[1..]);
        tar = tar.pax(&[("path", path.as_bytes())]).file("x", first);
    }
    same(tar);
    let longer = format!("{long}n");
    refused(Tar::new().pax(&[("path", longer.as_bytes())]).file("x", ""));
    let below = format!("{longer}/x");
    refused(Tar::new().pax(&[("path", below.as_bytes())]).file("x", ""));
}

#[test]
fn deep_trees_and_long_paths_are_kept() {
    let path = vec!["directory-of-a-long-name"; 100].join("/");
    same(Tar::new().extension(b'L', format!("{path}/file\0").as_bytes()).file("x", "deep"));
}

#[test]
fn whiteouts_and_opaque_marks_are_those_of_overlay() {
    same(
        Tar::new()
            .file(".wh.gone", "")
            .file("directory/.wh.gone", "")
            .dir("opaque", 0o700)
            .file("opaque/.wh..wh..opq", "")
            .file("opaque/kept", "x")
            .file("implied/.wh..wh..opq", "")
            .file("was/.wh.directory", "")
            .file("was/directory/file", "again"),
    );
    same(Tar::new().file(".wh..wh..opq", ""));
}

#[test]
fn what_is_replaced_is_gone() {
    same(
        Tar::new()
            .file("a", "first")
            .file("a", "second")
            .file("b", "file")
            .dir("b", 0o700)
            .file("b/c", "x")
            .dir("tree/of/many", 0o755)
            .file("tree/of/many/files", "1")
            .file("tree/of/other", "2")
            .file("tree", "file now")
            .file("linked", "kept by the other name")
            .link("linked", "other")
            .file("linked", "new"),
    );
}

#[test]
fn links_to_directories_are_followed_inside_the_root() {
    same(
        Tar::new()
            .dir("usr", 0o755)
            .symlink("usr/lib", "lib")
            .file("lib/made/file", "x")
            .symlink("/../../usr", "up")
            .file("up/other", "y")
            .symlink("nowhere/at/all", "dangling")
            .file("dangling/file", "z")
            .link("lib/made/file", "linked"),
    );
    refused(Tar::new().symlink("loop", "loop").file("loop/file", ""));
    refused(Tar::new().file("file", "").file("file/below", ""));
    refused(Tar::new().link("absent", "link"));
    refused(Tar::new().file("dir/file", "").link("dir/file", "dir"));
}

/// The old GNU form: two pieces in the header.
pub fn sparse(name: &str, pieces: &[(u64, &[u8])], size: u64) -> Tar {
    let mut map: Vec<String> = vec![pieces.len().to_string()];
    map.extend(pieces.iter().flat_map(|(offset, bytes)| [offset.to_string(), bytes.len().to_string()]));
    let mut content = map.join("\n").into_bytes();
    content.push(b'\n');
    content.resize(content.len().next_multiple_of(512), 0);
    pieces.iter().for_each(|(_, bytes)| content.extend_from_slice(bytes));
    let size = size.to_string();
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", name.as_bytes()),
        ("GNU.sparse.realsize", size.as_bytes()),
    ];
    Tar::new().pax(&records).file("GNUSparseFile.0/x", content)
}

#[test]
fn holes_are_holes() {
    let bytes: Vec<u8> = (0..20_000_u32).map(|byte| (byte % 253) as u8).collect();
    let tar = sparse("all", &[(0, &bytes[..512]), (1024, &bytes[..513]), (9_000, &bytes), (50_000, b"end")], 70_000)
        .raw(&sparse("nothing", &[], 1 << 20).0)
        .raw(&sparse("empty", &[], 0).0)
        .raw(&sparse("odd", &[(3, b"x"), (4097, b"y"), (12_287, &bytes[..5000])], 20_001).0)
        .file("between", "x")
        .raw(&sparse("end", &[(63 << 20, &bytes)], 64 << 20).0)
        .link("odd", "odd-again");
    same(tar);
}

#[test]
fn a_sparse_file_of_terabytes_takes_little_room() {
    let at = (1 << 43) - 4096;
    let tar = sparse("huge", &[(0, b"start"), (at, b"end")], 1 << 43).end();

    let image = Image::write(&tar).unwrap();

    let metadata = std::os::unix::fs::MetadataExt::blocks(&image.file.as_file().metadata().unwrap());
    assert!(metadata * 512 < 1 << 20, "{metadata} blocks");
    let root = image.root();
    let flags = rustix::fs::OFlags::RDONLY;
    let file = std::fs::File::from(rustix::fs::openat(&root, "huge", flags, rustix::fs::Mode::empty()).unwrap());
    assert_eq!(file.metadata().unwrap().len(), 1 << 43);
    for (offset, wanted) in [(0, *b"start\0"), (1 << 42, [0; 6]), (at, *b"end\0\0\0")] {
        let mut found = [0; 6];
        file.read_exact_at(&mut found, offset).unwrap();
        assert_eq!(found, wanted, "at {offset}");
    }
}

#[test]
fn equal_archives_make_equal_images() {
    let tar = Tar::new()
        .raw(&sparse("sparse", &[(5000, b"x")], 10_000).0)
        .dir("a", 0o755)
        .file("a/b", "x")
        .symlink("b", "a/c")
        .file(".wh.d", "")
        .end();
    let bytes = || std::fs::read(Image::write(&tar).unwrap().file.path()).unwrap();

    assert!(bytes() == bytes());
}
