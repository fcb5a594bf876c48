//! What happened to what a service keeps: a bounded log in memory, read from a position or a time on, and watched.
//! Nobody who reads keeps who tells from going on: a watcher that is too slow loses the oldest events.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::stream::{self, Stream};
use strata_proto::types::v1 as types;
use tokio::sync::watch;

/// Events that are kept.
const KEPT: usize = 1024;

/// What something happened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A secret.
    Secret,
    /// A volume.
    Volume,
}

impl Kind {
    /// Docker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Secret => "secret",
            Self::Volume => "volume",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: SystemTime,
    /// What it happened to.
    pub kind: Kind,
    /// Docker's name of it: "start", "exec_create: ls".
    pub action: String,
    /// Id of what it happened to.
    pub id: String,
    /// What else is to be known, by Docker's names.
    pub attributes: BTreeMap<String, String>,
    /// Place in the order of the service: of two the later one has the larger, also after another start of the service.
    pub position: u64,
}

impl From<&Event> for types::Event {
    fn from(event: &Event) -> Self {
        Self {
            at: Some(event.at.into()),
            kind: event.kind.as_str().to_owned(),
            action: event.action.clone(),
            id: event.id.clone(),
            attributes: event.attributes.clone().into_iter().collect(),
            position: event.position,
        }
    }
}

/// What of a log is wanted.
#[derive(Debug, Clone, Default)]
pub struct Span {
    /// Only what happened at this time or later. With neither this nor `after`: what happens from now on.
    pub since: Option<SystemTime>,
    /// Only what happened before this time, and no longer than that. None: without end.
    pub until: Option<SystemTime>,
    /// Only what follows the event with this position.
    pub after: Option<u64>,
}

/// The log of a service. Clones are the same log.
#[derive(Debug, Clone)]
pub struct Log(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kept: Mutex<VecDeque<Arc<Event>>>,
    /// Position of the last event.
    last: watch::Sender<u64>,
}

impl Default for Log {
    fn default() -> Self {
        Self(Arc::new(Inner { kept: Mutex::default(), last: watch::channel(0).0 }))
    }
}

impl Log {
    /// Writes down what happened just now.
    pub fn tell(
        &self,
        kind: Kind,
        action: impl Into<String>,
        id: impl Into<String>,
        attributes: BTreeMap<String, String>,
    ) {
        let (action, id) = (action.into(), id.into());
        let mut kept = self.kept();
        let at = SystemTime::now();
        let position = micros(at).max(kept.back().map_or(0, |last| last.position + 1));
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::new(Event { at, kind, action, id, attributes, position }));
        drop(kept);
        self.0.last.send_replace(position);
    }

    /// Reads a span of the log, and waits for what of it is still to come.
    pub fn watch(&self, span: Span) -> impl Stream<Item = Arc<Event>> + Send + use<> {
        let from = match (span.after, span.since) {
            (Some(after), _) => after,
            (None, Some(_)) => 0,
            (None, None) => self.kept().back().map_or(0, |last| last.position),
        };
        let watcher = Watcher { news: self.0.last.subscribe(), log: self.clone(), from, span, found: VecDeque::new() };
        stream::unfold(watcher, async |mut watcher| watcher.next().await.map(|event| (event, watcher)))
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<Event>>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Watcher {
    log: Log,
    news: watch::Receiver<u64>,
    /// Position of the event that was read last.
    from: u64,
    span: Span,
    found: VecDeque<Arc<Event>>,
}

impl Watcher {
    async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            while let Some(event) = self.found.pop_front() {
                self.from = event.position;
                if self.span.until.is_some_and(|until| event.at >= until) {
                    return None;
                }
                if self.span.since.is_none_or(|since| event.at >= since) {
                    return Some(event);
                }
            }
            self.news.borrow_and_update();
            let left = self.span.until.map(|until| until.duration_since(SystemTime::now()).unwrap_or_default());
            {
                let kept = self.log.kept();
                let first = kept.partition_point(|event| event.position <= self.from);
                self.found.extend(kept.range(first..).cloned());
            }
            if self.found.is_empty() && !self.wait(left).await {
                return None;
            }
        }
    }

    /// Waits for news; no longer than what is left of the span.
    async fn wait(&mut self, left: Option<Duration>) -> bool {
        match left {
            None => self.news.changed().await.is_ok(),
            Some(Duration::ZERO) => false,
            // Whether the time is over is asked of the clock that events have.
            Some(left) => {
                tokio::time::timeout(left, self.news.changed()).await.is_ok_and(|news| news.is_ok()) || {
                    self.span.until.is_some_and(|until| until > SystemTime::now())
                }
            }
        }
    }
}

