//! The runtime's side. The records say what each container has; what is in memory here is made from them, and the process is
//! told all of a container whenever something of it changes, or another process is there. So it does not matter who of the
//! two was started again, nor when.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use strata_dns::Sockets;
use strata_net::{Carrier, Door, Namespace, Networks, Published};
use strata_types::ContainerId;
use tokio::{net::UnixStream, sync::Mutex as AsyncMutex, time::timeout};

use super::message::{Channel, Hello, Names, Reply, Request, VERSION, Welcome};
use crate::{
    config::Config,
    engine::blocking,
    error::Error,
    identity::Process,
    record::{Identity, Record},
    signal,
};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a process may take to end that was told to.
const END: Duration = Duration::from_secs(5);
/// Until one is started again that did not live for long; then twice as long.
const AGAIN: Duration = Duration::from_secs(1);
/// At most.
const LONGEST: Duration = Duration::from_secs(300);
/// Who lived so long may be started again at once.
const LONG: Duration = Duration::from_secs(60);

/// Names and ports of all containers, kept by another process while there are some.
#[derive(Clone)]
pub struct Proxy(Arc<Inner>);

struct Inner {
    program: PathBuf,
    socket: PathBuf,
    carrier: Option<Carrier>,
    log: String,
    ports: Arc<Mutex<Networks>>,
    containers: Mutex<HashMap<ContainerId, Known>>,
    connection: AsyncMutex<Connection>,
}

/// What is known of a container that is about to run, or runs.
#[derive(Default)]
struct Known {
    /// Once it is there.
    process: Option<Identity>,
    names: Names,
    /// Sockets of ports that were not handed over yet.
    doors: Vec<Door>,
    /// It was, and connections may pass through ports that it has no more.
    is_told: bool,
}

#[derive(Default)]
struct Connection {
    link: Option<Link>,
    /// So many did not live for long.
    failures: u32,
}

/// The process.
struct Link {
    channel: Channel,
    process: Arc<Process>,
    since: Instant,
}

/// Why a container was not told of.
enum Failure {
    /// The process does not answer.
    Link(io::Error),
    /// Something of the container.
    Container(io::Error),
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Link(error) | Failure::Container(error) => error,
        }
    }
}

impl Proxy {
    /// Nothing is started yet. Where ports lead is known by the networks.
    pub fn new(config: &Config, carrier: Option<Carrier>, ports: Arc<Mutex<Networks>>) -> Self {
        Self(Arc::new(Inner {
            program: config.program.clone(),
            socket: config.run.join("proxy.sock"),
            carrier,
            log: config.log.clone(),
            ports,
            containers: Mutex::default(),
            connection: AsyncMutex::default(),
        }))
    }

    /// Looks for a process that is there already, and tells it what containers have. What it has beside that is closed.
    pub async fn resume(&self) {
        let mut connection = self.0.connection.lock().await;
        if let Err(error) = self.link(&mut connection).await {
            tracing::error!(%error, "names of containers are not answered, and ports of theirs lead nowhere");
            drop(connection);
            self.start_again(AGAIN);
        }
    }

    /// Makes names and ports of a running container known, and serves it those of others if it asks its own server.
    pub async fn serve(&self, record: &Record, process: &Identity, is_served: bool) -> Result<(), Error> {
        self.note(record, process, is_served);
        let failed = |source| Error::Resolver { container: record.name.to_string(), source };
        self.tell(&record.id).await.map_err(failed)
    }

    /// Takes note of a running container, which is told at the next occasion: one that ran before this service was started.
    pub fn note(&self, record: &Record, process: &Identity, is_served: bool) {
        let mut containers = self.containers();
        let known = containers.entry(record.id.clone()).or_default();
        known.process = Some(process.clone());
        known.names = super::names::of(record, is_served);
    }

