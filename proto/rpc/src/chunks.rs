//! Bytes as bounded streams of chunks, and back. A chunk is at most 256 KiB and never empty.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::{io::AsyncRead, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{ReaderStream, StreamReader};

/// Most bytes in one chunk.
pub const MAX_CHUNK: usize = 256 * 1024;

/// Chunks that may wait between a producer and its consumer.
const DEPTH: usize = 8;

/// Chunks of an asynchronous reader.
pub fn from_async<R: AsyncRead + Send + 'static>(reader: R) -> impl Stream<Item = io::Result<Bytes>> + Send {
    ReaderStream::with_capacity(reader, MAX_CHUNK)
}

/// Chunks of a blocking reader, which is read on a thread of its own.
pub fn from_read<R: Read + Send + 'static>(mut reader: R) -> ReceiverStream<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(DEPTH);
    tokio::task::spawn_blocking(move || {
        loop {
            let chunk = fill(&mut reader);
            let last = !matches!(&chunk, Ok(bytes) if !bytes.is_empty());
            if matches!(&chunk, Ok(bytes) if bytes.is_empty()) || sender.blocking_send(chunk).is_err() || last {
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}

/// Chunks of what `produce` writes on a thread of its own. Its error ends the stream.
pub fn from_write<F>(produce: F) -> ReceiverStream<io::Result<Bytes>>
where
    F: FnOnce(&mut ChunkWriter) -> io::Result<()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(DEPTH);
    tokio::task::spawn_blocking(move || {
        let mut writer = ChunkWriter { sender, pending: BytesMut::new() };
        if let Err(err) = produce(&mut writer).and_then(|()| writer.flush()) {
            // A receiver that is gone needs no error.
            let _ = writer.sender.blocking_send(Err(err));
        }
    });
    ReceiverStream::new(receiver)
}

/// A blocking reader of what `produce` writes on a thread of its own. Its error ends the reader; dropped, the reader ends
/// the thread at its next chunk. Called inside the runtime, read outside of its own threads.
pub fn pipe<F>(produce: F) -> ChunkReader
where
    F: FnOnce(&mut ChunkWriter) -> io::Result<()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(DEPTH);
    tokio::task::spawn_blocking(move || {
        let mut writer = ChunkWriter { sender, pending: BytesMut::new() };
        let result = produce(&mut writer).and_then(|()| writer.flush());
        // The end must be told: a thread that died must not look like one. Nobody may listen any more.
        let _ = writer.sender.blocking_send(result.map(|()| Bytes::new()));
    });
    receiver.into()
}

/// An asynchronous reader of chunks.
pub fn to_async<S, E>(chunks: S) -> impl AsyncRead + Send
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    StreamReader::new(Box::pin(chunks.map(|chunk| chunk.map_err(io::Error::other))))
}

/// A blocking reader of chunks, for a thread that may block. An error of the stream is an error of the reader.
pub fn to_read<S, E>(chunks: S) -> ChunkReader
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    let (sender, receiver) = mpsc::channel(DEPTH);
    tokio::spawn(async move {
        let mut chunks = std::pin::pin!(chunks);
        loop {
            let chunk = tokio::select! {
                chunk = chunks.next() => chunk,
                () = sender.closed() => return,
            };
            match chunk {
                // The end must be told: a task that is gone looks the same as one that was killed.
                None => return drop(sender.send(Ok(Bytes::new())).await),
                Some(Ok(bytes)) if bytes.is_empty() => continue,
                Some(chunk) => {
                    let failed = chunk.is_err();
                    if sender.send(chunk.map_err(io::Error::other)).await.is_err() || failed {
                        return;
                    }
                }
            }
        }
    });
    receiver.into()
}

/// A blocking reader of a channel, [`to_read`]'s or another's. An empty chunk is the end; a channel that is cut off before
/// is an error.
pub struct ChunkReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
    ended: bool,
}

impl From<mpsc::Receiver<io::Result<Bytes>>> for ChunkReader {
    fn from(receiver: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self { receiver, current: Bytes::new(), ended: false }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() && !self.ended && !buffer.is_empty() {
            match self.receiver.blocking_recv() {
                Some(Ok(bytes)) => {
                    self.ended = bytes.is_empty();
                    self.current = bytes;
                }
                Some(Err(err)) => return Err(err),
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream was cut off")),
            }
        }
        let n = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..n]);
        Ok(n)
    }
}

/// The blocking end of [`from_write`] and [`pipe`].
pub struct ChunkWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    pending: BytesMut,
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(MAX_CHUNK - self.pending.len());
        if self.pending.capacity() == 0 {
            self.pending.reserve(MAX_CHUNK);
        }
        self.pending.extend_from_slice(&bytes[..n]);
        if self.pending.len() == MAX_CHUNK {
            self.flush()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let chunk = self.pending.split().freeze();
        self.sender.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// One full chunk, or what is left; empty at the end.
fn fill(reader: &mut impl Read) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(MAX_CHUNK);
    reader.take(MAX_CHUNK as u64).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        (0..(MAX_CHUNK * 3 + 17)).map(|n| (n % 251) as u8).collect()
    }

    #[tokio::test]
    async fn bytes_survive_chunking_both_ways() {
        for chunks in [
            from_read(io::Cursor::new(sample())).boxed(),
            from_async(io::Cursor::new(sample())).boxed(),
            from_write(|w| w.write_all(&sample())).boxed(),
        ] {
            let chunks = chunks.inspect(|c| assert!((1..=MAX_CHUNK).contains(&c.as_ref().unwrap().len())));
            let mut reader = to_read(chunks);
            let read = tokio::task::spawn_blocking(move || {
                let mut all = vec![];
                reader.read_to_end(&mut all).map(|_| all)
            });
            assert_eq!(read.await.unwrap().unwrap(), sample());
        }
    }

    #[tokio::test]
    async fn a_broken_stream_is_an_error_and_not_an_end() {
        let broken = futures_util::stream::iter([Ok(Bytes::from_static(b"ab")), Err(io::Error::other("cut"))]);
        let mut reader = to_read(broken);
        let read = tokio::task::spawn_blocking(move || reader.read_to_end(&mut vec![])).await.unwrap();
        assert!(read.unwrap_err().to_string().contains("cut"));
    }

    #[tokio::test]
    async fn what_is_written_is_read_and_ends_as_the_writer_ended() {
        for failure in [None, Some("no more")] {
            let mut reader = pipe(move |writer| {
                writer.write_all(&sample())?;
                failure.map_or(Ok(()), |text| Err(io::Error::other(text)))
            });
            let read = tokio::task::spawn_blocking(move || {
                let mut all = vec![];
                let result = reader.read_to_end(&mut all);
                (all, result.map(drop).map_err(|error| error.to_string()))
            });
            let (all, result) = read.await.unwrap();
            assert_eq!(result.err().as_deref(), failure);
            assert!(sample().starts_with(&all) && (failure.is_some() || all.len() == sample().len()));
        }
    }

    #[tokio::test]
    async fn an_error_of_the_producer_ends_the_chunks() {
        let chunks: Vec<_> = from_write(|w| {
            w.write_all(b"x")?;
            Err(io::Error::other("no more"))
        })
        .collect()
        .await;
        assert!(chunks.last().unwrap().is_err());
    }
}
