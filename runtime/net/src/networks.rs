//! All networks of a runtime: made, found, removed, and which container has what of them. Every call blocks; the runtime
//! keeps it behind a lock, on threads for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::Path,
};

use jiff::Timestamp;
use rustix::rand::GetRandomFlags;
use strata_types::{ContainerId, NetworkId, NetworkName};

use crate::{
    bridge,
    endpoint::{self, Attachment, Endpoint, Held},
    error::{Attempt, Error},
    firewall,
    host::{Names, is_interface_name},
    ipam::{Leases, choose_subnet},
    mac::Mac,
    netlink::Socket,
    network::{DEFAULT, Driver, Macvlan, Network, Pool, PoolWish, RESERVED, Wish},
    parent,
    place::Place,
    ports::Survivor,
    prefix::{Family, Prefix},
    records::{Records, VERSION},
    route::Link,
    socket,
};

mod ports;

/// How many of several networks an error names.
const MOST_CANDIDATES: usize = 5;

/// A network, and who has which of its addresses.
#[derive(Debug)]
struct Entry {
    network: Network,
    leases: Leases,
}

/// All networks.
#[derive(Debug)]
pub struct Networks {
    names: Names,
    place: Place,
    records: Records,
    entries: BTreeMap<NetworkId, Entry>,
    ports: BTreeMap<ContainerId, ports::Holding>,
    /// Where ports are published when nothing is said.
    publish_addresses: Vec<IpAddr>,
}

/// What a start found that is not as it should be. The service starts all the same.
pub type Complaints = Vec<Error>;

impl Networks {
    /// Reads the records below a root and makes the host what they and those of running containers say. Ends of pairs that
    /// are none of theirs are removed; `hold_again` holds their ports.
    pub fn open(root: &Path, place: Place, running: &[Survivor]) -> Result<(Self, Complaints), Error> {
        let records = Records::below(root);
        let (networks, mut complaints) = records.load()?;
        let entry = |network: Network| (network.id.clone(), Entry { network, leases: Leases::default() });
        let entries = networks.into_iter().map(entry).collect();
        let (ports, publish_addresses) = (BTreeMap::new(), socket::everywhere());
        let mut this = Self { names: Names::of(root), place, records, entries, ports, publish_addresses };
        for survivor in running {
            for endpoint in &survivor.endpoints {
                let Some(entry) = this.entries.get_mut(&endpoint.network) else { continue };
                endpoint.addresses.iter().for_each(|held| entry.leases.keep(held.address, &survivor.owner.id));
            }
            this.take_up_ports(survivor);
        }
        if !this.entries.is_empty() {
            let used = running.iter().flat_map(|one| &one.endpoints).map(|end| end.host_interface.as_str());
            let used = used.collect();
            match this.place.within(|| Ok(this.restore(&used))) {
                Ok(found) => complaints.extend(found),
                Err(error) => complaints.push(error),
            }
        }
        Ok((this, complaints))
    }

    /// Makes what is missing where networks are, which is where this thread is.
    fn restore(&self, used: &BTreeSet<&str>) -> Complaints {
        let mut complaints = Complaints::new();
        let socket = match route_socket() {
            Ok(socket) => socket,
            Err(error) => return vec![error],
        };
        complaints.extend(endpoint::sweep(&socket, &self.names.endpoints(), used).err());
        for entry in self.entries.values() {
            let ensured = match entry.network.driver {
                Driver::Bridge => bridge::ensure(&socket, &entry.network),
                Driver::Macvlan(_) | Driver::Ipvlan(..) => parent::ensure(&socket, &entry.network),
            };
            complaints.extend(ensured.err());
        }
        complaints.extend(self.apply_firewall_here().err());
        complaints
    }

    /// Name of the table of nftables.
    pub fn table(&self) -> &str {
        &self.names.table
    }

    /// Makes the table of nftables anew, if there are networks.
    pub fn apply_firewall(&self) -> Result<(), Error> {
        self.place.within(|| self.apply_firewall_here())
    }

    fn apply_firewall_here(&self) -> Result<(), Error> {
        let networks: Vec<&Network> = self.entries.values().map(|entry| &entry.network).collect();
        firewall::apply(&self.names.table, &networks, &self.mappings())
    }

