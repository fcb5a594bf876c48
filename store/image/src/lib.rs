//! Image formats: documents (manifests, indexes, configs), platforms, OCI layouts and docker-archives, compression.
//! Synchronous, and without a store: bytes come from a [`BlobSource`], by digest.
//!
//! # How a store uses it
//!
//! Everything that holds images is a source: a store (it implements [`BlobSource`] over its blobs), and an opened
//! [`Archive`] (a stream; OCI layout or docker-archive). A [`Plan`] is made from a source and from
//! [`Root`]s, the things that names point at: it walks indexes, manifests and configs, checks them and each other, picks
//! platforms, and lists the blobs that are needed, once each. Nothing but documents is read for that. A plan is then
//! carried out:
//!
//! ```text
//! load   Archive::from_file   ─► archive.roots() ─► Plan::new(&archive, …) ─► the store takes plan.blobs()
//!                                                         plan.roots: what to name, with names
//! save   store names          ─► Root::new(…)    ─► Plan::new(&store, …)   ─► save::tar
//! pull   as load, with a registry as the source; the store may also take plan.blobs() and fetch them side by side
//! ```
//!
//! What the store must still do: check diff-ids of compressed layers while it unpacks them (only that inflates them; an
//! uncompressed layer's diff-id is its digest), hold a lease over what it has taken until the image is named, and name
//! the image last. Of what a [`Checked`] reader gives it may keep a blob only after that has returned `Ok(0)`: that is
//! where size and digest have been checked. `export` and `import` of flat trees are the business of strata-archive.
//!
//! What must stay true: documents are never re-encoded on the way, so digests stay; every size is checked before
//! memory is taken for it; names inside archives never reach a file system as paths.

mod archive;
mod blob;
mod compress;
mod config;
mod document;
mod error;
mod limits;
mod media;
mod plan;
mod platform;
pub mod save;

pub use archive::{Archive, Format, Part, PartReader, Passing, Taken, Taker};
pub use blob::{Blob, BlobSource, Checked, digest};
pub use compress::{Codec, Compressed, Compressor};
pub use config::Config;
pub use document::{Document, Entry, Index, Kind, Manifest};
pub use error::{Error, Result};
pub use limits::Limits;
pub use media::{Distribution, LayerType, layer_type};
pub use plan::{BlobKind, Image, Plan, Planned, PlannedRoot, Root};
pub use platform::{Platforms, choose, host, preferences};
