//! How long to wait before a request is tried again: exponential, with jitter, and never less than the registry asks for.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

/// The longest wait of our own choice.
const LONGEST: Duration = Duration::from_secs(20);
/// The longest wait that a registry may ask for; beyond it the request fails and says so.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The waits between the tries of one request.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    left: u32,
    all: u32,
    first: Duration,
    next: Duration,
}

impl Backoff {
    /// Up to `attempts` tries in all, the first wait being about `first`.
    pub(crate) fn new(attempts: u32, first: Duration) -> Self {
        let all = attempts.max(1) - 1;
        Self { left: all, all, first, next: first }
    }

    /// Starts anew, since the last try brought something.
    pub(crate) fn reset(&mut self) {
        self.left = self.all;
        self.next = self.first;
    }

    /// The next wait, at least `asked`; none when the tries are used up or the registry asks for too much.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Option<Duration> {
        if self.left == 0 || asked.is_some_and(|asked| asked > PATIENCE) {
            return None;
        }
        self.left -= 1;
        let wait = self.next;
        self.next = (self.next * 2).min(LONGEST);
        // Between a half and the whole, so that clients that failed together do not return together.
        Some((wait / 2 + wait.mul_f64(jitter() / 2.0)).max(asked.unwrap_or_default()))
    }
}

/// A number from 0 to 1.
fn jitter() -> f64 {
    let mut bytes = [0; 2];
    // Without random numbers everybody waits the whole time: worse for the registry, not wrong.
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(_) => f64::from(u16::from_le_bytes(bytes)) / f64::from(u16::MAX),
        Err(_) => 1.0,
    }
}

/// What Retry-After asks for: seconds, or a date (RFC 9110, 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_their_jitter_and_end() {
        let mut backoff = Backoff::new(4, Duration::from_millis(100));
        for whole in [100, 200, 400] {
            let wait = backoff.next(None).unwrap().as_millis();
            assert!((whole / 2..=whole).contains(&wait), "{wait} ms for {whole}");
        }
        assert_eq!(backoff.next(None), None);
        backoff.reset();
        assert!(backoff.next(None).unwrap() <= Duration::from_millis(100));
    }

    #[test]
    fn a_wait_is_never_shorter_than_asked_and_too_long_a_one_ends_it() {
        let mut backoff = Backoff::new(9, Duration::from_millis(1));
        assert_eq!(backoff.next(Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(backoff.next(Some(PATIENCE + Duration::from_secs(1))), None);
    }

    #[test]
    fn waits_stay_bounded() {
        let mut backoff = Backoff::new(u32::MAX, Duration::from_secs(5));
        assert!((0..100).all(|_| backoff.next(None).unwrap() <= LONGEST));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for (text, expected) in [
            ("7", Some(Duration::from_secs(7))),
            (" 0 ", Some(Duration::ZERO)),
            ("Sun, 09 Sep 2001 01:47:10 GMT", Some(Duration::from_secs(30))),
            ("Sun, 09 Sep 2001 01:46:00 GMT", Some(Duration::ZERO)),
            ("soon", None),
            ("-1", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            assert_eq!(retry_after(&headers, now), expected, "{text:?}");
        }
    }
}
