//! Where things are on the screen.

use ratatui::layout::Rect;

use crate::full_screen::draw;

/// Rows between the lines at the edges from which list and pane are in sight together.
const TALL: u16 = 17;

/// Places, borders included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Areas {
    pub(super) tabs: Rect,
    pub(super) list: Rect,
    /// Empty: out of sight.
    pub(super) pane: Rect,
    pub(super) status: Rect,
    pub(super) footer: Rect,
}

impl Areas {
    /// Divides a screen. Where one of both has to go, or shall, the one with the keys stays.
    pub(super) fn of(area: Rect, is_pane_focused: bool, is_zoomed: bool) -> Self {
        let height = area.height.saturating_sub(3);
        let row = |y: u16| Rect { y: area.y + y.min(area.height), height: u16::from(y < area.height), ..area };
        let body = Rect { y: area.y + area.height.min(1), height, ..area };
        let nothing = Rect { height: 0, ..body };
        let (list, pane) = match (is_zoomed || height < TALL, is_pane_focused) {
            (true, true) => (nothing, body),
            (true, false) => (body, nothing),
            (false, _) => {
                let upper = (height / 5 * 2).max(8);
                let list = Rect { height: upper, ..body };
                (list, Rect { y: body.y + upper, height: height - upper, ..body })
            }
        };
        Self { tabs: row(0), list, pane, status: row(height + 1), footer: row(height + 2) }
    }

    /// Nothing of use fits.
    pub(super) fn is_too_small(&self) -> bool {
        self.list.width < 20 || self.list.height.max(self.pane.height) < 4
    }

    /// Rows of the list, without its head.
    pub(super) fn rows(&self) -> Rect {
        let inside = draw::inside(self.list);
        Rect { y: inside.y + inside.height.min(1), height: inside.height.saturating_sub(1), ..inside }
    }

    /// The head of the list.
    pub(super) fn head(&self) -> Rect {
        let inside = draw::inside(self.list);
        Rect { height: inside.height.min(1), ..inside }
    }

    pub(super) fn pane_inside(&self) -> Rect {
        draw::inside(self.pane)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_never_leave_the_screen_and_the_focused_one_is_in_sight() {
        for (width, height) in [(0, 0), (1, 1), (20, 4), (60, 15), (80, 24), (200, 60), (u16::MAX, u16::MAX)] {
            for (is_pane_focused, is_zoomed) in [(false, false), (true, false), (false, true), (true, true)] {
                let screen = Rect::new(0, 0, width, height);
                let areas = Areas::of(screen, is_pane_focused, is_zoomed);

                let all = [areas.tabs, areas.list, areas.pane, areas.status, areas.footer];
                for area in all.into_iter().chain([areas.rows(), areas.head(), areas.pane_inside()]) {
                    assert!(area.bottom() <= height && area.right() <= width, "{area:?} of {width}x{height}");
                }
                let focused = if is_pane_focused { areas.pane } else { areas.list };
                assert!(focused.height > 0 || height < 4, "{width}x{height}");
            }
        }
    }
}
