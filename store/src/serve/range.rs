//! Ranges: the part of a blob that is asked for (RFC 9110, 14), and the place of a chunk in an upload.

/// What a Range header asks of content with a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it: there is no header, or one that may be ignored.
    Whole,
    /// Bytes `start` to `end`, both included.
    Part { start: u64, end: u64 },
    /// A part that there is not.
    Beyond,
}

/// Reads a Range header. Several ranges, other units and what is malformed are ignored, as RFC 9110 lets a server.
pub(super) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(range) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else { return Wanted::Whole };
    let Some((first, last)) = range.split_once('-') else { return Wanted::Whole };
    let (first, last) = (first.trim(), last.trim());
    match (number(first), number(last)) {
        (Some(start), Some(end)) if start <= end && start < size => Wanted::Part { start, end: end.min(size - 1) },
        (Some(_), Some(_)) => Wanted::Beyond,
        (Some(start), None) if last.is_empty() && start < size => Wanted::Part { start, end: size - 1 },
        (Some(_), None) if last.is_empty() => Wanted::Beyond,
        (None, Some(0)) if first.is_empty() => Wanted::Beyond,
        (None, Some(_)) if first.is_empty() && size == 0 => Wanted::Beyond,
        (None, Some(length)) if first.is_empty() => Wanted::Part { start: size.saturating_sub(length), end: size - 1 },
        _ => Wanted::Whole,
    }
}

/// Reads the Content-Range of a chunk, "first-last", which the specification has without a unit; "bytes first-last/*"
/// is what some clients send. Returns the first byte and the number of bytes.
pub(super) fn chunk(header: &str) -> Option<(u64, u64)> {
    let text = header.trim();
    let text = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches([' ', '=']));
    let text = text.split_once('/').map_or(text, |(range, _)| range);
    let (first, last) = text.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    Some((first, last.checked_sub(first)?.checked_add(1)?))
}

/// Digits alone: no sign, no blank.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_the_rfc_has_it() {
        let part = |start, end| Wanted::Part { start, end };
        for (header, expected) in [
            ("bytes=0-99", part(0, 99)),
            ("bytes=0-", part(0, 99)),
            ("bytes=-1", part(99, 99)),
            ("bytes=-1000", part(0, 99)),
            ("bytes=99-1000", part(99, 99)),
            ("bytes=5-5", part(5, 5)),
            ("bytes=100-", Wanted::Beyond),
            ("bytes=100-200", Wanted::Beyond),
            ("bytes=5-4", Wanted::Beyond),
            ("bytes=-0", Wanted::Beyond),
            ("bytes=", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=0-1,5-6", Wanted::Whole),
            ("bytes=99999999999999999999-", Wanted::Whole),
            ("pages=0-1", Wanted::Whole),
        ] {
            assert_eq!(wanted(Some(header), 100), expected, "{header}");
        }
        assert_eq!(wanted(None, 100), Wanted::Whole);
        assert_eq!(wanted(Some("bytes=0-0"), 0), Wanted::Beyond);
        assert_eq!(wanted(Some("bytes=-5"), 0), Wanted::Beyond);
    }

    #[test]
    fn the_place_of_a_chunk_is_two_numbers() {
        assert_eq!(chunk("0-9"), Some((0, 10)));
        assert_eq!(chunk("10-10"), Some((10, 1)));
        assert_eq!(chunk("bytes 5-9/20"), Some((5, 5)));
        assert_eq!(chunk("bytes=5-9"), Some((5, 5)));
        for text in ["", "5", "9-5", "-5", "5-", "a-b", "0-18446744073709551615", "+1-2"] {
            assert_eq!(chunk(text), None, "{text}");
        }
    }
}
