//! The way of an ordinary user's networks to the world: pasta(1), or slirp4netns(1), takes what leaves the carrier and sends
//! it from sockets of the host, as any program of the user does. The role `tether` of `strata-init` keeps it, as long as this
//! service or a monitor of a container is there: connections of containers do not notice that this service is killed.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use strata_net::{Arrivals, Carrier};
use tokio::{runtime::Handle, sync::Mutex, task::spawn_blocking};

use crate::{config::Helper, launch::Launcher};

/// How long a program may take until it carries packets.
const READY: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);
/// After one that ended by itself.
const AGAIN: Duration = Duration::from_secs(1);
/// The carrier's interface to the world, its address, and who is asked for the rest. A subnet of no network: such as
/// neighbours give themselves (RFC 3927, RFC 4193), without the ones of clouds.
const INTERFACE: &str = "tap0";
const SUBNET: &str = "169.254.253.0/24";
const ADDRESS: &str = "169.254.253.100";
const GATEWAY: &str = "169.254.253.2";
const ADDRESS6: &str = "fd53:7472:6174:6100::64";
const GATEWAY6: &str = "fd53:7472:6174:6100::1";
/// Without it neither of the programs can do anything.
const DEVICE: &str = "/dev/net/tun";

/// Why there is no way out.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
    /// No program for it is there.
    #[error("{programs} installed (Debian: {packages})")]
    NotInstalled {
        /// "neither pasta nor slirp4netns is".
        programs: &'static str,
        /// Where they come from.
        packages: &'static str,
    },
    /// The settings say so.
    #[error("the setting helper of the runtime says none")]
    Unwanted,
    /// The device cannot be opened.
    #[error("{DEVICE} cannot be opened: {source}")]
    Device {
        /// Why.
        source: io::Error,
    },
    /// The program did not do it.
    #[error("{program} carries no packets: {said}")]
    Failed {
        /// Its name.
        program: &'static str,
        /// Its own words.
        said: String,
    },
    /// There is nothing that the way could lead out of.
    #[error("{}", strata_rpc::fault::chain(.0))]
    Carrier(#[from] strata_net::Error),
    /// The program cannot be started.
    #[error("{}", strata_rpc::fault::chain(.0))]
    Start(#[from] crate::error::Error),
}

/// A program that carries packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Pasta,
    Slirp4netns,
}

impl Program {
    const fn name(self) -> &'static str {
        match self {
            Self::Pasta => "pasta",
            Self::Slirp4netns => "slirp4netns",
        }
    }

    /// Words that both take in all their versions: nothing comes in, and nothing of the host's loopback device is reached.
    fn arguments(self, carrier: &Path) -> Vec<OsString> {
        let words = match self {
            Self::Pasta => format!(
                "--foreground --quiet --config-net --no-map-gw -t none -u none -T none -U none --ns-ifname {INTERFACE} \
                 -a {ADDRESS} -n 24 -g {GATEWAY} -a {ADDRESS6} -g {GATEWAY6} --netns-only --netns"
            ),
            Self::Slirp4netns => format!(
                "--configure --mtu=65520 --disable-host-loopback --disable-dns --enable-sandbox --enable-seccomp \
                 --cidr={SUBNET} --netns-type=path"
            ),
        };
        let name = (self == Self::Slirp4netns).then(|| INTERFACE.into());
        words.split_whitespace().map(OsString::from).chain([carrier.into()]).chain(name).collect()
    }
}

/// The programs that may be tried, the better one first.
fn programs(wanted: Helper) -> Result<Vec<(Program, PathBuf)>, Obstacle> {
    let (candidates, programs, packages): (&[Program], _, _) = match wanted {
        Helper::None => return Err(Obstacle::Unwanted),
        Helper::Any => {
            (&[Program::Pasta, Program::Slirp4netns], "neither pasta nor slirp4netns is", "passt, or slirp4netns")
        }
        Helper::Pasta => (&[Program::Pasta], "pasta is not", "passt"),
        Helper::Slirp4netns => (&[Program::Slirp4netns], "slirp4netns is not", "slirp4netns"),
    };
    let found: Vec<_> = candidates.iter().filter_map(|program| Some((*program, find(program.name())?))).collect();
    if found.is_empty() {
        return Err(Obstacle::NotInstalled { programs, packages });
    }
    File::options().read(true).write(true).open(DEVICE).map_err(|source| Obstacle::Device { source })?;
    Ok(found)
}

/// A program in the directories of PATH.
fn find(name: &str) -> Option<PathBuf> {
    let directories = env::var_os("PATH")?;
    env::split_paths(&directories)
        .map(|directory| directory.join(name))
        .find(|path| path.is_absolute() && path.is_file())
}

/// The way out of a carrier.
#[derive(Clone)]
pub struct Tether(Arc<Inner>);

struct Inner {
    carrier: Carrier,
    helper: Helper,
    launcher: Launcher,
    /// What a program complains of.
    log: PathBuf,
    turn: Mutex<()>,
    is_watched: AtomicBool,
    /// Somebody waits for the host to have a way out.
    is_awaited: AtomicBool,
}

