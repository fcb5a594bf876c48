//! Ports of a container: which it has, and which of them lead from the host.

use serde::{Deserialize, Serialize};
use strata_types::{Port, PortBinding};

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

#[cfg(test)]
mod tests {
    use super::*;

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
