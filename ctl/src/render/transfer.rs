//! Pulls, pushes and copies: a line per layer that is redrawn on a terminal, or a line per change where there is none.

use std::collections::HashMap;
use std::io::Write;

use strata_proto::store::v1::{ReceiveSpared, TransferProgress, TransferState};

use super::size;
use crate::terminal;

/// Characters of a digest that tell layers apart, as Docker shows them.
const SHORT: usize = 12;
/// Width of a bar.
const BAR: usize = 50;

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// The command is about this.
    Stdout,
    /// The command is about something else.
    Stderr,
}

/// The progress of one pull or push.
#[derive(Debug)]
pub struct Transfer {
    to: To,
    is_quiet: bool,
    is_live: bool,
    /// Lines in the order in which they came, by digest.
    lines: Vec<Line>,
    index: HashMap<String, usize>,
    /// Lines on the screen that can be redrawn.
    drawn: usize,
}

#[derive(Debug)]
struct Line {
    id: String,
    text: String,
    state: TransferState,
    size: u64,
    is_over: bool,
    /// What of it did not have to move.
    spared: String,
}

impl Transfer {
    /// Nothing yet.
    pub fn new(to: To, is_quiet: bool) -> Self {
        let is_live = !is_quiet && terminal::shows_escapes(to == To::Stdout);
        Self { to, is_quiet, is_live, lines: Vec::new(), index: HashMap::new(), drawn: 0 }
    }

    /// Says what follows.
    pub fn title(&self, text: String) {
        if !self.is_quiet {
            self.print(&text);
        }
    }

