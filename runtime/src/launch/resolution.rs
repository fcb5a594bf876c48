//! /etc/hosts and resolv.conf of a container: how names lead to addresses there.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
};

use strata_net::{Endpoint, Networks, place::own_address};
use strata_oci::unprivileged;

use crate::{
    proxy,
    record::Record,
    spec::{Network, Resolution},
};

/// Where systemd-resolved tells the servers that it asks itself: its own address is nobody's outside of the host.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// The text of /etc/hosts.
pub fn hosts(hostname: &str, record: &Record) -> String {
    let spec = &record.spec;
    let mut text = "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n"
        .to_owned();
    let names = match spec.resolution.domainname.as_str() {
        "" => hostname.to_owned(),
        domain => format!("{hostname}.{domain} {hostname}"),
    };
    let own: Vec<IpAddr> = record.endpoints.iter().flat_map(|end| &end.addresses).map(|held| held.address).collect();
    match own.as_slice() {
        [] => text.push_str(&format!("127.0.1.1\t{names}\n")),
        own => own.iter().for_each(|address| text.push_str(&format!("{address}\t{names}\n"))),
    }
    for (name, address) in &spec.extra_hosts {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    let names = &spec.resolution.host_gateway_names;
    let gateway = if names.is_empty() { None } else { host_gateway(&spec.network, &record.endpoints) };
    if let Some(gateway) = gateway {
        names.iter().for_each(|name| text.push_str(&format!("{gateway}\t{name}\n")));
    }
    text
}

/// The host as it is reached from the container. None: it is not.
fn host_gateway(network: &Network, endpoints: &[Endpoint]) -> Option<IpAddr> {
    match network {
        Network::Host => Some(Ipv4Addr::LOCALHOST.into()),
        // The gateway is the carrier's.
        Network::Networks(_) if unprivileged::is_limited() => own_address(),
        Network::Networks(_) => Networks::host_gateway(endpoints),
        Network::None | Network::Default | Network::Container(_) => None,
    }
}

/// The text of resolv.conf.
pub fn resolv_conf(record: &Record) -> String {
    let resolution = &record.spec.resolution;
    // A host without one has containers without one.
    let host = || fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    match record.spec.network {
        // Who shares a network has the file of the container that it is of.
        Network::None | Network::Default | Network::Container(_) => rewrite("", resolution),
        Network::Host => rewrite(&host(), resolution),
        Network::Networks(_) if record.endpoints.iter().any(proxy::has_names) => with_own_server(&host(), resolution),
        Network::Networks(_) => {
            let resolved = || fs::read_to_string(RESOLVED).unwrap_or_default();
            without_names(&host(), resolved, resolution)
        }
    }
}

/// Whether a resolv.conf names the server in the network namespace of its container.
pub fn names_own_server(text: &str) -> bool {
    text.lines().filter_map(server).any(|address| address == strata_dns::ADDRESS)
}

/// The host's, as one can use it who has another loopback device. Where the host has servers there alone, the container's
/// own server asks them.
fn without_names(host: &str, resolved: impl FnOnce() -> String, resolution: &Resolution) -> String {
    let has_server = |text: &str| text.lines().any(|line| server(line).is_some());
    let usable = reachable(host);
    if has_server(&usable) || !resolution.servers.is_empty() {
        return rewrite(&usable, resolution);
    }
    let usable = reachable(&resolved());
    match has_server(&usable) {
        true => rewrite(&usable, resolution),
        false => with_own_server(host, resolution),
    }
}

/// With the container's own server, which asks the others. Names without a dot are asked for as they are, before domains are
/// tried, unless somebody says otherwise: most of them are those of containers.
fn with_own_server(host: &str, resolution: &Resolution) -> String {
    let mut options = resolution.options.clone();
    if options.is_empty() {
        let lines = host.lines().filter_map(|line| line.trim_start().strip_prefix("options"));
        options = lines.flat_map(str::split_whitespace).map(str::to_owned).collect();
    }
    if !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push("ndots:0".to_owned());
    }
    let servers = vec![strata_dns::ADDRESS.into()];
    rewrite(host, &Resolution { servers, options, searches: resolution.searches.clone(), ..Resolution::default() })
}

/// Without the servers that only the host itself reaches.
fn reachable(text: &str) -> String {
    let is_usable = |line: &&str| server(line).is_none_or(|address| !address.is_loopback());
    text.lines().filter(is_usable).map(|line| format!("{line}\n")).collect()
}

/// The address in "nameserver 10.0.0.1"; a zone may follow an IPv6 address.
fn server(line: &str) -> Option<IpAddr> {
    let mut words = line.split_whitespace();
    match (words.next(), words.next()) {
        (Some("nameserver"), Some(address)) => address.split('%').next()?.parse().ok(),
        _ => None,
    }
}

