//! Ports of the host: chosen, held, led to containers, given back. All of a request is there, or nothing of it.

use std::net::{IpAddr, SocketAddr};

use rustix::{fd::OwnedFd, io::Errno};
use strata_types::{ContainerId, Port, PortBinding, PortRange, Protocol};

use super::{Networks, random};
use crate::{
    conntrack,
    endpoint::Endpoint,
    error::{Attempt, Error},
    firewall,
    holder::holder,
    namespace::set_parameter,
    network::Network,
    ports::{Door, Mapping, Owner, Published, Survivor},
    socket,
};

/// How often a free port is tried that must be free on several addresses.
const TRIES: u32 = 256;

/// Ports of one container.
#[derive(Debug)]
pub(super) struct Holding {
    name: String,
    mappings: Vec<Mapping>,
}

/// Sockets that hold a port, by address of the host.
type Sockets = Vec<(IpAddr, Option<OwnedFd>)>;

impl Networks {
    /// Where ports are published when neither the container nor its network says so.
    pub fn set_publish_addresses(&mut self, addresses: Vec<IpAddr>) {
        self.publish_addresses = addresses;
    }

    /// Takes up the ports of a container that runs already; `hold_again` holds them.
    pub(super) fn take_up_ports(&mut self, survivor: &Survivor) {
        let Some(endpoint) = way_out(&survivor.endpoints) else { return };
        let mappings = survivor.published.iter().filter_map(|published| self.mapping(published, endpoint));
        let mappings: Vec<Mapping> = mappings.collect();
        if !mappings.is_empty() {
            let holding = Holding { name: survivor.owner.name.clone(), mappings };
            self.ports.insert(survivor.owner.id.clone(), holding);
        }
    }

    /// The ports of a container, and where they lead now.
    pub fn doors_of(&self, id: &ContainerId) -> Vec<(Published, SocketAddr)> {
        let mappings = self.ports.get(id).into_iter().flat_map(|holding| &holding.mappings);
        mappings.map(|mapping| (mapping.published, mapping.target)).collect()
    }

    /// Holds a port again that a container has, and that nobody holds. Where another program has taken it, that is told, and
    /// the port leads to its container all the same. None: it is no longer published.
    pub fn hold_again(&self, id: &ContainerId, published: &Published) -> Result<Option<Door>, Error> {
        let mut mappings = self.ports.get(id).into_iter().flat_map(|holding| &holding.mappings);
        let Some(mapping) = mappings.find(|mapping| mapping.published == *published) else { return Ok(None) };
        let address = SocketAddr::new(published.address, published.host_port);
        let held = socket::hold(published.port.protocol, address).map_err(|errno| {
            let range = PortRange::of(published.host_port);
            self.refusal(published.port, published.address, range, None, errno)
        })?;
        let (socket, within) = (held.map(|(socket, _)| socket), self.hold_within(published));
        Ok(Some(Door { published: *published, socket, within, target: mapping.target }))
    }

    /// Publishes ports of a container with these endpoints, beside those that it has. A container without a way out has
    /// nowhere to be reached: nothing is published.
    pub fn publish(
        &mut self,
        owner: &Owner,
        bindings: &[PortBinding],
        endpoints: &[Endpoint],
    ) -> Result<Vec<Door>, Error> {
        let Some(endpoint) = way_out(endpoints) else { return Ok(Vec::new()) };
        let Some(network) = self.entries.get(&endpoint.network).map(|entry| entry.network.clone()) else {
            return Ok(Vec::new());
        };
        let (mut doors, mut mappings): (Vec<Door>, Vec<Mapping>) = (Vec::new(), Vec::new());
        for binding in bindings {
            if binding.port.protocol == Protocol::Sctp && self.place.carrier().is_some() {
                return Err(Error::argument("ports", "SCTP is led by the kernel alone, on networks of root"));
            }
            let (host_port, held) = self.hold(binding, &network, &mappings, owner)?;
            for (address, socket) in held {
                let published = Published { port: binding.port, address, host_port };
                let mapping = self.mapping(&published, endpoint).expect("an endpoint has an address");
                let within = self.hold_within(&published);
                doors.push(Door { published, socket, within, target: mapping.target });
                mappings.push(mapping);
            }
        }
        if mappings.is_empty() {
            return Ok(doors);
        }
        let holding = || Holding { name: owner.name.clone(), mappings: Vec::new() };
        let count = mappings.len();
        self.ports.entry(owner.id.clone()).or_insert_with(holding).mappings.extend(mappings);
        if let Err(error) = self.lead(&owner.id, count) {
            if let Some(holding) = self.ports.get_mut(&owner.id) {
                holding.mappings.truncate(holding.mappings.len() - count);
            }
            let _first_error_is_told = self.apply_firewall();
            return Err(error);
        }
        Ok(doors)
    }

