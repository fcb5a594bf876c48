//! Archives that lie: refused as for directories, and never a worse image than a mountable one.

use crate::seen::{Image, check};
use crate::tar::{Header, Tar};
use strata_archive::Limits;

/// A small archive with one of everything.
fn small() -> Vec<u8> {
    Tar::new()
        .dir("a", 0o755)
        .pax(&[("SCHILY.xattr.user.x", b"value"), ("mtime", b"1.5")])
        .file("a/file", vec![b'x'; 700])
        .symlink("file", "a/link")
        .link("a/file", "hard")
        .file("a/.wh.b", "")
        .header(&Header { name: b"null".to_vec(), flag: b'3', device: (1, 3), ..Header::default() })
        .end()
}

#[test]
fn every_changed_byte_is_as_good_or_bad_as_for_a_directory() {
    let tar = small();
    // Headers and extensions; one bit of every third byte, another each time.
    for at in (0..tar.len()).step_by(3) {
        let mut changed = tar.clone();
        changed[at] ^= 1 << (at % 8);
        check(&changed);
    }
}

#[test]
fn every_cut_is_as_good_or_bad_as_for_a_directory() {
    let tar = small();
    for length in (0..tar.len()).step_by(97) {
        check(&tar[..length]);
    }
}

#[test]
fn limits_hold() {
    let tar = small();
    let limits = Limits::default();
    for limits in [
        Limits { max_bytes: 1024, ..limits },
        Limits { max_entries: 3, ..limits },
        Limits { max_metadata: 10, ..limits },
    ] {
        let Err(error) = Image::within(&tar, limits) else { panic!("{limits:?} does not hold") };
        assert!(error.to_string().contains("limit"), "{error}");
    }
}

#[test]
fn what_follows_the_archive_is_kept_with_it() {
    check(&[small(), b"trailing bytes that are no block".to_vec()].concat());
}

#[test]
fn attributes_beyond_the_format_are_refused() {
    let value = vec![b'v'; 60_000];
    let names: Vec<String> = (0..5).map(|number| format!("SCHILY.xattr.user.{number}")).collect();
    let records: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), value.as_slice())).collect();

    let error = Image::write(&Tar::new().pax(&records).file("file", "").end()).err().expect("it is refused");

    assert!(matches!(error, strata_erofs::Error::TooLarge { .. }), "{error}");
}

#[test]
fn an_image_that_was_cut_off_is_not_mounted() {
    let image = Image::write(&small()).unwrap();
    image.file.as_file().set_len(1000).unwrap();

    assert!(matches!(strata_erofs::mount(image.file.as_file(), &[]), Err(strata_erofs::Error::Mount { .. })));
}
