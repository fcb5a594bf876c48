//! The real terminal under the view: taken as a whole, and given back however the view ends: by a key, an error, a
//! panic, Ctrl-C or SIGTERM; and in between by Ctrl-Z.

use std::io::{Stdout, Write};
use std::panic;
use std::sync::Once;
use std::time::Duration;

use crossterm::cursor::{Hide, Show};
use crossterm::event::{
    DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture, Event, EventStream,
};
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, is_raw_mode_enabled,
};
use crossterm::{execute, queue};
use futures_util::StreamExt;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use super::Image;
use super::screen::{Next, Palette, Screen};
use crate::error::{Error, Result};

/// Exit code of SIGHUP.
const HUNG_UP: u8 = 128 + 1;
/// Exit code of SIGTERM.
const TERMINATED: u8 = 128 + 15;
/// Events taken before the picture is drawn again.
const MOST_EVENTS: usize = 256;

/// The whole terminal; dropping it gives it back.
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
    Error::new(format!("cannot use the terminal: {error}")).hint("`--plain` shows a summary, `--json` everything")
}

/// Shows an image until the user has seen enough. Returns the exit code.
pub async fn show(image: Image) -> Result<u8> {
    let mut screen = Screen::new(image, Palette::of_environment());
    let caught = |kind| signal(kind).map_err(|error| Error::of(&error));
    let (mut terminated, mut hung_up) = (caught(SignalKind::terminate())?, caught(SignalKind::hangup())?);
    let mut stopped = caught(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
    let mut whole = Some(Whole::take()?);
    let mut terminal = blank()?;
    let mut events = EventStream::new();
    loop {
        terminal.draw(|frame| screen.draw(frame)).map_err(failed)?;
        let next = tokio::select! {
            event = events.next() => match event {
                Some(event) => take(&mut screen, &event.map_err(failed)?, &mut events).await?,
                None => Next::Leave,
            },
            _ = terminated.recv() => return Err(Error::silent(TERMINATED)),
            _ = hung_up.recv() => return Err(Error::silent(HUNG_UP)),
            _ = stopped.recv() => Next::Suspend,
        };
        match next {
            Next::Stay => {}
            Next::Leave => return Ok(0),
            Next::Suspend => {
                drop(whole.take());
                // SIGTSTP is caught above; this one is not.
                kill_process(getpid(), Signal::STOP).map_err(|error| failed(error.into()))?;
                whole = Some(Whole::take()?);
                terminal = blank()?;
            }
        }
    }
}

/// A screen of which nothing is known, so that all of it is drawn. (`Terminal::clear` would ask the terminal where its
/// cursor is, and wait for an answer that the stream of events takes.)
fn blank() -> Result<Terminal<CrosstermBackend<Stdout>>> {
    Terminal::new(CrosstermBackend::new(std::io::stdout())).map_err(failed)
}

/// Hands over an event and those that wait behind it, so that a held key is not drawn letter by letter.
///
/// A stream that was asked remembers who to wake until something comes, so it is asked by this task only: a look with
/// `now_or_never` would leave it with nobody to wake.
async fn take(screen: &mut Screen, event: &Event, events: &mut EventStream) -> Result<Next> {
    let mut next = screen.on(event);
    for _ in 0..MOST_EVENTS {
        if next != Next::Stay {
            break;
        }
        match tokio::time::timeout(Duration::ZERO, events.next()).await {
            Ok(Some(event)) => next = screen.on(&event.map_err(failed)?),
            Ok(None) => next = Next::Leave,
            Err(_) => break,
        }
    }
    Ok(next)
}
