//! Owners, modes, times, links, attributes, devices and strange names arrive exactly, and come back exactly.

use crate::tar::{Header, Scratch, Tar, rebuild, seal};
use rustix::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use strata_archive::{ApplyOptions, DiffOptions, Error, Times, Toc, Whiteouts, apply, diff, verify};

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    format!("sha256:{}", hex::encode(sha2::Sha256::digest(bytes)))
}

fn xattr(path: &Path, name: &str) -> Vec<u8> {
    let mut value = [0; 256];
    let count = rustix::fs::lgetxattr(path, name, &mut value).unwrap_or_else(|error| panic!("{name}: {error}"));
    value[..count].to_vec()
}

/// Row 96: bits are kept inside; the directory above is for its owner alone (tests/contract/lives.rs).
#[test]
fn owners_modes_and_set_id_bits_are_kept() {
    let scratch = Scratch::new();
    let file = |name: &str, mode, owner| Header { name: name.into(), mode, owner, ..Header::default() };
    let dir = Header { flag: b'5', ..file("dir", 0o2775, (0, 50)) };
    let tar = Tar::new().header(&dir).header(&file("dir/su", 0o4755, (5, 6))).header(&file("dir/plain", 0o600, (7, 8)));

    scratch.apply(&tar.end()).expect("apply");

    for (path, mode, owner) in [("dir", 0o2775, (0, 50)), ("dir/su", 0o4755, (5, 6)), ("dir/plain", 0o600, (7, 8))] {
        let stat = scratch.path(path).symlink_metadata().expect("stat");
        assert_eq!((stat.mode() & 0o7777, (stat.uid(), stat.gid())), (mode, owner), "{path}");
    }
}

#[test]
fn times_are_exact_before_1970_and_in_directories_too() {
    let scratch = Scratch::new();
    let cases: [(&str, &[u8], i64, i64); 4] = [
        ("d", b"100.000000007", 100, 7),
        ("d/file", b"-1.5", -2, 500_000_000),
        ("d/link", b"1234.5", 1234, 500_000_000),
        ("d/far", b"-99999999999999", -0x8000_0000, 0),
    ];
    let tar = Tar::new().pax(&[("mtime", cases[0].1)]).dir("d", 0o755);
    let tar = tar.pax(&[("mtime", cases[1].1)]).file("d/file", "x");
    let tar = tar.pax(&[("mtime", cases[2].1)]).symlink("nowhere", "d/link");
    let tar = tar.pax(&[("mtime", cases[3].1)]).file("d/far", "");

    let applied = scratch.apply(&tar.end()).expect("apply");

    for (path, _, seconds, nanoseconds) in cases {
        let stat = scratch.path(path).symlink_metadata().expect("stat");
        assert_eq!((stat.mtime(), stat.mtime_nsec()), (seconds, nanoseconds), "{path}");
    }
    assert_eq!(verify(&applied.toc, scratch.root().as_fd()).expect("verify"), []);
}

/// Row 96: capabilities of files are kept to the byte.
#[test]
fn attributes_keep_any_bytes_on_files_directories_symlinks_and_devices() {
    let scratch = Scratch::new();
    let value = b"line\nnul\0=end";
    let records: [(&str, &[u8]); 1] = [("SCHILY.xattr.trusted.test", value)];
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let fifo = Header { name: b"fifo".to_vec(), flag: b'6', ..Header::default() };
    let tar = Tar::new()
        .pax(&[("SCHILY.xattr.trusted.test", value), ("SCHILY.xattr.security.capability", capability)])
        .file("file", "content")
        .pax(&records)
        .dir("dir", 0o755)
        .pax(&records)
        .symlink("nowhere", "link")
        .pax(&records)
        .header(&fifo)
        .end();

    let applied = scratch.apply(&tar).expect("apply");

    for path in ["file", "dir", "link", "fifo"] {
        assert_eq!(xattr(&scratch.path(path), "trusted.test"), value, "{path}");
    }
    assert_eq!(xattr(&scratch.path("file"), "security.capability"), capability);
    assert_eq!(verify(&applied.toc, scratch.root().as_fd()).expect("verify"), []);
    let again = diff(scratch.root().as_fd(), &DiffOptions::default()).expect("diff");
    assert_eq!(verify(&again.toc, scratch.root().as_fd()).expect("verify"), []);
}

