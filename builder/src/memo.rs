//! What earlier builds found in the files of an image that was at its registry: where it is there again, they need not be
//! fetched to find the same.

use crate::context::Blake3;
use crate::error::Error;
use crate::image::Draft;
use crate::key::Key;
use crate::solve::Build;

impl Build {
    /// The answer that the files of a stage gave to a question. `None`: nobody has asked, or the files are here.
    pub async fn recall(&self, draft: &Draft, question: &Blake3) -> Result<Option<Blake3>, Error> {
        match (draft.here(), key(draft, question)) {
            (None, Some(key)) => self.store.recall(&key, &self.lease).await,
            _ => Ok(None),
        }
    }

    /// Keeps an answer, where the files came from a registry in this build.
    pub async fn memorize(&self, draft: &Draft, question: &Blake3, answer: Blake3, title: &str) -> Result<(), Error> {
        match key(draft, question) {
            Some(key) => self.store.memorize(&key, &answer, title).await,
            None => Ok(()),
        }
    }
}

/// Layers do not change: the same ones give the same answer.
fn key(draft: &Draft, question: &Blake3) -> Option<Blake3> {
    let (below, above) = draft.parts();
    Some(Key::root("memo").list(&below?.resolved.diff_ids).list(above).part(question).finish())
}
