//! Hardware addresses of interfaces.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::prefix::octets;

/// An address of an Ethernet interface: not that of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

/// A text that is no address of one interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no hardware address of an interface, such as 02:42:ac:11:00:02")]
pub struct NoMac {
    text: String,
}

impl Mac {
    /// The address of an interface with this address: who gets it next is found by neighbours that remember the last.
    pub fn of(address: IpAddr) -> Self {
        let octets = octets(address);
        let tail = &octets[octets.len() - 4..];
        // Bit 1 of the first octet: administered locally. IEEE 802, 8.2
        let second = if address.is_ipv4() { 0x42 } else { 0x46 };
        Self([0x02, second, tail[0], tail[1], tail[2], tail[3]])
    }

    /// An address from random bytes.
    pub fn of_random(bytes: [u8; 5]) -> Self {
        Self([0x02, bytes[0], bytes[1], bytes[2], bytes[3], bytes[4]])
    }

    /// What the kernel says, if that is one of an interface.
    pub fn of_octets(bytes: &[u8]) -> Option<Self> {
        let octets = <[u8; 6]>::try_from(bytes).ok()?;
        Self(octets).is_of_one().then_some(Self(octets))
    }

    /// The lowest bit of the first octet is that of a group; nothing has the address of only zeros.
    fn is_of_one(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }

    /// Its bytes.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = NoMac;

    fn from_str(text: &str) -> Result<Self, NoMac> {
        let wrong = || NoMac { text: text.to_owned() };
        let mut octets = [0; 6];
        let parts: Vec<&str> = text.split([':', '-']).collect();
        if parts.len() != octets.len() {
            return Err(wrong());
        }
        for (octet, part) in octets.iter_mut().zip(parts) {
            let is_plain = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            *octet = u8::from_str_radix(part, 16).ok().filter(|_| is_plain).ok_or_else(wrong)?;
        }
        if Self(octets).is_of_one() { Ok(Self(octets)) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for Mac {
    type Error = NoMac;
    fn try_from(text: String) -> Result<Self, NoMac> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_shown() {
        assert_eq!("02:42:AC-11:00:02".parse::<Mac>().unwrap().to_string(), "02:42:ac:11:00:02");
        for text in
            ["", "02:42:ac:11:00", "02:42:ac:11:00:0", "01:00:5e:00:00:01", "00:00:00:00:00:00", "+2:42:ac:11:00:02"]
        {
            assert!(text.parse::<Mac>().is_err(), "{text:?}");
        }
        assert_eq!(Mac::of("172.17.0.2".parse().unwrap()).to_string(), "02:42:ac:11:00:02");
    }
}
