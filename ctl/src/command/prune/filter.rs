//! What `prune` takes: Docker's filters `until` and `label`. All of them narrow.

use strata_proto::types::v1::LabelCondition;

use crate::error::Result;
use crate::filter::wrong;
use crate::moment;

/// What something must be to be removed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// It was made before this.
    pub before: Option<prost_types::Timestamp>,
    /// What its labels must be.
    pub labels: Vec<LabelCondition>,
}

impl Filter {
    /// Reads what the flags say.
    pub fn read(flags: &[String]) -> Result<Self> {
        let mut filter = Self::default();
        let mut before = None;
        for flag in flags {
            if let Some(text) = flag.strip_prefix("until=") {
                let at = moment::parse(text).ok_or_else(|| wrong(flag, "a time or a span is expected, \"24h\""))?;
                before = Some(before.map_or(at, |before: jiff::Timestamp| before.min(at)));
                continue;
            }
            let label = flag.strip_prefix("label=").map(|label| (label, false));
            let label = label.or_else(|| flag.strip_prefix("label!=").map(|label| (label, true)));
            match label {
                Some((label, is_negated)) if !label.is_empty() => filter.labels.push(condition(label, is_negated)),
                _ => return Err(wrong(flag, "until=TIME, label=KEY[=VALUE] and label!=KEY[=VALUE] are known")),
            }
        }
        filter.before = before.map(moment::to_wire);
        Ok(filter)
    }
}

/// What a label must be, or must not be: "KEY" with any value, "KEY=VALUE" with this one.
fn condition(label: &str, is_negated: bool) -> LabelCondition {
    let (key, value) = label.split_once('=').map_or((label, None), |(key, value)| (key, Some(value)));
    LabelCondition { key: key.to_owned(), value: value.map(str::to_owned), is_negated }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_a_time_and_labels() {
        let read = |flags: &[&str]| Filter::read(&flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>());

        let found = read(&["until=10", "until=2026-01-01", "label=a", "label!=b=c"]).unwrap();

        assert_eq!(found.before.map(|at| at.seconds), Some(10));
        assert_eq!(found.labels, [condition("a", false), condition("b=c", true)]);
        assert!(read(&["until=24h"]).unwrap().before.is_some());
        for flag in ["until=soon", "until", "label=", "name=x"] {
            assert!(read(&[flag]).unwrap_err().message.contains(flag), "{flag}");
        }
    }
}
