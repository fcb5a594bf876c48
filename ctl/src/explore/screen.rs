//! The view on the screen as a machine: keys and clicks in, a picture out. It owns no terminal; `terminal.rs` does.

mod details;
mod input;
mod layers;
mod layout;
mod style;
mod tree;

use ratatui::Frame;
use ratatui::widgets::Paragraph;

use super::Image;
use super::stack::{Node, Waste};
use super::view::{Scope, Search, Shown, Sort, View, Wanted};
use crate::full_screen::{Cursor, Palette, draw};
use layout::Areas;

/// Panes that keys go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pane {
    Layers,
    Tree,
    Details,
}

/// What the large pane shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tab {
    Files,
    Changes,
    Waste,
}

const TABS: [Tab; 3] = [Tab::Files, Tab::Changes, Tab::Waste];

impl Tab {
    fn title(self) -> &'static str {
        match self {
            Self::Files => "1 Files",
            Self::Changes => "2 Changes of the layer",
            Self::Waste => "3 Waste",
        }
    }
}

/// The state of the view.
#[derive(Debug)]
pub struct Screen {
    image: Image,
    palette: Palette,
    view: View,
    focus: Pane,
    tab: Tab,
    layers: Cursor,
    tree: Cursor,
    waste: Cursor,
    /// Wasted paths that the search leaves, as indexes.
    wasted: Vec<usize>,
    details_top: usize,
    text: String,
    is_typing: bool,
    is_helping: bool,
    areas: Areas,
}

impl Screen {
    /// A view of an image, at its top layer.
    pub fn new(image: Image, palette: Palette) -> Self {
        let layer = image.layers.len().saturating_sub(1);
        let wanted =
            Wanted { layer, scope: Scope::Everything, shown: Shown::default(), text: String::new(), sort: Sort::Name };
        let view = View::new(&image.stack, wanted);
        Self {
            image,
            palette,
            view,
            focus: Pane::Layers,
            tab: Tab::Files,
            layers: Cursor::at(layer),
            tree: Cursor::default(),
            waste: Cursor::default(),
            wasted: Vec::new(),
            details_top: 0,
            text: String::new(),
            is_typing: false,
            is_helping: false,
            areas: Areas::default(),
        }
    }

    /// Draws everything. The places of panes are remembered for clicks.
    fn draw_all(&mut self, frame: &mut Frame<'_>) {
        let before = std::mem::replace(&mut self.areas, Areas::of(frame.area(), self.image.layers.len()));
        if self.areas.is_too_small() {
            frame.render_widget(Paragraph::new("The terminal is too small."), frame.area());
            return;
        }
        self.fit(before != self.areas);
        layers::draw(self, frame);
        tree::draw(self, frame);
        details::draw(self, frame);
        self.draw_footer(frame);
        if self.is_helping {
            draw::over(frame, " Keys ", &HELP, 66, self.palette);
        }
    }

    /// Keeps the windows inside of what there is; where the panes have other sizes, what is selected stays in sight.
    fn fit(&mut self, is_resized: bool) {
        let (layers, layers_height) = (self.image.layers.len(), self.areas.layers_inside().height.into());
        let (rows, height) = (self.rows(), self.areas.tree_inside().height.into());
        self.layers.fit(layers, layers_height);
        self.cursor().fit(rows, height);
        if is_resized {
            self.layers.go(self.layers.at, layers, layers_height);
            let at = self.cursor().at;
            self.cursor().go(at, rows, height);
        }
    }

    /// Rows of the large pane.
    fn rows(&self) -> usize {
        match self.tab {
            Tab::Files | Tab::Changes => self.view.rows().len(),
            Tab::Waste => self.wasted.len(),
        }
    }

    /// Where the large pane is.
    fn cursor(&mut self) -> &mut Cursor {
        match self.tab {
            Tab::Files | Tab::Changes => &mut self.tree,
            Tab::Waste => &mut self.waste,
        }
    }

    /// The name that is selected in the large pane.
    fn selected(&self) -> Option<Node> {
        match self.tab {
            Tab::Files | Tab::Changes => self.view.rows().get(self.tree.at).map(|row| row.node),
            Tab::Waste => self.wasted(self.waste.at).map(|waste| waste.node),
        }
    }

