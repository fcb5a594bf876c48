//! Compressed archives, told apart by their first bytes, with bounded memory whatever they claim.
//! Several gzip members, zstd frames or xz streams in a row are one stream.

use crate::{error::Error, gunzip};
use std::io::{BufRead, BufReader, Cursor, ErrorKind, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Window of zstd frames: 2^27 bytes, what the zstd tool takes without being asked.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Memory for one xz stream: what `xz -9` needs, and some.
const XZ_MEMORY: u64 = 128 << 20;
/// LZMA_CONCATENATED of liblzma's container.h.
const XZ_CONCATENATED: u32 = 0x08;
const AHEAD: usize = 256 * 1024;
/// Chunks that wait for their reader.
const WAITING: usize = 4;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz with LZMA2.
    Xz,
}

impl Compression {
    /// Tells the compression from the first bytes of a stream.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::None,
        }
    }
}

/// Opens a stream that may be compressed.
pub fn decompress<'a>(reader: impl Read + 'a) -> Result<(Compression, Box<dyn Read + 'a>), Error> {
    let (compression, source) = sniff(reader)?;
    let source = BufReader::with_capacity(128 * 1024, source);
    Ok((compression, decoder(compression, source)?))
}

/// Opens a stream that may be compressed, and decompresses on a thread of its own, a few chunks ahead.
///
/// The thread ends when the returned reader is dropped and the source returns from its current read.
pub fn decompress_ahead(reader: impl Read + Send + 'static) -> Result<(Compression, Box<dyn Read + Send>), Error> {
    let (compression, source) = sniff(reader)?;
    if compression == Compression::None {
        return Ok((compression, Box::new(source)));
    }
    let (sender, receiver) = sync_channel(WAITING);
    let (giver, returned) = sync_channel(WAITING + 2);
    std::thread::spawn(move || {
        let source = BufReader::with_capacity(128 * 1024, source);
        let result = decoder(compression, source).map_err(std::io::Error::other);
        let result = result.and_then(|decoder| decode(decoder, &sender, &returned));
        if let Err(error) = result {
            // Nobody listens any more, or hears it here.
            let _ = sender.send(Err(error));
        }
    });
    Ok((
        compression,
        Box::new(Ahead { receiver, giver, chunk: vec![0; AHEAD], position: 0, filled: 0, is_finished: false }),
    ))
}

/// A chunk, and how many of its bytes count. None of them: the end, which is said and not implied, so that a thread that
/// died does not look like a short archive.
type Chunk = (Vec<u8>, usize);

/// Decompresses into chunks that come back to be filled again, until the end or until nobody listens.
fn decode(
    mut decoder: impl Read,
    sender: &SyncSender<std::io::Result<Chunk>>,
    returned: &Receiver<Vec<u8>>,
) -> std::io::Result<()> {
    loop {
        let mut chunk = returned.try_recv().unwrap_or_else(|_| vec![0; AHEAD]);
        let mut filled = 0;
        let mut failed = None;
        // In large pieces: each call of a decoder ends with a copy of its window.
        while filled < chunk.len() {
            match decoder.read(&mut chunk[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        // What came before an error is read first.
        let is_heard = (filled == 0 && failed.is_some()) || sender.send(Ok((chunk, filled))).is_ok();
        match failed {
            Some(error) => return Err(error),
            None if filled == 0 || !is_heard => return Ok(()),
            None => {}
        }
    }
}

type Sniffed<R> = std::io::Chain<Cursor<Vec<u8>>, R>;

fn sniff<R: Read>(mut reader: R) -> Result<(Compression, Sniffed<R>), Error> {
    let mut start = Vec::new();
    reader.by_ref().take(6).read_to_end(&mut start).map_err(|source| Error::Read { source })?;
    Ok((Compression::detect(&start), Cursor::new(start).chain(reader)))
}

fn decoder<'a>(compression: Compression, source: impl BufRead + 'a) -> Result<Box<dyn Read + 'a>, Error> {
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => gunzip::decoder(source),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::Decoder::with_buffer(source).map_err(|source| Error::Read { source })?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(|source| Error::Read { source })?;
            Box::new(decoder)
        }
        Compression::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, XZ_CONCATENATED)
                .map_err(|error| Error::Read { source: error.into() })?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
        }
    })
}

/// The reading end of a thread that decompresses.
struct Ahead {
    receiver: Receiver<std::io::Result<Chunk>>,
    giver: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    position: usize,
    filled: usize,
    is_finished: bool,
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.position == self.filled {
            if self.is_finished || buffer.is_empty() {
                return Ok(0);
            }
            match self.receiver.recv() {
                Ok(Ok((chunk, filled))) => {
                    // A full queue, or a thread that has ended, needs it no more.
                    let _ = self.giver.try_send(std::mem::replace(&mut self.chunk, chunk));
                    (self.position, self.filled) = (0, filled);
                    self.is_finished = filled == 0;
                }
                Ok(Err(error)) => {
                    self.is_finished = true;
                    return Err(error);
                }
                Err(_) => return Err(ErrorKind::UnexpectedEof.into()),
            }
        }
        let count = buffer.len().min(self.filled - self.position);
        buffer[..count].copy_from_slice(&self.chunk[self.position..self.position + count]);
        self.position += count;
        Ok(count)
    }
}
