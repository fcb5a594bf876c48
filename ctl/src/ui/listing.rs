//! A list that is filtered, sorted and moved through. What is selected stays selected while the list changes around it.

use std::cmp::Ordering;

use super::item::{Around, Item, Tab};
use super::log::contains;
use crate::command::ps;
use crate::full_screen::Cursor;

/// A list of things.
#[derive(Debug)]
pub struct Listing {
    tab: Tab,
    items: Vec<Item>,
    /// The rows: which items are shown, in which order.
    order: Vec<usize>,
    /// Where the user is among the rows.
    pub cursor: Cursor,
    /// Only what has this text in it.
    pub filter: String,
    /// The column that it is sorted by.
    pub column: usize,
    /// The last come first.
    pub is_reversed: bool,
    /// Containers that do not run are left out.
    pub hides_stopped: bool,
    /// It has been heard of.
    pub is_known: bool,
}

impl Listing {
    /// An empty list, by the first column.
    pub fn new(tab: Tab) -> Self {
        Self {
            tab,
            items: Vec::new(),
            order: Vec::new(),
            cursor: Cursor::default(),
            filter: String::new(),
            column: 0,
            is_reversed: false,
            hides_stopped: false,
            is_known: false,
        }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.order.len()
    }

    /// How many things there are, shown or not.
    pub fn count(&self) -> usize {
        self.items.len()
    }

    /// The thing of a row.
    pub fn row(&self, row: usize) -> Option<&Item> {
        self.items.get(*self.order.get(row)?)
    }

    /// What is selected.
    pub fn selected(&self) -> Option<&Item> {
        self.row(self.cursor.at)
    }

    /// Takes the things that there are now.
    pub fn set(&mut self, items: Vec<Item>, around: &Around<'_>) {
        let selected = self.selected().map(|item| item.key.clone());
        self.items = items;
        self.is_known = true;
        self.arrange_at(selected, around);
    }

    /// Filters and sorts anew.
    pub fn arrange(&mut self, around: &Around<'_>) {
        let selected = self.selected().map(|item| item.key.clone());
        self.arrange_at(selected, around);
    }

    /// Whether the order depends on what containers use.
    pub fn is_by_usage(&self) -> bool {
        self.tab == Tab::Containers && self.tab.columns()[self.column].is_right
    }

    /// Sorts by a column; by the same once more: the other way round.
    pub fn sort_by(&mut self, column: usize, around: &Around<'_>) {
        match self.column == column {
            true => self.is_reversed = !self.is_reversed,
            false => (self.column, self.is_reversed) = (column, false),
        }
        self.arrange(around);
    }

    fn arrange_at(&mut self, selected: Option<String>, around: &Around<'_>) {
        let wanted = self.filter.to_lowercase();
        let is_shown = |item: &Item| {
            let is_hidden = self.hides_stopped && item.container().is_some_and(|container| !ps::is_up(container));
            !is_hidden && contains(&item.text, &wanted)
        };
        let shown = self.items.iter().enumerate().filter(|(_, item)| is_shown(item));
        let mut keyed: Vec<_> = shown.map(|(place, item)| (item.sort_key(self.column, around), place)).collect();
        keyed.sort_by(|(one, at), (other, other_at)| {
            let order = one.partial_cmp(other).unwrap_or(Ordering::Equal);
            let order = if self.is_reversed { order.reverse() } else { order };
            // What is equal does not change places.
            order.then_with(|| self.items[*at].name.cmp(&self.items[*other_at].name)).then(at.cmp(other_at))
        });
        self.order = keyed.into_iter().map(|(_, place)| place).collect();
        let row = selected.and_then(|key| self.order.iter().position(|place| self.items[*place].key == key));
        if let Some(row) = row {
            // The row stays where it is on the screen.
            let shift = row.cast_signed() - self.cursor.at.cast_signed();
            self.cursor.top = self.cursor.top.saturating_add_signed(shift);
            self.cursor.at = row;
        }
        self.cursor.at = self.cursor.at.min(self.order.len().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use jiff::Timestamp;
    use strata_proto::runtime::v1 as pb;

    use super::*;
    use crate::ui::item;
    use crate::ui::usage::Usages;

    fn volumes(names: &[&str]) -> Vec<Item> {
        item::volumes(
            names
                .iter()
                .map(|name| pb::Volume {
                    name: (*name).to_owned(),
                    container_ids: vec![String::new(); name.len()],
                    ..Default::default()
                })
                .collect(),
        )
    }

    fn names(listing: &Listing) -> Vec<&str> {
        (0..listing.rows()).filter_map(|row| listing.row(row)).map(|item| item.name.as_str()).collect()
    }

    #[test]
    fn what_is_selected_stays_so_when_others_come_and_go() {
        let (usages, users) = (Usages::default(), HashMap::new());
        let around = Around { usages: &usages, users: &users, now: Timestamp::UNIX_EPOCH };
        let mut listing = Listing::new(Tab::Volumes);
        listing.set(volumes(&["b", "d"]), &around);
        listing.cursor.go(1, 2, 10);

        listing.set(volumes(&["d", "c", "b", "a"]), &around);
        assert_eq!(names(&listing), ["a", "b", "c", "d"]);
        assert_eq!(listing.selected().unwrap().name, "d");
        listing.set(volumes(&["a", "b"]), &around);
        assert_eq!(listing.selected().unwrap().name, "b", "the nearest, when it is gone");
        listing.set(Vec::new(), &around);
        assert!(listing.selected().is_none());
    }

    #[test]
    fn columns_sort_and_filters_leave_what_has_the_text() {
        let (usages, users) = (Usages::default(), HashMap::new());
        let around = Around { usages: &usages, users: &users, now: Timestamp::UNIX_EPOCH };
        let mut listing = Listing::new(Tab::Volumes);
        listing.set(volumes(&["data", "db", "Cache"]), &around);

        assert_eq!(names(&listing), ["Cache", "data", "db"]);
        listing.sort_by(3, &around);
        assert_eq!(names(&listing), ["Cache", "data", "db"], "the most used first");
        listing.sort_by(3, &around);
        assert_eq!(names(&listing), ["db", "data", "Cache"]);
        listing.filter = "CA".to_owned();
        listing.arrange(&around);
        assert_eq!(names(&listing), ["Cache"]);
        assert_eq!(listing.count(), 3);
    }
}
