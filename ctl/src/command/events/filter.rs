//! Which events `ctl events` shows: Docker's filters. Values of one key widen each other (labels narrow), keys narrow.

use strata_proto::types::v1::Event;
use strata_types::Reference;

use crate::error::Result;
use crate::filter::{Filters, has_label, wrong};

const KEYS: &[&str] = &["container", "event", "image", "label", "network", "scope", "secret", "type", "volume"];

/// What services tell of.
const KINDS: &[&str] = &["container", "image", "network", "secret", "volume"];

/// Of what Docker tells and nobody here: asking for it is no mistake, and finds nothing.
const ABSENT: &[&str] = &["builder", "config", "daemon", "node", "plugin", "service"];

/// What an event must be.
#[derive(Debug)]
pub struct Filter(Filters);

impl Filter {
    /// Reads what the flags say.
    pub fn read(flags: &[String]) -> Result<Self> {
        let filters = Filters::read(flags, KEYS)?;
        if let Some(kind) = filters.of("type").find(|kind| !KINDS.contains(kind) && !ABSENT.contains(kind)) {
            let near = strata_dockerfile::nearest(kind, KINDS.iter().copied());
            let error = wrong(&format!("type={kind}"), &format!("{} are known", KINDS.join(", ")));
            return Err(near.into_iter().fold(error, |error, near| error.hint(format!("did you mean {near}?"))));
        }
        Ok(Self(filters))
    }

    /// Whether the runtime tells any of it.
    pub fn wants_runtime(&self) -> bool {
        !self.0.has("type") || self.0.of("type").any(|kind| kind != "image")
    }

    /// Whether the store tells any of it.
    pub fn wants_store(&self) -> bool {
        let is_of_runtime = ["container", "network", "secret", "volume", "label"].iter().any(|key| self.0.has(key));
        !is_of_runtime && (!self.0.has("type") || self.0.of("type").any(|kind| kind == "image"))
    }

    /// Says whether an event is shown.
    pub fn takes(&self, event: &Event) -> bool {
        let any = |key: &str, is_so: &dyn Fn(&str) -> bool| !self.0.has(key) || self.0.of(key).any(is_so);
        let is_of = |kind: &str| {
            any(kind, &|wanted| {
                let name = event.attributes.get("name");
                event.kind == kind && (event.id.starts_with(wanted) || name.is_some_and(|name| name == wanted))
            })
        };
        let labels = event.attributes.clone();
        any("type", &|wanted| event.kind == wanted)
            && any("scope", &|wanted| wanted == "local")
            && any("event", &|wanted| event.action == wanted || event.action.split(':').next() == Some(wanted))
            && is_of("container")
            && is_of("network")
            && is_of("secret")
            && any("volume", &|wanted| event.kind == "volume" && event.id == wanted)
            && any("image", &|wanted| is_of_image(event, wanted))
            && self.0.of("label").all(|wanted| has_label(&labels, wanted))
    }
}

/// Of an image, or of a container of it: by id, or by name with the tag or without.
fn is_of_image(event: &Event, wanted: &str) -> bool {
    let named = match event.kind.as_str() {
        "container" => event.attributes.get("image"),
        "image" => {
            let hex = wanted.strip_prefix("sha256:").unwrap_or(wanted);
            if event.id.strip_prefix("sha256:").is_some_and(|id| id.starts_with(hex)) {
                return true;
            }
            Some(&event.id).filter(|id| !id.starts_with("sha256:")).or(event.attributes.get("name"))
        }
        _ => None,
    };
    let Some(named) = named else { return false };
    if named == wanted {
        return true;
    }
    let (Ok(named), Ok(parsed)) = (Reference::parse(named), Reference::parse(wanted)) else { return false };
    let has_tag = wanted.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    named.name() == parsed.name() && (!has_tag || named.tag() == parsed.tag())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, action: &str, id: &str, attributes: &[(&str, &str)]) -> Event {
        let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Event { kind: kind.into(), action: action.into(), id: id.into(), attributes, ..Event::default() }
    }

    #[test]
    fn an_event_must_be_all_that_filters_say() {
        let die = event("container", "die", "abc123", &[("name", "web"), ("image", "app:1"), ("env", "test")]);
        let exec = event("container", "exec_create: ls -l", "abc123", &[("name", "web"), ("image", "app:1")]);
        let tag = event("image", "tag", "sha256:fe12", &[("name", "app:1")]);
        let made = event("volume", "create", "state", &[("driver", "local")]);
        let kept = event("secret", "update", "01ab", &[("name", "db")]);
        for (flags, event, expected) in [
            (&["container=web"][..], &die, true),
            (&["container=abc"], &die, true),
            (&["container=we"], &die, false),
            (&["container=web"], &tag, false),
            (&["container=web", "container=db"], &die, true),
            (&["container=web", "event=start"], &die, false),
            (&["event=start", "event=die"], &die, true),
            (&["event=exec_create"], &exec, true),
            (&["image=app"], &die, true),
            (&["image=app:1"], &die, true),
            (&["image=app:2"], &die, false),
            (&["image=app:1"], &tag, true),
            (&["image=fe1"], &tag, true),
            (&["image=sha256:fe12"], &tag, true),
            (&["image=app"], &made, false),
            (&["label=env"], &die, true),
            (&["label=env=test", "label=other"], &die, false),
            (&["type=volume"], &made, true),
            (&["type=volume", "type=image"], &tag, true),
            (&["type=daemon"], &made, false),
            (&["volume=state"], &made, true),
            (&["volume=sta"], &made, false),
            (&["type=secret", "secret=db"], &kept, true),
            (&["secret=01a"], &kept, true),
            (&["secret=web"], &kept, false),
            (&["scope=swarm"], &made, false),
            (&[], &made, true),
        ] {
            let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();

            assert_eq!(
                Filter::read(&flags).ok().map(|filter| filter.takes(event)),
                Some(expected),
                "{flags:?} {event:?}"
            );
        }
    }

    #[test]
    fn services_that_tell_none_of_it_are_not_asked() {
        for (flags, runtime, store) in [
            (&[][..], true, true),
            (&["type=image"], false, true),
            (&["type=container"], true, false),
            (&["type=image", "type=volume"], true, true),
            (&["container=web"], true, false),
            (&["secret=db"], true, false),
            (&["image=app"], true, true),
        ] {
            let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
            let filter = Filter::read(&flags).ok();

            let asked = filter.map(|filter| (filter.wants_runtime(), filter.wants_store()));
            assert_eq!(asked, Some((runtime, store)), "{flags:?}");
        }
    }

    #[test]
    fn a_kind_that_nobody_knows_is_refused_with_those_that_are() {
        let error = Filter::read(&["type=contaner".to_owned()]).map(drop).unwrap_err();
        assert_eq!(error.hints, ["did you mean container?"]);
    }
}