#[test]
fn a_default_acl_does_not_leak_into_what_the_archive_puts_below() {
    let scratch = Scratch::new();
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions) in [(1_u16, 7_u16), (4, 7), (32, 7)] {
        acl.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        acl.extend(u32::MAX.to_le_bytes());
    }
    let tar = Tar::new().pax(&[("SCHILY.xattr.system.posix_acl_default", &acl)]).dir("d", 0o755).file("d/f", "");

    let applied = scratch.apply(&tar.end()).expect("apply");

    assert_eq!(scratch.path("d/f").metadata().expect("stat").mode() & 0o7777, 0o644);
    assert_eq!(xattr(&scratch.path("d"), "system.posix_acl_default"), acl);
    assert_eq!(verify(&applied.toc, scratch.root().as_fd()).expect("verify"), []);
}

/// Row 95: with rights, nodes are what the layer says; that they do not open is for the device rules of the runtime.
#[test]
fn devices_and_fifos_are_made_as_described() {
    let scratch = Scratch::new();
    let node = |name: &str, flag, device| Header { name: name.into(), flag, device, mode: 0o622, ..Header::default() };
    let tar = Tar::new().header(&node("null", b'3', (1, 3))).header(&node("block", b'4', (7, 300))).header(&node(
        "fifo",
        b'6',
        (0, 0),
    ));

    let applied = scratch.apply(&tar.end()).expect("apply");

    let stat = |path: &str| scratch.path(path).symlink_metadata().expect("stat");
    assert!(stat("null").file_type().is_char_device() && stat("null").rdev() == rustix::fs::makedev(1, 3));
    assert!(stat("block").file_type().is_block_device() && stat("block").rdev() == rustix::fs::makedev(7, 300));
    assert!(stat("fifo").file_type().is_fifo() && stat("fifo").mode() & 0o7777 == 0o622);
    let again = diff(scratch.root().as_fd(), &DiffOptions::default()).expect("diff");
    assert_eq!(verify(&applied.toc, scratch.root().as_fd()).expect("verify"), []);
    assert_eq!(verify(&again.toc, scratch.root().as_fd()).expect("verify"), []);
}

#[test]
fn long_and_non_utf8_names_arrive_in_every_dialect() {
    let long: Vec<u8> = (0..30).map(|_| "directory").collect::<Vec<_>>().join("/").into_bytes();
    let odd = [b"\xff\xfe-".as_slice(), &[b'x'; 200]].concat();
    let scratch = Scratch::new();
    let tar = Tar::new()
        .extension(b'L', &[long.as_slice(), b"\0"].concat())
        .file("short", "gnu")
        .pax(&[("path", &odd)])
        .file("short", "pax")
        .file(b"caf\xe9", "latin")
        .extension(b'K', &[odd.as_slice(), b"\0"].concat())
        .symlink("cut", "gnu-link")
        .pax(&[("linkpath", &odd)])
        .symlink("cut", "pax-link")
        .end();

    let applied = scratch.apply(&tar).expect("apply");

    let read = |name: &[u8]| std::fs::read_to_string(scratch.path(std::ffi::OsStr::from_bytes(name))).expect("read");
    assert_eq!([read(&long), read(&odd), read(b"caf\xe9")], ["gnu", "pax", "latin"]);
    for link in ["gnu-link", "pax-link"] {
        assert_eq!(std::fs::read_link(scratch.path(link)).expect("link").as_os_str().as_bytes(), odd);
    }
    assert_eq!(rebuild(&scratch, &applied), tar);
    let again = diff(scratch.root().as_fd(), &DiffOptions::default()).expect("diff");
    assert_eq!(verify(&again.toc, scratch.root().as_fd()).expect("verify"), []);
}

