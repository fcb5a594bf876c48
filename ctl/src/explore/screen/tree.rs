//! The large pane: the tree, or the list of wasted paths. Only rows in the window are made.

use ratatui::Frame;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Block;
use unicode_width::UnicodeWidthStr;

use super::{Pane, Screen, TABS, Tab, style};
use crate::explore::entry::{Facts, Kind};
use crate::explore::text::escaped;
use crate::explore::view::{Row, Sort};
use crate::full_screen::draw::line;
use crate::render::size;

/// Columns from which mode and owner are shown.
const WITH_OWNER: u16 = 64;

/// Draws tabs and rows.
pub(super) fn draw(screen: &Screen, frame: &mut Frame<'_>) {
    let is_focused = screen.focus == Pane::Tree;
    let mut block = Block::bordered().title(titles(screen)).border_style(screen.palette.border(is_focused));
    if let Some(bottom) = status(screen) {
        block = block.title_bottom(bottom);
    }
    frame.render_widget(block, screen.areas.tree);
    let inside = screen.areas.tree_inside();
    let cursor = if screen.tab == Tab::Waste { screen.waste } else { screen.tree };
    for (index, y) in (cursor.top..screen.rows()).zip(inside.y..inside.bottom()) {
        let (text, style) = match screen.tab {
            Tab::Waste => (wasted(screen, index), Style::new()),
            Tab::Files | Tab::Changes => {
                let row = screen.view.rows()[index];
                (name(screen, row, inside.width), style::of_mark(screen.palette, screen.view.mark(row.node)))
            }
        };
        let style = if index == cursor.at { screen.palette.selected(style, is_focused) } else { style };
        line(frame, inside, y, &text, style);
    }
    if screen.rows() == 0 {
        let text = if screen.text.is_empty() { " Nothing." } else { " Nothing with this text." };
        line(frame, inside, inside.y, text, screen.palette.faint());
    }
}

fn titles(screen: &Screen) -> Line<'static> {
    let title = |tab: Tab| {
        let style = if tab == screen.tab { Modifier::REVERSED } else { Modifier::empty() };
        [Span::raw(" "), Span::styled(format!(" {} ", tab.title()), Style::new().add_modifier(style))]
    };
    Line::from(TABS.into_iter().flat_map(title).collect::<Vec<_>>())
}

/// The tab at a column of the upper border.
pub(super) fn tab_at(screen: &Screen, column: u16) -> Option<Tab> {
    let mut start = screen.areas.tree.x + 1;
    TABS.into_iter().find(|tab| {
        let end = start + tab.title().width() as u16 + 3;
        let is_in = (start + 1..end).contains(&column);
        start = end;
        is_in
    })
}

/// What is hidden and how it is sorted, where that is not as at first.
fn status(screen: &Screen) -> Option<String> {
    let wanted = screen.view.wanted();
    let kinds = [
        (wanted.shown.added, "added"),
        (wanted.shown.changed, "modified"),
        (wanted.shown.removed, "removed"),
        (wanted.shown.same, "unchanged"),
    ];
    let hidden: Vec<&str> = kinds.into_iter().filter(|(is_shown, _)| !is_shown).map(|(_, kind)| kind).collect();
    let mut parts = Vec::new();
    if !hidden.is_empty() {
        parts.push(format!("without {}", hidden.join(", ")));
    }
    if wanted.sort == Sort::Size {
        parts.push("by size".to_owned());
    }
    (!parts.is_empty() && screen.tab != Tab::Waste).then(|| format!(" {} ", parts.join("; ")))
}

/// "+ drwxr-xr-x 0:0  12.3MB   ▸ name".
fn name(screen: &Screen, row: Row, width: u16) -> String {
    let (stack, view) = (&screen.image.stack, &screen.view);
    // A row is of something that is there, or was until this layer.
    let Some(facts) = view.facts(stack, row.node) else { return String::new() };
    let owner = match width >= WITH_OWNER {
        true => format!("{} {:>9} ", mode(facts), format!("{}:{}", facts.uid, facts.gid)),
        false => String::new(),
    };
    let fold = match (facts.kind, view.is_foldable(stack, row.node), view.is_unfolded(row.node)) {
        (Kind::Directory, true, true) => "▾ ",
        (Kind::Directory, true, false) => "▸ ",
        _ => "  ",
    };
    let tail = match facts.kind {
        Kind::Directory => "/".to_owned(),
        Kind::Symlink => format!(" -> {}", escaped(&facts.target)),
        _ => String::new(),
    };
    let bytes = match facts.kind {
        Kind::Regular | Kind::Directory => size::human(view.size(row.node)),
        _ => String::new(),
    };
    let (mark, indent) = (view.mark(row.node).letter(), "  ".repeat(row.depth.min(64).into()));
    format!("{mark} {owner}{bytes:>7} {indent}{fold}{}{tail}", escaped(stack.name(row.node)))
}

fn wasted(screen: &Screen, index: usize) -> String {
    let Some(waste) = screen.wasted(index) else { return String::new() };
    let times = if waste.copies == 1 { String::new() } else { format!("{}×", waste.copies) };
    let path = escaped(&screen.image.stack.path(waste.node));
    format!("{:>8} {times:>4} /{path}", size::human(waste.bytes))
}

/// "drwxr-xr-x", as `ls -l` writes it.
pub(super) fn mode(facts: &Facts) -> String {
    let mut text = String::from(facts.kind.letter());
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = facts.mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (facts.mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}
