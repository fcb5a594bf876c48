//! A tar stream being read: every byte is hashed, and recorded in the table of contents unless it is file content.
//! Blocks, bodies and contents come out; limits and truncation are noticed here.

use crate::digest::Digesting;
use crate::error::Error;
use crate::header::{BLOCK, Block};
use crate::toc::Recorder;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};

/// Where the headers of an archive come from, block by block.
pub(crate) trait Blocks {
    /// Returns how many bytes were consumed.
    fn offset(&self) -> u64;

    /// Reads one block of metadata; none at the end of the stream.
    fn block(&mut self) -> Result<Option<Block>, Error>;

    /// Reads `size` bytes of metadata and their padding.
    fn body(&mut self, size: u64) -> Result<Vec<u8>, Error>;
}

impl<R: Read> Blocks for Stream<'_, R> {
    fn offset(&self) -> u64 {
        Self::offset(self)
    }

    fn block(&mut self) -> Result<Option<Block>, Error> {
        Self::block(self)
    }

    fn body(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        Self::body(self, size)
    }
}

/// Reads an archive's bytes while digesting and recording them.
pub(crate) struct Stream<'a, R> {
    reader: R,
    copy: Option<&'a File>,
    digesting: Digesting,
    position: usize,
    filled: usize,
    read: u64,
    limit: u64,
    pub(crate) recorder: Recorder,
}

impl<'a, R: Read> Stream<'a, R> {
    pub(crate) fn new(reader: R, recorder: Recorder, limit: u64) -> Self {
        Self { reader, copy: None, digesting: Digesting::new(), position: 0, filled: 0, read: 0, limit, recorder }
    }

    /// Writes every byte to a file too, before it is handed out.
    pub(crate) fn copied_to(self, copy: &'a File) -> Self {
        Self { copy: Some(copy), ..self }
    }

    /// Returns how many bytes were consumed.
    pub(crate) fn offset(&self) -> u64 {
        self.read - (self.filled - self.position) as u64
    }

    /// Reads one block of metadata; none at the end of the stream.
    pub(crate) fn block(&mut self) -> Result<Option<Block>, Error> {
        if !self.fill()? {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        let mut done = 0;
        self.take(BLOCK as u64, |recorder, bytes| {
            block[done..done + bytes.len()].copy_from_slice(bytes);
            done += bytes.len();
            recorder.literal(bytes)
        })?;
        Ok(Some(block))
    }

    /// Reads `size` bytes of metadata and their padding.
    pub(crate) fn body(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        self.take(size, |recorder, bytes| {
            body.extend_from_slice(bytes);
            recorder.literal(bytes)
        })?;
        self.padding(size)?;
        Ok(body)
    }

    /// Passes over what follows a body of `size` bytes up to the next block.
    pub(crate) fn padding(&mut self, size: u64) -> Result<(), Error> {
        let rest = size % BLOCK as u64;
        match rest {
            0 => Ok(()),
            _ => self.take(BLOCK as u64 - rest, Recorder::literal),
        }
    }

    /// Hands `size` bytes of file content to `sink`.
    pub(crate) fn content(&mut self, size: u64, mut sink: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        self.take(size, |_, bytes| sink(bytes))
    }

    /// Reads to the end, recording what follows the archive; returns digest, size and record.
    pub(crate) fn finish(mut self) -> Result<([u8; 32], u64, Recorder), Error> {
        while self.fill()? {
            let bytes = &self.digesting.chunk()[self.position..self.filled];
            self.recorder.literal(bytes)?;
            self.position = self.filled;
        }
        Ok((self.digesting.finish(), self.read, self.recorder))
    }

    fn take(
        &mut self,
        size: u64,
        mut sink: impl FnMut(&mut Recorder, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut left = size;
        while left > 0 {
            if !self.fill()? {
                return Err(Error::Truncated { offset: self.read });
            }
            let end = self.filled.min(self.position.saturating_add(usize::try_from(left).unwrap_or(usize::MAX)));
            sink(&mut self.recorder, &self.digesting.chunk()[self.position..end])?;
            left -= (end - self.position) as u64;
            self.position = end;
        }
        Ok(())
    }

    /// Makes sure that bytes are available; false at the end of the stream.
    fn fill(&mut self) -> Result<bool, Error> {
        if self.position < self.filled {
            return Ok(true);
        }
        self.position = 0;
        self.filled = 0;
        self.digesting.next();
        let chunk = self.digesting.current_mut();
        while self.filled < chunk.len() {
            match self.reader.read(&mut chunk[self.filled..]) {
                Ok(0) => break,
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Read { source }),
            }
        }
        if self.filled == 0 {
            return Ok(false);
        }
        self.read += self.filled as u64;
        if self.read > self.limit {
            return Err(Error::Limit { what: "bytes", limit: self.limit });
        }
        self.digesting.submit(self.filled);
        if let Some(mut copy) = self.copy {
            let chunk = &self.digesting.chunk()[..self.filled];
            copy.write_all(chunk).map_err(|source| Error::Write { source })?;
        }
        Ok(true)
    }
}
