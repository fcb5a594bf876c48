//! Which volumes are meant: Docker's filters. Those of one kind widen each other, labels narrow.

use strata_proto::runtime::v1 as pb;

use crate::error::Result;
use crate::filter::wrong;

/// What a volume must be.
#[derive(Debug, Default)]
pub struct Filter {
    /// No container uses it, or one does.
    dangling: Option<bool>,
    /// Drivers, of which it must have one.
    drivers: Vec<String>,
    /// Labels that it must have, with their value or any.
    labels: Vec<pb::LabelCondition>,
    /// Texts, of which its name must have one.
    names: Vec<String>,
}

impl Filter {
    /// Reads what the flags say.
    pub fn read(flags: &[String]) -> Result<Self> {
        let mut filter = Self::default();
        for flag in flags {
            match flag.split_once('=').unwrap_or((flag, "")) {
                ("dangling", "true" | "1") => filter.dangling = Some(true),
                ("dangling", "false" | "0") => filter.dangling = Some(false),
                ("dangling", _) => return Err(wrong(flag, "true or false is expected")),
                ("driver", name) if !name.is_empty() => filter.drivers.push(name.to_owned()),
                ("label", label) if !label.is_empty() => filter.labels.push(condition(label, false)),
                ("name", text) if !text.is_empty() => filter.names.push(text.to_owned()),
                _ => return Err(wrong(flag, "dangling, driver, label and name with a value are known")),
            }
        }
        Ok(filter)
    }

    /// Says whether a volume is meant.
    pub fn takes(&self, volume: &pb::Volume) -> bool {
        let has = |label: &pb::LabelCondition| {
            let found = volume.labels.get(&label.key);
            found.is_some_and(|found| label.value.as_ref().is_none_or(|value| value == found))
        };
        self.dangling.is_none_or(|dangling| dangling == volume.container_ids.is_empty())
            && (self.drivers.is_empty() || self.drivers.contains(&volume.driver))
            && (self.names.is_empty() || self.names.iter().any(|text| volume.name.contains(text)))
            && self.labels.iter().all(has)
    }
}

/// Reads the filters of `prune`.
pub fn conditions(flags: &[String]) -> Result<Vec<pb::LabelCondition>> {
    let one = |flag: &String| {
        let label = flag.strip_prefix("label=").map(|label| (label, false));
        let label = label.or_else(|| flag.strip_prefix("label!=").map(|label| (label, true)));
        match label {
            Some((label, is_negated)) if !label.is_empty() => Ok(condition(label, is_negated)),
            _ => Err(wrong(flag, "label=KEY[=VALUE] and label!=KEY[=VALUE] are known")),
        }
    };
    flags.iter().map(one).collect()
}

fn condition(label: &str, is_negated: bool) -> pb::LabelCondition {
    let (key, value) = label.split_once('=').map_or((label, None), |(key, value)| (key, Some(value)));
    pb::LabelCondition { key: key.to_owned(), value: value.map(str::to_owned), is_negated }
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
