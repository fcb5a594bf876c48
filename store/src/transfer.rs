//! Transfers: images that go from one store to another, through a client that reaches both. The receiving store asks,
//! the sending store answers; see `strata/store/v1/transfers.proto`.
//!
//! What travels of a layer are the contents that the receiver lacks: it knows what it has by the index of contents, gets
//! the recipe of the archive, and makes the archive again, whose digest must be the diff-id of the config. Where little
//! would be spared a layer goes as a whole. Neither recipe nor contents nor the other store are believed anything.
//!
//! `send` answers; `receive` is about images, `layers` about how each layer comes, `rebuild` about those that are made
//! from contents, `pack` about contents that came; `peer` takes questions there and answers back.

mod layers;
mod pack;
mod peer;
mod rebuild;
mod receive;
mod send;

use bytes::Bytes;
use strata_types::{Descriptor, Digest};

pub use peer::Peer;
pub use receive::{Receive, Received, receive};
pub use send::send;

/// Bytes of the largest recipe that travels; a layer with a larger one goes as a whole.
const MOST_RECIPE: u64 = 32 << 20;

/// What a receiving store wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// What the name stands for.
    Image,
    /// A manifest or an index.
    Document(Digest),
    /// The bytes of a blob that follow an offset.
    Blob {
        /// Its digest.
        digest: Digest,
        /// Bytes that are not needed.
        offset: u64,
    },
    /// What is known of a layer.
    Layer {
        /// Of its uncompressed archive.
        diff_id: Digest,
        /// Of its blob.
        digest: Digest,
    },
    /// What an unpacked layer is made of beside its contents.
    Recipe(Digest),
    /// Contents of an unpacked layer.
    Contents {
        /// The layer.
        diff_id: Digest,
        /// A bit for each part of its recipe, lowest first.
        wanted: Bytes,
    },
    /// A layer as a compressed blob.
    Archive(Digest),
}

/// What an answer is; which fields are set says the question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// There is no such thing, and nothing follows.
    pub is_absent: bool,
    /// The store that answers.
    pub store_id: String,
    /// What the bytes are.
    pub descriptor: Option<Descriptor>,
    /// The document is of the store that answers, and known to nobody else.
    pub is_made_here: bool,
    /// The repository that has the compressed layer; empty: none is known.
    pub source: String,
    /// The compressed layer is in the store that answers.
    pub is_blob_here: bool,
    /// The layer is unpacked there.
    pub is_unpacked: bool,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// What comes; first.
    Head(Head),
    /// The next bytes.
    Chunk(Bytes),
    /// This was all; last.
    End,
}

/// A part of the answer to the question of this number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The question's number.
    pub id: u32,
    /// The part.
    pub part: Part,
}

/// What of a layer need not come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spared {
    /// The layer's blob.
    pub digest: Digest,
    /// Bytes of contents that are here.
    pub spared: u64,
    /// Bytes of contents that are to come.
    pub missing: u64,
}

/// Says whether a content is wanted by the bits of a question.
fn is_set(wanted: &[u8], place: usize) -> bool {
    wanted.get(place / 8).is_some_and(|byte| byte >> (place % 8) & 1 == 1)
}

#[cfg(test)]
mod tests;