    /// Hands over sockets of ports: as soon as the container runs.
    pub async fn open(&self, id: &ContainerId, doors: Vec<Door>) {
        self.containers().entry(id.clone()).or_default().doors.extend(doors);
        self.refresh(id).await;
    }

    /// Makes known what has become of the ports of a container. Those that it has no more are free then.
    pub async fn refresh(&self, id: &ContainerId) {
        if let Err(error) = self.tell(id).await {
            tracing::error!(container = %id, %error, "ports of a container are not as they should be");
        }
    }

    /// Closes all that a container has.
    pub async fn forget(&self, id: &ContainerId) {
        let mut connection = self.0.connection.lock().await;
        let known = self.containers().remove(id);
        if !known.is_some_and(|known| known.is_told) {
            return;
        }
        if let Some(link) = &connection.link {
            let forgotten = link.ask(&Request::Forget { id: id.clone() }, &[]).await;
            if let Err(error) = forgotten {
                // What is started in its place does not have it.
                self.give_up(&mut connection, &error.into()).await;
            }
        }
        if !self.containers().values().any(|known| known.is_told) {
            // Then it ends by itself.
            connection.link = None;
        }
    }

    /// Tells all of a container, where there is something to tell.
    async fn tell(&self, id: &ContainerId) -> io::Result<()> {
        let doors = self.doors_of(id);
        let is_due = {
            let mut containers = self.containers();
            let Some(known) = containers.get_mut(id) else { return Ok(()) };
            known.doors.retain(|door| doors.iter().any(|(published, _)| *published == door.published));
            known.process.is_some() && known.is_due(&doors)
        };
        if !is_due {
            return Ok(());
        }
        let mut connection = self.0.connection.lock().await;
        // One that has just ended, and another.
        for attempt in [1, 2] {
            self.link(&mut connection).await?;
            let Some(link) = &connection.link else { break };
            match self.tell_one(link, id).await {
                Err(Failure::Link(error)) => {
                    self.give_up(&mut connection, &error).await;
                    if attempt == 2 {
                        return Err(error);
                    }
                }
                told => return Ok(told?),
            }
        }
        Ok(())
    }

    /// Ends a process that does not answer; another is started.
    async fn give_up(&self, connection: &mut Connection, error: &io::Error) {
        tracing::warn!(%error, "the proxy of names and ports does not answer, and is started again");
        if let Some(link) = connection.link.take() {
            end(&link.process).await;
        }
        self.start_again(AGAIN);
    }

    /// Has a process that knows of all containers, if one of them has something.
    async fn link(&self, connection: &mut Connection) -> io::Result<()> {
        if connection.link.is_some() {
            return Ok(());
        }
        let (found, ids) = (self.find().await, self.due());
        let (link, has) = match found {
            Some(found) => found,
            None if ids.is_empty() => return Ok(()),
            None => self.start().await?,
        };
        if let Err(error) = self.tell_all(&link, has, &ids).await {
            end(&link.process).await;
            return Err(error);
        }
        if !ids.is_empty() {
            self.watch(link.process.clone());
            connection.link = Some(link);
        }
        Ok(())
    }

