//! Plans: which blobs make up the images that names point at, found by walking documents from their roots.
//! Whatever is wrong with an image without reading its layers is found here, before anything is moved.

mod walk;

use std::fmt;

use strata_types::{Descriptor, Digest, Platform, Reference};

use crate::{BlobSource, Entry, Error, Limits, Platforms, Result};
use walk::Walk;

/// What a name points at: a manifest or an index in some source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// Names of it; none for an image that is known by its digest alone.
    pub names: Vec<Reference>,
    /// A tag without a name, as OCI layouts have it.
    pub tag: Option<String>,
}

impl Root {
    /// A root with names.
    pub fn new(descriptor: Descriptor, names: Vec<Reference>) -> Self {
        Self { descriptor, names, tag: None }
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.names.first() {
            Some(name) => f.write_str(&name.familiar()),
            None => write!(f, "image {}", self.descriptor.digest),
        }
    }
}

/// One image that is complete in its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its config; the digest is the image id.
    pub config: Descriptor,
    /// What it is made for, by its config.
    pub platform: Platform,
    /// Its layers, bottom first; foreign ones may be missing in the source.
    pub layers: Vec<Entry>,
    /// Digests of the uncompressed layers, as many as layers. Of compressed ones they are a claim of the config.
    pub diff_ids: Vec<Digest>,
}

/// A root as it will be where the plan leads.
#[derive(Clone, Debug)]
pub struct PlannedRoot {
    /// What the names will point at: the root itself, or the one image of it that was chosen.
    pub descriptor: Descriptor,
    /// Names.
    pub names: Vec<Reference>,
    /// A tag without a name.
    pub tag: Option<String>,
    /// Its images, in the order of the index.
    pub images: Vec<Image>,
    /// Manifests that are no images: attestations and artifacts.
    pub attached: Vec<Descriptor>,
    /// Entries of the index that the source does not hold in full: it is sparse, which is allowed.
    pub absent: Vec<Descriptor>,
}

/// What a blob is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlobKind {
    /// An index.
    Index,
    /// A manifest.
    Manifest,
    /// A config.
    Config,
    /// A layer, or content of an artifact.
    Layer,
}

/// A blob of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Media type, digest and size; no annotations.
    pub descriptor: Descriptor,
    /// What it is for.
    pub kind: BlobKind,
}

/// Roots and all blobs that they need, each once.
#[derive(Clone, Debug)]
pub struct Plan {
    roots: Vec<PlannedRoot>,
    blobs: Vec<Planned>,
}

impl Plan {
    /// Walks from the roots and checks what it finds: documents against their descriptors and limits, configs against
    /// their manifests, sizes of layers against what the source has.
    ///
    /// An entry of an index that is not complete in the source is passed over; a root that is not complete is
    /// [`Error::BlobMissing`].
    pub fn new(source: &dyn BlobSource, roots: &[Root], platforms: &Platforms, limits: &Limits) -> Result<Self> {
        if roots.len() > limits.max_entries {
            return Err(Error::limit("the archive", "images", limits.max_entries as u64));
        }
        let mut walk = Walk::new(source, limits);
        let roots = roots.iter().map(|root| walk.root(root, platforms)).collect::<Result<_>>()?;
        Ok(Self { roots, blobs: walk.finish() })
    }

    /// The roots, in the order in which they were given.
    pub fn roots(&self) -> &[PlannedRoot] {
        &self.roots
    }

    /// All blobs: indexes, outer ones first; then manifests, configs and layers, each by digest. What refers to a blob
    /// stands before it.
    pub fn blobs(&self) -> &[Planned] {
        &self.blobs
    }

    /// Bytes of all blobs together.
    pub fn size(&self) -> u64 {
        self.blobs.iter().fold(0, |sum, blob| sum.saturating_add(blob.descriptor.size))
    }
}
