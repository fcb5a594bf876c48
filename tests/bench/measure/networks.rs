//! Measures of networks. Each engine has a host of its own with a world beside it, that is, two network namespaces. The floor
//! is the same path made by hand: pairs of interfaces, a bridge, and one map of nftables.

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;

use super::{FEWEST, State, failed, line::line, milliseconds, order};
use crate::{
    Outcome,
    engine::{Engine, GUEST, IMAGE, Task},
    report::{Cell, Report, Samples, Unit},
    room::{Done, Room, Tenant},
};

/// Names of the containers.
const WEB: &str = "bench-web";
const STREAM: &str = "bench-stream";
const CLIENT: &str = "bench-client";
/// The host's address on its way out.
const HOST: &str = "203.0.113.1";
/// Connections of one figure, and look-ups.
const TIMES: &str = "2000";
/// The programs by hand have no filter of system calls: what is looked at is the path.
const UNFILTERED: [&str; 2] = ["--security-opt", "seccomp=unconfined"];
/// Programs of the machine that containers may use.
const PROGRAMS: [&str; 6] = ["-v", "/usr:/usr:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro"];
const IPERF: &str = "/usr/bin/iperf3";
/// Containers of one network when the next is connected.
const CROWD: usize = 300;
const NETWORK: &str = "bench-net";

/// Makes a container with a published port and removes it; how long the first of both takes.
pub(super) fn published(engine: &dyn Engine) -> Option<Outcome<f64>> {
    let mut run = engine.line()?;
    run.args(["run", "-d", "--name", WEB, "-p", "8080:80", IMAGE, GUEST, "sleep", "600"]);
    let done = engine.finish(run);
    // A failed one may have left it.
    let removed = engine.perform(Task::Remove(WEB))?;
    Some(done.and_then(|done| removed.map(|_| milliseconds(done))))
}

/// A container on the network that it has without being told.
pub(super) fn bridged(engine: &dyn Engine) -> Option<Outcome<f64>> {
    let mut run = engine.line()?;
    run.args(["run", "--rm", IMAGE, GUEST, "noop"]);
    Some(engine.finish(run).map(milliseconds))
}

/// Runs words somewhere and returns what they print.
type Runs<'a> = Box<dyn Fn(&[&str]) -> Outcome<String> + 'a>;

/// Two servers and a client, and the world beside their host.
struct Site<'a> {
    world: Room,
    /// Runs words where the client is.
    inside: Runs<'a>,
    /// Of the server of small answers, and of that of streams.
    addresses: [String; 2],
}

/// What is looked at in a site.
const PATHS: [(&str, Unit); 4] = [
    ("TCP between two containers", Unit::Gigabits),
    ("TCP through a published port", Unit::Gigabits),
    ("connections between two containers", Unit::PerSecond),
    ("connections through a published port", Unit::PerSecond),
];

/// Streams and connections between containers, and from the world through a published port.
pub(super) fn paths(engines: &[Box<dyn Engine>], runs: u32, report: &mut Report) -> Outcome<()> {
    let mut sites: Vec<Result<Site<'_>, State>> = engines.iter().map(|engine| open(engine.as_ref())).collect();
    let mut samples: Vec<[Samples; 4]> = engines.iter().map(|_| Default::default()).collect();
    for round in 0..runs.clamp(1, 5) {
        for index in order(engines.len(), round) {
            let Ok(site) = &sites[index] else { continue };
            let mut figures = vec![];
            for path in 0..PATHS.len() {
                crate::go_on()?;
                match site.figure(path) {
                    Ok(figure) => figures.push(figure),
                    Err(err) => {
                        sites[index] = Err(State::Failed(err.to_string()));
                        break;
                    }
                }
            }
            samples[index].iter_mut().zip(figures).for_each(|(samples, figure)| samples.push(figure));
        }
    }
    let mut rows: [BTreeMap<String, Cell>; 4] = Default::default();
    for ((engine, site), samples) in engines.iter().zip(sites).zip(samples) {
        let reason = match &site {
            Ok(_) => close(engine.as_ref()).err().map(|err| err.to_string()),
            Err(State::Failed(reason)) => Some(reason.clone()),
            Err(_) => None,
        };
        for (row, samples) in rows.iter_mut().zip(samples) {
            let cell = match (&site, &reason) {
                (_, Some(reason)) => Cell::Failed(reason.clone()),
                (Ok(_), None) => Cell::Samples(samples),
                (Err(_), None) => Cell::Absent,
            };
            row.insert(engine.name().to_owned(), cell);
        }
    }
    for ((title, unit), cells) in PATHS.into_iter().zip(rows) {
        report.row(title, unit, cells);
    }
    Ok(())
}

