//! Rows of images: one platform each, with its layers unpacked. An image needs its manifest, its config and its layers;
//! every operation that names one checks that they are there. A name leads to images by way of documents.

use rusqlite::{Row, Transaction, params};
use strata_types::{Digest, LayerId, LeaseId, Platform};

use super::documents::{self, NewDocument};
use super::{Catalog, Durability, Held, PROJECT, blobs, layers, leases, names, now};
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
    /// Blobs (digest, size) to make visible with it, all on disk: config and documents.
    pub blobs: Vec<(Digest, u64)>,
    /// Documents to write down with it: its manifest, unless that is known, and what leads to it.
    pub documents: Vec<NewDocument>,
    /// What its names shall point at: its manifest, or an index that leads there.
    pub target: Digest,
    /// Lease to hold the image; none: nothing but its names keeps it from being pruned.
    pub lease: Option<LeaseId>,
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
    row.names = names::of_image(transaction, &row.id)?;
    let mut statement = transaction
        .prepare_cached("SELECT layer_id FROM image_layers WHERE project = ? AND image_id = ? ORDER BY position")?;
    let ids = statement.query_and_then(params![PROJECT, row.id.to_string()], |row| layers::layer_id(row.get(0)?))?;
    row.layers = ids.collect::<Result<_>>()?;
    Ok(row)
}

pub(super) fn by_id(transaction: &Transaction<'_>, id: &str) -> Result<Option<ImageRow>> {
    let mut statement =
        transaction.prepare_cached(&format!("SELECT {COLUMNS} FROM images WHERE project = ? AND id = ?"))?;
    let found = statement.query(params![PROJECT, id])?.next()?.map(image).transpose()?;
    found.map(|row| complete(transaction, row)).transpose()
}

/// What a text leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Located {
    /// A name, and what it points at.
    Name(String, Digest),
    /// A document, by digest.
    Document(Digest),
    /// An image, by id.
    Image(Digest),
}

pub(super) fn locate(transaction: &Transaction<'_>, wanted: &Wanted) -> Result<Located> {
    let not_found = || Error::ImageNotFound { reference: wanted.text.clone() };
    if let Some(digest) = &wanted.manifest {
        if documents::find(transaction, digest)?.is_some() {
            return Ok(Located::Document(*digest));
        }
        let image = by_id(transaction, &digest.to_string())?.ok_or_else(not_found)?;
        return Ok(Located::Image(image.id));
    }
    if let Some(name) = &wanted.name
        && let Some(target) = names::target(transaction, name)?
    {
        return Ok(Located::Name(name.clone(), target));
    }
    let Some(prefix) = &wanted.prefix else { return Err(not_found()) };
    let mut statement = transaction.prepare_cached(
        "SELECT id FROM images WHERE project = ?1 AND id >= ?2 AND id < ?2 || 'g' ORDER BY id LIMIT 5",
    )?;
    let start = format!("sha256:{prefix}");
    let ids: Vec<String> = statement.query_map(params![PROJECT, start], |row| row.get(0))?.collect::<Result<_, _>>()?;
    match ids.as_slice() {
        [] => match Digest::from_hex(prefix) {
            Some(digest) if documents::find(transaction, &digest)?.is_some() => Ok(Located::Document(digest)),
            _ => Err(not_found()),
        },
        [id] => Ok(Located::Image(blobs::digest(id.clone())?)),
        _ => {
            let short: Vec<_> = ids.iter().map(|id| &id[7..19]).collect();
            Err(Error::ImageAmbiguous { prefix: prefix.clone(), candidates: short.join(", ") })
        }
    }
}

/// The images that a document leads to, in the order of its indexes.
pub(super) fn reached(transaction: &Transaction<'_>, target: &Digest) -> Result<Vec<ImageRow>> {
    let mut rows = Vec::new();
    for found in documents::manifests(transaction, target)? {
        if let Some(mut row) = by_id(transaction, &found.config.to_string())? {
            // Several manifests may have the same config, with layers that are compressed in another way.
            (row.manifest, row.manifest_size) = (found.manifest.digest, found.manifest.size);
            rows.push(row);
        }
    }
    Ok(rows)
}

