//! A house of its own for a test: state, sockets and configuration in one temporary directory, services on demand.
//!
//! Its end stops what it started and looks for leaks; a test that leaves something fails, whatever else it showed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::{DockerRegistry, Output, OwnHost, Running, Tar, Trace, images::Context, leaks};

/// What the kernel needs to take things away after their owner's end.
const SETTLE: Duration = Duration::from_secs(10);

/// No test asks Docker Hub: its names lead where nobody listens, at once.
pub const NOBODY: &str =
    "[registries]\nattempts = 1\n[registries.host.\"docker.io\"]\nmirrors = [\"127.0.0.1:9\"]\nmirrors_only = true\n";

/// Settings of stores that keep layers otherwise than usual: STRATA_TEST_LAYERS names a backend. `tests/layers` runs
/// tests of others a second time with it.
pub fn layers() -> Option<String> {
    let backend = std::env::var("STRATA_TEST_LAYERS").ok()?;
    Some(format!("layer_backend = \"{backend}\"\n"))
}

/// State directories of the houses that live now, and the cgroups that were there before the first of them.
struct Street {
    houses: Vec<PathBuf>,
    before: BTreeSet<(String, PathBuf)>,
}

fn street() -> &'static Mutex<Street> {
    static STREET: OnceLock<Mutex<Street>> = OnceLock::new();
    STREET.get_or_init(|| Mutex::new(Street { houses: vec![], before: leaks::cgroups() }))
}

/// A house for one test.
pub struct House {
    dir: TempDir,
    root: PathBuf,
    variables: Vec<(String, String)>,
    /// Where it is a host of its own.
    host: Option<OwnHost>,
    /// Complaints of a test that disturbs services on purpose are its own to make.
    watches_stop: bool,
}

impl House {
    /// An empty house.
    pub fn start() -> Self {
        Self::with_root(None)
    }

    /// An empty house whose state is elsewhere, on a small disk for example.
    pub fn with_root(root: Option<&Path>) -> Self {
        let dir = tempfile::Builder::new().prefix("strata-test-").tempdir_in("/var/tmp").expect("/var/tmp is there");
        let root = root.map_or_else(|| dir.path().join("state"), Path::to_owned);
        fs::create_dir_all(dir.path().join("home")).expect("a temporary directory");
        street().lock().unwrap_or_else(PoisonError::into_inner).houses.push(root.clone());
        let house = Self { dir, root, variables: vec![], host: None, watches_stop: true };
        house.configure(NOBODY);
        // Tests of networks have a host of their own; others leave this one as it is.
        house.configure_runtime("[networks]\ndefault = \"none\"\n");
        if let Some(settings) = layers() {
            fs::write(house.root.join("etc/store.toml"), settings).expect("a temporary directory");
        }
        house
    }

    /// A house with the guest image in it, as "guest".
    pub fn with_guest() -> Self {
        let house = Self::start();
        house.import_guest();
        house
    }

    /// A house with the guest image in it, on a host of its own with a network that has a world beside it.
    pub fn with_network() -> Self {
        let house = Self::on_own_host();
        house.import_guest();
        house
    }

    /// An empty house on a host of its own with a network that has a world beside it.
    pub fn on_own_host() -> Self {
        let mut house = Self::start();
        house.host = Some(OwnHost::new());
        house.configure_runtime("");
        house
    }

    /// The host of its own.
    pub fn host(&self) -> &OwnHost {
        self.host.as_ref().expect("the test asked for one")
    }

    /// A house with Debian in it, as "debian:bookworm".
    pub fn with_debian() -> Self {
        let house = Self::start();
        let tar = crate::debian();
        house.ctl(&["import", tar.to_str().expect("an ASCII path"), "debian:bookworm"]).ok();
        house
    }

    /// Writes the configuration that services and ctl share; services that run know the old one.
    pub fn configure(&self, text: &str) {
        let dir = self.root.join("etc");
        fs::create_dir_all(&dir).expect("a temporary directory");
        fs::write(dir.join("strata.toml"), text).expect("a temporary directory");
    }

    /// Writes the configuration of the runtime; one that runs knows the old one.
    pub fn configure_runtime(&self, text: &str) {
        fs::write(self.root.join("etc/runtime.toml"), text).expect("a temporary directory");
    }

    /// From now on the names of Docker Hub lead to a registry of the test.
    pub fn mirror_hub(&mut self, registry: &DockerRegistry) {
        self.configure(&format!(
            "[registries.host.\"docker.io\"]\nmirrors = [\"{}\"]\nmirrors_only = true\n",
            registry.host()
        ));
        assert_eq!(self.stop().len(), 0, "a service does not stop");
    }