impl Tether {
    /// The way out of a carrier, by a program that is started when it is needed.
    pub fn new(carrier: Carrier, helper: Helper, launcher: Launcher) -> Self {
        let log = carrier.path().with_extension("log");
        Self(Arc::new(Inner {
            carrier,
            helper,
            launcher,
            log,
            turn: Mutex::default(),
            is_watched: AtomicBool::new(false),
            is_awaited: AtomicBool::new(false),
        }))
    }

    /// Whether there can be a way out, as far as can be known.
    pub fn is_possible(&self) -> bool {
        programs(self.0.helper).is_ok()
    }

    /// Makes the way out, unless it is there.
    pub async fn make(&self) -> Result<(), Obstacle> {
        let _turn = self.0.turn.lock().await;
        let this = self.clone();
        let made = spawn_blocking(move || this.make_now()).await;
        made.map_err(|_| crate::error::Error::Lost { what: "making a way out" })?
    }

    fn make_now(&self) -> Result<(), Obstacle> {
        let programs = programs(self.0.helper)?;
        self.watch()?;
        if self.0.carrier.has_way_out()? {
            return Ok(());
        }
        // Before anything is tried: what comes meanwhile is heard of.
        let arrivals = Arrivals::listen()?;
        let mut obstacles = Vec::new();
        for (program, path) in programs {
            match self.start(program, &path) {
                Ok(()) => return Ok(()),
                Err(obstacle) => obstacles.push(obstacle),
            }
        }
        self.make_when_there_is_a_way(arrivals)?;
        // What kept the best one from it is told.
        Err(obstacles.swap_remove(0))
    }

    /// Starts a program and waits until it carries packets. Nothing of it is left on failure.
    fn start(&self, program: Program, path: &Path) -> Result<(), Obstacle> {
        let words = [&[path.into()], program.arguments(self.0.carrier.path()).as_slice()].concat();
        let mut child = self.0.launcher.tether(&words, &self.0.log)?;
        let start = Instant::now();
        while start.elapsed() < READY && matches!(child.try_wait(), Ok(None)) {
            match self.0.carrier.has_way_out() {
                // Who ends without being waited for is waited for by tokio.
                Ok(true) => return Ok(()),
                // The log tells more than that it takes long.
                Ok(false) | Err(_) => thread::sleep(LOOK),
            }
        }
        let _ended_already = child.start_kill();
        let said = fs::read_to_string(&self.0.log).unwrap_or_default();
        Err(Obstacle::Failed { program: program.name(), said: said.trim().replace('\n', "; ") })
    }

    /// Makes the way out once the host has one, which pasta(1) cannot do without. The thread waits in the kernel until then.
    fn make_when_there_is_a_way(&self, arrivals: Arrivals) -> Result<(), Obstacle> {
        if self.0.is_awaited.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let (this, runtime) = (self.clone(), Handle::current());
        let body = move || {
            loop {
                match arrivals.until_led_out() {
                    Ok(()) if runtime.block_on(this.make()).is_ok() => break,
                    Ok(()) => {}
                    Err(error) => {
                        tracing::error!(error = strata_rpc::fault::chain(&error), "cannot wait for a way out");
                        break;
                    }
                }
            }
            this.0.is_awaited.store(false, Ordering::Release);
        };
        let spawned = thread::Builder::new().name("no way out".to_owned()).spawn(body);
        spawned.map(drop).map_err(|source| crate::error::Error::io("wait for", "a way out", source).into())
    }

    /// Makes the way out again whenever it is gone: its program has ended by itself, or with those who held it while a
    /// service was away. The thread waits in the kernel until this service ends.
    fn watch(&self) -> Result<(), Obstacle> {
        if self.0.is_watched.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let departures = self.0.carrier.departures()?;
        let (this, runtime) = (self.clone(), Handle::current());
        let body = move || {
            loop {
                if let Err(error) = departures.until_gone(INTERFACE) {
                    return tracing::error!(
                        error = strata_rpc::fault::chain(&error),
                        "cannot watch the way to the world"
                    );
                }
                tracing::warn!(log = %this.0.log.display(), "the way to the world is gone");
                thread::sleep(AGAIN);
                if let Err(obstacle) = runtime.block_on(this.make()) {
                    // The next container that needs it makes it.
                    tracing::error!(%obstacle, "containers have no way to the world");
                }
            }
        };
        let spawned = thread::Builder::new().name("way out".to_owned()).spawn(body);
        spawned.map(drop).map_err(|source| crate::error::Error::io("watch", INTERFACE, source).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_carrier_is_what_both_programs_are_told_last() {
        let words = |program: Program| program.arguments(Path::new("/run/x/netns"));
        assert_eq!(words(Program::Pasta).last().unwrap(), "/run/x/netns");
        let slirp = words(Program::Slirp4netns);
        assert_eq!(slirp[slirp.len() - 2..], ["/run/x/netns", INTERFACE]);
        assert!(words(Program::Pasta).iter().any(|word| word == "--no-map-gw"));
        assert!(slirp.iter().any(|word| word == "--disable-host-loopback"));
    }

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        let told = |programs, packages| Obstacle::NotInstalled { programs, packages }.to_string();
        assert_eq!(told("pasta is not", "passt"), "pasta is not installed (Debian: passt)");
        assert!(matches!(programs(Helper::None), Err(Obstacle::Unwanted)));
    }
}
