//! Reads logs that monitors write: Docker's json-file lines in `log.json`, older ones in `log.json.1`, `.2`, and so on, or
//! compressed in `log.json.1.gz`. Files are held open while they are read, so that a rotation meanwhile loses and repeats
//! nothing. What is not wanted is not read: the start is looked for from the end, or by halves.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::{
    container::Container,
    error::Error,
    logs::{files::Files, watch::Watch},
};

mod entry;
mod files;
mod pack;
mod part;
mod watch;

pub use entry::Line;
pub use files::clear;
pub use pack::pack;

/// Lines are joined into chunks of about this size.
const JOINED: usize = 32 << 10;

/// What of a log is wanted.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Only the last lines of what is meant otherwise.
    pub tail: Option<u64>,
    /// Only what was written then or later.
    pub since: Option<Timestamp>,
    /// Only what was written then or earlier.
    pub until: Option<Timestamp>,
    /// Lines of one stream may come in one.
    pub joins_lines: bool,
}

impl Wish {
    fn is_early(&self, line: &Line) -> bool {
        self.since.zip(line.written_at).is_some_and(|(since, at)| at < since)
    }

    fn is_late(&self, line: &Line) -> bool {
        self.until.zip(line.written_at).is_some_and(|(until, at)| at > until)
    }
}

type Lines = mpsc::Sender<Result<Line, Error>>;

/// Whether there is more to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// What is there was sent.
    Sent,
    /// Whoever reads is gone, or what follows is too late for it.
    Over,
}

/// Sends a log, or what is wanted of it, and what a container adds to it until it rests, if `follow` is given.
pub async fn read(path: PathBuf, wish: Wish, follow: Option<Arc<Container>>, lines: &Lines) -> Result<(), Error> {
    // Nothing is to be waited for where the end is behind us.
    let follow = follow.filter(|_| wish.until.is_none_or(|until| until > Timestamp::now()));
    // Before anything is read: what is written meanwhile is seen.
    let watch = follow.as_ref().map(|_| Watch::new(&path)).transpose()?;
    let is_followed = follow.is_some();
    let mut reader = Reader { files: Files::new(path), wish, lines: lines.clone() };
    let mut step;
    (reader, step) = reader.on_a_thread(move |reader| reader.begin(is_followed)).await?;
    let (Some(container), Some(watch)) = (follow, watch) else { return Ok(()) };
    let mut phases = container.phases();
    let end = reader.wish.until;
    loop {
        // Asked before reading: what is written before the end is read after it.
        phases.mark_unchanged();
        let is_over = !container.is_to_run();
        if step == Step::Sent {
            (reader, step) = reader.on_a_thread(Reader::go_on).await?;
        }
        if is_over || step == Step::Over || end.is_some_and(|end| end < Timestamp::now()) {
            return Ok(());
        }
        tokio::select! {
            changed = watch.changed() => changed.map_err(|e| Error::io("watch", reader.files.path(), e))?,
            _ = phases.changed() => {}
            () = moment(end) => {}
        }
    }
}

/// Waits for a moment; for ever without one.
async fn moment(end: Option<Timestamp>) {
    match end {
        None => std::future::pending().await,
        Some(end) => {
            let left = Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default();
            tokio::time::sleep(left + Duration::from_millis(1)).await;
        }
    }
}

/// A log on its way to whoever reads it.
struct Reader {
    files: Files,
    wish: Wish,
    lines: Lines,
}

impl Reader {
    /// Does blocking work on a thread for it.
    async fn on_a_thread(
        mut self,
        work: impl FnOnce(&mut Self) -> Result<Step, Error> + Send + 'static,
    ) -> Result<(Self, Step), Error> {
        let done = tokio::task::spawn_blocking(move || {
            let step = work(&mut self)?;
            Ok((self, step))
        });
        done.await.map_err(|_| Error::Lost { what: "reading a log" })?
    }

    /// Finds where what is wanted begins, and sends it. What comes later is left to those who follow: others would have no
    /// end of a log that grows as quickly as they read.
    fn begin(&mut self, is_followed: bool) -> Result<Step, Error> {
        self.files.open(&self.wish, is_followed)?;
        self.send()
    }

    /// Sends what has come.
    fn go_on(&mut self) -> Result<Step, Error> {
        self.files.advance()?;
        self.send()
    }

    fn send(&mut self) -> Result<Step, Error> {
        let mut held: Option<Line> = None;
        while let Some(line) = self.files.next()? {
            if self.wish.is_early(&line) {
                continue;
            }
            if self.wish.is_late(&line) {
                self.pass(held)?;
                return Ok(Step::Over);
            }
            let joins = |held: &Line| {
                self.wish.joins_lines
                    && held.is_stderr == line.is_stderr
                    && held.bytes.len() + line.bytes.len() <= JOINED
            };
            match &mut held {
                Some(held) if joins(held) => held.bytes.extend_from_slice(&line.bytes),
                _ => {
                    if self.pass(held.replace(line))? == Step::Over {
                        return Ok(Step::Over);
                    }
                }
            }
        }
        self.pass(held)
    }

    fn pass(&self, line: Option<Line>) -> Result<Step, Error> {
        let is_gone = line.is_some_and(|line| self.lines.blocking_send(Ok(line)).is_err());
        Ok(if is_gone { Step::Over } else { Step::Sent })
    }
}

#[cfg(test)]
mod tests;
