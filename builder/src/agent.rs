//! An agent of ssh for one step, or for fetching a repository: a socket whose questions the client's agent answers. Each
//! question and each answer is one message of the protocol (draft-miller-ssh-agent); which of them are allowed is the
//! client's business.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::error::Error;
use crate::session::Session;

/// The longest message, as of OpenSSH.
const LONGEST: u32 = 256 << 10;
/// Clients of one agent at a time.
const MOST: usize = 64;

/// The socket; it is gone when this is dropped.
#[derive(Debug)]
pub struct Agent {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Agent {
    /// Listens where nobody else looks, with these permission bits and this owner; `name` makes the place its own.
    pub fn named(session: Arc<Session>, id: &str, name: &str, mode: u32, owner: (u32, u32)) -> Result<Self, Error> {
        let path = strata_rpc::paths::run_dir().join("agents").join(name);
        let failed = |source: io::Error| Error::Socket { path: path.clone(), source };
        if let Some(directory) = path.parent() {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(failed)?;
        }
        let listener = UnixListener::bind(&path).map_err(failed)?;
        let (id, kept) = (id.to_owned(), path.clone());
        let agent = Self { path: kept, task: tokio::spawn(serve(session, id, listener)) };
        if owner != (0, 0) {
            std::os::unix::fs::chown(&path, Some(owner.0), Some(owner.1)).map_err(failed)?;
        }
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(failed)?;
        Ok(agent)
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
        // The end of the build would otherwise leave it; nobody answers there.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn serve(session: Arc<Session>, id: String, listener: UnixListener) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if clients.len() < MOST => {
                let Ok((stream, _)) = accepted else { return };
                let (session, id) = (session.clone(), id.clone());
                clients.spawn(async move {
                    if let Err(error) = converse(&session, &id, stream).await {
                        tracing::debug!(%error, "a client of an agent is gone");
                    }
                });
            }
            Some(_) = clients.join_next() => {}
        }
    }
}

async fn converse(session: &Session, id: &str, mut stream: UnixStream) -> io::Result<()> {
    loop {
        let length = match stream.read_u32().await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            length => length?,
        };
        if !(1..=LONGEST).contains(&length) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is empty or too long"));
        }
        let mut message = vec![0; length as usize];
        stream.read_exact(&mut message).await?;
        let answer = session.agent(id, message).await.map_err(io::Error::other)?.unwrap_or_default();
        stream.write_u32(answer.bytes().len() as u32).await?;
        stream.write_all(answer.bytes()).await?;
    }
}
