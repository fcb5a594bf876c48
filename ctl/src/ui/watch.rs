//! What is always listened to: lists, what happens, what containers use. Lists are fetched anew when something happens to
//! what is in them, and now and then all the same. Whatever breaks is said and tried again, later and later.

use std::sync::Arc;
use std::time::Duration;

use strata_proto::runtime::v1 as pb;
use strata_proto::types::v1::Event;
use tokio::sync::{Notify, mpsc::Sender};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::link::{Link, said};
use super::update::{Source, Update};
use crate::command::events::{self, Service, Span};
use crate::command::{images, network, ps, volume};
use crate::error::{Error, Result};
use crate::platform::Platform;

/// Between two looks at a list to which nothing happens.
const POLL: Duration = Duration::from_secs(10);
/// Between two looks at a list to which much happens.
const GATHER: Duration = Duration::from_millis(250);
/// How long a list, or the next look at what containers use, may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Before the first attempt to reach again what is lost; each further one comes after twice the time.
const AGAIN: Duration = Duration::from_millis(500);
/// Between attempts, at most.
const MOST_AGAIN: Duration = Duration::from_secs(8);

/// Lists to which something has happened.
#[derive(Default)]
struct Changes {
    containers: Notify,
    images: Notify,
    volumes: Notify,
    networks: Notify,
}

impl Changes {
    /// Notes that something has happened. A `Notify` keeps one note, however many come.
    fn note(&self, event: &Event) {
        match event.kind.as_str() {
            // Nothing that is listed changes.
            "container" if event.action.starts_with("exec_") => {}
            "container" => {
                self.containers.notify_one();
                // A container that comes or goes uses other things, or no longer.
                if matches!(event.action.as_str(), "create" | "destroy" | "start" | "die") {
                    self.volumes.notify_one();
                    self.networks.notify_one();
                }
            }
            "image" => self.images.notify_one(),
            "network" => {
                self.networks.notify_one();
                self.containers.notify_one();
            }
            "volume" => self.volumes.notify_one(),
            _ => {}
        }
    }

    fn of(&self, source: Source) -> &Notify {
        match source {
            Source::Images => &self.images,
            Source::Volumes => &self.volumes,
            Source::Networks => &self.networks,
            _ => &self.containers,
        }
    }
}

/// Begins to listen; dropping the tasks ends it.
pub fn begin(tasks: &mut JoinSet<()>, link: &Arc<Link>, updates: &Sender<Update>) {
    let changes = Arc::new(Changes::default());
    for source in [Source::Containers, Source::Images, Source::Volumes, Source::Networks] {
        tasks.spawn(list(Ear::new(source, link, updates), changes.clone()));
    }
    for (source, service) in [(Source::RuntimeEvents, Service::Runtime), (Source::StoreEvents, Service::Store)] {
        tasks.spawn(happenings(Ear::new(source, link, updates), service, changes.clone()));
    }
    tasks.spawn(stats(Ear::new(Source::Stats, link, updates)));
}

/// Who listens to one source: it says when that is lost, and when it is back.
struct Ear {
    source: Source,
    link: Arc<Link>,
    updates: Sender<Update>,
    is_lost: bool,
    pause: Duration,
}

impl Ear {
    fn new(source: Source, link: &Arc<Link>, updates: &Sender<Update>) -> Self {
        Self { source, link: link.clone(), updates: updates.clone(), is_lost: false, pause: AGAIN }
    }

    /// It was heard.
    async fn hears(&mut self) {
        self.pause = AGAIN;
        if std::mem::take(&mut self.is_lost) {
            // Nobody listens any more: this task is about to be dropped.
            let _ = self.updates.send(Update::Back(self.source)).await;
        }
    }

    /// It was not, over this way: says so, and waits before it is tried again.
    async fn loses(&mut self, platform: &Arc<Platform>, error: &Error) {
        self.is_lost = true;
        let _ = self.updates.send(Update::Lost(self.source, said(error))).await;
        self.link.is_broken(platform);
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(MOST_AGAIN);
    }
}

/// Keeps a list up to date.
async fn list(mut ear: Ear, changes: Arc<Changes>) {
    loop {
        let platform = ear.link.platform();
        let fetched = match timeout(PATIENCE, fetch(ear.source, &platform)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(Error::new(format!("no answer in {} seconds", PATIENCE.as_secs()))),
        };
        match fetched {
            Ok(update) => {
                ear.hears().await;
                if ear.updates.send(update).await.is_err() {
                    return;
                }
                // Either way it is looked at again.
                let _ = timeout(POLL, changes.of(ear.source).notified()).await;
                sleep(GATHER).await;
            }
            Err(error) => ear.loses(&platform, &error).await,
        }
    }
}

async fn fetch(source: Source, platform: &Platform) -> Result<Update> {
    match source {
        Source::Images => images::all(platform, "").await.map(Update::Images),
        Source::Volumes => volume::all(platform, false).await.map(Update::Volumes),
        Source::Networks => network::list(platform).await.map(Update::Networks),
        _ => ps::list(platform, true).await.map(Update::Containers),
    }
}

/// Notes to which lists something happens.
async fn happenings(mut ear: Ear, service: Service, changes: Arc<Changes>) {
    loop {
        let platform = ear.link.platform();
        let error = match events::open(&platform, service, &Span::default()).await {
            Ok(mut stream) => {
                ear.hears().await;
                loop {
                    match stream.next().await {
                        Ok(Some(event)) => changes.note(&event),
                        Ok(None) => break Error::new("the service ended the stream"),
                        Err(status) => break Error::from(status),
                    }
                }
            }
            Err(error) => error,
        };
        ear.loses(&platform, &error).await;
    }
}

/// Looks at what containers use.
async fn stats(mut ear: Ear) {
    loop {
        let platform = ear.link.platform();
        let error = match looks(&mut ear, &platform).await {
            Ok(()) => Error::new("the runtime ended the stream"),
            Err(error) => error,
        };
        ear.loses(&platform, &error).await;
    }
}

async fn looks(ear: &mut Ear, platform: &Platform) -> Result<()> {
    let request = pb::WatchStatsRequest { containers: Vec::new(), all: false, interval: None };
    let mut looks = platform.containers().await?.all.watch_stats(request).await?.into_inner();
    loop {
        let look = timeout(PATIENCE, looks.message()).await;
        let look = look.map_err(|_| Error::new(format!("no look in {} seconds", PATIENCE.as_secs())))??;
        let Some(look) = look else { return Ok(()) };
        ear.hears().await;
        if ear.updates.send(Update::Stats(look.containers)).await.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn noted(kind: &str, action: &str) -> Vec<Source> {
        let changes = Changes::default();
        changes.note(&Event { kind: kind.to_owned(), action: action.to_owned(), ..Default::default() });
        let all = [Source::Containers, Source::Images, Source::Volumes, Source::Networks];
        all.into_iter().filter(|source| changes.of(*source).notified().now_or_never().is_some()).collect()
    }

    #[test]
    fn only_the_lists_to_which_something_happens_are_fetched_anew() {
        for (kind, action, expected) in [
            ("container", "health_status: healthy", &[Source::Containers][..]),
            ("container", "start", &[Source::Containers, Source::Volumes, Source::Networks]),
            ("container", "exec_create: ls", &[]),
            ("image", "tag", &[Source::Images]),
            ("volume", "create", &[Source::Volumes]),
            ("network", "connect", &[Source::Containers, Source::Networks]),
            ("something new", "create", &[]),
        ] {
            assert_eq!(noted(kind, action), expected, "{kind} {action}");
        }
    }
}
