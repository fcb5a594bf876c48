//! Which volumes are meant: Docker's filters. Those of one kind widen each other, labels narrow.

use strata_proto::runtime::v1 as pb;
use strata_proto::types::v1::LabelCondition;

use crate::error::Result;
use crate::filter::{Filters, has_label, wrong};

/// What a volume must be.
#[derive(Debug)]
pub struct Filter {
    said: Filters,
    /// No container uses it, or one does.
    dangling: Option<bool>,
}

impl Filter {
    /// Reads what the flags say.
    pub fn read(flags: &[String]) -> Result<Self> {
        let said = Filters::read(flags, &["dangling", "driver", "label", "name"])?;
        let dangling = said.truth("dangling")?;
        Ok(Self { said, dangling })
    }

    /// Says whether a volume is meant.
    pub fn takes(&self, volume: &pb::Volume) -> bool {
        self.dangling.is_none_or(|dangling| dangling == volume.container_ids.is_empty())
            && self.said.any("driver", |driver| volume.driver == driver)
            && self.said.any("name", |text| volume.name.contains(text))
            && self.said.of("label").all(|label| has_label(&volume.labels, label))
    }
}

/// Reads the filters of `prune`.
pub fn conditions(flags: &[String]) -> Result<Vec<LabelCondition>> {
    let read = crate::command::prune::Filter::read(flags)?;
    match read.before {
        None => Ok(read.labels),
        // Who else puts something there is not known from when a volume was made.
        Some(_) => Err(wrong("until", "volumes are pruned by label=KEY[=VALUE] and label!=KEY[=VALUE] alone")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_must_be_all_that_filters_say() {
        let volume = pb::Volume {
            name: "app-data".into(),
            driver: "local".into(),
            labels: [("env".to_owned(), "test".to_owned())].into(),
            container_ids: vec!["1".into()],
            ..Default::default()
        };
        for (flags, expected) in [
            (&[][..], true),
            (&["name=data"], true),
            (&["name=other", "name=app"], true),
            (&["name=other"], false),
            (&["dangling=false"], true),
            (&["dangling=true"], false),
            (&["driver=local", "label=env"], true),
            (&["driver=nfs"], false),
            (&["label=env=test"], true),
            (&["label=env=live"], false),
            (&["label=env", "label=other"], false),
        ] {
            let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
            assert_eq!(Filter::read(&flags).unwrap().takes(&volume), expected, "{flags:?}");
        }
    }

    #[test]
    fn what_is_no_filter_says_which_are() {
        for flag in ["colour=red", "dangling=perhaps", "name=", "name"] {
            assert!(Filter::read(&[flag.to_owned()]).is_err(), "{flag}");
        }
        for flag in ["name=x", "label=", "label!="] {
            assert!(conditions(&[flag.to_owned()]).is_err(), "{flag}");
        }
        let read = conditions(&["label!=a=b".to_owned(), "label=c".to_owned()]).unwrap();
        assert!(read[0].is_negated && read[0].value.as_deref() == Some("b"));
        assert!(!read[1].is_negated && read[1].value.is_none());
    }
}
