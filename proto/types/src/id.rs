//! Ids and names, one type each, so that none can stand where another belongs.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Invalid;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $noun:literal, $valid:path, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the text against the rule of this type.
            pub fn parse(text: impl Into<String>) -> Result<Self, Invalid> {
                let text = text.into();
                if $valid(&text) { Ok(Self(text)) } else { Err(Invalid::new($noun, &text, $rule)) }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

text_id! {
    /// Id of a container: 64 lower-case hexadecimal digits.
    ContainerId, "container id", is_hex64, "it must be 64 lower-case hexadecimal digits"
}
text_id! {
    /// Name of a container, Docker's rule: [a-zA-Z0-9][a-zA-Z0-9_.-]+
    ContainerName, "container name", is_container_name,
    "it must be a letter or digit followed by letters, digits, \"_\", \".\" or \"-\" (2 to 128 in all)"
}
text_id! {
    /// Id of a network: 64 lower-case hexadecimal digits.
    NetworkId, "network id", is_hex64, "it must be 64 lower-case hexadecimal digits"
}
text_id! {
    /// Name of a network, Docker's rule: [a-zA-Z0-9][a-zA-Z0-9_.-]*
    NetworkName, "network name", is_key,
    "it must be a letter or digit followed by letters, digits, \"_\", \".\" or \"-\" (at most 128 in all)"
}
text_id! {
    /// Name of a volume, Docker's rule: [a-zA-Z0-9][a-zA-Z0-9_.-]*. It is the name of a directory.
    VolumeName, "volume name", is_volume_name,
    "it must be a letter or digit followed by letters, digits, \"_\", \".\" or \"-\" (at most 255 in all)"
}
text_id! {
    /// Id of a secret: 25 lower-case hexadecimal digits.
    SecretId, "secret id", is_hex25, "it must be 25 lower-case hexadecimal digits"
}
text_id! {
    /// Name of a secret: [a-zA-Z0-9][a-zA-Z0-9_.-]*. It is the name of a file.
    SecretName, "secret name", is_secret_name,
    "it must be a letter or digit followed by letters, digits, \"_\", \".\" or \"-\" (at most 253 in all)"
}
text_id! {
    /// Key of a snapshot, chosen by whoever prepares it.
    SnapshotKey, "snapshot key", is_key,
    "it must be a letter or digit followed by letters, digits, \"_\", \".\" or \"-\" (at most 128 in all)"
}
text_id! {
    /// Id of a lease, chosen by the store or by whoever takes it.
    LeaseId, "lease id", is_lease, "it must be 1 to 64 characters a-z, 0-9 or \"-\""
}
text_id! {
    /// Id of a layer within its node: the name of a directory, short because mount options hold many of them.
    LayerId, "layer id", is_layer_id, "it must be 1 to 8 characters a-z or 0-9"
}

impl VolumeName {
    /// The name of a volume that was given none, from 32 random bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(hex::encode(bytes))
    }
}

impl SecretId {
    /// An id from 32 random bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(hex::encode(bytes)[..25].to_owned())
    }
}

impl ContainerId {
    /// An id from 32 random bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(hex::encode(bytes))
    }

    /// The first 12 digits, as people see it.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl NetworkId {
    /// An id from 32 random bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(hex::encode(bytes))
    }

    /// The first 12 digits, as people see it.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_hex64(text: &str) -> bool {
    is_hex(text, 64)
}

fn is_hex25(text: &str) -> bool {
    is_hex(text, 25)
}

fn starts_and_goes_on(text: &str, also: &[u8]) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || also.contains(&b))
}

fn is_container_name(text: &str) -> bool {
    (2..=128).contains(&text.len()) && starts_and_goes_on(text, b"_.-")
}

fn is_volume_name(text: &str) -> bool {
    text.len() <= 255 && starts_and_goes_on(text, b"_.-")
}

fn is_secret_name(text: &str) -> bool {
    text.len() <= 253 && starts_and_goes_on(text, b"_.-")
}

fn is_key(text: &str) -> bool {
    text.len() <= 128 && starts_and_goes_on(text, b"_.-")
}

fn is_lease(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_layer_id(text: &str) -> bool {
    (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_id_is_short_at_12_digits() {
        let id = ContainerId::from_bytes([0xab; 32]);
        assert_eq!(id.short(), "abababababab");
        assert_eq!(ContainerId::parse(id.as_str()).unwrap(), id);
        assert!(ContainerId::parse(id.as_str().to_uppercase()).is_err());
    }

    #[test]
    fn container_names_follow_dockers_rule() {
        for good in ["ab", "web-1", "A.b_c", "0x"] {
            assert!(ContainerName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "-a", ".a", "a/b", "a b", "ä1", "a:b"] {
            assert!(ContainerName::parse(bad).is_err(), "{bad:?} was taken");
        }
    }

    /// CVE-2014-9358, row 56.
    #[test]
    fn ids_that_name_files_cannot_leave_their_directory() {
        for bad in ["", ".", "..", "../x", "a/b", "a\0b"] {
            assert!(SnapshotKey::parse(bad).is_err() && LeaseId::parse(bad).is_err() && LayerId::parse(bad).is_err());
            assert!(VolumeName::parse(bad).is_err() && SecretName::parse(bad).is_err());
        }
        for bad in [".hidden", "-x", "a b", "a:b", "a\n", "ä", &"v".repeat(256)] {
            assert!(VolumeName::parse(bad).is_err() && SecretName::parse(bad).is_err(), "{bad:?}");
        }
        assert!(LayerId::parse("abcdefgh1").is_err());
    }

    #[test]
    fn json_is_checked_like_any_other_text() {
        assert_eq!(serde_json::from_str::<LayerId>("\"a1\"").unwrap().as_str(), "a1");
        assert!(serde_json::from_str::<LayerId>("\"A1\"").is_err());
    }
}
