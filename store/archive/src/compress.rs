//! Compressed archives, told apart by their first bytes, with bounded memory whatever they claim.
//! Several gzip members, zstd frames or xz streams in a row are one stream.

use crate::error::Error;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::sync::mpsc::{Receiver, sync_channel};

/// Window of zstd frames: 2^27 bytes, what the zstd tool takes without being asked.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Memory for one xz stream: what `xz -9` needs, and some.
const XZ_MEMORY: u64 = 128 << 20;
/// LZMA_CONCATENATED of liblzma's container.h.
const XZ_CONCATENATED: u32 = 0x08;
const AHEAD: usize = 256 * 1024;

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
    let (sender, receiver) = sync_channel(4);
    std::thread::spawn(move || {
        let source = BufReader::with_capacity(128 * 1024, source);
        let mut decoder = match decoder(compression, source) {
            Ok(decoder) => decoder,
            Err(error) => {
                let _ = sender.send(Err(std::io::Error::other(error)));
                return;
            }
        };
        loop {
            let mut chunk = Vec::with_capacity(AHEAD);
            let result = decoder.by_ref().take(AHEAD as u64).read_to_end(&mut chunk);
            // The end is said, not implied: a thread that died must not look like a short archive.
            let is_end = chunk.is_empty() && result.is_ok();
            let is_heard = (chunk.is_empty() && !is_end) || sender.send(Ok(chunk)).is_ok();
            if let Err(error) = result {
                let _ = sender.send(Err(error));
                return;
            }
            if is_end || !is_heard {
                return;
            }
        }
    });
    Ok((compression, Box::new(Ahead { receiver, chunk: Cursor::new(Vec::new()), is_finished: false })))
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
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
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
    receiver: Receiver<Result<Vec<u8>, std::io::Error>>,
    chunk: Cursor<Vec<u8>>,
    is_finished: bool,
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let count = self.chunk.read(buffer)?;
            if count > 0 || self.is_finished || buffer.is_empty() {
                return Ok(count);
            }
            match self.receiver.recv() {
                Ok(Ok(chunk)) if chunk.is_empty() => self.is_finished = true,
                Ok(Ok(chunk)) => self.chunk = Cursor::new(chunk),
                Ok(Err(error)) => {
                    self.is_finished = true;
                    return Err(error);
                }
                Err(_) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}
