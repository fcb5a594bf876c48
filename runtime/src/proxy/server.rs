//! The process: it has what the runtime last told it of each container, until the container's end. It ends by itself when it
//! has nothing and nobody tells it anything.

use std::{
    collections::HashMap, ffi::OsString, io, net::SocketAddr, os::unix::net::UnixListener as StdListener,
    path::PathBuf, sync::Arc, time::Duration,
};

use clap::Parser;
use rustix::{
    fd::{AsFd, OwnedFd},
    process::DumpableBehavior,
    thread::{CapabilitySet, CapabilitySets},
};
use strata_dns::{Directory, Host, Limits, Server as NameServer, Sockets};
use strata_net::{Carrier, Door, Published};
use strata_rpc::socket;
use strata_types::{ContainerId, NetworkId};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::UnixListener,
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::sleep,
};
use tokio_util::task::TaskTracker;

use super::{
    doors::Doors,
    message::{Channel, Hello, Names, Reply, Request, VERSION, Welcome},
    way::Way,
};

/// How long it waits for somebody to tell it something, when it has nothing.
const PATIENCE: Duration = Duration::from_secs(1);
/// So often, while connections that passed through its last ports are open still.
const PATIENCES: u32 = 60;
/// Who connects waits in a queue of this length: there is one runtime.
const BACKLOG: i32 = 8;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = super::NAME, about = "What the runtime keeps open for its containers. The runtime starts it.")]
struct Args {
    /// Path of the socket that listens as standard input
    #[arg(long)]
    socket: PathBuf,

    /// Path of the network namespace that networks are in, if it is not the host's
    #[arg(long)]
    carrier: Option<PathBuf>,

    /// What to log
    #[arg(long, default_value = "info")]
    log: String,
}

/// The whole process. The arguments are those behind the name of the role.
pub fn run(args: impl Iterator<Item = OsString>) -> io::Result<()> {
    let args = Args::parse_from([OsString::from(super::NAME)].into_iter().chain(args));
    strata_rpc::trace::init(&args.log);
    confine()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(args))
}

