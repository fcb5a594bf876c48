//! What a token must allow, in the words of the token server ("repository:library/debian:pull").

use std::collections::BTreeMap;

/// The most scopes of one token, and the longest text of one: a registry may ask for more, and gets what fits.
const MOST: usize = 8;
const LONGEST: usize = 512;

/// What is done in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
    Delete,
}

/// A set of scopes: actions by resource. Equal sets are served by one token.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scopes(BTreeMap<String, Vec<String>>);

impl Scopes {
    /// What `access` in a repository needs.
    pub(crate) fn of(repository: &str, access: Access) -> Self {
        Self::default().and(repository, access)
    }

    /// This and `access` in a further repository: a mount reads one and writes another.
    pub(crate) fn and(mut self, repository: &str, access: Access) -> Self {
        let actions: &[&str] = match access {
            Access::Pull => &["pull"],
            Access::Push => &["pull", "push"],
            Access::Delete => &["delete"],
        };
        self.add(&format!("repository:{repository}"), actions.iter().copied());
        self
    }

    /// This and what a challenge names.
    pub(crate) fn with_challenge(mut self, scope: &str) -> Self {
        for text in scope.split(' ').filter(|text| !text.is_empty() && text.len() <= LONGEST) {
            if let Some((resource, actions)) = text.rsplit_once(':')
                && (self.0.len() < MOST || self.0.contains_key(resource))
            {
                self.add(resource, actions.split(',').filter(|action| !action.is_empty()));
            }
        }
        self
    }

    fn add<'a>(&mut self, resource: &str, actions: impl Iterator<Item = &'a str>) {
        let known = self.0.entry(resource.to_owned()).or_default();
        known.extend(actions.map(str::to_owned));
        known.sort();
        known.dedup();
    }

    /// Does a token for this serve `other`?
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|(resource, actions)| {
            self.0.get(resource).is_some_and(|known| actions.iter().all(|action| known.contains(action)))
        })
    }

    /// The scopes as texts, for one parameter each.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.0.iter().map(|(resource, actions)| format!("{resource}:{}", actions.join(","))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_needs_both_repositories() {
        let scopes = Scopes::of("to/here", Access::Push).and("from/there", Access::Pull);
        assert_eq!(scopes.texts(), ["repository:from/there:pull", "repository:to/here:pull,push"]);
        assert!(scopes.covers(&Scopes::of("to/here", Access::Pull)));
        assert!(!Scopes::of("to/here", Access::Push).covers(&scopes));
        assert!(!Scopes::of("a", Access::Pull).covers(&Scopes::of("a", Access::Push)));
    }

    #[test]
    fn what_a_challenge_asks_for_is_added_within_bounds() {
        let asked = "repository:a:push,pull repository(plugin):x:y:pull registry:catalog:* nonsense";
        let scopes = Scopes::of("a", Access::Pull).with_challenge(asked);
        assert_eq!(scopes.texts(), ["registry:catalog:*", "repository(plugin):x:y:pull", "repository:a:pull,push"]);
        let many: String = (0..1000).map(|n| format!("repository:r{n}:pull ")).collect();
        assert_eq!(Scopes::default().with_challenge(&many).texts().len(), MOST);
        assert_eq!(
            Scopes::default().with_challenge(&format!("repository:{}:pull", "a".repeat(LONGEST))),
            Scopes::default()
        );
    }
}
