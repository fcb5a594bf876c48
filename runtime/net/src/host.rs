//! Names on the host: of the firewall table, the default bridge, and the ends of pairs. They tell whose they are, so that
//! two runtimes on one host never touch what is the other's.

use std::path::Path;

use strata_types::NetworkId;

/// The root whose names have no tag.
const USUAL: &str = "/var/lib/strata/runtime";

/// Names of one runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    tag: String,
    /// Of the table of nftables.
    pub table: String,
    /// Of the interface of the default network.
    pub bridge: String,
}

impl Names {
    /// The names of the runtime with this root.
    pub fn of(root: &Path) -> Self {
        let tag = tag(root.as_os_str().as_encoded_bytes());
        match root == Path::new(USUAL) {
            true => Self { table: "strata".to_owned(), bridge: "strata0".to_owned(), tag },
            false => Self { table: format!("strata-{tag}"), bridge: format!("strata-{tag}"), tag },
        }
    }

    /// The interface of a network.
    pub fn of_network(&self, id: &NetworkId) -> String {
        format!("st-{}", id.short())
    }

    /// The host's end of a pair: names of interfaces have 15 bytes at most.
    pub fn of_endpoint(&self, random: [u8; 4]) -> String {
        let [a, b, c, d] = random;
        format!("{}{a:02x}{b:02x}{c:02x}{d:02x}", self.endpoints())
    }

    /// What all names of ends of pairs start with.
    pub fn endpoints(&self) -> String {
        format!("v{}", self.tag)
    }
}

/// FNV-1a folded to 24 bits, in hexadecimal digits.
fn tag(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    format!("{:06x}", (hash >> 24) ^ (hash & 0xff_ffff))
}

/// Whether the kernel takes it as the name of an interface, and everybody else too: dev_valid_name() of the kernel.
pub fn is_interface_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..16).contains(&name.len()) && name.bytes().all(is_plain) && !name.starts_with(['-', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_tell_two_roots_apart() {
        let (one, two) = (Names::of(Path::new("/var/tmp/one")), Names::of(Path::new("/var/tmp/two")));
        assert!(one.table != two.table && one.bridge != two.bridge && one.endpoints() != two.endpoints());
        let usual = Names::of(Path::new(USUAL));
        assert_eq!((usual.table.as_str(), usual.bridge.as_str()), ("strata", "strata0"));
        for names in [one, two, usual] {
            let id = NetworkId::from_bytes([0xab; 32]);
            for name in [names.bridge.clone(), names.of_network(&id), names.of_endpoint([255; 4])] {
                assert!(is_interface_name(&name), "{name}");
            }
        }
        for wrong in ["", "a/b", "a b", "-a", ".", "..", "0123456789abcdef", "a:b", "ä"] {
            assert!(!is_interface_name(wrong), "{wrong:?}");
        }
    }
}
