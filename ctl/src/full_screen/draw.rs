//! Places and pieces of pictures.

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph};

use super::Palette;

/// What is within a border.
pub fn inside(area: Rect) -> Rect {
    Rect {
        x: area.x + area.width.min(1),
        y: area.y + area.height.min(1),
        width: area.width.saturating_sub(2),
        height: area.height.saturating_sub(2),
    }
}

/// The row of a pane that a place on the screen is in.
pub fn row_at(inside: Rect, at: Position) -> Option<usize> {
    inside.contains(at).then(|| usize::from(at.y - inside.y))
}

/// Draws one line; the style fills the pane.
pub fn line(frame: &mut Frame<'_>, inside: Rect, y: u16, text: &str, style: Style) {
    let row = Rect { y, height: 1, ..inside };
    if row.is_empty() {
        return;
    }
    let buffer = frame.buffer_mut();
    buffer.set_stringn(row.x, y, text, row.width.into(), Style::new());
    buffer.set_style(row, style);
}

/// Draws a box with lines in the middle of the screen, over all else.
pub fn over(frame: &mut Frame<'_>, title: &str, lines: &[&str], width: u16, palette: Palette) {
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let area = centred(frame.area(), width, height);
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(title).border_style(palette.border(true));
    let lines: Vec<Line<'_>> = lines.iter().map(|line| Line::from(*line)).collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn centred(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect::new(area.x + (area.width - width) / 2, area.y + (area.height - height) / 2, width, height)
}
