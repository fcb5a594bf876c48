//! `ctl events`: what the runtime and the store tell, as one stream. What has happened is put in the order of time; what
//! happens is printed as it comes. A service that is started again meanwhile is asked for what followed.

mod filter;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use strata_proto::runtime::v1 as runtime;
use strata_proto::store::v1 as store;
use strata_proto::types::v1::Event;
use tonic::{Code, Status, Streaming};

use filter::Filter;

use crate::args::{Events, Format};
use crate::error::{Error, Result};
use crate::moment;
use crate::platform::Platform;
use crate::render::{self, list, time};

/// Between two attempts to reach a service that is away.
const AGAIN: Duration = Duration::from_millis(300);

/// What is still wanted of a service.
#[derive(Debug, Clone, Default)]
pub struct Span {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    after: Option<u64>,
}

/// Who tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Of containers, networks and volumes.
    Runtime,
    /// Of images.
    Store,
}

/// Prints what happened, and what happens.
pub async fn run(platform: &Platform, args: &Events) -> Result<u8> {
    let filter = Filter::read(&args.filter)?;
    let time = |flag: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => moment::parse(text).map(Some).ok_or_else(|| {
            Error::usage(format!("invalid --{flag} {text:?}: a time or a span is expected"))
                .hint("\"10m\" is ten minutes ago; \"2026-11-30T12:00:00Z\" and 1795953600 are times")
        }),
    };
    let (since, until) = (time("since", &args.since)?, time("until", &args.until)?);
    let show = |event: &Event| match filter.takes(event) {
        true => print(args.format.as_ref(), event),
        false => Ok(()),
    };
    let now = Timestamp::now();
    let services = [(Service::Runtime, filter.wants_runtime()), (Service::Store, filter.wants_store())];
    let services: Vec<_> = services.into_iter().filter(|(_, is_wanted)| *is_wanted).map(|(one, _)| one).collect();
    let mut past: Vec<Event> = Vec::new();
    let mut live = Vec::new();
    for service in services {
        let mut span = Span { since: Some(now), until, after: None };
        if since.is_some_and(|since| since < now) {
            let ends = Some(until.map_or(now, |until| until.min(now)));
            let mut events = open(platform, service, &Span { since, until: ends, after: None }).await?;
            while let Some(event) = events.next().await? {
                span.after = Some(event.position);
                past.push(event);
            }
        }
        live.push((service, span));
    }
    past.sort_by_key(|event| event.at.as_ref().map(|at| (at.seconds, at.nanos)));
    past.iter().try_for_each(show)?;
    if until.is_some_and(|until| until <= now) {
        return Ok(0);
    }
    let follow = live.into_iter().map(|(service, span)| follow(platform, service, span, &show));
    futures_util::future::try_join_all(follow).await?;
    Ok(0)
}

