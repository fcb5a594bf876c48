//! A view as a machine without a terminal: events go in, pictures come out.

use crossterm::event::{Event, KeyEvent, KeyEventKind, MouseEvent};
use ratatui::Frame;

use super::Next;

/// A view on the whole terminal, which [`super::FullScreen`] draws and hands events to.
pub trait Machine {
    /// Draws everything.
    fn draw(&mut self, frame: &mut Frame<'_>);

    /// Takes a key that was pressed.
    fn on_key(&mut self, key: KeyEvent) -> Next;

    /// Takes what the mouse did.
    fn on_mouse(&mut self, mouse: MouseEvent);

    /// Takes letters that were pasted, of which none is a control character.
    fn on_paste(&mut self, letters: impl Iterator<Item = char>);

    /// Takes an event of the terminal.
    fn on(&mut self, event: &Event) -> Next {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => return self.on_key(*key),
            Event::Mouse(mouse) => self.on_mouse(*mouse),
            Event::Paste(text) => self.on_paste(text.chars().filter(|letter| !letter.is_control())),
            // The next picture has the new size.
            _ => {}
        }
        Next::Stay
    }
}
