//! Conditions on labels as `strata-types` has them.

use strata_types::LabelCondition;

use crate::types::v1 as wire;

impl From<wire::LabelCondition> for LabelCondition {
    fn from(condition: wire::LabelCondition) -> Self {
        let wire::LabelCondition { key, value, is_negated } = condition;
        Self { key, value, is_negated }
    }
}
