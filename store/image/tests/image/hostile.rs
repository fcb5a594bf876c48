//! Archives that attack: every one is refused by what is wrong with it, and nothing outside is read or written.

use std::io::{Cursor, Read, repeat};

use serde_json::json;
use strata_image::{Archive, Codec, Error, Format, Limits, Plan, Platforms, Result, digest, save};
use strata_types::{Descriptor, media_type};
use tempfile::tempdir;

use crate::memory::{Memory, compress, root, transfer};
use crate::tar::Tar;

const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

fn open(bytes: Vec<u8>) -> Result<Archive> {
    Archive::from_stream(Cursor::new(bytes), tempdir().unwrap().path(), &Limits::default(), &mut ())
}

fn load(archive: &Archive) -> Result<Memory> {
    let plan = Plan::new(archive, archive.roots(), &Platforms::All, &Limits::default())?;
    let mut memory = Memory::default();
    transfer(&plan, archive, &mut memory)?;
    Ok(memory)
}

fn sample() -> (Memory, Descriptor, Vec<u8>) {
    let mut memory = Memory::default();
    let layers = [memory.layer("one", Some(Codec::Gzip(6))), memory.layer("two", None)];
    let image = memory.image("linux/amd64", &layers);
    let plan = Plan::new(&memory, &[root(&image, &["a:1"])], &Platforms::All, &Limits::default()).unwrap();
    let bytes = save::tar(&plan, &memory, Format::DockerArchive, vec![]).unwrap();
    (memory, image, bytes)
}

#[test]
fn an_archive_cut_anywhere_is_refused_or_whole() {
    let (memory, _, bytes) = sample();
    assert_eq!(load(&open(bytes.clone()).unwrap()).unwrap(), memory);
    for length in (0..bytes.len()).step_by(256) {
        let taken = open(bytes[..length].to_vec()).and_then(|archive| load(&archive));
        // What is cut off the end may be padding and the end mark only.
        assert!(taken.is_err() || taken.is_ok_and(|taken| taken == memory), "cut at {length}");
    }
}

