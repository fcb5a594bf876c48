//! The interface of the host that a macvlan or ipvlan network hangs on: one that is there, a VLAN of one that is there, or,
//! for a network without a way out, one of a pair that nobody has the other of. The containers' interfaces are made on it.

use std::{thread, time::Duration};

use rustix::io::Errno;

use crate::{
    error::{Attempt, Error},
    netlink::{Batch, Socket},
    network::{Driver, Network},
    route::{Child, Link},
};

/// A container that has just ended may have its interface for a moment yet: the kernel takes namespaces away behind.
const MOMENT: Duration = Duration::from_millis(50);
const MOMENTS: u32 = 20;

/// Looks for the interface that a network shall have, "eth0"; `None`: it is a VLAN, "eth0.50", that is to be made.
pub fn look_for(socket: &Socket, name: &str) -> Result<Option<Link>, Error> {
    let attempt = || format!("look for interface {name}");
    if let Some(link) = socket.link(name).attempt(attempt)? {
        return Ok(Some(link));
    }
    let missing = |name: &str| Error::argument("parent", format!("this host has no interface {name}"));
    let (base, number) = name.rsplit_once('.').ok_or_else(|| missing(name))?;
    if !number.parse().is_ok_and(|number: u16| (1..4095).contains(&number)) {
        return Err(Error::argument("parent", format!("{name:?}: the number of a VLAN is 1 to 4094")));
    }
    match socket.link(base).attempt(attempt)? {
        Some(_) => Ok(None),
        None => Err(missing(base)),
    }
}

/// Finds the interface of a network, or makes it if it is the network's own.
pub fn ensure(socket: &Socket, network: &Network) -> Result<Link, Error> {
    let name = &network.interface;
    let attempt = || format!("look for interface {name}");
    if let Some(link) = socket.link(name).attempt(attempt)? {
        return Ok(link);
    }
    if !network.has_own_interface {
        return Err(Error::argument("parent", format!("interface {name} of network {} is gone", network.name)));
    }
    make_own(socket, network)
}

/// Makes the interface of a network, or finds it, and looks whether the kernel makes others on it. Nothing is left on failure.
pub fn make(socket: &Socket, network: &Network) -> Result<Link, Error> {
    let name = &network.interface;
    let was_there = socket.link(name).attempt(|| format!("look for interface {name}"))?.is_some();
    let link = ensure(socket, network)?;
    try_out(socket, network, &link).inspect_err(|_| {
        if !was_there {
            let _first_error_is_told = remove(socket, network);
        }
    })?;
    Ok(link)
}

fn make_own(socket: &Socket, network: &Network) -> Result<Link, Error> {
    let name = &network.interface;
    let attempt = || format!("make the interface {name}");
    let mut batch = Batch::default();
    let vlan = name.rsplit_once('.').and_then(|(base, number)| Some((base, number.parse::<u16>().ok()?)));
    match vlan {
        Some((base, number)) => {
            let base = socket.link(base).attempt(attempt)?.ok_or(Errno::NODEV).attempt(attempt)?;
            batch.new_vlan(name, base.index, number);
        }
        None => {
            // A bridge with nothing on it has no carrier, and what hangs on it none either.
            let other = name.replacen("st-", "sp-", 1);
            batch.new_pair(name, &other);
            [name, &other].iter().for_each(|end| batch.set_up(end));
        }
    }
    match socket.send(&batch) {
        Err(Errno::EXIST) => return Err(Error::InterfaceTaken { name: name.clone() }),
        Err(Errno::OPNOTSUPP) => return Err(Error::NoKernelModule { kind: "VLANs", module: "8021q" }),
        result => result.attempt(attempt)?,
    }
    socket.link(name).attempt(attempt)?.ok_or(Errno::NODEV).attempt(attempt)
}

/// Makes an interface as containers get it, and removes it: what the kernel has to say is told when the network is made.
fn try_out(socket: &Socket, network: &Network, parent: &Link) -> Result<(), Error> {
    let name = format!("vt{:08x}", parent.index);
    let attempt = || format!("make interfaces on {}", parent.name);
    let mut batch = Batch::default();
    let (parent_index, driver) = (parent.index, network.driver);
    batch.new_child(&Child { name: &name, parent: parent_index, driver, mac: None, namespace: None, mtu: None });
    let (kind, module) = match network.driver {
        Driver::Ipvlan(..) => ("ipvlan", "ipvlan"),
        Driver::Macvlan(_) | Driver::Bridge => ("macvlan", "macvlan"),
    };
    match send_patiently(socket, &batch) {
        Err(Errno::OPNOTSUPP) => return Err(Error::NoKernelModule { kind, module }),
        Err(Errno::BUSY | Errno::INVAL) => return Err(Error::ParentBusy { kind, name: parent.name.clone() }),
        result => result.attempt(attempt)?,
    }
    socket.remove_named(&name).attempt(attempt)
}

/// Makes an interface on one that somebody may have to himself for a moment yet.
pub fn send_patiently(socket: &Socket, batch: &Batch) -> Result<(), Errno> {
    for _ in 0..MOMENTS {
        match socket.send(batch) {
            Err(Errno::BUSY | Errno::INVAL) => thread::sleep(MOMENT),
            result => return result,
        }
    }
    socket.send(batch)
}

/// Removes the interface of a network, if it is its own.
pub fn remove(socket: &Socket, network: &Network) -> Result<(), Error> {
    let attempt = || format!("remove interface {}", network.interface);
    if !network.has_own_interface {
        return Ok(());
    }
    socket.remove_named(&network.interface).attempt(attempt)
}
