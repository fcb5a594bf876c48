//! What keys and the mouse do.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::Frame;
use ratatui::layout::Position;

use super::{Pane, Screen, TABS, Tab, details, tree};
use crate::explore::entry::Kind;
use crate::explore::view::{Shown, Sort};
use crate::full_screen::draw::row_at;
use crate::full_screen::{Machine, Next};

/// Rows that one turn of the wheel scrolls.
const WHEEL: isize = 3;

/// Longest text that is searched for.
const MOST_TEXT: usize = 200;

impl Machine for Screen {
    fn draw(&mut self, frame: &mut Frame<'_>) {
        self.draw_all(frame);
    }

    fn on_key(&mut self, key: KeyEvent) -> Next {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            match key.code {
                KeyCode::Char('c') => return Next::Leave,
                KeyCode::Char('z') => return Next::Suspend,
                KeyCode::Char('u') if self.is_typing => {
                    self.text.clear();
                    self.search();
                }
                KeyCode::Char('b') if !self.is_typing => self.page(-1),
                KeyCode::Char('f') if !self.is_typing => self.page(1),
                _ => {}
            }
            return Next::Stay;
        }
        if self.is_helping {
            self.is_helping = false;
            return if key.code == KeyCode::Char('q') { Next::Leave } else { Next::Stay };
        }
        if self.is_typing {
            self.on_typed(key.code);
            return Next::Stay;
        }
        if key.code == KeyCode::Char('q') {
            return Next::Leave;
        }
        self.on_command(key.code);
        Next::Stay
    }

    fn on_mouse(&mut self, mouse: MouseEvent) {
        let at = Position::new(mouse.column, mouse.row);
        match mouse.kind {
            MouseEventKind::Down(MouseButton::Left) if self.is_helping => self.is_helping = false,
            MouseEventKind::Down(MouseButton::Left) => self.on_click(at),
            MouseEventKind::ScrollUp => self.on_wheel(at, -WHEEL),
            MouseEventKind::ScrollDown => self.on_wheel(at, WHEEL),
            _ => {}
        }
    }

    fn on_paste(&mut self, letters: impl Iterator<Item = char>) {
        if self.is_typing {
            letters.for_each(|letter| self.type_letter(letter));
            self.search();
        }
    }
}

