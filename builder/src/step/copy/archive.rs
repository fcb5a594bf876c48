//! ADD of a local archive: known by its content, not by its name.

use super::transfer::Target;
use crate::context::Blake3;
use crate::error::Error;
use crate::peers::{Entry, Placement, Store};
use crate::solve::Build;

/// Bytes of a block of a tar: the first one tells whether it is one.
const SNIFF: usize = 512;

/// ADD: files that are archives give their entries. `places` are those of the files that may be.
pub(super) async fn unpack(
    build: &Build,
    entries: &mut [Entry],
    places: &[usize],
    target: &Target,
) -> Result<(), Error> {
    for &place in places {
        let Placement::File { blake3, .. } = entries[place].placement else { continue };
        if is_archive(&build.store, &blake3).await? {
            let owner = target.owner;
            entries[place] = Entry { owner, ..Entry::new(target.destination(), Placement::Archive(blake3)) };
        }
    }
    Ok(())
}

/// A content is an archive, compressed or not.
pub async fn is_archive(store: &Store, blake3: &Blake3) -> Result<bool, Error> {
    Ok(is_tar(&store.content_head(blake3, SNIFF).await?))
}

/// By content, not by name: the first block of a tar has its own checksum. Blanks count for the field itself.
fn is_tar(block: &[u8]) -> bool {
    let Some(field) = block.get(148..156).filter(|_| block.len() >= SNIFF) else { return false };
    let digits = String::from_utf8_lossy(field);
    let stated = u64::from_str_radix(digits.trim_matches(['\0', ' ']), 8);
    let sum: u64 = block[..SNIFF].iter().map(|byte| u64::from(*byte)).sum();
    let own: u64 = field.iter().map(|byte| u64::from(*byte)).sum();
    stated.is_ok_and(|stated| stated == sum - own + 8 * u64::from(b' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_known_by_content() {
        let mut tar = vec![b'a'; 100];
        tar.resize(512, 0);
        tar[148..156].copy_from_slice(b"        ");
        let sum: u32 = tar.iter().map(|byte| u32::from(*byte)).sum();
        tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());

        assert!(is_tar(&tar));
        assert!(!is_tar(&tar[..511]));
        tar[0] = b'b';
        assert!(!is_tar(&tar));
        assert!(!is_tar(b"name.tar.gz"));
        assert!(!is_tar(&[0; 512]));
    }
}
