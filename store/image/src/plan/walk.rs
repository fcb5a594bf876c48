//! The walk from a root down to its blobs. It ends whatever documents say: depth, entries and bytes are counted, and
//! a document is entered once per root.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use strata_archive::Compression;
use strata_types::{Descriptor, Digest, Platform, media_type};

use super::{BlobKind, Image, Planned, PlannedRoot, Root};
use crate::{
    BlobSource, Config, Document, Entry, Error, Index, Kind, Limits, Manifest, Platforms, Result, blob, layer_type,
    platform,
};

pub(super) struct Walk<'a> {
    source: &'a dyn BlobSource,
    limits: &'a Limits,
    blobs: BTreeMap<Digest, Planned>,
    /// Indexes in the order in which they were left: inner ones before those that hold them.
    left: BTreeMap<Digest, usize>,
    documents_left: u64,
}

/// What became of a manifest.
enum Taken {
    Image(Box<Image>),
    Attached,
    /// This blob of it is not in the source.
    Missing(Digest),
}

impl<'a> Walk<'a> {
    pub(super) fn new(source: &'a dyn BlobSource, limits: &'a Limits) -> Self {
        Self { source, limits, blobs: BTreeMap::new(), left: BTreeMap::new(), documents_left: limits.max_documents }
    }

    /// Returns the blobs that were found, in the order of a plan.
    pub(super) fn finish(self) -> Vec<Planned> {
        let mut blobs: Vec<Planned> = self.blobs.into_values().collect();
        let left = |digest: &Digest| Reverse(self.left.get(digest).copied());
        blobs.sort_by_key(|blob| (blob.kind, left(&blob.descriptor.digest), blob.descriptor.digest));
        blobs
    }

    /// Walks from one root.
    pub(super) fn root(&mut self, root: &Root, platforms: &Platforms) -> Result<PlannedRoot> {
        let what = root.to_string();
        let mut found = PlannedRoot {
            descriptor: root.descriptor.clone(),
            names: root.names.clone(),
            tag: root.tag.clone(),
            images: vec![],
            attached: vec![],
            absent: vec![],
        };
        let missing = |digest| Error::BlobMissing { digest, needed_by: what.clone() };
        let Some(mut document) = self.document(&root.descriptor)? else { return Err(missing(root.descriptor.digest)) };
        // Without the annotations of the entry that it came from.
        found.descriptor = document.descriptor.clone();
        if let Kind::Index(index) = &document.kind {
            match platforms.preferences() {
                None => {
                    self.index(&document.descriptor, index, 1, &mut found, &mut BTreeSet::new())?;
                    return if found.images.is_empty() && found.attached.is_empty() {
                        Err(Error::NoImage { what })
                    } else {
                        Ok(found)
                    };
                }
                Some((wanted, preferences)) => {
                    let chosen = self.choose(&what, index, wanted, &preferences)?;
                    document = self.document(&chosen)?.ok_or_else(|| missing(chosen.digest))?;
                    found.descriptor = document.descriptor.clone();
                }
            }
        }
        let Kind::Manifest(manifest) = &document.kind else {
            return Err(Error::document(what, "an index was chosen where an image should be"));
        };
        match self.manifest(&document.descriptor, manifest, manifest.is_image())? {
            Taken::Missing(digest) => return Err(missing(digest)),
            Taken::Attached => found.attached.push(document.descriptor),
            Taken::Image(image) => {
                platforms.check(&what, &image.platform)?;
                found.images.push(*image);
            }
        }
        Ok(found)
    }

    /// Takes an index with all that is there of it.
    fn index(
        &mut self,
        descriptor: &Descriptor,
        index: &Index,
        depth: u32,
        found: &mut PlannedRoot,
        visited: &mut BTreeSet<Digest>,
    ) -> Result<()> {
        self.check_depth(descriptor, depth)?;
        visited.insert(descriptor.digest);
        for entry in &index.manifests {
            if !visited.insert(entry.descriptor.digest) {
                continue;
            }
            let media_type = entry.descriptor.media_type.as_str();
            if !media_type::is_index(media_type) && !media_type::is_manifest(media_type) {
                self.opaque(&entry.descriptor, found)?;
                continue;
            }
            let Some(document) = self.document(&entry.descriptor)? else {
                found.absent.push(entry.descriptor.clone());
                continue;
            };
            match &document.kind {
                Kind::Index(inner) => self.index(&document.descriptor, inner, depth + 1, found, visited)?,
                Kind::Manifest(manifest) => {
                    let is_image = manifest.is_image() && !is_attestation(entry);
                    match self.manifest(&document.descriptor, manifest, is_image)? {
                        Taken::Image(image) => found.images.push(*image),
                        Taken::Attached => found.attached.push(document.descriptor),
                        Taken::Missing(_) => found.absent.push(entry.descriptor.clone()),
                    }
                }
            }
        }
        self.add(descriptor, BlobKind::Index)?;
        let position = self.left.len();
        self.left.entry(descriptor.digest).or_insert(position);
        Ok(())
    }

