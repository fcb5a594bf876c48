//! How much of an image is read before it is trusted. Every size is checked against these before memory is taken for it.

/// Limits on documents and archives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one manifest or index. The distribution specification asks for at least 4 MB ("Pushing Manifests").
    pub max_manifest: u64,
    /// Bytes of one image config.
    pub max_config: u64,
    /// Bytes of all documents of one plan.
    pub max_documents: u64,
    /// Layers of one image.
    pub max_layers: usize,
    /// Entries of one index, and images of one archive.
    pub max_entries: usize,
    /// How deep indexes may nest; an index of manifests is 1.
    pub max_depth: u32,
    /// Header blocks of a tar archive.
    pub max_members: u64,
    /// Bytes of a compressed or streamed archive on the disk, after decompression.
    pub max_archive: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_manifest: 8 << 20,
            max_config: 16 << 20,
            max_documents: 256 << 20,
            max_layers: 1_000,
            max_entries: 10_000,
            max_depth: 4,
            max_members: 200_000,
            max_archive: 1 << 40,
        }
    }
}
