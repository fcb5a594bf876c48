//! Compressed layers that are read while they are being made. They are in a file all the time, so that whoever reads may
//! be as slow as it likes.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use strata_types::Descriptor;
use tokio::sync::watch;

/// How far it is.
#[derive(Clone, Debug, Default)]
struct Growth {
    /// Where the bytes are; none before there are any.
    file: Option<Arc<File>>,
    bytes: u64,
    /// What it has become.
    whole: Option<Descriptor>,
}

/// The end of whoever reads.
#[derive(Clone, Debug)]
pub(crate) struct Growing(watch::Receiver<Growth>);

/// The end of whoever writes. Dropped before it has told what the layer is, it says that nothing comes of it.
#[derive(Debug)]
pub(crate) struct Grower(watch::Sender<Growth>);

/// Both ends of a layer that is about to be made.
pub(crate) fn growing() -> (Grower, Growing) {
    let (sender, receiver) = watch::channel(Growth::default());
    (Grower(sender), Growing(receiver))
}

impl Grower {
    /// Tells where the bytes will be.
    pub(super) fn begin(&self, file: File) {
        self.0.send_modify(|growth| growth.file = Some(Arc::new(file)));
    }

    /// Tells what the layer is, all of whose bytes are there.
    pub(super) fn end(self, whole: &Descriptor) {
        self.0.send_modify(|growth| growth.whole = Some(whole.clone()));
    }
}

impl Growing {
    /// Waits for bytes behind `offset`, and reads some; none at the end of the layer.
    pub(crate) async fn read(&mut self, offset: u64, most: usize) -> io::Result<Option<Bytes>> {
        let growth = self.0.wait_for(|growth| growth.bytes > offset || growth.whole.is_some()).await;
        let Growth { file, bytes, .. } = growth.map_err(|_| given_up())?.clone();
        let (Some(file), true) = (file, bytes > offset) else { return Ok(None) };
        let length = usize::try_from(bytes - offset).unwrap_or(usize::MAX).min(most);
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; length];
            file.read_exact_at(&mut piece, offset).map(|()| Some(piece.into()))
        });
        read.await.map_err(io::Error::other)?
    }

    /// Waits until it is known what the layer is.
    pub(crate) async fn whole(&mut self) -> io::Result<Descriptor> {
        let growth = self.0.wait_for(|growth| growth.whole.is_some()).await;
        growth.ok().and_then(|growth| growth.whole.clone()).ok_or_else(given_up)
    }

    /// What the layer is, if that is known.
    pub(crate) fn known(&self) -> Option<Descriptor> {
        self.0.borrow().whole.clone()
    }
}

fn given_up() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the layer was given up while it was compressed")
}

/// Counts what is written to a file for whoever reads that; stops when nobody does any more.
pub(super) struct Told<'a, W> {
    pub(super) out: W,
    pub(super) grower: Option<&'a Grower>,
}

impl<W: Write> Write for Told<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        if let Some(Grower(sender)) = self.grower {
            if sender.is_closed() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            sender.send_modify(|growth| growth.bytes += count as u64);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use strata_types::media_type;

    use super::*;

    fn file() -> File {
        tempfile::tempfile().unwrap()
    }

    #[tokio::test]
    async fn bytes_are_read_as_they_come_to_the_end() {
        let (grower, mut growing) = growing();
        let out = file();
        grower.begin(out.try_clone().unwrap());
        let reading = tokio::spawn({
            let mut growing = growing.clone();
            async move {
                let mut all = Vec::new();
                while let Some(bytes) = growing.read(all.len() as u64, 3).await.unwrap() {
                    assert!((1..=3).contains(&bytes.len()));
                    all.extend_from_slice(&bytes);
                }
                all
            }
        });
        let mut told = Told { out, grower: Some(&grower) };
        for piece in [&b"he"[..], b"llo, ", b"world"] {
            told.write_all(piece).unwrap();
            tokio::task::yield_now().await;
        }
        assert!(growing.known().is_none());
        let descriptor = Descriptor::new(media_type::OCI_LAYER_GZIP, crate::blob::digest(b"x"), 12);
        grower.end(&descriptor);

        assert_eq!(reading.await.unwrap(), b"hello, world");
        assert_eq!(growing.whole().await.unwrap(), descriptor);
    }

    #[tokio::test]
    async fn who_gives_up_is_noticed_by_the_other() {
        let (grower, mut reader) = growing();
        drop(grower);
        assert_eq!(reader.read(0, 1).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(reader.whole().await.is_err());

        let (grower, reader) = growing();
        drop(reader);
        let written = Told { out: file(), grower: Some(&grower) }.write(b"x");
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
