//! Files with holes: where the pieces of a sparse file go. Their stored bytes are not where the kernel could use them
//! as they are, so they are copied behind the metadata, into chunks that are holes of the image around them.

use crate::error::Error;
use crate::format::{BLOCK_BITS, CHUNK_BITS};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The smallest chunk: a page.
const SMALLEST: u32 = 12;
/// Chunks that every file may have, whatever it holds, and one more for every so many bytes of content.
const CHUNKS: (u64, u64) = (1024, 64);
/// Bytes copied at a time.
const BUFFER: usize = 256 * 1024;

/// The chunks of one file.
#[derive(Debug)]
pub(crate) struct Chunks {
    /// Bits of a chunk's size.
    bits: u32,
    /// How many there are.
    pub(crate) count: u64,
    /// Those that hold something, in their order, by number.
    used: BTreeMap<u64, u64>,
}

impl Chunks {
    /// Plans a file of `size` bytes with these pieces: as small chunks as a bounded list of them allows.
    pub(crate) fn plan(size: u64, pieces: &[(u64, u64)]) -> Result<Self, Error> {
        let stored: u64 = pieces.iter().map(|(_, length)| length).sum();
        let most = CHUNKS.0 + stored / CHUNKS.1;
        let bits = (SMALLEST..=BLOCK_BITS + CHUNK_BITS).find(|bits| size.div_ceil(1 << bits) <= most);
        let bits = bits.ok_or(Error::TooLarge { what: "a sparse file of this size" })?;
        let mut used = BTreeMap::new();
        for (offset, length) in pieces.iter().filter(|(_, length)| *length > 0) {
            for chunk in offset >> bits..=(offset + length - 1) >> bits {
                let next = used.len() as u64;
                used.entry(chunk).or_insert(next);
            }
        }
        Ok(Self { bits, count: size.div_ceil(1 << bits), used })
    }

    /// Returns what the inode says of its chunks.
    pub(crate) fn format(&self) -> u32 {
        self.bits - BLOCK_BITS
    }

    /// Returns the bytes of the image that the chunks take.
    pub(crate) fn room(&self) -> u64 {
        // The pieces are within a file that has at most 2^63 bytes, but chunks round up.
        (self.used.len() as u64).saturating_mul(1 << self.bits)
    }

    /// Returns the first block of each chunk, when the room starts at the byte `start`; none for a hole.
    pub(crate) fn blocks(&self, start: u64) -> impl Iterator<Item = Option<u64>> {
        (0..self.count).map(move |chunk| {
            let place = self.used.get(&chunk)?;
            Some((start + (place << self.bits)) >> BLOCK_BITS)
        })
    }

    /// Copies the pieces, stored one after the other from `from` on, into the room that starts at `start`.
    pub(crate) fn copy(&self, image: &File, pieces: &[(u64, u64)], from: u64, start: u64) -> Result<(), Error> {
        let mut buffer = Vec::new();
        let mut stored = from;
        for (offset, length) in pieces {
            let (mut at, end) = (*offset, offset + length);
            while at < end {
                let place = self.used.get(&(at >> self.bits)).expect("the plan has a chunk for every piece");
                let chunk_end = ((at >> self.bits) + 1) << self.bits;
                let count = BUFFER.min(usize::try_from(end.min(chunk_end) - at).unwrap_or(BUFFER));
                buffer.resize(count, 0);
                image.read_exact_at(&mut buffer, stored).map_err(Error::io("read"))?;
                let to = start + (place << self.bits) + (at & ((1 << self.bits) - 1));
                image.write_all_at(&buffer, to).map_err(Error::io("write"))?;
                stored += count as u64;
                at += count as u64;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_chunks_stays_short_whatever_the_file_claims_to_be() {
        for size in [1, 4096, 1 << 32, (1 << 43) + 1, 1 << 49] {
            let chunks = Chunks::plan(size, &[(size - 1, 1)]).unwrap();
            assert!(chunks.count <= 1024, "{size}: {}", chunks.count);
            assert_eq!(chunks.used.len(), 1, "{size}");
            assert_eq!(chunks.blocks(0).flatten().count(), 1, "{size}");
        }
        assert!(matches!(Chunks::plan(i64::MAX as u64, &[]), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn chunks_are_pages_where_there_is_enough_in_them() {
        let chunks = Chunks::plan(10 << 20, &[(0, 1 << 20), (5 << 20, 10)]).unwrap();

        assert_eq!((chunks.bits, chunks.count), (12, 2560));
        assert_eq!(chunks.room(), (1 << 20) + 4096);
    }
}
