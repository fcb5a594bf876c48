//! Sends directories and contents of the context, in the order in which the builder asks for them; the credentials for
//! registries, secrets, and what agents of ssh say.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use strata_proto::builder::v1 as pb;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use super::agents::Agents;
use super::contexts::Contexts;
use super::secrets::Secrets;
use super::{Given, Scan, unreadable};
use crate::error::Error;
use crate::registries::{self, Registries};

/// Bytes per chunk, the most that the protocol takes.
const CHUNK: usize = 256 << 10;

/// Bytes of directories per message.
const BATCH: usize = 1 << 20;

enum Asked {
    Directories(Vec<Bytes>),
    Contents(Vec<Bytes>),
    Details(pb::NeedDetails),
}

/// The sending side of a build.
pub struct Upload {
    asks: mpsc::UnboundedSender<Asked>,
    sender: Sender,
    said: mpsc::Receiver<Result<(), Error>>,
    secrets: Arc<Secrets>,
    agents: Arc<Agents>,
}

type Sender = mpsc::Sender<pb::BuildRequest>;

impl Upload {
    /// Serves asks until this is dropped, or the call is over.
    pub fn start(Given { mut contexts, scan, secrets, agents }: Given, sender: Sender) -> Self {
        let (asks, mut asked) = mpsc::unbounded_channel();
        let (say, said) = mpsc::channel(2);
        let own = sender.clone();
        tokio::spawn(async move {
            if let Some(scan) = scan {
                let looked = look(scan, &mut contexts, &sender).await;
                let is_over = looked.is_err();
                let _ = say.send(looked).await;
                if is_over {
                    return sender.closed().await;
                }
            }
            while let Some(ask) = asked.recv().await {
                let result = match ask {
                    Asked::Directories(digests) => send_directories(&contexts, &digests, &sender).await,
                    Asked::Contents(digests) => send_contents(&contexts, &digests, &sender).await,
                    Asked::Details(need) => send_details(&contexts, &need, &sender).await,
                };
                if let Err(error) = result {
                    let _ = say.send(Err(error)).await;
                    // The request stream stays open: its end would be another error.
                    return sender.closed().await;
                }
            }
        });
        Self { asks, sender: own, said, secrets: Arc::new(secrets), agents: Arc::new(agents) }
    }

    /// The builder asks for directories.
    pub fn directories(&self, digests: Vec<Bytes>) {
        // Without a receiver there has been a failure, which is told already.
        let _ = self.asks.send(Asked::Directories(digests));
    }

    /// The builder asks for contents.
    pub fn contents(&self, digests: Vec<Bytes>) {
        let _ = self.asks.send(Asked::Contents(digests));
    }

    /// The builder asks about entries of directories.
    pub fn details(&self, need: pb::NeedDetails) {
        let _ = self.asks.send(Asked::Details(need));
    }

    /// The builder asks for the credentials for a registry. They do not wait for contents.
    pub fn credentials(&self, registry: String) {
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let (credentials, problem) = match find(&registry).await {
                Ok(credentials) => (credentials, String::new()),
                Err(error) => (Vec::new(), error.message),
            };
            let event = pb::BuildCredentials { registry, credentials, problem };
            send(&sender, pb::build_request::Event::Credentials(event)).await;
        });
    }

    /// The builder asks for a secret.
    pub fn secret(&self, need: pb::NeedSecret) {
        let (sender, secrets) = (self.sender.clone(), self.secrets.clone());
        tokio::spawn(async move {
            let answer = secrets.answer(need).await;
            send(&sender, pb::build_request::Event::Secret(answer)).await;
        });
    }

    /// The builder asks an agent.
    pub fn agent(&self, need: pb::NeedAgent) {
        let (sender, agents) = (self.sender.clone(), self.agents.clone());
        tokio::spawn(async move {
            let answer = agents.answer(need).await;
            send(&sender, pb::build_request::Event::Agent(answer)).await;
        });
    }

    /// Waits until the context has been looked at, or until something fails on this side; then for ever.
    pub async fn said(&mut self) -> Result<(), Error> {
        match self.said.recv().await {
            Some(said) => said,
            None => std::future::pending().await,
        }
    }
}

/// Waits until the build context has been looked at, and tells the builder its root.
async fn look(scan: Scan, contexts: &mut Contexts, sender: &Sender) -> Result<(), Error> {
    contexts.main = scan.await.map_err(|error| Error::of(&error))?.map_err(unreadable)?;
    let digest = Bytes::copy_from_slice(&contexts.main.root);
    send(sender, pb::build_request::Event::Root(pb::ContextRoot { digest })).await;
    Ok(())
}

