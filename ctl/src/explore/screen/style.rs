//! Colours. Without them (NO_COLOR) the marks in front of names say the same.

use ratatui::style::{Color, Modifier, Style};

use crate::explore::view::Mark;

/// Which styles to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Palette {
    /// The sixteen colours of every terminal, in the user's own choice of them.
    Colours,
    /// Bold and reversed only.
    Plain,
}

impl Palette {
    /// What the environment asks for: NO_COLOR, set to anything, turns colours off.
    pub fn of_environment() -> Self {
        match std::env::var_os("NO_COLOR") {
            Some(value) if !value.is_empty() => Self::Plain,
            _ => Self::Colours,
        }
    }

    fn colour(self, colour: Color) -> Style {
        match self {
            Self::Colours => Style::new().fg(colour),
            Self::Plain => Style::new(),
        }
    }

    pub(super) fn mark(self, mark: Mark) -> Style {
        match mark {
            Mark::Added => self.colour(Color::Green),
            Mark::Changed => self.colour(Color::Yellow),
            Mark::Removed => self.colour(Color::Red),
            Mark::Absent | Mark::Same | Mark::Within => Style::new(),
        }
    }

    pub(super) fn border(self, is_focused: bool) -> Style {
        match is_focused {
            true => self.colour(Color::Cyan).add_modifier(Modifier::BOLD),
            false => self.colour(Color::DarkGray),
        }
    }

    pub(super) fn heading(self) -> Style {
        self.colour(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    pub(super) fn faint(self) -> Style {
        self.colour(Color::DarkGray)
    }

    pub(super) fn footer(self) -> Style {
        self.colour(Color::Gray)
    }

    /// A selected row; underlined where the keys do not go.
    pub(super) fn selected(self, style: Style, is_focused: bool) -> Style {
        style.add_modifier(if is_focused { Modifier::REVERSED } else { Modifier::UNDERLINED })
    }
}
