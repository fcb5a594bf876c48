//! Two tokens that services hold: what keeps a service alive, and what tells it to stop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::spans;

/// Counts what keeps a service from stopping by itself: open connections and work in the background.
#[derive(Clone, Debug)]
pub struct Idle {
    count: Arc<watch::Sender<usize>>,
}

impl Default for Idle {
    fn default() -> Self {
        Self { count: Arc::new(watch::Sender::new(0)) }
    }
}

impl Idle {
    /// The service is busy until the guard is dropped: a container runs, a layer is being described.
    pub fn busy(&self) -> Busy {
        self.count.send_modify(|n| *n += 1);
        Busy { count: self.count.clone() }
    }

    /// Guards held now.
    pub fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Returns once nothing was busy for this long without a break.
    pub async fn quiet_for(&self, time: Duration) {
        let mut changes = self.count.subscribe();
        loop {
            // The sender is alive: self holds it.
            let _ = changes.wait_for(|n| *n == 0).await;
            tokio::select! {
                () = tokio::time::sleep(time) => return,
                _ = changes.changed() => {}
            }
        }
    }
}

/// Keeps a service from stopping by itself.
#[derive(Debug)]
pub struct Busy {
    count: Arc<watch::Sender<usize>>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.count.send_modify(|n| *n -= 1);
    }
}

/// Tells the tasks of a service that it is stopping, and waits for them.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    token: CancellationToken,
    is_resting: Arc<AtomicBool>,
    tasks: TaskTracker,
}

impl Drain {
    /// Begins the stop. Nothing new is accepted from here on.
    pub fn start(&self) {
        self.token.cancel();
    }

    /// Begins the stop of a service that nobody needs now.
    pub(crate) fn rest(&self) {
        self.is_resting.store(true, Ordering::Release);
        self.start();
    }

    /// Does it stop because nothing was left to do, and not because it was told to?
    pub fn is_resting(&self) -> bool {
        self.is_resting.load(Ordering::Acquire)
    }

    /// Has the stop begun?
    pub fn is_draining(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns when the stop begins. Long streams end on it.
    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }

    /// The token itself, for code that wants one.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Runs a task that the stop waits for, up to its deadline; the task itself watches [`Drain::cancelled`]. It belongs to the
    /// trace of who begins it.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(spans::carry(task))
    }

    pub(crate) async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const QUIET: Duration = Duration::from_millis(500);

    #[tokio::test]
    async fn quiet_starts_anew_with_every_piece_of_work() {
        let idle = Idle::default();
        let watched = idle.clone();
        let quiet = tokio::spawn(async move {
            watched.quiet_for(QUIET).await;
            Instant::now()
        });
        // By now it waits for a quiet time to end.
        tokio::task::yield_now().await;
        let mut ends = Instant::now();
        for _ in 0..2 {
            let busy = idle.busy();
            tokio::time::sleep(QUIET * 2).await;
            assert!(!quiet.is_finished(), "it is quiet while something is done");
            ends = Instant::now();
            drop(busy);
            tokio::task::yield_now().await;
        }

        let quiet_at = quiet.await.unwrap();

        assert!(quiet_at.duration_since(ends) >= QUIET, "what was quiet before the last work counts");
    }
}
