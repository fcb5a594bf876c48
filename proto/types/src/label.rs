//! What labels must be: the conditions of filters.

use std::collections::BTreeMap;

/// What a label must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelCondition {
    /// The label.
    pub key: String,
    /// Its value. None: any.
    pub value: Option<String>,
    /// It must not be so.
    pub is_negated: bool,
}

impl LabelCondition {
    /// Says whether labels are so.
    pub fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let found = labels.get(&self.key);
        let is_so = found.is_some_and(|found| self.value.as_ref().is_none_or(|value| value == found));
        is_so != self.is_negated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_about_a_value_or_any_and_can_be_turned_round() {
        let labels = BTreeMap::from([("tier".to_owned(), "back".to_owned())]);
        for (key, value, expected) in
            [("tier", None, true), ("tier", Some("back"), true), ("tier", Some("front"), false), ("other", None, false)]
        {
            for is_negated in [false, true] {
                let condition = LabelCondition { key: key.into(), value: value.map(Into::into), is_negated };

                assert_eq!(condition.holds(&labels), expected != is_negated, "{condition:?}");
            }
        }
    }
}
