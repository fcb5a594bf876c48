//! The containers of this runtime in memory, found by id, name or unique id prefix.
//! A name belongs to its container from before the record is written until after it is removed.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
};

use strata_types::{ContainerId, ContainerName};

use crate::{error::Error, names};

/// How many of several containers an error names.
const MOST_CANDIDATES: usize = 5;

/// Containers by id and name; `T` is what is kept of each.
#[derive(Debug)]
pub struct Table<T> {
    by_id: BTreeMap<String, (ContainerName, T)>,
    by_name: HashMap<String, String>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { by_id: BTreeMap::new(), by_name: HashMap::new() }
    }
}

impl<T: Clone> Table<T> {
    /// Returns `name`, or a generated one, if it is free.
    pub fn free_name(&self, name: Option<ContainerName>) -> Result<ContainerName, Error> {
        let Some(name) = name else { return names::generate(|name| self.by_name.contains_key(name)) };
        match self.by_name.get(name.as_str()) {
            Some(holder) => Err(Error::NameTaken { name: name.to_string(), holder: holder.clone() }),
            None => Ok(name),
        }
    }

    /// Takes in a container; refused when its id or name is taken.
    pub fn insert(&mut self, id: &ContainerId, name: &ContainerName, container: T) -> Result<(), Error> {
        self.free_name(Some(name.clone()))?;
        if self.by_id.contains_key(id.as_str()) {
            return Err(Error::IdTaken { id: id.to_string() });
        }
        self.by_name.insert(name.to_string(), id.to_string());
        self.by_id.insert(id.to_string(), (name.clone(), container));
        Ok(())
    }

    /// Gives a container another name, if that is free.
    pub fn rename(&mut self, id: &ContainerId, name: ContainerName) -> Result<(), Error> {
        let name = self.free_name(Some(name))?;
        let Some((own, _)) = self.by_id.get_mut(id.as_str()) else {
            return Err(Error::NotFound { name: id.to_string() });
        };
        self.by_name.insert(name.to_string(), id.to_string());
        self.by_name.remove(std::mem::replace(own, name).as_str());
        Ok(())
    }

    /// Forgets a container.
    pub fn remove(&mut self, id: &ContainerId) {
        if let Some((name, _)) = self.by_id.remove(id.as_str()) {
            self.by_name.remove(name.as_str());
        }
    }

    /// Finds a container: an exact id before a name before a unique prefix, as Docker does.
    pub fn find(&self, text: &str) -> Result<T, Error> {
        if let Some((_, container)) = self.by_id.get(text) {
            return Ok(container.clone());
        }
        if let Some((_, container)) = self.by_name.get(text).and_then(|id| self.by_id.get(id)) {
            return Ok(container.clone());
        }
        let not_found = || Error::NotFound { name: text.to_owned() };
        if text.is_empty() {
            return Err(not_found());
        }
        let mut matches = self.by_id.range(text.to_owned()..).take_while(|(id, _)| id.starts_with(text));
        let (_, (_, container)) = matches.next().ok_or_else(not_found)?;
        if matches.next().is_none() {
            return Ok(container.clone());
        }
        let all = self.by_id.range(text.to_owned()..).take_while(|(id, _)| id.starts_with(text));
        let shown = all
            .take(MOST_CANDIDATES)
            .map(|(id, (name, _))| format!("{} ({name})", &id[..(text.len() + 4).clamp(12, id.len())]));
        Err(Error::Ambiguous { prefix: text.to_owned(), candidates: shown.collect() })
    }

    /// Iterates by id, after `after`.
    pub fn after(&self, after: &str) -> impl Iterator<Item = &T> {
        self.by_id.range::<str, _>((Bound::Excluded(after), Bound::Unbounded)).map(|(_, (_, container))| container)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(start: &str) -> ContainerId {
        ContainerId::parse(format!("{start:0<64}")).unwrap()
    }

    fn name(text: &str) -> ContainerName {
        ContainerName::parse(text).unwrap()
    }

    fn table() -> Table<u32> {
        let mut table = Table::default();
        table.insert(&id("ab1"), &name("one"), 1).unwrap();
        table.insert(&id("ab2"), &name("two"), 2).unwrap();
        table.insert(&id("cd"), &name("ab1"), 3).unwrap();
        table
    }

    #[test]
    fn a_container_is_found_by_id_then_name_then_unique_prefix() {
        let table = table();
        assert_eq!(table.find(id("ab1").as_str()).unwrap(), 1);
        assert_eq!(table.find("two").unwrap(), 2);
        assert_eq!(table.find("ab1").unwrap(), 3, "a name goes before a prefix");
        assert_eq!(table.find("c").unwrap(), 3);
        let ambiguous = table.find("ab").unwrap_err().to_string();
        assert!(ambiguous.ends_with(": ab1000000000 (one), ab2000000000 (two)"), "{ambiguous}");
        for absent in ["", "x", "ab3", "CD"] {
            assert!(matches!(table.find(absent), Err(Error::NotFound { .. })), "{absent:?} was found");
        }
    }

    #[test]
    fn a_taken_name_or_id_is_refused_and_the_holder_named() {
        let mut table = table();
        match table.insert(&id("ee"), &name("one"), 4) {
            Err(Error::NameTaken { holder, .. }) => assert_eq!(holder, id("ab1").as_str()),
            other => panic!("{other:?}"),
        }
        assert!(matches!(table.insert(&id("ab1"), &name("new"), 4), Err(Error::IdTaken { .. })));
        assert!(table.find("new").is_err());
    }

    #[test]
    fn a_removed_container_frees_its_name() {
        let mut table = table();
        table.remove(&id("ab1"));
        table.insert(&id("ff"), &name("one"), 9).unwrap();
        assert_eq!(table.find("one").unwrap(), 9);
    }

    #[test]
    fn a_renamed_container_has_its_new_name_only() {
        let mut table = table();
        assert!(matches!(table.rename(&id("ab1"), name("two")), Err(Error::NameTaken { .. })));
        assert!(matches!(table.rename(&id("ee"), name("new")), Err(Error::NotFound { .. })));
        table.rename(&id("ab1"), name("new")).unwrap();
        assert_eq!(table.find("new").unwrap(), 1);
        assert!(table.find("one").is_err());
        table.remove(&id("ab1"));
        assert!(table.find("new").is_err());
    }

    #[test]
    fn pages_go_by_id() {
        let table = table();
        assert_eq!(table.after("").copied().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(table.after(id("ab1").as_str()).copied().collect::<Vec<_>>(), [2, 3]);
    }
}