    /// Tells of some containers, and that these are all.
    async fn tell_all(&self, link: &Link, has: Vec<ContainerId>, ids: &[ContainerId]) -> io::Result<()> {
        for id in has.into_iter().filter(|id| !ids.contains(id)) {
            link.ask(&Request::Forget { id }, &[]).await?;
        }
        for id in ids {
            match self.tell_one(link, id).await {
                Err(Failure::Link(error)) => return Err(error),
                Err(Failure::Container(error)) => {
                    tracing::error!(container = %id, %error, "a container has not all of its names and ports");
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Containers that have something.
    fn due(&self) -> Vec<ContainerId> {
        let ids: Vec<ContainerId> = self.containers().keys().cloned().collect();
        let is_due = |id: &ContainerId| {
            let doors = self.doors_of(id);
            self.containers().get(id).is_some_and(|known| known.process.is_some() && known.is_due(&doors))
        };
        ids.into_iter().filter(is_due).collect()
    }

    /// Tells all of a container, and hands over the sockets that are missing.
    async fn tell_one(&self, link: &Link, id: &ContainerId) -> Result<(), Failure> {
        let doors = self.doors_of(id);
        let (process, names) = match self.containers().get_mut(id) {
            Some(Known { process: Some(process), names, is_told, .. }) => {
                *is_told = true;
                (process.clone(), names.clone())
            }
            _ => return Ok(()),
        };
        // Its end is about to be told.
        let Some(process) = Process::find(&process) else { return Ok(()) };
        let tell = Request::Tell { id: id.clone(), names, doors };
        let reply = link.ask(&tell, &[process.as_fd()]).await?;
        let Reply::Lacks { names, doors } = reply else { return Ok(()) };
        for published in doors {
            let Some(door) = self.door(id, published).await.map_err(Failure::Container)? else { continue };
            let Door { published, socket, within, target } = door;
            let open = Request::Open { id: id.clone(), published, target, is_held: socket.is_some() };
            let sockets: Vec<BorrowedFd<'_>> = socket.iter().chain(&within).map(AsFd::as_fd).collect();
            link.ask(&open, &sockets).await?;
        }
        if names {
            let pid = process.identity.pid;
            let open = move || Namespace::of(pid).and_then(Sockets::open).and_then(Sockets::into_descriptors);
            let opened = blocking("opening the resolver", move || Ok(open())).await.map_err(io::Error::other);
            let sockets: [OwnedFd; 3] = opened.flatten().map_err(Failure::Container)?;
            let sockets = sockets.each_ref().map(AsFd::as_fd);
            link.ask(&Request::Serve { id: id.clone() }, &sockets).await?;
        }
        Ok(())
    }

    /// The sockets of a port: those that wait, or new ones.
    async fn door(&self, id: &ContainerId, published: Published) -> io::Result<Option<Door>> {
        if let Some(known) = self.containers().get_mut(id)
            && let Some(index) = known.doors.iter().position(|door| door.published == published)
        {
            return Ok(Some(known.doors.swap_remove(index)));
        }
        let (ports, id) = (self.0.ports.clone(), id.clone());
        let again = move || Ok(lock(&ports).hold_again(&id, &published));
        let held = blocking("holding a port", again).await.map_err(io::Error::other)?;
        Ok(held.unwrap_or_else(|error| {
            tracing::error!(error = strata_rpc::fault::chain(&error), "a published port is not held");
            None
        }))
    }

    fn doors_of(&self, id: &ContainerId) -> Vec<(Published, SocketAddr)> {
        lock(&self.0.ports).doors_of(id)
    }

    fn containers(&self) -> MutexGuard<'_, HashMap<ContainerId, Known>> {
        lock(&self.0.containers)
    }

    /// The process of an earlier runtime, if it is there and speaks as this one; another is ended.
    async fn find(&self) -> Option<(Link, Vec<ContainerId>)> {
        let channel = Channel::new(UnixStream::connect(&self.0.socket).await.ok()?).ok()?;
        let process = Process::of(channel.peer().ok()?).ok().filter(is_proxy)?;
        match Link::begin(channel, process).await {
            Ok(found) => Some(found),
            Err((error, process)) => {
                // One that had nothing has ended just now.
                let is_gone = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
                if !is_gone.contains(&error.kind()) {
                    tracing::warn!(%error, "the proxy of names and ports is replaced, and connections through it end");
                }
                end(&process).await;
                None
            }
        }
    }

    async fn start(&self) -> io::Result<(Link, Vec<ContainerId>)> {
        let path = &self.0.socket;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        let mut command = tokio::process::Command::new(&self.0.program);
        command.arg0(super::NAME).arg(super::ROLE).arg("--socket").arg(path).arg("--log").arg(&self.0.log);
        if let Some(carrier) = &self.0.carrier {
            command.arg("--carrier").arg(carrier.path());
        }
        command.env_clear().current_dir("/").stdin(OwnedFd::from(listener)).stdout(Stdio::null());
        // Who ends without being waited for is waited for by tokio.
        let child = command.spawn()?;
        let pid = child.id().ok_or_else(|| io::Error::other("it ended at once"))?;
        let process = Process::of(pid).map_err(io::Error::other)?;
        let channel = Channel::new(UnixStream::connect(path).await?)?;
        match Link::begin(channel, process).await {
            Ok(begun) => Ok(begun),
            Err((error, process)) => {
                end(&process).await;
                Err(error)
            }
        }
    }

    /// Starts another one when a process ends that was not told to.
    fn watch(&self, process: Arc<Process>) {
        let this = self.clone();
        tokio::spawn(async move {
            process.ended().await;
            let wait = {
                let mut connection = this.0.connection.lock().await;
                let Some(link) = connection.link.take_if(|link| Arc::ptr_eq(&link.process, &process)) else { return };
                tracing::warn!("the proxy of names and ports has ended, and is started again");
                connection.failures = if link.since.elapsed() < LONG { connection.failures + 1 } else { 0 };
                match connection.failures {
                    0 | 1 => Duration::ZERO,
                    failures => AGAIN.saturating_mul(1 << (failures - 2).min(16)).min(LONGEST),
                }
            };
            this.start_again(wait);
        });
    }

    /// Starts a process after a while, and tries until there is one, or nothing for it to do.
    fn start_again(&self, mut wait: Duration) {
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(wait).await;
                let mut connection = this.0.connection.lock().await;
                match this.link(&mut connection).await {
                    Ok(()) => return,
                    Err(error) => tracing::error!(%error, "cannot start the proxy of names and ports"),
                }
                wait = wait.max(AGAIN / 2).saturating_mul(2).min(LONGEST);
            }
        });
    }
}

