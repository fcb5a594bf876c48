//! The view on the screen as a machine: keys, clicks and news in; a picture, wishes and what is to be followed out. It owns no
//! terminal and no connection; `ui.rs` does.

mod input;
mod layout;
mod list;
mod lower;

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::style::Color;
use ratatui::widgets::Paragraph;
use unicode_width::UnicodeWidthStr;

use super::action::{Action, Wish};
use super::item::{self, Around, Item, TABS, Tab};
use super::listing::Listing;
use super::pane::Shown;
use super::update::{Source, Subject, Update};
use super::usage::Usages;
use crate::explore::text::line;
use crate::full_screen::{Palette, draw};
use layout::Areas;

/// What the lower pane shows of what is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Logs,
    Stats,
    Details,
    Processes,
    Layers,
}

impl Look {
    /// Key and name.
    fn title(self) -> &'static str {
        match self {
            Self::Logs => "l Logs",
            Self::Stats => "m Stats",
            Self::Details => "d Details",
            Self::Processes => "p Top",
            Self::Layers => "l Layers",
        }
    }

    fn key(self) -> char {
        self.title().chars().next().unwrap_or(' ')
    }

    /// What there is to see of things of a kind.
    fn of(tab: Tab) -> &'static [Self] {
        match tab {
            Tab::Containers => &[Self::Logs, Self::Stats, Self::Details, Self::Processes],
            Tab::Images => &[Self::Layers, Self::Details],
            Tab::Volumes | Tab::Networks => &[Self::Details],
        }
    }
}

/// What letters are typed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Typing {
    Filter,
    Search,
}

/// A line for the user.
#[derive(Debug)]
struct Message {
    text: String,
    is_error: bool,
}

/// The state of the view.
#[derive(Debug)]
pub struct Screen {
    context: String,
    palette: Palette,
    tab: Tab,
    listings: [Listing; 4],
    usages: Usages,
    /// Containers of each image, by the image's id.
    users: HashMap<String, usize>,
    now: Timestamp,
    /// What is looked at of each kind.
    looks: [Look; 4],
    is_pane_focused: bool,
    is_zoomed: bool,
    subject: Option<Subject>,
    /// Of what is followed; the pane takes nothing else.
    number: u64,
    shown: Shown,
    typing: Option<Typing>,
    question: Option<(Action, Vec<String>)>,
    /// The keys are in sight, from this line on.
    help: Option<usize>,
    message: Option<Message>,
    lost: BTreeMap<Source, String>,
    wishes: Vec<Wish>,
    areas: Areas,
}

impl Screen {
    /// A view of a context, of which nothing is known yet.
    pub fn new(context: &str, palette: Palette) -> Self {
        Self {
            context: line(context),
            palette,
            tab: Tab::Containers,
            listings: TABS.map(Listing::new),
            usages: Usages::default(),
            users: HashMap::new(),
            now: Timestamp::now(),
            looks: TABS.map(|tab| Look::of(tab)[0]),
            is_pane_focused: false,
            is_zoomed: false,
            subject: None,
            number: 0,
            shown: Shown::new(false),
            typing: None,
            question: None,
            help: None,
            message: None,
            lost: BTreeMap::new(),
            wishes: Vec::new(),
            areas: Areas::default(),
        }
    }

    /// Takes news.
    pub fn take(&mut self, update: Update) {
        match update {
            Update::Containers(all) => {
                self.users.clear();
                for container in &all {
                    *self.users.entry(container.image_id.clone()).or_default() += 1;
                }
                self.set(Tab::Containers, item::containers(all));
            }
            Update::Images(all) => self.set(Tab::Images, item::images(all)),
            Update::Volumes(all) => self.set(Tab::Volumes, item::volumes(all)),
            Update::Networks(all) => self.set(Tab::Networks, item::networks(all)),
            Update::Stats(look) => {
                self.usages.take(look);
                if self.listings[Tab::Containers.place()].is_by_usage() {
                    self.with(Tab::Containers, |listing, around| listing.arrange(around));
                }
            }
            Update::Pane(number, content) if number == self.number => self.shown.take(content),
            // Of what was followed before.
            Update::Pane(..) => {}
            Update::Done(text) => self.say(text),
            Update::Failed(text) => self.complain(text),
            Update::Lost(source, why) => drop(self.lost.insert(source, why)),
            Update::Back(source) => drop(self.lost.remove(&source)),
        }
    }

