//! Who has which address: subnets for networks, addresses for containers. In memory; records of networks and of
//! containers are what it is made from after a restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use strata_types::ContainerId;

use crate::{
    error::Error,
    network::{Network, Pool},
    prefix::{Family, Prefix},
};

/// Where subnets of IPv4 are taken from when none is given, with the length of each: Docker's.
const POOLS: [(Ipv4Addr, u8, u8); 6] = [
    (Ipv4Addr::new(172, 17, 0, 0), 16, 16),
    (Ipv4Addr::new(172, 18, 0, 0), 16, 16),
    (Ipv4Addr::new(172, 19, 0, 0), 16, 16),
    (Ipv4Addr::new(172, 20, 0, 0), 14, 16),
    (Ipv4Addr::new(172, 24, 0, 0), 13, 16),
    (Ipv4Addr::new(192, 168, 0, 0), 16, 20),
];

/// Chooses a subnet that shares no address with what is taken: other networks, and where the host has routes to.
pub fn choose_subnet(family: Family, taken: &[Prefix], random: [u8; 7]) -> Result<Prefix, Error> {
    let is_free = |subnet: &Prefix| !taken.iter().any(|other| other.overlaps(subnet));
    match family {
        Family::V4 => {
            let pools = POOLS
                .iter()
                .filter_map(|(first, length, each)| Some(Prefix::of(IpAddr::V4(*first), *length)?.parts(*each)));
            pools.flatten().find(is_free).ok_or(Error::NoSubnet {})
        }
        Family::V6 => {
            // RFC 4193, 3.2: fd00::/8, and bits that nobody else has.
            let mut octets = [0; 16];
            octets[0] = 0xfd;
            octets[1..8].copy_from_slice(&random);
            let subnet = Prefix::of(IpAddr::V6(Ipv6Addr::from(octets)), 64).expect("64 is no more than 128");
            if is_free(&subnet) { Ok(subnet) } else { Err(Error::NoSubnet {}) }
        }
    }
}

/// Who has the addresses of one network.
#[derive(Debug, Default)]
pub struct Leases {
    by_address: BTreeMap<IpAddr, ContainerId>,
}

impl Leases {
    /// Takes an address: the one asked for, or the first that is free.
    pub fn take(
        &mut self,
        network: &Network,
        pool: &Pool,
        wanted: Option<IpAddr>,
        holder: &ContainerId,
    ) -> Result<IpAddr, Error> {
        let address = match wanted {
            Some(address) => self.check(network, pool, address)?,
            None => self.first_free(pool).ok_or_else(|| Error::NoAddress {
                network: network.name.to_string(),
                subnet: pool.range.unwrap_or(pool.subnet),
            })?,
        };
        self.by_address.insert(address, holder.clone());
        Ok(address)
    }

    /// Notes an address that a running container has.
    pub fn keep(&mut self, address: IpAddr, holder: &ContainerId) {
        self.by_address.insert(address, holder.clone());
    }

    /// Gives back one address that a container has.
    pub fn give_back(&mut self, address: IpAddr, holder: &ContainerId) {
        if self.by_address.get(&address) == Some(holder) {
            self.by_address.remove(&address);
        }
    }

    /// Gives back what a container has.
    pub fn release(&mut self, holder: &ContainerId) {
        self.by_address.retain(|_, other| other != holder);
    }

    /// Containers with addresses.
    pub fn holders(&self) -> BTreeSet<&ContainerId> {
        self.by_address.values().collect()
    }

    fn check(&self, network: &Network, pool: &Pool, address: IpAddr) -> Result<IpAddr, Error> {
        if !pool.is_usable(address) {
            return Err(Error::NotInSubnet { address, network: network.name.to_string() });
        }
        let reserved = pool.reserved_for(address).map(str::to_owned);
        let held = || self.by_address.get(&address).map(|holder| format!("container {}", holder.short()));
        match reserved.or_else(held) {
            Some(holder) => Err(Error::AddressTaken { address, holder }),
            None => Ok(address),
        }
    }

