//! Ignore matching agrees with a slow model: the rules of moby/patternmatcher, written down as a search.

use proptest::collection::vec;

use super::*;

/// Whether a cleaned pattern matches a whole path.
fn matches(pattern: &str, path: &str) -> bool {
    if let Some(suffix) = pattern.strip_prefix("**") {
        let is_plain = |text: &str| !text.contains(['*', '?', '[', ']', '\\']);
        if !suffix.is_empty() && !suffix.starts_with('/') && is_plain(suffix) {
            return path.ends_with(suffix);
        }
    }
    search(&pattern.chars().collect::<Vec<_>>(), &path.chars().collect::<Vec<_>>())
}

fn search(pattern: &[char], path: &[char]) -> bool {
    match pattern {
        [] => path.is_empty(),
        ['*', '*', rest @ ..] => {
            let rest = rest.strip_prefix(&['/']).unwrap_or(rest);
            let after_slash = (0..path.len()).filter(|at| path[*at] == '/').map(|at| at + 1);
            rest.is_empty() || std::iter::once(0).chain(after_slash).any(|at| search(rest, &path[at..]))
        }
        ['*', rest @ ..] => {
            let length = path.iter().take_while(|c| **c != '/').count();
            (0..=length).any(|at| search(rest, &path[at..]))
        }
        ['?', rest @ ..] => path.first().is_some_and(|c| *c != '/') && search(rest, &path[1..]),
        ['\\', c, rest @ ..] | [c, rest @ ..] => path.first() == Some(c) && search(rest, &path[1..]),
    }
}

/// Whether the lines of an ignore file leave a path out.
fn is_excluded(lines: &[String], path: &str) -> bool {
    let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
    let candidates: Vec<&str> = parents.chain([path]).collect();
    let mut excluded = false;
    for line in lines {
        let (is_negation, pattern) = line.strip_prefix('!').map_or((false, line.as_str()), |rest| (true, rest));
        let cleaned = clean(pattern);
        let cleaned = if cleaned.len() > 1 { cleaned.strip_prefix('/').unwrap_or(&cleaned) } else { &cleaned };
        if candidates.iter().any(|path| matches(cleaned, path)) {
            excluded = !is_negation;
        }
    }
    excluded
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(5000))]

    #[test]
    fn matching_agrees_with_the_model(
        lines in vec("!?[ab*?/.]{1,8}|!?\\*\\*[ab/*]{0,5}|[ab]\\\\[ab*]", 1..5),
        path in "[ab.]{1,3}(/[ab.*]{1,3}){0,3}",
    ) {
        let path = clean(&path);
        if path != "." && !path.starts_with("..") && let Ok(ignore) = IgnoreFile::parse(&lines.join("\n")) {
            let expected = is_excluded(&lines, &path);
            proptest::prop_assert_eq!(ignore.matches(&path).is_excluded(), expected, "{:?} {}", lines, path);
        }
    }
}
