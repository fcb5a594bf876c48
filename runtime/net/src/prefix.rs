//! A prefix of addresses, "172.17.0.0/16" or "fd00::/64": what a network is made of.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// Addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    first: IpAddr,
    length: u8,
}

/// A text that is no prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no prefix of addresses such as 172.20.0.0/16")]
pub struct NoPrefix {
    text: String,
}

/// The version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The version of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Bits of an address.
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl Prefix {
    /// The prefix of this length that an address is in.
    pub fn of(address: IpAddr, length: u8) -> Option<Self> {
        let bits = Family::of(address).bits();
        (length <= bits)
            .then(|| Self { first: from_number(Family::of(address), number(address) & mask(bits, length)), length })
    }

    /// The first address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address.
    pub fn last(&self) -> IpAddr {
        let bits = self.family().bits();
        from_number(self.family(), number(self.first) | !mask(bits, self.length) & mask_of_family(bits))
    }

    /// Bits that all addresses share.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// The version of the protocol.
    pub fn family(&self) -> Family {
        Family::of(self.first)
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::of(address, self.length).is_some_and(|prefix| prefix == *self)
    }

    /// Whether all of another is in it.
    pub fn holds(&self, other: &Self) -> bool {
        self.length <= other.length && self.contains(other.first)
    }

    /// Whether the two share addresses.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.holds(other) || other.holds(self)
    }

    /// The address so many behind the first, if it is in it.
    pub fn nth(&self, offset: u128) -> Option<IpAddr> {
        let number = number(self.first).checked_add(offset)?;
        (number <= self::number(self.last())).then(|| from_number(self.family(), number))
    }

    /// How many addresses it has, at most as many as the number can tell.
    pub fn size(&self) -> u128 {
        let free = self.family().bits() - self.length;
        if free >= 128 { u128::MAX } else { 1 << free }
    }

    /// Its parts of a length, in order.
    pub fn parts(&self, length: u8) -> impl Iterator<Item = Self> + use<> {
        let (family, first) = (self.family(), number(self.first));
        let free = length.saturating_sub(self.length).min(127);
        let step = u32::from(family.bits() - length);
        let count = if length < self.length { 0 } else { 1_u128 << free };
        (0..count).map(move |index| Self { first: from_number(family, first | (index << step)), length })
    }
}

/// An address as a number.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The address that is this number; of IPv4 the low 32 bits count.
pub fn from_number(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(number as u32)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// The bytes of an address, in the order of the network.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn mask(bits: u8, length: u8) -> u128 {
    let free = u32::from(bits - length);
    if free == 128 { 0 } else { (u128::MAX << free) & mask_of_family(bits) }
}

fn mask_of_family(bits: u8) -> u128 {
    if bits == 128 { u128::MAX } else { (1 << bits) - 1 }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

impl FromStr for Prefix {
    type Err = NoPrefix;

    /// Bits behind the length are dropped, as Docker does it.
    fn from_str(text: &str) -> Result<Self, NoPrefix> {
        let wrong = || NoPrefix { text: text.to_owned() };
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let address = address.parse().map_err(|_| wrong())?;
        // "+8" and "08" are numbers for Rust.
        let is_plain = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) && length.len() <= 3;
        let length = length.parse().ok().filter(|_| is_plain).ok_or_else(wrong)?;
        Self::of(address, length).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Prefix {
    type Error = NoPrefix;
    fn try_from(text: String) -> Result<Self, NoPrefix> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_is_read_and_shown() {
        for (text, shown) in [
            ("172.17.0.0/16", "172.17.0.0/16"),
            ("172.17.3.4/16", "172.17.0.0/16"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.0.0.1/32", "10.0.0.1/32"),
            ("fd00::1/64", "fd00::/64"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(prefix(text).to_string(), shown);
        }
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0/8", "x/8", "fd00::/129", "/8"]
        {
            assert!(text.parse::<Prefix>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn ends_and_parts() {
        assert_eq!(prefix("10.1.0.0/16").last().to_string(), "10.1.255.255");
        assert_eq!(prefix("fd00::/64").last().to_string(), "fd00::ffff:ffff:ffff:ffff");
        let parts: Vec<String> = prefix("172.16.0.0/14").parts(16).map(|part| part.to_string()).collect();
        assert_eq!(parts, ["172.16.0.0/16", "172.17.0.0/16", "172.18.0.0/16", "172.19.0.0/16"]);
        assert_eq!(prefix("10.0.0.0/16").parts(8).count(), 0);
        assert_eq!(prefix("10.0.0.0/30").nth(3).unwrap().to_string(), "10.0.0.3");
        assert_eq!(prefix("10.0.0.0/30").nth(4), None);
        assert_eq!((prefix("0.0.0.0/0").size(), prefix("::/0").size()), (1 << 32, u128::MAX));
    }

    proptest! {
        #[test]
        fn two_prefixes_share_addresses_if_one_holds_the_other(a: u32, b: u32, la in 0_u8..=32, lb in 0_u8..=32) {
            let (a, b) = (Prefix::of(Ipv4Addr::from(a).into(), la).unwrap(), Prefix::of(Ipv4Addr::from(b).into(), lb).unwrap());
            let share = number(a.first()) <= number(b.last()) && number(b.first()) <= number(a.last());
            prop_assert_eq!(a.overlaps(&b), share);
            prop_assert_eq!(prefix(&a.to_string()), a);
        }
    }
}