/// The credentials for a registry and its mirrors.
async fn find(registry: &str) -> Result<Vec<strata_proto::types::v1::RegistryCredentials>, Error> {
    Registries::load()?.credentials_for(&registries::registry(Some(registry))?).await
}

/// Sends an event; a builder that is gone says why on the other stream.
async fn send(sender: &Sender, event: pb::build_request::Event) {
    let _ = sender.send(pb::BuildRequest { event: Some(event) }).await;
}

async fn send_details(contexts: &Contexts, need: &pb::NeedDetails, sender: &Sender) -> Result<(), Error> {
    let context = contexts.find(&need.context).ok_or_else(|| unknown("context"))?;
    let (mut batch, mut size) = (Vec::new(), 0);
    for path in &need.paths {
        let details = context.details(path).ok_or_else(|| unknown("directory"))?.clone();
        let length = details.encoded_len();
        if size > 0 && size + length > BATCH {
            let directories = std::mem::take(&mut batch);
            send(sender, pb::build_request::Event::Details(pb::ContextDetails { directories })).await;
            size = 0;
        }
        size += length;
        batch.push(details);
    }
    send(sender, pb::build_request::Event::Details(pb::ContextDetails { directories: batch })).await;
    Ok(())
}

async fn send_directories(contexts: &Contexts, digests: &[Bytes], sender: &Sender) -> Result<(), Error> {
    let (mut batch, mut size) = (Vec::new(), 0);
    for digest in digests {
        let directory = contexts.directory(digest).ok_or_else(|| unknown("directory"))?;
        let length = directory.encoded_len();
        if size > 0 && size + length > BATCH {
            send_some(std::mem::take(&mut batch), false, sender).await;
            size = 0;
        }
        if length > BATCH {
            let mut parts = parts(&directory.entries).peekable();
            while let Some(entries) = parts.next() {
                let part = pb::ContextDirectory { entries: entries.to_vec() };
                send_some(vec![part], parts.peek().is_some(), sender).await;
            }
            continue;
        }
        size += length;
        batch.push(directory.clone());
    }
    send_some(batch, false, sender).await;
    Ok(())
}

async fn send_some(directories: Vec<pb::ContextDirectory>, continues: bool, sender: &Sender) {
    send(sender, pb::build_request::Event::Directories(pb::ContextDirectories { directories, continues })).await;
}

/// The entries of a directory in parts that fit a message. An entry is small: two names and a digest at most.
fn parts(entries: &[pb::ContextEntry]) -> impl Iterator<Item = &[pb::ContextEntry]> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        let mut size = 0;
        let count = rest.iter().take_while(|entry| {
            size += entry.encoded_len() + 8;
            size <= BATCH
        });
        let (part, after) = rest.split_at(count.count().max(1).min(rest.len()));
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

async fn send_contents(contexts: &Contexts, digests: &[Bytes], sender: &Sender) -> Result<(), Error> {
    for digest in digests {
        let Some(path) = contexts.file(digest) else {
            if **digest == *blake3::hash(b"").as_bytes() {
                // A socket has no bytes.
                let content = pb::ContextContent { blake3: digest.clone(), chunk: Bytes::new(), last: true };
                send(sender, pb::build_request::Event::Content(content)).await;
                continue;
            }
            return Err(unknown("file"));
        };
        let sent = send_file(&path, digest, sender).await;
        sent.map_err(|error| Error::new(format!("cannot read {} of the build context: {error}", path.display())))?;
    }
    Ok(())
}

async fn send_file(path: &Path, digest: &Bytes, sender: &Sender) -> io::Result<()> {
    let mut file = tokio::fs::File::open(path).await?;
    file.set_max_buf_size(CHUNK);
    let mut blake3 = digest.clone();
    // One chunk ahead, so that the last is known to be the last.
    let mut chunk = read(&mut file).await?;
    loop {
        let next = if chunk.is_empty() { Bytes::new() } else { read(&mut file).await? };
        let last = next.is_empty();
        let content = pb::ContextContent { blake3: std::mem::take(&mut blake3), chunk, last };
        send(sender, pb::build_request::Event::Content(content)).await;
        if last {
            return Ok(());
        }
        chunk = next;
    }
}

/// The next chunk, whole unless the file ends.
async fn read(file: &mut tokio::fs::File) -> io::Result<Bytes> {
    let mut chunk = Vec::with_capacity(CHUNK);
    file.take(CHUNK as u64).read_to_end(&mut chunk).await?;
    Ok(chunk.into())
}

fn unknown(what: &str) -> Error {
    Error::new(format!("the builder asked for a {what} that is not in the build context"))
}
