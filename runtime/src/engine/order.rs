//! Which container is started before which: those that it requires, those that it comes after, and those whose network,
//! processes or shared memory it shares. They are known by their names, so that one that is made anew takes the place of the one before.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use strata_types::{ContainerId, ContainerName};

use super::{Engine, start::Cause};
use crate::{
    container::Container,
    error::Error,
    record::Record,
    spec::{Dependency, Ipc, Network, Sight, Spec, TerminalSize},
};

impl Engine {
    /// Puts names in place of what a spec calls containers by, and refuses what would wait for itself.
    pub(super) fn settle_dependencies(&self, name: Option<&ContainerName>, spec: &mut Spec) -> Result<(), Error> {
        for dependency in &mut spec.dependencies {
            dependency.container = self.find(&dependency.container)?.name().to_string();
        }
        match name {
            Some(name) => self.check_order(name, &spec.dependencies),
            // Nobody can depend on a name that was never there.
            None => Ok(()),
        }
    }

    /// Refuses dependencies of a container of this name that lead back to it.
    pub(super) fn check_order(&self, name: &ContainerName, dependencies: &[Dependency]) -> Result<(), Error> {
        let table = self.table();
        let of = |name: &str| match table.after("").find(|one| one.name().as_str() == name) {
            Some(one) => one.record().spec.dependencies.into_iter().map(|one| one.container).collect(),
            None => Vec::new(),
        };
        let first: Vec<String> = dependencies.iter().map(|one| one.container.clone()).collect();
        match way_back(name.as_str(), &first, &of) {
            Some(way) => Err(Error::DependencyCycle { way }),
            None => Ok(()),
        }
    }

    /// Lets those follow a new name who depend on a container.
    pub(super) async fn rename_dependencies(&self, before: &ContainerName, after: &ContainerName) -> Result<(), Error> {
        let depends =
            |one: &Arc<Container>| one.record().spec.dependencies.iter().any(|d| d.container == before.as_str());
        let dependents: Vec<_> = self.page("", usize::MAX, true).into_iter().filter(depends).collect();
        for dependent in dependents {
            let record = dependent.change(|record| {
                let which = record.spec.dependencies.iter_mut().filter(|one| one.container == before.as_str());
                which.for_each(|one| one.container = after.to_string());
            });
            self.write(record).await?;
        }
        Ok(())
    }

    /// Starts what a container requires and does not run, and what that requires.
    pub(super) async fn start_required(self: &Arc<Self>, container: &Container) -> Result<(), Error> {
        let (mut all, mut seen) = (Vec::new(), HashSet::new());
        self.require(&container.record(), &mut all, &mut seen)?;
        for required in all {
            if required.is_running() {
                continue;
            }
            let started = self.start_alone(&required, TerminalSize::default(), None, Cause::Hand).await;
            started.map_err(|source| Error::Required {
                container: container.name().to_string(),
                required: required.name().to_string(),
                source: Box::new(source),
            })?;
        }
        Ok(())
    }

    /// Finds all that a container requires, and what that requires in turn; each after what it requires itself.
    fn require(
        &self,
        record: &Record,
        found: &mut Vec<Arc<Container>>,
        seen: &mut HashSet<ContainerId>,
    ) -> Result<(), Error> {
        for dependency in record.spec.dependencies.iter().filter(|one| one.is_required) {
            let required = self.find(&dependency.container).map_err(|source| Error::Required {
                container: record.name.to_string(),
                required: dependency.container.clone(),
                source: Box::new(source),
            })?;
            if seen.insert(required.id.clone()) {
                self.require(&required.record(), found, seen)?;
                found.push(required);
            }
        }
        Ok(())
    }
}

