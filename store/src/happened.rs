//! What happened to images, written down with Docker's names.

use std::collections::BTreeMap;

use strata_rpc::events::Kind;
use strata_types::{Digest, Reference};

use crate::Store;
use crate::catalog::Removed;

impl Store {
    /// Writes down what happened to an image, by Docker's name for it. The name is what people type.
    pub(crate) fn happened(&self, action: &str, id: impl Into<String>, name: impl Into<String>) {
        let attributes = BTreeMap::from([("name".to_owned(), name.into())]);
        self.events.tell(Kind::Image, action, id, attributes);
    }

    /// Writes down that an image has names now.
    pub(crate) fn named(&self, id: &Digest, names: &[Reference]) {
        names.iter().for_each(|name| self.happened("tag", id.to_string(), name.familiar()));
    }

    /// Writes down that names and images are gone.
    pub(crate) fn removed(&self, removed: &Removed) {
        for name in &removed.untagged {
            let name = Reference::parse(name).map_or_else(|_| name.clone(), |name| name.familiar());
            self.happened("untag", name.clone(), name);
        }
        for id in &removed.deleted {
            self.happened("delete", id.to_string(), id.to_string());
        }
    }
}
