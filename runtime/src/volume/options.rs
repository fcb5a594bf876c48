//! What the options of the driver "local" mean: Docker's.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use super::attached::FileSystem;
use crate::error::Error;

/// The only driver.
pub const LOCAL: &str = "local";

/// What is mounted where a volume is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    /// The directory of the volume.
    Own {
        /// Bytes that it may have, `size=10g`. None: as many as there are.
        limit: Option<u64>,
    },
    /// A directory of this host, `type=none,o=bind,device=PATH`.
    Directory {
        /// Its absolute path.
        path: PathBuf,
        /// Nothing can be written to it.
        is_read_only: bool,
    },
    /// A file system that is mounted for it, `type=tmpfs,device=tmpfs,o=size=1m`.
    FileSystem(FileSystem),
}

impl Backing {
    /// Reads the options of a volume.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, Error> {
        let of = |name: &str| options.get(name).map(String::as_str).unwrap_or_default();
        let wrong = |problem: String| Err(Error::argument("options", problem));
        let known = ["type", "device", "o", "size"];
        if let Some(name) = options.keys().find(|name| !known.contains(&name.as_str())) {
            return wrong(format!("invalid option {name:?}: {} are known", known.join(", ")));
        }
        if let Some(size) = options.get("size") {
            if options.len() > 1 {
                return wrong(
                    "size: only a volume without a type and a device has one; memory has o=size=…".to_owned(),
                );
            }
            return bytes(size).map(|limit| Self::Own { limit: Some(limit) });
        }
        if options.is_empty() {
            return Ok(Self::Own { limit: None });
        }
        let flags: Vec<&str> = of("o").split(',').filter(|flag| !flag.is_empty()).collect();
        let is_bind = flags.iter().any(|flag| ["bind", "rbind"].contains(flag));
        match of("type") {
            "" | "none" | "bind" if is_bind || of("type") == "bind" => {}
            "" if of("device").is_empty() && flags.is_empty() => return Ok(Self::Own { limit: None }),
            "" | "none" => return wrong("a directory of the host needs o=bind".to_owned()),
            kind if kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) => {
                return file_system(kind, of("device"), &flags);
            }
            kind => return wrong(format!("invalid type {kind:?}: the name of a file system is expected")),
        }
        let mut is_read_only = false;
        for flag in flags {
            match flag {
                "bind" | "rbind" | "rw" => {}
                "ro" => is_read_only = true,
                _ => return wrong(format!("invalid o={flag}: bind, rbind, ro and rw are known")),
            }
        }
        let path = PathBuf::from(of("device"));
        let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        match path.is_absolute() && is_plain && path != Path::new("/") && !of("device").contains('\0') {
            true => Ok(Self::Directory { path, is_read_only }),
            false => wrong(format!("invalid device {:?}: an absolute path of the host is expected", of("device"))),
        }
    }
}

/// A number of bytes as Docker reads it: "512m", "1.5GiB"; each unit is 1024 of the one before.
fn bytes(text: &str) -> Result<u64, Error> {
    let wrong = || Error::argument("options", format!("invalid size {text:?}: a number of bytes is expected, as 10g"));
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = lower[digits.len()..].trim_end_matches('b').trim_end_matches('i');
    let exponent = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.trim_end().parse().map_err(|_| wrong())?;
    let bytes = number * 1024_f64.powi(exponent);
    // The kernel counts blocks of 1024 bytes.
    if bytes >= 1.0 && bytes < 2_f64.powi(63) { Ok(bytes as u64) } else { Err(wrong()) }
}

fn file_system(kind: &str, device: &str, flags: &[&str]) -> Result<Backing, Error> {
    let wrong = |problem: &str| Err(Error::argument("options", problem.to_owned()));
    // As Docker's: mount(2) takes no file system without a word for where it comes from.
    match device {
        "" => wrong(&format!("a volume of type {kind} needs a device")),
        _ if device.contains('\0') || flags.iter().any(|flag| flag.contains('\0')) => wrong("a zero byte"),
        _ => Ok(Backing::FileSystem(FileSystem::new(kind, device, flags))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Backing, Error> {
        let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.replace('+', ",")));
        Backing::parse(&text.split(' ').filter_map(pair).collect())
    }

    #[test]
    fn a_volume_is_its_own_directory_or_one_of_the_host() {
        let directory = |is_read_only| Backing::Directory { path: "/srv".into(), is_read_only };
        for (text, expected) in [
            ("", Backing::Own { limit: None }),
            ("size=1.5g", Backing::Own { limit: Some(3 << 29) }),
            ("size=100MiB", Backing::Own { limit: Some(100 << 20) }),
            ("size=4096", Backing::Own { limit: Some(4096) }),
            ("type=none o=bind device=/srv", directory(false)),
            ("o=bind+ro device=/srv", directory(true)),
            ("type=bind device=/srv", directory(false)),
            (
                "type=tmpfs device=tmpfs o=size=1m+ro",
                Backing::FileSystem(FileSystem::new("tmpfs", "tmpfs", &["size=1m", "ro"])),
            ),
            ("type=nfs device=:/x o=addr=a", Backing::FileSystem(FileSystem::new("nfs", ":/x", &["addr=a"]))),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_there_or_makes_no_sense_says_so() {
        for (text, words) in [
            ("colour=red", "invalid option \"colour\": type, device, o"),
            ("type=none device=/srv", "o=bind"),
            ("type=none o=bind device=srv", "an absolute path"),
            ("type=none o=bind device=/a/../b", "an absolute path"),
            ("type=none o=bind+suid device=/srv", "o=suid"),
            ("type=tmpfs o=size=1m", "needs a device"),
            ("size=1x", "invalid size \"1x\""),
            ("size=-1", "invalid size"),
            ("size=0", "invalid size"),
            ("size=nan", "invalid size"),
            ("size=1g type=tmpfs device=tmpfs", "only a volume without a type and a device"),
            ("type=a/b device=x", "the name of a file system"),
        ] {
            let said = parse(text).unwrap_err().to_string();
            assert!(said.contains(words), "{text}: {said}");
        }
    }
}