impl Site<'_> {
    fn figure(&self, path: usize) -> Outcome<f64> {
        let [web, stream] = &self.addresses;
        let guest = strata_tests::guest();
        let guest = guest.to_str().ok_or("the path of the guest is not UTF-8")?;
        let said = match path {
            0 => (self.inside)(&[IPERF, "-c", stream, "-t", "1", "-J"])?,
            1 => self.outside(&[IPERF, "-c", HOST, "-t", "1", "-J"])?,
            2 => (self.inside)(&[GUEST, "ask-often", web, "80", TIMES])?,
            _ => self.outside(&[guest, "ask-often", HOST, "8080", TIMES])?,
        };
        match path {
            0 | 1 => {
                let report: Value = serde_json::from_str(&said)?;
                let bits = &report["end"]["sum_received"]["bits_per_second"];
                Ok(bits.as_f64().ok_or_else(|| format!("iperf3 says {}", report["error"]))? / 1e9)
            }
            _ => Ok(said.trim().parse()?),
        }
    }

    fn outside(&self, words: &[&str]) -> Outcome<String> {
        run(&self.world, words)
    }
}

fn run(room: &Room, words: &[&str]) -> Outcome<String> {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    Ok(room.finish(command)?.stdout)
}

/// A world beside the host of a room. Nothing is left of it when both are gone.
fn world_beside(room: &Room) -> Outcome<Room> {
    let world = Room::open(Tenant::Ours, true)?;
    room.script(&format!(
        "ip link add up0 type veth peer name net0 netns {}; ip addr add {HOST}/24 dev up0; ip link set up0 up",
        world.network()
    ))?;
    world.script("ip addr add 203.0.113.9/24 dev net0; ip link set net0 up; ip route add default via 203.0.113.1")?;
    // An engine may look at it for the size of packets.
    room.script("ip route add default via 203.0.113.9")?;
    Ok(world)
}

fn open(engine: &dyn Engine) -> Result<Site<'_>, State> {
    let Some(room) = engine.room() else { return Err(State::Absent) };
    let site = if engine.line().is_some() { of_engine(engine, room) } else { by_hand(room) };
    let site = site.and_then(|site| site.wait_until_ready().map(|()| site));
    site.map_err(|err| {
        // What failed is told already.
        let _ = close(engine);
        State::Failed(err.to_string())
    })
}

impl Site<'_> {
    fn wait_until_ready(&self) -> Outcome<()> {
        let mut last = None;
        for _ in 0..50 {
            let tried = (0..PATHS.len()).try_for_each(|path| self.figure(path).map(drop));
            let Err(err) = tried else { return Ok(()) };
            last = Some(err);
            thread::sleep(Duration::from_millis(100));
        }
        Err(last.expect("it was tried"))
    }
}

fn of_engine<'a>(engine: &'a dyn Engine, room: &Room) -> Outcome<Site<'a>> {
    let world = world_beside(room)?;
    let line = |words: &[&str]| line(engine, words).map(|done| done.stdout);
    let start = |name: &str, flags: &[&str], words: &[&str]| {
        line(&[&["run", "-d", "--name", name][..], &UNFILTERED, &PROGRAMS, flags, &[IMAGE], words].concat())
    };
    start(WEB, &["-p", "8080:80"], &[GUEST, "serve", "80"])?;
    start(STREAM, &["-p", "5201:5201"], &[IPERF, "-s"])?;
    start(CLIENT, &[], &[GUEST, "sleep", "86399"])?;
    let address = |name| line(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", name]);
    let addresses = [address(WEB)?, address(STREAM)?].map(|said| said.trim().to_owned());
    let inside = Box::new(move |words: &[&str]| line(&[&["exec", CLIENT][..], words].concat()));
    Ok(Site { world, inside, addresses })
}

fn close(engine: &dyn Engine) -> Outcome<()> {
    for name in [WEB, STREAM, CLIENT] {
        if let Some(removed) = engine.perform(Task::Remove(name)) {
            removed?;
        }
    }
    Ok(())
}