    /// Whether there are no networks.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Networks with ids above `after`, in order.
    pub fn after(&self, after: &str) -> impl Iterator<Item = &Network> {
        self.entries.values().map(|entry| &entry.network).filter(move |network| network.id.as_str() > after)
    }

    /// Finds a network by id, name or unique id prefix.
    pub fn find(&self, text: &str) -> Result<&Network, Error> {
        let all = || self.entries.values().map(|entry| &entry.network);
        let exact = all().find(|network| network.id.as_str() == text);
        if let Some(network) = exact.or_else(|| all().find(|network| network.name.as_str() == text)) {
            return Ok(network);
        }
        let mut starts = all().filter(|network| !text.is_empty() && network.id.as_str().starts_with(text));
        match (starts.next(), starts.next()) {
            (Some(network), None) => Ok(network),
            (Some(_), Some(_)) => {
                let all = all().filter(|network| network.id.as_str().starts_with(text)).take(MOST_CANDIDATES);
                let short = |id: &str| id[..(text.len() + 4).clamp(12, id.len())].to_owned();
                let shown = all.map(|one| format!("{} ({})", short(one.id.as_str()), one.name.as_str()));
                Err(Error::Ambiguous { prefix: text.to_owned(), candidates: shown.collect() })
            }
            (None, _) => Err(Error::NotFound { name: text.to_owned() }),
        }
    }

    /// Finds a network for a container; the default one is made when it is not there yet.
    pub fn find_or_default(&mut self, text: &str) -> Result<Network, Error> {
        match self.find(text) {
            Err(Error::NotFound { .. }) if text == DEFAULT => {
                let name = NetworkName::parse(DEFAULT).expect("it follows the rule");
                self.place.within(|| remove_leftover(&self.names.bridge))?;
                let interface = Some(self.names.bridge.clone());
                self.make(Wish { interface, ..Wish::bridge(name) })
            }
            found => found.cloned(),
        }
    }

    /// Makes a network.
    pub fn create(&mut self, wish: Wish) -> Result<Network, Error> {
        let name = wish.name.to_string();
        if name == DEFAULT || RESERVED.contains(&name.as_str()) {
            return Err(Error::Predefined { name, what: "made" });
        }
        self.make(wish)
    }

    fn make(&mut self, wish: Wish) -> Result<Network, Error> {
        if let Some(entry) = self.entries.values().find(|entry| entry.network.name == wish.name) {
            let holder = entry.network.id.to_string();
            return Err(Error::NameTaken { name: wish.name.to_string(), holder });
        }
        let network = self.settle(wish)?;
        // The record first: what is on the host without one is nobody's.
        self.records.write(&network)?;
        self.entries.insert(network.id.clone(), Entry { network: network.clone(), leases: Leases::default() });
        let made = self.place.within(|| {
            let socket = route_socket()?;
            match network.driver {
                Driver::Bridge => bridge::make(&socket, &network)?,
                Driver::Macvlan(_) | Driver::Ipvlan(..) => parent::make(&socket, &network)?,
            };
            self.apply_firewall_here().inspect_err(|_| {
                if !self.is_interface_of_others(&network) {
                    let _first_error_is_told = remove_interface(&socket, &network);
                }
            })
        });
        if let Err(error) = made {
            self.entries.remove(&network.id);
            let _first_error_is_told = self.records.remove(&network.id);
            return Err(error);
        }
        Ok(network)
    }

