//! The two forms of documents: OCI's and Docker's.

use std::collections::BTreeMap;

use serde_json::Value;
use strata_archive::Compression;
use strata_image::{Document, Kind, layer_type};
use strata_types::{Descriptor, Digest, media_type};

use crate::{Error, Result};

/// Whose media types documents have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// OCI's.
    Oci,
    /// Docker's, which know neither zstd nor annotations.
    Docker,
}
/// Has a document a form of Docker's? Artifacts and attestations have none.
pub(super) fn is_convertible(document: &Document) -> bool {
    match &document.kind {
        Kind::Index(_) => true,
        Kind::Manifest(manifest) => {
            manifest.is_image()
                && manifest.layers.iter().all(|layer| layer_type(&layer.descriptor.media_type).is_some())
        }
    }
}

pub(super) fn media_type_in(form: Form, kind: &Kind) -> &'static str {
    match (form, kind) {
        (Form::Oci, Kind::Index(_)) => media_type::OCI_INDEX,
        (Form::Oci, Kind::Manifest(_)) => media_type::OCI_MANIFEST,
        (Form::Docker, Kind::Index(_)) => media_type::DOCKER_INDEX,
        (Form::Docker, Kind::Manifest(_)) => media_type::DOCKER_MANIFEST,
    }
}

/// A document with other descriptors in it, in one of the two forms. All that it says besides, and that form knows, stays.
pub(crate) fn rewritten(
    document: &Document,
    changed: &BTreeMap<Digest, Descriptor>,
    form: Form,
) -> Result<(String, Vec<u8>)> {
    let what = || format!("document {}", document.descriptor.digest);
    let json = |source| strata_image::Error::Json { what: what(), source };
    let mut value: Value = serde_json::from_slice(&document.bytes).map_err(json)?;
    let media_type = media_type_in(form, &document.kind);
    let list = if matches!(document.kind, Kind::Index(_)) { "manifests" } else { "layers" };
    value["mediaType"] = media_type.into();
    if let Some(kind) = value.pointer_mut("/config/mediaType")
        && (*kind == media_type::DOCKER_CONFIG || *kind == media_type::OCI_CONFIG)
    {
        *kind = if form == Form::Oci { media_type::OCI_CONFIG } else { media_type::DOCKER_CONFIG }.into();
    }
    if form == Form::Docker
        && let Some(fields) = value.as_object_mut()
    {
        fields.remove("annotations");
    }
    for entry in value.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
        let digest = entry.get("digest").and_then(Value::as_str).and_then(|text| Digest::parse(text).ok());
        if let Some(after) = digest.and_then(|digest| changed.get(&digest)) {
            entry["mediaType"] = after.media_type.as_str().into();
            entry["digest"] = after.digest.to_string().into();
            entry["size"] = after.size.into();
        }
        let kind = entry.get("mediaType").and_then(Value::as_str).unwrap_or_default();
        if let Some(kind) = layer_in(form, kind)? {
            entry["mediaType"] = kind.into();
        }
        if form == Form::Docker
            && let Some(fields) = entry.as_object_mut()
        {
            fields.remove("annotations");
        }
    }
    let bytes = serde_json::to_vec(&value).map_err(json)?;
    Ok((media_type.to_owned(), bytes))
}

