//! Streams of gzip, inflated by ISA-L where it has code for the processor, else by zlib-rs: RFC 1952, members in a row are one
//! stream.

use std::io::{BufRead, Read};

/// Opens a stream of gzip.
pub fn decoder<'a>(source: impl BufRead + 'a) -> Box<dyn Read + 'a> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("bmi2") {
        return Box::new(fast::Decoder::new(source));
    }
    Box::new(flate2::bufread::MultiGzDecoder::new(source))
}

#[cfg(target_arch = "x86_64")]
mod fast {
    use std::io::{BufRead, Error, ErrorKind, Read, Result};

    /// ISA-L's decoder, which is given what it can take each time: it takes two calls that bring no byte for damage.
    pub struct Decoder<R: Read>(isal::read::GzipDecoder<Whole<R>>);

    impl<R: BufRead> Decoder<R> {
        pub fn new(source: R) -> Self {
            Self(isal::read::GzipDecoder::new(Whole { source, is_at_end: false }))
        }
    }

    impl<R: BufRead> Read for Decoder<R> {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            self.0.read(buffer).map_err(|error| {
                match error.get_ref().is_some_and(|inner| inner.is::<isal::error::Error>()) {
                    true if self.0.get_ref().is_at_end => ErrorKind::UnexpectedEof.into(),
                    true => Error::new(ErrorKind::InvalidData, format!("the gzip stream is damaged: {error}")),
                    false => error,
                }
            })
        }
    }

    /// A reader that fills what it is given, unless it ends.
    pub struct Whole<R> {
        source: R,
        is_at_end: bool,
    }

    impl<R: Read> Read for Whole<R> {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            let mut filled = 0;
            while filled < buffer.len() {
                match self.source.read(&mut buffer[filled..]) {
                    Ok(0) => {
                        self.is_at_end = true;
                        break;
                    }
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(filled)
        }
    }
}