    /// Decides everything about a network that is to be made.
    fn settle(&self, wish: Wish) -> Result<Network, Error> {
        let id = NetworkId::from_bytes(random()?);
        let is_bridge = wish.driver.is_bridge();
        let leads_nowhere = !is_bridge && wish.interface.is_none();
        let interface = wish.interface.unwrap_or_else(|| self.names.of_network(&id));
        if !is_interface_name(&interface) {
            return Err(Error::argument("interface", format!("{interface:?} is no name of an interface")));
        }
        if wish.mtu.is_some_and(|mtu| !(68..=65535).contains(&mtu) || (wish.has_ipv6 && mtu < 1280)) {
            return Err(Error::argument("mtu", "it is 68 to 65535, and 1280 at least with IPv6"));
        }
        let found = match is_bridge || leads_nowhere {
            true => None,
            false => self.look_for_parent(wish.driver, &interface)?,
        };
        // One that was made for a network is that of all that are on it: it goes with the last of them.
        let has_own_interface = found.is_none() || self.is_made(&interface);
        let pools = self.settle_pools(wish.pools, wish.has_ipv4, wish.has_ipv6)?;
        let usual_mtu = || found.as_ref().map_or_else(|| bridge::usual_mtu(&self.place), |link| Ok(link.mtu));
        Ok(Network {
            version: VERSION,
            id,
            name: wish.name,
            driver: wish.driver,
            pools,
            is_internal: wish.is_internal || leads_nowhere,
            interface,
            mtu: wish.mtu.map_or_else(usual_mtu, Ok)?,
            has_own_interface,
            is_open_within: wish.is_open_within,
            has_masquerade: wish.has_masquerade,
            host_binding: wish.host_binding,
            labels: wish.labels,
            created_at: Timestamp::now(),
        })
    }

    /// Whether an interface was made for a network.
    fn is_made(&self, interface: &str) -> bool {
        let mut networks = self.entries.values().map(|entry| &entry.network);
        networks.any(|network| network.has_own_interface && network.interface == interface)
    }

    /// Looks for an interface of the host, and whether it can be had for one network more. `None`: it is to be made.
    fn look_for_parent(&self, driver: Driver, interface: &str) -> Result<Option<Link>, Error> {
        if self.place.carrier().is_some() {
            return Err(Error::argument("parent", "an ordinary user's networks are apart from the host's interfaces"));
        }
        let is_whole = |driver| driver == Driver::Macvlan(Macvlan::Passthru);
        let others = self.entries.values().map(|entry| &entry.network);
        let mut on_it = others.filter(|other| !other.driver.is_bridge() && other.interface == interface);
        if let Some(other) = on_it.find(|other| is_whole(other.driver) || is_whole(driver)) {
            return Err(Error::ParentTaken { name: interface.to_owned(), holder: other.name.to_string() });
        }
        parent::look_for(&route_socket()?, interface)
    }

    fn settle_pools(&self, wishes: Vec<PoolWish>, has_ipv4: bool, has_ipv6: bool) -> Result<Vec<Pool>, Error> {
        let mut pools: Vec<Pool> = Vec::new();
        for wish in wishes {
            let pool = wish.settle()?;
            if pools.iter().any(|other| other.subnet.family() == pool.subnet.family()) {
                return Err(Error::argument("subnet", "a bridge has one subnet of each version of the protocol"));
            }
            self.check_overlap(&pool.subnet)?;
            pools.push(pool);
        }
        for (family, is_wanted) in [(Family::V4, has_ipv4), (Family::V6, has_ipv6)] {
            if is_wanted && !pools.iter().any(|pool| pool.subnet.family() == family) {
                let subnet = choose_subnet(family, &self.taken(family)?, random()?)?;
                pools.push(PoolWish::of(subnet).settle()?);
            }
        }
        match pools.is_empty() {
            true => Err(Error::argument("subnet", "a network has addresses of IPv4, of IPv6, or of both")),
            false => Ok(pools),
        }
    }

    fn check_overlap(&self, subnet: &Prefix) -> Result<(), Error> {
        for Entry { network, .. } in self.entries.values() {
            if let Some(pool) = network.pools.iter().find(|pool| pool.subnet.overlaps(subnet)) {
                let holder = network.name.to_string();
                return Err(Error::Overlap { subnet: *subnet, other: pool.subnet, holder });
            }
        }
        Ok(())
    }

    /// Subnets of networks, and where the host has routes to.
    fn taken(&self, family: Family) -> Result<Vec<Prefix>, Error> {
        let networks = self.entries.values().flat_map(|entry| entry.network.pools.iter().map(|pool| pool.subnet));
        let routes = self.place.routes(family)?.into_iter().filter_map(|route| route.to).filter(|to| to.length() > 0);
        Ok(networks.filter(|subnet| subnet.family() == family).chain(routes).collect())
    }

