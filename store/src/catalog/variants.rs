//! What an image has for single platforms: which are here, and taking some of them away while their index stays. What is left
//! is an index that is sparse, as after a pull of one platform.

use std::collections::BTreeSet;

use rusqlite::{Transaction, params};
use strata_image::Error as ImageError;
use strata_types::{Digest, Platform};

use super::images::{self, Located};
use super::removal::{self, Removed};
use super::{Catalog, Durability, PROJECT, documents, names};
use crate::image::Wanted;
use crate::{Error, Result};

/// An image below a document, unpacked or not.
#[derive(Clone, Debug)]
struct Variant {
    manifest: Digest,
    config: Digest,
    /// As its config says, or else its index.
    platform: Option<Platform>,
}

/// The images below a document, itself included, in the order of indexes. Attestations are none.
fn below(transaction: &Transaction<'_>, target: &Digest) -> Result<Vec<Variant>> {
    let mut found = Vec::new();
    for reached in documents::manifests(transaction, target)? {
        let row = images::by_id(transaction, &reached.config.to_string())?;
        let platform = row.map(|row| row.platform).or(reached.platform);
        if platform.as_ref().is_none_or(|platform| platform.os != "unknown") {
            found.push(Variant { manifest: reached.manifest.digest, config: reached.config, platform });
        }
    }
    Ok(found)
}

fn platforms(variants: &[Variant]) -> Vec<Platform> {
    variants.iter().filter_map(|variant| variant.platform.clone()).collect()
}

/// Whether a lease that has no end yet holds a variant, or a repository its manifest by digest. A lease whose grace runs is
/// that of somebody who is gone.
fn is_held(transaction: &Transaction<'_>, variant: &Variant) -> Result<bool> {
    let mut statement = transaction.prepare_cached(
        "SELECT 1 FROM lease_refs r JOIN leases l ON l.project = r.project AND l.id = r.lease_id
         WHERE r.project = ?1 AND r.object IN (?2, ?3) AND l.expires IS NULL
         UNION ALL SELECT 1 FROM repository_documents WHERE project = ?1 AND digest = ?2 LIMIT 1",
    )?;
    Ok(statement.exists(params![PROJECT, variant.manifest.to_string(), variant.config.to_string()])?)
}

/// The variants for these platforms, each as it was named and not one that would do.
fn choose(wanted: &Wanted, here: &[Variant], asked: &[Platform]) -> Result<Vec<Variant>> {
    let mut chosen: Vec<Variant> = Vec::new();
    for platform in asked {
        let is_it = |variant: &&Variant| variant.platform.as_ref().is_some_and(|own| own.equals(platform));
        let found: Vec<_> = here.iter().filter(is_it).cloned().collect();
        if found.is_empty() {
            let (what, available) = (wanted.text.clone(), platforms(here));
            return Err(ImageError::NoPlatform { what, wanted: platform.clone(), available }.into());
        }
        chosen.extend(found);
    }
    Ok(chosen)
}

/// Refuses to take away what somebody needs.
fn check(transaction: &Transaction<'_>, wanted: &Wanted, variant: &Variant) -> Result<()> {
    let platform = variant.platform.as_ref().map(Platform::to_string).unwrap_or_default();
    let in_use = |by: &str| {
        let reason = format!("its image for {platform} is used by {by}");
        Err(Error::ImageInUse { reference: wanted.text.clone(), reason })
    };
    match removal::users(transaction, &variant.config)?.first() {
        Some((_, holder)) if !holder.is_empty() => in_use(&format!("{holder}, which has to be removed first")),
        Some((key, _)) => in_use(&format!("stopped container {key}, which has to be removed first")),
        None if is_held(transaction, variant)? => {
            in_use("something that goes on, or a repository that it was pushed to")
        }
        None => Ok(()),
    }
}

fn remove(
    transaction: &Transaction<'_>,
    wanted: &Wanted,
    asked: &[Platform],
    force: bool,
    discard: impl Fn(&Digest) -> Result<()>,
) -> Result<Removed> {
    let target = match images::locate(transaction, wanted)? {
        Located::Name(_, target) | Located::Document(target) => target,
        Located::Image(id) => {
            let row = images::by_id(transaction, &id.to_string())?;
            row.ok_or_else(|| Error::ImageNotFound { reference: wanted.text.clone() })?.manifest
        }
    };
    let going = choose(wanted, &below(transaction, &target)?, asked)?;
    let mut concerned = BTreeSet::new();
    for variant in &going {
        check(transaction, wanted, variant)?;
        concerned.extend(names::of_image(transaction, &variant.config)?);
    }
    if concerned.len() > 1 && !force {
        let names = concerned.into_iter().collect::<Vec<_>>().join(", ");
        let reason = format!("several names lead to it ({names}); force takes it from all of them");
        return Err(Error::ImageInUse { reference: wanted.text.clone(), reason });
    }
    let mut removed = Removed::default();
    for name in concerned {
        let Some(target) = names::target(transaction, &name)? else { continue };
        let stays = |variant: &Variant| going.iter().all(|other| other.manifest != variant.manifest);
        if !below(transaction, &target)?.iter().any(stays) {
            names::remove(transaction, &name)?;
            removed.untagged.push(name);
        }
    }
    for variant in &going {
        removal::delete(transaction, &variant.config)?;
        for table in ["documents", "blobs"] {
            transaction
                .prepare_cached(&format!("DELETE FROM {table} WHERE project = ? AND digest = ?"))?
                .execute(params![PROJECT, variant.manifest.to_string()])?;
        }
        // What it refers to is garbage now. Itself it is not, as its index refers to it.
        discard(&variant.manifest)?;
        if !removed.deleted.contains(&variant.config) {
            removed.deleted.push(variant.config);
        }
    }
    Ok(removed)
}

impl Catalog {
    /// Removes what an image has for some platforms: all of them, or nothing. `discard` moves the files of their manifests
    /// away in the same transaction.
    pub(crate) async fn remove_variants(
        &self,
        wanted: Wanted,
        platforms: Vec<Platform>,
        force: bool,
        discard: impl Fn(&Digest) -> Result<()> + Send + 'static,
    ) -> Result<Removed> {
        self.write("remove images of platforms", Durability::Full, move |transaction| {
            remove(transaction, &wanted, &platforms, force, discard)
        })
        .await
    }

    /// The platforms that a document has images for which are here, in the order of indexes.
    pub(crate) async fn platforms_below(&self, target: &Digest) -> Result<Vec<Platform>> {
        let target = *target;
        self.read("find platforms of an image", move |transaction| Ok(platforms(&below(transaction, &target)?))).await
    }
}