    fn first_free(&self, pool: &Pool) -> Option<IpAddr> {
        let from = pool.range.unwrap_or(pool.subnet);
        let is_free = |address: &IpAddr| {
            pool.is_usable(*address) && pool.reserved_for(*address).is_none() && !self.by_address.contains_key(address)
        };
        // More than are taken or reserved need not be looked at.
        let most = self.by_address.len() as u128 + pool.reserved.len() as u128 + 4;
        (0..from.size().min(most)).filter_map(|offset| from.nth(offset)).find(is_free)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{network::PoolWish, tests::network};

    fn id(byte: u8) -> ContainerId {
        ContainerId::from_bytes([byte; 32])
    }

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn choose(taken: &[&str]) -> Result<String, Error> {
        let taken: Vec<Prefix> = taken.iter().map(|text| prefix(text)).collect();
        choose_subnet(Family::V4, &taken, [0; 7]).map(|subnet| subnet.to_string())
    }

    #[test]
    fn subnets_are_dockers_and_avoid_what_is_taken() {
        assert_eq!(choose(&[]).unwrap(), "172.17.0.0/16");
        assert_eq!(choose(&["172.17.42.0/24"]).unwrap(), "172.18.0.0/16");
        assert_eq!(choose(&["172.16.0.0/12"]).unwrap(), "192.168.0.0/20");
        assert_eq!(choose(&["172.16.0.0/12", "192.168.0.0/17"]).unwrap(), "192.168.128.0/20");
        assert!(matches!(choose(&["172.16.0.0/12", "192.168.0.0/16"]), Err(Error::NoSubnet {})));
        let six = choose_subnet(Family::V6, &[], [1, 2, 3, 4, 5, 6, 7]).unwrap();
        assert_eq!(six.to_string(), "fd01:203:405:607::/64");
    }

    #[test]
    fn addresses_are_taken_from_the_first_on_and_come_back() {
        let network = network("10.1.0.0/29");
        let pool = network.pools[0].clone();
        let mut leases = Leases::default();
        let take = |leases: &mut Leases, wanted: Option<&str>, byte| {
            leases.take(&network, &pool, wanted.map(|text| text.parse().unwrap()), &id(byte)).map(|a| a.to_string())
        };

        assert_eq!(take(&mut leases, None, 1).unwrap(), "10.1.0.2");
        assert_eq!(take(&mut leases, Some("10.1.0.4"), 2).unwrap(), "10.1.0.4");
        assert_eq!(take(&mut leases, None, 3).unwrap(), "10.1.0.3");
        assert_eq!(take(&mut leases, None, 4).unwrap(), "10.1.0.5");
        assert_eq!(take(&mut leases, None, 5).unwrap(), "10.1.0.6");
        assert!(matches!(take(&mut leases, None, 6), Err(Error::NoAddress { .. })));
        leases.release(&id(3));
        assert_eq!(take(&mut leases, None, 7).unwrap(), "10.1.0.3");
        let taken = take(&mut leases, Some("10.1.0.4"), 8).unwrap_err().to_string();
        assert_eq!(taken, "address 10.1.0.4 is already in use by container 020202020202");
        assert!(take(&mut leases, Some("10.1.0.1"), 8).unwrap_err().to_string().contains("the gateway"));
        for outside in ["10.1.0.0", "10.1.0.7", "10.1.0.8", "fd00::2"] {
            assert!(matches!(take(&mut leases, Some(outside), 8), Err(Error::NotInSubnet { .. })), "{outside}");
        }
    }

    #[test]
    fn a_range_is_kept_to_and_reserved_addresses_are_left_out() {
        let reserved = BTreeMap::from([("printer".to_owned(), "10.1.0.9".parse().unwrap())]);
        let wish = PoolWish { range: Some(prefix("10.1.0.8/30")), reserved, ..PoolWish::of(prefix("10.1.0.0/16")) };
        let pool = wish.settle().unwrap();
        let network = network("10.1.0.0/16");
        let mut leases = Leases::default();
        let mut all = vec![];
        while let Ok(address) = leases.take(&network, &pool, None, &id(1)) {
            all.push(address.to_string());
        }
        // The first of the range is the gateway.
        assert_eq!(all, ["10.1.0.10", "10.1.0.11"]);
    }

    proptest! {
        #[test]
        fn nobody_gets_an_address_that_another_has(steps in proptest::collection::vec((0_u8..8, any::<bool>()), 1..200)) {
            let network = network("10.1.0.0/28");
            let pool = network.pools[0].clone();
            let (mut leases, mut held) = (Leases::default(), BTreeMap::<IpAddr, u8>::new());
            for (byte, takes) in steps {
                if takes {
                    match leases.take(&network, &pool, None, &id(byte)) {
                        Ok(address) => {
                            prop_assert!(pool.is_usable(address) && address != pool.gateway);
                            prop_assert_eq!(held.insert(address, byte), None);
                        }
                        Err(_) => prop_assert_eq!(held.len(), 13),
                    }
                } else {
                    leases.release(&id(byte));
                    held.retain(|_, other| *other != byte);
                }
            }
        }
    }
}
