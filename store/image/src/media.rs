//! What media types say about layers: compression, and whether they may be distributed. Tables of contents inside (of
//! zstd:chunked, eStargz) need not be known: such layers are zstd or gzip like others. The types of documents are in [`strata_types::media_type`].

use strata_archive::Compression;
use strata_types::media_type;

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
}