    /// Layers that will come.
    pub fn expect<'a>(&mut self, layers: impl Iterator<Item = (&'a str, u64)>) {
        for (digest, size) in layers {
            let at = self.line(digest);
            self.lines[at].size = size;
        }
        self.draw();
    }

    /// A layer of a pull came further.
    pub fn pulled(&mut self, progress: &TransferProgress) {
        let text = match progress.state() {
            TransferState::Unspecified => return,
            TransferState::Waiting => "Waiting",
            TransferState::Moving => "Downloading",
            TransferState::Unpacking => "Extracting",
            TransferState::Exists => "Already exists",
            TransferState::Done => "Pull complete",
            TransferState::Compressing => "Compressing",
            TransferState::Mounted => "Mounted",
        };
        self.changed(progress, text);
    }

    /// A layer of a push came further.
    pub fn pushed(&mut self, progress: &TransferProgress) {
        let text = match progress.state() {
            TransferState::Unspecified => return,
            TransferState::Waiting => "Waiting",
            TransferState::Compressing => "Compressing",
            TransferState::Moving => "Pushing",
            TransferState::Exists => "Layer already exists",
            TransferState::Mounted => "Mounted",
            TransferState::Unpacking | TransferState::Done => "Pushed",
        };
        self.changed(progress, text);
    }

    /// A layer of a copy came further.
    pub fn copied(&mut self, progress: &TransferProgress) {
        let text = match progress.state() {
            TransferState::Unspecified => return,
            TransferState::Waiting => "Waiting",
            TransferState::Compressing => "Compressing",
            TransferState::Moving => "Copying",
            TransferState::Unpacking => "Extracting",
            TransferState::Exists | TransferState::Mounted => "Already exists",
            TransferState::Done => "Copied",
        };
        self.changed(progress, text);
    }

    /// Files of a layer are at the target of a copy.
    pub fn spared(&mut self, spared: &ReceiveSpared) {
        let all = spared.spared_bytes.saturating_add(spared.missing_bytes);
        let at = self.line(&spared.digest);
        self.lines[at].spared = format!(", {} of {} were there", size::human(spared.spared_bytes), size::human(all));
    }

    fn line(&mut self, digest: &str) -> usize {
        if let Some(at) = self.index.get(digest) {
            return *at;
        }
        let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
        // What a service calls a digest may be anything.
        let id: String = hex.chars().filter(char::is_ascii_alphanumeric).take(SHORT).collect();
        let state = TransferState::Unspecified;
        self.lines.push(Line { id, text: "Waiting".to_owned(), state, size: 0, is_over: false, spared: String::new() });
        self.index.insert(digest.to_owned(), self.lines.len() - 1);
        self.lines.len() - 1
    }

    fn changed(&mut self, progress: &TransferProgress, text: &str) {
        if self.is_quiet {
            return;
        }
        let at = self.line(&progress.digest);
        let is_live = self.is_live;
        let line = &mut self.lines[at];
        let is_new = line.state != progress.state();
        line.state = progress.state();
        line.size = line.size.max(progress.size_bytes);
        line.is_over = matches!(line.state, TransferState::Exists | TransferState::Mounted | TransferState::Done);
        let is_moving = matches!(line.state, TransferState::Moving | TransferState::Compressing);
        line.text = match is_live && is_moving {
            true => format!("{text} {}", bar(progress.offset_bytes, line.size)),
            false if line.is_over => format!("{text}{}", line.spared),
            false => text.to_owned(),
        };
        if is_live {
            self.draw();
        } else if is_new {
            let said = format!("{}: {}", line.id, line.text);
            self.print(&said);
        }
    }

    /// Redraws the lines. Those that are over leave the screen first where it is too small.
    fn draw(&mut self) {
        if !self.is_live {
            return;
        }
        let (columns, rows) = terminal::size().unwrap_or((80, 24));
        let (columns, most) = (columns as usize, (rows as usize).saturating_sub(2).max(1));
        let mut shown: Vec<&Line> = self.lines.iter().collect();
        if shown.len() > most {
            shown.retain(|line| !line.is_over);
            shown.truncate(most);
        }
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A\x1b[J", self.drawn));
        }
        for line in &shown {
            text.push_str(&super::table::cut(&format!("{}: {}", line.id, line.text), columns.saturating_sub(1)));
            text.push('\n');
        }
        self.drawn = shown.len();
        self.write(text.as_bytes());
    }

    /// Shows how every layer ended.
    pub fn finish(&mut self) {
        if self.is_live && self.lines.len() > self.drawn {
            let back = if self.drawn > 0 { format!("\x1b[{}A\x1b[J", self.drawn) } else { String::new() };
            let all: String = self.lines.iter().map(|line| format!("{}: {}\n", line.id, line.text)).collect();
            self.write(format!("{back}{all}").as_bytes());
        }
        self.drawn = 0;
    }

    fn print(&self, line: &str) {
        self.write(format!("{line}\n").as_bytes());
    }

    fn write(&self, bytes: &[u8]) {
        // Who no longer reads the progress still wants the image.
        let _ = match self.to {
            To::Stdout => std::io::stdout().lock().write_all(bytes),
            To::Stderr => std::io::stderr().lock().write_all(bytes),
        };
    }
}

/// "[====>     ]  1.2MB/30MB"
fn bar(offset: u64, whole: u64) -> String {
    if whole == 0 {
        return size::human(offset);
    }
    let offset = offset.min(whole);
    let filled = (u128::from(offset) * BAR as u128 / u128::from(whole)) as usize;
    let line = match filled {
        BAR => "=".repeat(BAR),
        filled => format!("{}>{}", "=".repeat(filled), " ".repeat(BAR - filled - 1)),
    };
    format!("[{line}]  {}/{}", size::human(offset), size::human(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_at_the_end_and_never_longer() {
        assert!(bar(0, 100).starts_with("[>  "), "{}", bar(0, 100));
        assert!(bar(50, 100).contains(&format!("[{}>", "=".repeat(25))));
        assert!(bar(100, 100).contains(&"=".repeat(BAR)));
        assert_eq!(bar(500, 100), bar(100, 100));
        assert_eq!(bar(u64::MAX, u64::MAX).matches('=').count(), BAR);
        assert!(!bar(7, 0).contains('['));
    }
}
