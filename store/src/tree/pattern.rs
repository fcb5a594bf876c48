//! Go's `filepath.Match`, for one component of a path: what wildcards of COPY and ADD mean.

/// Says whether a component holds a wildcard or an escape.
pub(super) fn is_pattern(component: &[u8]) -> bool {
    component.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'))
}

/// Matches a name against a pattern; `None` when the pattern is malformed.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> Option<bool> {
    let Some((&first, rest)) = pattern.split_first() else { return Some(name.is_empty()) };
    match first {
        b'*' => {
            let mut malformed = false;
            for start in 0..=name.len() {
                match matches(rest, &name[start..]) {
                    Some(true) => return Some(true),
                    Some(false) => {}
                    None => malformed = true,
                }
            }
            if malformed { None } else { Some(false) }
        }
        b'?' => match character(name) {
            Some((_, length)) => matches(rest, &name[length..]),
            None => check(rest),
        },
        b'[' => {
            let found = character(name);
            let (matched, rest) = class(rest, found.map(|(character, _)| character))?;
            match found {
                Some((_, length)) if matched => matches(rest, &name[length..]),
                _ => check(rest),
            }
        }
        b'\\' => {
            let (&escaped, rest) = rest.split_first()?;
            if name.first() == Some(&escaped) { matches(rest, &name[1..]) } else { check(rest) }
        }
        literal if name.first() == Some(&literal) => matches(rest, &name[1..]),
        _ => check(rest),
    }
}

/// Says "no match" unless what remains of the pattern is malformed.
fn check(rest: &[u8]) -> Option<bool> {
    let mut rest = rest;
    while let Some((&first, after)) = rest.split_first() {
        rest = match first {
            b'\\' => after.split_first()?.1,
            b'[' => class(after, None)?.1,
            _ => after,
        };
    }
    Some(false)
}

/// Reads a class after its bracket: whether it holds `wanted`, and what follows it.
fn class(pattern: &[u8], wanted: Option<char>) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match pattern.split_first() {
        Some((b'^', rest)) => (true, rest),
        _ => (false, pattern),
    };
    let (mut matched, mut ranges) = (false, 0);
    loop {
        if rest.first() == Some(&b']') && ranges > 0 {
            return Some((matched != negated, &rest[1..]));
        }
        let (low, after) = bound(rest)?;
        rest = after;
        let mut high = low;
        if rest.first() == Some(&b'-') {
            (high, rest) = bound(&rest[1..])?;
        }
        matched |= wanted.is_some_and(|wanted| low <= wanted && wanted <= high);
        ranges += 1;
    }
}

/// Reads one end of a range.
fn bound(pattern: &[u8]) -> Option<(char, &[u8])> {
    let pattern = match pattern.first()? {
        b'-' | b']' => return None,
        b'\\' => &pattern[1..],
        _ => pattern,
    };
    let (character, length) = character(pattern)?;
    let rest = &pattern[length..];
    if rest.is_empty() { None } else { Some((character, rest)) }
}

/// Decodes the first character; a byte that is not UTF-8 counts as U+FFFD, as in Go.
fn character(bytes: &[u8]) -> Option<(char, usize)> {
    let chunk = bytes.get(..bytes.len().min(4))?;
    let valid = match std::str::from_utf8(chunk) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&chunk[..error.valid_up_to()]).expect("checked by valid_up_to"),
    };
    match valid.chars().next() {
        Some(character) => Some((character, character.len_utf8())),
        None if bytes.is_empty() => None,
        None => Some((char::REPLACEMENT_CHARACTER, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_go_means() {
        let cases: &[(&str, &str, Option<bool>)] = &[
            ("abc", "abc", Some(true)),
            ("*", "abc", Some(true)),
            ("*c", "abc", Some(true)),
            ("a*", "a", Some(true)),
            ("a*b*c*d*e*", "axbxcxdxe", Some(true)),
            ("a*b?c*x", "abxbbxdbxebxczzy", Some(false)),
            ("ab[c]", "abc", Some(true)),
            ("ab[b-d]", "abc", Some(true)),
            ("ab[e-g]", "abc", Some(false)),
            ("ab[^c]", "abc", Some(false)),
            ("ab[^e-g]", "abc", Some(true)),
            ("a\\*b", "a*b", Some(true)),
            ("a\\*b", "ab", Some(false)),
            ("a?b", "a☺b", Some(true)),
            ("a[^a]b", "a☺b", Some(true)),
            ("a???b", "a☺b", Some(false)),
            ("[a-ζ]*", "α", Some(true)),
            ("[\\]a]", "]", Some(true)),
            ("[\\-x]", "-", Some(true)),
            ("[]a]", "]", None),
            ("[-]", "-", None),
            ("[x-]", "x", None),
            ("[a-b-c]", "a", None),
            ("[", "a", None),
            ("[^bc", "a", None),
            ("a[", "a", None),
            ("a[", "ab", None),
            ("\\", "a", None),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), *expected, "{pattern} on {name}");
        }
    }
}
