//! The format of EROFS on disk, as far as it is written here: linux/fs/erofs/erofs_fs.h.
//! All numbers are little-endian. Everything here turns values into bytes, or back, and decides nothing.

/// Bits of a block's size: 512 bytes, as in an archive.
pub(crate) const BLOCK_BITS: u32 = 9;
/// Bytes of a block.
pub(crate) const BLOCK: u64 = 1 << BLOCK_BITS;
/// Where the superblock is.
pub(crate) const SUPERBLOCK: u64 = 1024;
/// Bytes of a superblock.
pub(crate) const SUPERBLOCK_SIZE: usize = 128;
/// Where the table of devices is: behind the superblock.
pub(crate) const DEVICES: u64 = SUPERBLOCK + SUPERBLOCK_SIZE as u64;
/// Bytes of a device in their table; that is also what its place is counted in.
pub(crate) const DEVICE: usize = 128;
/// Bytes of a device's name.
const DEVICE_NAME: usize = 64;
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
/// Type bits of what overlay takes for the mark that hides a name: a character device of number 0.
pub(crate) const MARK: u16 = 0o020_000;
/// Bytes before the first attribute of an inode.
const ATTRIBUTES_HEADER: usize = 12;

const MAGIC: u32 = 0xe0f5_e1e2;
/// The time of an inode is that of its content.
const MTIME: u32 = 2;
/// Some files consist of chunks.
const CHUNKED: u32 = 4;
/// Some blocks are those of other images.
const HAS_DEVICES: u32 = 8;

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
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// Reads what [`Inode::encode`] wrote; `None`: it is another kind of inode.
    pub(crate) fn decode(bytes: &[u8; INODE as usize]) -> Option<Self> {
        let format = u16::from_le_bytes(taken(bytes, 0));
        let layout = match format {
            1 => Layout::Plain,
            5 => Layout::Inline,
            9 => Layout::Chunks,
            _ => return None,
        };
        let attributes = match u16::from_le_bytes(taken(bytes, 2)) {
            0 => 0,
            words => ATTRIBUTES_HEADER as u64 + 4 * (u64::from(words) - 1),
        };
        Some(Self {
            layout,
            attributes,
            mode: u16::from_le_bytes(taken(bytes, 4)),
            size: u64::from_le_bytes(taken(bytes, 8)),
            place: u32::from_le_bytes(taken(bytes, 16)),
            number: u32::from_le_bytes(taken(bytes, 20)),
            owner: (u32::from_le_bytes(taken(bytes, 24)), u32::from_le_bytes(taken(bytes, 28))),
            modified: (i64::from_le_bytes(taken(bytes, 32)), u32::from_le_bytes(taken(bytes, 40))),
            names: u32::from_le_bytes(taken(bytes, 44)),
        })
    }
}

/// The bytes at an offset.
fn taken<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the range has this length")
}

/// What an image says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub(crate) root: u16,
    pub(crate) inodes: u64,
    pub(crate) blocks: u32,
    /// First block of the metadata.
    pub(crate) metadata: u32,
    pub(crate) uuid: [u8; 16],
    pub(crate) has_chunks: bool,
    /// How many other images have blocks of this one.
    pub(crate) devices: u16,
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
        let chunked = if self.has_chunks { CHUNKED } else { 0 };
        let has_devices = if self.devices > 0 { HAS_DEVICES } else { 0 };
        out.put((chunked | has_devices).to_le_bytes());
        // Nothing is compressed.
        out.put([0; 2]);
        out.put(self.devices.to_le_bytes());
        let table = if self.devices > 0 { (DEVICES / DEVICE as u64) as u16 } else { 0 };
        out.put(table.to_le_bytes());
        out.bytes
    }

    /// Reads what [`Superblock::encode`] wrote; `None`: it is no image, or one of another kind.
    pub(crate) fn decode(bytes: &[u8; SUPERBLOCK_SIZE]) -> Option<Self> {
        let features = u32::from_le_bytes(taken(bytes, 80));
        let superblock = Self {
            root: u16::from_le_bytes(taken(bytes, 14)),
            inodes: u64::from_le_bytes(taken(bytes, 16)),
            blocks: u32::from_le_bytes(taken(bytes, 36)),
            metadata: u32::from_le_bytes(taken(bytes, 40)),
            uuid: taken(bytes, 48),
            has_chunks: features & CHUNKED != 0,
            devices: u16::from_le_bytes(taken(bytes, 86)),
        };
        // What has something else in it is not known here.
        (superblock.encode() == *bytes).then_some(superblock)
    }
}

