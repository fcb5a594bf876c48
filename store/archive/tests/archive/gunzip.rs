//! What inflates gzip, beside zlib-rs: it takes the same streams, gives the same bytes, and refuses what is damaged.

use proptest::prelude::*;
use std::io::{Read, Write};
use strata_archive::decompress;

/// Contents as layers have them: words that come again, runs, and noise.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2000),
        (any::<u8>(), 0..70_000_usize).prop_map(|(byte, times)| vec![byte; times]),
        (prop::collection::vec(any::<u8>(), 1..40), 0..2000_usize).prop_map(|(word, times)| word.repeat(times)),
    ];
    prop::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
}

/// A stream of some members, each with what a header can have.
fn stream() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let member = (content(), 0..10_u32, any::<bool>(), prop::collection::vec(any::<u8>(), 0..300));
    prop::collection::vec(member, 1..4).prop_map(|members| {
        let (mut plain, mut compressed) = (Vec::new(), Vec::new());
        for (content, level, has_name, extra) in members {
            let mut header = flate2::GzBuilder::new().mtime(level);
            if has_name {
                header = header.filename("a name").comment("of a layer").extra(extra);
            }
            let mut encoder = header.write(Vec::new(), flate2::Compression::new(level));
            encoder.write_all(&content).expect("gzip");
            compressed.extend(encoder.finish().expect("gzip"));
            plain.extend(content);
        }
        (plain, compressed)
    })
}

/// Gives its bytes in pieces of such lengths.
struct Pieces<'a>(&'a [u8], std::iter::Cycle<std::vec::IntoIter<usize>>);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.1.next().unwrap_or(1).min(buffer.len());
        self.0.read(&mut buffer[..length])
    }
}

fn ours(compressed: &[u8], pieces: Vec<usize>) -> std::io::Result<Vec<u8>> {
    let (_, mut reader) = decompress(Pieces(compressed, pieces.into_iter().cycle())).map_err(std::io::Error::other)?;
    let mut out = Vec::new();
    reader.read_to_end(&mut out).map(|_| out)
}

fn theirs(compressed: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(compressed).read_to_end(&mut out).map(|_| out)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// However the bytes come.
    #[test]
    fn every_stream_is_read_whole((plain, compressed) in stream(), pieces in prop::collection::vec(1..5000_usize, 1..5)) {
        prop_assert!(ours(&compressed, pieces).expect("read") == plain);
    }

    /// Row 70: each cut, each bit.
    #[test]
    fn damaged_streams_are_judged_alike(
        (plain, compressed) in stream(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
        is_cut in any::<bool>(),
    ) {
        let at = at.index(compressed.len());
        let mut damaged = compressed;
        match is_cut {
            true => damaged.truncate(at.max(2)),
            false => damaged[at] ^= 1 << bit,
        }
        prop_assume!(damaged.starts_with(b"\x1f\x8b"));
        match (ours(&damaged, vec![usize::MAX]), theirs(&damaged)) {
            (Ok(ours), Ok(theirs)) => prop_assert!(ours == theirs, "other bytes after {at}"),
            // A flag without meaning, a code that no byte uses: what it read has the checksum of what was written.
            (Ok(ours), Err(_)) => prop_assert!(ours == plain, "wrong bytes after {at}"),
            (Err(_), Err(_)) => {}
            (Err(error), Ok(_)) => prop_assert!(false, "refused after {at}: {error}"),
        }
    }
}
