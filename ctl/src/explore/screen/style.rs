//! Colours of what a layer did; the marks in front of names say the same.

use ratatui::style::{Color, Style};

use crate::explore::view::Mark;
use crate::full_screen::Palette;

pub(super) fn of_mark(palette: Palette, mark: Mark) -> Style {
    match mark {
        Mark::Added => palette.colour(Color::Green),
        Mark::Changed => palette.colour(Color::Yellow),
        Mark::Removed => palette.colour(Color::Red),
        Mark::Absent | Mark::Same | Mark::Within => Style::new(),
    }
}
