//! A node of a test's own: some of the three services, started by hand, on Unix sockets or on TCP with mutual TLS.
//! Its end stops them as an administrator would, and the house then looks for what they left.

use std::{
    fs,
    ops::AsyncFnOnce,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;
use strata_rpc::{Endpoint, identity::ClientTls};
use strata_tests::{House, Output, Running};
use tonic::transport::Channel;

use crate::certificates::{Authority, Pair, Valid};

/// How clients reach the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Sockets of this host.
    Unix,
    /// TCP with certificates on both sides.
    Tcp,
}

/// Only a store.
pub const STORE: &[&str] = &["store"];
/// What runs containers.
pub const RUNNING: &[&str] = &["store", "runtime"];
/// Everything.
pub const ALL: &[&str] = &["store", "runtime", "builder"];

/// Makes a test over each transport of every body: an async function of a node.
macro_rules! over_both {
    ($services:expr; $($(#[$attribute:meta])* $body:ident),+ $(,)?) => {
        mod unix {
            use super::*;
            $($(#[$attribute])* #[test] fn $body() {
                crate::node::over(crate::node::Transport::Unix, $services, super::$body);
            })+
        }
        mod tcp {
            use super::*;
            $($(#[$attribute])* #[test] fn $body() {
                crate::node::over(crate::node::Transport::Tcp, $services, super::$body);
            })+
        }
    };
}

/// Runs a body over a node of its own.
pub fn over(transport: Transport, services: &[&'static str], body: impl AsyncFnOnce(&Node)) {
    let node = Node::start(transport, services);
    block_on(body(&node));
}

/// Runs a future to its end. One that hangs fails.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("threads can be made").block_on(async {
        tokio::time::timeout(Duration::from_secs(120), future).await.expect("the test ends in time")
    })
}

struct Service {
    name: &'static str,
    running: Running,
    endpoint: Endpoint,
}

/// Services and how to reach them.
pub struct Node {
    services: Vec<Service>,
    transport: Transport,
    /// Who signs, over TCP.
    pub authority: Authority,
    client: Pair,
    /// State, sockets, and a look for leaks; ends after the services.
    pub house: House,
}

impl Node {
    /// Starts services, in this order.
    pub fn start(transport: Transport, services: &[&'static str]) -> Self {
        strata_rpc::identity::init_crypto();
        let house = House::start();
        let authority = Authority::new();
        let server = authority.server();
        fs::write(house.path("ca.pem"), authority.pem()).expect("a temporary directory");
        fs::write(house.path("server.pem"), &server.certificate).expect("a temporary directory");
        fs::write(house.path("server.key"), &server.key).expect("a temporary directory");
        let client = authority.client(Valid::Now);
        let mut node = Self { services: vec![], transport, authority, client, house };
        for name in services {
            node.start_service(name);
        }
        node
    }

    /// A node of its own with the same services, reached in the same way.
    pub fn another(&self) -> Self {
        let names: Vec<&'static str> = self.names().collect();
        Self::start(self.transport, &names)
    }

    /// A node without services, whose services will have these rules: the table `[access]` of strata.toml.
    pub fn with_rules(rules: &str) -> Self {
        let node = Self::start(Transport::Tcp, &[]);
        fs::write(node.house.path("strata.toml"), rules).expect("a temporary directory");
        node
    }

    /// A channel to a service over TCP, as who has this pair gets it.
    pub fn channel_as(&self, name: &str, pair: &Pair) -> Channel {
        strata_rpc::connect(self.endpoint(name), Some(&self.authority.tls(pair))).expect("the endpoint is one")
    }

    /// Starts one more service and waits until it serves.
    pub fn start_service(&mut self, name: &'static str) {
        let listen = match self.transport {
            Transport::Unix => format!("unix:{}", self.house.socket(name).display()),
            Transport::Tcp => "tcp:127.0.0.1:0".to_owned(),
        };
        let mut running = Running::spawn(self.command(name, &listen));
        let said = "serving service=";
        running.wait_for(said);
        let log = running.stderr();
        let word = log.lines().find(|line| line.contains(said)).and_then(|line| line.split("endpoint=").nth(1));
        let word = word.and_then(|rest| rest.split_whitespace().next()).expect("it says where it serves");
        let endpoint = Endpoint::parse(word).expect("it says where it serves");
        self.services.push(Service { name, running, endpoint });
    }

    /// How one of its services is started to listen there.
    pub fn command(&self, name: &str, listen: &str) -> std::process::Command {
        let mut command = self.house.command(strata_tests::binaries().join(format!("strata-{name}")));
        command.args(["--listen", listen, "--root"]).arg(self.root(name));
        let config = self.house.path(&format!("{name}.toml"));
        fs::write(&config, self.config(name)).expect("a temporary directory");
        command.arg("--config").arg(config);
        if self.transport == Transport::Tcp {
            for (flag, file) in [("--tls-ca", "ca.pem"), ("--tls-cert", "server.pem"), ("--tls-key", "server.key")] {
                command.arg(flag).arg(self.house.path(file));
            }
        }
        command
    }

    fn config(&self, name: &str) -> String {
        let mut text = String::new();
        // Collects at once, so that a test sees garbage go.
        if name == "store" {
            let layers = strata_tests::layers().unwrap_or_default();
            return format!("{layers}garbage_grace_seconds = 0\ngarbage_delay_seconds = 0\n{}", strata_tests::NOBODY);
        }
        for service in &self.services {
            let is_needed = service.name == "store" || name == "builder";
            if is_needed && service.name != name {
                text.push_str(&format!("{} = \"{}\"\n", service.name, service.endpoint));
            }
        }
        if self.transport == Transport::Tcp {
            let file = |name: &str| self.house.path(name).display().to_string();
            let (ca, cert, key) = (file("ca.pem"), file("server.pem"), file("server.key"));
            text.push_str(&format!("[tls]\nca = \"{ca}\"\ncert = \"{cert}\"\nkey = \"{key}\"\n"));
        }
        if name == "runtime" {
            // This host stays as it is.
            text.push_str("[networks]\ndefault = \"none\"\n");
        }
        text
    }

    /// How clients reach the services.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Directory of a service's state.
    pub fn root(&self, name: &str) -> PathBuf {
        self.house.root().join(name)
    }

    /// Names of its services.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.services.iter().map(|service| service.name)
    }

