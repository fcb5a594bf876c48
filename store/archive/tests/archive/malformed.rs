//! Archives that are cut, lie or bomb: an error that says so, in bounded memory, and nothing outside changes.

use crate::tar::{Header, Scratch, Tar, seal};
use std::io::Read;
use strata_archive::{Error, Limits};

fn changed(header: &Header, change: impl Fn(&mut [u8; 512])) -> Vec<u8> {
    let mut block = header.block();
    change(&mut block);
    seal(&mut block);
    block.to_vec()
}

/// CVE-2021-20291, row 70, and 1E: cut at each block of 512 bytes.
#[test]
fn every_cut_within_an_entry_is_noticed() {
    let content = vec![b'x'; 1300];
    let tar = Tar::new().dir("d", 0o755).pax(&[("path", b"renamed")]).file("short", &content).0;
    // After the directory, and at the very end, the archive is whole.
    let whole = [0, 512, tar.len()];
    for cut in (0..=tar.len()).step_by(512).chain([1, 511, 513, 1100, tar.len() - 1]) {
        let scratch = Scratch::new();

        let result = scratch.apply(&tar[..cut]);

        match whole.contains(&cut) {
            true => assert!(result.is_ok(), "cut at {cut}: {result:?}"),
            false => assert!(matches!(result, Err(Error::Truncated { .. })), "cut at {cut}: {result:?}"),
        }
    }
}

/// The list at the end of 1E: sizes, times, owners, names and links that no entry can have.
#[test]
fn headers_that_lie_are_refused() {
    let file = || Header { name: b"x".to_vec(), ..Header::default() };
    let gnu = |flag| Header { name: b"n".to_vec(), flag, size: 4, ..Header::default() };
    let pax = |key: &str, value: &[u8]| Tar::new().pax(&[(key, value)]).file("x", "").0;
    let long = |name: &str| Tar::new().extension(b'L', name.as_bytes()).0;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("checksum", [&file().block()[..148], b"0000000\0", &file().block()[156..]].concat()),
        ("negative size", changed(&file(), |block| block[124..136].fill(0xff))),
        ("not octal", changed(&file(), |block| block[124..136].copy_from_slice(b"0000000000x\0"))),
        ("2^63 size", changed(&file(), |block| block[124..136].copy_from_slice(b"\x80\0\0\0\x80\0\0\0\0\0\0\0"))),
        ("uid 2^32", pax("uid", b"4294967296")),
        ("uid of nobody at all", pax("uid", b"4294967295")),
        ("negative uid", pax("uid", b"-1")),
        ("size 2^64", pax("size", b"18446744073709551616")),
        ("time", pax("mtime", b"soon")),
        ("NUL in a name", pax("path", b"a\0b")),
        ("NUL in a link", pax("linkpath", b"a\0b")),
        ("unknown type", Tar::new().header(&Header { flag: b'Z', ..file() }).0),
        ("multi-volume", Tar::new().header(&Header { flag: b'M', ..file() }).0),
        ("file with a slash", Tar::new().file("x/", "content").0),
        ("NUL in a long name", Tar::new().extension(b'L', b"a\0b\0").file("x", "").0),
        ("two long names", Tar::new().raw(&long("a")).raw(&long("b")).file("x", "").0),
        ("long name and PAX", Tar::new().raw(&long("a")).pax(&[("path", b"b")]).file("x", "").0),
        ("global names", Tar::new().extension(b'g', &crate::tar::pax_body(&[("path", b"all")])).file("x", "").0),
        ("zeros between", Tar::new().raw(&[0; 512]).file("x", "").0),
        ("PAX record", Tar::new().extension(b'x', b"99 path=x\n").file("x", "").0),
        ("cut long name", Tar::new().header(&gnu(b'L')).body(b"name").0),
        ("path too long", Tar::new().extension(b'L', &[b'x'; 5000]).file("x", "").0),
        ("name too long", Tar::new().extension(b'L', &[b'x'; 300]).file("x", "").0),
        ("too deep", Tar::new().extension(b'L', "d/".repeat(10_000).as_bytes()).dir("x", 0o755).0),
        ("empty symlink", Tar::new().symlink("", "x").0),
        ("link to a directory", Tar::new().dir("d", 0o755).link("d", "x").0),
        ("link to itself", Tar::new().file("x", "").link("x", "./x").0),
        ("file as a parent", Tar::new().file("x", "").file("x/y", "").0),
        ("sparse map out of the file", pax_sparse("0,1024", "512")),
        ("sparse map backwards", pax_sparse("512,256,0,256", "1024")),
        ("sparse map odd", pax_sparse("0", "1024")),
        ("sparse map overflow", pax_sparse("18446744073709551615,2", "1024")),
    ];
    for (name, tar) in cases {
        let scratch = Scratch::new();

        let result = scratch.apply(&Tar(tar).end());

        assert!(result.is_err(), "{name}: accepted");
    }
}

