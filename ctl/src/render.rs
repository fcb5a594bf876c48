//! What people read: tables, names, times, sizes, build progress; and writing it where nobody may listen any more.

pub mod list;
pub mod name;
pub mod progress;
pub mod size;
pub mod table;
pub mod time;
pub mod transfer;

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use crate::error::{Error, Result};

/// Exit code of SIGPIPE.
pub const NOBODY_READS: u8 = 128 + 13;

/// Prints a line to standard output.
pub fn line(line: impl Display) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").map_err(unwritable)
}

/// Prints text to standard output as it is.
pub fn text(text: &str) -> Result<()> {
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(unwritable)
}

/// Tells a line on standard error. When nobody listens there, nobody wants to know.
pub fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// A failed write to standard output or standard error: a reader who has seen enough ends the command silently,
/// with the code of SIGPIPE.
pub fn unwritable(error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::BrokenPipe => Error::silent(NOBODY_READS),
        _ => Error::new(format!("cannot write the output: {error}")),
    }
}
