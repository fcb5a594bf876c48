//! The store as a source of blobs for plans and archives: documents and compressed layers from their files,
//! uncompressed layers, which are kept as trees, made again from those.

use std::io::{self, Cursor, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use strata_archive::Toc;
use strata_image::{Blob, BlobSource};
use strata_types::Digest;
use tokio::runtime::Handle;

use crate::{Error, Result, Store, blob, layer};

const PIECE: usize = 256 * 1024;
/// Pieces that wait for the reader.
const DEPTH: usize = 4;

/// A store as a source, for a thread that may block. Whoever reads holds a lease on what it reads.
#[derive(Debug)]
pub struct Source {
    store: Arc<Store>,
    runtime: Handle,
}

/// Where the bytes of a blob are.
enum Place {
    File(PathBuf, u64),
    /// Directory and table of contents of a layer.
    Tree(PathBuf, Vec<u8>, u64),
}

impl Source {
    /// The store as a source. Called inside the runtime; read outside of its own threads.
    pub fn new(store: &Arc<Store>) -> Self {
        Self { store: Arc::clone(store), runtime: Handle::current() }
    }

    async fn size_of(&self, digest: &Digest) -> Result<Option<u64>> {
        match self.store.catalog.blob(digest).await {
            Ok(row) => return Ok(Some(row.size)),
            Err(Error::BlobNotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let layer = self.store.catalog.layer_by_diff_id(digest).await?;
        Ok(layer.filter(|layer| layer.toc.is_some()).map(|layer| layer.tar_size))
    }

    async fn place(&self, digest: &Digest) -> Result<Option<Place>> {
        match blob::open(&self.store, digest).await {
            Ok((_, row)) => return Ok(Some(Place::File(self.store.paths.blob(digest), row.size))),
            Err(Error::BlobNotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let Some(row) = self.store.catalog.layer_by_diff_id(digest).await? else { return Ok(None) };
        let Some(toc) = row.toc else { return Ok(None) };
        let toc = blob::read(&self.store, &toc).await?;
        Ok(Some(Place::Tree(self.store.paths.layer(&row.id), toc, row.tar_size)))
    }
}

impl BlobSource for Source {
    fn size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        self.runtime.block_on(self.size_of(digest)).map_err(io::Error::other)
    }

    fn open(&self, digest: &Digest) -> io::Result<Option<Blob<'_>>> {
        let place = self.runtime.block_on(self.place(digest)).map_err(io::Error::other)?;
        Ok(match place {
            None => None,
            Some(Place::File(path, size)) => Some(Blob { size, reader: Box::new(std::fs::File::open(path)?) }),
            Some(Place::Tree(path, toc, size)) => Some(Blob { size, reader: Box::new(Tar::start(path, toc)) }),
        })
    }
}

/// The tar of a layer, made on a thread of its own, a few pieces ahead. Dropped, the thread ends at its next piece.
pub struct Tar {
    pieces: Receiver<io::Result<Vec<u8>>>,
    current: Cursor<Vec<u8>>,
    is_over: bool,
}

impl Tar {
    /// Starts to make the tar of the layer in this directory from its encoded table of contents.
    pub fn start(directory: PathBuf, toc: Vec<u8>) -> Self {
        let (sender, pieces) = sync_channel(DEPTH);
        std::thread::spawn(move || {
            let mut out = Pieces { sender, pending: Vec::with_capacity(PIECE) };
            let result = rebuild(&directory, &toc, &mut out).and_then(|()| out.send());
            // The end is said: a thread that died must not look like one. Nobody may listen any more.
            let _ = match result {
                Ok(()) => out.sender.send(Ok(Vec::new())),
                Err(error) => out.sender.send(Err(error)),
            };
        });
        Self { pieces, current: Cursor::new(Vec::new()), is_over: false }
    }
}

fn rebuild(directory: &std::path::Path, toc: &[u8], out: &mut Pieces) -> io::Result<()> {
    let failed = |source| io::Error::other(Error::Archive { source });
    let toc = Toc::decode(toc).map_err(failed)?;
    let root = layer::open_directory(directory).map_err(io::Error::other)?;
    toc.rebuild(root.as_fd(), out).map_err(failed)
}

impl Read for Tar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.current.read(buffer)?;
            if count > 0 || self.is_over || buffer.is_empty() {
                return Ok(count);
            }
            match self.pieces.recv() {
                Ok(Ok(piece)) => {
                    self.is_over = piece.is_empty();
                    self.current = Cursor::new(piece);
                }
                Ok(Err(error)) => {
                    self.is_over = true;
                    return Err(error);
                }
                Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}

struct Pieces {
    sender: SyncSender<io::Result<Vec<u8>>>,
    pending: Vec<u8>,
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.pending, Vec::with_capacity(PIECE));
        self.sender.send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.pending.len());
        self.pending.extend_from_slice(&bytes[..count]);
        if self.pending.len() == PIECE {
            self.send()?;
        }
        Ok(count)
    }

    /// Does nothing: a piece is sent when it is full, the last one at the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
