//! sd_notify(3) across the border of a container: it has a socket of its own below the state directory, and that it is
//! ready goes on to `NOTIFY_SOCKET` of the caller; from a program that ends then with the id of the container's process
//! and a barrier. Nothing else does: what a container says is not to move its manager.

use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::{
            fs::{DirBuilderExt, PermissionsExt},
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::{Path, PathBuf},
};

use oci_spec::runtime::{Mount, MountBuilder, Spec};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
};

/// Where the container has it.
const INSIDE: &str = "/run/notify";
const NAME: &str = "notify.sock";
/// How often a process that says nothing is looked at.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// How long a manager may take to read.
const BARRIER: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// The socket of the caller's environment.
fn caller() -> Option<String> {
    std::env::var("NOTIFY_SOCKET").ok().filter(|path| path.starts_with(['/', '@']))
}

fn directory(state: &Path) -> PathBuf {
    state.join("notify")
}

/// Shows the container a directory for its socket, if the caller has one.
pub fn prepare(spec: &mut Spec, state: &Path) -> Result<(), String> {
    if caller().is_none() {
        return Ok(());
    }
    let outside = directory(state);
    // Whoever the container's process is; nobody else gets through the state directory.
    fs::DirBuilder::new()
        .mode(0o755)
        .create(&outside)
        .and_then(|()| fs::set_permissions(&outside, fs::Permissions::from_mode(0o755)))
        .map_err(|error| format!("cannot create {}: {error}", outside.display()))?;
    let options = ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec();
    let mount: Mount = MountBuilder::default()
        .destination(INSIDE)
        .source(outside)
        .typ("bind")
        .options(options)
        .build()
        .map_err(|error| error.to_string())?;
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.push(mount);
    spec.set_mounts(Some(mounts));
    if let Some(process) = spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        env.push(format!("NOTIFY_SOCKET={INSIDE}/{NAME}"));
        process.set_env(Some(env));
    }
    Ok(())
}

/// Who is told that the container is ready.
#[derive(Debug)]
pub struct Notify {
    socket: UnixDatagram,
    caller: SocketAddr,
    /// What the manager is told is the service's process from now on.
    main_pid: Option<u32>,
}

impl Notify {
    /// Listens for what the container says, if its maker and the caller have asked for that. `main_pid` is the
    /// process that the caller's manager is to watch; none: this program, which stays.
    pub fn listen(state: &Path, main_pid: Option<u32>) -> Result<Option<Self>, String> {
        let Some(caller) = caller().filter(|_| directory(state).is_dir()) else { return Ok(None) };
        let failed = |error: io::Error| format!("cannot listen for sd_notify of the container: {error}");
        let address = match caller.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&caller),
        };
        let caller = address.map_err(|error| format!("NOTIFY_SOCKET={caller:?}: {error}"))?;
        let path = directory(state).join(NAME);
        let socket = UnixDatagram::bind(&path).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(Some(Self { socket, caller, main_pid }))
    }

    /// Waits until the container has said that it is ready, or is no more.
    pub fn wait(self, is_alive: impl Fn() -> bool) -> Result<(), String> {
        while is_alive() {
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
            let _ = poll(&mut fds, Some(&LOOK));
            if self.pass_on()? {
                break;
            }
        }
        Ok(())
    }

    /// Passes on what was said; true once the container is ready.
    pub fn pass_on(&self) -> Result<bool, String> {
        let mut buffer = [0; 4096];
        // Not for ever: one who never stops talking must not keep us. Descriptors that come along, as of a barrier, are
        // closed: so it is passed.
        for _ in 0..64 {
            let Ok(count) = self.socket.recv(&mut buffer) else { break };
            let is_ready = |line: &&[u8]| line.starts_with(b"READY=");
            if let Some(line) = buffer[..count].split(|byte| *byte == b'\n').find(is_ready) {
                self.tell(line).map_err(|error| format!("cannot notify NOTIFY_SOCKET: {error}"))?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn tell(&self, line: &[u8]) -> io::Result<()> {
        let client = UnixDatagram::unbound()?;
        client.connect_addr(&self.caller)?;
        client.send(&[line, b"\n"].concat())?;
        match self.main_pid {
            // We go on, and can be asked who we are.
            None => Ok(()),
            Some(pid) => {
                client.send(format!("MAINPID={pid}\n").as_bytes())?;
                barrier(&client)
            }
        }
    }
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until the manager has read it all, as it closes the descriptor that comes last: who spoke may end then.
fn barrier(client: &UnixDatagram) -> io::Result<()> {
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    send_with(client, b"BARRIER=1", theirs)?;
    let mut fds = [PollFd::new(&ours, PollFlags::empty())];
    match poll(&mut fds, Some(&BARRIER)) {
        // One that knows no barriers has it in its buffer all the same.
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn send_with(client: &UnixDatagram, text: &[u8], descriptor: OwnedFd) -> io::Result<()> {
    let fds = [descriptor.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(client, &[io::IoSlice::new(text)], &mut ancillary, SendFlags::empty())?;
    Ok(())
}
