//! How much output of a step is told: a step that prints without end must fill neither memory nor the log. What is cut
//! is said, and the end of it comes all the same when the step is over.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

/// Bytes from the end of what was cut that are told at last.
const TAIL: usize = 256 << 10;

/// The most of one stream of a step. `None`: no limit.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes in all.
    pub size: Option<u64>,
    /// Bytes per second.
    pub speed: Option<u64>,
}

impl Limits {
    /// BuildKit's limits, and its variables to set them: -1 is none.
    pub fn of_environment() -> Self {
        let limit = |name: &str, default: u64| match std::env::var(name).ok().and_then(|text| text.parse::<i64>().ok())
        {
            None => Some(default),
            Some(limit) => u64::try_from(limit).ok(),
        };
        Self {
            size: limit("BUILDKIT_STEP_LOG_MAX_SIZE", 2 << 20),
            speed: limit("BUILDKIT_STEP_LOG_MAX_SPEED", 200 << 10),
        }
    }

    /// Bytes that may be told after this time, and what limits them.
    fn allowed(&self, since: Duration) -> (u64, String) {
        let begun = since.as_millis().div_ceil(1000).max(1) as u64;
        let by_speed = self.speed.map(|speed| (speed.saturating_mul(begun), format!("{}/s", size(speed))));
        let by_size = self.size.map(|most| (most, size(most)));
        by_speed.into_iter().chain(by_size).min_by_key(|(most, _)| *most).unwrap_or((u64::MAX, String::new()))
    }
}

/// "2MiB"
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes}B"),
        1024..1_048_576 => format!("{}KiB", bytes >> 10),
        _ => format!("{}MiB", bytes >> 20),
    }
}

/// One stream of a step.
#[derive(Debug, Default)]
pub struct Clip {
    seen: u64,
    is_clipping: bool,
    tail: VecDeque<u8>,
}

impl Clip {
    /// What is told of the next bytes, `since` the stream began.
    pub fn take(&mut self, chunk: &Bytes, limits: &Limits, since: Duration) -> Option<Bytes> {
        let (allowed, limit) = limits.allowed(since);
        let room = allowed.saturating_sub(self.seen).min(chunk.len() as u64) as usize;
        self.seen = self.seen.saturating_add(chunk.len() as u64);
        if room == chunk.len() {
            self.is_clipping = false;
            return Some(chunk.clone());
        }
        self.keep(&chunk[room..]);
        if std::mem::replace(&mut self.is_clipping, true) {
            return (room > 0).then(|| chunk.slice(..room));
        }
        let mut told = chunk[..room].to_vec();
        told.extend_from_slice(format!("\n[output clipped, log limit {limit} reached]\n").as_bytes());
        Some(told.into())
    }

    /// The end of what was cut; nothing where all was told.
    pub fn end(&mut self) -> Option<Bytes> {
        let tail = std::mem::take(&mut self.tail);
        (!tail.is_empty()).then(|| Vec::from(tail).into())
    }

    fn keep(&mut self, cut: &[u8]) {
        let cut = &cut[cut.len().saturating_sub(TAIL)..];
        let extra = (self.tail.len() + cut.len()).saturating_sub(TAIL);
        self.tail.drain(..extra.min(self.tail.len()));
        self.tail.extend(cut);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { size: Some(10), speed: Some(4) };

    fn told(clip: &mut Clip, text: &'static str, seconds: u64) -> String {
        let chunk = Bytes::from_static(text.as_bytes());
        let told = clip.take(&chunk, &LIMITS, Duration::from_secs(seconds));
        told.map_or(String::new(), |told| String::from_utf8(told.to_vec()).expect("the input is ASCII"))
    }

    #[test]
    fn output_within_the_limits_is_told_as_it_is() {
        let mut clip = Clip::default();

        assert_eq!(told(&mut clip, "abcd", 1), "abcd");
        assert_eq!(told(&mut clip, "efgh", 2), "efgh");
        assert_eq!(clip.end(), None);
    }

    #[test]
    fn a_flood_is_cut_once_aloud_and_its_end_is_told_at_last() {
        let mut clip = Clip::default();

        assert_eq!(told(&mut clip, "abcdef", 1), "abcd\n[output clipped, log limit 4B/s reached]\n");
        assert_eq!(told(&mut clip, "gh", 1), "");
        assert_eq!(clip.end().as_deref(), Some(&b"efgh"[..]));
        assert_eq!(clip.end(), None);
    }

    #[test]
    fn the_limit_in_all_holds_however_slow_the_output_is() {
        let mut clip = Clip::default();

        assert_eq!(told(&mut clip, "abcdefgh", 60), "abcdefgh");
        assert_eq!(told(&mut clip, "ijkl", 600), "ij\n[output clipped, log limit 10B reached]\n");
    }

    #[test]
    fn no_limit_cuts_nothing_and_the_kept_end_is_bounded() {
        let none = Limits { size: None, speed: None };
        let (mut free, mut clipped) = (Clip::default(), Clip::default());
        let much = Bytes::from(vec![b'x'; 3 * TAIL]);

        assert_eq!(free.take(&much, &none, Duration::ZERO), Some(much.clone()));
        clipped.take(&much, &LIMITS, Duration::ZERO);
        clipped.take(&much, &LIMITS, Duration::ZERO);

        assert_eq!(clipped.end().map(|tail| tail.len()), Some(TAIL));
    }
}
