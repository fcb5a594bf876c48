//! Contents of files on their way to the store, and the first bytes of one from it.

use bytes::Bytes;
use strata_proto::store::v1 as pb;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Store;
use crate::context::Blake3;
use crate::error::Error;
use crate::session::Content;

/// Largest message of small contents, in bytes.
const SMALL_BATCH: usize = 1 << 20;
/// Bytes of a file in one message.
const CHUNK: usize = 256 << 10;
/// Largest content that travels in a batch, in bytes.
const SMALL: usize = 64 << 10;

impl Store {
    /// Which of these contents the store lacks; the others are held by the lease.
    pub async fn missing(&self, contents: &[Blake3], lease: &str) -> Result<Vec<Blake3>, Error> {
        let mut missing = Vec::new();
        let mut client = pb::content_service_client::ContentServiceClient::new(self.channel.clone());
        for part in contents.chunks(65_536) {
            let blake3 = part.iter().map(|digest| Bytes::copy_from_slice(digest)).collect();
            let request = pb::MissingContentsRequest { lease_id: lease.to_owned(), blake3 };
            let response = client.missing_contents(request).await;
            let response = response.map_err(|status| Error::peer("store", "look for contents", status))?.into_inner();
            missing.extend(response.missing.iter().filter_map(|&index| part.get(index as usize)));
        }
        Ok(missing)
    }

    /// Stores contents as they come from the client. `sizes` says how large each is.
    pub async fn put_contents(
        &self,
        mut parts: mpsc::Receiver<Content>,
        sizes: std::collections::HashMap<Blake3, u64>,
        lease: &str,
    ) -> Result<(), Error> {
        let (sender, receiver) = mpsc::channel(16);
        let lease = lease.to_owned();
        // Set when the client sends what is not the content asked for; what the store says then is a consequence.
        let mut lie = None;
        let feed = async {
            let sender = sender;
            let mut batch = Batch { lease, contents: Vec::new(), bytes: 0 };
            let mut current: Option<(Blake3, Vec<u8>)> = None;
            while let Some(Content { blake3, chunk, is_last }) = parts.recv().await {
                if let Some(digest) = blake3 {
                    let size = sizes.get(&digest).copied().unwrap_or(0);
                    if size as usize > SMALL {
                        batch.flush(&sender).await?;
                        current = None;
                        send(&sender, batch.header(digest, size)).await?;
                    } else {
                        current = Some((digest, Vec::with_capacity(size as usize)));
                    }
                }
                match &mut current {
                    Some((digest, bytes)) if bytes.len() + chunk.len() > SMALL => {
                        lie = Some(*digest);
                        return Err(Closed);
                    }
                    Some((_, bytes)) => bytes.extend_from_slice(&chunk),
                    None if chunk.is_empty() => {}
                    None => send(&sender, pb::put_contents_request::Part::Chunk(chunk)).await?,
                }
                if is_last && let Some((digest, bytes)) = current.take() {
                    // The store hashes small contents on arrival, whatever they are.
                    if *blake3::hash(&bytes).as_bytes() != digest {
                        lie = Some(digest);
                        return Err(Closed);
                    }
                    batch.add(bytes, &sender).await?;
                }
            }
            batch.flush(&sender).await
        };
        let mut client = pb::content_service_client::ContentServiceClient::new(self.channel.clone());
        let put = client.put_contents(ReceiverStream::new(receiver));
        tokio::pin!(put);
        // An answer before the end is a refusal: nothing more is to be fed.
        let answer = tokio::select! {
            biased;
            answer = &mut put => answer,
            _ = feed => put.await,
        };
        if let Some(digest) = lie {
            let problem = format!("content {} is not what it should be", hex::encode(digest));
            return Err(Error::Context { problem });
        }
        answer.map_err(|status| match strata_rpc::reason_of(&status).as_deref() {
            Some("FAULT_DIGEST_MISMATCH" | "FAULT_INVALID_ARGUMENT") => {
                Error::Context { problem: format!("a content is not what it should be: {}", status.message()) }
            }
            _ => Error::peer("store", "take in the build context", status),
        })?;
        Ok(())
    }

    /// Stores one content that the builder holds itself.
    pub async fn put_content(&self, bytes: Vec<u8>, lease: &str) -> Result<(), Error> {
        let mut messages: Vec<pb::PutContentsRequest> = Vec::new();
        let mut push = |part| messages.push(pb::PutContentsRequest { part: Some(part) });
        push(pb::put_contents_request::Part::Header(pb::PutContentsHeader {
            lease_id: lease.to_owned(),
            blake3: Bytes::copy_from_slice(blake3::hash(&bytes).as_bytes()),
            size_bytes: bytes.len() as u64,
        }));
        for chunk in bytes.chunks(256 << 10) {
            push(pb::put_contents_request::Part::Chunk(Bytes::copy_from_slice(chunk)));
        }
        let mut client = pb::content_service_client::ContentServiceClient::new(self.channel.clone());
        let answer = client.put_contents(tokio_stream::iter(messages)).await;
        answer.map_err(|status| Error::peer("store", "take in a content", status))?;
        Ok(())
    }

