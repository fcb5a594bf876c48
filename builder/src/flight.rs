//! Equal steps run once: whoever comes to a step that is at work, in another build or another stage, waits for its end and
//! then finds its result in the cache. One that fails or is given up leaves the step to whoever waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use crate::context::Blake3;
use crate::progress::{Running, Sharing};

/// What a step that waits is seen doing.
const WAITING: &str = "waiting for the same step at work elsewhere";

/// The steps at work, by key.
#[derive(Debug, Default)]
pub struct Flights {
    table: Mutex<HashMap<Blake3, Seen>>,
}

/// A step at work, as others see it.
#[derive(Debug, Clone)]
struct Seen {
    stage: watch::Receiver<Stage>,
    sharing: Sharing,
}

/// How far a step is. Its end is the end of the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is looked up.
    Looking,
    /// It is made.
    Working,
}

/// The right to make a step; others wait until it is dropped.
#[derive(Debug)]
pub struct Flight {
    flights: Arc<Flights>,
    key: Blake3,
    stage: watch::Sender<Stage>,
    sharing: Sharing,
}

impl Flights {
    /// Waits until nobody makes the step of this key, and takes it over. What it prints meanwhile is shown here too.
    pub async fn enter(self: &Arc<Self>, key: Blake3, running: &Running) -> Flight {
        loop {
            let Seen { mut stage, sharing } = match self.seen_or_mine(key) {
                Ok(flight) => return flight,
                Err(seen) => seen,
            };
            if stage.wait_for(|stage| *stage == Stage::Working).await.is_err() {
                // It was in the cache.
                continue;
            }
            running.begin("");
            let waiting = running.part(WAITING);
            let listening = sharing.listen(running);
            // It never looks again: the next change is the end.
            let _ = stage.changed().await;
            drop(listening);
            waiting.done();
        }
    }

    fn seen_or_mine(self: &Arc<Self>, key: Blake3) -> Result<Flight, Seen> {
        let mut table = self.table();
        if let Some(seen) = table.get(&key) {
            return Err(seen.clone());
        }
        let (stage, receiver) = watch::channel(Stage::Looking);
        let sharing = Sharing::default();
        table.insert(key, Seen { stage: receiver, sharing: sharing.clone() });
        Ok(Flight { flights: self.clone(), key, stage, sharing })
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Blake3, Seen>> {
        self.table.lock().expect("no holder of this lock panics")
    }
}

impl Flight {
    /// The step was not found and is made now: what it prints goes to those who wait, too.
    pub fn work(&self, running: &Running) {
        running.share(self.sharing.clone());
        self.stage.send_replace(Stage::Working);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // Before the channel ends: who is woken finds nobody, and takes over.
        self.flights.table().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::progress::{Event, Progress, Told, channel};

    const KEY: Blake3 = [7; 32];

    fn step() -> (Progress, Told, Running) {
        let (progress, told) = channel();
        let running = progress.running(1, "RUN make", 3);
        (progress, told, running)
    }

    fn printed(told: &mut Told) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(Some((_, event))) = told.recv().now_or_never() {
            if let Event::Output { chunk, .. } = event {
                all.extend_from_slice(&chunk);
            }
        }
        all
    }

    #[tokio::test]
    async fn the_second_of_two_equal_steps_waits_for_the_first_and_shows_what_it_prints() {
        let flights = Arc::new(Flights::default());
        let (_one, _told, first) = step();
        let (_two, mut told, second) = step();

        let flight = flights.enter(KEY, &first).await;
        let mut waiting = Box::pin(flights.enter(KEY, &second));
        assert!(waiting.as_mut().now_or_never().is_none());
        flight.work(&first);
        assert!(waiting.as_mut().now_or_never().is_none());
        first.output(false, "made".into());
        drop(flight);

        waiting.await;
        first.output(false, "later".into());
        assert_eq!(printed(&mut told), b"made");
    }

    #[tokio::test]
    async fn steps_of_other_keys_do_not_wait() {
        let flights = Arc::new(Flights::default());
        let (_progress, _told, running) = step();

        let _one = flights.enter(KEY, &running).await;

        assert!(flights.enter([8; 32], &running).now_or_never().is_some());
    }

    #[tokio::test]
    async fn of_those_who_wait_one_takes_over_and_the_others_wait_for_that() {
        let flights = Arc::new(Flights::default());
        let steps = [step(), step(), step()];
        let first = flights.enter(KEY, &steps[0].2).await;
        first.work(&steps[0].2);
        let mut second = Box::pin(flights.enter(KEY, &steps[1].2));
        let mut third = Box::pin(flights.enter(KEY, &steps[2].2));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());

        drop(first);

        let taken = second.as_mut().now_or_never().expect("nobody is before it");
        assert!(third.as_mut().now_or_never().is_none());
        drop(taken);
        assert!(third.as_mut().now_or_never().is_some());
        assert!(flights.table().is_empty());
    }

    #[tokio::test]
    async fn who_gives_up_waiting_is_told_nothing_more() {
        let flights = Arc::new(Flights::default());
        let (_one, _, first) = step();
        let (two, mut told, second) = step();
        let flight = flights.enter(KEY, &first).await;
        flight.work(&first);
        let mut waiting = Box::pin(flights.enter(KEY, &second));
        assert!(waiting.as_mut().now_or_never().is_none());

        drop(waiting);
        drop((two, second));

        first.output(false, "made".into());
        assert!(printed(&mut told).is_empty());
        // Nobody keeps the way to it open.
        while told.recv().await.is_some() {}
    }
}
