//! Where the panes are.

use ratatui::layout::Rect;

use crate::full_screen::draw::inside;

/// Columns from which there are two columns of panes.
const WIDE: u16 = 80;

/// Places of the panes, borders included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Areas {
    pub(super) layers: Rect,
    pub(super) details: Rect,
    /// The large pane; its upper border carries the tabs.
    pub(super) tree: Rect,
    pub(super) footer: Rect,
}

impl Areas {
    /// Divides a screen. A narrow one has the layers above the tree, and no details.
    pub(super) fn of(area: Rect, layers: usize) -> Self {
        let body = Rect { height: area.height.saturating_sub(1), ..area };
        let footer = Rect { y: area.y + body.height, height: area.height.min(1), ..area };
        let wanted = u16::try_from(layers + 2).unwrap_or(u16::MAX);
        if area.width < WIDE {
            let height = wanted.min(body.height / 3).max(3).min(body.height);
            let layers = Rect { height, ..body };
            let tree = Rect { y: body.y + height, height: body.height - height, ..body };
            return Self { layers, details: Rect::default(), tree, footer };
        }
        let width = (area.width / 5 * 2).min(70);
        let height = wanted.min(body.height / 2).max(3).min(body.height);
        let layers = Rect { width, height, ..body };
        let details = Rect { y: body.y + height, width, height: body.height - height, ..body };
        let tree = Rect { x: body.x + width, width: body.width - width, ..body };
        Self { layers, details, tree, footer }
    }

    /// Nothing of use fits.
    pub(super) fn is_too_small(&self) -> bool {
        self.tree.width < 20 || self.tree.height < 3 || self.layers.height < 3
    }

    pub(super) fn layers_inside(&self) -> Rect {
        inside(self.layers)
    }

    pub(super) fn details_inside(&self) -> Rect {
        inside(self.details)
    }

    pub(super) fn tree_inside(&self) -> Rect {
        inside(self.tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panes_fill_every_screen_and_never_leave_it() {
        for (width, height) in [(0, 0), (1, 1), (19, 5), (79, 24), (80, 24), (200, 60), (u16::MAX, u16::MAX)] {
            for layers in [0, 1, 5, 1000] {
                let screen = Rect::new(0, 0, width, height);
                let areas = Areas::of(screen, layers);

                let all = [areas.layers, areas.details, areas.tree, areas.footer];
                for area in all {
                    assert_eq!(screen.union(area), screen, "{area:?} of {width}x{height}, {layers} layers");
                }
                let covered: u64 = all.iter().map(|area| u64::from(area.width) * u64::from(area.height)).sum();
                assert_eq!(covered, u64::from(width) * u64::from(height), "{width}x{height}, {layers} layers");
            }
        }
    }
}