    fn service(&self, name: &str) -> &Service {
        self.services.iter().find(|service| service.name == name).expect("the test started it")
    }

    /// Where a service is.
    pub fn endpoint(&self, name: &str) -> &Endpoint {
        &self.service(name).endpoint
    }

    /// Process id of a service.
    pub fn pid(&self, name: &str) -> i32 {
        self.service(name).running.pid()
    }

    /// What a service has logged.
    pub fn log(&self, name: &str) -> String {
        self.service(name).running.stderr()
    }

    /// A channel to a service, as any client gets it.
    pub fn channel(&self, name: &str) -> Channel {
        let tls = self.tls();
        strata_rpc::connect(self.endpoint(name), tls.as_ref()).expect("the endpoint is one")
    }

    fn tls(&self) -> Option<ClientTls> {
        (self.transport == Transport::Tcp).then(|| self.authority.tls(&self.client))
    }

    /// Asks a service to stop, without waiting.
    pub fn ask_to_stop(&self, name: &str) {
        self.service(name).running.signal(Signal::SIGTERM);
    }

    /// Stops a service and says how it ended.
    pub fn stop(&mut self, name: &str) -> Output {
        self.ask_to_stop(name);
        self.ended(name)
    }

    /// Kills a service, as a crash would.
    pub fn crash(&mut self, name: &str) -> Output {
        self.service(name).running.signal(Signal::SIGKILL);
        self.ended(name)
    }

    /// Waits for the end of a service.
    pub fn ended(&mut self, name: &str) -> Output {
        let at = self.services.iter().position(|service| service.name == name).expect("the test started it");
        self.services.remove(at).running.finish_within(Duration::from_secs(200))
    }

    /// Files below a service's state, without those of its catalog and its audit log: what a call that left nothing has not
    /// changed.
    pub fn files(&self, name: &str) -> Vec<PathBuf> {
        let root = self.root(name);
        let mut files = vec![];
        collect(&root, &mut files);
        let audit = root.join("audit");
        files.retain(|path| !path.to_string_lossy().contains(".db") && !path.to_string_lossy().contains(".sqlite"));
        files.retain(|path| !path.starts_with(&audit));
        files.sort();
        files
    }
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), into);
        } else {
            into.push(entry.path());
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let is_failing = std::thread::panicking();
        if is_failing {
            for service in &self.services {
                eprintln!("--- log of the {}\n{}", service.name, service.running.stderr());
            }
        }
        // Those above first: they tell those below what they let go of.
        for name in ["builder", "runtime", "store"] {
            if self.services.iter().any(|service| service.name == name) {
                let ended = self.stop(name);
                assert!(is_failing || ended.code == 0, "it does not stop in order: {ended:?}");
            }
        }
    }
}

/// Waits until a service's files are these again.
pub async fn nothing_left(node: &Node, name: &str, files: &[PathBuf]) {
    let start = std::time::Instant::now();
    loop {
        let now = node.files(name);
        if now == files {
            return;
        }
        if start.elapsed() > Duration::from_secs(20) {
            let more: Vec<_> = now.iter().filter(|path| !files.contains(path)).collect();
            let less: Vec<_> = files.iter().filter(|path| !now.contains(path)).collect();
            panic!("left behind: {more:#?}, lost: {less:#?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the claim holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(30), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