impl Known {
    /// Whether there is something to tell of it.
    fn is_due(&self, doors: &[(Published, SocketAddr)]) -> bool {
        self.is_told || self.names.is_served || !self.names.zones.is_empty() || !doors.is_empty()
    }
}

impl Link {
    /// Greets a process. Returns what it has.
    async fn begin(channel: Channel, process: Process) -> Result<(Self, Vec<ContainerId>), (io::Error, Process)> {
        let greeted = async {
            channel.send(&Hello { version: VERSION }, &[]).await?;
            channel.receive::<Welcome>().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        };
        let welcome = match patiently(greeted).await {
            Ok((welcome, _)) => welcome,
            Err(error) => return Err((error, process)),
        };
        if welcome.version != VERSION {
            let error = format!("it speaks version {}, and this runtime version {VERSION}", welcome.version);
            return Err((io::Error::other(error), process));
        }
        let link = Self { channel, process: Arc::new(process), since: Instant::now() };
        Ok((link, welcome.containers))
    }

    async fn ask(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<Reply, Failure> {
        let asked = async {
            self.channel.send(request, descriptors).await?;
            self.channel.receive::<Reply>().await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        };
        match patiently(asked).await {
            Ok((Reply::Failed(problem), _)) => Err(Failure::Container(io::Error::other(problem))),
            Ok((reply, _)) => Ok(reply),
            Err(error) => Err(Failure::Link(error)),
        }
    }
}

async fn patiently<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(ANSWER, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Whether a process is what its name says, of this version or another: only such a one is ended.
fn is_proxy(process: &Process) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{}/comm", process.identity.pid));
    name.is_ok_and(|name| name.trim_end() == super::NAME)
}

/// Ends a process, and waits for its end: then all that it had is free.
async fn end(process: &Process) {
    process.signal(signal::TERM);
    if timeout(END, process.ended()).await.is_err() {
        process.signal(signal::KILL);
        process.ended().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