    /// Lets time go on.
    pub fn tick(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// What the user wishes that the view cannot do itself, once.
    pub fn take_wishes(&mut self) -> Vec<Wish> {
        std::mem::take(&mut self.wishes)
    }

    /// What the pane is to follow from now on, under a new number; none: what it follows already.
    pub fn turn(&mut self) -> Option<(u64, Option<Subject>)> {
        let subject = self.wanted_subject();
        if subject == self.subject {
            return None;
        }
        self.number += 1;
        let search = std::mem::take(&mut self.shown.search);
        let is_log = matches!(subject, Some(Subject::Log { .. }));
        self.shown = Shown::new(is_log);
        if is_log {
            // What is searched for in one log is likely searched for in the next one.
            self.shown.search = search;
        }
        self.subject.clone_from(&subject);
        Some((self.number, subject))
    }

    /// Says something that is no failure.
    pub fn say(&mut self, text: impl Into<String>) {
        self.message = Some(Message { text: text.into(), is_error: false });
    }

    /// Says what failed.
    pub fn complain(&mut self, text: impl Into<String>) {
        self.message = Some(Message { text: text.into(), is_error: true });
    }

    fn wanted_subject(&self) -> Option<Subject> {
        if self.areas.pane.is_empty() {
            return None;
        }
        let item = self.listing().selected()?;
        let key = || item.target.clone();
        Some(match (self.look(), self.tab) {
            (Look::Stats, _) => return None,
            (Look::Logs, _) => {
                let started = item.container().and_then(|container| container.started_at.as_ref());
                Subject::Log { id: key(), run: started.map(|at| (at.seconds, at.nanos)) }
            }
            (Look::Processes, _) => Subject::Processes(key()),
            (Look::Layers, _) => Subject::Layers(key()),
            (Look::Details, Tab::Containers) => Subject::Container(key()),
            (Look::Details, Tab::Images) => Subject::Image(key()),
            (Look::Details, Tab::Volumes) => Subject::Volume(key()),
            (Look::Details, Tab::Networks) => Subject::Network(key()),
        })
    }

    fn look(&self) -> Look {
        self.looks[self.tab.place()]
    }

    fn listing(&self) -> &Listing {
        &self.listings[self.tab.place()]
    }

    fn selected(&self) -> Option<&Item> {
        self.listing().selected()
    }

    /// Does something with a list that needs to know what is around it.
    fn with(&mut self, tab: Tab, change: impl FnOnce(&mut Listing, &Around<'_>)) {
        let around = Around { usages: &self.usages, users: &self.users, now: self.now };
        change(&mut self.listings[tab.place()], &around);
    }

    fn set(&mut self, tab: Tab, items: Vec<Item>) {
        self.with(tab, |listing, around| listing.set(items, around));
        if tab == Tab::Containers {
            // How many containers an image has.
            self.with(Tab::Images, |listing, around| listing.arrange(around));
        }
    }

    /// Draws everything. Places are remembered for clicks.
    fn draw_all(&mut self, frame: &mut Frame<'_>) {
        let areas = Areas::of(frame.area(), self.is_pane_focused, self.is_zoomed);
        let is_resized = std::mem::replace(&mut self.areas, areas) != areas;
        if self.areas.is_too_small() {
            frame.render_widget(Paragraph::new("The terminal is too small."), frame.area());
            return;
        }
        self.fit(is_resized);
        self.draw_tabs(frame);
        list::draw(self, frame);
        lower::draw(self, frame);
        self.draw_status(frame);
        self.draw_footer(frame);
        if let Some((_, lines)) = &self.question {
            let mut lines: Vec<String> = lines.iter().map(|text| format!(" {}", line(text))).collect();
            lines.extend([String::new(), " y: yes   any other key: no".to_owned()]);
            let width = lines.iter().map(|line| line.width()).max().unwrap_or(0);
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            draw::over(frame, " Sure? ", &lines, u16::try_from(width + 4).unwrap_or(u16::MAX), self.palette);
        }
        if let Some(top) = &mut self.help {
            *top = (*top).min(HELP.len().saturating_sub(usize::from(frame.area().height.saturating_sub(2))));
            draw::over(frame, " Keys ", &HELP[*top..], 60, self.palette);
        }
    }

    /// Keeps the windows inside of what there is; on a screen of another size, what is selected stays in sight.
    fn fit(&mut self, is_resized: bool) {
        let height = self.areas.rows().height.into();
        let listing = &mut self.listings[self.tab.place()];
        let rows = listing.rows();
        listing.cursor.fit(rows, height);
        if is_resized {
            let at = listing.cursor.at;
            listing.cursor.go(at, rows, height);
        }
        self.shown.fit(self.areas.pane_inside().height.into());
    }

    fn draw_tabs(&self, frame: &mut Frame<'_>) {
        let area = self.areas.tabs;
        for (tab, start, title) in self.tab_titles() {
            let style =
                if tab == self.tab { self.palette.selected(self.palette.heading(), true) } else { Default::default() };
            if start < area.width {
                frame.buffer_mut().set_stringn(area.x + start, area.y, title, usize::from(area.width - start), style);
            }
        }
        let text = format!("context {} ", self.context);
        let taken = self.tab_titles().last().map_or(0, |(_, start, title)| usize::from(start) + title.width() + 2);
        if taken + text.width() <= usize::from(area.width) {
            let x = area.right() - u16::try_from(text.width()).unwrap_or(0);
            frame.buffer_mut().set_string(x, area.y, text, self.palette.faint());
        }
    }

    /// The tabs with their columns.
    fn tab_titles(&self) -> impl Iterator<Item = (Tab, u16, String)> {
        let mut start = 0;
        TABS.into_iter().map(move |tab| {
            let listing = &self.listings[tab.place()];
            let count = if listing.is_known { format!(" {}", listing.count()) } else { String::new() };
            let is_narrow = self.areas.tabs.width < 70;
            let title = match is_narrow && tab != self.tab {
                true => format!(" {} {}. ", tab.place() + 1, &tab.title()[..3]),
                false => format!(" {} {}{count} ", tab.place() + 1, tab.title()),
            };
            let at = start;
            start += u16::try_from(title.width()).unwrap_or(0);
            (tab, at, title)
        })
    }

    fn draw_status(&self, frame: &mut Frame<'_>) {
        let error = self.palette.colour(Color::Red);
        let filter = &self.listing().filter;
        let (text, style) = match (self.typing, &self.message, self.lost.first_key_value()) {
            (Some(Typing::Filter), _, _) => {
                (format!(" Filter: {}\u{2588}  (Enter keeps it, Esc drops it)", line(filter)), self.palette.heading())
            }
            (Some(Typing::Search), _, _) => {
                let search = line(&self.shown.search);
                (format!(" Search: {search}\u{2588}  (Enter keeps it, Esc drops it)"), self.palette.heading())
            }
            (_, Some(message), _) if message.is_error => (format!(" Error: {}", line(&message.text)), error),
            (_, _, Some((source, why))) => (format!(" No {}, trying again: {}", source.words(), line(why)), error),
            (_, Some(message), _) => (format!(" {}", line(&message.text)), self.palette.colour(Color::Green)),
            _ if !filter.is_empty() => {
                (format!(" Only what has {filter:?} (/ changes it, Esc drops it)"), self.palette.faint())
            }
            _ => return,
        };
        draw::line(frame, self.areas.status, self.areas.status.y, &text, style);
    }

    fn draw_footer(&self, frame: &mut Frame<'_>) {
        let keys = match (self.is_pane_focused, self.tab, self.look()) {
            (true, _, Look::Logs) => " q quit  ? help  Esc list  ↑↓ ←→ scroll  f follow  / search  n N next  z zoom",
            (true, _, _) => " q quit  ? help  Esc list  ↑↓ ←→ scroll  z zoom",
            (_, Tab::Containers, _) => {
                " q quit  ? help  Tab next  / filter  s sort  a stopped  S start T stop R restart P pause e shell D remove"
            }
            (_, Tab::Images, _) => " q quit  ? help  Tab next  / filter  s sort  Enter explore  D remove  X prune",
            _ => " q quit  ? help  Tab next  / filter  s sort  Enter details  D remove  X prune",
        };
        draw::line(frame, self.areas.footer, self.areas.footer.y, keys, self.palette.footer());
    }
}

const HELP: [&str; 22] = [
    " 1 2 3 4, Tab       containers, images, volumes, networks",
    " Up Down, j k       move; PgUp PgDn, Home End, g G too",
    " /                  show only what has a text; Esc: all",
    " s r                sort by the next column, turn it round",
    " a                  show or hide stopped containers",
    " l m d p, ← →       logs, stats, details, processes",
    " Enter              into the lower pane; Esc: out of it",
    "                    of an image: explore its files",
    " z                  the pane (or list) on the whole screen",
    "",
    " S T R              start, stop, restart",
    " P K                pause or unpause, kill",
    " e                  a shell in the container",
    " D                  remove what is selected",
    " X                  remove all that nothing uses",
    "",
    " In a log: f follows its end, / searches, n N find the",
    " next line above and below, ← → show long lines",
    "",
    " Ctrl-Z             stop until `fg`",
    " q, Ctrl-C          quit",
    " The mouse selects, sorts, scrolls.",
];

#[cfg(test)]
mod tests;
