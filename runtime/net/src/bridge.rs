//! The bridge of a network, on the host.

use rustix::io::Errno;

use crate::{
    error::{Attempt, Error},
    mac::Mac,
    namespace::set_parameter,
    netlink::{Batch, Socket},
    network::Network,
    place::Place,
    prefix::Family,
    route::Link,
};

/// The most bytes of a packet when nobody knows better.
const USUAL_MTU: u32 = 1500;
/// The same where programs take the packets that go to the world: the largest that pasta(1) and slirp4netns(1) like. Each
/// packet costs them a call to the kernel, whatever its length.
const CARRIED_MTU: u32 = 65520;

/// Finds the bridge of a network, or makes it; then it has its addresses and is up.
pub fn ensure(socket: &Socket, network: &Network) -> Result<Link, Error> {
    match find(socket, network)? {
        Some(link) if link.is_up => Ok(link),
        // Half made when this service was killed, or set down by somebody.
        Some(link) => settle(socket, network, &link).map(|()| link),
        None => make(socket, network),
    }
}

/// The bridge of a network, if it is there.
pub fn find(socket: &Socket, network: &Network) -> Result<Option<Link>, Error> {
    let name = &network.interface;
    let found = socket.link(name).attempt(|| format!("look for interface {name}"))?;
    match found {
        Some(link) if link.kind != "bridge" => Err(Error::InterfaceTaken { name: name.clone() }),
        found => Ok(found),
    }
}

/// Makes the bridge of a network; its name must be free. Nothing is left on failure.
pub fn make(socket: &Socket, network: &Network) -> Result<Link, Error> {
    let name = &network.interface;
    let attempt = || format!("make the bridge {name}");
    let mut batch = Batch::default();
    let mac = network.pools.first().map_or(Mac::of_random([0; 5]), |pool| Mac::of(pool.gateway));
    batch.new_bridge(name, mac, network.mtu);
    match socket.send(&batch) {
        Err(Errno::EXIST) => return Err(Error::InterfaceTaken { name: name.clone() }),
        result => result.attempt(attempt)?,
    }
    let link = socket.link(name).attempt(attempt)?.ok_or(Errno::NODEV).attempt(attempt)?;
    settle(socket, network, &link).inspect_err(|_| {
        let _first_error_is_told = remove(socket, &link);
    })?;
    Ok(link)
}

/// Sets a bridge up when all is said that is to hold from its first moment on: the kernel looks at once.
fn settle(socket: &Socket, network: &Network, link: &Link) -> Result<(), Error> {
    let name = &network.interface;
    let attempt = || format!("set up the bridge {name}");
    // A container may say that it is the way to the Internet: the host does not believe it (CVE-2020-13401).
    set_parameter(&format!("net/ipv6/conf/{name}/accept_ra"), "0").attempt(attempt)?;
    // Until its link-local address was looked for elsewhere, a second or two, the host would ask for no container that a
    // packet from outside is for: ndisc_solicit() of the kernel.
    set_parameter(&format!("net/ipv6/conf/{name}/accept_dad"), "0").attempt(attempt)?;
    let has_ipv6 = network.pool(Family::V6).is_some();
    set_parameter(&format!("net/ipv6/conf/{name}/disable_ipv6"), if has_ipv6 { "0" } else { "1" }).attempt(attempt)?;
    let mut batch = Batch::default();
    batch.set_up(name);
    for pool in &network.pools {
        batch.add_address(link.index, pool.gateway, pool.subnet.length());
    }
    match socket.send(&batch) {
        // One that was set down has kept those of IPv4.
        Err(Errno::EXIST) => {}
        result => result.attempt(|| format!("give the bridge {name} its addresses"))?,
    }
    if !network.is_internal {
        forward(socket, has_ipv6)?;
    }
    Ok(())
}

/// Lets the host pass packets on.
fn forward(socket: &Socket, has_ipv6: bool) -> Result<(), Error> {
    let attempt = || "let the host forward packets".to_owned();
    set_parameter("net/ipv4/ip_forward", "1").attempt(attempt)?;
    if has_ipv6 && !is_set("net/ipv6/conf/all/forwarding") {
        // A router does not listen to other routers unless it is told to: the host would lose its way out, if that is
        // what it has it from. Documentation/networking/ip-sysctl.rst, "accept_ra"
        for link in socket.links().attempt(attempt)? {
            let name = format!("net/ipv6/conf/{}/accept_ra", link.name);
            if is_set(&name) {
                set_parameter(&name, "2").attempt(attempt)?;
            }
        }
        set_parameter("net/ipv6/conf/all/forwarding", "1").attempt(attempt)?;
    }
    Ok(())
}

fn is_set(name: &str) -> bool {
    std::fs::read_to_string(format!("/proc/sys/{name}")).is_ok_and(|value| value.trim() == "1")
}

/// Removes a bridge.
pub fn remove(socket: &Socket, link: &Link) -> Result<(), Error> {
    socket.remove_link(link.index).map(drop).attempt(|| format!("remove the bridge {}", link.name))
}

/// The most bytes of a packet that the host's way out takes: larger ones would be lost where nobody says so.
pub fn usual_mtu(place: &Place) -> Result<u32, Error> {
    match place {
        Place::Host => Ok(host_mtu(&Socket::route().attempt(|| "speak to the kernel about interfaces".to_owned())?)),
        Place::Carrier(_) => Ok(CARRIED_MTU),
    }
}

fn host_mtu(socket: &Socket) -> u32 {
    let routes = socket.routes(Family::V4).unwrap_or_default();
    let out = routes.iter().find(|route| route.to.is_none());
    let links = socket.links().unwrap_or_default();
    let link = out.and_then(|route| links.into_iter().find(|link| link.index == route.through));
    link.map_or(USUAL_MTU, |link| link.mtu.clamp(1280, USUAL_MTU))
}