/// Another image that has blocks of this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) blocks: u32,
    /// The number that its first block has here.
    pub(crate) first: u32,
}

impl Device {
    /// `None`: the name is too long.
    pub(crate) fn encode(&self) -> Option<[u8; DEVICE]> {
        let mut out = Bytes::<DEVICE>::new();
        let mut name = [0; DEVICE_NAME];
        // Ended by a zero, so that it can be read back.
        name[..DEVICE_NAME - 1].get_mut(..self.name.len())?.copy_from_slice(self.name.as_bytes());
        out.put(name);
        out.put(self.blocks.to_le_bytes());
        out.put(self.first.to_le_bytes());
        Some(out.bytes)
    }

    /// Reads what [`Device::encode`] wrote.
    pub(crate) fn decode(bytes: &[u8; DEVICE]) -> Option<Self> {
        let name = bytes[..DEVICE_NAME].split(|byte| *byte == 0).next()?;
        Some(Self {
            name: std::str::from_utf8(name).ok()?.to_owned(),
            blocks: u32::from_le_bytes(taken(bytes, DEVICE_NAME)),
            first: u32::from_le_bytes(taken(bytes, DEVICE_NAME + 4)),
        })
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

/// Type as linux/fs_types.h counts them, of a mode.
pub(crate) fn kind(mode: u16) -> u8 {
    match mode & 0o170_000 {
        0o100_000 => 1,
        0o040_000 => 2,
        0o020_000 => 3,
        0o060_000 => 4,
        0o010_000 => 5,
        0o140_000 => 6,
        0o120_000 => 7,
        _ => 0,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_is_read_back_as_it_was_written() {
        for layout in [Layout::Plain, Layout::Inline, Layout::Chunks] {
            for attributes in [0, 12, 16, 4000] {
                let (owner, modified) = ((1, u32::MAX), (-5, 999_999_999));
                let inode = Inode {
                    layout,
                    attributes,
                    mode: 0o104_755,
                    size: 1 << 40,
                    place: 77,
                    number: 3,
                    owner,
                    modified,
                    names: 2,
                };
                assert_eq!(Inode::decode(&inode.encode()), Some(inode));
            }
        }
        assert_eq!(Inode::decode(&[0; INODE as usize]), None, "a compact one");
    }

    #[test]
    fn a_superblock_is_read_back_as_it_was_written_and_what_is_none_refused() {
        let plain =
            Superblock { root: 16, inodes: 9, blocks: 1000, metadata: 8, uuid: [7; 16], has_chunks: false, devices: 0 };
        for superblock in [plain.clone(), Superblock { has_chunks: true, devices: 500, ..plain.clone() }] {
            assert_eq!(Superblock::decode(&superblock.encode()), Some(superblock));
        }
        let mut other = plain.encode();
        other[8] |= 0x80;
        assert_eq!(Superblock::decode(&other), None, "a feature that is not known");
        assert_eq!(Superblock::decode(&[0; SUPERBLOCK_SIZE]), None);
    }

    #[test]
    fn a_device_has_a_name_that_fits() {
        let device = |length: usize| Device { name: "n".repeat(length), blocks: 5, first: 1 << 28 };

        assert_eq!(device(63).encode().as_ref().and_then(Device::decode), Some(device(63)));
        assert_eq!(device(64).encode(), None);
    }
}
