//! A part of a context as a layer of its own: what mounts bind, and what FROM of a context starts from.

use std::sync::Arc;

use super::filter::Filter;
use super::find::{Found, Sources};
use super::transfer::Target;
use super::write;
use crate::context::{Blake3, Node, Selected, select};
use crate::contexts::Local;
use crate::error::Error;
use crate::key::Key;
use crate::peers::{ByContent, Identity, Made, Tree};
use crate::solve::Build;

/// A part of a context in the store.
#[derive(Debug, Clone)]
pub struct ContextLayer {
    /// The layer. It stands on no other.
    pub layer: String,
    /// Where the part is in it, absolute.
    #[allow(dead_code, reason = "mounts bind it")]
    pub path: String,
    /// Digest of the part: equal for equal names, modes and contents.
    pub digest: Blake3,
}

impl Build {
    /// A layer with what a path of a context names, and nothing else. `None`: it names nothing.
    ///
    /// Owners are root, times those of the client. The layer is in the cache, so that an unchanged part is written once.
    pub async fn context_layer(&self, local: &Arc<Local>, source: &str) -> Result<Option<ContextLayer>, Error> {
        let root = self.session.root(local).await?;
        let found = select(&root, source, &self.session).await?;
        let Some(selected) = found.into_iter().next().filter(|one| !matches!(one.node, Node::Symlink(_))) else {
            return Ok(None);
        };
        let path = format!("/{}", String::from_utf8_lossy(&selected.path));
        let is_directory = matches!(selected.node, Node::Directory(_));
        let target = Target { path: path.clone(), is_directory, owner: None, mode: None };
        let digest = super::find::digest(self, &selected).await?;
        let operation = Key::operation("context").part(&path).part(digest).finish();
        let family = Key::root("family of a context")
            .part(&self.request.dockerfile_name)
            .part(self.request.names.first().map_or("", String::as_str))
            .part(&local.name)
            .part(&path)
            .finish();
        let description = format!("{source} of {}", local.title());
        let step = Identity { key: Key::alone(&operation), operation, family, description };
        let known = self.store.cached(&step, &[], ByContent::No, &self.lease).await?;
        let layer = match (known.record, self.request.no_cache) {
            (Some(record), false) => record.layer,
            _ => self.write_context(local, selected, &target, &step, known.previous).await?,
        };
        Ok(Some(ContextLayer { layer, path, digest }))
    }

    async fn write_context(
        &self,
        local: &Arc<Local>,
        selected: Selected,
        target: &Target,
        step: &Identity,
        previous: Option<String>,
    ) -> Result<String, Error> {
        let mut sources = Sources::default();
        sources.found.push((Found::Context { local: Arc::clone(local), selected }, Filter::default()));
        let tree = Tree { previous: previous.unwrap_or_default(), made: Made::default(), ..Tree::default() };
        Ok(write::layer(self, &sources, target, false, (tree, step)).await?.layer)
    }
}
