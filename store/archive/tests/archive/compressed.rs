//! Compressed archives: each form is recognised, joined and read whole, or refused when it is cut or too greedy.

use crate::tar::{Scratch, Tar};
use std::io::{Read, Write};
use strata_archive::{Compression, decompress, decompress_ahead};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("gzip");
    encoder.finish().expect("gzip")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).expect("zstd")
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).expect("bzip2");
    encoder.finish().expect("bzip2")
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).expect("xz");
    encoder.finish().expect("xz")
}

type Compress = fn(&[u8]) -> Vec<u8>;
const FORMS: [(Compression, Compress); 4] =
    [(Compression::Gzip, gzip), (Compression::Zstd, zstd), (Compression::Bzip2, bzip2), (Compression::Xz, xz)];

fn sample() -> Vec<u8> {
    let content: Vec<u8> =
        (0..300_000_u32).flat_map(|index| (index.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()).collect();
    Tar::new().dir("d", 0o755).file("d/f", content).end()
}

fn both(bytes: &[u8]) -> [(Compression, std::io::Result<Vec<u8>>); 2] {
    let all = |mut reader: Box<dyn Read>| {
        let mut out = Vec::new();
        reader.read_to_end(&mut out).map(|_| out)
    };
    let (found, reader) = decompress(bytes).expect("open");
    let (found_ahead, ahead) = decompress_ahead(std::io::Cursor::new(bytes.to_vec())).expect("open");
    let reader: Box<dyn Read> = Box::new(std::io::Cursor::new({
        let mut out = Vec::new();
        let mut reader = reader;
        match reader.read_to_end(&mut out) {
            Ok(_) => out,
            Err(error) => return [(found, Err(error)), (found_ahead, all(ahead))],
        }
    }));
    [(found, all(reader)), (found_ahead, all(ahead))]
}

#[test]
fn every_form_is_recognised_and_read_whole_also_when_joined() {
    let tar = sample();
    let (one, two) = tar.split_at(70_000);
    for (compression, compress) in FORMS {
        for bytes in [compress(&tar), [compress(one), compress(two)].concat()] {
            for (found, out) in both(&bytes) {
                assert_eq!(found, compression);
                assert!(out.unwrap_or_else(|error| panic!("{compression:?}: {error}")) == tar, "{compression:?}");
            }
        }
    }
    for (found, out) in both(&tar) {
        assert_eq!(found, Compression::None);
        assert!(out.expect("plain") == tar);
    }
}

/// CVE-2014-9357, row 54: programs of an image, or anybody's, are not asked to help.
#[test]
fn no_program_on_path_is_run_to_decompress() {
    let trojans = tempfile::tempdir().expect("scratch");
    let canary = trojans.path().join("canary");
    let script = format!("#!/bin/sh\n: >{}\n", canary.display());
    for name in
        ["gzip", "gunzip", "zcat", "pigz", "unpigz", "igzip", "xz", "unxz", "zstd", "unzstd", "bzip2", "bunzip2"]
    {
        std::fs::write(trojans.path().join(name), &script).expect("write");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(trojans.path().join(name), mode).expect("mode");
    }

    let mut again = std::process::Command::new(std::env::current_exe().expect("this program"));
    again.args(["--exact", "compressed::every_form_is_recognised_and_read_whole_also_when_joined"]);
    let output = again.env("PATH", trojans.path()).current_dir(trojans.path()).output().expect("run");

    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert!(!canary.exists(), "a program of PATH was run");
    // The trap does close: whoever runs such a program is seen.
    std::process::Command::new(trojans.path().join("xz")).status().expect("run");
    assert!(canary.exists());
}

/// CVE-2021-20291, row 70: a cut at every 4 KiB is an error, and nothing hangs.
#[test]
fn cut_streams_are_errors() {
    let tar = sample();
    for (compression, compress) in FORMS {
        let bytes = compress(&tar);
        for cut in (4096..bytes.len()).step_by(4096).chain([bytes.len() - 1]) {
            for (_, out) in both(&bytes[..cut]) {
                assert!(out.is_err(), "{compression:?} cut at {cut} of {}", bytes.len());
            }
            let scratch = Scratch::new();
            let (_, reader) = decompress(&bytes[..cut]).expect("open");
            assert!(scratch.apply_within(reader, Default::default()).is_err(), "{compression:?} cut at {cut}");
        }
    }
}

/// CVE-2021-20291, row 70.
#[test]
fn corrupt_streams_are_errors() {
    let tar = sample();
    for (compression, compress) in FORMS {
        let mut bytes = compress(&tar);
        let middle = bytes.len() / 2;
        bytes[middle..middle + 64].fill(0x55);

        for (_, out) in both(&bytes) {
            assert!(out.map_or(true, |out| out != tar), "{compression:?}");
        }
    }
}

/// The list at the end of 1E.
#[test]
fn zstd_windows_are_bounded_and_skippable_frames_skipped() {
    let skippable = b"\x50\x2a\x4d\x18\x04\0\0\0skip";
    for (found, out) in both(&[skippable, zstd(b"content").as_slice()].concat()) {
        assert_eq!((found, out.expect("read")), (Compression::Zstd, b"content".to_vec()));
    }
    // A frame header that asks for a window of 2 GiB: exponent 21 above 2^10.
    let greedy = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3][..], &[0x01, 0, 0]].concat();
    for (_, out) in both(&greedy) {
        assert!(out.is_err(), "a window of 2 GiB was granted");
    }
}

#[test]
fn short_streams_are_plain() {
    for bytes in [&b""[..], b"\x1f", b"BZh", b"\xfd7zXZ"] {
        let (found, mut reader) = decompress(bytes).expect("open");
        let mut out = Vec::new();
        reader.read_to_end(&mut out).expect("read");
        assert_eq!((found, out.as_slice()), (Compression::None, bytes));
    }
}
