//! Ports of a container: which it has, and which of them lead from the host.

use serde::{Deserialize, Serialize};
use strata_net::Published;
use strata_types::{Port, PortBinding, PortRange};

use super::Network;
use crate::error::Error;

/// Ports of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ports {
    /// Where on the host it shall be reached.
    pub bindings: Vec<PortBinding>,
    /// What its programs are said to listen on, the image's included once it is made; in order.
    pub exposed: Vec<Port>,
    /// Exposed ports are published too.
    pub publishes_all: bool,
}

impl Ports {
    /// Everything that is to be published.
    pub fn wanted(&self) -> Vec<PortBinding> {
        let mut wanted = self.bindings.clone();
        if self.publishes_all {
            let is_bound = |port: &Port| self.bindings.iter().any(|binding| binding.port == *port);
            let open = self.exposed.iter().filter(|port| !is_bound(port));
            wanted.extend(open.map(|port| PortBinding { port: *port, address: None, host: None }));
        }
        wanted
    }

    /// Whether something is to be published.
    fn wants_some(&self) -> bool {
        self.publishes_all || !self.bindings.is_empty()
    }

    /// Adds ports that are exposed. What an image has there and is no port is left out.
    pub fn expose<'a>(&mut self, ports: impl Iterator<Item = &'a String>) {
        self.exposed.extend(ports.filter_map(|port| port.parse::<Port>().ok()));
        self.exposed.sort_unstable();
        self.exposed.dedup();
    }

    /// Forgets what `which` names, and takes what came of it out of `published`. What else came of the same binding is
    /// kept as bindings of its own. False: nothing is named so.
    pub fn close(&mut self, published: &mut Vec<Published>, which: &PortBinding) -> bool {
        if self.publishes_all && !self.bindings.iter().any(|binding| binding.port == which.port) {
            // From here on it is not all of them.
            (self.bindings, self.publishes_all) = (self.wanted(), false);
        }
        let (gone, left): (Vec<Published>, Vec<Published>) = published.iter().partition(|one| covers(which, one));
        let mut found = !gone.is_empty();
        let mut kept: Vec<PortBinding> = Vec::new();
        for binding in std::mem::take(&mut self.bindings) {
            if is_named(&binding, which) {
                found = true;
            } else if gone.iter().any(|one| covers(&binding, one)) {
                let rest = left.iter().filter(|one| covers(&binding, one)).map(exactly);
                let rest: Vec<PortBinding> = rest.filter(|one| !kept.contains(one)).collect();
                kept.extend(rest);
            } else {
                kept.push(binding);
            }
        }
        self.bindings = kept;
        *published = left;
        found
    }

    /// Refuses what has nowhere to lead to.
    pub fn check(&self, network: &Network) -> Result<(), Error> {
        match network {
            Network::None if self.wants_some() => {
                Err(Error::argument("spec.port_bindings", "a container without a network has no ports to publish"))
            }
            Network::Container(_) if self.wants_some() || !self.exposed.is_empty() => Err(Error::argument(
                "spec.port_bindings",
                "conflicting options: the ports of a container that shares another one's network are that one's",
            )),
            _ => Ok(()),
        }
    }

    /// What is not as it was asked for.
    pub fn warning(&self, network: &Network) -> Option<&'static str> {
        match network {
            Network::Host if self.wants_some() => {
                Some("published ports are discarded: the ports of a container in the host's network are the host's")
            }
            _ => None,
        }
    }
}

/// Whether a published port may have come of a binding.
fn covers(binding: &PortBinding, published: &Published) -> bool {
    binding.port == published.port
        && binding.address.is_none_or(|address| address == published.address)
        && binding.host.is_none_or(|range| (range.first..=range.last).contains(&published.host_port))
}

/// Whether a binding is one of those that another one names.
fn is_named(binding: &PortBinding, which: &PortBinding) -> bool {
    binding.port == which.port
        && (which.address.is_none() || which.address == binding.address)
        && (which.host.is_none() || which.host == binding.host)
}

