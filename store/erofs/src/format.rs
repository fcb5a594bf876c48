//! The format of EROFS on disk, as far as it is written here: linux/fs/erofs/erofs_fs.h.
//! All numbers are little-endian. Everything here turns values into bytes and decides nothing.

/// Bits of a block's size: 512 bytes, as in an archive.
pub(crate) const BLOCK_BITS: u32 = 9;
/// Bytes of a block.
pub(crate) const BLOCK: u64 = 1 << BLOCK_BITS;
/// Where the superblock is.
pub(crate) const SUPERBLOCK: u64 = 1024;
/// Bytes of a superblock.
const SUPERBLOCK_SIZE: usize = 128;
/// Bytes of an extended inode.
pub(crate) const INODE: u64 = 64;
/// An inode's number is its offset in the metadata in units of this.
pub(crate) const SLOT: u64 = 32;
/// Bytes of an entry of a directory, its name excepted.
pub(crate) const ENTRY: usize = 12;
/// A chunk of nothing but zeros.
pub(crate) const HOLE: u32 = u32::MAX;
/// Most doublings of a block's size in a chunk's.
pub(crate) const CHUNK_BITS: u32 = 31;
/// Bytes before the first attribute of an inode.
const ATTRIBUTES_HEADER: usize = 12;

const MAGIC: u32 = 0xe0f5_e1e2;
/// The time of an inode is that of its content.
const MTIME: u32 = 2;
/// Some files consist of chunks.
const CHUNKED: u32 = 4;

/// Classes of attributes, and the number that stands for each.
const CLASSES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// How the content of an inode is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// In consecutive blocks.
    Plain,
    /// Behind the inode.
    Inline,
    /// In chunks, listed behind the inode.
    Chunks,
}

/// What an inode says of itself.
pub(crate) struct Inode {
    pub(crate) layout: Layout,
    /// Bytes of attributes behind it.
    pub(crate) attributes: u64,
    /// Type and permission bits.
    pub(crate) mode: u16,
    pub(crate) size: u64,
    /// First block, device or format of chunks.
    pub(crate) place: u32,
    /// Number for those who look at 32 bits.
    pub(crate) number: u32,
    pub(crate) owner: (u32, u32),
    /// Seconds and nanoseconds.
    pub(crate) modified: (i64, u32),
    pub(crate) names: u32,
}

impl Inode {
    pub(crate) fn encode(&self) -> [u8; INODE as usize] {
        let layout: u16 = match self.layout {
            Layout::Plain => 0,
            Layout::Inline => 2,
            Layout::Chunks => 4,
        };
        let words = if self.attributes == 0 { 0 } else { (self.attributes - ATTRIBUTES_HEADER as u64) / 4 + 1 };
        let words = u16::try_from(words).expect("the layout refuses more attributes");
        let mut out = Bytes::<{ INODE as usize }>::new();
        // The lowest bit says that the inode is an extended one.
        out.put((layout << 1 | 1).to_le_bytes());
        out.put(words.to_le_bytes());
        out.put(self.mode.to_le_bytes());
        out.put([0; 2]);
        out.put(self.size.to_le_bytes());
        out.put(self.place.to_le_bytes());
        out.put(self.number.to_le_bytes());
        out.put(self.owner.0.to_le_bytes());
        out.put(self.owner.1.to_le_bytes());
        out.put(self.modified.0.to_le_bytes());
        out.put(self.modified.1.to_le_bytes());
        out.put(self.names.to_le_bytes());
        out.bytes
    }
}

/// What an image says of itself.
pub(crate) struct Superblock {
    pub(crate) root: u16,
    pub(crate) inodes: u64,
    pub(crate) blocks: u32,
    /// First block of the metadata.
    pub(crate) metadata: u32,
    pub(crate) uuid: [u8; 16],
    pub(crate) has_chunks: bool,
}

