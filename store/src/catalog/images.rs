//! Rows of images and their names. An image needs its manifest, its config and its layers; every operation that
//! names one checks that they are there.

use rusqlite::{OptionalExtension, Row, Transaction, params};
use strata_types::{Digest, LayerId, LeaseId, Platform};

use super::{Catalog, Durability, Held, PROJECT, blobs, layers, leases, now};
use crate::image::Wanted;
use crate::{Error, Result};

/// An image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRow {
    /// Digest of its config.
    pub id: Digest,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Size of its manifest in bytes.
    pub manifest_size: u64,
    /// When it was made, as its config says: milliseconds since 1970.
    pub made: Option<i64>,
    /// Bytes of its layers' contents.
    pub size: u64,
    /// What it runs on.
    pub platform: Platform,
    /// Its names, ordered.
    pub names: Vec<String>,
    /// Its layers, bottom first.
    pub layers: Vec<LayerId>,
}

/// An image to make: its files are in place.
#[derive(Clone, Debug)]
pub struct NewImage {
    /// The image; its names are set, moving from whatever had them.
    pub image: ImageRow,
    /// Blobs (digest, size) to make visible with it: config and manifest.
    pub blobs: Vec<(Digest, u64)>,
    /// Lease to hold the image; none: nothing but its names keeps it from being pruned.
    pub lease: Option<LeaseId>,
}

/// What a removal took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<String>,
    /// Images that are gone.
    pub deleted: Vec<Digest>,
}

const COLUMNS: &str = "id, manifest, manifest_size, made, size, os, architecture, variant";

fn image(row: &Row<'_>) -> Result<ImageRow> {
    let variant: String = row.get(7)?;
    Ok(ImageRow {
        id: blobs::digest(row.get(0)?)?,
        manifest: blobs::digest(row.get(1)?)?,
        manifest_size: row.get(2)?,
        made: row.get(3)?,
        size: row.get(4)?,
        platform: Platform {
            os: row.get(5)?,
            architecture: row.get(6)?,
            variant: Some(variant).filter(|text| !text.is_empty()),
        },
        names: Vec::new(),
        layers: Vec::new(),
    })
}

fn complete(transaction: &Transaction<'_>, mut row: ImageRow) -> Result<ImageRow> {
    let id = row.id.to_string();
    let mut statement =
        transaction.prepare_cached("SELECT name FROM image_names WHERE project = ? AND image_id = ? ORDER BY name")?;
    row.names = statement.query_map(params![PROJECT, id], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut statement = transaction
        .prepare_cached("SELECT layer_id FROM image_layers WHERE project = ? AND image_id = ? ORDER BY position")?;
    let ids = statement.query_and_then(params![PROJECT, id], |row| layers::layer_id(row.get(0)?))?;
    row.layers = ids.collect::<Result<_>>()?;
    Ok(row)
}

fn by_id(transaction: &Transaction<'_>, id: &str) -> Result<Option<ImageRow>> {
    let mut statement =
        transaction.prepare_cached(&format!("SELECT {COLUMNS} FROM images WHERE project = ? AND id = ?"))?;
    let found = statement.query(params![PROJECT, id])?.next()?.map(image).transpose()?;
    found.map(|row| complete(transaction, row)).transpose()
}

/// How an image was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Name,
    Id,
}

fn find(transaction: &Transaction<'_>, wanted: &Wanted) -> Result<(ImageRow, By)> {
    let not_found = || Error::ImageNotFound { reference: wanted.text.clone() };
    if let Some(manifest) = &wanted.manifest {
        let mut statement = transaction.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM images WHERE project = ?1 AND (manifest = ?2 OR id = ?2)"
        ))?;
        let found = statement.query(params![PROJECT, manifest.to_string()])?.next()?.map(image).transpose()?;
        return Ok((complete(transaction, found.ok_or_else(not_found)?)?, By::Id));
    }
    if let Some(name) = &wanted.name {
        let id: Option<String> = transaction
            .prepare_cached("SELECT image_id FROM image_names WHERE project = ? AND name = ?")?
            .query_row(params![PROJECT, name], |row| row.get(0))
            .optional()?;
        if let Some(id) = id {
            return Ok((by_id(transaction, &id)?.ok_or_else(not_found)?, By::Name));
        }
    }
    let Some(prefix) = &wanted.prefix else { return Err(not_found()) };
    let mut statement = transaction.prepare_cached(
        "SELECT id FROM images WHERE project = ?1 AND id >= ?2 AND id < ?2 || 'g' ORDER BY id LIMIT 5",
    )?;
    let start = format!("sha256:{prefix}");
    let ids: Vec<String> = statement.query_map(params![PROJECT, start], |row| row.get(0))?.collect::<Result<_, _>>()?;
    match ids.as_slice() {
        [] => Err(not_found()),
        [id] => Ok((by_id(transaction, id)?.ok_or_else(not_found)?, By::Id)),
        _ => {
            let short: Vec<_> = ids.iter().map(|id| &id[7..19]).collect();
            Err(Error::ImageAmbiguous { prefix: prefix.clone(), candidates: short.join(", ") })
        }
    }
}