/// The name of a layer in the other form; none for what has it already, or is no layer of the image's own.
fn layer_in(form: Form, media_type: &str) -> Result<Option<&'static str>> {
    let from = match form {
        Form::Oci => "application/vnd.docker.image.rootfs.diff.",
        Form::Docker => "application/vnd.oci.image.layer.v1.",
    };
    let Some(kind) = layer_type(media_type).filter(|_| media_type.starts_with(from)) else { return Ok(None) };
    Ok(match (form, kind.compression) {
        (Form::Oci, Compression::None) => Some(media_type::OCI_LAYER),
        (Form::Oci, Compression::Gzip) => Some(media_type::OCI_LAYER_GZIP),
        (Form::Oci, Compression::Zstd) => Some(media_type::OCI_LAYER_ZSTD),
        (Form::Docker, Compression::None) => Some(media_type::DOCKER_LAYER),
        (Form::Docker, Compression::Gzip) => Some(media_type::DOCKER_LAYER_GZIP),
        (Form::Docker, Compression::Zstd) => {
            let problem = "a layer is compressed with zstd, which Docker's form does not know; pull the image first";
            return Err(Error::invalid("manifest_format", problem));
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use strata_image::Limits;

    use super::*;
    use crate::blob;

    fn digest(text: &str) -> Digest {
        blob::digest(text.as_bytes())
    }

    #[test]
    fn a_rewritten_manifest_keeps_all_but_its_layers() {
        let (one, two) = (digest("one"), digest("two"));
        let text = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::DOCKER_MANIFEST,
            "config": { "mediaType": media_type::DOCKER_CONFIG, "digest": digest("config"), "size": 3 },
            "layers": [
                { "mediaType": media_type::DOCKER_LAYER_GZIP, "digest": one, "size": 1, "annotations": { "a": "b" } },
                { "mediaType": media_type::DOCKER_LAYER_GZIP, "digest": two, "size": 2 },
            ],
            "annotations": { "kept": "yes" },
        });
        let document = Document::parse(text.to_string().into_bytes(), "", &Limits::default()).unwrap();
        let after = Descriptor::new(media_type::OCI_LAYER_ZSTD, digest("zstd"), 9);

        let (media_type, bytes) = rewritten(&document, &BTreeMap::from([(two, after)]), Form::Oci).unwrap();

        let again = Document::parse(bytes.clone(), &media_type, &Limits::default()).unwrap();
        let Kind::Manifest(manifest) = again.kind else { panic!("it became an index") };
        assert_eq!(manifest.annotations["kept"], "yes");
        assert_eq!(manifest.config.descriptor.media_type, media_type::OCI_CONFIG);
        let layers: Vec<_> = manifest.layers.iter().map(|layer| &layer.descriptor).collect();
        assert_eq!((layers[0].digest, layers[0].media_type.as_str()), (one, media_type::OCI_LAYER_GZIP));
        assert_eq!(layers[0].annotations["a"], "b");
        assert_eq!((layers[1].digest, layers[1].size), (digest("zstd"), 9));
        let (_, same) = rewritten(&document, &BTreeMap::from([(two, layers[1].clone())]), Form::Oci).unwrap();
        assert_eq!(same, bytes, "equal inputs give equal bytes");
    }

    #[test]
    fn an_image_has_a_form_of_dockers_unless_it_has_zstd() {
        let of = |layer: &str| {
            let text = serde_json::json!({
                "schemaVersion": 2,
                "mediaType": media_type::OCI_MANIFEST,
                "config": { "mediaType": media_type::OCI_CONFIG, "digest": digest("config"), "size": 3 },
                "layers": [{ "mediaType": layer, "digest": digest("one"), "size": 1, "annotations": { "a": "b" } }],
                "annotations": { "c": "d" },
            });
            Document::parse(text.to_string().into_bytes(), "", &Limits::default()).unwrap()
        };

        let (media_type, bytes) = rewritten(&of(media_type::OCI_LAYER_GZIP), &BTreeMap::new(), Form::Docker).unwrap();

        let value: Value = serde_json::from_slice(&bytes).unwrap();
        let expected = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::DOCKER_MANIFEST,
            "config": { "mediaType": media_type::DOCKER_CONFIG, "digest": digest("config"), "size": 3 },
            "layers": [{ "mediaType": media_type::DOCKER_LAYER_GZIP, "digest": digest("one"), "size": 1 }],
        });
        assert_eq!((media_type.as_str(), value), (media_type::DOCKER_MANIFEST, expected));
        let (media_type, again) =
            rewritten(&Document::parse(bytes, "", &Limits::default()).unwrap(), &BTreeMap::new(), Form::Oci).unwrap();
        let value: Value = serde_json::from_slice(&again).unwrap();
        assert_eq!(
            (media_type.as_str(), &value["layers"][0]["mediaType"]),
            (media_type::OCI_MANIFEST, &Value::from(media_type::OCI_LAYER_GZIP))
        );
        assert!(rewritten(&of(media_type::OCI_LAYER_ZSTD), &BTreeMap::new(), Form::Docker).is_err());
        assert!(!is_convertible(&of("application/x-of-an-artifact")));
    }
}