/// The way from a name over what it depends on back to itself.
fn way_back(name: &str, first: &[String], of: &dyn Fn(&str) -> Vec<String>) -> Option<Vec<String>> {
    let mut ways: Vec<Vec<String>> = first.iter().map(|next| vec![name.to_owned(), next.clone()]).collect();
    let mut seen = Vec::new();
    while let Some(way) = ways.pop() {
        let last = way.last()?.clone();
        if last == name {
            return Some(way);
        }
        if !seen.contains(&last) {
            ways.extend(of(&last).into_iter().map(|next| [way.clone(), vec![next]].concat()));
            seen.push(last);
        }
    }
    None
}

/// Containers in the order of their start: the oldest first, but for those that depend on younger ones.
pub(super) fn sorted(containers: Vec<Arc<Container>>) -> Vec<Arc<Container>> {
    let mut left: Vec<(Record, Arc<Container>)> = containers.into_iter().map(|one| (one.record(), one)).collect();
    left.sort_by_key(|(record, _)| record.created_at);
    let before: HashMap<String, Vec<String>> =
        left.iter().map(|(record, _)| (record.id.to_string(), befores(record, &left))).collect();
    let mut sorted: Vec<Arc<Container>> = Vec::new();
    while !left.is_empty() {
        let is_free = |record: &Record| {
            before[record.id.as_str()].iter().all(|id| sorted.iter().any(|done| done.id.as_str() == id))
        };
        // A cycle cannot be made; if there were one, its oldest goes first.
        let next = left.iter().position(|(record, _)| is_free(record)).unwrap_or(0);
        sorted.push(left.remove(next).1);
    }
    sorted
}

/// Ids of those among some containers that one comes after.
fn befores(record: &Record, among: &[(Record, Arc<Container>)]) -> Vec<String> {
    let isolation = &record.spec.isolation;
    let is_before = |other: &Record| {
        matches!(&isolation.pid, Sight::Container(id) if id == other.id.as_str())
            || matches!(&isolation.ipc, Ipc::Container(id) if id == other.id.as_str())
            || record.spec.dependencies.iter().any(|one| one.container == other.name.as_str())
            || matches!(&record.spec.network, Network::Container(id) if id == other.id.as_str())
    };
    among.iter().filter(|(other, _)| is_before(other)).map(|(other, _)| other.id.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::record::tests::record;

    fn container(byte: u8, name: &str, after: &[&str]) -> Arc<Container> {
        let mut record = record(byte, name);
        record.created_at = Timestamp::from_second(i64::from(byte)).unwrap();
        let dependency = |name: &&str| Dependency { container: name.to_string(), is_required: false };
        record.spec.dependencies = after.iter().map(dependency).collect();
        Container::new(record)
    }

    #[test]
    fn the_oldest_is_first_but_for_what_it_depends_on() {
        let sharing = {
            let mut record = record(4, "side");
            record.created_at = Timestamp::from_second(0).unwrap();
            record.spec.network = Network::Container(crate::record::tests::record(3, "web").id.to_string());
            Container::new(record)
        };
        let all = vec![
            container(3, "web", &["db", "gone"]),
            container(1, "proxy", &["web"]),
            sharing,
            container(5, "db", &[]),
            container(2, "old", &[]),
        ];
        let names: Vec<String> = sorted(all).iter().map(|one| one.name().to_string()).collect();
        assert_eq!(names, ["old", "db", "web", "side", "proxy"]);
    }

    #[test]
    fn a_cycle_is_told_by_all_who_are_in_it() {
        let of = |name: &str| match name {
            "a" => vec!["x".to_owned(), "b".to_owned()],
            "b" => vec!["c".to_owned()],
            "c" => vec!["new".to_owned()],
            _ => vec![],
        };
        let way = way_back("new", &["x".into(), "a".into()], &of);
        assert_eq!(way.unwrap(), ["new", "a", "b", "c", "new"]);
        assert_eq!(way_back("other", &["a".into()], &of), None);
        assert_eq!(way_back("self", &["self".into()], &of).unwrap(), ["self", "self"]);
    }
}