/// Prints what a service tells until the span is over; one that is away is asked again for what followed.
async fn follow(
    platform: &Platform,
    service: Service,
    mut span: Span,
    show: &impl Fn(&Event) -> Result<()>,
) -> Result<()> {
    loop {
        let mut events = open(platform, service, &span).await?;
        loop {
            match events.next().await {
                Ok(Some(event)) => {
                    span.after = Some(event.position);
                    show(&event)?;
                }
                Ok(None) if span.until.is_some_and(|until| until <= Timestamp::now()) => return Ok(()),
                // It stops: what follows is the next one's.
                Ok(None) => break,
                Err(error) if matches!(error.code(), Code::Unavailable | Code::Unknown | Code::Cancelled) => break,
                Err(error) => return Err(error.into()),
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Events of a service on their way here.
pub enum Stream {
    /// Of the runtime.
    Runtime(Streaming<runtime::WatchEventsResponse>),
    /// Of the store.
    Store(Streaming<store::WatchEventsResponse>),
}

impl Stream {
    /// The next event; none: the service stops.
    pub async fn next(&mut self) -> Result<Option<Event>, Status> {
        loop {
            let (is_end, event) = match self {
                Self::Runtime(events) => events.message().await?.map_or((true, None), |reply| (false, reply.event)),
                Self::Store(events) => events.message().await?.map_or((true, None), |reply| (false, reply.event)),
            };
            if is_end || event.is_some() {
                return Ok(event);
            }
        }
    }
}

/// Asks a service for the events of a span; the default span is from now on.
pub async fn open(platform: &Platform, service: Service, span: &Span) -> Result<Stream> {
    let (since, until) = (span.since.map(moment::to_wire), span.until.map(moment::to_wire));
    let after_position = span.after;
    match service {
        Service::Runtime => {
            let request = runtime::WatchEventsRequest { since, until, after_position };
            Ok(Stream::Runtime(platform.container_events().await?.watch_events(request).await?.into_inner()))
        }
        Service::Store => {
            let request = store::WatchEventsRequest { since, until, after_position };
            Ok(Stream::Store(platform.image_events().await?.watch_events(request).await?.into_inner()))
        }
    }
}

fn print(format: Option<&Format>, event: &Event) -> Result<()> {
    match format {
        None | Some(Format::Table) => render::line(line(event)),
        Some(Format::Json) => render::line(message(event)),
        Some(Format::Template(template) | Format::Columns(template)) => {
            render::line(list::fill(template, &fields(event))?)
        }
    }
}

/// Docker's line: time, kind, action, id, and the attributes by name.
fn line(event: &Event) -> String {
    let at = event.at.as_ref().and_then(time::timestamp).unwrap_or_default();
    let mut attributes: Vec<_> = event.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    attributes.sort();
    format!("{at:.9} {} {} {} ({})", event.kind, event.action, event.id, attributes.join(", "))
}

/// Docker's document.
fn message(event: &Event) -> Value {
    let at = event.at.unwrap_or_default();
    let nanos = i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
    json!({
        "Type": event.kind,
        "Action": event.action,
        "Actor": { "ID": event.id, "Attributes": event.attributes },
        "scope": "local",
        "time": at.seconds,
        "timeNano": nanos as i64,
    })
}

/// What templates name: the fields by the names that they have in Go.
fn fields(event: &Event) -> Value {
    let mut fields = message(event);
    for (name, own) in [("Scope", "scope"), ("Time", "time"), ("TimeNano", "timeNano")] {
        fields[name] = fields[own].take();
        fields.as_object_mut().expect("it is made as one").remove(own);
    }
    fields["ID"] = event.id.clone().into();
    fields["Status"] = event.action.clone().into();
    fields["From"] = event.attributes.get("image").cloned().unwrap_or_default().into();
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            at: Some(prost_types::Timestamp { seconds: 1_795_953_600, nanos: 120_000_000 }),
            kind: "container".into(),
            action: "die".into(),
            id: "ab12".into(),
            attributes: [("name", "web"), ("exitCode", "3"), ("image", "app:1")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            position: 7,
        }
    }

    #[test]
    fn an_event_is_the_line_that_docker_prints() {
        let expected = "2026-11-29T12:00:00.120000000Z container die ab12 (exitCode=3, image=app:1, name=web)";
        assert_eq!(line(&event()), expected);
    }

    #[test]
    fn documents_and_templates_have_dockers_names() {
        let document = message(&event());
        assert_eq!(document["Actor"]["Attributes"]["exitCode"], "3");
        assert_eq!(document["timeNano"], 1_795_953_600_120_000_000_i64);
        let template = "{{.Type}} {{.Action}} {{.Actor.ID}} {{.Actor.Attributes.name}} {{.Time}} {{.From}}";
        let filled = list::fill(&template.parse().unwrap(), &fields(&event()));
        assert_eq!(filled.ok().as_deref(), Some("container die ab12 web 1795953600 app:1"));
    }
}