    /// Stores one content that is in a file, from where that stands.
    pub async fn put_file(&self, file: std::fs::File, blake3: Blake3, size: u64, lease: &str) -> Result<(), Error> {
        let (sender, receiver) = mpsc::channel(16);
        let part = |part| pb::PutContentsRequest { part: Some(part) };
        let header = pb::PutContentsHeader {
            lease_id: lease.to_owned(),
            blake3: Bytes::copy_from_slice(&blake3),
            size_bytes: size,
        };
        let mut file = tokio::fs::File::from_std(file);
        let feed = async move {
            let mut next = part(pb::put_contents_request::Part::Header(header));
            loop {
                if sender.send(next).await.is_err() {
                    return Ok(());
                }
                let mut chunk = Vec::with_capacity(CHUNK);
                (&mut file).take(CHUNK as u64).read_to_end(&mut chunk).await?;
                if chunk.is_empty() {
                    return Ok(());
                }
                next = part(pb::put_contents_request::Part::Chunk(chunk.into()));
            }
        };
        let mut client = pb::content_service_client::ContentServiceClient::new(self.channel.clone());
        let (fed, answer) = tokio::join!(feed, client.put_contents(ReceiverStream::new(receiver)));
        // What could not be read is why the store got less than it was told.
        fed.map_err(|source: std::io::Error| Error::Context {
            problem: format!("a file cannot be read again: {source}"),
        })?;
        answer.map_err(|status| Error::peer("store", "take in a content", status))?;
        Ok(())
    }

    /// A whole content, which is small.
    pub async fn content(&self, blake3: &Blake3) -> Result<Vec<u8>, Error> {
        let refused = |status| Error::peer("store", "read a content", status);
        let request = pb::ReadContentRequest { blake3: Bytes::copy_from_slice(blake3), is_decompressed: false };
        let mut client = pb::content_service_client::ContentServiceClient::new(self.channel.clone());
        let mut stream = client.read_content(request).await.map_err(refused)?.into_inner();
        let mut bytes = Vec::new();
        while let Some(message) = stream.message().await.map_err(refused)? {
            bytes.extend_from_slice(&message.chunk);
        }
        Ok(bytes)
    }

    /// The first bytes of a content, decompressed where it is compressed; none where that fails.
    pub async fn content_head(&self, blake3: &Blake3, limit: usize) -> Result<Vec<u8>, Error> {
        let request = pb::ReadContentRequest { blake3: Bytes::copy_from_slice(blake3), is_decompressed: true };
        let mut client = pb::content_service_client::ContentServiceClient::new(self.channel.clone());
        let mut head = Vec::new();
        let read = async {
            let mut stream = client.read_content(request).await?.into_inner();
            while head.len() < limit {
                let Some(message) = stream.message().await? else { break };
                head.extend_from_slice(&message.chunk);
            }
            Ok(())
        };
        match read.await {
            Ok(()) => head.truncate(limit),
            Err(status) if strata_rpc::reason_of(&status).as_deref() == Some("FAULT_ARCHIVE_INVALID") => head.clear(),
            Err(status) => return Err(Error::peer("store", "read a content", status)),
        }
        Ok(head)
    }
}

/// Small contents on their way.
struct Batch {
    lease: String,
    contents: Vec<Bytes>,
    bytes: usize,
}

/// The store closed the stream; its answer says why.
struct Closed;

impl Batch {
    fn header(&self, blake3: Blake3, size_bytes: u64) -> pb::put_contents_request::Part {
        pb::put_contents_request::Part::Header(pb::PutContentsHeader {
            lease_id: self.lease.clone(),
            blake3: Bytes::copy_from_slice(&blake3),
            size_bytes,
        })
    }

    async fn add(&mut self, bytes: Vec<u8>, sender: &mpsc::Sender<pb::PutContentsRequest>) -> Result<(), Closed> {
        if self.bytes + bytes.len() > SMALL_BATCH {
            self.flush(sender).await?;
        }
        self.bytes += bytes.len();
        self.contents.push(bytes.into());
        Ok(())
    }

    async fn flush(&mut self, sender: &mpsc::Sender<pb::PutContentsRequest>) -> Result<(), Closed> {
        if self.contents.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        let contents = std::mem::take(&mut self.contents);
        let small = pb::SmallContents { lease_id: self.lease.clone(), contents };
        send(sender, pb::put_contents_request::Part::Small(small)).await
    }
}

async fn send(
    sender: &mpsc::Sender<pb::PutContentsRequest>,
    part: pb::put_contents_request::Part,
) -> Result<(), Closed> {
    sender.send(pb::PutContentsRequest { part: Some(part) }).await.map_err(|_| Closed)
}