/// The path by hand: two namespaces on a bridge, and a map that leads ports to one of them.
fn by_hand(room: &Room) -> Outcome<Site<'static>> {
    let world = world_beside(room)?;
    let (web, client) = (Room::open(Tenant::Ours, true)?, Room::open(Tenant::Ours, true)?);
    room.script("echo 1 >/proc/sys/net/ipv4/ip_forward; ip link add br0 type bridge; ip addr add 10.99.0.1/16 dev br0; ip link set br0 up")?;
    for (place, end, address) in [(&web, "v0", "10.99.0.2"), (&client, "v1", "10.99.0.3")] {
        room.script(&format!(
            "ip link add {end} type veth peer name eth0 netns {}; ip link set {end} master br0; ip link set {end} up",
            place.network()
        ))?;
        place.script(&format!(
            "ip addr add {address}/16 dev eth0; ip link set eth0 up; ip route add default via 10.99.0.1"
        ))?;
    }
    let mut nft = Command::new("nft");
    nft.arg(
        "table inet floor {
            map ports {
                type inet_proto . inet_service : ipv4_addr . inet_service
                elements = { tcp . 8080 : 10.99.0.2 . 80, tcp . 5201 : 10.99.0.2 . 5201 }
            }
            chain prerouting {
                type nat hook prerouting priority dstnat
                fib daddr type local dnat ip to meta l4proto . th dport map @ports
            }
            chain postrouting {
                type nat hook postrouting priority srcnat
                ip saddr 10.99.0.0/16 oifname != br0 masquerade
            }
        }",
    );
    room.finish(nft)?;
    let mut serve = Command::new(strata_tests::guest());
    serve.args(["serve", "80"]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut streams = Command::new(IPERF);
    streams.arg("-s").stdin(Stdio::null()).stdout(Stdio::null());
    let servers = [Server(web.spawn(serve)?), Server(web.spawn(streams)?)];
    let inside = Box::new(move |words: &[&str]| {
        // They live as long as who asks them.
        let _kept = (&servers, &web);
        let guest = strata_tests::guest();
        let program = if words[0] == GUEST { guest.to_str().ok_or("a path that is not UTF-8")? } else { words[0] };
        run(&client, &[&[program], &words[1..]].concat())
    });
    let address = "10.99.0.2".to_owned();
    Ok(Site { world, inside, addresses: [address.clone(), address] })
}

/// A server without a container.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended is to be waited for all the same.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How long a container waits for the address of another, by name.
pub(super) fn names(engines: &[Box<dyn Engine>], runs: u32, report: &mut Report) -> Outcome<()> {
    let mut cells = BTreeMap::new();
    for engine in engines {
        crate::go_on()?;
        let line = |words: &[&str]| line(engine.as_ref(), words);
        // Debian's podman has no server of names: the plugin of CNI for it is not packaged.
        let cell = if engine.line().is_some() && engine.name() != "podman" {
            let sampled = look_ups(&line, runs);
            let left = close(engine.as_ref()).and_then(|()| line(&["network", "rm", NETWORK]));
            sampled.and_then(|samples| left.map(|_| samples)).map_or_else(failed, Cell::Samples)
        } else {
            Cell::Absent
        };
        cells.insert(engine.name().to_owned(), cell);
    }
    report.row("look-up of a name", Unit::Microseconds, cells);
    Ok(())
}

fn look_ups(line: &dyn Fn(&[&str]) -> Outcome<Done>, runs: u32) -> Outcome<Samples> {
    line(&["network", "create", NETWORK])?;
    for name in [WEB, STREAM, CLIENT] {
        line(&["run", "-d", "--name", name, "--network", NETWORK, IMAGE, GUEST, "sleep", "86399"])?;
    }
    let mut samples = Samples::default();
    for _ in 0..runs.clamp(FEWEST, 10) {
        let said = line(&["exec", CLIENT, GUEST, "look-ups", WEB, TIMES])?.stdout;
        samples.push(said.trim().parse()?);
    }
    Ok(samples)
}

/// What it costs to connect a container to a network with nobody in it, and with a crowd. Ours only.
pub(super) fn crowds(engines: &[Box<dyn Engine>], runs: u32, report: &mut Report) -> Outcome<()> {
    let Some(ours) = engines.iter().find(|engine| engine.name() == "ctl") else { return Ok(()) };
    let line = |words: &[&str]| line(ours.as_ref(), words);
    let names: Vec<String> = (0..CROWD).map(|number| format!("bench-crowd-{number}")).collect();
    let measured = connects(&line, &names, runs);
    for name in names.iter().map(String::as_str).chain([CLIENT]) {
        ours.perform(Task::Remove(name)).transpose()?;
    }
    line(&["network", "rm", NETWORK])?;
    for (title, samples) in ["network connect, the first", "network connect, after 300"].into_iter().zip(measured?) {
        report.row(title, Unit::Milliseconds, BTreeMap::from([("ctl".to_owned(), Cell::Samples(samples))]));
    }
    Ok(())
}

fn connects(line: &dyn Fn(&[&str]) -> Outcome<Done>, names: &[String], runs: u32) -> Outcome<[Samples; 2]> {
    line(&["network", "create", NETWORK])?;
    line(&["run", "-d", "--name", CLIENT, IMAGE, GUEST, "sleep", "86399"])?;
    let several = || {
        let mut samples = Samples::default();
        for round in 0..=runs {
            crate::go_on()?;
            let done = line(&["network", "connect", NETWORK, CLIENT])?;
            line(&["network", "disconnect", NETWORK, CLIENT])?;
            // The first finds caches cold.
            if round > 0 {
                samples.push(milliseconds(done));
            }
        }
        Ok::<_, Box<dyn std::error::Error>>(samples)
    };
    let first = several()?;
    for name in names {
        line(&["run", "-d", "--name", name, "--network", NETWORK, IMAGE, GUEST, "sleep", "86399"])?;
    }
    Ok([first, several()?])
}
