//! Names of devices: `vendor.com/class=name`. The part before `=` is the kind, which a spec file describes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The most characters of a vendor: that of a DNS name.
const MAX_VENDOR: usize = 253;

/// The most characters of a class, and of a device within its kind.
const MAX_PART: usize = 63;

/// A fully qualified name of a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceName {
    text: String,
    /// Length of the kind in it.
    kind: usize,
}

impl DeviceName {
    /// Parses a name; refusals say what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((kind, name)) = text.split_once('=') else {
            return Err(format!("{text:?} is not the name of a CDI device: vendor.com/class=name"));
        };
        check_kind(kind).and_then(|()| check_name(name)).map_err(|problem| format!("{text:?}: {problem}"))?;
        Ok(Self { text: text.to_owned(), kind: kind.len() })
    }

    /// The name of a device of a kind; both were checked.
    pub(super) fn of(kind: &str, name: &str) -> Self {
        Self { text: format!("{kind}={name}"), kind: kind.len() }
    }

    /// All of it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Vendor and class.
    pub fn kind(&self) -> &str {
        &self.text[..self.kind]
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for DeviceName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.text
    }
}

/// Checks `vendor.com/class`.
pub(super) fn check_kind(kind: &str) -> Result<(), String> {
    let Some((vendor, class)) = kind.split_once('/') else {
        return Err(format!("{kind:?} is not a kind of devices: vendor.com/class"));
    };
    for (what, text, most) in [("vendor", vendor, MAX_VENDOR), ("class", class, MAX_PART)] {
        if !is_word(text, b"_-.") || !text.starts_with(|c: char| c.is_ascii_alphabetic()) || text.len() > most {
            return Err(format!(
                "{what} {text:?}: it must be 1 to {most} letters, digits, \"_\", \"-\" and \".\", with a letter first and a \
                 letter or digit last"
            ));
        }
    }
    Ok(())
}

/// Checks the name of a device within its kind.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    match is_word(name, b"_-.:") && name.len() <= MAX_PART {
        true => Ok(()),
        false => Err(format!(
            "device {name:?}: it must be 1 to {MAX_PART} letters, digits, \"_\", \"-\", \".\" and \":\", with a letter or \
             digit first and last"
        )),
    }
}

/// Letters and digits, and some others between them.
fn is_word(text: &str, others: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(is_plain)
        && bytes.last().is_some_and(is_plain)
        && bytes.iter().all(|byte| is_plain(byte) || others.contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_vendor_a_class_and_a_device() {
        for text in ["vendor.com/net=eth0", "a/b=0", "foo.bar.baz/foo-bar123.B_az=GPU-1:0", "v/c=all"] {
            let name = DeviceName::parse(text).expect(text);
            assert_eq!((name.to_string().as_str(), name.kind()), (text, text.split('=').next().unwrap()));
        }
    }

    #[test]
    fn what_is_no_name_is_refused_with_what_is_wrong() {
        let long = format!("v/{}=x", "c".repeat(64));
        for (text, said) in [
            ("", "vendor.com/class=name"),
            ("/dev/null", "vendor.com/class=name"),
            ("vendor.com/net", "vendor.com/class=name"),
            ("net=eth0", "not a kind"),
            ("/net=eth0", "vendor \"\""),
            ("vendor.com/=eth0", "class \"\""),
            ("vendor.com/a/b=c", "class \"a/b\""),
            ("1vendor/net=eth0", "vendor \"1vendor\""),
            ("vendor./net=eth0", "vendor \"vendor.\""),
            ("vendor/net=", "device \"\""),
            ("vendor/net=-a", "device \"-a\""),
            ("vendor/net=*", "device \"*\""),
            ("vendor/net=a=b", "device \"a=b\""),
            ("vendor/net=a\0", "device"),
            (&long, "1 to 63"),
        ] {
            let problem = DeviceName::parse(text).expect_err(text);
            assert!(problem.contains(said), "{text}: {problem}");
        }
    }
}
