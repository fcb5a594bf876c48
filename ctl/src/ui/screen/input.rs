//! What keys and the mouse do.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::Frame;
use ratatui::layout::Position;
use strata_proto::runtime::v1::ContainerState;
use unicode_width::UnicodeWidthStr;

use super::{Look, Screen, Typing, list, lower};
use crate::full_screen::draw::row_at;
use crate::full_screen::{Machine, Next};
use crate::ui::action::{Action, Verb, Wish};
use crate::ui::item::{Facts, TABS, Tab};

/// Rows that one turn of the wheel scrolls.
const WHEEL: isize = 3;
/// Letters by which long lines are moved.
const SIDEWAYS: usize = 8;
/// Longest text that is searched for, in bytes.
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
                KeyCode::Char('u') if self.typing.is_some() => self.edit(String::clear),
                KeyCode::Char('b') if self.typing.is_none() => self.page(-1),
                KeyCode::Char('f') if self.typing.is_none() => self.page(1),
                _ => {}
            }
            return Next::Stay;
        }
        if let Some((action, _)) = self.question.take() {
            if matches!(key.code, KeyCode::Char('y' | 'Y')) {
                return self.wish(Wish::Do(action));
            }
            self.say("Nothing was done.");
            return Next::Stay;
        }
        if let Some(top) = self.help {
            // On a low screen, not all of it is in sight.
            self.help = match key.code {
                KeyCode::Down | KeyCode::PageDown | KeyCode::Char('j') => Some(top + 1),
                KeyCode::Up | KeyCode::PageUp | KeyCode::Char('k') => Some(top.saturating_sub(1)),
                _ => None,
            };
            return if key.code == KeyCode::Char('q') { Next::Leave } else { Next::Stay };
        }
        if let Some(typing) = self.typing {
            self.on_typed(typing, key.code);
            return Next::Stay;
        }
        // What was said has been read.
        self.message = None;
        match key.code {
            KeyCode::Char('q') => Next::Leave,
            KeyCode::Enter => self.enter(),
            KeyCode::Delete => self.act('D'),
            KeyCode::Char(letter @ ('S' | 'T' | 'R' | 'P' | 'K' | 'D' | 'X' | 'e')) => self.act(letter),
            code => {
                self.on_command(code);
                Next::Stay
            }
        }
    }

    fn on_mouse(&mut self, mouse: MouseEvent) {
        let at = Position::new(mouse.column, mouse.row);
        match mouse.kind {
            // A question is answered by a key, so that no click is one by chance.
            _ if self.question.is_some() => {}
            MouseEventKind::Down(MouseButton::Left) if self.help.is_some() => self.help = None,
            MouseEventKind::Down(MouseButton::Left) => self.on_click(at),
            MouseEventKind::ScrollUp => self.on_wheel(at, -WHEEL),
            MouseEventKind::ScrollDown => self.on_wheel(at, WHEEL),
            _ => {}
        }
    }

    fn on_paste(&mut self, letters: impl Iterator<Item = char>) {
        self.edit(|typed| letters.for_each(|letter| add(typed, letter)));
    }
}