    /// Removes a network that no running container uses.
    pub fn delete(&mut self, id: &NetworkId) -> Result<(), Error> {
        let Some(entry) = self.entries.get(id) else { return Err(Error::NotFound { name: id.to_string() }) };
        let network = entry.network.clone();
        if network.is_default() {
            return Err(Error::Predefined { name: network.name.to_string(), what: "removed" });
        }
        self.remove(id)
    }

    /// Removes every network, the default one too, and with the last of them the table of nftables. Returns how many.
    pub fn clear(&mut self) -> Result<usize, Error> {
        let all: Vec<NetworkId> = self.entries.keys().cloned().collect();
        // One that stays is no reason for the others to.
        let done: Vec<Result<(), Error>> = all.iter().map(|id| self.remove(id)).collect();
        done.into_iter().collect::<Result<Vec<()>, Error>>().map(|done| done.len())
    }

    fn remove(&mut self, id: &NetworkId) -> Result<(), Error> {
        let Some(entry) = self.entries.get(id) else { return Err(Error::NotFound { name: id.to_string() }) };
        let network = entry.network.clone();
        let holders: Vec<String> = entry.leases.holders().iter().map(|id| id.short().to_owned()).collect();
        if !holders.is_empty() {
            return Err(Error::InUse { name: network.name.to_string(), holders });
        }
        if !self.is_interface_of_others(&network) {
            self.place.within(|| remove_interface(&route_socket()?, &network))?;
        }
        let entry = self.entries.remove(id);
        if let Err(error) = self.apply_firewall() {
            self.entries.extend(entry.map(|entry| (id.clone(), entry)));
            return Err(error);
        }
        // The record last: a crash before it makes the network again, with nobody in it.
        self.records.remove(id)
    }

    /// Whether another network hangs on the same interface: a VLAN that was made for the first of them is there for all.
    fn is_interface_of_others(&self, network: &Network) -> bool {
        let others = self.entries.values().map(|entry| &entry.network);
        others.filter(|other| other.id != network.id).any(|other| other.interface == network.interface)
    }

    /// Whether a container has an address of the network.
    pub fn is_used(&self, id: &NetworkId) -> bool {
        self.entries.get(id).is_some_and(|entry| !entry.leases.holders().is_empty())
    }

    /// Takes addresses for a container that is about to start, or to be connected to one network more. `interfaces` are
    /// names that it has already. Nothing is taken on failure.
    pub fn reserve(
        &mut self,
        container: &ContainerId,
        attachments: &[Attachment],
        interfaces: &BTreeSet<String>,
    ) -> Result<Vec<(Endpoint, Network)>, Error> {
        let mut reserved: Vec<(Endpoint, Network)> = Vec::new();
        let mut names = (0..).map(|number| format!("eth{number}")).filter(|name| !interfaces.contains(name));
        for attachment in attachments {
            let interface = names.next().expect("there is always a higher number");
            match self.reserve_one(container, attachment, interface) {
                Ok(endpoint) => reserved.push(endpoint),
                Err(error) => {
                    self.give_back(container, reserved.iter().map(|(endpoint, _)| endpoint));
                    return Err(error);
                }
            }
        }
        let ways = attachments.iter().zip(&reserved).enumerate().filter(|(_, (_, (_, network)))| !network.is_internal);
        // Of several with the same priority the first: max_by_key returns the last.
        let way = ways.rev().max_by_key(|(_, (attachment, _))| attachment.gateway_priority).map(|(index, _)| index);
        if let Some(index) = way {
            reserved[index].0.is_way_out = true;
        }
        Ok(reserved)
    }

