//! The steps of a build, read from its plain progress.

use std::collections::BTreeMap;

use crate::Output;

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Went {
    /// It was taken from the cache.
    Cached,
    /// It was done.
    Done,
    /// It failed.
    Failed,
    /// Nothing was said about its end.
    Open,
}

/// The steps of one build: name and how it went, by number.
#[derive(Debug)]
pub struct Steps(Vec<(String, Went)>);

impl Steps {
    /// Reads "#2 [2/3] RUN …", "#2 0.123 what it prints", "#2 CACHED", "#2 DONE 0.1s", "#2 ERROR: …".
    pub fn of(output: &Output) -> Self {
        let mut steps: BTreeMap<u32, (String, Went)> = BTreeMap::new();
        for line in output.stderr.lines() {
            let Some((number, rest)) = line.strip_prefix('#').and_then(|rest| rest.split_once(' ')) else { continue };
            let Ok(number) = number.parse() else { continue };
            let Some(step) = steps.get_mut(&number) else {
                steps.insert(number, (rest.to_owned(), Went::Open));
                continue;
            };
            match rest.split(' ').next() {
                Some("CACHED") => step.1 = Went::Cached,
                Some("DONE") => step.1 = Went::Done,
                Some("ERROR" | "ERROR:") => step.1 = Went::Failed,
                _ => {}
            }
        }
        assert!(!steps.is_empty(), "no step in {output:?}");
        Self(steps.into_values().collect())
    }

    /// How the one step went whose name has these words.
    #[track_caller]
    pub fn went(&self, words: &str) -> Went {
        let found: Vec<_> = self.0.iter().filter(|(name, _)| name.contains(words)).collect();
        assert_eq!(found.len(), 1, "steps with {words:?} in {:#?}", self.0);
        found[0].1
    }

    /// Is there such a step?
    pub fn has(&self, words: &str) -> bool {
        self.0.iter().any(|(name, _)| name.contains(words))
    }

    /// Insists that every step of the Dockerfile but FROM was cached.
    #[track_caller]
    pub fn all_cached(&self) {
        let is_of_the_file = |name: &str| name.starts_with('[') && !name.starts_with("[internal]");
        let done: Vec<_> = self
            .0
            .iter()
            .filter(|(name, went)| *went != Went::Cached && is_of_the_file(name) && !name.contains("FROM "))
            .collect();
        assert!(done.is_empty(), "not cached: {done:#?}");
        assert!(self.0.iter().any(|(_, went)| *went == Went::Cached), "no step was cached: {:#?}", self.0);
    }
}