    /// Tells the kernel of the last ports of a container.
    fn lead(&self, id: &ContainerId, count: usize) -> Result<(), Error> {
        let all = self.ports.get(id).map_or(&[][..], |holding| &holding.mappings);
        let new: Vec<&Mapping> = all[all.len() - count..].iter().collect();
        for mapping in new.iter().filter(|mapping| mapping.has_loopback()) {
            // From 127.0.0.1 to a container: the table lets nobody else do so.
            let name = format!("net/ipv4/conf/{}/route_localnet", mapping.bridge);
            let attempt = || format!("let {} be reached from 127.0.0.1", mapping.bridge);
            self.place.within(|| set_parameter(&name, "1").attempt(attempt))?;
        }
        self.change_ports(&[], &new)
    }

    /// Changes elements of the maps. Where the table is not what it should be, it is made anew.
    fn change_ports(&self, gone: &[&Mapping], new: &[&Mapping]) -> Result<(), Error> {
        self.place.within(|| {
            firewall::ports::change(&self.names.table, gone, new).or_else(|_| self.apply_firewall_here())?;
            // Without it they are forgotten a little later.
            let _best_effort = conntrack::forget(gone.iter().chain(new).copied());
            Ok(())
        })
    }

    /// Takes ports back; what is not there is no error. The caller closes their sockets.
    pub fn unpublish(&mut self, id: &ContainerId, which: impl Fn(&Published) -> bool) -> Result<(), Error> {
        let Some(holding) = self.ports.get_mut(id) else { return Ok(()) };
        let all = std::mem::take(&mut holding.mappings);
        let (gone, kept): (Vec<Mapping>, Vec<Mapping>) = all.into_iter().partition(|mapping| which(&mapping.published));
        holding.mappings = kept;
        if holding.mappings.is_empty() {
            self.ports.remove(id);
        }
        self.change_ports(&gone.iter().collect::<Vec<_>>(), &[])
    }

    /// Whether a container has ports.
    pub fn has_ports(&self, id: &ContainerId) -> bool {
        self.ports.contains_key(id)
    }

    /// Leads the ports of a container to where it is reached now, and says where that is.
    pub fn retarget(
        &mut self,
        id: &ContainerId,
        endpoints: &[Endpoint],
    ) -> Result<Vec<(Published, SocketAddr)>, Error> {
        let (Some(endpoint), Some(holding)) = (way_out(endpoints), self.ports.get(id)) else { return Ok(Vec::new()) };
        let old = holding.mappings.clone();
        let new: Vec<Mapping> = old.iter().filter_map(|mapping| self.mapping(&mapping.published, endpoint)).collect();
        let targets = new.iter().map(|mapping| (mapping.published, mapping.target)).collect();
        if new != old {
            if let Some(holding) = self.ports.get_mut(id) {
                holding.mappings = new;
            }
            self.change_ports(&old.iter().collect::<Vec<_>>(), &[])?;
            self.lead(id, old.len())?;
        }
        Ok(targets)
    }

    pub(super) fn mappings(&self) -> Vec<&Mapping> {
        self.ports.values().flat_map(|holding| &holding.mappings).collect()
    }

    fn mapping(&self, published: &Published, endpoint: &Endpoint) -> Option<Mapping> {
        let bridge = self.entries.get(&endpoint.network)?.network.interface.clone();
        Some(Mapping { published: *published, target: published.target(endpoint)?, bridge })
    }

    /// Holds what a binding asks for: the first port of its range that is free on all addresses.
    fn hold(
        &self,
        binding: &PortBinding,
        network: &Network,
        own: &[Mapping],
        owner: &Owner,
    ) -> Result<(u16, Sockets), Error> {
        let is_default = binding.address.is_none();
        let addresses = binding.address.map_or_else(|| self.addresses_of(network), |address| vec![address]);
        let try_one = |number: u16| self.hold_on(binding.port, number, &addresses, is_default, own, owner);
        let (first, last) = socket::ephemeral();
        let range = binding.host.unwrap_or(PortRange { first, last });
        let candidates: Box<dyn Iterator<Item = u16>> = match binding.host {
            Some(range) => Box::new(range.numbers()),
            None => Box::new((0..TRIES).map(|_| any_port(binding.port.protocol, range))),
        };
        let mut refused = None;
        for number in candidates {
            match try_one(number) {
                Err(one) if one.errno == Errno::ADDRINUSE => refused = Some(one),
                result => return result.map_err(|one| one.into_error(self, binding.port, range)),
            }
        }
        Err(refused.expect("a range has one port at least").into_error(self, binding.port, range))
    }

