use serde_json::{Value, json};

use super::*;

const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn entry(media_type: &str, size: i64) -> Value {
    json!({"mediaType": media_type, "digest": DIGEST, "size": size})
}

fn manifest() -> Value {
    json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": entry(media_type::OCI_CONFIG, 3), "layers": [entry(media_type::OCI_LAYER_GZIP, 3)]
    })
}

fn index() -> Value {
    let platform = json!({"os": "linux", "architecture": "aarch64"});
    let mut entry = entry(media_type::OCI_MANIFEST, 3);
    entry["platform"] = platform;
    json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry]})
}

fn with(mut document: Value, field: &str, value: Value) -> Value {
    document[field] = value;
    document
}

fn parse(document: &Value, declared: &str) -> Result<Document> {
    Document::parse(serde_json::to_vec(document).unwrap(), declared, &Limits::default())
}

#[test]
fn a_document_keeps_its_bytes_and_its_digest() {
    let bytes = format!("{{ \"x\": [1,2] ,{}", &manifest().to_string()[1..]).into_bytes();

    let document = Document::parse(bytes.clone(), media_type::OCI_MANIFEST, &Limits::default()).unwrap();

    assert_eq!(document.bytes, bytes);
    assert_eq!(document.descriptor.digest, digest(&bytes));
    assert!(matches!(document.kind, Kind::Manifest(manifest) if manifest.is_image() && manifest.layers.len() == 1));
}

#[test]
fn the_fields_decide_only_where_no_type_is_named() {
    let mut bare = manifest();
    bare.as_object_mut().unwrap().remove("mediaType");

    assert_eq!(parse(&bare, "").unwrap().descriptor.media_type, media_type::OCI_MANIFEST);
    assert_eq!(parse(&bare, media_type::DOCKER_MANIFEST).unwrap().descriptor.media_type, media_type::DOCKER_MANIFEST);
    assert_eq!(parse(&index(), "").unwrap().descriptor.media_type, media_type::OCI_INDEX);
    assert!(matches!(parse(&bare, media_type::OCI_INDEX), Err(Error::Confused { .. })));
}

/// CVE-2021-41190, row 72.
#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let both = with(manifest(), "manifests", json!([]));
    let index_with_layers = with(index(), "layers", json!([]));
    let index_as_manifest = with(index(), "mediaType", json!(media_type::OCI_MANIFEST));
    let go_reads_this = with(index(), "Layers", json!([]));
    for (document, declared) in [
        (&both, media_type::OCI_MANIFEST),
        (&both, media_type::OCI_INDEX),
        (&index_with_layers, media_type::OCI_INDEX),
        (&index_as_manifest, ""),
        (&index_as_manifest, media_type::OCI_MANIFEST),
        (&go_reads_this, media_type::OCI_INDEX),
        (&manifest(), media_type::DOCKER_MANIFEST),
        (&manifest(), media_type::OCI_INDEX),
    ] {
        let refused = parse(document, declared);
        assert!(matches!(refused, Err(Error::Confused { .. })), "{document} as {declared:?}: {refused:?}");
    }
}

/// CVE-2021-41190, row 72: parsers differ about which of two counts.
#[test]
fn a_field_that_stands_twice_is_refused() {
    for field in [
        format!("\"config\":{}", entry(media_type::OCI_CONFIG, 3)),
        "\"layers\":[]".to_owned(),
        format!("\"mediaType\":\"{}\"", media_type::OCI_MANIFEST),
        "\"schemaVersion\":2".to_owned(),
    ] {
        let text = format!("{{{field},{}", &manifest().to_string()[1..]);
        let refused = Document::parse(text.into_bytes(), media_type::OCI_MANIFEST, &Limits::default());
        assert!(matches!(refused, Err(Error::Json { .. })), "{field}: {refused:?}");
    }
}

#[test]
fn sizes_that_no_blob_can_have_are_refused() {
    for size in [json!(-1), json!(1.5), json!("3"), json!(null), json!(u64::MAX), json!(1_u64 << 63)] {
        let mut layer = entry(media_type::OCI_LAYER, 3);
        layer["size"] = size.clone();
        let refused = parse(&with(manifest(), "layers", json!([layer])), "");
        assert!(matches!(refused, Err(Error::Json { .. } | Error::Document { .. })), "{size}: {refused:?}");
    }
    let two = json!([entry(media_type::OCI_LAYER, 3), entry(media_type::OCI_LAYER, 4)]);
    assert!(matches!(parse(&with(manifest(), "layers", two), ""), Err(Error::Document { .. })));
    let same = json!([entry(media_type::OCI_LAYER, 3), entry(media_type::OCI_LAYER, 3)]);
    assert!(parse(&with(manifest(), "layers", same), "").is_ok(), "an image may have a layer twice");
}