impl Screen {
    fn on_typed(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.is_typing = false;
                self.text.clear();
                self.search();
            }
            KeyCode::Backspace => {
                self.text.pop();
                self.search();
            }
            KeyCode::Char(letter) => {
                self.type_letter(letter);
                self.search();
            }
            KeyCode::Up => self.step(-1),
            KeyCode::Down => self.step(1),
            _ => {}
        }
    }

    fn type_letter(&mut self, letter: char) {
        if self.text.len() < MOST_TEXT {
            self.text.push(letter);
        }
    }

    fn on_command(&mut self, code: KeyCode) {
        match code {
            KeyCode::Esc if !self.text.is_empty() => {
                self.text.clear();
                self.search();
            }
            KeyCode::Tab => self.turn_focus(1),
            KeyCode::BackTab => self.turn_focus(2),
            KeyCode::Char(digit @ '1'..='3') => self.select_tab(TABS[digit as usize - '1' as usize]),
            KeyCode::Char('t') => {
                let at = TABS.iter().position(|tab| *tab == self.tab).unwrap_or(0);
                self.select_tab(TABS[(at + 1) % TABS.len()]);
            }
            KeyCode::Char('[') => self.select_layer(self.layers.at.saturating_sub(1)),
            KeyCode::Char(']') => self.select_layer(self.layers.at + 1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.page(-1),
            KeyCode::PageDown => self.page(1),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            KeyCode::Enter | KeyCode::Char(' ') if self.focus == Pane::Tree => self.activate(),
            KeyCode::Enter if self.focus == Pane::Layers => self.focus = Pane::Tree,
            KeyCode::Right | KeyCode::Char('l') if self.focus == Pane::Tree => self.go_in(),
            KeyCode::Left | KeyCode::Char('h') if self.focus == Pane::Tree => self.go_out(),
            KeyCode::Char('e') => self.unfold_all(true),
            KeyCode::Char('c') => self.unfold_all(false),
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char('a') => self.toggle_kind(|shown| &mut shown.added),
            KeyCode::Char('m') => self.toggle_kind(|shown| &mut shown.changed),
            KeyCode::Char('r') => self.toggle_kind(|shown| &mut shown.removed),
            KeyCode::Char('u') => self.toggle_kind(|shown| &mut shown.same),
            KeyCode::Char('s') => self.want(|wanted| {
                wanted.sort = if wanted.sort == Sort::Name { Sort::Size } else { Sort::Name };
            }),
            KeyCode::Char('?') | KeyCode::F(1) => self.is_helping = true,
            _ => {}
        }
    }

    fn turn_focus(&mut self, by: usize) {
        let mut panes = vec![Pane::Layers, Pane::Tree];
        if !self.areas.details_inside().is_empty() {
            panes.push(Pane::Details);
        }
        let at = panes.iter().position(|pane| *pane == self.focus).unwrap_or(0);
        // Two steps of three are one back; of two panes there is only the other one.
        let by = if panes.len() == 2 { 1 } else { by };
        self.focus = panes[(at + by) % panes.len()];
        self.details_top = 0;
    }

    fn toggle_kind(&mut self, kind: fn(&mut Shown) -> &mut bool) {
        self.want(|wanted| {
            let kind = kind(&mut wanted.shown);
            *kind = !*kind;
        });
    }

    fn step(&mut self, by: isize) {
        match self.focus {
            Pane::Layers => {
                self.select_layer(self.layers.at.saturating_add_signed(by).min(self.image.layers.len().max(1) - 1));
            }
            Pane::Tree => {
                let (rows, height) = (self.rows(), self.areas.tree_inside().height.into());
                self.cursor().step(by, rows, height);
                self.details_top = 0;
            }
            Pane::Details => self.scroll_details(by),
        }
    }

    fn page(&mut self, direction: isize) {
        let area = match self.focus {
            Pane::Layers => self.areas.layers_inside(),
            Pane::Tree => self.areas.tree_inside(),
            Pane::Details => self.areas.details_inside(),
        };
        self.step(direction * isize::from(area.height.saturating_sub(1).max(1).cast_signed()));
    }

    fn scroll_details(&mut self, by: isize) {
        // Wrapped lines are more than these, so the end may be a little above the last one.
        let most = details::lines(self).len().saturating_sub(1);
        self.details_top = self.details_top.saturating_add_signed(by).min(most);
    }

    /// Folds or unfolds the selected directory; from the list of waste, shows the file.
    fn activate(&mut self) {
        let Some(node) = self.selected() else { return };
        if self.tab == Tab::Waste {
            return self.show(node);
        }
        if self.view.is_foldable(&self.image.stack, node) {
            self.view.toggle(&self.image.stack, node);
            self.stay_at(Some(node));
        }
    }

    /// Shows a name in the tree, in the newest layer that did something with it.
    fn show(&mut self, node: u32) {
        let layer = self.image.stack.events(node).next().map_or(self.layers.at, |event| event.0);
        self.text.clear();
        self.select_layer(layer);
        self.select_tab(Tab::Files);
        self.want(|wanted| wanted.shown = Shown::default());
        self.view.reveal(&self.image.stack, node);
        self.stay_at(Some(node));
    }

    fn unfold_all(&mut self, is_unfolded: bool) {
        let selected = self.selected();
        self.view.unfold_all(&self.image.stack, is_unfolded);
        if self.tab != Tab::Waste {
            self.stay_at(selected);
        }
    }

    /// Unfolds a directory; goes into one that is.
    fn go_in(&mut self) {
        let Some(node) = self.selected() else { return };
        if self.tab == Tab::Waste || !self.view.is_foldable(&self.image.stack, node) {
            return;
        }
        if self.view.is_unfolded(node) {
            return self.step(1);
        }
        self.activate();
    }

    /// Folds a directory; leaves what is folded.
    fn go_out(&mut self) {
        let Some(node) = self.selected() else { return };
        if self.tab == Tab::Waste {
            return;
        }
        let facts = self.view.facts(&self.image.stack, node);
        let is_open = facts.is_some_and(|facts| facts.kind == Kind::Directory)
            && self.view.is_foldable(&self.image.stack, node)
            && self.view.is_unfolded(node);
        if is_open {
            return self.activate();
        }
        let parent = self.image.stack.parent(node);
        if parent != crate::explore::stack::ROOT {
            self.stay_at(Some(parent));
        }
    }

    fn on_click(&mut self, at: Position) {
        if self.areas.layers.contains(at) {
            self.focus = Pane::Layers;
            if let Some(row) = row_at(self.areas.layers_inside(), at) {
                self.select_layer((self.layers.top + row).min(self.image.layers.len().max(1) - 1));
            }
        } else if self.areas.tree.contains(at) {
            if at.y == self.areas.tree.y
                && let Some(tab) = tree::tab_at(self, at.x)
            {
                self.select_tab(tab);
            }
            let was_focused = std::mem::replace(&mut self.focus, Pane::Tree) == Pane::Tree;
            if let Some(row) = row_at(self.areas.tree_inside(), at) {
                self.click_row(row, was_focused);
            }
        } else if self.areas.details.contains(at) {
            self.focus = Pane::Details;
        }
    }

    /// Selects a row of the large pane; a row that is selected is folded or unfolded.
    fn click_row(&mut self, row: usize, was_focused: bool) {
        let (rows, height) = (self.rows(), self.areas.tree_inside().height.into());
        let cursor = self.cursor();
        let wanted = cursor.top + row;
        if wanted >= rows {
            return;
        }
        if cursor.at == wanted && was_focused {
            return self.activate();
        }
        cursor.go(wanted, rows, height);
        self.details_top = 0;
    }

    fn on_wheel(&mut self, at: Position, by: isize) {
        if self.areas.layers.contains(at) {
            let height = self.areas.layers_inside().height.into();
            self.layers.scroll(by, self.image.layers.len(), height);
        } else if self.areas.tree.contains(at) {
            let (rows, height) = (self.rows(), self.areas.tree_inside().height.into());
            self.cursor().scroll(by, rows, height);
        } else if self.areas.details.contains(at) {
            self.scroll_details(by);
        }
    }
}
