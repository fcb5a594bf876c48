//! Tar archives in and out of directories: confined, digested in the same pass, and reproducible to the byte.
//! Everything here is synchronous and works below a directory descriptor; nothing knows about images or the store.
//! Start at [`apply`](fn@apply) (tar to tree), [`index`](fn@index) (the same without a tree), [`diff`](fn@diff) (tree to
//! tar) and [`Toc`] (what ties them together).

mod apply;
mod compress;
mod diff;
mod digest;
mod entry;
mod error;
mod export;
mod gunzip;
mod header;
mod kernel;
mod member;
pub mod owner;
mod pax;
mod place;
mod recipe;
mod stream;
mod toc;
mod tree;
mod usage;
mod verify;
mod write;

pub use apply::{Applied, ApplyOptions, Limits, OverlayXattrs, Privileges, Replaces, Whiteouts, apply, index};
pub use compress::{Compression, decompress, decompress_ahead};
pub use diff::{DiffOptions, Times, diff, pack, pack_some};
pub use error::{Error, Name};
pub use export::{Exported, export, export_one};
pub use kernel::is_of_the_kernel;
pub use member::{Member, MemberKind, MemberWriter, each_member, members};
pub use recipe::{Part, Recipe, decoder, encoder};
pub use toc::{Listed, ListedKind, Stored, Toc};
pub use usage::disk_usage;
pub use verify::{Damage, verify};