fn pax_sparse(map: &str, size: &str) -> Vec<u8> {
    let records = [("GNU.sparse.map", map.as_bytes()), ("GNU.sparse.size", size.as_bytes())];
    Tar::new().pax(&records).file("x", [b'x'; 512]).0
}

/// CVE-2025-62518 and CVE-2026-33055, rows 80 and 81: the PAX size counts, so nothing hides in the content.
#[test]
fn the_pax_size_counts_and_nested_entries_stay_content() {
    let inner = Tar::new().file("hidden", "surprise").0;
    let scratch = Scratch::new();
    let outer = Header { name: b"outer".to_vec(), size: 0, ..Header::default() };
    let size = inner.len().to_string();

    scratch
        .apply(&Tar::new().pax(&[("size", size.as_bytes())]).header(&outer).body(&inner).file("after", "").end())
        .expect("apply");

    assert!(!scratch.path("hidden").exists());
    assert_eq!(std::fs::read(scratch.path("outer")).expect("read"), inner);
    assert!(scratch.path("after").exists());
}

/// Row 80: GNU tar looks for content behind a directory with a size, Go does not, and POSIX lets hard links have some.
#[test]
fn sizes_of_entries_without_content_are_refused() {
    for flag in *b"123456" {
        let scratch = Scratch::new();
        let header =
            Header { name: "x".into(), flag, link: "y".into(), size: 512, device: (1, 3), ..Header::default() };
        let tar = Tar::new().file("y", "").header(&header).body(&[0; 512]).file("after", "");

        let refused = scratch.apply(&tar.end()).expect_err("two readers read two archives");

        assert!(matches!(refused, Error::Header { .. }), "{refused}");
    }
}

/// Row 80: what readers take for different names, or different ends of them.
#[test]
fn names_and_sizes_that_readers_read_differently_are_refused() {
    let with = |magic: &[u8], prefix: &[u8]| {
        let mut block = Header { name: "x".into(), ..Header::default() }.block();
        block[257..257 + magic.len()].copy_from_slice(magic);
        block[345..345 + prefix.len()].copy_from_slice(prefix);
        crate::tar::seal(&mut block);
        Tar::new().raw(&block).end()
    };
    let pax = |records: &[(&str, &[u8])]| Tar::new().pax(records).file("x", "").end();
    let mut long = Tar::new().extension(b'L', b"name").file("x", "");
    long.0[512 + 4] = b'!';
    let cases = [
        ("a prefix of the oldest form", with(&[0; 8], b"prefix")),
        ("a prefix of no version", with(b"ustar\0\0\0", b"prefix")),
        ("times that are a name", with(b"ustar  \0", b"prefix")),
        ("two paths", pax(&[("path", b"a"), ("path", b"b")])),
        ("no size", pax(&[("size", b"")])),
        ("no path", pax(&[("path", b"")])),
        ("a long name that goes on", long.end()),
        ("a link to nothing", Tar::new().symlink("", "x").end()),
    ];
    for (what, tar) in cases {
        assert!(Scratch::new().apply(&tar).is_err(), "{what}");
    }
    // What is only unusual is read.
    let times = with(b"ustar  \0", b"14524770007\x0014524770007\0");
    for tar in [times, with(b"ustar\0\0\0", b""), with(&[0; 8], b""), pax(&[("comment", b""), ("comment", b"x")])] {
        Scratch::new().apply(&tar).expect("every reader reads the same");
    }
}

#[test]
fn global_headers_that_change_nothing_are_ignored() {
    let scratch = Scratch::new();
    let global = crate::tar::pax_body(&[("comment", b"0123456789abcdef")]);

    scratch.apply(&Tar::new().extension(b'g', &global).file("x", "").end()).expect("apply");

    assert!(scratch.path("x").exists());
}

