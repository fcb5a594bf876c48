//! Which images `ctl images` shows: Docker's filters. Those of one kind widen each other, those of several narrow.

use std::path::Path;

use jiff::Timestamp;
use strata_dockerfile::glob;
use strata_proto::store::v1 as pb;
use strata_types::Reference;

use crate::args::Images;
use crate::error::{Error, Result};
use crate::filter::{Filters, wrong};
use crate::moment;
use crate::platform::Platform;
use crate::render::time;

/// What an image must be.
#[derive(Debug, Default)]
pub struct Filter {
    /// Patterns, of which one must match a name.
    references: Vec<String>,
    /// It has no name, or has one.
    dangling: Option<bool>,
    /// Labels that it must have, with their value or any.
    labels: Vec<(String, Option<String>)>,
    /// It was made before this.
    before: Option<Timestamp>,
    /// It was made after this.
    since: Option<Timestamp>,
}

impl Filter {
    /// Reads what the flags say; images that filters name are looked up.
    pub async fn read(platform: &Platform, args: &Images) -> Result<Self> {
        let said = Filters::read(&args.filter, &["before", "dangling", "label", "reference", "since", "until"])?;
        let mut filter = Self {
            references: args.reference.clone().into_iter().collect(),
            dangling: said.truth("dangling")?,
            labels: said.of("label").map(label).collect(),
            ..Self::default()
        };
        let more: Vec<String> = said.of("reference").map(str::to_owned).collect();
        for image in said.of("before") {
            filter.before = made(platform, image).await?;
        }
        for image in said.of("since") {
            filter.since = made(platform, image).await?;
        }
        for text in said.of("until") {
            let wrong = || wrong(&format!("until={text}"), "a time or a span is expected, \"24h\"");
            let until = moment::parse(text).ok_or_else(wrong)?;
            filter.before = Some(filter.before.map_or(until, |before| before.min(until)));
        }
        // The argument and the filter are two conditions: what both say is looked for with the narrower.
        match (filter.references.is_empty(), more.is_empty()) {
            (_, true) => {}
            (true, false) => filter.references = more,
            (false, false) => return Err(Error::usage("an argument and a filter cannot both name images")),
        }
        for pattern in &filter.references {
            glob::matches(pattern, "").map_err(|error| Error::usage(error.to_string()))?;
        }
        Ok(filter)
    }

    /// Does it let everything through?
    pub fn is_empty(&self) -> bool {
        self.references.is_empty()
            && self.dangling.is_none()
            && self.labels.is_empty()
            && self.before.is_none()
            && self.since.is_none()
    }

    /// The images that it lets through, with the names that it asks for.
    pub async fn images(&self, platform: &Platform) -> Result<Vec<pb::Image>> {
        let wanted = match self.references.as_slice() {
            [one] if !glob::has_wildcards(one) => one,
            _ => "",
        };
        let mut images = super::all(platform, wanted).await?;
        images.retain_mut(|image| self.takes(image));
        if self.labels.is_empty() {
            return Ok(images);
        }
        let mut labelled = Vec::new();
        for image in images {
            let config = super::get(platform, &image.id).await?.config_json;
            if self.takes_labels(&config) {
                labelled.push(image);
            }
        }
        Ok(labelled)
    }

    /// Says whether an image is let through; takes the names away that are not asked for.
    fn takes(&self, image: &mut pb::Image) -> bool {
        if self.dangling.is_some_and(|dangling| dangling != image.names.is_empty()) {
            return false;
        }
        let created = image.created_at.as_ref().and_then(time::timestamp);
        let is_older = |limit: Timestamp| created.is_some_and(|created| created < limit);
        let is_newer = |limit: Timestamp| created.is_some_and(|created| created > limit);
        if !self.before.is_none_or(is_older) || !self.since.is_none_or(is_newer) {
            return false;
        }
        if self.references.is_empty() {
            return true;
        }
        image.names.retain(|name| self.references.iter().any(|pattern| answers(pattern, name)));
        !image.names.is_empty()
    }

