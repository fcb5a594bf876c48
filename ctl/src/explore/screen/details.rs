//! The pane of details: the selected file, the layer, the image and what it wastes.

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Wrap};

use super::{Pane, Screen, Tab, tree};
use crate::explore::entry::Kind;
use crate::explore::report::differences;
use crate::explore::stack::{Change, Node};
use crate::explore::text::{escaped, line};
use crate::explore::view::Mark;
use crate::render::size;

/// Wasted paths shown here; the tab has them all.
const SHOWN_WASTE: usize = 8;

/// Draws the pane, where there is one.
pub(super) fn draw(screen: &Screen, frame: &mut Frame<'_>) {
    if screen.areas.details_inside().is_empty() {
        return;
    }
    let border = screen.palette.border(screen.focus == Pane::Details);
    let block = Block::bordered().title(" Details ").border_style(border);
    let text = Paragraph::new(lines(screen)).wrap(Wrap { trim: false });
    let top = u16::try_from(screen.details_top).unwrap_or(u16::MAX);
    frame.render_widget(text.scroll((top, 0)).block(block), screen.areas.details);
}

/// What the pane says.
pub(super) fn lines(screen: &Screen) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if screen.focus == Pane::Tree
        && let Some(node) = screen.selected()
    {
        file(screen, node, &mut lines);
    }
    layer(screen, &mut lines);
    image(screen, &mut lines);
    lines
}

fn heading(screen: &Screen, text: String) -> Line<'static> {
    Line::styled(text, screen.palette.heading())
}

fn field(name: &str, value: impl std::fmt::Display) -> Line<'static> {
    Line::from(format!("{name:<11}{value}"))
}

fn file(screen: &Screen, node: Node, lines: &mut Vec<Line<'static>>) {
    let stack = &screen.image.stack;
    lines.push(heading(screen, format!("/{}", escaped(&stack.path(node)))));
    if let Some(facts) = screen.view.facts(stack, node) {
        lines.push(field("Type", format!("{} {} {:04o}", facts.kind.word(), tree::mode(facts), facts.mode)));
        lines.push(field("Owner", format!("{}:{}", facts.uid, facts.gid)));
        match facts.kind {
            Kind::Regular => lines.push(field("Size", format!("{} ({} bytes)", size::human(facts.size), facts.size))),
            Kind::Directory => lines.push(field("Size", format!("{} in it", size::human(screen.view.size(node))))),
            Kind::Symlink => lines.push(field("Target", escaped(&facts.target))),
            Kind::CharacterDevice | Kind::BlockDevice => {
                lines.push(field("Device", format!("{}, {}", facts.device.0, facts.device.1)));
            }
            Kind::Fifo => {}
        }
        let modified = facts.modified.and_then(|(seconds, nanos)| Timestamp::new(seconds, nanos).ok());
        if let Some(modified) = modified {
            lines.push(field("Modified", modified));
        }
        if screen.view.mark(node) == Mark::Changed && screen.tab != Tab::Waste {
            let differences = differences(stack, node, screen.layers.at, facts);
            let text =
                if differences.is_empty() { "nothing: the same once more".into() } else { differences.join(", ") };
            lines.push(field("Changed", text));
        }
    }
    let mut events: Vec<_> = stack.events(node).collect();
    events.reverse();
    for (layer, change, facts) in events {
        let did = match change {
            Change::Added => format!("added {}", size::human(facts.size)),
            Change::Changed => format!("changed to {}", size::human(facts.size)),
            Change::Removed => "removed it".to_owned(),
            Change::Kept => continue,
        };
        lines.push(field(&format!("Layer {}", layer + 1), did));
    }
    lines.push(Line::default());
}

fn layer(screen: &Screen, lines: &mut Vec<Line<'static>>) {
    let index = screen.layers.at;
    let Some(layer) = screen.image.layers.get(index) else { return };
    let totals = screen.image.stack.layers()[index];
    lines.push(heading(screen, format!("Layer {} of {}", index + 1, screen.image.layers.len())));
    lines.push(field("Size", size::human(totals.bytes)));
    let counts = format!("+{}  ~{}  -{}", totals.added, totals.changed, totals.removed);
    lines.push(field("Changes", counts));
    if totals.hides > 0 {
        lines.push(field("Hides", format!("{} of the layers below", size::human(totals.hides))));
    }
    lines.push(field("Digest", line(&layer.diff_id)));
    if let Some(created) = &layer.origin.created {
        lines.push(field("Created", line(created)));
    }
    lines.push(Line::from(layer.instruction()));
    lines.push(Line::default());
}

fn image(screen: &Screen, lines: &mut Vec<Line<'static>>) {
    let stack = &screen.image.stack;
    lines.push(heading(screen, line(&screen.image.name)));
    lines.push(field("Size", size::human(stack.bytes())));
    lines.push(field("Wasted", format!("{} at {} paths", size::human(stack.wasted()), stack.waste().len())));
    lines.push(field("Efficiency", format!("{:.2} %", stack.efficiency() * 100.0)));
    for waste in stack.waste().iter().take(SHOWN_WASTE) {
        lines.push(Line::from(format!("{:>8} /{}", size::human(waste.bytes), escaped(&stack.path(waste.node)))));
    }
}
