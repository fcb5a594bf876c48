//! The whole terminal: taken, and given back however a view ends: by a key, an error, a panic, Ctrl-C or SIGTERM; and in
//! between by Ctrl-Z, or for somebody else who needs it. What all views share stands beside it.

pub mod cursor;
pub mod draw;
mod machine;
pub mod palette;
#[cfg(test)]
pub mod tests;

use std::io::{Stdout, Write};
use std::panic;
use std::sync::Once;
use std::time::Duration;

use crossterm::cursor::{Hide, Show};
use crossterm::event::{
    DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture, EventStream,
};
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, is_raw_mode_enabled,
};
use crossterm::{execute, queue};
use futures_util::StreamExt;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{self, SignalKind, signal};

pub use cursor::Cursor;
pub use machine::Machine;
pub use palette::Palette;

use crate::error::{Error, Result};

/// Exit code of SIGHUP.
const HUNG_UP: u8 = 128 + 1;
/// Exit code of SIGINT.
const INTERRUPTED: u8 = 128 + 2;
/// Exit code of SIGTERM.
const TERMINATED: u8 = 128 + 15;
/// Events taken before the picture is drawn again.
const MOST_EVENTS: usize = 256;

/// What is to be done after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Draw, and wait for events.
    Stay,
    /// Do what the view wishes before further events: they may be somebody else's.
    Act,
    /// Give the terminal back and stop, until somebody says to go on.
    Suspend,
    /// End.
    Leave,
}

/// The terminal of this process as a whole; dropping it gives it back.
pub struct FullScreen {
    whole: Option<Whole>,
    terminal: Terminal<CrosstermBackend<Stdout>>,
    events: Option<EventStream>,
    signals: Signals,
}

struct Signals {
    hung_up: unix::Signal,
    interrupted: unix::Signal,
    stopped: unix::Signal,
    terminated: unix::Signal,
}

impl FullScreen {
    /// Takes the terminal. Fails where there is none, or it cannot be set up.
    pub fn take() -> Result<Self> {
        let caught = |kind| signal(kind).map_err(|error| Error::of(&error));
        let signals = Signals {
            hung_up: caught(SignalKind::hangup())?,
            interrupted: caught(SignalKind::interrupt())?,
            stopped: caught(SignalKind::from_raw(Signal::TSTP.as_raw()))?,
            terminated: caught(SignalKind::terminate())?,
        };
        read_note();
        Ok(Self { whole: Some(Whole::take()?), terminal: blank()?, events: Some(EventStream::new()), signals })
    }

    /// Draws a view; only what differs from the last one is written.
    pub fn draw(&mut self, view: &mut impl Machine) -> Result<()> {
        self.terminal.draw(|frame| view.draw(frame)).map(drop).map_err(failed)
    }

    /// Waits for events and hands them to the view, all that wait, so that a held key is not drawn letter by letter. Signals that
    /// end the process are errors without words. Dropping the wait loses no event.
    pub async fn listen(&mut self, view: &mut impl Machine) -> Result<Next> {
        let Some(events) = &mut self.events else { return Ok(Next::Leave) };
        let signals = &mut self.signals;
        let first = tokio::select! {
            event = events.next() => event,
            _ = signals.terminated.recv() => return Err(Error::silent(TERMINATED)),
            _ = signals.hung_up.recv() => return Err(Error::silent(HUNG_UP)),
            _ = signals.interrupted.recv() => return Err(Error::silent(INTERRUPTED)),
            _ = signals.stopped.recv() => return Ok(Next::Suspend),
        };
        let Some(event) = first else { return Ok(Next::Leave) };
        let mut next = view.on(&event.map_err(failed)?);
        for _ in 0..MOST_EVENTS {
            if next != Next::Stay {
                break;
            }
            // A stream that was asked remembers who to wake until something comes, so it is asked by this task only: a look
            // with `now_or_never` would leave it with nobody to wake.
            match tokio::time::timeout(Duration::ZERO, events.next()).await {
                Ok(Some(event)) => next = view.on(&event.map_err(failed)?),
                Ok(None) => next = Next::Leave,
                Err(_) => break,
            }
        }
        Ok(next)
    }

    /// Gives the terminal back and stops, until somebody says to go on.
    pub fn suspend(&mut self) -> Result<()> {
        drop(self.whole.take());
        stop()?;
        self.take_back()
    }

    /// Gives the terminal to somebody else while the work goes on: to a child, or to another view. Keys are theirs, Ctrl-C
    /// and Ctrl-Z too.
    pub async fn lend<T>(&mut self, work: impl Future<Output = T>) -> Result<T> {
        self.events = None;
        drop(self.whole.take());
        let mut work = std::pin::pin!(work);
        let signals = &mut self.signals;
        let result = loop {
            tokio::select! {
                result = &mut work => break result,
                _ = signals.terminated.recv() => return Err(Error::silent(TERMINATED)),
                _ = signals.hung_up.recv() => return Err(Error::silent(HUNG_UP)),
                _ = signals.interrupted.recv() => {}
                // The child was stopped with this process: a shell waits for both.
                _ = signals.stopped.recv() => stop()?,
            }
        };
        read_note();
        self.take_back()?;
        self.events = Some(EventStream::new());
        Ok(result)
    }

    fn take_back(&mut self) -> Result<()> {
        self.whole = Some(Whole::take()?);
        self.terminal = blank()?;
        Ok(())
    }
}

/// A stream of events that was dropped left a note for its thread. Read together with a key, it would hide the key until the
/// next one comes; so it is read before there is a stream again.
fn read_note() {
    // Where there is no terminal, taking it says so.
    let _ = crossterm::event::poll(Duration::ZERO);
}

/// Stops this process, until SIGCONT. SIGTSTP is caught; this one is not.
fn stop() -> Result<()> {
    kill_process(getpid(), Signal::STOP).map_err(|error| failed(error.into()))
}

/// The terminal in the state that views need; dropping it gives it back.
struct Whole;

impl Whole {
    fn take() -> Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                // Before the message, which would be lost on the other screen.
                give_back();
                before(panic);
            }));
        });
        // From here on a failure gives back what was taken.
        let whole = Self;
        enable_raw_mode().map_err(failed)?;
        execute!(std::io::stdout(), EnterAlternateScreen, EnableMouseCapture, EnableBracketedPaste, Hide)
            .map_err(failed)?;
        Ok(whole)
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives the terminal back if this process has it. Nothing can be done about one that is gone.
fn give_back() {
    if !is_raw_mode_enabled().unwrap_or(false) {
        return;
    }
    let mut out = std::io::stdout();
    let _ = queue!(out, DisableMouseCapture, DisableBracketedPaste, LeaveAlternateScreen, Show);
    let _ = out.flush();
    let _ = disable_raw_mode();
}

fn failed(error: std::io::Error) -> Error {
    Error::new(format!("cannot use the terminal: {error}"))
}

/// A screen of which nothing is known, so that all of it is drawn. (`Terminal::clear` would ask the terminal where its
/// cursor is, and wait for an answer that the stream of events takes.)
fn blank() -> Result<Terminal<CrosstermBackend<Stdout>>> {
    Terminal::new(CrosstermBackend::new(std::io::stdout())).map_err(failed)
}
