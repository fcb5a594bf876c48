//! Networks and ports that come and go, with kills of the runtime in between: what is on the host afterwards is what the
//! records say, and in the end nothing. 60 cycles, or as many as STRATA_LEAKS says.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use strata_tests::{Dice, House, Output, Running, eventually};

const SOON: Duration = Duration::from_secs(20);
/// The seed of the order of things; a failure names it.
const SEED: u64 = 0x5eed_0001;

fn cycles() -> u64 {
    strata_tests::amount("STRATA_LEAKS", 60)
}

fn on_host(house: &House, words: &[&str]) -> Output {
    let mut command = house.host().on_host(words[0]);
    command.args(&words[1..]);
    Running::spawn(command).finish()
}

/// Everything that networks have on the host: interfaces, addresses, routes, rules.
fn state(house: &House) -> String {
    let mut all = String::new();
    for words in [&["ip", "-o", "addr"][..], &["ip", "route"], &["ip", "-6", "route"], &["nft", "list", "ruleset"]] {
        all += &on_host(house, words).ok().stdout;
    }
    all
}

/// Ports of the records, and those of the kernel's maps.
fn ports(house: &House) -> (Vec<String>, Vec<String>) {
    let shown = house.ctl(&["port", "one"]).ok();
    let v4 = shown.stdout.lines().filter_map(|line| line.split_once(" -> 0.0.0.0:").map(|(_, port)| port.to_owned()));
    let listed = on_host(house, &["nft", "list", "ruleset"]).ok();
    let words = listed.stdout.split([',', '{', '}', '\n', '\t']).map(str::trim);
    let led = words.filter_map(|word| Some(word.strip_prefix("tcp . ")?.split_once(" : ")?.0.to_owned()));
    let (mut recorded, mut led) = (v4.collect::<Vec<_>>(), led.collect::<Vec<_>>());
    recorded.sort();
    led.sort();
    // Each is led for both versions of the protocol.
    led.dedup();
    (recorded, led)
}

/// Network namespaces that services hold open, and what keeps names for them.
fn held_namespaces(house: &House) -> usize {
    let of = |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let entries = house.services().into_iter().chain(house.proxies()).flat_map(|trace| of(trace.pid));
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("net:[")).count()
}

#[test]
fn networks_and_ports_come_and_go_without_a_trace() {
    let house = House::with_network();
    for name in ["front", "back"] {
        house.ctl(&["network", "create", "--ipv6", name]).ok();
    }
    let run = ["run", "-d", "--name", "one", "--network", "front", "guest", "/guest", "sleep", "3000"];
    house.ctl(&run).ok();
    // A bridge that had a port once has a route more than one that never had.
    for change in ["connect", "disconnect"] {
        house.ctl(&["network", change, "back", "one"]).ok();
    }
    // The resolver of a container that runs holds one.
    let (before, held) = (state(&house), held_namespaces(&house));
    let mut dice = Dice::new(SEED);

    for cycle in 0..cycles() {
        let port = format!("{}:{}", 20000 + dice.roll(4), 80 + dice.roll(2));
        let words: &[&str] = match dice.roll(4) {
            0 => &["container", "publish", "one", &port],
            1 => &["container", "unpublish", "one", &port],
            2 => &["network", "connect", "back", "one"],
            _ => &["network", "disconnect", "back", "one"],
        };
        let started = house.ctl_running(words);
        if cycle % 10 == 5 {
            std::thread::sleep(Duration::from_micros(dice.roll(8000)));
            house.crash("runtime");
        }
        // Refused, as what is there already or not, or cut off: only what comes of it counts.
        drop(started.finish());
        if cycle % 10 == 5 {
            let (recorded, led) = ports(&house);
            assert_eq!(recorded, led, "seed {SEED:#x}, cycle {cycle}: {words:?}");
        }
    }

    let (recorded, led) = ports(&house);
    assert_eq!(recorded, led, "seed {SEED:#x}");
    for port in &recorded {
        house.ctl(&["container", "publish", "--rm", "one", &format!("{port}:80")]);
        house.ctl(&["container", "publish", "--rm", "one", &format!("{port}:81")]);
    }
    house.ctl(&["network", "disconnect", "-f", "back", "one"]).ok();
    let start = Instant::now();
    while changes(&before, &state(&house)) != [""; 0] && start.elapsed() < SOON {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(changes(&before, &state(&house)), [""; 0], "seed {SEED:#x}");
    eventually("as many are held", SOON, || held_namespaces(&house) == held);
    house.ctl(&["rm", "-f", "one"]).ok();
    eventually("none is held", SOON, || held_namespaces(&house) == 0);
    house.ctl(&["network", "rm", "front", "back"]).ok();
    eventually("nothing is left", SOON, || house.host().interfaces().is_empty());
    assert!(!on_host(&house, &["nft", "list", "tables"]).ok().stdout.contains("strata"));
}

/// Lines that one has and the other has not: without the indices of interfaces, and what the kernel has yet to notice.
fn changes(one: &str, other: &str) -> Vec<String> {
    let line = |line: &str| {
        let line = line.trim_start_matches(|letter: char| letter.is_ascii_digit());
        [" linkdown", " tentative"]
            .iter()
            .fold(line.to_owned(), |line, word| line.replace(word, ""))
            .trim_end()
            .to_owned()
    };
    let lines = |text: &str| text.lines().map(line).collect::<BTreeSet<String>>();
    lines(one).symmetric_difference(&lines(other)).cloned().collect()
}
