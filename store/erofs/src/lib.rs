//! Layers as EROFS images: one file that the kernel mounts, made in one pass from a tar stream.
//!
//! The image holds the archive itself, byte for byte, and behind it what the kernel needs to see a tree: inodes whose
//! contents are where the archive has them. So writing a layer is copying its archive, the archive can be had again
//! by reading a range of the file, and one file is what is synced and deleted. What an archive means is strata-archive's
//! to say ([`strata_archive::index`]). Blocks have 512 bytes, as archives have.
//!
//! Many trees become one without a byte of their contents being copied: an [`Index`] is an image of metadata alone.
//!
//! Start at [`write`](fn@write), [`archive`](fn@archive), [`mount`](fn@mount) and [`Index`].

mod data;
mod error;
mod format;
mod index;
mod layout;
mod mount;
mod read;
mod write;

pub use error::Error;
pub use index::{Attributes, Directory, Index, Seen};
pub use mount::mount;
pub use read::devices;
pub use write::{archive, write};
