//! The pane of layers.

use ratatui::Frame;
use ratatui::style::Style;
use ratatui::widgets::Block;

use super::{Pane, Screen};
use crate::full_screen::draw::line;
use crate::render::size;

/// Draws the layers that are in the window, the bottom layer first.
pub(super) fn draw(screen: &Screen, frame: &mut Frame<'_>) {
    let is_focused = screen.focus == Pane::Layers;
    let count = screen.image.layers.len();
    let title = format!(" Layers {}/{count} ", (screen.layers.at + 1).min(count));
    let block = Block::bordered().title(title).border_style(screen.palette.border(is_focused));
    frame.render_widget(block, screen.areas.layers);
    let inside = screen.areas.layers_inside();
    let layers = screen.image.layers.iter().enumerate().skip(screen.layers.top);
    for ((index, layer), y) in layers.zip(inside.y..inside.bottom()) {
        let bytes = size::human(screen.image.stack.layers()[index].bytes);
        let text = format!("{bytes:>7} {}", layer.instruction());
        let is_selected = index == screen.layers.at;
        let style = if is_selected { screen.palette.selected(Style::new(), is_focused) } else { Style::new() };
        line(frame, inside, y, &text, style);
    }
}
