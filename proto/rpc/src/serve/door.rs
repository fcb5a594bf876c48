//! The front door: accepts connections, counts them, and closes so that no client is lost.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use rustix::net::SocketFlags;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, Router};
use tower::layer::util::Stack;

use super::{
    Error, Stopped,
    listen::{Bound, Keeper},
};
use crate::{
    access::AccessLayer,
    identity::ServerTls,
    idle::{Busy, Drain, Idle},
    socket::{self, Inode},
    trace::TraceLayer,
};

/// Layers of the server.
type Layers = Stack<AccessLayer, Stack<TraceLayer, tower::layer::util::Identity>>;

type Arrivals<IO> = ReceiverStream<io::Result<Held<IO>>>;

/// Between taking a socket's path away and looking whether somebody still came through it.
const LAST_CALL: Duration = Duration::from_millis(5);

/// How long a client may take to show its certificate.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How often a service looks whether clients still find it.
const LOOK: Duration = Duration::from_secs(2);

/// Serves until the door closes by itself, or until the drain has begun and the last connection has ended.
pub(super) async fn serve(
    bound: Bound,
    router: Router<Layers>,
    idle_timeout: Option<Duration>,
    idle: Idle,
    drain: Drain,
    bye: impl Future<Output = ()>,
) -> Result<Stopped, Error> {
    // Polled first, so that it is said before the last connection ends.
    let beside = async {
        bye.await;
        std::future::pending().await
    };
    tokio::select! {
        biased;
        never = beside => never,
        stopped = admit_all(bound, router, idle_timeout, idle, drain) => stopped,
    }
}

async fn admit_all(
    bound: Bound,
    router: Router<Layers>,
    idle_timeout: Option<Duration>,
    idle: Idle,
    drain: Drain,
) -> Result<Stopped, Error> {
    let failed = |source| Error::Serve { source };
    // Accepting ends when who keeps the door drops its sender, not before: until then it admits who waits.
    let never = std::future::pending();
    match bound {
        Bound::Unix { listener, path, inode, keeper } => {
            let (sender, receiver) = mpsc::channel(16);
            let door = Door { listener, path, inode, keeper, sender, idle, drain };
            let porter = tokio::spawn(door.keep(idle_timeout));
            router.serve_with_incoming_shutdown(Arrivals::new(receiver), never).await.map_err(failed)?;
            // The porter only ends by returning.
            Ok(porter.await.unwrap_or(Stopped::Drained))
        }
        Bound::Tcp { listener, tls, .. } => {
            let (sender, receiver) = mpsc::channel(16);
            let keeper = tokio::spawn(keep_port(listener, tls, sender, idle, drain));
            router.serve_with_incoming_shutdown(Arrivals::new(receiver), never).await.map_err(failed)?;
            let _ = keeper.await;
            Ok(Stopped::Drained)
        }
    }
}

async fn keep_port(
    listener: TcpListener,
    tls: ServerTls,
    sender: mpsc::Sender<io::Result<Held<TlsStream<TcpStream>>>>,
    idle: Idle,
    drain: Drain,
) {
    // Who has not shown a certificate when the stop begins is not waited for.
    let mut handshakes = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = handshakes.join_next() => continue,
            () = drain.cancelled() => return,
        };
        match stream {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                let (tls, sender, busy) = (tls.clone(), sender.clone(), idle.busy());
                handshakes.spawn(async move {
                    match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                        Ok(Ok(io)) => drop(sender.send(Ok(Held { io, _busy: busy })).await),
                        Ok(Err(error)) => tracing::debug!("{peer} is not let in: {error}"),
                        Err(_) => tracing::debug!("{peer} is not let in: it took too long to say who it is"),
                    }
                });
            }
            Err(err) => pause_after(&err).await,
        }
    }
}

