//! What `--filter KEY=VALUE` says. Values of one key widen each other unless its command says otherwise, keys narrow.

use std::collections::HashMap;

use crate::error::{Error, Result};

/// Filters as they were typed, each of a key that its command knows.
#[derive(Debug, Default)]
pub struct Filters(Vec<(String, String)>);

impl Filters {
    /// Reads what the flags say; a key that is not known is refused with those that are.
    pub fn read(flags: &[String], known: &[&str]) -> Result<Self> {
        let one = |flag: &String| {
            let (key, value) = flag.split_once('=').unwrap_or((flag, ""));
            if !known.contains(&key) {
                let near = strata_dockerfile::nearest(key, known.iter().copied());
                let error = wrong(flag, &format!("{} with a value are known", known.join(", ")));
                return Err(near.into_iter().fold(error, |error, near| error.hint(format!("did you mean {near}?"))));
            }
            if value.is_empty() {
                return Err(wrong(flag, "a value is expected"));
            }
            Ok((key.to_owned(), value.to_owned()))
        };
        flags.iter().map(one).collect::<Result<_>>().map(Self)
    }

    /// The values of a key.
    pub fn of<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(own, _)| own == key).map(|(_, value)| value.as_str())
    }

    /// "dangling" and such: whether it shall be so. Values that contradict each other mean the last.
    pub fn truth(&self, key: &str) -> Result<Option<bool>> {
        let one = |value: &str| match value.to_lowercase().as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(wrong(&format!("{key}={value}"), "true or false is expected")),
        };
        self.of(key).map(one).last().transpose()
    }

    /// Whether one of the values of a key fits, or the key was not given.
    pub fn any(&self, key: &str, fits: impl Fn(&str) -> bool) -> bool {
        !self.has(key) || self.of(key).any(fits)
    }

    /// Whether a key was given.
    pub fn has(&self, key: &str) -> bool {
        self.of(key).next().is_some()
    }
}

/// A filter that cannot be understood.
pub fn wrong(flag: &str, why: &str) -> Error {
    Error::usage(format!("invalid --filter {flag:?}: {why}"))
}

/// Says whether there is a label: "KEY" with any value, "KEY=VALUE" with this one.
pub fn has_label(labels: &HashMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|label| label == value),
        None => labels.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_filter_says_which_are() {
        let read = |flag: &str| Filters::read(&[flag.to_owned()], &["name", "label"]);

        let unknown = read("nam=x").unwrap_err();
        assert!(unknown.message.contains("name, label with a value are known"), "{}", unknown.message);
        assert_eq!(unknown.hints, ["did you mean name?"]);
        for flag in ["name", "name="] {
            assert!(read(flag).unwrap_err().message.contains("a value is expected"), "{flag}");
        }
        let read = read("label=a=b").unwrap();
        assert_eq!(read.of("label").collect::<Vec<_>>(), ["a=b"]);
        assert!(read.has("label") && !read.has("name"));
    }

    #[test]
    fn values_of_one_key_widen_each_other() {
        let flags = ["name=a", "name=b", "dangling=false", "dangling=1"].map(str::to_owned);
        let filters = Filters::read(&flags, &["name", "dangling", "driver"]).unwrap();

        assert!(filters.any("name", |value| value == "b") && !filters.any("name", |value| value == "c"));
        assert!(filters.any("driver", |_| false), "what is not asked for does not matter");
        assert_eq!(filters.truth("dangling").unwrap(), Some(true));
        assert_eq!(filters.truth("driver").unwrap(), None);
        assert!(filters.truth("name").is_err());
    }
}
