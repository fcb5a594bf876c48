//! Debian's `docker-registry` for a test: a registry of others' making, on loopback; and a wire to it that can be cut.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::{Running, eventually, made};

/// "correct horse" as htpasswd keeps it, with bcrypt.
const HTPASSWD: &str = "me:$2b$04$XNAUsdIlye09HCTtNLH9GOV4Xx4q04KyNEfxV8RqPvjBkE8ybmvRS\n";

/// A registry of one test.
pub struct DockerRegistry {
    address: SocketAddr,
    _running: Running,
    _directory: TempDir,
}

impl DockerRegistry {
    /// The user that a closed registry knows.
    pub const USER: &str = "me";
    /// That user's password.
    pub const PASSWORD: &str = "correct horse";

    /// A registry for everybody.
    pub fn open() -> Self {
        Self::start("")
    }

    /// A registry for one user.
    pub fn closed() -> Self {
        Self::start(HTPASSWD)
    }

    fn start(htpasswd: &str) -> Self {
        let directory =
            tempfile::Builder::new().prefix("strata-registry-").tempdir_in("/var/tmp").expect("/var/tmp is there");
        let (file, users) = (directory.path().join("config.yml"), directory.path().join("htpasswd"));
        let mut text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  \
             delete: {{enabled: true}}\nhttp: {{addr: \"127.0.0.1:0\"}}\n",
            directory.path().join("state").display()
        );
        if !htpasswd.is_empty() {
            fs::write(&users, htpasswd).expect("a temporary directory");
            text.push_str(&format!("auth:\n  htpasswd: {{realm: test, path: {}}}\n", users.display()));
        }
        fs::write(&file, text).expect("a temporary directory");
        let mut command = Command::new(made("/usr/bin/docker-registry".into(), "make packages-test"));
        command.arg("serve").arg(&file);
        let mut running = Running::spawn(command);
        let words = "listening on ";
        running.wait_for(words);
        let mut found = None;
        eventually("the registry says where it listens", Duration::from_secs(10), || {
            let said = format!("{}{}", running.stdout(), running.stderr());
            let after = said.split(words).nth(1).unwrap_or_default();
            let end = after.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'));
            found = end.and_then(|end| after[..end].parse().ok());
            found.is_some()
        });
        let address = found.expect("the line above waited for it");
        Self { address, _running: running, _directory: directory }
    }

    /// Where it listens, which is its name.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The name of an image in it.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// A wire to it, which another name stands for.
    pub fn wire(&self) -> Wire {
        Wire::start(self.address)
    }
}

/// A wire that counts what comes over it, and breaks when it was told to. It ends with its process.
pub struct Wire {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Bytes that came from the registry.
    carried: AtomicU64,
    /// How many more may come; negative: no limit.
    left: AtomicI64,
    /// Of each connection one byte of so many is changed; 0: none.
    spoiled: AtomicU64,
}

impl Wire {
    fn start(registry: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State { left: AtomicI64::new(-1), ..State::default() });
        let shared = state.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(registry) else { continue };
                let (to_server, from_server) = (server.try_clone(), server);
                let (Ok(to_server), Ok(from_client)) = (to_server, client.try_clone()) else { continue };
                thread::spawn(move || carry(from_client, to_server, None));
                let state = shared.clone();
                thread::spawn(move || carry(from_server, client, Some(&state)));
            }
        });
        Self { address, state }
    }

    /// The name of an image at its other end.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Breaks after so many bytes, all connections at once, and stays broken.
    pub fn break_after(&self, bytes: u64) {
        self.state.left.store(i64::try_from(bytes).expect("a small number"), Ordering::SeqCst);
    }

    /// Changes one byte of so many.
    pub fn spoil_every(&self, bytes: u64) {
        self.state.spoiled.store(bytes, Ordering::SeqCst);
    }

    /// Its other end.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Is whole again, and counts from nothing.
    pub fn mend(&self) {
        self.state.spoiled.store(0, Ordering::SeqCst);
        self.state.left.store(-1, Ordering::SeqCst);
        self.state.carried.store(0, Ordering::SeqCst);
    }

    /// Bytes that came from the registry.
    pub fn carried(&self) -> u64 {
        self.state.carried.load(Ordering::SeqCst)
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, state: Option<&State>) {
    let mut buffer = [0; 16 << 10];
    let mut passed = 0_u64;
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut allowed = count;
        if let Some(state) = state {
            let left = state.left.load(Ordering::SeqCst);
            if left >= 0 {
                allowed = count.min(usize::try_from(left).unwrap_or(0));
                state.left.store(left - allowed as i64, Ordering::SeqCst);
            }
            state.carried.fetch_add(allowed as u64, Ordering::SeqCst);
            let every = state.spoiled.load(Ordering::SeqCst);
            if every > 0 && passed / every != (passed + allowed as u64) / every {
                buffer[allowed - 1] ^= 1;
            }
            passed += allowed as u64;
        }
        if to.write_all(&buffer[..allowed]).is_err() || allowed < count {
            break;
        }
    }
    // Either side may be gone already.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
