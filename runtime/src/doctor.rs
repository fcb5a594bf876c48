//! What is open to whom on this host, and what keeps containers from being reached: `ctl doctor`. It looks and changes
//! nothing.

use std::{fs, net::IpAddr, path::Path, sync::Arc};

use strata_net::{Driver, Network, Published, foreign};

use crate::{
    engine::{Engine, blocking},
    error::Error,
    record::{Record, State},
    spec,
};

/// What a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Somebody can come in here.
    Open,
    /// It may keep something from working.
    Notice,
    /// It keeps something from working.
    Problem,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// What there is, in a sentence.
    pub what: String,
    /// What to do about it, or to close it.
    pub fix: String,
}

impl Finding {
    fn new(kind: Kind, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { kind, what: what.into(), fix: fix.into() }
    }
}

/// What is open first, then what is in the way.
pub async fn findings(engine: &Arc<Engine>) -> Result<Vec<Finding>, Error> {
    let engine = engine.clone();
    blocking("looking at the host", move || look(&engine)).await
}

fn look(engine: &Engine) -> Result<Vec<Finding>, Error> {
    let records: Vec<Record> = engine.page("", usize::MAX, false).iter().map(|container| container.record()).collect();
    let networks = engine.networks().page("", usize::MAX);
    let table = engine.networks().table();
    let mut findings: Vec<Finding> = records.iter().flat_map(|record| open_of(record, &table)).collect();
    findings.extend(networks.iter().filter_map(on_the_wire));
    let bridges: Vec<&Network> = networks.iter().filter(|network| network.driver.is_bridge()).collect();
    if bridges.is_empty() {
        return Ok(findings);
    }
    findings.extend(engine.networks().within(|| in_the_way(&bridges, &table))?);
    Ok(findings)
}

/// What keeps bridges from working; this thread is where they are.
fn in_the_way(bridges: &[&Network], table: &str) -> Result<Vec<Finding>, strata_net::Error> {
    let mut findings = Vec::new();
    for barrier in foreign::barriers(table)? {
        let foreign::Barrier { family, table, chain } = barrier;
        findings.push(Finding::new(
            Kind::Notice,
            format!(
                "chain {chain} of the table {family} {table} drops what none of its rules lets pass: unless one does, \
                 containers reach nobody outside, and nobody reaches published ports from there"
            ),
            ways_through(family, &table, &chain, bridges),
        ));
    }
    findings.extend(old_tables());
    let is_routed = bridges.iter().any(|network| !network.is_internal);
    let families = [
        ("net/ipv4/ip_forward", "IPv4", is_routed),
        ("net/ipv6/conf/all/forwarding", "IPv6", is_routed && bridges.iter().any(|network| has_six(network))),
    ];
    for (name, family, is_needed) in families {
        if is_needed && !is_set(name) {
            let what = format!("the host does not forward packets of {family}: containers reach nobody outside");
            findings.push(Finding::new(Kind::Problem, what, format!("sysctl -w {}=1", name.replace('/', "."))));
        }
    }
    for network in bridges {
        if !is_there(&network.interface) {
            let what = format!("the bridge {} of network {} is gone", network.interface, network.name);
            findings.push(Finding::new(
                Kind::Problem,
                what,
                "it is made again when the runtime starts, or with its next container",
            ));
        }
    }
    Ok(findings)
}

/// What of a container is open.
fn open_of(record: &Record, table: &str) -> Vec<Finding> {
    let State::Running(_) = &record.state else { return Vec::new() };
    let name = &record.name;
    if matches!(record.spec.network, spec::Network::Host) {
        let what = format!("container {name} has the host's network: whatever it listens on is open as the host's own");
        return vec![Finding::new(Kind::Open, what, "run it with --network bridge and publish what is needed")];
    }
    let fix = |published: &Published| {
        format!(
            "ctl container unpublish {name} {}, or publish it on 127.0.0.1, or a rule in the chain admin of the table {table}",
            published.port
        )
    };
    let one = |published: &Published| {
        let what = format!(
            "port {}/{} of {} leads to port {} of container {name}: {}",
            published.host_port,
            published.port.protocol,
            published.address,
            published.port,
            whom(published.address),
        );
        Finding::new(Kind::Open, what, fix(published))
    };
    record.published.iter().map(one).collect()
}

/// Who reaches a port on an address of the host.
fn whom(address: IpAddr) -> &'static str {
    match address {
        address if address.is_loopback() => "this host alone reaches it",
        address if address.is_unspecified() => "whoever reaches an address of this host reaches it",
        _ => "whoever reaches that address reaches it",
    }
}

/// A network that the host does not look at.
fn on_the_wire(network: &Network) -> Option<Finding> {
    let is_out = matches!(network.driver, Driver::Macvlan(_) | Driver::Ipvlan(..)) && !network.is_internal;
    let what = || {
        format!(
            "containers of network {} are on interface {} with addresses of their own: its neighbours reach all their \
             ports, and no rule of this host is asked",
            network.name, network.interface
        )
    };
    is_out.then(|| {
        Finding::new(Kind::Open, what(), "--internal, a bridge instead, or rules where the interface leads to")
    })
}

/// Rules that let packets of networks pass a chain of somebody else.
fn ways_through(family: &str, table: &str, chain: &str, bridges: &[&Network]) -> String {
    let names: Vec<String> = bridges.iter().map(|network| network.interface.clone()).collect();
    let set = format!("{{ {} }}", names.join(", "));
    if chain == "FORWARD" {
        let program = if family == "ip6" { "ip6tables" } else { "iptables" };
        let one = |name: &String| {
            format!("{program} -I FORWARD -i {name} -j ACCEPT; {program} -I FORWARD -o {name} -j ACCEPT")
        };
        return names.iter().map(one).collect::<Vec<_>>().join("; ");
    }
    let rule = |side: &str| format!("nft insert rule {family} {table} {chain} {side} '{set}' accept");
    format!("{}; {}", rule("iifname"), rule("oifname"))
}

/// Rules of the time before nftables are nobody's to be read here.
fn old_tables() -> Option<Finding> {
    let files = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"];
    let has_filter =
        |file: &&&str| fs::read_to_string(file).is_ok_and(|names| names.lines().any(|name| name == "filter"));
    files.iter().find(has_filter).map(|_| {
        let what = "rules of the old iptables are loaded too: whether they drop what containers send is not looked at";
        Finding::new(Kind::Notice, what, "iptables-legacy -S FORWARD shows them")
    })
}

fn has_six(network: &Network) -> bool {
    network.pool(strata_net::Family::V6).is_some()
}

/// /proc/sys/net is that of the thread which looks.
fn is_set(name: &str) -> bool {
    // A kernel without the parameter has nothing to forward.
    fs::read_to_string(format!("/proc/sys/{name}")).map_or(true, |value| value.trim() != "0")
}

/// As is this, unlike what is below /sys.
fn is_there(interface: &str) -> bool {
    Path::new("/proc/sys/net/ipv4/conf").join(interface).exists()
}
/// What the host says it is: PRETTY_NAME of os-release(5).
pub fn operating_system() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
    name.trim_matches('"').to_owned()
}
