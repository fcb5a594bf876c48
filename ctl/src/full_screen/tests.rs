//! A terminal in memory, and hands on its keys and its mouse, for tests of views.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Cell;

use super::{Machine, Next};

/// What is on the screen.
pub fn picture(view: &mut impl Machine, terminal: &mut Terminal<TestBackend>) -> String {
    terminal.draw(|frame| view.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let width = usize::from(buffer.area.width);
    let line = |cells: &[Cell]| cells.iter().map(|cell| cell.symbol()).collect::<String>();
    buffer.content().chunks(width).map(|cells| line(cells).trim_end().to_owned() + "\n").collect()
}

/// What is on the screen, with one blank for each run of them.
pub fn shown(view: &mut impl Machine, terminal: &mut Terminal<TestBackend>) -> String {
    let text = picture(view, terminal);
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
}

/// A key alone.
pub fn key(code: KeyCode) -> Event {
    Event::Key(KeyEvent::new(code, KeyModifiers::NONE))
}

/// A letter together with Ctrl.
pub fn control(letter: char) -> Event {
    Event::Key(KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL))
}

/// Presses keys; returns what the last one leads to that does not just stay.
pub fn press(view: &mut impl Machine, keys: &str) -> Next {
    let mut end = Next::Stay;
    for letter in keys.chars() {
        let code = match letter {
            '\t' => KeyCode::Tab,
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            '>' => KeyCode::Right,
            '<' => KeyCode::Left,
            'v' => KeyCode::Down,
            '^' => KeyCode::Up,
            letter => KeyCode::Char(letter),
        };
        let next = view.on(&key(code));
        if next != Next::Stay {
            end = next;
        }
    }
    end
}

/// Does something with the mouse, which ends nothing.
pub fn mouse(view: &mut impl Machine, kind: MouseEventKind, column: u16, row: u16) {
    let event = MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE };
    assert_eq!(view.on(&Event::Mouse(event)), Next::Stay);
}

/// Clicks somewhere.
pub fn click(view: &mut impl Machine, column: u16, row: u16) {
    mouse(view, MouseEventKind::Down(MouseButton::Left), column, row);
}

/// Column and row of a text.
pub fn place(text: &str, wanted: &str) -> (u16, u16) {
    let found = text.lines().enumerate().find_map(|(row, line)| {
        let at = line.find(wanted)?;
        Some((line[..at].chars().count() as u16, row as u16))
    });
    found.unwrap_or_else(|| panic!("no {wanted:?} in\n{text}"))
}