/// With what the container says in the place of what the host says.
fn rewrite(host: &str, resolution: &Resolution) -> String {
    let Resolution { servers, searches, options, .. } = resolution;
    if servers.is_empty() && searches.is_empty() && options.is_empty() {
        return host.to_owned();
    }
    let is_replaced = |line: &&str| match line.split_whitespace().next() {
        Some("nameserver") => !servers.is_empty(),
        Some("search" | "domain") => !searches.is_empty(),
        Some("options") => !options.is_empty(),
        _ => false,
    };
    let mut text: String = host.lines().filter(|line| !is_replaced(line)).map(|line| format!("{line}\n")).collect();
    servers.iter().for_each(|server| text.push_str(&format!("nameserver {server}\n")));
    if !searches.is_empty() && searches != &["."] {
        text.push_str(&format!("search {}\n", searches.join(" ")));
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    #[test]
    fn servers_of_the_host_alone_are_left_out() {
        let text = "# made by hand\nnameserver 127.0.0.53\nnameserver ::1\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nsearch x\n";
        assert_eq!(reachable(text), "# made by hand\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nsearch x\n");
    }

    #[test]
    fn what_a_container_says_stands_in_the_place_of_the_hosts() {
        let host = "nameserver 10.0.0.1\nsearch home\noptions edns0\n";
        let rewritten = |change: fn(&mut Resolution)| {
            let mut resolution = Resolution::default();
            change(&mut resolution);
            rewrite(host, &resolution)
        };
        assert_eq!(rewritten(|_| {}), host);
        assert_eq!(
            rewritten(|all| all.servers = vec!["9.9.9.9".parse().unwrap(), "2620:fe::fe".parse().unwrap()]),
            "search home\noptions edns0\nnameserver 9.9.9.9\nnameserver 2620:fe::fe\n"
        );
        assert_eq!(rewritten(|all| all.searches = vec![".".into()]), "nameserver 10.0.0.1\noptions edns0\n");
        assert_eq!(
            rewritten(|all| all.options = vec!["ndots:2".into(), "rotate".into()]),
            "nameserver 10.0.0.1\nsearch home\noptions ndots:2 rotate\n"
        );
    }

    #[test]
    fn the_containers_own_server_stands_in_the_place_of_all_others() {
        let host = "nameserver 10.0.0.1\nsearch home\noptions edns0 trust-ad\n";
        let of = |host: &str, change: fn(&mut Resolution)| {
            let mut resolution = Resolution::default();
            change(&mut resolution);
            with_own_server(host, &resolution)
        };
        assert_eq!(of(host, |_| {}), "search home\nnameserver 127.0.0.11\noptions edns0 trust-ad ndots:0\n");
        assert_eq!(
            of(host, |all| {
                all.servers = vec!["9.9.9.9".parse().unwrap()];
                all.searches = vec![".".into()];
                all.options = vec!["ndots:2".into()];
            }),
            "nameserver 127.0.0.11\noptions ndots:2\n",
            "it asks the servers that were given"
        );
        assert_eq!(of("options ndots:3\n", |_| {}), "nameserver 127.0.0.11\noptions ndots:3\n");
        assert!(
            names_own_server(&of("", |_| {})) && !names_own_server("nameserver 127.0.0.1\n#nameserver 127.0.0.11\n")
        );
    }

    #[test]
    fn without_names_the_hosts_servers_are_asked_where_they_can_be_reached() {
        let plain = Resolution::default();
        let resolved = || "nameserver 10.9.9.9\nsearch home\n".to_owned();
        assert_eq!(without_names("nameserver 10.0.0.1\n", resolved, &plain), "nameserver 10.0.0.1\n");
        assert_eq!(without_names("nameserver 127.0.0.53\n", resolved, &plain), resolved());
        let own = without_names("nameserver 127.0.0.1\n", String::new, &plain);
        assert!(names_own_server(&own), "a server on the loopback device of the host is reached through ours: {own}");
        let given = Resolution { servers: vec!["9.9.9.9".parse().unwrap()], ..plain };
        assert_eq!(without_names("nameserver 127.0.0.1\n", String::new, &given), "nameserver 9.9.9.9\n");
    }

    #[test]
    fn a_container_finds_itself_and_the_host() {
        let mut record = record(1, "one");
        record.spec.resolution.domainname = "example.org".into();
        record.spec.extra_hosts = vec![("db".into(), "10.0.0.9".parse().unwrap())];
        assert!(hosts("box", &record).ends_with("127.0.1.1\tbox.example.org box\n10.0.0.9\tdb\n"));
        record.spec.network = Network::Host;
        record.spec.resolution.host_gateway_names = vec!["host.internal".into()];
        assert!(hosts("box", &record).ends_with("127.0.0.1\thost.internal\n"));
    }
}
