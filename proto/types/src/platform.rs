//! Platforms: operating system, architecture and variant, in Go's names.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// Operating system and processor that an image is made for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system, "linux".
    pub os: String,
    /// Processor architecture, "amd64".
    pub architecture: String,
    /// Variant of the architecture, "v8".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform that this program was built for.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "x86" => ("386", None),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            "powerpc64" => ("ppc64", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: variant.map(Into::into) }
    }

    /// Parses "os/architecture[/variant]"; an architecture alone means Linux. Common other names are translated.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let bad = |rule| Invalid::new("platform", text, rule);
        let lower = text.to_ascii_lowercase();
        let parts: Vec<&str> = lower.split('/').collect();
        let word = |s: &&str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !parts.iter().all(word) {
            return Err(bad("parts are letters, digits, \".\", \"_\" and \"-\""));
        }
        let (os, architecture, variant) = match parts[..] {
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(bad("it must be os/architecture or os/architecture/variant")),
        };
        let (architecture, variant) = match (architecture, variant) {
            ("x86_64" | "x86-64", v) => ("amd64", v),
            ("i386" | "i686", v) => ("386", v),
            ("aarch64", v) => ("arm64", v),
            ("armhf", None) => ("arm", Some("v7")),
            ("armel", None) => ("arm", Some("v6")),
            same => same,
        };
        Ok(Self { os: os.into(), architecture: architecture.into(), variant: variant.map(Into::into) })
    }

    /// Same platform, where an unnamed variant means the usual one (arm64/v8, arm/v7, amd64/v1).
    pub fn equals(&self, other: &Self) -> bool {
        self.serves(other) && self.usual_variant() == other.usual_variant()
    }

    /// Same operating system and architecture.
    pub fn serves(&self, other: &Self) -> bool {
        self.os == other.os && self.architecture == other.architecture
    }

    fn usual_variant(&self) -> &str {
        match (&self.variant, self.architecture.as_str()) {
            (Some(v), _) if !v.is_empty() => v,
            (_, "arm64") => "v8",
            (_, "arm") => "v7",
            (_, "amd64") => "v1",
            _ => "",
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_of_an_architecture_mean_the_same() {
        assert_eq!(Platform::parse("x86_64").unwrap().to_string(), "linux/amd64");
        assert_eq!(Platform::parse("linux/aarch64").unwrap().to_string(), "linux/arm64");
        assert!(Platform::parse("linux/arm64").unwrap().equals(&Platform::parse("linux/arm64/v8").unwrap()));
        assert!(!Platform::parse("linux/arm/v6").unwrap().equals(&Platform::parse("linux/arm/v7").unwrap()));
    }

    #[test]
    fn empty_and_surplus_parts_are_refused() {
        for bad in ["", "/", "linux/", "a/b/c/d", "linux/am d64"] {
            assert!(Platform::parse(bad).is_err(), "{bad:?} was taken");
        }
    }
}