impl Screen {
    fn on_typed(&mut self, typing: Typing, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = None,
            KeyCode::Esc => {
                self.typing = None;
                self.change(typing, String::clear);
            }
            KeyCode::Backspace => self.change(typing, |text| {
                text.pop();
            }),
            KeyCode::Char(letter) => self.change(typing, |text| add(text, letter)),
            KeyCode::Up => self.step(-1),
            KeyCode::Down => self.step(1),
            _ => {}
        }
    }

    fn edit(&mut self, change: impl FnOnce(&mut String)) {
        if let Some(typing) = self.typing {
            self.change(typing, change);
        }
    }

    /// Changes a text that is typed, and shows at once what it finds.
    fn change(&mut self, typing: Typing, change: impl FnOnce(&mut String)) {
        match typing {
            Typing::Filter => {
                change(&mut self.listings[self.tab.place()].filter);
                self.with(self.tab, |listing, around| listing.arrange(around));
                self.step(0);
            }
            Typing::Search => {
                change(&mut self.shown.search);
                self.shown.found = None;
                if !self.shown.search.is_empty() {
                    let height = self.areas.pane_inside().height.into();
                    // From the end of what is in sight, so that the newest is found first.
                    self.shown.find(true, height);
                }
            }
        }
    }

    fn on_command(&mut self, code: KeyCode) {
        match code {
            KeyCode::Esc => self.escape(),
            KeyCode::Tab => self.turn_tab(1),
            KeyCode::BackTab => self.turn_tab(TABS.len() - 1),
            KeyCode::Char(digit @ '1'..='4') => self.select_tab(TABS[digit as usize - '1' as usize]),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.page(-1),
            KeyCode::PageDown => self.page(1),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            KeyCode::Left => self.sideways(false),
            KeyCode::Right => self.sideways(true),
            KeyCode::Char('/') => {
                let is_search = self.is_pane_focused && self.look() == Look::Logs;
                self.typing = Some(if is_search { Typing::Search } else { Typing::Filter });
                // The list is what is filtered.
                self.is_pane_focused = is_search;
            }
            KeyCode::Char('n') => self.find(true),
            KeyCode::Char('N') => self.find(false),
            KeyCode::Char('f') if self.look() == Look::Logs => self.shown.is_following = !self.shown.is_following,
            KeyCode::Char('z') => self.is_zoomed = !self.is_zoomed,
            KeyCode::Char('s') => self.sort_next(),
            KeyCode::Char('r') => {
                let column = self.listing().column;
                self.with(self.tab, |listing, around| listing.sort_by(column, around));
            }
            KeyCode::Char('a') if self.tab == Tab::Containers => {
                self.with(self.tab, |listing, around| {
                    listing.hides_stopped = !listing.hides_stopped;
                    listing.arrange(around);
                });
                self.step(0);
            }
            KeyCode::Char('?') | KeyCode::F(1) => self.help = Some(0),
            KeyCode::Char(letter) => {
                if let Some(look) = Look::of(self.tab).iter().find(|look| look.key() == letter) {
                    self.looks[self.tab.place()] = *look;
                }
            }
            _ => {}
        }
    }

    fn escape(&mut self) {
        if self.is_pane_focused {
            match self.shown.search.is_empty() {
                true => (self.is_pane_focused, self.is_zoomed) = (false, false),
                false => self.change(Typing::Search, String::clear),
            }
        } else if !self.listing().filter.is_empty() {
            self.change(Typing::Filter, String::clear);
        } else {
            self.is_zoomed = false;
        }
    }

    fn turn_tab(&mut self, by: usize) {
        self.select_tab(TABS[(self.tab.place() + by) % TABS.len()]);
    }

    fn select_tab(&mut self, tab: Tab) {
        self.tab = tab;
        self.is_pane_focused = false;
    }

    fn sort_next(&mut self) {
        // Of the columns that are in sight.
        let shown: Vec<usize> = list::places(self).into_iter().map(|(column, _)| column).collect();
        let column = self.listing().column;
        let next = shown.iter().find(|one| **one > column).or(shown.first());
        if let Some(next) = next.copied().filter(|next| *next != column) {
            self.with(self.tab, |listing, around| listing.sort_by(next, around));
        }
    }

    fn enter(&mut self) -> Next {
        if self.is_pane_focused {
            self.is_zoomed = !self.is_zoomed;
            return Next::Stay;
        }
        let image = match (self.tab, self.selected()) {
            (Tab::Images, Some(item)) => Some(item.target.clone()),
            _ => None,
        };
        if let Some(reference) = image {
            return self.wish(Wish::Explore(reference));
        }
        self.is_pane_focused = self.selected().is_some();
        Next::Stay
    }

    /// Does what a letter stands for, or asks first.
    fn act(&mut self, letter: char) -> Next {
        let tab = self.tab;
        if letter == 'X' {
            return self.ask(Action::prune(tab));
        }
        let Some(item) = self.selected() else {
            self.complain("nothing is selected");
            return Next::Stay;
        };
        let state = match &item.facts {
            Facts::Container(container) => Some(container.state()),
            _ => None,
        };
        let verb = match (letter, state) {
            ('D', _) => Verb::Remove,
            (_, None) => return Next::Stay,
            ('S', _) => Verb::Start,
            ('T', _) => Verb::Stop,
            ('R', _) => Verb::Restart,
            ('P', Some(ContainerState::Paused)) => Verb::Unpause,
            ('P', _) => Verb::Pause,
            ('K', _) => Verb::Kill,
            ('e', Some(ContainerState::Running)) => {
                let wish = Wish::Shell(item.target.clone(), item.name.clone());
                return self.wish(wish);
            }
            ('e', Some(ContainerState::Paused)) => {
                let text = format!("{} is paused: P lets it go on", item.name);
                self.complain(text);
                return Next::Stay;
            }
            _ => {
                let text = format!("{} does not run: S starts it", item.name);
                self.complain(text);
                return Next::Stay;
            }
        };
        let action = Action::with(verb, tab, item);
        self.ask(action)
    }

    fn ask(&mut self, action: Action) -> Next {
        match action.question(self.selected()) {
            Some(lines) => {
                self.question = Some((action, lines));
                Next::Stay
            }
            None => self.wish(Wish::Do(action)),
        }
    }

    fn wish(&mut self, wish: Wish) -> Next {
        if let Wish::Do(action) = &wish {
            self.say(action.doing());
        }
        self.wishes.push(wish);
        Next::Act
    }

    fn step(&mut self, by: isize) {
        if self.is_pane_focused {
            return self.shown.step(by, self.areas.pane_inside().height.into());
        }
        let height = self.areas.rows().height.into();
        let listing = &mut self.listings[self.tab.place()];
        let rows = listing.rows();
        listing.cursor.step(by, rows, height);
    }

    fn page(&mut self, direction: isize) {
        let area = if self.is_pane_focused { self.areas.pane_inside() } else { self.areas.rows() };
        self.step(direction * isize::from(area.height.saturating_sub(1).max(1).cast_signed()));
    }

    /// In the pane: shows what is further along in long lines. In the list: looks at something else of what is selected.
    fn sideways(&mut self, is_right: bool) {
        if self.is_pane_focused {
            self.shown.left = match is_right {
                true => self.shown.left + SIDEWAYS,
                false => self.shown.left.saturating_sub(SIDEWAYS),
            };
            return;
        }
        let looks = Look::of(self.tab);
        let at = looks.iter().position(|look| *look == self.look()).unwrap_or(0);
        let by = if is_right { 1 } else { looks.len() - 1 };
        self.looks[self.tab.place()] = looks[(at + by) % looks.len()];
    }

    fn find(&mut self, is_upward: bool) {
        if self.look() != Look::Logs || self.shown.search.is_empty() {
            return;
        }
        let height = self.areas.pane_inside().height.into();
        if !self.shown.find(is_upward, height) {
            let text = format!("no further line with {:?}", self.shown.search);
            self.say(text);
        }
    }

    fn on_click(&mut self, at: Position) {
        if self.areas.tabs.contains(at) {
            let is_in = |start: u16, title: &str| (start..start + title.width() as u16).contains(&at.x);
            let tab = self.tab_titles().find(|(_, start, title)| is_in(*start, title)).map(|(tab, ..)| tab);
            if let Some(tab) = tab {
                self.select_tab(tab);
            }
        } else if self.areas.head().contains(at) {
            let place = list::places(self).into_iter().find(|(_, (place, _))| place.contains(at));
            if let Some((column, _)) = place {
                self.with(self.tab, |listing, around| listing.sort_by(column, around));
            }
        } else if self.areas.list.contains(at) {
            self.is_pane_focused = false;
            let inside = self.areas.rows();
            let listing = &mut self.listings[self.tab.place()];
            if let Some(row) = row_at(inside, at).map(|row| listing.cursor.top + row)
                && row < listing.rows()
            {
                let rows = listing.rows();
                listing.cursor.go(row, rows, inside.height.into());
            }
        } else if self.areas.pane.contains(at) {
            if at.y == self.areas.pane.y {
                let x = at.x.saturating_sub(self.areas.pane.x + 1);
                let is_in = |start: u16, title: &str| (start..start + title.width() as u16).contains(&x);
                let look = lower::look_titles(self).find(|(_, start, title)| is_in(*start, title));
                if let Some((look, ..)) = look {
                    self.looks[self.tab.place()] = look;
                }
            }
            self.is_pane_focused = self.selected().is_some();
        }
    }

    fn on_wheel(&mut self, at: Position, by: isize) {
        if self.areas.list.contains(at) {
            let height = self.areas.rows().height.into();
            let listing = &mut self.listings[self.tab.place()];
            let rows = listing.rows();
            listing.cursor.scroll(by, rows, height);
        } else if self.areas.pane.contains(at) {
            let height = self.areas.pane_inside().height.into();
            self.shown.step(by, height);
        }
    }
}

fn add(text: &mut String, letter: char) {
    if text.len() < MOST_TEXT {
        text.push(letter);
    }
}
