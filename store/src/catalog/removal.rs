//! Taking images away: by Docker's rules for a name or an image, or all that nothing uses.

use std::collections::{BTreeSet, HashSet};

use rusqlite::{Transaction, params};
use strata_types::Digest;

use super::images::{self, ImageRow, Located};
use super::{Catalog, Durability, PROJECT, names};
use crate::image::Wanted;
use crate::{Error, Result};

/// What a removal took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<String>,
    /// Images that are gone.
    pub deleted: Vec<Digest>,
}

/// Keys of the snapshots that stand on an image, and who holds them.
pub(super) fn users(transaction: &Transaction<'_>, id: &Digest) -> Result<Vec<(String, String)>> {
    let mut statement = transaction.prepare_cached(
        "SELECT key, holder FROM snapshots WHERE project = ? AND image_id = ? AND state <> 'deleting' ORDER BY key",
    )?;
    let rows = statement.query_map(params![PROJECT, id.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Forgets an image.
pub(super) fn delete(transaction: &Transaction<'_>, id: &Digest) -> Result<()> {
    transaction
        .prepare_cached("DELETE FROM images WHERE project = ? AND id = ?")?
        .execute(params![PROJECT, id.to_string()])?;
    Ok(())
}

/// What goes when names go: the images that no other name leads to.
fn left_nameless(transaction: &Transaction<'_>, going: &[String]) -> Result<Vec<ImageRow>> {
    let mut found: Vec<ImageRow> = Vec::new();
    for name in going {
        let Some(target) = names::target(transaction, name)? else { continue };
        for row in images::reached(transaction, &target)? {
            let is_new = found.iter().all(|other| other.id != row.id);
            if is_new && row.names.iter().all(|name| going.contains(name)) {
                found.push(row);
            }
        }
    }
    Ok(found)
}

fn remove(transaction: &Transaction<'_>, wanted: &Wanted, force: bool) -> Result<Removed> {
    let in_use = |reason: String| Error::ImageInUse { reference: wanted.text.clone(), reason };
    let (going, mut rows) = match images::locate(transaction, wanted)? {
        Located::Name(name, _) => (vec![name], Vec::new()),
        located => {
            let rows = match located {
                Located::Document(digest) => images::reached(transaction, &digest)?,
                Located::Image(id) => images::by_id(transaction, &id.to_string())?.into_iter().collect(),
                Located::Name(..) => Vec::new(),
            };
            if rows.is_empty() {
                return Err(Error::ImageNotFound { reference: wanted.text.clone() });
            }
            let going: BTreeSet<String> = rows.iter().flat_map(|row| row.names.clone()).collect();
            (going.into_iter().collect::<Vec<_>>(), rows)
        }
    };
    if !rows.is_empty() && going.len() > 1 && !force {
        let names = going.join(", ");
        return Err(in_use(format!("it has several names ({names}); remove them one by one, or use force")));
    }
    for row in left_nameless(transaction, &going)? {
        if rows.iter().all(|other| other.id != row.id) {
            rows.push(row);
        }
    }
    let mut removed = Removed { untagged: going, deleted: Vec::new() };
    for row in rows {
        match users(transaction, &row.id)?.first() {
            Some((_, holder)) if !holder.is_empty() => return Err(in_use(format!("it is used by {holder}"))),
            Some((key, _)) if !force => return Err(in_use(format!("it is used by stopped container {key}"))),
            // With force, what stopped containers need stays without a name, as an image that they still count as
            // theirs.
            Some(_) => {}
            None => {
                delete(transaction, &row.id)?;
                removed.deleted.push(row.id);
            }
        }
    }
    for name in &removed.untagged {
        names::remove(transaction, name)?;
    }
    Ok(removed)
}

/// Images that no container and no lease uses: those without a name, or all.
fn unused(transaction: &Transaction<'_>, all: bool) -> Result<Vec<ImageRow>> {
    let mut statement = transaction.prepare_cached(
        "SELECT i.id FROM images i WHERE i.project = ?1
         AND NOT EXISTS (SELECT 1 FROM snapshots s
                         WHERE s.project = i.project AND s.image_id = i.id AND s.state <> 'deleting')
         AND NOT EXISTS (SELECT 1 FROM lease_refs r
                         WHERE r.project = i.project AND r.kind = 'image' AND r.object = i.id)",
    )?;
    let ids: Vec<String> = statement.query_map(params![PROJECT], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut rows = Vec::new();
    for id in ids {
        rows.extend(images::by_id(transaction, &id)?.filter(|row| all || row.names.is_empty()));
    }
    Ok(rows)
}

impl Catalog {
    /// Removes a name, or an image with all its names.
    pub(crate) async fn remove_image(&self, wanted: Wanted, force: bool) -> Result<Removed> {
        self.write("remove an image", Durability::Full, move |transaction| remove(transaction, &wanted, force)).await
    }

    /// Images that nothing uses: those without a name, or all.
    pub(crate) async fn unused_images(&self, all: bool) -> Result<Vec<ImageRow>> {
        self.read("list images", move |transaction| unused(transaction, all)).await
    }

    /// Removes images that nothing uses: those without a name, or all. A name goes when all that it led to is gone.
    /// With `only` no other images.
    pub async fn prune_images(&self, all: bool, only: Option<HashSet<Digest>>) -> Result<Removed> {
        self.write("prune images", Durability::Full, move |transaction| {
            let mut rows = unused(transaction, all)?;
            rows.retain(|row| only.as_ref().is_none_or(|only| only.contains(&row.id)));
            let mut removed = Removed::default();
            for row in &rows {
                delete(transaction, &row.id)?;
                removed.deleted.push(row.id);
            }
            let names_of_gone: BTreeSet<&String> = rows.iter().flat_map(|row| &row.names).collect();
            for name in names_of_gone {
                let Some(target) = names::target(transaction, name)? else { continue };
                if images::reached(transaction, &target)?.is_empty() && names::remove(transaction, name)? {
                    removed.untagged.push(name.clone());
                }
            }
            Ok(removed)
        })
        .await
    }
}