/// Gives up all that it does not need: it enters network namespaces, and speaks there in the name of others.
fn confine() -> io::Result<()> {
    rustix::thread::set_name(c"strata-proxy")?;
    // Fails for who leads a group already, which is fine.
    let _ = rustix::process::setsid();
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_no_new_privs(true)?;
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN;
    let held = rustix::thread::capabilities(None)?.permitted & needed;
    let sets = CapabilitySets { effective: held, permitted: held, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

async fn serve(args: Args) -> io::Result<()> {
    let listener = StdListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Once more: who connects learns which process it is that listens. unix_listen() in net/unix/af_unix.c
    rustix::net::listen(&listener, BACKLOG)?;
    listener.set_nonblocking(true)?;
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    let listener = UnixListener::from_std(listener)?;
    let own = socket::inode(&args.socket);
    let mut proxy = Proxy { way: Way::from(args.carrier.map(Carrier::at)), ..Proxy::default() };
    let mut client: Option<Client> = None;
    let mut waited = 0;
    loop {
        let is_idle = client.is_none() && proxy.held.is_empty();
        tokio::select! {
            Some(ended) = proxy.ends.join_next() => if let Ok((id, life)) = ended {
                proxy.end(&id, life).await;
            },
            accepted = listener.accept(), if client.is_none() => match accepted.and_then(|(stream, _)| Channel::new(stream)) {
                Ok(channel) => client = Some(Client::new(channel)),
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection");
                    sleep(PATIENCE).await;
                }
            },
            said = hear(&mut client) => match said {
                Some(Heard::Hello) => {
                    let containers = proxy.held.keys().cloned().collect();
                    answer(&mut client, &Welcome { version: VERSION, containers }).await;
                }
                Some(Heard::Request(request, descriptors)) => {
                    let reply = proxy.reply(request, descriptors).await;
                    answer(&mut client, &reply).await;
                }
                None => client = None,
            },
            () = sleep(PATIENCE), if is_idle => {
                waited += 1;
                if proxy.connections.is_empty() || waited == PATIENCES {
                    break;
                }
                continue;
            }
        }
        waited = 0;
    }
    // Before the socket closes: from then on another may be there. After a reset it is gone already.
    if socket::inode(&args.socket).is_some_and(|now| Some(now) == own) {
        std::fs::remove_file(&args.socket)?;
    }
    Ok(())
}

/// The runtime, as long as it is there.
struct Client {
    channel: Arc<Channel>,
    heard: mpsc::Receiver<Heard>,
}

enum Heard {
    Hello,
    Request(Request, Vec<OwnedFd>),
}

impl Client {
    fn new(channel: Channel) -> Self {
        let channel = Arc::new(channel);
        let (sender, heard) = mpsc::channel(1);
        tokio::spawn(listen(channel.clone(), sender));
        Self { channel, heard }
    }
}

/// Passes on what is said, until nothing more comes.
async fn listen(channel: Arc<Channel>, heard: mpsc::Sender<Heard>) {
    let said: io::Result<()> = async {
        if channel.receive::<Hello>().await?.is_none() || heard.send(Heard::Hello).await.is_err() {
            return Ok(());
        }
        while let Some((request, descriptors)) = channel.receive().await? {
            if heard.send(Heard::Request(request, descriptors)).await.is_err() {
                break;
            }
        }
        Ok(())
    }
    .await;
    if let Err(error) = said {
        tracing::warn!(%error, "the runtime has broken off");
    }
}

/// The next thing that is said; without a client nothing ever is.
async fn hear(client: &mut Option<Client>) -> Option<Heard> {
    match client {
        Some(client) => client.heard.recv().await,
        None => std::future::pending().await,
    }
}

async fn answer(client: &mut Option<Client>, message: &impl serde::Serialize) {
    if let Some(one) = client
        && let Err(error) = one.channel.send(message, &[]).await
    {
        tracing::debug!(%error, "the runtime does not hear the answer");
        *client = None;
    }
}

/// All that is held.
#[derive(Default)]
struct Proxy {
    directory: Arc<Directory>,
    host: Arc<Host>,
    limits: Limits,
    way: Way,
    held: HashMap<ContainerId, Held>,
    /// Connections through ports, those of ports too that are closed.
    connections: TaskTracker,
    /// Waits for the ends of containers.
    ends: JoinSet<(ContainerId, u64)>,
    /// Counts lives of containers: an id may come again.
    lives: u64,
}

/// What a container has.
#[derive(Default)]
struct Held {
    networks: Vec<NetworkId>,
    names: Names,
    server: Option<NameServer>,
    doors: Doors,
    life: Option<(u64, AbortHandle)>,
}

impl Proxy {
    async fn reply(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> Reply {
        let done = match request {
            Request::Tell { id, names, doors } => return self.tell(id, names, &doors, descriptors).await,
            Request::Serve { id } => self.serve(&id, descriptors),
            Request::Open { id, published, target, is_held } => {
                let mut sockets = descriptors.into_iter();
                let socket = if is_held { sockets.next() } else { None };
                self.open(&id, Door { published, socket, within: sockets.next(), target })
            }
            Request::Forget { id } => {
                self.forget(&id).await;
                Ok(())
            }
        };
        done.map_or_else(|error| Reply::Failed(error.to_string()), |()| Reply::Done)
    }

    async fn tell(
        &mut self,
        id: ContainerId,
        names: Names,
        doors: &[(Published, SocketAddr)],
        process: Vec<OwnedFd>,
    ) -> Reply {
        let held = self.held.entry(id.clone()).or_default();
        for network in held.networks.iter().filter(|network| !names.view.networks.contains(network)) {
            self.directory.remove(network, &id);
        }
        for zone in &names.zones {
            self.directory.insert(&zone.network, &zone.network_name, &id, zone.member.clone());
        }
        held.networks = names.zones.iter().map(|zone| zone.network.clone()).collect();
        match held.server.take() {
            Some(server) if names.is_served => {
                server.change(names.view.clone());
                held.server = Some(server);
            }
            Some(server) => server.stop().await,
            None => {}
        }
        held.names = names;
        if let (None, Some(process)) = (&held.life, process.into_iter().next()) {
            self.lives += 1;
            let end = end_of(process, id, self.lives);
            held.life = Some((self.lives, self.ends.spawn(end)));
        }
        let lacks_names = held.names.is_served && held.server.is_none();
        Reply::Lacks { names: lacks_names, doors: held.doors.lead(doors).await }
    }

    fn serve(&mut self, id: &ContainerId, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let held = self.held.get_mut(id).ok_or_else(ended)?;
        let sockets: [OwnedFd; 3] =
            descriptors.try_into().map_err(|_| io::Error::other("three descriptors are needed"))?;
        let (directory, host) = (self.directory.clone(), self.host.clone());
        held.server = Some(NameServer::start(
            Sockets::from_descriptors(sockets),
            held.names.view.clone(),
            directory,
            host,
            &self.limits,
        )?);
        Ok(())
    }

    fn open(&mut self, id: &ContainerId, door: Door) -> io::Result<()> {
        let held = self.held.get_mut(id).ok_or_else(ended)?;
        held.doors.open(door, &self.way, &self.connections);
        Ok(())
    }

    /// A container has ended, unless that is another one by now.
    async fn end(&mut self, id: &ContainerId, life: u64) {
        if self.held.get(id).and_then(|held| held.life.as_ref()).is_some_and(|(known, _)| *known == life) {
            self.forget(id).await;
        }
    }

    async fn forget(&mut self, id: &ContainerId) {
        let Some(mut held) = self.held.remove(id) else { return };
        held.networks.iter().for_each(|network| self.directory.remove(network, id));
        if let Some((_, waits)) = held.life {
            waits.abort();
        }
        if let Some(server) = held.server {
            server.stop().await;
        }
        held.doors.lead(&[]).await;
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the container has ended")
}

/// Waits for the end of a process.
async fn end_of(process: OwnedFd, id: ContainerId, life: u64) -> (ContainerId, u64) {
    #[expect(deprecated, reason = "the new form is unsafe to call; an OwnedFd never changes its descriptor")]
    let watched = AsyncFd::with_interest(process, Interest::READABLE);
    match watched {
        // A pidfd is readable from the process's end on and for ever: pidfd_open(2).
        Ok(process) => drop(process.readable().await),
        Err(error) => {
            tracing::warn!(container = %id, %error, "cannot watch for the end of a container");
            // The runtime tells of it.
            std::future::pending::<()>().await;
        }
    }
    (id, life)
}

#[cfg(test)]
mod tests {
    use strata_dns::{Member, View};

    use super::*;
    use crate::proxy::message::Zone;

    fn names(networks: &[u8]) -> Names {
        let id = |number: &u8| NetworkId::from_bytes([*number; 32]);
        let member = Member { name: "web".into(), aliases: vec![], addresses: vec![] };
        let zone = |number| Zone { network: id(number), network_name: "net".into(), member: member.clone() };
        let view = View { networks: networks.iter().map(id).collect(), ..View::default() };
        Names { zones: networks.iter().map(zone).collect(), view, is_served: false }
    }

    /// The networks, of two, in which the name is known.
    fn known(proxy: &Proxy) -> Vec<u8> {
        let is_known =
            |number: &u8| proxy.directory.find(&[NetworkId::from_bytes([*number; 32])], "web", |_| true).is_some();
        [1, 2].into_iter().filter(is_known).collect()
    }

    #[tokio::test]
    async fn what_is_told_last_counts_until_the_end_of_the_process() {
        let (mut proxy, id) = (Proxy::default(), ContainerId::from_bytes([1; 32]));
        let mut process = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&process);
        let held = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();

        proxy.tell(id.clone(), names(&[1, 2]), &[], vec![held]).await;
        assert_eq!(known(&proxy), [1, 2]);
        let reply = proxy.tell(id.clone(), Names { is_served: true, ..names(&[2]) }, &[], vec![]).await;
        assert_eq!(known(&proxy), [2], "it was disconnected");
        assert!(matches!(reply, Reply::Lacks { names: true, doors } if doors.is_empty()));
        process.kill().unwrap();
        process.wait().unwrap();
        let (ended, life) = proxy.ends.join_next().await.unwrap().unwrap();
        proxy.end(&ended, life + 1).await;
        assert_eq!(known(&proxy), [2], "that was another life");
        proxy.end(&ended, life).await;

        assert_eq!(known(&proxy), [0; 0]);
        assert!(proxy.held.is_empty());
        let late = proxy.reply(Request::Serve { id }, vec![]).await;
        assert!(matches!(late, Reply::Failed(_)), "{late:?}");
    }
}