#[test]
fn other_documents_are_refused_by_what_they_are() {
    let old = json!({"schemaVersion": 1, "name": "a", "fsLayers": []});
    assert!(matches!(parse(&old, SCHEMA1_SIGNED), Err(Error::Document { reason, .. }) if reason.contains("schema 1")));
    let nothing = json!({"schemaVersion": 2});
    assert!(matches!(parse(&nothing, media_type::OCI_MANIFEST), Err(Error::Document { .. })));
    assert!(matches!(parse(&with(manifest(), "schemaVersion", json!(3)), ""), Err(Error::Document { .. })));
    assert!(matches!(parse(&manifest(), "text/html"), Err(Error::Confused { .. })));
    for text in ["", "[]", "null", "{", "{}x", "\u{feff}{}"] {
        let refused = Document::parse(text.into(), media_type::OCI_MANIFEST, &Limits::default());
        assert!(refused.is_err(), "{text:?} was taken");
    }
}

/// CVE-2021-21285 and CVE-2024-3727, rows 71 and 75.
#[test]
fn digests_of_other_algorithms_and_traversals_are_refused() {
    for digest in [format!("sha512:{}", "a".repeat(128)), "sha256:../../etc/passwd".into(), "".into()] {
        let mut config = entry(media_type::OCI_CONFIG, 3);
        config["digest"] = json!(digest);
        assert!(matches!(parse(&with(manifest(), "config", config), ""), Err(Error::Json { .. })), "{digest}");
    }
}

/// CVE-2023-25153, row 74.
#[test]
fn what_is_larger_than_the_limits_is_refused() {
    let limits = Limits { max_manifest: 2000, max_layers: 3, max_entries: 2, ..Limits::default() };
    let parse = |document: Value| Document::parse(serde_json::to_vec(&document).unwrap(), "", &limits);
    let layers = |count| with(manifest(), "layers", json!(vec![entry(media_type::OCI_LAYER, 3); count]));

    assert!(parse(layers(3)).is_ok());
    assert!(matches!(parse(layers(4)), Err(Error::Limit { unit: "layers", limit: 3, .. })));
    let many = with(index(), "manifests", json!(vec![entry(media_type::OCI_MANIFEST, 3); 3]));
    assert!(matches!(parse(many), Err(Error::Limit { unit: "entries", .. })));
    let long = with(manifest(), "annotations", json!({"x": "y".repeat(2000)}));
    assert!(matches!(parse(long), Err(Error::Limit { unit: "bytes", .. })));
}

#[test]
fn deep_nesting_is_skipped_or_refused_and_no_overflow_of_the_stack() {
    let deep = |field| {
        let value = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let text = format!("{{\"{field}\":{value},{}", &manifest().to_string()[1..]);
        Document::parse(text.into(), "", &Limits::default())
    };
    assert!(deep("x").is_ok(), "a field that is not known is passed over");
    assert!(matches!(deep("annotations"), Err(Error::Json { .. })));
}

#[test]
fn platforms_of_entries_are_normalised() {
    let Kind::Index(found) = parse(&index(), "").unwrap().kind else { panic!("an index was parsed") };
    assert_eq!(found.manifests[0].platform.as_ref().unwrap().to_string(), "linux/arm64");
    let mut unnamed = index();
    unnamed["manifests"][0]["platform"] = json!({"os": "", "architecture": ""});
    let Kind::Index(found) = parse(&unnamed, "").unwrap().kind else { panic!("an index was parsed") };
    assert_eq!(found.manifests[0].platform, None);
}

#[test]
fn nulls_are_empty_as_go_writes_them() {
    let nulls = with(with(manifest(), "layers", json!(null)), "annotations", json!(null));
    let Kind::Manifest(found) = parse(&nulls, "").unwrap().kind else { panic!("a manifest was parsed") };
    assert!(found.layers.is_empty() && found.annotations.is_empty());
}
