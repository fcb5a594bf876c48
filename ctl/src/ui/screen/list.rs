//! The list. Only rows in the window are made.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};
use ratatui::widgets::Block;
use strata_proto::runtime::v1::ContainerState;
use unicode_width::UnicodeWidthStr;

use super::Screen;
use crate::command::health;
use crate::full_screen::draw::line;
use crate::ui::item::{Around, Column, Item, Tab};

/// Least columns of what takes a share of the rest.
const LEAST: u16 = 8;

/// Draws the head and the rows.
pub(super) fn draw(screen: &Screen, frame: &mut Frame<'_>) {
    if screen.areas.list.is_empty() {
        return;
    }
    let (listing, is_focused) = (screen.listing(), !screen.is_pane_focused);
    let hidden = if listing.hides_stopped { " without stopped ones " } else { "" };
    let title = format!(" {} {}/{}{hidden}", screen.tab.title(), listing.rows(), listing.count());
    let block = Block::bordered().title(format!("{title} ")).border_style(screen.palette.border(is_focused));
    frame.render_widget(block, screen.areas.list);
    let places = places(screen);
    let head = places.iter().map(|(column, at)| {
        let title = screen.tab.columns()[*column].title;
        let mark = if screen.is_sorted_up() { "▲" } else { "▼" };
        (*at, if *column == listing.column { format!("{title}{mark}") } else { title.to_owned() })
    });
    cells(frame, screen.areas.head(), head, screen.palette.heading());
    let around = Around { usages: &screen.usages, users: &screen.users, now: screen.now };
    let inside = screen.areas.rows();
    for (row, y) in (listing.cursor.top..listing.rows()).zip(inside.y..inside.bottom()) {
        let Some(item) = listing.row(row) else { break };
        let row_area = Rect { y, height: 1, ..inside };
        let texts = places.iter().map(|(column, at)| (*at, item.cell(*column, &around)));
        let style = style(screen, item);
        let style = if row == listing.cursor.at { screen.palette.selected(style, is_focused) } else { style };
        cells(frame, row_area, texts, style);
    }
    if listing.rows() == 0 {
        let text = match (listing.is_known, listing.count()) {
            (false, _) => " …",
            (true, 0) => " Nothing.",
            (true, _) => " Nothing with this text.",
        };
        line(frame, inside, inside.y, text, screen.palette.faint());
    }
}

/// Draws one row of cells; the style fills it.
fn cells(frame: &mut Frame<'_>, row: Rect, cells: impl Iterator<Item = ((Rect, bool), String)>, style: Style) {
    for ((place, is_right), text) in cells {
        let width = usize::from(place.width);
        let text = crate::explore::text::line(&text);
        let indent = if is_right { width.saturating_sub(text.width()) } else { 0 };
        let x = place.x + u16::try_from(indent).unwrap_or(0);
        if !row.is_empty() {
            frame.buffer_mut().set_stringn(x, row.y, text, width - indent, Style::new());
        }
    }
    frame.buffer_mut().set_style(row, style);
}

/// How a row looks: what runs, what is not well.
fn style(screen: &Screen, item: &Item) -> Style {
    let palette = screen.palette;
    let Some(container) = item.container() else { return Style::new() };
    match container.state() {
        ContainerState::Running if health::word(container) == "unhealthy" => palette.colour(Color::Red),
        ContainerState::Running => palette.colour(Color::Green),
        ContainerState::Paused | ContainerState::Restarting => palette.colour(Color::Yellow),
        _ => palette.faint(),
    }
}

/// The columns that are shown, their places, and whether what is in them stands at the right.
pub(super) fn places(screen: &Screen) -> Vec<(usize, (Rect, bool))> {
    let area = screen.areas.head();
    let all = screen.tab.columns().iter().enumerate();
    let shown: Vec<(usize, &Column)> = all.filter(|(_, column)| column.from <= screen.areas.list.width).collect();
    let fixed: u16 = shown.iter().map(|(_, column)| column.width + 1).sum();
    let shares = u16::try_from(shown.iter().filter(|(_, column)| column.width == 0).count()).unwrap_or(1).max(1);
    let share = (area.width.saturating_sub(fixed) / shares).max(LEAST);
    let mut x = area.x;
    let mut places = Vec::new();
    for (place, column) in shown {
        let width = if column.width == 0 { share } else { column.width };
        // What does not fit any more is cut.
        let width = width.min(area.right().saturating_sub(x));
        places.push((place, (Rect { x, width, ..area }, column.is_right)));
        x = (x + width + 1).min(area.right());
    }
    places
}

impl Screen {
    /// Texts go up from A; figures come down from the most.
    fn is_sorted_up(&self) -> bool {
        let listing = self.listing();
        let is_figure = self.tab.columns()[listing.column].is_right;
        // Times since then go up: the youngest come first.
        let is_time = matches!((self.tab, listing.column), (Tab::Containers, 7) | (Tab::Images, 4) | (Tab::Volumes, 2));
        (is_figure && !is_time) == listing.is_reversed
    }
}