/// Refuses an image whose parts are not all there and on disk.
fn check_graph(transaction: &Transaction<'_>, row: &ImageRow) -> Result<()> {
    for digest in [&row.id, &row.manifest] {
        let blob = blobs::find(transaction, digest)?.ok_or(Error::BlobNotFound { digest: *digest })?;
        if !blob.is_durable {
            return Err(Error::BlobDamaged { digest: *digest, problem: "it is not known to be on disk".to_owned() });
        }
    }
    for id in &row.layers {
        let layer = layers::usable(transaction, id)?;
        if layer.state != layers::LayerState::Ready || layer.diff_id.is_none() {
            let problem = "an image needs it on disk and described".to_owned();
            return Err(Error::LayerDamaged { id: id.clone(), problem });
        }
    }
    Ok(())
}

fn set_name(transaction: &Transaction<'_>, name: &str, id: &Digest) -> Result<Option<Digest>> {
    let previous: Option<String> = transaction
        .prepare_cached("SELECT image_id FROM image_names WHERE project = ? AND name = ?")?
        .query_row(params![PROJECT, name], |row| row.get(0))
        .optional()?;
    transaction
        .prepare_cached("INSERT OR REPLACE INTO image_names (project, name, image_id) VALUES (?, ?, ?)")?
        .execute(params![PROJECT, name, id.to_string()])?;
    previous.map(blobs::digest).transpose()
}

fn hold_all(transaction: &Transaction<'_>, row: &ImageRow, lease: &LeaseId) -> Result<()> {
    leases::hold(transaction, lease, Held::Image, &row.id.to_string())?;
    for digest in [&row.id, &row.manifest] {
        leases::add(transaction, lease, Held::Blob, &digest.to_string())?;
    }
    row.layers.iter().try_for_each(|id| leases::add(transaction, lease, Held::Layer, id.as_str()))
}

fn delete(transaction: &Transaction<'_>, id: &Digest) -> Result<()> {
    transaction
        .prepare_cached("DELETE FROM images WHERE project = ? AND id = ?")?
        .execute(params![PROJECT, id.to_string()])?;
    Ok(())
}

