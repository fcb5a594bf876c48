//! The contexts of a build: the one that COPY and ADD read, and those that FROM, `--from` and mounts mean by their names.

use std::collections::BTreeMap;
use std::sync::Arc;

use strata_dockerfile::ignore::IgnoreFile;
use strata_dockerfile::remote::Remote;
use strata_types::{Platform, Reference};

use crate::context::Blake3;
use crate::error::Error;
use crate::remotes::RemoteTree;

/// Digest of the top directory of a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// This.
    Known(Blake3),
    /// The client is looking at the directory, and says it when it has.
    Follows,
}

/// A directory of the client.
#[derive(Debug, Clone)]
pub struct Local {
    /// Its name. Empty: the build context.
    pub name: String,
    /// Digest of its top directory: [`crate::session::Session::root`] waits for it.
    pub root: Root,
    /// The ignore file that the client applied.
    pub ignore: IgnoreFile,
    /// Its name, for messages.
    pub ignore_name: String,
}

impl Local {
    /// What it is called in messages.
    pub fn title(&self) -> String {
        if self.name.is_empty() { "the build context".to_owned() } else { format!("the context {}", self.name) }
    }
}

/// A context that is elsewhere, as it came.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// What it is called in messages.
    pub title: String,
    /// Its files.
    pub tree: RemoteTree,
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub enum Named {
    /// Files of the client.
    Local(Arc<Local>),
    /// An image, by name or id.
    Image(String),
    /// Something that is elsewhere, and fetched when it is needed.
    Remote {
        /// Its own name.
        name: String,
        /// What it is.
        remote: Remote,
    },
}

/// The contexts of a build.
#[derive(Debug, Clone, Default)]
pub struct Contexts {
    /// What COPY and ADD read. `None`: nothing.
    pub main: Option<Arc<Local>>,
    /// What they read instead.
    pub fetched: Option<Fetched>,
    named: BTreeMap<String, Named>,
    /// The platform built for.
    platform: String,
}

impl Contexts {
    /// A build for this platform with this context, and with these that have names.
    pub fn new(main: Option<Local>, named: Vec<(String, Named)>, platform: &Platform) -> Result<Self, Error> {
        let mut all = BTreeMap::new();
        for (name, context) in named {
            let problem = format!("there are two contexts with the name {name:?}");
            if all.insert(name, context).is_some() {
                return Err(Error::Invalid { field: "contexts", problem });
            }
        }
        Ok(Self { main: main.map(Arc::new), fetched: None, named: all, platform: platform.to_string() })
    }

    /// The context that FROM or `--from` means by a name.
    pub fn find(&self, name: &str) -> Option<&Named> {
        if self.named.is_empty() {
            return None;
        }
        let plain = canonical(name);
        self.named.get(&format!("{plain}::{}", self.platform)).or_else(|| self.named.get(&plain))
    }

    /// The context that is elsewhere with this very name.
    pub fn remote(&self, name: &str) -> Option<&Remote> {
        match self.named.get(name) {
            Some(Named::Remote { remote, .. }) => Some(remote),
            _ => None,
        }
    }

    /// The local context with this very name.
    pub fn local(&self, name: &str) -> Option<&Arc<Local>> {
        match self.named.get(name) {
            Some(Named::Local(local)) => Some(local),
            _ => None,
        }
    }
}

/// The name under which contexts are given: small letters, as short as images are named, without ":latest".
fn canonical(name: &str) -> String {
    let small = name.to_lowercase();
    let familiar = Reference::parse(&small).map_or_else(|_| small.clone(), |reference| reference.familiar());
    familiar.strip_suffix(":latest").unwrap_or(&familiar).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_found_by_any_form_of_their_name_and_by_platform() {
        let image = |name: &str| Named::Image(name.to_owned());
        let named = vec![
            ("app".to_owned(), image("one")),
            ("app::linux/arm64".to_owned(), image("two")),
            ("example.com/x:1".to_owned(), image("three")),
        ];
        let found = |name: &str, platform: &str| {
            let platform = Platform::parse(platform).expect("a platform");
            let contexts = Contexts::new(None, named.clone(), &platform).expect("the names differ");
            match contexts.find(name) {
                Some(Named::Image(name)) => name.clone(),
                _ => String::new(),
            }
        };

        for (name, platform, expected) in [
            ("app", "linux/amd64", "one"),
            ("App", "linux/amd64", "one"),
            ("app:latest", "linux/amd64", "one"),
            ("docker.io/library/app", "linux/amd64", "one"),
            ("app", "linux/arm64", "two"),
            ("app:2", "linux/amd64", ""),
            ("example.com/x:1", "linux/arm64", "three"),
            ("other", "linux/amd64", ""),
        ] {
            assert_eq!(found(name, platform), expected, "{name} for {platform}");
        }
    }
}