    fn wasted(&self, index: usize) -> Option<&Waste> {
        self.image.stack.waste().get(*self.wasted.get(index)?)
    }

    /// Computes what is shown anew, and stays at the selected name where it can.
    fn want(&mut self, change: impl FnOnce(&mut Wanted)) {
        let selected = self.view.rows().get(self.tree.at).map(|row| row.node);
        let mut wanted = self.view.wanted().clone();
        wanted.layer = self.layers.at;
        wanted.text.clone_from(&self.text);
        match self.tab {
            Tab::Files => wanted.scope = Scope::Everything,
            Tab::Changes => wanted.scope = Scope::Changes,
            // Not in sight; what it was is what it likely is again.
            Tab::Waste => {}
        }
        change(&mut wanted);
        self.view.want(&self.image.stack, wanted);
        self.stay_at(selected);
    }

    /// Selects a name, or the nearest above it that has a row.
    fn stay_at(&mut self, node: Option<Node>) {
        let row = node.and_then(|node| self.view.find(&self.image.stack, node)).unwrap_or(0);
        self.tree.go(row, self.view.rows().len(), self.areas.tree_inside().height.into());
    }

    fn select_layer(&mut self, index: usize) {
        self.layers.go(index, self.image.layers.len(), self.areas.layers_inside().height.into());
        self.details_top = 0;
        self.want(|_| ());
    }

    fn select_tab(&mut self, tab: Tab) {
        self.tab = tab;
        self.filter_waste();
        self.details_top = 0;
        if tab != Tab::Waste {
            self.want(|_| ());
        }
    }

    /// Computes what the list of waste shows; only where it is looked at, for it may be long.
    fn filter_waste(&mut self) {
        if self.tab != Tab::Waste {
            return;
        }
        let search = Search::new(&self.text);
        let stack = &self.image.stack;
        let is_found = |waste: &Waste| search.finds_path(&[b"/", &*stack.path(waste.node)].concat());
        let all = stack.waste().iter().enumerate();
        self.wasted = all.filter(|(_, waste)| is_found(waste)).map(|(index, _)| index).collect();
    }

    fn search(&mut self) {
        self.filter_waste();
        self.waste = Cursor::default();
        // The tree is not in sight there; the next tab brings it up to date.
        if self.tab != Tab::Waste {
            self.want(|_| ());
        }
    }

    fn draw_footer(&self, frame: &mut Frame<'_>) {
        let area = self.areas.footer;
        let text = match (self.is_typing, self.text.is_empty()) {
            (true, _) => format!(" Search: {}\u{2588}  (Enter keeps it, Esc drops it)", super::text::line(&self.text)),
            (false, false) => format!(" Only paths with {:?}  (/ changes it, Esc drops it)", self.text),
            (false, true) => {
                " q quit  Tab pane  1 2 3 view  ↑↓ move  ←→ fold  / search  a m r u kinds  s sort  ? help".into()
            }
        };
        frame.buffer_mut().set_stringn(area.x, area.y, text, area.width.into(), self.palette.footer());
    }
}

const HELP: [&str; 19] = [
    " Tab, Shift-Tab     next pane, previous pane",
    " 1 2 3, t           files up to the layer, its changes, waste",
    " [ ]                layer below, layer above",
    " Up Down, k j       move; PgUp PgDn, Home End, g G too",
    " Right Left, l h    unfold, fold; into it, out of it",
    " Enter, Space       fold or unfold; from Waste: show the file",
    " e c                unfold all, fold all",
    " / Esc              search paths, end the search",
    " a m r u            show or hide what is added, modified,",
    "                    removed, unchanged",
    " s                  sort by name or by size",
    " Ctrl-Z             stop until `fg`",
    " q, Ctrl-C          quit",
    "",
    " The mouse selects layers, rows and views; a second click",
    " folds and unfolds; the wheel scrolls what it is over.",
    "",
    " + added   ~ changed   - removed   · something in it changed",
    " Wasted: bytes of a layer that later layers hide.",
];

#[cfg(test)]
mod tests;