/// The binding that a published port alone would come of.
fn exactly(published: &Published) -> PortBinding {
    let host = Some(PortRange::of(published.host_port));
    PortBinding { port: published.port, address: Some(published.address), host }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(texts: &[&str]) -> Vec<Published> {
        let one = |text: &&str| {
            let binding = PortBinding::parse(text).unwrap().remove(0);
            Published { port: binding.port, address: binding.address.unwrap(), host_port: binding.host.unwrap().first }
        };
        texts.iter().map(one).collect()
    }

    #[test]
    fn what_is_closed_is_forgotten_and_what_else_came_of_it_is_kept() {
        let both = ["0.0.0.0:8080:80", "[::]:8080:80"];
        for (bindings, open, which, expected, left) in [
            (&["8080:80"][..], &both[..], "80", &[][..], 0),
            (&["8080:80"], &both, "8080:80", &[], 0),
            (&["8080:80", "8081:81"], &both, "80", &["8081:81/tcp"], 0),
            (&["8080:80"], &both, "0.0.0.0:8080:80", &["[::]:8080:80/tcp"], 1),
            (&["80"], &both, "8080:80", &[], 0),
            (&["8080-8090:80"], &both, "8080:80", &[], 0),
            (&["80"], &both, "[::]::80", &["0.0.0.0:8080:80/tcp"], 1),
            // A container that does not run.
            (&["8080:80", "127.0.0.1:8080:81"], &[], "80", &["127.0.0.1:8080:81/tcp"], 0),
        ] {
            let parsed = bindings.iter().flat_map(|text| PortBinding::parse(text).unwrap()).collect();
            let mut ports = Ports { bindings: parsed, ..Ports::default() };
            let mut open = published(open);
            let which = PortBinding::parse(which).unwrap().remove(0);
            assert!(ports.close(&mut open, &which), "{bindings:?} {which}");
            let kept: Vec<String> = ports.bindings.iter().map(PortBinding::to_string).collect();
            assert_eq!((kept.join(" "), open.len()), (expected.join(" "), left), "{bindings:?} {which}");
            assert!(!ports.close(&mut open, &which), "{bindings:?} {which}");
        }
    }

    #[test]
    fn of_all_exposed_ports_one_may_be_closed() {
        let mut ports = Ports { publishes_all: true, ..Ports::default() };
        ports.expose(["80/tcp", "443/tcp"].map(String::from).iter());
        let mut open = published(&["0.0.0.0:32768:80", "0.0.0.0:32769:443"]);
        assert!(ports.close(&mut open, &PortBinding::parse("80").unwrap()[0]));
        let kept: Vec<String> = ports.bindings.iter().map(PortBinding::to_string).collect();
        assert_eq!((kept.join(" ").as_str(), ports.publishes_all, open.len()), ("443/tcp", false, 1));
    }

    #[test]
    fn exposed_ports_are_published_unless_they_are_bound() {
        let mut ports = Ports { bindings: PortBinding::parse("8080:80").unwrap(), ..Ports::default() };
        ports.expose(["80/tcp", "443/tcp", "53/udp", "443/tcp", "nonsense"].map(String::from).iter());
        let wanted = |ports: &Ports| ports.wanted().iter().map(PortBinding::to_string).collect::<Vec<_>>();
        assert_eq!(wanted(&ports), ["8080:80/tcp"]);
        ports.publishes_all = true;
        assert_eq!(wanted(&ports), ["8080:80/tcp", "53/udp", "443/tcp"]);
    }

    #[test]
    fn without_a_network_nothing_is_published() {
        let ports = Ports { publishes_all: true, ..Ports::default() };
        assert!(ports.check(&Network::None).is_err() && ports.check(&Network::Host).is_ok());
        assert!(ports.check(&Network::Container("web".into())).is_err());
        assert!(ports.warning(&Network::Host).is_some() && ports.warning(&Network::Networks(vec![])).is_none());
        let none = Ports::default();
        assert!(none.check(&Network::None).is_ok() && none.warning(&Network::Host).is_none());
    }
}
