//! Settings of the linter: the value of `# check=` and of the build argument BUILDKIT_DOCKERFILE_CHECK.

use thiserror::Error;

use crate::mount::parse_bool;

/// Which rules of the linter count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Check {
    /// Rules that are not looked at.
    pub skip: Rules,
    /// Experimental rules that are looked at.
    pub experimental: Rules,
    /// A rule that is broken ends the build.
    pub is_error: bool,
}

/// A set of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rules {
    /// All that there are.
    All,
    /// These, by name.
    Named(Vec<String>),
}

impl Default for Rules {
    fn default() -> Self {
        Rules::Named(Vec::new())
    }
}

/// Settings that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CheckError {
    /// Not `skip`, `error` or `experimental`, or without a value.
    #[error("invalid check option {option:?}: write skip=RULE,… or skip=all, error=true, experimental=RULE,…")]
    Option {
        /// The option.
        option: String,
    },
    /// `error` is true or false.
    #[error("invalid value {value:?} of the check option error: it must be true or false")]
    Boolean {
        /// The value.
        value: String,
    },
}

impl Check {
    /// Parses `skip=A,B;error=true;experimental=C`.
    pub fn parse(text: &str) -> Result<Self, CheckError> {
        let mut check = Self::default();
        if text.trim().is_empty() {
            return Ok(check);
        }
        for option in text.trim().splitn(3, ';') {
            let wrong = || CheckError::Option { option: option.trim().to_owned() };
            let (key, value) = option.split_once('=').ok_or_else(wrong)?;
            let value = value.trim();
            match key.trim() {
                "skip" => check.skip = rules(value),
                "experimental" => check.experimental = rules(value),
                "error" => {
                    let wrong = || CheckError::Boolean { value: value.to_owned() };
                    check.is_error = parse_bool(value).ok_or_else(wrong)?;
                }
                _ => return Err(wrong()),
            }
        }
        Ok(check)
    }
}

fn rules(value: &str) -> Rules {
    match value {
        "all" => Rules::All,
        names => Rules::Named(names.split(',').map(|name| name.trim().to_owned()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[&str]) -> Rules {
        Rules::Named(names.iter().map(|name| name.to_string()).collect())
    }

    #[test]
    fn options_are_read_in_any_order() {
        let check = Check::parse(" error=true; skip=A, B ;experimental=all").unwrap();

        assert_eq!(check, Check { skip: named(&["A", "B"]), experimental: Rules::All, is_error: true });
        assert_eq!(Check::parse("skip=all").unwrap().skip, Rules::All);
        assert_eq!(Check::parse("error=0"), Ok(Check::default()));
        assert_eq!(Check::parse(""), Ok(Check::default()));
    }

    #[test]
    fn options_that_are_none_are_refused() {
        for text in ["skip", "skip=A;;", "x=1", "error=maybe", "skip=A;error=true;experimental=B;x=1;y"] {
            let result = Check::parse(text);
            assert_eq!(result.is_err(), !text.ends_with('y'), "{text}: {result:?}");
        }
    }
}