#[test]
fn base_256_numbers_are_read() {
    let scratch = Scratch::new();
    let mut block = Header { name: b"file".to_vec(), ..Header::default() }.block();
    block[108..116].copy_from_slice(b"\x80\0\0\0\0\x2d\xc6\xc0");
    block[136..148].copy_from_slice(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xf6");
    seal(&mut block);

    scratch.apply(&Tar::new().raw(&block).end()).expect("apply");

    let stat = scratch.path("file").metadata().expect("stat");
    assert_eq!((stat.uid(), stat.mtime()), (3_000_000, -10));
}

#[test]
fn hard_links_share_an_inode_and_outlive_their_first_name() {
    let scratch = Scratch::new();
    let tar = Tar::new().file("a", "shared").link("a", "b").link("b", "c").file("a", "other").end();

    let applied = scratch.apply(&tar).expect("apply");

    let ino = |path: &str| scratch.path(path).metadata().expect("stat").ino();
    assert_eq!(ino("b"), ino("c"));
    assert_ne!(ino("a"), ino("b"));
    assert_eq!(rebuild(&scratch, &applied), tar);
    assert_eq!(applied.size, 11);
    assert_eq!(verify(&applied.toc, scratch.root().as_fd()).expect("verify"), []);
}

#[test]
fn later_entries_replace_earlier_ones_of_any_kind_and_the_archive_survives() {
    let scratch = Scratch::new();
    let tar = Tar::new()
        .dir("a", 0o755)
        .file("a/deep", "lost with its directory")
        .file("a", "file over directory")
        .dir("a", 0o700)
        .symlink("nowhere", "a")
        .file("b", "first")
        .file("b", "second")
        .end();

    let applied = scratch.apply(&tar).expect("apply");

    assert!(scratch.path("a").symlink_metadata().expect("stat").is_symlink());
    assert_eq!(std::fs::read_to_string(scratch.path("b")).expect("read"), "second");
    assert_eq!(rebuild(&scratch, &applied), tar);
    let contents: Vec<_> = applied.toc.contents().map(|(path, size, _)| (path, size)).collect();
    assert_eq!(contents, [(&b"b"[..], 6)]);
    assert_eq!(verify(&applied.toc, scratch.root().as_fd()).expect("verify"), []);
}

/// Row 57: the diff-id is that of the bytes, to the last one.
#[test]
fn the_diff_id_covers_every_byte_also_what_follows_the_archive() {
    for tail in [&b""[..], b"garbage", &[0; 9000]] {
        let scratch = Scratch::new();
        let mut tar = Tar::new().file("a", "content").end();
        tar.extend_from_slice(tail);

        let applied = scratch.apply(&tar).expect("apply");

        assert_eq!(applied.diff_id, sha256(&tar));
        assert_eq!(applied.tar_size, tar.len() as u64);
        assert_eq!(rebuild(&scratch, &applied), tar);
    }
}

#[test]
fn an_archive_may_end_without_its_end_blocks() {
    for blocks in [0, 1] {
        let scratch = Scratch::new();
        let tar = Tar::new().file("a", "content").raw(&vec![0; 512 * blocks]).0;

        let applied = scratch.apply(&tar).expect("apply");

        assert_eq!(rebuild(&scratch, &applied), tar);
    }
}

#[test]
fn a_table_of_contents_survives_its_stored_form() {
    let scratch = Scratch::new();
    let tar = Tar::new().file("a", "old").file("a", "new").link("a", "b").file("d/.wh.x", "").end();
    let applied = scratch.apply(&tar).expect("apply");

    let decoded = Toc::decode(&applied.toc.encode()).expect("decode");

    assert_eq!(decoded.diff_id(), applied.diff_id);
    assert_eq!(verify(&decoded, scratch.root().as_fd()).expect("verify"), []);
    let mut out = Vec::new();
    decoded.rebuild(scratch.root().as_fd(), &mut out).expect("rebuild");
    assert_eq!(out, tar);
}

#[test]
fn owner_and_mode_can_be_forced() {
    let scratch = Scratch::new();
    let options = ApplyOptions {
        owner: Some((10, 20)),
        mode: Some(0o640),
        whiteouts: Whiteouts::Literal,
        ..ApplyOptions::default()
    };

    apply(&Tar::new().file("d/a", "x").end()[..], scratch.root().as_fd(), &options).expect("apply");

    let stat = |path: &str| scratch.path(path).metadata().expect("stat");
    assert_eq!((stat("d/a").uid(), stat("d/a").gid(), stat("d/a").mode() & 0o7777), (10, 20, 0o640));
    assert_eq!((stat("d").uid(), stat("d").gid()), (10, 20));
}

#[test]
fn links_of_lower_layers_lead_to_where_they_lead() {
    let scratch = Scratch::new();
    let links_below = [(b"lib".to_vec(), b"usr/lib".to_vec())].into();
    let options = ApplyOptions { links_below, ..ApplyOptions::default() };
    let tar = Tar::new().file("lib/x", "content").link("lib/x", "y").end();

    let applied = apply(&tar[..], scratch.root().as_fd(), &options).expect("apply");

    assert_eq!(std::fs::read_to_string(scratch.path("usr/lib/x")).expect("read"), "content");
    assert_eq!(applied.implied, [b"usr".to_vec(), b"usr/lib".to_vec()]);
    assert_eq!(rebuild(&scratch, &applied), tar);
}

#[test]
fn sparse_files_have_their_holes_in_every_form() {
    let data = [[b'A'; 512], [b'B'; 512]].concat();
    let mut expected = vec![0; 8192];
    expected[1024..1536].fill(b'A');
    expected[4096..4608].fill(b'B');
    let map = "1024,512,4096,512,8192,0";
    let lines = format!("3\n{}\n", map.replace(',', "\n"));
    let mut first = lines.into_bytes();
    first.resize(512, 0);
    let mut old = Header { name: b"file".to_vec(), flag: b'S', size: 1024, ..Header::default() }.block();
    old[257..265].copy_from_slice(b"ustar  \0");
    for (at, number) in [(386, 1024), (398, 512), (410, 4096), (422, 512), (434, 8192), (446, 0), (483, 8192)] {
        old[at..at + 11].copy_from_slice(format!("{number:011o}").as_bytes());
    }
    old[345..386].fill(0);
    seal(&mut old);
    let mut zero = b"22 GNU.sparse.major=0\n22 GNU.sparse.minor=0\n".to_vec();
    for pair in map.split(',').collect::<Vec<_>>().chunks(2) {
        zero.extend(crate::tar::pax_body(&[
            ("GNU.sparse.offset", pair[0].as_bytes()),
            ("GNU.sparse.numbytes", pair[1].as_bytes()),
        ]));
    }
    zero.extend(crate::tar::pax_body(&[("GNU.sparse.size", b"8192"), ("GNU.sparse.numblocks", b"3")]));
    let cases = [
        ("old GNU", Tar::new().raw(&old).body(&data)),
        ("PAX 0.0", Tar::new().extension(b'x', &zero).file("file", &data)),
        (
            "PAX 0.1",
            Tar::new()
                .pax(&[("GNU.sparse.map", map.as_bytes()), ("GNU.sparse.size", b"8192"), ("GNU.sparse.name", b"file")])
                .file("GNUSparseFile.1/file", &data),
        ),
        (
            "PAX 1.0",
            Tar::new()
                .pax(&[
                    ("GNU.sparse.major", b"1"),
                    ("GNU.sparse.minor", b"0"),
                    ("GNU.sparse.realsize", b"8192"),
                    ("GNU.sparse.name", b"file"),
                ])
                .file("GNUSparseFile.1/file", [first.as_slice(), &data].concat()),
        ),
    ];
    for (name, tar) in cases {
        let scratch = Scratch::new();
        let tar = tar.end();

        let applied = scratch.apply(&tar).unwrap_or_else(|error| panic!("{name}: {error:?}"));

        assert!(std::fs::read(scratch.path("file")).expect("read") == expected, "{name}");
        assert_eq!(rebuild(&scratch, &applied), tar, "{name}");
        assert_eq!(verify(&applied.toc, scratch.root().as_fd()).expect("verify"), [], "{name}");
    }
}

#[test]
fn gnu_tar_reads_what_pack_writes_and_apply_reads_what_gnu_tar_writes() {
    let scratch = Scratch::new();
    let tar = Tar::new().dir("d", 0o750).file("d/f", "content").link("d/f", "g").symlink("d/f", "s").end();
    scratch.apply(&tar).expect("apply");
    let mut out = Vec::new();
    let options = DiffOptions { times: Times::Nanoseconds, ..DiffOptions::default() };
    strata_archive::pack(scratch.root().as_fd(), &options, &mut out).expect("pack");
    let (packed, unpacked) = (scratch.outside().join("packed.tar"), scratch.outside().join("unpacked"));
    std::fs::write(&packed, &out).expect("write");
    std::fs::create_dir(&unpacked).expect("mkdir");
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new("tar").args(arguments).output().expect("GNU tar");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };

    run(&["-xf", packed.to_str().expect("UTF-8"), "-C", unpacked.to_str().expect("UTF-8")]);
    for format in ["gnu", "pax", "ustar", "v7"] {
        let tar = run(&["-c", "--format", format, "-C", unpacked.to_str().expect("UTF-8"), "."]);
        let again = Scratch::new();
        let applied = again.apply(&tar).unwrap_or_else(|error| panic!("{format}: {error:?}"));
        assert_eq!(std::fs::read_to_string(again.path("g")).expect("read"), "content");
        assert!(applied.has_root);
        assert_eq!(rebuild(&again, &applied), tar, "{format}");
        let repacked = diff(again.root().as_fd(), &DiffOptions::default()).expect("diff");
        let wanted = diff(scratch.root().as_fd(), &DiffOptions::default()).expect("diff");
        assert_eq!(repacked.diff_id, wanted.diff_id, "{format}");
    }
}

