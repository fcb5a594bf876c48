//! The terminal of this process: raw mode that is always given back, size, and whether there is one.

use std::io::IsTerminal;

use rustix::termios::{self, OptionalActions, Termios};

use crate::error::{Error, Result};

/// Raw mode; dropping it restores what was before.
#[derive(Debug)]
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// Puts the terminal of standard input into raw mode.
    pub fn enter() -> Result<Self> {
        let stdin = std::io::stdin();
        let failed = |error| Error::new(format!("cannot set up the terminal: {error}"));
        let before = termios::tcgetattr(&stdin).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(&stdin, OptionalActions::Drain, &raw).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// No echo of what is typed; dropping it restores what was before.
#[derive(Debug)]
pub struct Silent {
    before: Termios,
}

impl Silent {
    /// Stops the echo of the terminal of standard input.
    pub fn enter() -> Result<Self> {
        let stdin = std::io::stdin();
        let failed = |error| Error::new(format!("cannot set up the terminal: {error}"));
        let before = termios::tcgetattr(&stdin).map_err(failed)?;
        let mut silent = before.clone();
        silent.local_modes.remove(termios::LocalModes::ECHO);
        termios::tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// Columns and rows of the terminal, if there is one.
pub fn size() -> Option<(u32, u32)> {
    let size = termios::tcgetwinsize(std::io::stdout())
        .or_else(|_| termios::tcgetwinsize(std::io::stderr()))
        .or_else(|_| termios::tcgetwinsize(std::io::stdin()))
        .ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col.into(), size.ws_row.into()))
}

/// Standard input is a terminal.
pub fn is_input() -> bool {
    std::io::stdin().is_terminal()
}

/// Standard output is a terminal.
pub fn is_output() -> bool {
    std::io::stdout().is_terminal()
}

/// Standard error is a terminal that understands escapes.
pub fn is_live() -> bool {
    shows_escapes(false)
}

/// Standard output (or else standard error) is a terminal that understands escapes.
pub fn shows_escapes(is_stdout: bool) -> bool {
    let is_terminal = if is_stdout { std::io::stdout().is_terminal() } else { std::io::stderr().is_terminal() };
    is_terminal && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
