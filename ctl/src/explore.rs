//! Looking into images: what each layer added, changed and removed, what the whole wastes, and a terminal view of it.
//!
//! `entry` reads what the store streams, `stack` puts layers on each other, `view` chooses what is shown of them; all
//! three are plain computing. `report` prints, `screen` draws and takes keys, `terminal` shows it.

pub mod entry;
pub mod history;
pub mod report;
pub mod rules;
pub mod screen;
pub mod stack;
pub mod terminal;
pub mod text;
pub mod view;

use history::Origin;
use stack::Stack;

/// An image with everything that its layers say of their files.
#[derive(Debug)]
pub struct Image {
    /// The name that was asked for.
    pub name: String,
    /// Digest of its config.
    pub id: String,
    /// What it runs on: "linux/amd64".
    pub platform: String,
    /// Its layers, bottom first.
    pub layers: Vec<Layer>,
    /// Their files.
    pub stack: Stack,
}

/// A layer of an image.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// Digest of its uncompressed tar.
    pub diff_id: String,
    /// What made it.
    pub origin: Origin,
}

impl Layer {
    /// The instruction that made it, as one safe line.
    pub fn instruction(&self) -> String {
        self.origin.instruction().map_or_else(|| "<missing>".to_owned(), |text| text::line(&text))
    }
}

impl Image {
    /// Bytes of all layers but the bottom one: what was put on the base.
    pub fn user_bytes(&self) -> u64 {
        self.stack.layers().iter().skip(1).map(|layer| layer.bytes).sum()
    }

    /// Wasted bytes as a share of those that were put on the base, 0 to 1. Waste without such bytes is all of them.
    pub fn user_wasted_share(&self) -> f64 {
        match (self.stack.wasted(), self.user_bytes()) {
            (0, _) => 0.0,
            (wasted, bytes) if wasted >= bytes => 1.0,
            (wasted, bytes) => wasted as f64 / bytes as f64,
        }
    }
}
