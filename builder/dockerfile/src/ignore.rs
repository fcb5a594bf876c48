//! `.dockerignore`: which paths of a context are left out, and which line says so.
//! Semantics of moby/patternmatcher's `MatchesOrParentMatches`: patterns are anchored at the root of the context,
//! a pattern also matches what lies below, `!` takes back, the last line that matches decides.

use thiserror::Error;

use crate::glob::{self, Token};

/// A line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IgnoreError {
    /// A malformed pattern.
    #[error("line {line}: syntax error in pattern {pattern:?}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// The line as written.
        pattern: String,
    },
    /// `!` alone.
    #[error("line {line}: nothing follows the !")]
    EmptyNegation {
        /// Line, from 1.
        line: usize,
    },
}

/// One pattern of the file.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// Line in the file, from 1.
    pub line: usize,
    /// The line as written, trimmed.
    pub text: String,
    /// Starts with `!`: what matches is included.
    pub is_negation: bool,
    parts: Vec<Part>,
}

/// What the file says about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// No line leaves it out, or a later `!` line takes it back.
    Included,
    /// It is left out.
    Excluded {
        /// It and all below it are: no `!` line can take anything below it back, so a walk need not enter it.
        whole: bool,
    },
}

impl Match {
    /// Whether the path is left out.
    pub fn is_excluded(self) -> bool {
        self != Match::Included
    }
}

/// A parsed `.dockerignore`; the default one excludes nothing.
#[derive(Debug, Clone, Default)]
pub struct IgnoreFile {
    patterns: Vec<Pattern>,
}

impl IgnoreFile {
    /// Parses the text of a `.dockerignore`.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut patterns = Vec::new();
        for (index, line) in text.split('\n').enumerate() {
            if !line.starts_with('#') && !line.trim().is_empty() {
                patterns.push(Pattern::parse(line.trim(), index + 1)?);
            }
        }
        Ok(Self { patterns })
    }

    /// Makes a matcher of patterns given one by one, as `--exclude` gives them; lines count from 1.
    pub fn from_patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, IgnoreError> {
        let lines = patterns.into_iter().enumerate().filter(|(_, text)| !text.trim().is_empty());
        let patterns = lines.map(|(index, text)| Pattern::parse(text.trim(), index + 1));
        Ok(Self { patterns: patterns.collect::<Result<_, _>>()? })
    }

    /// Whether nothing can be excluded.
    pub fn is_empty(&self) -> bool {
        self.patterns.iter().all(|pattern| pattern.is_negation)
    }

    /// The patterns, in order.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// What becomes of `path`, relative to the root of the context, with `/` between components.
    pub fn matches(&self, path: &str) -> Match {
        match self.decide(path) {
            Some((index, pattern)) if !pattern.is_negation => Match::Excluded { whole: self.is_whole(path, index) },
            _ => Match::Included,
        }
    }

    /// The line that excludes `path`; `None` if it is included.
    pub fn matching_pattern(&self, path: &str) -> Option<&Pattern> {
        let (_, pattern) = self.decide(path)?;
        (!pattern.is_negation).then_some(pattern)
    }

    /// Whether some path below `path` can match a pattern that is no negation.
    pub fn can_match_below(&self, path: &str) -> bool {
        let path: Vec<char> = clean(path).trim_start_matches('/').chars().chain(['/']).collect();
        self.patterns.iter().any(|pattern| !pattern.is_negation && pattern.can_match_below(&path))
    }

    /// The last pattern that changed what becomes of `path`. As in moby, a pattern is only tried if it can change it.
    fn decide(&self, path: &str) -> Option<(usize, &Pattern)> {
        let path = clean(path);
        if path == "." {
            return None;
        }
        let path: Vec<char> = path.trim_start_matches('/').chars().collect();
        let mut decided: Option<(usize, &Pattern)> = None;
        for (index, pattern) in self.patterns.iter().enumerate() {
            let is_excluded = decided.is_some_and(|(_, pattern)| !pattern.is_negation);
            if pattern.is_negation == is_excluded && pattern.matches_or_parent(&path) {
                decided = Some((index, pattern));
            }
        }
        decided
    }

    /// Whether the exclusion by pattern `index` holds for everything below `path`: no later negation can match there.
    fn is_whole(&self, path: &str, index: usize) -> bool {
        let path: Vec<char> = clean(path).trim_start_matches('/').chars().chain(['/']).collect();
        let later = &self.patterns[index + 1..];
        !later.iter().any(|pattern| pattern.is_negation && pattern.can_match_below(&path))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// One character, `?` or a bracket; never a star.
    One(Token),
    /// `*`: anything but `/`.
    Star,
    /// `**/`: nothing, or anything that ends in `/`.
    Directories,
    /// `**` at the end: anything.
    Everything,
    /// `**` at the start before something else than `/`: any number of characters, `/` too.
    Anything,
}