    fn takes_labels(&self, config: &[u8]) -> bool {
        let config: serde_json::Value = serde_json::from_slice(config).unwrap_or_default();
        let labels = &config["config"]["Labels"];
        self.labels.iter().all(|(key, value)| match (labels.get(key), value) {
            (Some(found), Some(value)) => found == value.as_str(),
            (Some(_), None) => true,
            (None, _) => false,
        })
    }
}

/// Does a name, in full form, answer to a pattern? Docker matches what people type, with the tag or without.
fn answers(pattern: &str, name: &str) -> bool {
    let Ok(reference) = Reference::parse(name) else { return false };
    let forms = [reference.familiar(), reference.familiar_name(), reference.to_string(), reference.name()];
    let is_match = |form: &String| glob::matches(pattern, form).unwrap_or(false);
    if forms.iter().any(is_match) {
        return true;
    }
    // "library/debian" and "docker.io/debian" are other ways to say it.
    let plain = Reference::parse(pattern).ok().filter(|_| !glob::has_wildcards(pattern));
    let has_tag = Path::new(pattern).file_name().is_some_and(|last| last.to_string_lossy().contains(':'));
    plain.is_some_and(|plain| plain.name() == reference.name() && (!has_tag || plain.tag() == reference.tag()))
}

async fn made(platform: &Platform, image: &str) -> Result<Option<Timestamp>> {
    let found = super::get(platform, image).await?;
    Ok(found.created_at.as_ref().and_then(time::timestamp))
}

fn label(text: &str) -> (String, Option<String>) {
    let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value)));
    (key.to_owned(), value.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_what_people_type() {
        for (pattern, name, expected) in [
            ("debian", "docker.io/library/debian:12", true),
            ("debian:12", "docker.io/library/debian:12", true),
            ("debian:13", "docker.io/library/debian:12", false),
            ("deb*", "docker.io/library/debian:12", true),
            ("debian:1?", "docker.io/library/debian:12", true),
            ("*", "docker.io/team/app:1", false),
            ("*/*", "docker.io/team/app:1", true),
            ("library/debian", "docker.io/library/debian:12", true),
            ("docker.io/library/debian:12", "docker.io/library/debian:12", true),
            ("reg.example:5000/app", "reg.example:5000/app:1", true),
            ("reg.example:5000/*", "reg.example:5000/app:1", true),
            ("app", "reg.example:5000/app:1", false),
        ] {
            assert_eq!(answers(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn an_image_must_be_all_that_filters_say() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let image = |names: &[&str], seconds| pb::Image {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            created_at: at(seconds),
            ..Default::default()
        };
        let named = image(&["docker.io/library/a:1", "docker.io/library/b:1"], 100);
        let second = |seconds| Timestamp::from_second(seconds).ok();
        for (filter, expected) in [
            (Filter::default(), Some(2)),
            (Filter { dangling: Some(true), ..Filter::default() }, None),
            (Filter { dangling: Some(false), ..Filter::default() }, Some(2)),
            (Filter { references: vec!["a".into()], ..Filter::default() }, Some(1)),
            (Filter { references: vec!["a".into(), "b:*".into()], ..Filter::default() }, Some(2)),
            (Filter { before: second(100), ..Filter::default() }, None),
            (Filter { before: second(101), since: second(99), ..Filter::default() }, Some(2)),
            (Filter { since: second(100), ..Filter::default() }, None),
        ] {
            let mut one = named.clone();
            let taken = filter.takes(&mut one).then_some(one.names.len());

            assert_eq!(taken, expected, "{filter:?}");
        }
        assert!(Filter { dangling: Some(true), ..Filter::default() }.takes(&mut image(&[], 1)));
    }

    #[test]
    fn labels_are_looked_for_with_a_value_or_any() {
        let config = br#"{"config":{"Labels":{"a":"1","b":""}}}"#;
        for (key, value, expected) in
            [("a", Some("1"), true), ("a", None, true), ("a", Some("2"), false), ("c", None, false)]
        {
            let filter = Filter { labels: vec![(key.into(), value.map(Into::into))], ..Filter::default() };

            assert_eq!(filter.takes_labels(config), expected, "{key} {value:?}");
        }
    }
}
