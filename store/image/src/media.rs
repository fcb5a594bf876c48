//! What media types say about layers: compression, whether they may be distributed, and tables of contents inside.
//! The types of documents are in [`strata_types::media_type`].

use std::collections::BTreeMap;

use strata_archive::Compression;
use strata_types::{Digest, media_type};

/// Docker layer, uncompressed tar.
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Docker layer, zstd; not in Docker's specification, but made by containers/image and buildkit.
const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
/// Docker layer that is fetched from elsewhere, uncompressed and gzip.
const DOCKER_FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";
const DOCKER_FOREIGN_GZIP: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
/// OCI layers that must not be pushed; deprecated by image-spec 1.1, "Non-Distributable Layers".
const OCI_FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
const OCI_FOREIGN_GZIP: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
const OCI_FOREIGN_ZSTD: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";

/// The annotation with the digest of a zstd:chunked table of contents, in its compressed form.
const CHUNKED_DIGEST: &str = "io.github.containers.zstd-chunked.manifest-checksum";
/// The annotation with its place: "offset:length:uncompressed length:type", decimal.
const CHUNKED_PLACE: &str = "io.github.containers.zstd-chunked.manifest-position";
/// The annotation with the digest of an eStargz table of contents.
const STARGZ_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";

/// The annotation by which BuildKit marks an entry of an index as an attestation.
pub(crate) const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// Whether a layer travels with its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// It does.
    Free,
    /// It stays where its URLs lead; it may be missing from archives and registries.
    Foreign,
}

/// What the media type of a layer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerType {
    /// How its tar is compressed.
    pub compression: Compression,
    /// Whether it travels with its image.
    pub distribution: Distribution,
}

/// Reads the media type of a layer; none if it is no layer of an image (encrypted ones are not, until decrypted).
pub fn layer_type(text: &str) -> Option<LayerType> {
    let (compression, distribution) = match text {
        media_type::OCI_LAYER | DOCKER_LAYER => (Compression::None, Distribution::Free),
        media_type::OCI_LAYER_GZIP | media_type::DOCKER_LAYER_GZIP => (Compression::Gzip, Distribution::Free),
        media_type::OCI_LAYER_ZSTD | DOCKER_LAYER_ZSTD => (Compression::Zstd, Distribution::Free),
        OCI_FOREIGN | DOCKER_FOREIGN => (Compression::None, Distribution::Foreign),
        OCI_FOREIGN_GZIP | DOCKER_FOREIGN_GZIP => (Compression::Gzip, Distribution::Foreign),
        OCI_FOREIGN_ZSTD => (Compression::Zstd, Distribution::Foreign),
        _ => return None,
    };
    Some(LayerType { compression, distribution })
}

/// Is this the type of an image's config, OCI's or Docker's?
pub(crate) fn is_config(text: &str) -> bool {
    matches!(text, media_type::OCI_CONFIG | media_type::DOCKER_CONFIG)
}

/// Where a zstd:chunked layer keeps its table of contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkedToc {
    /// Digest of its compressed bytes.
    pub digest: Digest,
    /// Where it starts in the blob.
    pub offset: u64,
    /// Its length in the blob.
    pub length: u64,
    /// Its length when it is decompressed.
    pub uncompressed_length: u64,
}

/// A table of contents inside a layer, by which parts of it can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seekable {
    /// containers/storage's form for zstd.
    Chunked(ChunkedToc),
    /// eStargz's form for gzip; the digest is that of the uncompressed table.
    Stargz(Digest),
}

/// Reads from the annotations of a layer of `size` bytes where its table of contents is.
///
/// The annotations are hints that anyone may have written: malformed or impossible ones count as none, and the layer
/// is then read whole.
pub fn seekable(annotations: &BTreeMap<String, String>, size: u64) -> Option<Seekable> {
    if let Some(toc) = chunked_toc(annotations, size) {
        return Some(Seekable::Chunked(toc));
    }
    let digest = Digest::parse(annotations.get(STARGZ_DIGEST)?).ok()?;
    Some(Seekable::Stargz(digest))
}

/// As [`seekable`], for zstd:chunked alone.
pub fn chunked_toc(annotations: &BTreeMap<String, String>, size: u64) -> Option<ChunkedToc> {
    let digest = Digest::parse(annotations.get(CHUNKED_DIGEST)?).ok()?;
    let mut numbers = [0_u64; 4];
    let mut parts = annotations.get(CHUNKED_PLACE)?.split(':');
    for number in &mut numbers {
        let part = parts.next()?;
        let is_decimal = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        *number = part.parse().ok().filter(|_| is_decimal)?;
    }
    // Type 1 is the table of zstd:chunked.
    let [offset, length, uncompressed_length, 1] = numbers else { return None };
    let fits = parts.next().is_none() && offset.checked_add(length)? <= size;
    fits.then_some(ChunkedToc { digest, offset, length, uncompressed_length })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_type_in_use_is_known_and_others_are_not() {
        let known = |text| layer_type(text).map(|found| (found.compression, found.distribution));
        for (text, compression, distribution) in [
            ("application/vnd.oci.image.layer.v1.tar", Compression::None, Distribution::Free),
            ("application/vnd.oci.image.layer.v1.tar+gzip", Compression::Gzip, Distribution::Free),
            ("application/vnd.oci.image.layer.v1.tar+zstd", Compression::Zstd, Distribution::Free),
            ("application/vnd.docker.image.rootfs.diff.tar", Compression::None, Distribution::Free),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Compression::Gzip, Distribution::Free),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Compression::Gzip, Distribution::Foreign),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar", Compression::None, Distribution::Foreign),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", Compression::Zstd, Distribution::Foreign),
        ] {
            assert_eq!(known(text), Some((compression, distribution)), "{text}");
        }
        for text in [
            "",
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.in-toto+json",
            "application/octet-stream",
        ] {
            assert_eq!(known(text), None, "{text}");
        }
    }

    #[test]
    fn a_table_of_contents_outside_its_blob_or_malformed_is_none() {
        let with = |place: &str| {
            let digest = format!("sha256:{}", "ab".repeat(32));
            let annotations =
                BTreeMap::from([(CHUNKED_DIGEST.to_owned(), digest), (CHUNKED_PLACE.to_owned(), place.to_owned())]);
            chunked_toc(&annotations, 1000).map(|toc| (toc.offset, toc.length, toc.uncompressed_length))
        };
        assert_eq!(with("900:100:5000:1"), Some((900, 100, 5000)));
        for bad in [
            "901:100:5000:1",
            "18446744073709551615:1:1:1",
            "1:2:3",
            "1:2:3:1:5",
            "1:2:3:2",
            "+1:2:3:1",
            "-1:2:3:1",
            "::: 1",
            "",
        ] {
            assert_eq!(with(bad), None, "{bad}");
        }
    }
}