/// Out of descriptors, for example: try again, not at once.
async fn pause_after(err: &io::Error) {
    tracing::warn!("cannot accept a connection: {err}");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

struct Door {
    listener: UnixListener,
    path: PathBuf,
    inode: Option<Inode>,
    keeper: Keeper,
    sender: mpsc::Sender<io::Result<Held<UnixStream>>>,
    idle: Idle,
    drain: Drain,
}

impl Door {
    /// Accepts until the drain begins, nothing was to do for the timeout, or nobody can come any more.
    async fn keep(self, idle_timeout: Option<Duration>) -> Stopped {
        loop {
            let quiet = async {
                match idle_timeout {
                    Some(time) => self.idle.quiet_for(time).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.accept() => {}
                () = quiet => {
                    if self.close_if_idle().await {
                        return Stopped::Idle;
                    }
                }
                () = self.drain.cancelled() => {
                    self.close().await;
                    return Stopped::Drained;
                }
                () = self.lost() => {
                    tracing::warn!("{} is another's now: making room", self.path.display());
                    self.drain.start();
                }
            }
        }
    }

    /// Returns when the path leads to another socket: systemd has put its own there, say, and starts a service for it
    /// that waits until this one has let go of the root.
    async fn lost(&self) {
        let Some(own) = self.inode else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK).await;
            if socket::inode(&self.path).is_some_and(|found| found != own) {
                return;
            }
        }
    }

    /// Accepts for ever. Cancelled between connections: a send waits only while the server takes none.
    async fn accept(&self) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => self.admit(stream).await,
                Err(err) => pause_after(&err).await,
            }
        }
    }

    async fn admit(&self, stream: UnixStream) {
        // The server is gone only when the process is about to be.
        let _ = self.sender.send(Ok(Held { io: stream, _busy: self.idle.busy() })).await;
    }

    /// Closes the door unless somebody is at it. Under the lock that starting takes: whoever finds no socket waits,
    /// and then starts a new service; whoever came before is served by this one.
    async fn close_if_idle(&self) -> bool {
        if self.keeper == Keeper::Systemd {
            return self.idle.count() == 0;
        }
        let Some(_lock) = self.lock().await else { return false };
        let Some(aside) = self.take_path() else { return self.idle.count() == 0 };
        tokio::time::sleep(LAST_CALL).await;
        let mut came = self.idle.count() > 0;
        while let Some(stream) = self.accept_waiting() {
            came = true;
            self.admit(stream).await;
        }
        if !came {
            let _ = fs::remove_file(&aside);
            return true;
        }
        if let Err(err) = fs::rename(&aside, &self.path) {
            tracing::error!("cannot put {} back: {err}", self.path.display());
        }
        false
    }

    /// Closes the door of a service that was told to stop; who waits at it is still let in, to be told so. At a door of
    /// systemd's they wait for the next service.
    async fn close(&self) {
        if self.keeper == Keeper::Systemd {
            return;
        }
        let _lock = self.lock().await;
        if let Some(aside) = self.take_path() {
            let _ = fs::remove_file(&aside);
        }
        while let Some(stream) = self.accept_waiting() {
            self.admit(stream).await;
        }
    }

    async fn lock(&self) -> Option<socket::Lock> {
        let path = self.path.clone();
        match tokio::task::spawn_blocking(move || socket::lock(&path)).await {
            Ok(Ok(lock)) => Some(lock),
            Ok(Err(err)) => {
                tracing::warn!("{}", crate::fault::chain(&err));
                None
            }
            Err(_) => None,
        }
    }

    /// Renames the socket, if the path is still ours, so that nobody new finds it.
    fn take_path(&self) -> Option<PathBuf> {
        if self.inode.is_none() || socket::inode(&self.path) != self.inode {
            return None;
        }
        let aside = aside(&self.path);
        fs::rename(&self.path, &aside).ok().map(|()| aside)
    }

    /// A connection that waits in the kernel's queue.
    fn accept_waiting(&self) -> Option<UnixStream> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd: OwnedFd = rustix::net::accept_with(self.listener.as_fd(), flags).ok()?;
        UnixStream::from_std(fd.into()).ok()
    }
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".closing");
    name.into()
}

/// A connection that keeps its service from stopping when idle.
pub(super) struct Held<IO> {
    io: IO,
    _busy: Busy,
}

impl<IO: Connected> Connected for Held<IO> {
    type ConnectInfo = IO::ConnectInfo;
    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.connect_info()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Held<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Held<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