    /// Takes content of an index that is neither manifest nor index, if it is there.
    fn opaque(&mut self, descriptor: &Descriptor, found: &mut PlannedRoot) -> Result<()> {
        if self.is_there(descriptor)? {
            self.add(descriptor, BlobKind::Layer)?;
            found.attached.push(descriptor.clone());
        } else {
            found.absent.push(descriptor.clone());
        }
        Ok(())
    }

    /// Takes a manifest with its config and layers, all or none.
    fn manifest(&mut self, descriptor: &Descriptor, manifest: &Manifest, is_image: bool) -> Result<Taken> {
        let what = format!("manifest {}", descriptor.digest);
        let mut needed = vec![];
        for entry in &manifest.layers {
            match self.is_there(&entry.descriptor)? {
                true => needed.push(&entry.descriptor),
                false if entry.is_foreign() => {}
                false => return Ok(Taken::Missing(entry.descriptor.digest)),
            }
        }
        let config = &manifest.config.descriptor;
        let taken = if is_image {
            let Some(checked) = self.config(config)? else { return Ok(Taken::Missing(config.digest)) };
            check_layers(&what, manifest, &checked)?;
            Taken::Image(Box::new(Image {
                manifest: descriptor.clone(),
                config: Descriptor::new(&*config.media_type, config.digest, config.size),
                platform: checked.platform,
                layers: manifest.layers.clone(),
                diff_ids: checked.diff_ids,
            }))
        } else if self.is_there(config)? {
            Taken::Attached
        } else {
            return Ok(Taken::Missing(config.digest));
        };
        self.add(descriptor, BlobKind::Manifest)?;
        self.add(config, BlobKind::Config)?;
        for layer in needed {
            self.add(layer, BlobKind::Layer)?;
        }
        Ok(taken)
    }

    /// Chooses the best image of an index, those of inner indexes included.
    fn choose(&mut self, what: &str, index: &Index, wanted: Platform, preferences: &[Platform]) -> Result<Descriptor> {
        let mut candidates = vec![];
        self.candidates(index, 1, &mut BTreeSet::new(), &mut candidates)?;
        let mut ranked: Vec<_> = candidates
            .iter()
            .filter_map(|(descriptor, platform)| Some((platform::rank(platform, preferences)?, descriptor)))
            .collect();
        // Stable: the first of equals, as the order of an index is a preference too.
        ranked.sort_by_key(|(rank, _)| *rank);
        for (_, descriptor) in &ranked {
            if self.is_there(descriptor)? {
                return Ok((*descriptor).clone());
            }
        }
        match ranked.first() {
            Some((_, best)) => Err(Error::BlobMissing { digest: best.digest, needed_by: what.to_owned() }),
            None => {
                let mut available: Vec<_> = candidates.into_iter().map(|(_, platform)| platform).collect();
                available.sort();
                available.dedup();
                Err(Error::NoPlatform { what: what.to_owned(), wanted, available })
            }
        }
    }

    /// Lists the images of an index with their platforms; where an entry does not name one, its config does.
    fn candidates(
        &mut self,
        index: &Index,
        depth: u32,
        visited: &mut BTreeSet<Digest>,
        candidates: &mut Vec<(Descriptor, Platform)>,
    ) -> Result<()> {
        for entry in &index.manifests {
            let descriptor = &entry.descriptor;
            if is_attestation(entry) || !visited.insert(descriptor.digest) {
                continue;
            }
            if media_type::is_index(&descriptor.media_type) {
                self.check_depth(descriptor, depth + 1)?;
                if let Some(Document { kind: Kind::Index(inner), .. }) = self.document(descriptor)? {
                    self.candidates(&inner, depth + 1, visited, candidates)?;
                }
            } else if media_type::is_manifest(&descriptor.media_type) {
                let platform = match &entry.platform {
                    Some(platform) => Some(platform.clone()),
                    None => self.platform_of(descriptor)?,
                };
                candidates.extend(platform.map(|platform| (descriptor.clone(), platform)));
            }
        }
        Ok(())
    }

