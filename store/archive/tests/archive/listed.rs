//! What a table of contents lists: every name once, as the archive says it, also after it was stored and read again.

use crate::tar::{Header, Scratch, Tar};
use std::collections::BTreeMap;
use strata_archive::{Listed, ListedKind, Toc};

fn listed(toc: &Toc) -> BTreeMap<Vec<u8>, Listed<'_>> {
    toc.entries().map(|entry| (entry.path.to_vec(), entry)).collect()
}

fn toc(tar: Tar) -> Toc {
    let toc = Scratch::new().apply(&tar.end()).expect("apply").toc;
    assert_eq!(Toc::decode(&toc.encode()).expect("decode").entries().count(), toc.entries().count());
    Toc::decode(&toc.encode()).expect("decode")
}

#[test]
fn every_name_is_listed_with_what_it_stands_for() {
    let device = Header { name: b"null".to_vec(), flag: b'3', device: (1, 3), ..Header::default() };
    let fifo = Header { name: b"pipe".to_vec(), flag: b'6', ..Header::default() };
    let tar = Tar::new().dir("d", 0o751).file("d/f", "hello").symlink("d/f", "link").header(&device).header(&fifo);
    let toc = toc(tar.file(b"\xff\n", "").file(".wh.gone", "").file("o/.wh..wh..opq", ""));

    let found = listed(&toc);

    let kinds: Vec<(&[u8], ListedKind)> = found.iter().map(|(path, entry)| (path.as_slice(), entry.kind)).collect();
    let expected: [(&[u8], ListedKind); 8] = [
        (b"d", ListedKind::Directory),
        (b"d/f", ListedKind::Regular),
        (b"gone", ListedKind::Whiteout),
        (b"link", ListedKind::Symlink),
        (b"null", ListedKind::CharacterDevice),
        (b"o", ListedKind::Directory),
        (b"pipe", ListedKind::Fifo),
        (b"\xff\n", ListedKind::Regular),
    ];
    assert_eq!(kinds, expected);
    assert_eq!((found[&b"d"[..]].mode, found[&b"d"[..]].is_implied), (0o751, false));
    assert_eq!(found[&b"d/f"[..]].blake3, Some(*blake3::hash(b"hello").as_bytes()));
    assert_eq!((found[&b"link"[..]].target, found[&b"null"[..]].device), (&b"d/f"[..], (1, 3)));
    assert!(found[&b"o"[..]].is_opaque && found[&b"o"[..]].is_implied);
    assert_eq!((found[&b"\xff\n"[..]].size, found[&b"\xff\n"[..]].blake3), (0, None));
    assert!(found[&b"gone"[..]].modified.is_none() && found[&b"o"[..]].modified.is_none());
    assert!(found[&b"d/f"[..]].modified.is_some());
}

#[test]
fn further_names_of_a_file_point_to_the_first() {
    let toc = toc(Tar::new().file("m", "x").link("m", "z").link("m", "a"));

    let links: Vec<Option<&[u8]>> = toc.entries().map(|entry| entry.hard_link).collect();

    assert_eq!(links, [None, Some(&b"a"[..]), Some(&b"a"[..])], "a, m, z");
    assert!(toc.entries().all(|entry| entry.size == 1 && entry.blake3.is_some()));
}

#[test]
fn attributes_are_told_apart_by_name_and_value() {
    let with = |records: &[(&str, &[u8])]| {
        let toc = toc(Tar::new().pax(records).file("f", ""));
        toc.entries().next().expect("an entry").attributes
    };

    let one = with(&[("SCHILY.xattr.trusted.a", b"1")]);
    assert!(one.is_some());
    assert_eq!(one, with(&[("SCHILY.xattr.trusted.a", b"1")]));
    for other in [
        with(&[]),
        with(&[("SCHILY.xattr.trusted.a", b"2")]),
        with(&[("SCHILY.xattr.trusted.b", b"1")]),
        with(&[("SCHILY.xattr.trusted.a", b"1"), ("SCHILY.xattr.trusted.b", b"")]),
    ] {
        assert_ne!(one, other);
    }
}

#[test]
fn the_digest_of_a_sparse_file_is_not_that_of_its_content_and_is_not_told() {
    let map: &[(&str, &[u8])] =
        &[("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"8192"), ("GNU.sparse.name", b"file")];
    let toc = toc(Tar::new().pax(map).file("x", "y"));

    let file = toc.entries().next().expect("an entry");

    assert_eq!((file.path, file.size, file.blake3), (&b"file"[..], 8192, None));
}