impl Superblock {
    pub(crate) fn encode(&self) -> [u8; SUPERBLOCK_SIZE] {
        let mut out = Bytes::<SUPERBLOCK_SIZE>::new();
        out.put(MAGIC.to_le_bytes());
        // No checksum: it would be of this block alone.
        out.put([0; 4]);
        out.put(MTIME.to_le_bytes());
        out.put([BLOCK_BITS as u8, 0]);
        out.put(self.root.to_le_bytes());
        out.put(self.inodes.to_le_bytes());
        // The time that compact inodes would have.
        out.put([0; 12]);
        out.put(self.blocks.to_le_bytes());
        out.put(self.metadata.to_le_bytes());
        // No shared attributes.
        out.put([0; 4]);
        out.put(self.uuid);
        // No name.
        out.put([0; 16]);
        out.put(if self.has_chunks { CHUNKED } else { 0 }.to_le_bytes());
        out.bytes
    }
}

/// Bytes filled from the front; the rest is zero.
struct Bytes<const N: usize> {
    bytes: [u8; N],
    filled: usize,
}

impl<const N: usize> Bytes<N> {
    fn new() -> Self {
        Self { bytes: [0; N], filled: 0 }
    }

    fn put<const M: usize>(&mut self, bytes: [u8; M]) {
        self.bytes[self.filled..self.filled + M].copy_from_slice(&bytes);
        self.filled += M;
    }
}

/// The number of a device (new_encode_dev).
pub(crate) fn device((major, minor): (u32, u32)) -> u32 {
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

/// Encodes the attributes of an inode, in the order given; none: nothing.
///
/// `None`: they do not fit.
pub(crate) fn attributes<'a>(attributes: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for (name, value) in attributes {
        if out.is_empty() {
            out.resize(ATTRIBUTES_HEADER, 0);
        }
        let (class, number) = CLASSES.into_iter().find(|(class, _)| name.starts_with(class))?;
        let name = &name[class.len()..];
        out.push(u8::try_from(name.len()).ok()?);
        out.push(number);
        out.extend(u16::try_from(value.len()).ok()?.to_le_bytes());
        out.extend_from_slice(name);
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    // Counted in words of four bytes by 16 bits.
    if out.len() > ATTRIBUTES_HEADER + 4 * (usize::from(u16::MAX) - 1) { None } else { Some(out) }
}

/// An entry of a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a [u8],
    /// Number of the inode.
    pub(crate) inode: u64,
    /// Type as linux/fs_types.h counts them.
    pub(crate) kind: u8,
}

/// Splits sorted names of a directory into blocks; returns how many names each takes, and the bytes that all take.
///
/// A name has at most 255 bytes, so that every block takes one at least.
pub(crate) fn split<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> (Vec<usize>, u64) {
    let (mut counts, mut used) = (Vec::new(), 0);
    for name in names {
        let size = ENTRY + name.len();
        match counts.last_mut() {
            Some(count) if used + size <= BLOCK as usize => {
                *count += 1;
                used += size;
            }
            _ => {
                counts.push(1);
                used = size;
            }
        }
    }
    let whole = counts.len().saturating_sub(1) as u64 * BLOCK;
    (counts, whole + used as u64)
}

/// Encodes one block of a directory; the last one of a directory is cut off behind its last name.
pub(crate) fn directory_block(entries: &[Entry<'_>]) -> [u8; BLOCK as usize] {
    let mut block = [0; BLOCK as usize];
    let mut name_at = entries.len() * ENTRY;
    for (index, entry) in entries.iter().enumerate() {
        let at = index * ENTRY;
        block[at..at + 8].copy_from_slice(&entry.inode.to_le_bytes());
        block[at + 8..at + 10].copy_from_slice(&(name_at as u16).to_le_bytes());
        block[at + 10] = entry.kind;
        block[name_at..name_at + entry.name.len()].copy_from_slice(entry.name);
        name_at += entry.name.len();
    }
    block
}
