//! The lower pane: a log, lines, or graphs of what a container uses.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Sparkline};
use unicode_width::UnicodeWidthStr;

use super::{Look, Screen};
use crate::full_screen::draw::line;
use crate::render::size;
use crate::ui::usage::Usage;

/// Draws the pane, where there is one.
pub(super) fn draw(screen: &Screen, frame: &mut Frame<'_>) {
    if screen.areas.pane.is_empty() {
        return;
    }
    let mut block = Block::bordered().title(titles(screen)).border_style(screen.palette.border(screen.is_pane_focused));
    if let Some(bottom) = bottom(screen) {
        block = block.title_bottom(bottom);
    }
    frame.render_widget(block, screen.areas.pane);
    let inside = screen.areas.pane_inside();
    let Some(item) = screen.selected() else {
        return line(frame, inside, inside.y, " Nothing is selected.", screen.palette.faint());
    };
    if screen.look() == Look::Stats {
        return match screen.usages.of(&item.key) {
            Some(usage) => graphs(screen, usage, frame, inside),
            None => line(frame, inside, inside.y, " It does not run.", screen.palette.faint()),
        };
    }
    lines(screen, frame, inside);
}

fn lines(screen: &Screen, frame: &mut Frame<'_>, inside: Rect) {
    let shown = &screen.shown;
    let numbers = shown.top.max(shown.numbers().start)..shown.numbers().end;
    let is_table = matches!(screen.look(), Look::Processes | Look::Layers);
    for (number, y) in numbers.clone().zip(inside.y..inside.bottom()) {
        let text = shown.text(number).unwrap_or_default();
        let visible: String = text.chars().skip(shown.left).collect();
        let is_stderr = screen.look() == Look::Logs && shown.log.line(number).is_some_and(|line| line.is_stderr);
        let style = if is_stderr { screen.palette.colour(Color::Yellow) } else { Style::new() };
        let style = match (shown.is_found(number), is_table && number == 0) {
            (true, _) if shown.found == Some(number) => style.add_modifier(Modifier::REVERSED),
            (true, _) => style.add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            (false, true) => screen.palette.heading(),
            (false, false) => style,
        };
        line(frame, inside, y, &visible, style);
    }
    if let Some(note) = &shown.note {
        // On the last row, where something else is known.
        let y = if numbers.is_empty() { inside.y } else { inside.bottom().saturating_sub(1) };
        line(frame, inside, y, &format!(" {note}"), screen.palette.colour(Color::Red));
    } else if numbers.is_empty() {
        let text = if shown.is_there { " Nothing." } else { " …" };
        line(frame, inside, inside.y, text, screen.palette.faint());
    }
}

fn titles(screen: &Screen) -> Line<'static> {
    let mut spans: Vec<Span<'static>> = look_titles(screen)
        .map(|(look, _, title)| {
            let style = if look == screen.look() { Modifier::REVERSED } else { Modifier::empty() };
            Span::styled(title, Style::new().add_modifier(style))
        })
        .collect();
    if let Some(item) = screen.selected() {
        spans.push(Span::raw(format!("  {} ", crate::explore::text::line(&item.name))));
    }
    Line::from(spans)
}

/// What can be looked at, with its column within the border.
pub(super) fn look_titles(screen: &Screen) -> impl Iterator<Item = (Look, u16, String)> {
    let mut start = 0;
    Look::of(screen.tab).iter().map(move |look| {
        let (at, title) = (start, format!(" {} ", look.title()));
        start += u16::try_from(title.width()).unwrap_or(0);
        (*look, at, title)
    })
}

fn bottom(screen: &Screen) -> Option<String> {
    if screen.look() != Look::Logs || !screen.shown.is_there {
        return None;
    }
    let shown = &screen.shown;
    let end = shown.numbers().end.min(shown.top + usize::from(screen.areas.pane_inside().height));
    let state = match (shown.is_following, shown.has_ended) {
        (_, true) => "ended".to_owned(),
        (true, false) => "following".to_owned(),
        (false, false) => "not following: f".to_owned(),
    };
    let search = match shown.search.is_empty() {
        true => String::new(),
        false => format!("; {:?}: n N", shown.search),
    };
    Some(format!(" {state}; line {end} of {}{search} ", shown.numbers().end))
}

fn graphs(screen: &Screen, usage: &Usage, frame: &mut Frame<'_>, inside: Rect) {
    let last = usage.last();
    let dashes = || "--".to_owned();
    let now = &usage.now;
    let processors = last.processors.map_or_else(dashes, |share| format!("{:.2}%", share * 100.0));
    let memory = last.memory.map_or_else(dashes, size::binary);
    let pair = |one: Option<u64>, other: Option<u64>| {
        format!("{} / {}", one.map_or_else(dashes, size::human), other.map_or_else(dashes, size::human))
    };
    let figures = format!(
        " NET I/O {}   BLOCK I/O {}   PIDS {}",
        pair(now.received_bytes, now.sent_bytes),
        pair(now.block_read_bytes, now.block_written_bytes),
        now.pids.map_or_else(dashes, |pids| pids.to_string()),
    );
    line(frame, inside, inside.y, &figures, Style::new());
    let rest = Rect { y: inside.y + inside.height.min(1), height: inside.height.saturating_sub(1), ..inside };
    let half = rest.height / 2;
    let upper = Rect { height: half, ..rest };
    let lower = Rect { y: rest.y + half, height: rest.height - half, ..rest };
    // Hundredths of a percent, and KiB: whole numbers are what is drawn.
    let shares = usage.samples.iter().map(|sample| sample.processors.map_or(0, |share| (share * 10_000.0) as u64));
    let most = usage.samples.iter().filter_map(|sample| sample.processors).fold(0.0, f64::max);
    let head = format!(" CPU {processors}   most {:.2}%", most * 100.0);
    graph(screen, frame, upper, &head, shares.collect(), Color::Green);
    let bytes = usage.samples.iter().map(|sample| sample.memory.unwrap_or(0) >> 10);
    let most = usage.samples.iter().filter_map(|sample| sample.memory).max().map_or_else(dashes, size::binary);
    let head = format!(" MEMORY {memory} / {}   most {most}", size::binary(now.memory_limit_bytes));
    graph(screen, frame, lower, &head, bytes.collect(), Color::Cyan);
}

/// A head, and the last values that fit below it; the newest at the right.
fn graph(screen: &Screen, frame: &mut Frame<'_>, area: Rect, head: &str, values: Vec<u64>, colour: Color) {
    line(frame, Rect { height: area.height.min(1), ..area }, area.y, head, screen.palette.heading());
    let below = Rect { y: area.y + area.height.min(1), height: area.height.saturating_sub(1), ..area };
    if below.is_empty() {
        return;
    }
    let width = usize::from(below.width);
    let mut data = vec![0; width.saturating_sub(values.len())];
    data.extend(&values[values.len().saturating_sub(width)..]);
    let most = data.iter().copied().max().unwrap_or(0).max(1);
    frame.render_widget(Sparkline::default().data(data).max(most).style(screen.palette.colour(colour)), below);
}
