//! `--exclude`, and the patterns of `--parents`: which of the things below a directory are taken.

use std::collections::HashMap;

use strata_dockerfile::ignore::{IgnoreFile, Match};

/// What is taken of a directory.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only what matches. Unset: everything.
    pub include: Option<IgnoreFile>,
    /// Not what matches, even if it is included.
    pub exclude: IgnoreFile,
}

/// Something below a directory.
pub trait Below {
    /// Its path, from that directory on.
    fn path(&self) -> &[u8];
    /// It is a directory.
    fn is_directory(&self) -> bool;
    /// It comes along only for what is in it.
    fn imply(&mut self);
}

impl Filter {
    /// Everything is taken.
    pub fn is_open(&self) -> bool {
        self.include.is_none() && self.exclude.is_empty()
    }

    /// The thing at this path is taken.
    pub fn takes(&self, path: &[u8]) -> bool {
        let path = String::from_utf8_lossy(path);
        let is_included = self.include.as_ref().is_none_or(|include| include.matches(&path).is_excluded());
        is_included && !self.exclude.matches(&path).is_excluded()
    }

    /// Something below the directory at this path may be taken.
    pub fn enters(&self, path: &[u8]) -> bool {
        let path = String::from_utf8_lossy(path);
        if self.exclude.matches(&path) == (Match::Excluded { whole: true }) {
            return false;
        }
        let Some(include) = &self.include else { return true };
        include.matches(&path).is_excluded() || include.can_match_below(&path)
    }

    /// Keeps what is taken, and the directories that lead to it. Parents come first, here and in the answer.
    pub fn apply<T: Below>(&self, all: Vec<T>) -> Vec<T> {
        self.in_parts().apply(all)
    }

    /// The same for what comes in parts.
    pub fn in_parts<T: Below>(&self) -> Parts<'_, T> {
        Parts { filter: self, passed: HashMap::new() }
    }
}

/// A filter at work.
#[derive(Debug)]
pub struct Parts<'a, T> {
    filter: &'a Filter,
    /// Directories that are not taken, unless something in them is.
    passed: HashMap<Vec<u8>, T>,
}

impl<T: Below> Parts<'_, T> {
    /// Keeps what is taken of the next part.
    pub fn apply(&mut self, all: Vec<T>) -> Vec<T> {
        if self.filter.is_open() {
            return all;
        }
        let mut taken = Vec::new();
        for mut one in all {
            if !self.filter.takes(one.path()) {
                if one.is_directory() {
                    one.imply();
                    self.passed.insert(one.path().to_vec(), one);
                }
                continue;
            }
            let path = one.path().to_vec();
            for end in path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at) {
                taken.extend(self.passed.remove(&path[..end]));
            }
            taken.push(one);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone)]
    struct One(&'static str, bool);

    impl Below for One {
        fn path(&self) -> &[u8] {
            self.0.trim_end_matches('/').as_bytes()
        }

        fn is_directory(&self) -> bool {
            self.0.ends_with('/')
        }

        fn imply(&mut self) {
            self.1 = true;
        }
    }

    fn filter(include: Option<&str>, exclude: &[&str]) -> Filter {
        let patterns = |texts: &[&str]| IgnoreFile::from_patterns(texts.iter().copied()).expect("patterns");
        Filter { include: include.map(|one| patterns(&[one])), exclude: patterns(exclude) }
    }

    #[test]
    fn what_is_taken_brings_the_directories_that_lead_to_it() {
        let all = ["a.c", "d/", "d/b.c", "d/b.h", "d/e/", "d/e/f.c", "g/", "g/h.h"];
        for (include, exclude, expected) in [
            (None, vec!["*.c"], vec!["d/", "d/b.c", "d/b.h", "d/e/", "d/e/f.c", "g/", "g/h.h"]),
            (None, vec!["**/*.c", "g"], vec!["d/", "d/b.h", "d/e/"]),
            (None, vec!["d", "!d/e/f.c"], vec!["a.c", "(d/)", "(d/e/)", "d/e/f.c", "g/", "g/h.h"]),
            (Some("**/*.c"), vec![], vec!["a.c", "(d/)", "d/b.c", "(d/e/)", "d/e/f.c"]),
            (Some("d"), vec!["d/b.*"], vec!["d/", "d/e/", "d/e/f.c"]),
            (Some("d/*/f.c"), vec![], vec!["(d/)", "(d/e/)", "d/e/f.c"]),
            (Some("nothing*"), vec![], vec![]),
        ] {
            let filter = filter(include, &exclude);
            let taken = filter.apply(all.iter().map(|path| One(path, false)).collect());
            let shown: Vec<String> =
                taken.iter().map(|one| if one.1 { format!("({})", one.0) } else { one.0.to_owned() }).collect();
            assert_eq!(shown, expected, "{include:?} without {exclude:?}");
            for one in &taken {
                let mut parents =
                    one.0.match_indices('/').map(|(at, _)| &one.0[..at]).filter(|at| at.len() + 1 < one.0.len());
                assert!(
                    parents.all(|parent| filter.enters(parent.as_bytes())),
                    "{include:?} does not enter to {}",
                    one.0
                );
            }
        }
    }

    #[test]
    fn directories_without_anything_to_take_are_not_entered() {
        assert!(!filter(Some("src/**/*.c"), &[]).enters(b"node_modules"));
        assert!(!filter(None, &["node_modules"]).enters(b"node_modules"));
        assert!(filter(None, &["node_modules", "!node_modules/kept"]).enters(b"node_modules"));
    }
}
