//! Compression on all processors, whose bytes depend on the input and the level alone: not on the number of threads,
//! nor on how the input is cut into writes. For layers that are pushed or saved; reading is strata-archive's.
//!
//! The input is cut into blocks of one size, each a member of gzip or a frame of zstd of its own: readers take those that
//! follow each other for one stream (RFC 1952, section 2.2; RFC 8878, section 3), and layers of eStargz and zstd:chunked are
//! made that way. Libraries that need a block as a whole write the members: for the same size they are three times as fast
//! as a stream.

mod member;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use sha2::{Digest as _, Sha256};
use strata_types::Digest;

use member::Deflater;

/// How to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// gzip of this level of libdeflate, 1 to 12; those outside mean the nearest. 1 is the fastest there is, and as small
    /// as 2 of zlib.
    Gzip(i32),
    /// zstd of this level, 1 to 22; 3 is usual.
    Zstd(i32),
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compressed {
    /// Digest of the compressed bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
}

/// Compresses what is written to it. Must be ended with [`Compressor::finish`].
pub struct Compressor<W> {
    out: W,
    codec: Codec,
    block: Vec<u8>,
    /// Blocks and results that were used: memory that is given back and taken again costs as much as compressing.
    spare: Vec<Done>,
    workers: Workers,
    /// Blocks being compressed, in order.
    pending: VecDeque<Receiver<io::Result<Done>>>,
    max_pending: usize,
    hasher: Sha256,
    size: u64,
    blocks: u64,
}

/// One block to compress.
struct Job {
    codec: Codec,
    block: Done,
    reply: SyncSender<io::Result<Done>>,
}

/// A block, and what it became.
#[derive(Default)]
struct Done {
    input: Vec<u8>,
    /// Room for the result, not all of it used.
    output: Vec<u8>,
    size: usize,
}

impl Codec {
    /// Bytes of one block: large enough for the ratio, small enough that two processors share a layer.
    fn block(self) -> usize {
        match self {
            Self::Gzip(_) => 1 << 20,
            Self::Zstd(_) => 4 << 20,
        }
    }
}

impl<W: Write> Compressor<W> {
    /// Starts to compress to `out`, on `threads` threads; none means one for each processor.
    ///
    /// Memory is about 5 MiB a thread for gzip, 20 MiB for zstd, more at high levels.
    pub fn new(out: W, codec: Codec, threads: Option<NonZeroUsize>) -> Self {
        let threads = threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
        Self {
            out,
            codec,
            block: Vec::with_capacity(codec.block()),
            spare: Vec::new(),
            workers: Workers::new(threads),
            pending: VecDeque::new(),
            max_pending: threads + 1,
            hasher: Sha256::new(),
            size: 0,
            blocks: 0,
        }
    }

    /// Ends the stream; returns where it went, flushed, and what was written.
    pub fn finish(mut self) -> io::Result<(W, Compressed)> {
        // No bytes at all would be no stream.
        if !self.block.is_empty() || self.blocks == 0 {
            self.submit()?;
        }
        while !self.pending.is_empty() {
            self.collect()?;
        }
        self.out.flush()?;
        let digest = Digest::from_sha256_bytes(self.hasher.finalize().into());
        Ok((self.out, Compressed { digest, size: self.size }))
    }

    /// Hands the current block to a worker.
    fn submit(&mut self) -> io::Result<()> {
        while self.pending.len() >= self.max_pending {
            self.collect()?;
        }
        let mut block = self.spare.pop().unwrap_or_default();
        std::mem::swap(&mut self.block, &mut block.input);
        self.block.clear();
        let (reply, receiver) = sync_channel(1);
        self.workers.submit(Job { codec: self.codec, block, reply })?;
        self.pending.push_back(receiver);
        self.blocks += 1;
        Ok(())
    }

    /// Writes the oldest block out.
    fn collect(&mut self) -> io::Result<()> {
        let Some(receiver) = self.pending.pop_front() else { return Ok(()) };
        let done = receiver.recv().map_err(|_| io::Error::other("a compressing thread died"))??;
        let bytes = &done.output[..done.size];
        self.out.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.spare.push(done);
        Ok(())
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.codec.block() - self.block.len());
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == self.codec.block() {
            self.submit()?;
        }
        Ok(count)
    }

    /// Does nothing: where a stream is flushed must not show in its bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Threads that compress; they end and are joined when this is dropped.
struct Workers {
    jobs: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    fn new(count: usize) -> Self {
        let (jobs, receiver) = sync_channel::<Job>(count);
        let receiver = Arc::new(Mutex::new(receiver));
        let work = |receiver: Arc<Mutex<Receiver<Job>>>| {
            move || {
                let mut deflater = None;
                loop {
                    // The lock is held while waiting, not while working.
                    let job = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(Job { codec, mut block, reply }) = job else { return };
                    let compressed = compress(codec, &mut block, &mut deflater);
                    // Nobody listens any more when the stream was given up.
                    let _ = reply.send(compressed.map(|()| block));
                }
            }
        };
        let threads = (0..count).map(|_| std::thread::spawn(work(Arc::clone(&receiver)))).collect();
        Self { jobs: Some(jobs), threads }
    }

