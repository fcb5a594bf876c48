//! Colours. Without them (NO_COLOR) words and marks say the same.

use ratatui::style::{Color, Modifier, Style};

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

    /// Text in a colour.
    pub fn colour(self, colour: Color) -> Style {
        match self {
            Self::Colours => Style::new().fg(colour),
            Self::Plain => Style::new(),
        }
    }

    /// The border of a pane.
    pub fn border(self, is_focused: bool) -> Style {
        match is_focused {
            true => self.colour(Color::Cyan).add_modifier(Modifier::BOLD),
            false => self.colour(Color::DarkGray),
        }
    }

    /// Above what belongs together.
    pub fn heading(self) -> Style {
        self.colour(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// What matters less.
    pub fn faint(self) -> Style {
        self.colour(Color::DarkGray)
    }

    /// The keys at the bottom.
    pub fn footer(self) -> Style {
        self.colour(Color::Gray)
    }

    /// A selected row; underlined where the keys do not go.
    pub fn selected(self, style: Style, is_focused: bool) -> Style {
        style.add_modifier(if is_focused { Modifier::REVERSED } else { Modifier::UNDERLINED })
    }
}