fn micros(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    fn tell(log: &Log, action: &str) {
        log.tell(Kind::Volume, action, "v", BTreeMap::new());
    }

    async fn actions(log: &Log, span: Span) -> Vec<String> {
        log.watch(Span { until: Some(SystemTime::now()), ..span }).map(|event| event.action.clone()).collect().await
    }

    #[tokio::test]
    async fn who_watches_without_a_beginning_sees_what_happens_from_now_on() {
        let log = Log::default();
        tell(&log, "before");
        let watch = log.watch(Span::default());

        tell(&log, "after");

        let mut watch = std::pin::pin!(watch);
        assert_eq!(watch.next().await.map(|event| event.action.clone()).as_deref(), Some("after"));
    }

    #[tokio::test]
    async fn a_span_is_what_happened_in_it() {
        let log = Log::default();
        tell(&log, "a");
        std::thread::sleep(Duration::from_millis(2));
        let between = SystemTime::now();
        tell(&log, "b");
        tell(&log, "c");

        let all = Span { since: Some(SystemTime::UNIX_EPOCH), ..Span::default() };
        assert_eq!(actions(&log, all).await, ["a", "b", "c"]);
        assert_eq!(actions(&log, Span { since: Some(between), ..Span::default() }).await, ["b", "c"]);
        let early = Span { since: Some(SystemTime::UNIX_EPOCH), until: Some(between), after: None };
        let early: Vec<_> = log.watch(early).map(|event| event.action.clone()).collect().await;
        assert_eq!(early, ["a"]);
    }

    #[tokio::test]
    async fn who_comes_back_goes_on_behind_the_event_it_has() {
        let log = Log::default();
        ["a", "b", "c"].iter().for_each(|action| tell(&log, action));
        let all = Span { since: Some(SystemTime::UNIX_EPOCH), ..Span::default() };
        let mut watch = std::pin::pin!(log.watch(all));
        let first = watch.next().await.unwrap();

        let rest = actions(&log, Span { after: Some(first.position), ..Span::default() }).await;

        assert_eq!(rest, ["b", "c"]);
    }

    #[tokio::test]
    async fn a_span_that_ends_later_waits_until_then() {
        let log = Log::default();
        let until = SystemTime::now() + Duration::from_millis(20);
        let watch = log.watch(Span { until: Some(until), ..Span::default() });
        tell(&log, "in time");

        let seen: Vec<_> = watch.map(|event| event.action.clone()).collect().await;

        assert_eq!(seen, ["in time"]);
        assert!(SystemTime::now() >= until);
    }

    #[tokio::test]
    async fn the_oldest_events_go_when_there_are_too_many() {
        let log = Log::default();
        let mut slow = std::pin::pin!(log.watch(Span::default()));

        (0..KEPT + 3).for_each(|number| tell(&log, &number.to_string()));

        assert_eq!(slow.next().await.map(|event| event.action.clone()).as_deref(), Some("3"));
        let all = Span { since: Some(SystemTime::UNIX_EPOCH), ..Span::default() };
        assert_eq!(actions(&log, all).await.len(), KEPT);
    }
}