    /// Reads the platform of an image from its config; none if it is not there or no image.
    fn platform_of(&mut self, descriptor: &Descriptor) -> Result<Option<Platform>> {
        match self.document(descriptor)? {
            Some(Document { kind: Kind::Manifest(manifest), .. }) if manifest.is_image() => {
                Ok(self.config(&manifest.config.descriptor)?.map(|config| config.platform))
            }
            _ => Ok(None),
        }
    }

    /// Reads and checks a manifest or an index; none if it is not there.
    fn document(&mut self, descriptor: &Descriptor) -> Result<Option<Document>> {
        let what = format!("document {}", descriptor.digest);
        self.spend(&what, descriptor.size, self.limits.max_manifest)?;
        let Some(bytes) = blob::read(self.source, descriptor)? else { return Ok(None) };
        Document::parse(bytes, &descriptor.media_type, self.limits).map(Some)
    }

    /// Reads and checks a config; none if it is not there.
    fn config(&mut self, descriptor: &Descriptor) -> Result<Option<Config>> {
        let what = format!("config {}", descriptor.digest);
        self.spend(&what, descriptor.size, self.limits.max_config)?;
        let Some(bytes) = blob::read(self.source, descriptor)? else { return Ok(None) };
        Config::parse(&bytes, &what, self.limits).map(Some)
    }

    /// Counts the bytes of a document before they are read.
    fn spend(&mut self, what: &str, size: u64, limit: u64) -> Result<()> {
        if size > limit {
            return Err(Error::limit(what, "bytes", limit));
        }
        let total = self.limits.max_documents;
        let left = self.documents_left.checked_sub(size);
        self.documents_left = left.ok_or_else(|| Error::limit("the documents of all images", "bytes", total))?;
        Ok(())
    }

    fn check_depth(&self, descriptor: &Descriptor, depth: u32) -> Result<()> {
        let limit = self.limits.max_depth;
        if depth <= limit {
            return Ok(());
        }
        Err(Error::limit(format!("index {}", descriptor.digest), "levels of indexes", u64::from(limit)))
    }

    /// Says whether the source has a blob; one of another size is an error.
    fn is_there(&self, descriptor: &Descriptor) -> Result<bool> {
        let Descriptor { digest, size: expected, .. } = *descriptor;
        let failed = |source| Error::Source { digest, source };
        match self.source.size(&digest).map_err(|error| Error::unwrap_io(error, failed))? {
            Some(actual) if actual != expected => Err(Error::SizeMismatch { digest, expected, actual }),
            found => Ok(found.is_some()),
        }
    }

    /// Puts a blob in the plan. Documents about it must agree on what it is and how large.
    fn add(&mut self, descriptor: &Descriptor, kind: BlobKind) -> Result<()> {
        let Descriptor { digest, size, .. } = *descriptor;
        let new = Planned { descriptor: Descriptor::new(&*descriptor.media_type, digest, size), kind };
        let known = self.blobs.entry(digest).or_insert_with(|| new.clone());
        if known.descriptor.size != size {
            return Err(Error::document(format!("blob {digest}"), "documents give it different sizes"));
        }
        let (first, second) = (known.kind.min(kind), known.kind.max(kind));
        if (first, second) == (BlobKind::Index, BlobKind::Manifest) {
            let reason = "one document calls it a manifest, another an index".to_owned();
            return Err(Error::Confused { what: format!("blob {digest}"), reason });
        }
        if kind < known.kind {
            *known = new;
        }
        Ok(())
    }
}

/// BuildKit's mark, or the platform that stands for "none" in entries that are not for running.
fn is_attestation(entry: &Entry) -> bool {
    let is_unknown = |platform: &Platform| platform.os == "unknown" && platform.architecture == "unknown";
    entry.is_attestation() || entry.platform.as_ref().is_some_and(is_unknown)
}

/// Checks that the layers of a manifest are those of its config, as far as that shows without inflating them.
fn check_layers(what: &str, manifest: &Manifest, config: &Config) -> Result<()> {
    let (layers, diff_ids) = (manifest.layers.len(), config.diff_ids.len());
    if layers != diff_ids {
        return Err(Error::document(what, format!("it has {layers} layers, its config {diff_ids} diff-ids")));
    }
    for (entry, diff_id) in manifest.layers.iter().zip(&config.diff_ids) {
        let Descriptor { media_type, digest, .. } = &entry.descriptor;
        let Some(kind) = layer_type(media_type) else {
            return Err(Error::LayerType { what: what.to_owned(), media_type: media_type.clone() });
        };
        if kind.compression == Compression::None && digest != diff_id {
            return Err(Error::DigestMismatch {
                what: format!("an uncompressed layer of {what}"),
                expected: *diff_id,
                actual: *digest,
            });
        }
    }
    Ok(())
}
