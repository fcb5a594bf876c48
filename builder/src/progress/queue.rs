//! Events on their way to the client. Sending never waits: of a part only the newest state is kept until it is taken,
//! output is clipped, and what is still too much for a client that does not read is left out aloud.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::clip::{Clip, Limits};
use super::{Event, Part, Progress};

/// Bytes of output that wait for the client at most.
const BACKLOG: usize = 8 << 20;

/// Where progress goes, and where it comes out.
pub fn channel() -> (Progress, Told) {
    let (entries, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::new(Waiting::default());
    let streams = Arc::new(Streams { limits: Limits::of_environment(), clips: Mutex::default() });
    (Progress { events: Sender { entries, waiting: waiting.clone(), streams } }, Told { receiver, waiting })
}

/// The sending side.
#[derive(Debug, Clone)]
pub struct Sender {
    entries: mpsc::UnboundedSender<Entry>,
    waiting: Arc<Waiting>,
    streams: Arc<Streams>,
}

/// The receiving side.
#[derive(Debug)]
pub struct Told {
    receiver: mpsc::UnboundedReceiver<Entry>,
    waiting: Arc<Waiting>,
}

#[derive(Debug)]
enum Entry {
    Event(Timestamp, Event),
    /// A part has changed: its newest state is in [`Waiting`].
    Part(u32, Arc<str>),
}

#[derive(Debug, Default)]
struct Waiting {
    parts: Mutex<HashMap<(u32, Arc<str>), Part>>,
    output: AtomicUsize,
    left_out: AtomicUsize,
}

#[derive(Debug)]
struct Streams {
    limits: Limits,
    /// By step and stream: since when, and what was told.
    clips: Mutex<HashMap<(u32, bool), (Instant, Clip)>>,
}

impl Waiting {
    fn parts(&self) -> MutexGuard<'_, HashMap<(u32, Arc<str>), Part>> {
        self.parts.lock().expect("no holder of this lock panics")
    }
}

impl Sender {
    /// Takes an event in. A receiver that is gone is no failure.
    pub fn send(&self, event: Event) {
        match event {
            Event::Part(part) => {
                let (step, name) = (part.step, part.name.clone());
                if self.waiting.parts().insert((step, name.clone()), part).is_none() {
                    let _ = self.entries.send(Entry::Part(step, name));
                }
            }
            Event::Output { step, is_stderr, chunk } => {
                let told = {
                    let mut clips = self.streams.clips.lock().expect("no holder of this lock panics");
                    let (since, clip) =
                        clips.entry((step, is_stderr)).or_insert_with(|| (Instant::now(), Clip::default()));
                    clip.take(&chunk, &self.streams.limits, since.elapsed())
                };
                if let Some(chunk) = told {
                    self.output(step, is_stderr, chunk);
                }
            }
            event => self.push(event),
        }
    }

    /// The step prints no more: tells the end of what was cut.
    pub fn end_output(&self, step: u32) {
        let ends: Vec<_> = {
            let mut clips = self.streams.clips.lock().expect("no holder of this lock panics");
            let streams = [false, true].into_iter();
            streams.filter_map(|is_stderr| Some((is_stderr, clips.remove(&(step, is_stderr))?.1.end()?))).collect()
        };
        for (is_stderr, chunk) in ends {
            self.output(step, is_stderr, chunk);
        }
    }

    fn output(&self, step: u32, is_stderr: bool, chunk: Bytes) {
        if self.waiting.output.load(Ordering::Relaxed) + chunk.len() > BACKLOG {
            self.waiting.left_out.fetch_add(chunk.len(), Ordering::Relaxed);
            return;
        }
        let left_out = self.waiting.left_out.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            let text = format!("\n[{left_out} bytes of output left out: they were not read in time]\n");
            self.chunk(step, is_stderr, text.into());
        }
        self.chunk(step, is_stderr, chunk);
    }

    fn chunk(&self, step: u32, is_stderr: bool, chunk: Bytes) {
        self.waiting.output.fetch_add(chunk.len(), Ordering::Relaxed);
        self.push(Event::Output { step, is_stderr, chunk });
    }

    fn push(&self, event: Event) {
        let _ = self.entries.send(Entry::Event(Timestamp::now(), event));
    }
}

impl Told {
    /// The next event and when it was told. `None`: nobody tells any more.
    pub async fn recv(&mut self) -> Option<(Timestamp, Event)> {
        loop {
            match self.receiver.recv().await? {
                Entry::Event(at, event) => {
                    if let Event::Output { chunk, .. } = &event {
                        self.waiting.output.fetch_sub(chunk.len(), Ordering::Relaxed);
                    }
                    return Some((at, event));
                }
                Entry::Part(step, name) => {
                    if let Some(part) = self.waiting.parts().remove(&(step, name)) {
                        return Some((Timestamp::now(), Event::Part(part)));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::StepState;
    use super::*;

    fn all(told: &mut Told) -> Vec<Event> {
        let mut events = Vec::new();
        // All that is there, however much: tokio would have a task pause after a while.
        let mut next = || tokio::task::unconstrained(told.recv()).now_or_never();
        while let Some(Some((_, event))) = next() {
            events.push(event);
        }
        events
    }

    #[tokio::test]
    async fn of_a_part_only_the_newest_state_waits() {
        let (progress, mut told) = channel();
        let running = progress.running(1, "pull", 0);
        let mut part = running.part("layer");

        for bytes in 1..=1000 {
            part.at(bytes, 1000);
        }

        let events = all(&mut told);
        assert!(matches!(&events[..], [Event::Part(part)] if part.current == 1000), "{events:?}");
        part.done();
        let events = all(&mut told);
        assert!(matches!(&events[..], [Event::Part(part)] if part.completed.is_some()), "{events:?}");
    }

    #[tokio::test]
    async fn output_that_nobody_reads_is_bounded_and_what_is_left_out_is_said() {
        let (progress, mut told) = channel();
        let chunk = Bytes::from(vec![b'x'; 64 << 10]);

        for step in 0..1000 {
            progress.tell(Event::Output { step, is_stderr: false, chunk: chunk.clone() });
        }

        let waiting: usize = all(&mut told)
            .iter()
            .map(|event| if let Event::Output { chunk, .. } = event { chunk.len() } else { 0 })
            .sum();
        assert!(waiting <= BACKLOG, "{waiting}");
        progress.tell(Event::Output { step: 1001, is_stderr: false, chunk });
        let said = all(&mut told);
        let text = |event: &Event| match event {
            Event::Output { chunk, .. } => String::from_utf8_lossy(chunk).into_owned(),
            _ => String::new(),
        };
        assert!(text(&said[0]).contains("bytes of output left out"), "{said:?}");
    }

    #[tokio::test]
    async fn a_step_that_is_dropped_at_work_was_given_up() {
        let (progress, mut told) = channel();
        let idle = progress.running(1, "idle", 0);
        let working = progress.running(2, "working", 0);
        working.begin("");

        drop((idle, working));

        let ends: Vec<(u32, StepState)> = all(&mut told)
            .into_iter()
            .filter_map(|event| if let Event::Step { step, state, .. } = event { Some((step, state)) } else { None })
            .collect();
        assert_eq!(ends, [(2, StepState::Running), (2, StepState::Cancelled)]);
    }

    #[tokio::test]
    async fn the_end_of_the_last_sender_is_the_end_of_what_is_told() {
        let (progress, mut told) = channel();
        let running = progress.running(1, "a", 0);
        running.end(StepState::Cached);
        drop((progress, running));

        assert!(told.recv().await.is_some());
        assert!(told.recv().await.is_none());
    }
}