/// Keys of the snapshots that stand on an image, and who holds them.
fn users(transaction: &Transaction<'_>, id: &Digest) -> Result<Vec<(String, String)>> {
    let mut statement = transaction.prepare_cached(
        "SELECT key, holder FROM snapshots WHERE project = ? AND image_id = ? AND state <> 'deleting' ORDER BY key",
    )?;
    let rows = statement.query_map(params![PROJECT, id.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Docker's rules for what a removal may take.
fn remove(transaction: &Transaction<'_>, wanted: &Wanted, force: bool) -> Result<Removed> {
    let (row, by) = find(transaction, wanted)?;
    let in_use = |reason: String| Error::ImageInUse { reference: wanted.text.clone(), reason };
    let users = users(transaction, &row.id)?;
    let untag = transaction.prepare_cached("DELETE FROM image_names WHERE project = ? AND name = ?");
    let mut untag = untag?;
    if by == By::Name && row.names.len() > 1 {
        let name = wanted.name.clone().unwrap_or_default();
        untag.execute(params![PROJECT, name])?;
        return Ok(Removed { untagged: vec![name], deleted: Vec::new() });
    }
    if by == By::Id && row.names.len() > 1 && !force {
        return Err(in_use(format!(
            "it has several names ({}); remove them one by one, or use force",
            row.names.join(", ")
        )));
    }
    if let Some((key, holder)) = users.first() {
        if !holder.is_empty() {
            return Err(in_use(format!("it is used by {holder}")));
        }
        if !force {
            return Err(in_use(format!("it is used by stopped container {key}")));
        }
    }
    for name in &row.names {
        untag.execute(params![PROJECT, name])?;
    }
    // With force, what stopped containers need stays without a name, as an image that they still count as theirs.
    if !users.is_empty() {
        return Ok(Removed { untagged: row.names, deleted: Vec::new() });
    }
    delete(transaction, &row.id)?;
    Ok(Removed { untagged: row.names, deleted: vec![row.id] })
}

impl Catalog {
    /// Makes an image and sets its names in one operation; its layers and blobs become durable with it: the caller
    /// has synced them.
    pub async fn create_image(&self, new: NewImage) -> Result<ImageRow> {
        self.write("make an image", Durability::Full, move |transaction| {
            let row = &new.image;
            if let Some(lease) = &new.lease {
                leases::must_exist(transaction, lease)?;
            }
            for (digest, size) in &new.blobs {
                blobs::insert(transaction, digest, *size, None)?;
            }
            for id in &row.layers {
                layers::usable(transaction, id)?;
                layers::set_ready(transaction, id)?;
            }
            check_graph(transaction, row)?;
            transaction
                .prepare_cached(
                    "INSERT INTO images (project, id, manifest, manifest_size, made, size, os, architecture, variant, created)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
                     manifest = excluded.manifest, manifest_size = excluded.manifest_size",
                )?
                .execute(params![
                    PROJECT,
                    row.id.to_string(),
                    row.manifest.to_string(),
                    row.manifest_size,
                    row.made,
                    row.size,
                    row.platform.os,
                    row.platform.architecture,
                    row.platform.variant.as_deref().unwrap_or_default(),
                    now()
                ])?;
            transaction
                .prepare_cached("DELETE FROM image_layers WHERE project = ? AND image_id = ?")?
                .execute(params![PROJECT, row.id.to_string()])?;
            let mut statement = transaction
                .prepare_cached("INSERT INTO image_layers (project, image_id, position, layer_id) VALUES (?, ?, ?, ?)")?;
            for (position, id) in (0_i64..).zip(&row.layers) {
                statement.execute(params![PROJECT, row.id.to_string(), position, id.as_str()])?;
            }
            for name in &row.names {
                set_name(transaction, name, &row.id)?;
            }
            if let Some(lease) = &new.lease {
                hold_all(transaction, row, lease)?;
            }
            by_id(transaction, &row.id.to_string())?.ok_or_else(|| Error::ImageNotFound { reference: row.id.to_string() })
        })
        .await
    }

    /// Finds an image; with a lease, it and all that it needs are held from this call on.
    pub(crate) async fn image(
        &self,
        wanted: Wanted,
        lease: Option<LeaseId>,
    ) -> Result<(ImageRow, Vec<layers::LayerRow>)> {
        let attempt = "find an image";
        let with_layers = |transaction: &Transaction<'_>, row: ImageRow| {
            let layers = row.layers.iter().map(|id| layers::find(transaction, id)).collect::<Result<_>>()?;
            Ok((row, layers))
        };
        match lease {
            // Looking needs no writer, which others may be waiting for.
            None => {
                self.read(attempt, move |transaction| with_layers(transaction, find(transaction, &wanted)?.0)).await
            }
            Some(lease) => {
                self.write(attempt, Durability::Relaxed, move |transaction| {
                    let (row, _) = find(transaction, &wanted)?;
                    hold_all(transaction, &row, &lease)?;
                    with_layers(transaction, row)
                })
                .await
            }
        }
    }

    /// Lists images after an id, by id.
    pub async fn images(&self, after: &str, limit: usize) -> Result<Vec<ImageRow>> {
        let after = after.to_owned();
        self.read("list images", move |transaction| {
            let mut statement = transaction.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM images WHERE project = ? AND id > ? ORDER BY id LIMIT ?"
            ))?;
            let rows = statement.query_and_then(params![PROJECT, after, limit as i64], image)?;
            rows.map(|row| complete(transaction, row?)).collect()
        })
        .await
    }

    /// Gives an image a further name; returns the image, and the id of the one that had the name before.
    pub(crate) async fn tag_image(&self, wanted: Wanted, name: String) -> Result<(ImageRow, Option<Digest>)> {
        self.write("tag an image", Durability::Full, move |transaction| {
            let (row, _) = find(transaction, &wanted)?;
            check_graph(transaction, &row)?;
            let previous = set_name(transaction, &name, &row.id)?.filter(|previous| *previous != row.id);
            Ok((complete(transaction, row)?, previous))
        })
        .await
    }

    /// Removes a name, or an image with all its names.
    pub(crate) async fn remove_image(&self, wanted: Wanted, force: bool) -> Result<Removed> {
        self.write("remove an image", Durability::Full, move |transaction| remove(transaction, &wanted, force)).await
    }

    /// Removes images that nothing uses: those without a name, or all.
    pub async fn prune_images(&self, all: bool) -> Result<Removed> {
        self.write("prune images", Durability::Full, move |transaction| {
            let mut statement = transaction.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM images i WHERE project = ?1
                 AND (?2 OR NOT EXISTS (SELECT 1 FROM image_names n WHERE n.project = i.project AND n.image_id = i.id))
                 AND NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.project = i.project AND s.image_id = i.id AND s.state <> 'deleting')
                 AND NOT EXISTS (SELECT 1 FROM lease_refs r WHERE r.project = i.project AND r.kind = 'image' AND r.object = i.id)"
            ))?;
            let rows: Vec<ImageRow> = statement.query_and_then(params![PROJECT, all], image)?.collect::<Result<_>>()?;
            let mut removed = Removed::default();
            for row in rows {
                let row = complete(transaction, row)?;
                transaction
                    .prepare_cached("DELETE FROM image_names WHERE project = ? AND image_id = ?")?
                    .execute(params![PROJECT, row.id.to_string()])?;
                delete(transaction, &row.id)?;
                removed.untagged.extend(row.names);
                removed.deleted.push(row.id);
            }
            Ok(removed)
        })
        .await
    }
}