impl Pattern {
    fn parse(text: &str, line: usize) -> Result<Self, IgnoreError> {
        let (is_negation, rest) = match text.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, text),
        };
        if rest.is_empty() {
            return Err(IgnoreError::EmptyNegation { line });
        }
        let cleaned = clean(rest);
        let cleaned = if cleaned.len() > 1 { cleaned.strip_prefix('/').unwrap_or(&cleaned) } else { &cleaned };
        let syntax = || IgnoreError::Syntax { line, pattern: text.to_owned() };
        glob::matches(cleaned, ".").map_err(|_| syntax())?;
        let parts = parts(cleaned).ok_or_else(syntax)?;
        Ok(Self { line, text: text.to_owned(), is_negation, parts })
    }

    fn matches_or_parent(&self, path: &[char]) -> bool {
        let reached = self.walk(path);
        let is_end = |at: &usize| *at == path.len() || path[*at] == '/';
        reached.ends.iter().any(is_end)
    }

    /// Whether some path that starts with `prefix` (which ends in `/`) can match, or have a parent that does.
    fn can_match_below(&self, prefix: &[char]) -> bool {
        let reached = self.walk(prefix);
        reached.is_open || reached.ends.iter().any(|&at| at == prefix.len() || prefix[at] == '/')
    }

    /// Walks the set of places in `path` that the pattern can reach.
    fn walk(&self, path: &[char]) -> Reached {
        let mut ends = vec![0];
        let mut is_open = false;
        for part in &self.parts {
            // The pattern goes on where the path ends: a longer path might match.
            is_open |= ends.last() == Some(&path.len());
            ends = step(part, &ends, path);
            if ends.is_empty() {
                break;
            }
        }
        Reached { ends, is_open }
    }
}

struct Reached {
    /// Sorted places after the whole pattern.
    ends: Vec<usize>,
    /// Some way through the pattern used up the path.
    is_open: bool,
}

fn step(part: &Part, ends: &[usize], path: &[char]) -> Vec<usize> {
    match part {
        Part::One(token) => {
            let accepted = ends.iter().filter(|&&at| path.get(at).is_some_and(|&c| token.accepts(c)));
            accepted.map(|at| at + 1).collect()
        }
        Part::Star => {
            let mut reached = Vec::new();
            let mut next = 0;
            for &end in ends.iter() {
                if end < next {
                    continue;
                }
                let length = path[end..].iter().take_while(|&&c| c != '/').count();
                reached.extend(end..=end + length);
                next = end + length + 1;
            }
            reached
        }
        Part::Directories => {
            let first = ends[0];
            let mut reached: Vec<usize> = ends.to_vec();
            reached.extend((first..path.len()).filter(|&at| path[at] == '/').map(|at| at + 1));
            reached.sort_unstable();
            reached.dedup();
            reached
        }
        Part::Everything | Part::Anything => (ends[0]..=path.len()).collect(),
    }
}

/// The parts of a cleaned pattern, as `Pattern.compile` of moby/patternmatcher reads it.
fn parts(pattern: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        parts.push(match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                let is_first = parts.is_empty();
                let had_slash = chars.next_if_eq(&'/').is_some();
                match chars.clone().next() {
                    None => Part::Everything,
                    // A leading "**x" is a suffix match there, and only as long as nothing else is special.
                    Some(_) if is_first && !had_slash && is_plain(chars.clone()) => Part::Anything,
                    Some(_) => Part::Directories,
                }
            }
            '*' => Part::Star,
            '?' => Part::One(Token::Any),
            '\\' => Part::One(Token::Char(chars.next()?)),
            '[' => Part::One(glob::parse_class(&mut chars)?),
            c => Part::One(Token::Char(c)),
        });
    }
    Some(parts)
}

fn is_plain(mut rest: std::iter::Peekable<std::str::Chars<'_>>) -> bool {
    !rest.any(|c| matches!(c, '*' | '?' | '[' | ']' | '\\'))
}

/// Go's `filepath.Clean`: no empty and `.` components, `..` resolved, no `/` at the end.
pub fn clean(path: &str) -> String {
    let is_rooted = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => match kept.last() {
                Some(&last) if last != ".." => drop(kept.pop()),
                _ if is_rooted => {}
                _ => kept.push(".."),
            },
            other => kept.push(other),
        }
    }
    match (is_rooted, kept.is_empty()) {
        (true, _) => format!("/{}", kept.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => kept.join("/"),
    }
}

#[cfg(test)]
mod tests;