    /// Holds a port on all of some addresses; 0 is the one that is free on the first.
    fn hold_on(
        &self,
        port: Port,
        number: u16,
        addresses: &[IpAddr],
        is_default: bool,
        own: &[Mapping],
        owner: &Owner,
    ) -> Result<(u16, Sockets), Refused> {
        let (mut number, mut held): (u16, Sockets) = (number, Vec::new());
        for address in addresses {
            let refused = |errno, holder| Refused { address: *address, errno, holder };
            let published = Published { port, address: *address, host_port: number };
            let of_another = self.ports.values().find(|holding| holding.excludes(&published));
            let is_own = own.iter().any(|mapping| mapping.excludes(&published));
            let holder = is_own.then_some(&owner.name).or(of_another.map(|holding| &holding.name));
            if let Some(name) = holder {
                return Err(refused(Errno::ADDRINUSE, Some(format!("container {name}"))));
            }
            match socket::hold(port.protocol, SocketAddr::new(*address, number)) {
                Ok(Some((socket, bound))) => {
                    number = bound;
                    held.push((*address, Some(socket)));
                }
                Ok(None) => held.push((*address, None)),
                // The host has no IPv6, and nobody asked for it.
                Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)
                    if is_default && address.is_ipv6() && !held.is_empty() => {}
                Err(errno) => return Err(refused(errno, None)),
            }
        }
        Ok((number, held))
    }

    /// Holds a port of all addresses in the carrier, where nobody else takes any. Without it the host's address is left.
    fn hold_within(&self, published: &Published) -> Option<OwnedFd> {
        let carrier = self.place.carrier().filter(|_| published.address.is_unspecified())?;
        let address = SocketAddr::new(published.address, published.host_port);
        let held = carrier.enter(|| socket::hold(published.port.protocol, address)).ok()?.ok()?;
        held.map(|(socket, _)| socket)
    }

    /// Where a network publishes ports.
    fn addresses_of(&self, network: &Network) -> Vec<IpAddr> {
        match network.host_binding {
            Some(address) if address.is_unspecified() => socket::everywhere(),
            Some(address) => vec![address],
            None => self.publish_addresses.clone(),
        }
    }

    fn refusal(
        &self,
        port: Port,
        address: IpAddr,
        range: PortRange,
        holder_name: Option<String>,
        errno: Errno,
    ) -> Error {
        match errno {
            Errno::ADDRINUSE => {
                let program = || holder(port.protocol, SocketAddr::new(address, range.first));
                let holder = holder_name.or_else(program).unwrap_or_else(|| "another program".to_owned());
                Error::PortTaken { ports: range, protocol: port.protocol, address, holder }
            }
            Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT => Error::NotOfHost { address },
            Errno::ACCESS => Error::PortOfRoot { ports: range, protocol: port.protocol, address },
            errno => Error::Kernel {
                attempt: format!("publish port {port} on port {range} of {address}"),
                source: errno.into(),
            },
        }
    }
}

impl Holding {
    fn excludes(&self, published: &Published) -> bool {
        self.mappings.iter().any(|mapping| mapping.excludes(published))
    }
}

/// A port that cannot be had.
struct Refused {
    address: IpAddr,
    errno: Errno,
    /// Who has it, if that is a container.
    holder: Option<String>,
}

impl Refused {
    fn into_error(self, networks: &Networks, port: Port, range: PortRange) -> Error {
        networks.refusal(port, self.address, range, self.holder, self.errno)
    }
}

/// What stands for any free port: 0 where a socket holds it, else one by chance.
fn any_port(protocol: Protocol, range: PortRange) -> u16 {
    if protocol != Protocol::Sctp {
        return 0;
    }
    let chance: [u8; 4] = random().unwrap_or_default();
    let offset = u32::from_ne_bytes(chance) as usize % range.count();
    range.numbers().nth(offset).unwrap_or(range.first)
}

/// Where ports lead: the way out, if it goes through the host. Who has an interface of its own has its own ports.
fn way_out(endpoints: &[Endpoint]) -> Option<&Endpoint> {
    endpoints.iter().find(|endpoint| endpoint.is_way_out && endpoint.driver.is_bridge())
}
