//! The keys that leave a process alone: typed on a terminal, they end `ctl` and not what it shows.

use serde_json::Value;
use strata_registry::Keychain;

use crate::error::{Error, Result};

/// What Docker has where nobody says otherwise.
const DEFAULT: &str = "ctrl-p,ctrl-q";

/// Where the others are written.
const HELP: &str = "letters and ctrl-KEY with commas between are expected, as ctrl-p,ctrl-q";

/// A sequence of keys, and how much of it has been typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    keys: Vec<u8>,
    typed: usize,
}

impl Keys {
    /// Those of the flag, else those of `detachKeys` in Docker's config.json, else Docker's own.
    pub fn of_user(flag: Option<&str>) -> Result<Self> {
        if let Some(text) = flag.filter(|text| !text.is_empty()) {
            let wrong = |key: &str| Error::usage(format!("invalid --detach-keys {text:?}: {key:?} is no key"));
            return Self::parse(text).map_err(|key| wrong(key).hint(HELP));
        }
        let Some(keychain) = Keychain::of_user() else { return Ok(Self::usual()) };
        // What else is wrong with the file is said where it matters.
        let text = std::fs::read(keychain.path()).unwrap_or_default();
        let config: Value = serde_json::from_slice(&text).unwrap_or_default();
        match config["detachKeys"].as_str().filter(|text| !text.is_empty()) {
            None => Ok(Self::usual()),
            Some(text) => Self::parse(text).map_err(|key| {
                Error::usage(format!("{}: detachKeys: {key:?} is no key", keychain.path().display())).hint(HELP)
            }),
        }
    }

    fn usual() -> Self {
        Self::parse(DEFAULT).expect("they are keys")
    }

    /// Reads "a,ctrl-b"; on failure the part that is none.
    fn parse(text: &str) -> Result<Self, &str> {
        let keys = text.split(',').map(|part| key(part).ok_or(part)).collect::<Result<_, _>>()?;
        Ok(Self { keys, typed: 0 })
    }

    /// Takes what was typed. Returns what goes on to the process, and whether the sequence is complete; what begins it is
    /// held back until it is known to be something else.
    pub fn pass(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(bytes.len());
        for byte in bytes {
            while self.typed > 0 && self.keys[self.typed] != *byte {
                // Less of what was typed may begin it again, as of "aab" when "aaab" is typed.
                let shorter = (0..self.typed)
                    .rev()
                    .find(|length| self.keys[..*length] == self.keys[self.typed - length..self.typed]);
                let shorter = shorter.unwrap_or(0);
                passed.extend_from_slice(&self.keys[..self.typed - shorter]);
                self.typed = shorter;
            }
            match self.keys[self.typed] == *byte {
                true => self.typed += 1,
                false => passed.push(*byte),
            }
            if self.typed == self.keys.len() {
                self.typed = 0;
                return (passed, true);
            }
        }
        (passed, false)
    }
}

/// The byte of a key.
fn key(text: &str) -> Option<u8> {
    match (text.as_bytes(), text.strip_prefix("ctrl-").map(str::as_bytes)) {
        ([byte], _) => Some(*byte),
        (_, Some([byte @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')])) => Some(byte & 0x1f),
        (b"DEL", _) => Some(127),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_for_docker() {
        let bytes = |text: &'static str| Keys::parse(text).map(|keys| keys.keys);
        assert_eq!(bytes("ctrl-p,ctrl-q"), Ok(vec![16, 17]));
        assert_eq!(bytes("a,ctrl-@,ctrl-[,ctrl-\\,ctrl-_,DEL"), Ok(vec![b'a', 0, 27, 28, 31, 127]));
        assert_eq!(bytes("ctrl-p,strg-q"), Err("strg-q"));
        assert_eq!(bytes("ctrl-P"), Err("ctrl-P"));
        assert_eq!(bytes("a,,b"), Err(""));
    }

    #[test]
    fn what_is_typed_goes_on_but_for_the_sequence() {
        for (keys, typed, passed, is_complete) in [
            ("ctrl-p,ctrl-q", &[b"ls\n".as_slice()][..], "ls\n", false),
            ("ctrl-p,ctrl-q", &[b"a\x10", b"\x11b"], "a", true),
            ("ctrl-p,ctrl-q", &[b"\x10\x10\x11"], "\x10", true),
            ("ctrl-p,ctrl-q", &[b"\x10", b"x", b"\x11"], "\x10x\x11", false),
            ("ctrl-p,ctrl-q", &[b"\x10"], "", false),
            ("a", &[b"xa"], "x", true),
            ("a,a,b", &[b"aaaab"], "aa", true),
            ("a,b,a,c", &[b"abab", b"ac"], "ab", true),
        ] {
            let (mut keys, mut seen, mut is_over) = (Keys::parse(keys).unwrap(), Vec::new(), false);
            for bytes in typed {
                let (more, over) = keys.pass(bytes);
                seen.extend(more);
                is_over |= over;
            }
            assert_eq!((String::from_utf8(seen).unwrap().as_str(), is_over), (passed, is_complete), "{typed:?}");
        }
    }
}