    fn reserve_one(
        &mut self,
        container: &ContainerId,
        attachment: &Attachment,
        interface: String,
    ) -> Result<(Endpoint, Network), Error> {
        let network = self.find_or_default(&attachment.network)?;
        let id: [u8; 32] = random()?;
        let host_interface = self.names.of_endpoint([id[0], id[1], id[2], id[3]]);
        let entry = self.entries.get_mut(&network.id).expect("it was found above");
        if network.driver == Driver::Macvlan(Macvlan::Passthru) && !entry.leases.holders().is_empty() {
            let holders = entry.leases.holders().iter().map(|id| id.short().to_owned()).collect();
            return Err(Error::InUse { name: network.name.to_string(), holders });
        }
        let shared_mac = match network.driver {
            Driver::Ipvlan(..) if attachment.mac.is_some() => {
                return Err(Error::argument("mac_address", "containers on ipvlan have that of the host's interface"));
            }
            Driver::Ipvlan(..) => self.place.within(|| hardware_address(&network))?,
            Driver::Bridge | Driver::Macvlan(_) => None,
        };
        let mut addresses: Vec<Held> = Vec::new();
        for (family, wanted) in [(Family::V4, attachment.ipv4), (Family::V6, attachment.ipv6)] {
            let taken = match (network.pool(family), wanted) {
                (None, None) => continue,
                (None, Some(address)) => Err(Error::NotInSubnet { address, network: network.name.to_string() }),
                (Some(pool), wanted) => entry.leases.take(&network, pool, wanted, container).map(|address| Held {
                    address,
                    length: pool.subnet.length(),
                    gateway: pool.gateway,
                }),
            };
            match taken {
                Ok(held) => addresses.push(held),
                Err(error) => {
                    addresses.iter().for_each(|held| entry.leases.give_back(held.address, container));
                    return Err(error);
                }
            }
        }
        let mac = attachment.mac.or(shared_mac).or_else(|| addresses.first().map(|held| Mac::of(held.address)));
        let endpoint = Endpoint {
            id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
            network: network.id.clone(),
            network_name: network.name.clone(),
            driver: network.driver,
            interface,
            host_interface,
            mac: mac.expect("a network has one pool at least"),
            addresses,
            link_local: attachment.link_local.clone(),
            aliases: attachment.aliases.clone(),
            is_way_out: false,
        };
        Ok((endpoint, network))
    }

    /// Gives back the addresses of some endpoints of a container.
    pub fn give_back<'a>(&mut self, container: &ContainerId, endpoints: impl Iterator<Item = &'a Endpoint>) {
        for endpoint in endpoints {
            let Some(entry) = self.entries.get_mut(&endpoint.network) else { continue };
            endpoint.addresses.iter().for_each(|held| entry.leases.give_back(held.address, container));
        }
    }

    /// Gives back all that a container has.
    pub fn release(&mut self, container: &ContainerId) {
        self.entries.values_mut().for_each(|entry| entry.leases.release(container));
    }

    /// The host's address that a container of these endpoints reaches it by: what `host-gateway` is.
    pub fn host_gateway<'a>(endpoints: impl IntoIterator<Item = &'a Endpoint>) -> Option<IpAddr> {
        // Without a bridge the gateway is another machine.
        let mut endpoints = endpoints.into_iter().filter(|endpoint| endpoint.driver.is_bridge());
        endpoints
            .find_map(|endpoint| endpoint.address(Family::V4).or(endpoint.addresses.first()).map(|held| held.gateway))
    }
}

/// Removes the bridge of a name that is this runtime's alone: it is of a root that was removed, and has a subnet too.
fn remove_leftover(name: &str) -> Result<(), Error> {
    let socket = route_socket()?;
    match socket.link(name).attempt(|| format!("look for interface {name}"))? {
        Some(link) if link.kind == "bridge" => bridge::remove(&socket, &link),
        _ => Ok(()),
    }
}

fn route_socket() -> Result<Socket, Error> {
    Socket::route().attempt(|| "speak to the kernel about interfaces".to_owned())
}

/// Removes the interface of a network, if it was made for the network.
fn remove_interface(socket: &Socket, network: &Network) -> Result<(), Error> {
    if !network.driver.is_bridge() {
        return parent::remove(socket, network);
    }
    match bridge::find(socket, network)? {
        Some(link) => bridge::remove(socket, &link),
        None => Ok(()),
    }
}

/// That of the host's interface.
fn hardware_address(network: &Network) -> Result<Option<Mac>, Error> {
    let attempt = || format!("look for interface {}", network.interface);
    let link = route_socket()?.link(&network.interface).attempt(attempt)?;
    Ok(link.and_then(|link| link.mac))
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    let filled = rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty());
    filled.attempt(|| "get random bytes".to_owned())?;
    Ok(bytes)
}