/// CVE-2021-20291, row 70.
#[test]
fn a_compressed_archive_cut_anywhere_is_refused() {
    let (_, _, bytes) = sample();
    for codec in [Codec::Gzip(6), Codec::Zstd(3)] {
        let compressed = compress(&bytes, codec);
        for length in (20..compressed.len() - 8).step_by(97) {
            assert!(open(compressed[..length].to_vec()).is_err(), "{codec:?} cut at {length}");
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_changes_nothing_or_is_refused() {
    let (memory, _, bytes) = sample();
    for position in (0..bytes.len()).step_by(61) {
        let mut flipped = bytes.clone();
        flipped[position] ^= 1;
        if let Ok(taken) = open(flipped).and_then(|archive| load(&archive)) {
            for (digest, bytes) in &taken.0 {
                assert_eq!(memory.0.get(digest), Some(bytes), "a bit at {position} came through");
            }
        }
    }
}

/// CVE-2014-9356 and CVE-2020-10696, rows 53 and 67, for archives of images.
#[test]
fn names_that_lead_out_are_refused_wherever_they_stand() {
    for name in ["/etc/passwd", "../x", "a/../../x", "blobs/../index.json", "..", "//x"] {
        for flag in [b'0', b'1', b'2', b'5'] {
            let bytes = Tar::default().file("oci-layout", LAYOUT).node(name, flag, "x").end();
            let refused = open(bytes);
            assert!(matches!(refused, Err(Error::Member { .. })), "{name} {flag}: {refused:?}");
        }
    }
}

#[test]
fn two_members_of_one_name_are_refused() {
    let index = r#"{"schemaVersion":2,"manifests":[]}"#;
    for second in ["index.json", "./index.json", "index.json/", ".//index.json"] {
        let tar = Tar::default().file("oci-layout", LAYOUT).file("index.json", index);
        let tar = if second.ends_with('/') { tar.node(second, b'5', "") } else { tar.file(second, index) };
        let refused = open(tar.end());
        assert!(matches!(refused, Err(Error::Member { .. })), "{second}: {refused:?}");
    }
}

/// CVE-2014-6407 and CVE-2026-50163, rows 52 and 84, for archives of images.
#[test]
fn links_in_an_archive_lead_nowhere_else() {
    let with = |flag, target: &str| {
        let tar = Tar::default().file("oci-layout", LAYOUT).file("real", r#"{"schemaVersion":2,"manifests":[]}"#);
        open(tar.node("index.json", flag, target).node("loop", b'2', "loop").end())
    };
    assert!(with(b'2', "real").is_ok());
    assert!(with(b'1', "real").is_ok());
    for target in ["/etc/hostname", "../real", "x/../../real", "loop", "index.json"] {
        let refused = with(b'2', target);
        assert!(matches!(refused, Err(Error::Member { .. })), "{target}: {refused:?}");
    }
    for target in ["/etc/hostname", "../real", "index.json"] {
        let refused = with(b'1', target);
        assert!(matches!(refused, Err(Error::Member { .. })), "hard {target}: {refused:?}");
    }
    let device = with(b'3', "");
    assert!(matches!(device, Err(Error::Member { .. })), "{device:?}");
    let dangling = with(b'2', "nothing");
    assert!(matches!(dangling, Err(Error::NotAnArchive { .. })), "{dangling:?}");
}

#[test]
fn sizes_in_headers_that_lie_are_refused() {
    let index = r#"{"schemaVersion":2,"manifests":[]}"#;
    for size in [1 << 20, 0o77_777_777_777] {
        let bytes = Tar::default().file("oci-layout", LAYOUT).lie("index.json", size, index.as_bytes()).end();
        let refused = open(bytes);
        assert!(matches!(refused, Err(Error::Tar { .. })), "{size}: {refused:?}");
    }
}

/// CVE-2023-25153, row 74: the size is judged by the header, and the rest is not kept.
#[test]
fn a_document_of_a_hundred_megabytes_is_refused_unread() {
    let size = 100 << 20;
    for tar in [
        Tar::default().file("oci-layout", LAYOUT).lie("index.json", size, b""),
        Tar::default().lie("manifest.json", size, b""),
    ] {
        let stream = Cursor::new(tar.0).chain(repeat(b' ').take(size)).chain(&[0; 1024][..]);
        let refused = Archive::from_stream(stream, tempdir().unwrap().path(), &Limits::default(), &mut ());
        assert!(matches!(refused, Err(Error::Limit { unit: "bytes", .. })), "{refused:?}");
    }
}

/// CVE-2014-8178, row 57, for archives of images.
#[test]
fn blobs_that_are_not_what_they_are_called_are_refused() {
    let (memory, image, _) = sample();
    let index = json!({"schemaVersion": 2, "manifests": [image]}).to_string();
    for wrong in memory.0.keys() {
        let mut tar = Tar::default().file("oci-layout", LAYOUT).file("index.json", &index);
        for (digest, bytes) in &memory.0 {
            let mut bytes = bytes.clone();
            if digest == wrong {
                bytes[0] ^= 0x20;
            }
            tar = tar.file(&format!("blobs/sha256/{}", digest.as_hex()), bytes);
        }
        let refused = open(tar.end()).and_then(|archive| load(&archive));
        assert!(matches!(refused, Err(Error::DigestMismatch { expected, .. }) if expected == *wrong), "{refused:?}");
    }
}

/// CVE-2017-14992, row 59: the space is given back.
#[test]
fn an_archive_that_inflates_without_end_stops_at_the_limit() {
    let bomb = compress(&vec![0; 8 << 20], Codec::Gzip(9));
    let limits = Limits { max_archive: 1 << 20, ..Limits::default() };
    let scratch = tempdir().unwrap();

    let refused = Archive::from_stream(Cursor::new(bomb), scratch.path(), &limits, &mut ());

    assert!(matches!(refused, Err(Error::Limit { .. })), "{refused:?}");
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing is left of it");
}

/// CVE-2017-14992, row 59: headers without end.
#[test]
fn more_members_or_images_than_allowed_are_refused() {
    let limits = Limits { max_members: 10, max_entries: 3, ..Limits::default() };
    let open = |tar: Tar| Archive::from_stream(Cursor::new(tar.end()), tempdir().unwrap().path(), &limits, &mut ());
    let many = (0..11).fold(Tar::default(), |tar, number| tar.file(&number.to_string(), ""));
    assert!(matches!(open(many), Err(Error::Tar { .. })));
    let image = json!({"Config": "c", "Layers": []});
    let images = Tar::default().file("manifest.json", json!(vec![image; 4]).to_string());
    assert!(matches!(open(images), Err(Error::Limit { unit: "images", .. })));
}

/// CVE-2021-41190, row 72, for layouts.
#[test]
fn a_layout_of_another_version_or_that_is_a_manifest_is_refused() {
    let version = open(Tar::default().file("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#).end());
    assert!(matches!(version, Err(Error::Document { .. })), "{version:?}");
    let config = json!({"mediaType": media_type::OCI_CONFIG, "digest": digest(b""), "size": 0});
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": []}).to_string();
    let confused = open(Tar::default().file("oci-layout", LAYOUT).file("index.json", manifest).end());
    assert!(matches!(confused, Err(Error::Confused { .. })), "{confused:?}");
}

#[test]
fn no_bytes_make_the_reader_panic() {
    let mut state = 7_u64;
    for length in [0, 1, 5, 511, 512, 513, 4096] {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        assert!(open(bytes).is_err(), "{length} random bytes were taken");
    }
}