    fn submit(&self, job: Job) -> io::Result<()> {
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if sent { Ok(()) } else { Err(io::Error::other("the compressing threads died")) }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Compresses a block. The deflater is made for the first one, and kept.
fn compress(codec: Codec, block: &mut Done, deflater: &mut Option<Deflater>) -> io::Result<()> {
    let Done { input, output, size } = block;
    match codec {
        Codec::Gzip(level) => {
            let deflater = match deflater {
                Some(deflater) => deflater,
                None => deflater.insert(Deflater::new(level)?),
            };
            *size = deflater.member(input, output)?;
        }
        Codec::Zstd(level) => {
            make_room(output, zstd::zstd_safe::compress_bound(input.len()));
            *size = zstd::bulk::compress_to_buffer(input, output, level)?;
        }
    }
    Ok(())
}

fn make_room(output: &mut Vec<u8>, size: usize) {
    if output.len() < size {
        output.resize(size, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn input(length: usize) -> Vec<u8> {
        // Half of it repeats, half does not.
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(|index| if index / 1000 % 2 == 0 { (index % 61) as u8 } else { next() }).collect()
    }

    fn run(codec: Codec, input: &[u8], threads: usize, piece: usize) -> (Vec<u8>, Compressed) {
        let mut compressor = Compressor::new(Vec::new(), codec, NonZeroUsize::new(threads));
        input.chunks(piece).for_each(|chunk| compressor.write_all(chunk).unwrap());
        compressor.finish().unwrap()
    }

    #[test]
    fn what_is_compressed_inflates_to_the_input() {
        for codec in [Codec::Gzip(6), Codec::Gzip(1), Codec::Zstd(3)] {
            for length in [0, 1, 1 << 20, (1 << 20) + 1, 4_300_000] {
                let input = input(length);

                let (bytes, written) = run(codec, &input, 2, 100_000);

                let mut inflated = Vec::new();
                let (_, mut reader) = strata_archive::decompress(&bytes[..]).unwrap();
                reader.read_to_end(&mut inflated).unwrap();
                assert!(inflated == input, "{codec:?} of {length} bytes");
                assert_eq!(written, Compressed { digest: crate::digest(&bytes), size: bytes.len() as u64 });
            }
        }
    }

    #[test]
    fn what_does_not_compress_fits_too() {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let input: Vec<u8> = (0..(1 << 20) + 7).map(|_| next()).collect();
        let (bytes, _) = run(Codec::Gzip(1), &input, 1, usize::MAX);
        let mut inflated = Vec::new();
        strata_archive::decompress(&bytes[..]).unwrap().1.read_to_end(&mut inflated).unwrap();
        assert!(inflated == input && bytes.len() < input.len() + 4096);
    }

    /// The digest is the same on every x86-64 since 2008, whatever else its processor has; it changes with the version of the
    /// library, and then layers that are pushed again are new to registries.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_bytes_are_those_of_other_hosts() {
        let (_, written) = run(Codec::Gzip(1), &input(2_300_000), 2, 1 << 16);
        let known = "sha256:5a675e3aa8548af254183ac8fe630ae4e1809a21440d76f3bad3042590bc21cf";
        assert_eq!(written.digest.to_string(), known);
    }

    #[test]
    fn members_have_neither_name_nor_time() {
        let (bytes, _) = run(Codec::Gzip(1), &input(2_300_000), 2, 1 << 16);

        let members = bytes.windows(4).filter(|window| *window == [0x1f, 0x8b, 8, 0]).count();
        assert!(members >= 3, "a member for each MiB, not {members}");
        // RFC 1952, section 2.3: no flags, no time.
        assert_eq!(bytes[3..8], [0; 5]);
    }

    #[test]
    fn the_bytes_depend_on_neither_threads_nor_writes() {
        // More than one block of each.
        let input = input(4_300_000);
        for codec in [Codec::Gzip(6), Codec::Zstd(3)] {
            let (reference, _) = run(codec, &input, 1, usize::MAX);
            for (threads, piece) in [(2, 1 << 20), (5, 70_001)] {
                let (bytes, _) = run(codec, &input, threads, piece);
                assert!(bytes == reference, "{codec:?} on {threads} threads in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_sink_that_fails_is_an_error_and_ends_the_threads() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for codec in [Codec::Gzip(1), Codec::Zstd(3)] {
            let mut compressor = Compressor::new(Full, codec, NonZeroUsize::new(2));
            compressor.write_all(b"hello").unwrap();
            assert_eq!(compressor.finish().map(|_| ()).map_err(|error| error.kind()), Err(io::ErrorKind::StorageFull));
        }
    }
}