/// CVE-2017-14992, rows 59 and 83: bombs of every part of an archive end at a limit.
#[test]
fn bombs_end_at_their_limit() {
    let limits = Limits { max_bytes: 1 << 20, max_entries: 1000, max_metadata: 4096, max_kept: 64 << 10 };
    let huge = Header { name: b"huge".to_vec(), size: 1 << 33, ..Header::default() };
    let name = Header { name: b"n".to_vec(), flag: b'L', size: 1 << 33, ..Header::default() };
    let overwritten = Tar::new().file("a", vec![b'x'; 40_000]).file("a", vec![b'y'; 40_000]).file("a", "").end();
    let mut noise = 1_u64;
    let random: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (noise >> 56) as u8
    })
    .take(500_000)
    .collect();
    let many: Vec<u8> = (0..1500).flat_map(|index| Tar::new().file(format!("f{index}"), "").0).collect();
    let extended: Vec<u8> = [vec![b'1'; 8], b",".to_vec()].concat().repeat(300_000);
    let cases: Vec<(&str, Box<dyn Read>, &str)> = vec![
        ("zeros", Box::new(std::io::repeat(0)), "bytes"),
        ("content", Box::new(std::io::Cursor::new(huge.block()).chain(std::io::repeat(b'x'))), "bytes"),
        (
            "name",
            Box::new(std::io::Cursor::new(name.block()).chain(std::io::repeat(b'x'))),
            "bytes of metadata in one entry",
        ),
        ("headers", Box::new(std::io::Cursor::new(many)), "entries"),
        ("overwritten", Box::new(std::io::Cursor::new(overwritten)), "bytes kept beside the tree"),
        ("noise", Box::new(std::io::Cursor::new([Tar::new().end(), random].concat())), "bytes kept beside the tree"),
        (
            "sparse map",
            Box::new(std::io::Cursor::new(Tar::new().pax(&[("GNU.sparse.map", &extended)]).0)),
            "bytes of metadata in one entry",
        ),
    ];
    for (name, tar, wanted) in cases {
        let scratch = Scratch::new();

        let result = scratch.apply_within(tar, limits);

        assert!(matches!(&result, Err(Error::Limit { what, .. }) if *what == wanted), "{name}: {result:?}");
    }
}

/// CVE-2025-58183, row 83: a sparse map of ten million pieces.
#[test]
fn endless_sparse_maps_are_refused() {
    let mut old = Header { name: b"x".to_vec(), flag: b'S', size: 0, ..Header::default() }.block();
    old[257..265].copy_from_slice(b"ustar  \0");
    old[345..].fill(0);
    old[482] = 1;
    seal(&mut old);
    let mut extension = [b'0'; 512];
    extension[504] = 1;
    let endless = std::io::Cursor::new([old.to_vec(), extension.repeat(20_000)].concat());
    let scratch = Scratch::new();
    let result = scratch.apply_within(endless, Limits::default());
    assert!(matches!(result, Err(Error::Header { .. })), "{result:?}");

    let records: [(&str, &[u8]); 3] =
        [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"1")];
    let result = scratch.apply(&Tar::new().pax(&records).file("x", "10000000\n".repeat(100)).end());
    assert!(matches!(result, Err(Error::Header { .. })), "{result:?}");
}

/// Row 80: a changed archive is refused, or what is kept of it is all of it, to the byte.
#[test]
fn every_changed_byte_of_a_header_is_an_error_or_contained() {
    let tar = Tar::new().dir("d", 0o755).symlink("../etc", "d/l").file("d/l/x", "content").link("d/l/x", "y").end();
    let mut noise = 7_u64;
    for _ in 0..2000 {
        let scratch = Scratch::new();
        let mut changed = tar.clone();
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = (noise >> 33) as usize % changed.len();
        changed[at] = (noise >> 24) as u8;
        let block = at / 512 * 512;
        if let Ok(header) = <&mut [u8; 512]>::try_from(&mut changed[block..block + 512]) {
            seal(header);
        }

        if let Ok(applied) = scratch.apply(&changed) {
            assert!(crate::tar::rebuild(&scratch, &applied) == changed, "byte {at}");
        }
    }
}