#[test]
fn an_empty_archive_is_an_empty_layer() {
    for tar in [Vec::new(), Tar::new().end()] {
        let scratch = Scratch::new();
        let applied = scratch.apply(&tar).expect("apply");
        assert_eq!((applied.entries, applied.size, applied.has_root), (0, 0, false));
        assert_eq!(rebuild(&scratch, &applied), tar);
    }
}

#[test]
fn a_missing_hard_link_target_is_named() {
    let scratch = Scratch::new();

    let result = scratch.apply(&Tar::new().link("absent/file", "x").file("absent/file", "later").end());

    let Err(Error::LinkTarget { path, target }) = result else { panic!("{result:?}") };
    assert_eq!((path.to_string(), target.to_string()), ("x".into(), "absent/file".into()));
}

#[test]
fn a_hard_link_never_replaces_the_directory_that_its_target_is_in() {
    let start = || Tar::new().file("dir/sub/file", "x").symlink("dir/sub", "to-sub");
    for (target, name) in [("dir/sub/file", "dir"), ("dir/sub/file", "dir/sub"), ("to-sub/file", "dir")] {
        let result = Scratch::new().apply(&start().link(target, name).end());

        let error = result.map(|_| ()).expect_err(name).to_string();
        assert!(error.contains("the hard link replaces the directory of its target"), "{name}: {error}");
    }
    let beside = start().dir("dir/subordinate", 0o755).link("dir/sub/file", "dir/subordinate").end();
    Scratch::new().apply(&beside).expect("a directory of a similar name");
}
