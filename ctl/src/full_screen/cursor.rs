//! A place in a list that is longer than its pane. Keys move the place and the window follows; the wheel moves the
//! window and leaves the place.

/// A place and a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The selected row.
    pub at: usize,
    /// The first row in the window.
    pub top: usize,
}

impl Cursor {
    /// At a row; the window is found when it is drawn.
    pub fn at(at: usize) -> Self {
        Self { at, top: 0 }
    }

    /// Goes to a row and brings it into the window.
    pub fn go(&mut self, at: usize, rows: usize, height: usize) {
        self.at = at.min(rows.saturating_sub(1));
        if self.at < self.top {
            self.top = self.at;
        } else if self.at >= self.top + height {
            self.top = (self.at + 1).saturating_sub(height);
        }
        self.fit(rows, height);
    }

    /// Moves by rows; negative is up.
    pub fn step(&mut self, by: isize, rows: usize, height: usize) {
        self.go(self.at.saturating_add_signed(by), rows, height);
    }

    /// Moves the window only.
    pub fn scroll(&mut self, by: isize, rows: usize, height: usize) {
        self.top = self.top.saturating_add_signed(by);
        self.fit(rows, height);
    }

    /// Keeps both inside of what there is.
    pub fn fit(&mut self, rows: usize, height: usize) {
        self.at = self.at.min(rows.saturating_sub(1));
        self.top = self.top.min(rows.saturating_sub(height));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_follows_the_place_and_the_wheel_leaves_it() {
        let mut cursor = Cursor::default();

        cursor.step(12, 100, 10);
        assert_eq!(cursor, Cursor { at: 12, top: 3 });
        cursor.scroll(50, 100, 10);
        assert_eq!(cursor, Cursor { at: 12, top: 53 });
        cursor.step(1, 100, 10);
        assert_eq!(cursor, Cursor { at: 13, top: 13 });
        cursor.step(-100, 100, 10);
        assert_eq!(cursor, Cursor { at: 0, top: 0 });
        cursor.go(usize::MAX, 100, 10);
        assert_eq!(cursor, Cursor { at: 99, top: 90 });
        cursor.fit(5, 10);
        assert_eq!(cursor, Cursor { at: 4, top: 0 });
        cursor.fit(0, 0);
        assert_eq!(cursor, Cursor::default());
    }
}
