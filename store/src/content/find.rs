//! Where contents are, asked for many at a time: a file of a layer is looked for by name and looked at once.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rusqlite::{Rows, params};
use rustix::fs::{CWD, FileType};
use strata_types::LayerId;

use super::{Contents, Found, Result, lock};
use crate::tree::Metadata;

/// The trees of layers that were looked at; `None` for those that are gone or cannot be mounted.
type Trees = HashMap<String, Option<PathBuf>>;

impl Contents {
    /// Finds a content, in the layer `preferred` if it is there.
    pub fn find(&self, hash: &blake3::Hash, preferred: Option<&LayerId>) -> Option<Found> {
        self.find_all(std::slice::from_ref(hash), preferred).pop().flatten()
    }

    /// Finds contents, in the order of the list.
    pub fn find_all(&self, hashes: &[blake3::Hash], preferred: Option<&LayerId>) -> Vec<Option<Found>> {
        let in_layers = self.find_in_layers(hashes, preferred);
        let mut found = in_layers.unwrap_or_else(|_| hashes.iter().map(|_| None).collect());
        let state = lock(&self.state);
        for (found, hash) in found.iter_mut().zip(hashes) {
            if found.is_none() && state.staged.contains(hash) {
                *found = Some(Found::Staged(self.staged_path(hash)));
            }
        }
        found
    }

    fn find_in_layers(&self, hashes: &[blake3::Hash], preferred: Option<&LayerId>) -> Result<Vec<Option<Found>>> {
        let mut index = self.index();
        // One snapshot for all questions: each would otherwise lock the database for itself.
        let index = index.transaction()?;
        // Every version of a layer holds what did not change in it: one look finds the one that is wanted.
        let mut there =
            index.prepare_cached("SELECT layer, path, size FROM content WHERE blake3 = ?1 AND layer = ?2")?;
        let mut anywhere = index.prepare_cached("SELECT layer, path, size FROM content WHERE blake3 = ?1 LIMIT 64")?;
        let mut trees = Trees::new();
        let mut find = |hash: &blake3::Hash| {
            let hash = hash.as_bytes().as_slice();
            if let Some(layer) = preferred {
                let found = self.first_whole(there.query(params![hash, layer.as_str()])?, &mut trees)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            self.first_whole(anywhere.query([hash])?, &mut trees)
        };
        hashes.iter().map(&mut find).collect()
    }

    /// The first of these files that is there as it should be.
    fn first_whole(&self, mut rows: Rows<'_>, trees: &mut Trees) -> Result<Option<Found>> {
        while let Some(row) = rows.next()? {
            let layer = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
            let path = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            let size: i64 = row.get(2)?;
            if !trees.contains_key(layer) {
                trees.insert(layer.to_owned(), self.layers.tree(layer).ok());
            }
            let Some(Some(tree)) = trees.get(layer) else { continue };
            let path = tree.join(OsStr::from_bytes(path));
            let Ok(metadata) = Metadata::at(CWD, &path) else { continue };
            if metadata.kind() == FileType::RegularFile && metadata.size == size as u64 {
                return Ok(Some(Found::Layer(path, metadata)));
            }
        }
        Ok(None)
    }
}