    /// Imports the guest image.
    pub fn import_guest(&self) {
        let tar = Tar::of_guest().write(self.path("guest.tar"));
        self.ctl(&["import", tar.to_str().expect("an ASCII path"), "guest"]).ok();
    }

    /// Sets a variable for every command of this house.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Directory of its state.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Directory of its sockets.
    pub fn run_dir(&self) -> PathBuf {
        self.path("run")
    }

    /// Socket of a service.
    pub fn socket(&self, service: &str) -> PathBuf {
        self.run_dir().join(format!("{service}.sock"))
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A program in this house's environment.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = match &self.host {
            None => Command::new(program),
            Some(host) => host.on_host(program),
        };
        command.env_clear().envs(std::env::vars().filter(|(name, _)| !name.starts_with("STRATA_")));
        command.env("STRATA_ROOT", &self.root).env("STRATA_RUN", self.run_dir());
        command.env("STRATA_BIN_DIR", crate::binaries()).env("HOME", self.path("home"));
        for (name, dir) in [("XDG_CONFIG_HOME", "config"), ("XDG_CACHE_HOME", "cache"), ("XDG_DATA_HOME", "data")] {
            command.env(name, self.path(dir));
        }
        command.env("XDG_RUNTIME_DIR", self.path("xdg-run")).env("TERM", "xterm-256color");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).current_dir(self.dir.path());
        command
    }

    /// `ctl` in this house.
    pub fn ctl_command(&self, args: &[&str]) -> Command {
        let mut command = self.command(crate::binaries().join("ctl"));
        command.args(args);
        command
    }

    /// Runs `ctl` to its end.
    #[track_caller]
    pub fn ctl(&self, args: &[&str]) -> Output {
        Running::spawn(self.ctl_command(args)).finish()
    }

    /// Runs `ctl` to its end with this standard input.
    #[track_caller]
    pub fn ctl_with(&self, args: &[&str], input: &[u8]) -> Output {
        let mut running = self.ctl_piped(args);
        running.offer(input);
        running.close();
        running.finish()
    }

    /// Starts `ctl`.
    #[track_caller]
    pub fn ctl_running(&self, args: &[&str]) -> Running {
        Running::spawn(self.ctl_command(args))
    }

    /// Starts `ctl` with a standard input to write to.
    #[track_caller]
    pub fn ctl_piped(&self, args: &[&str]) -> Running {
        let mut command = self.ctl_command(args);
        command.stdin(Stdio::piped());
        Running::spawn(command)
    }

    /// Runs the guest: `ctl run --rm guest /guest WORDS`.
    #[track_caller]
    pub fn guest(&self, words: &[&str]) -> Output {
        self.guest_with(&[], words)
    }

    /// Runs the guest with further flags.
    #[track_caller]
    pub fn guest_with(&self, flags: &[&str], words: &[&str]) -> Output {
        self.ctl(&[&["run", "--rm"], flags, &["guest", "/guest"], words].concat())
    }

    /// Builds a context under a name, with plain progress.
    #[track_caller]
    pub fn build(&self, context: &Context, name: &str) -> Output {
        self.ctl(&["build", "--progress", "plain", "-t", name, context.arg()])
    }

    /// The services of this house that run now.
    pub fn services(&self) -> Vec<Trace> {
        let services = ["strata-store", "strata-builder", "strata-runtime"];
        leaks::living(self.dir.path()).into_iter().filter(|trace| services.contains(&trace.program())).collect()
    }

    /// The processes of this house that keep names and ports of containers.
    pub fn proxies(&self) -> Vec<Trace> {
        leaks::living(self.dir.path()).into_iter().filter(|trace| trace.program() == "strata-proxy").collect()
    }

    /// Kills one of its services, as a crash would. Says whether it ran.
    pub fn crash(&self, service: &str) -> bool {
        let name = format!("strata-{service}");
        let running: Vec<_> = self.services().into_iter().filter(|trace| trace.program() == name).collect();
        running.iter().for_each(|trace| send(trace.pid, Signal::SIGKILL));
        crate::eventually(&format!("{name} is gone"), SETTLE, || running.iter().all(|trace| is_gone(trace.pid)));
        !running.is_empty()
    }

    /// Insists that the store is whole.
    #[track_caller]
    pub fn verify(&self) {
        self.ctl(&["system", "verify"]).ok();
    }

    /// Stops its services the polite way. Returns what did not stop.
    pub fn stop(&self) -> Vec<Trace> {
        // Those above first: they tell those below what they let go of.
        for name in ["strata-builder", "strata-runtime", "strata-store"] {
            let running: Vec<_> = self.services().into_iter().filter(|trace| trace.program() == name).collect();
            running.iter().for_each(|trace| send(trace.pid, Signal::SIGTERM));
            let start = Instant::now();
            while self.services().iter().any(|trace| trace.program() == name)
                && start.elapsed() < Duration::from_secs(40)
            {
                thread::sleep(Duration::from_millis(10));
            }
        }
        self.services()
    }

    /// Removes every container and stops the services; returns what is left that should not be.
    pub fn close(&self) -> Vec<String> {
        let mut complaints = vec![];
        if !self.services().is_empty() {
            let all =
                Running::spawn(self.ctl_command(&["ps", "-aq", "--no-trunc"])).finish_within(Duration::from_secs(60));
            let ids: Vec<&str> = all.stdout.lines().collect();
            if !ids.is_empty() {
                let words = [&["rm", "-f"], ids.as_slice()].concat();
                let removed = Running::spawn(self.ctl_command(&words)).finish_within(Duration::from_secs(60));
                if removed.code != 0 {
                    complaints.push(format!("containers cannot be removed: {removed:?}"));
                }
            }
        }
        for trace in self.stop() {
            if self.watches_stop {
                complaints.push(format!("{} did not stop on SIGTERM", trace.program()));
            }
            send(trace.pid, Signal::SIGKILL);
        }
        complaints.extend(self.leaks());
        complaints
    }

    /// What is left now, after a moment for the kernel.
    pub fn leaks(&self) -> Vec<String> {
        let start = Instant::now();
        loop {
            let found = self.left();
            if found.is_empty() || start.elapsed() > SETTLE {
                return found;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// What is there now that should not outlive the house.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut found = vec![];
        for dir in [self.dir.path(), self.root()] {
            found.extend(leaks::living(dir).iter().map(|trace| format!("process {} {:?}", trace.pid, trace.words)));
        }
        found.extend(leaks::mounts(&self.root().join("")).iter().map(|line| format!("mount {line}")));
        found.extend(self.unowned_cgroups().iter().map(|path| format!("cgroup {}", path.display())));
        // A house with networks has a host of its own, which takes them along.
        found.extend(leaks::bridges(&self.root().join("runtime/networks")).iter().map(|name| format!("link {name}")));
        found
    }

    /// Cgroups that no house on this street knows.
    pub fn unowned_cgroups(&self) -> Vec<PathBuf> {
        let street = street().lock().unwrap_or_else(PoisonError::into_inner);
        let groups = leaks::cgroups();
        let mut owned = BTreeSet::new();
        for root in street.houses.iter().filter(|root| **root != self.root) {
            leaks::ids(&root.join("runtime"), &mut owned);
        }
        let unknown = groups.into_iter().filter(|group| !street.before.contains(group) && !owned.contains(&group.0));
        unknown.map(|(_, path)| path).collect()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let complaints = self.close();
        let log = |name: &str| fs::read_to_string(self.root.join(name).join("service.log")).unwrap_or_default();
        let is_failing = thread::panicking();
        if is_failing || !complaints.is_empty() {
            for name in ["store", "builder", "runtime"] {
                let text = log(name);
                let from = text.len().saturating_sub(4000);
                let from = (from..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                eprintln!("--- log of the {name}\n{}", &text[from..]);
            }
        }
        for trace in leaks::living(self.dir.path()) {
            send(trace.pid, Signal::SIGKILL);
        }
        street().lock().unwrap_or_else(PoisonError::into_inner).houses.retain(|root| *root != self.root);
        if is_failing {
            eprintln!("left behind: {complaints:#?}");
        } else {
            assert!(complaints.is_empty(), "left behind: {complaints:#?}");
        }
    }
}

fn send(pid: i32, signal: Signal) {
    // It may have ended by itself.
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Whether nothing of it runs: a zombie whose other threads are still on their way out has its socket yet.
/// proc_pid_stat(5): field 3 is the state, field 20 the number of threads.
fn is_gone(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, rest)) = stat.rsplit_once(')') else { return true };
    let fields: Vec<&str> = rest.split_whitespace().collect();
    fields[0] == "Z" && fields[17] == "1"
}
