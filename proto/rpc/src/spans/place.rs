//! Places in traces: W3C's Trace Context, version 00.

use std::fmt;

use rustix::rand::{GetRandomFlags, getrandom};

/// A span of a trace, as calls name the one that they belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    trace: [u8; 16],
    span: [u8; 8],
    flags: u8,
}

/// The flag that says that the trace is collected.
const SAMPLED: u8 = 1;

impl Place {
    /// The first place of a new trace.
    pub fn root() -> Self {
        Self { trace: random(), span: random(), flags: SAMPLED }
    }

    /// A place below this one.
    pub fn child(self) -> Self {
        Self { span: random(), ..self }
    }

    /// Reads a header. `None`: it is none, which is as if it were not there.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // Later versions may have more behind it, 00 has not.
        let is_one = version != "ff" && (version != "00" || parts.next().is_none());
        let [_version] = bytes::<1>(version)?;
        let place = Self { trace: bytes(trace)?, span: bytes(span)?, flags: bytes::<1>(flags)?[0] };
        (is_one && place.trace != [0; 16] && place.span != [0; 8]).then_some(place)
    }

    /// Id of the trace.
    pub fn trace(&self) -> &[u8] {
        &self.trace
    }

    /// Id of the span.
    pub fn span(&self) -> &[u8] {
        &self.span
    }

    /// Whoever began the trace wants it collected.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", hex::encode(self.trace), hex::encode(self.span), self.flags & SAMPLED)
    }
}

/// Hexadecimal digits, in lower case as the standard wants them.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let is_lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    (is_lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // It does not fail once the host has started; all zeros would be no id.
    if getrandom(&mut bytes, GetRandomFlags::empty()).is_err() {
        bytes[0] = 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_is_written_as_it_was_read() {
        let place = Place::parse(EXAMPLE).unwrap();
        assert_eq!(place.to_string(), EXAMPLE);
        assert!(place.is_sampled());
        assert!(!Place::parse(&EXAMPLE.replace("-01", "-00")).unwrap().is_sampled());
        let later = format!("{}-more", EXAMPLE.replacen("00-", "cc-", 1));
        assert_eq!(Place::parse(&later), Some(place));
        let child = place.child();
        assert!(child.trace() == place.trace() && child.span() != place.span() && child.is_sampled());
        assert_ne!(Place::root(), Place::root());
        assert_eq!(Place::parse(&Place::root().to_string()).map(|place| place.is_sampled()), Some(true));
    }

    #[test]
    fn what_is_no_header_is_as_if_it_were_not_there() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6-00f067aa0ba902b7-01",
            "zz-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Place::parse(text), None, "{text:?}");
        }
    }
}