/// The image that is meant: of several the best for the platform. Where none suits this host, and no platform was
/// asked for, it is the first.
fn find(transaction: &Transaction<'_>, wanted: &Wanted) -> Result<(ImageRow, Located)> {
    let located = locate(transaction, wanted)?;
    let (Located::Name(_, target) | Located::Document(target)) = &located else {
        let Located::Image(id) = &located else { unreachable!("the other two were matched above") };
        let row = by_id(transaction, &id.to_string())?;
        let row = row.ok_or_else(|| Error::ImageNotFound { reference: wanted.text.clone() })?;
        wanted.platforms.check(&wanted.text, &row.platform)?;
        return Ok((row, located));
    };
    let mut rows = reached(transaction, target)?;
    let platforms: Vec<&Platform> = rows.iter().map(|row| &row.platform).collect();
    match wanted.platforms.best(&platforms) {
        Some(best) => Ok((rows.swap_remove(best), located)),
        None => Err(Error::ImageNotUnpacked { reference: wanted.text.clone(), target: *target }),
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

/// Holds an image with all that it needs, and the document that led to it.
fn hold_all(transaction: &Transaction<'_>, row: &ImageRow, target: &Digest, lease: &LeaseId) -> Result<()> {
    leases::hold(transaction, lease, Held::Image, &row.id.to_string())?;
    for digest in [&row.id, &row.manifest, target] {
        leases::add(transaction, lease, Held::Blob, &digest.to_string())?;
    }
    row.layers.iter().try_for_each(|id| leases::add(transaction, lease, Held::Layer, id.as_str()))
}

/// Whether an image is there as it is to be made, on disk, and its names lead to it.
fn is_there(transaction: &Transaction<'_>, new: &NewImage) -> Result<bool> {
    let row = &new.image;
    let is_it = |found: ImageRow| found.manifest == row.manifest && found.layers == row.layers;
    let is_known = by_id(transaction, &row.id.to_string())?.is_some_and(is_it);
    if !is_known || check_graph(transaction, row).is_err() {
        return Ok(false);
    }
    for (digest, _) in &new.blobs {
        if !blobs::find(transaction, digest)?.is_some_and(|blob| blob.is_durable) {
            return Ok(false);
        }
    }
    for document in &new.documents {
        if documents::find(transaction, &document.row.digest)?.is_none() {
            return Ok(false);
        }
    }
    for name in &row.names {
        if names::target(transaction, name)? != Some(new.target) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes an image and sets its names.
fn make(transaction: &Transaction<'_>, new: &NewImage) -> Result<ImageRow> {
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
    for document in &new.documents {
        documents::insert(transaction, document)?;
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
        names::set(transaction, name, &new.target)?;
    }
    if let Some(lease) = &new.lease {
        hold_all(transaction, row, &new.target, lease)?;
    }
    by_id(transaction, &row.id.to_string())?.ok_or_else(|| Error::ImageNotFound { reference: row.id.to_string() })
}

impl Catalog {
    /// Makes an image and sets its names in one operation; its layers and blobs become durable with it: the caller
    /// has synced them.
    pub async fn create_image(&self, new: NewImage) -> Result<ImageRow> {
        let attempt = "make an image";
        // What a build finds in its cache makes the image that is there: nothing new has to be on disk then.
        let same = new.clone();
        let again = move |transaction: &Transaction<'_>| {
            is_there(transaction, &same)?.then(|| make(transaction, &same)).transpose()
        };
        if let Some(row) = self.write(attempt, Durability::Relaxed, again).await? {
            return Ok(row);
        }
        self.write(attempt, Durability::Full, move |transaction| make(transaction, &new)).await
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
                    let (row, located) = find(transaction, &wanted)?;
                    let target = match located {
                        Located::Name(_, target) | Located::Document(target) => target,
                        Located::Image(_) => row.manifest,
                    };
                    hold_all(transaction, &row, &target, &lease)?;
                    with_layers(transaction, row)
                })
                .await
            }
        }
    }

    /// The document that a text leads to, and the full name if the text is one.
    pub(crate) async fn locate_document(&self, wanted: Wanted) -> Result<(Digest, Option<String>)> {
        self.read("find an image", move |transaction| match locate(transaction, &wanted)? {
            Located::Name(name, target) => Ok((target, Some(name))),
            Located::Document(digest) => Ok((digest, None)),
            Located::Image(id) => match by_id(transaction, &id.to_string())? {
                Some(row) => Ok((row.manifest, None)),
                None => Err(Error::ImageNotFound { reference: wanted.text }),
            },
        })
        .await
    }

    /// The names that lead to an image, ordered.
    pub async fn names_of_image(&self, id: &Digest) -> Result<Vec<String>> {
        let id = *id;
        self.read("find the names of an image", move |transaction| names::of_image(transaction, &id)).await
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

    /// Gives what a text leads to a further name: with an index all of it. Returns the image, and the id of the one
    /// that the name led to before.
    pub(crate) async fn tag_image(&self, wanted: Wanted, name: String) -> Result<(ImageRow, Option<Digest>)> {
        self.write("tag an image", Durability::Full, move |transaction| {
            let (row, located) = find(transaction, &wanted)?;
            check_graph(transaction, &row)?;
            let target = match located {
                Located::Name(_, target) | Located::Document(target) => target,
                Located::Image(_) => row.manifest,
            };
            let previous = names::set(transaction, &name, &target)?;
            let previous = match previous.filter(|previous| *previous != target) {
                Some(previous) => {
                    let rows = reached(transaction, &previous)?;
                    let platforms: Vec<&Platform> = rows.iter().map(|row| &row.platform).collect();
                    wanted.platforms.best(&platforms).map(|best| rows[best].id)
                }
                None => None,
            };
            Ok((complete(transaction, row)?, previous))
        })
        .await
    }
}
