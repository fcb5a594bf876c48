//! Claims about documents, names and repositories: what they keep, and what goes with them.

use std::time::Duration;

use strata_types::{Reference, media_type};

use super::*;
use crate::{fixture, gc, image};

fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

fn descriptor(media_type: &str, digest: &Digest, size: u64) -> serde_json::Value {
    serde_json::json!({"mediaType": media_type, "digest": digest.to_string(), "size": size})
}

/// A manifest over a config and a layer with these contents; `more` are further fields.
async fn manifest(
    store: &Arc<Store>,
    lease: &LeaseId,
    config: &str,
    layer: &str,
    more: serde_json::Value,
) -> DocumentRow {
    let (config_digest, layer_digest) =
        (fixture::blob(store, lease, config).await, fixture::blob(store, lease, layer).await);
    let mut json = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": descriptor(media_type::OCI_CONFIG, &config_digest, config.len() as u64),
        "layers": [descriptor(media_type::OCI_LAYER_GZIP, &layer_digest, layer.len() as u64)],
    });
    json.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    put(store, json.to_string().into_bytes(), media_type::OCI_MANIFEST, lease, Durability::Full).await.unwrap()
}

async fn index(store: &Arc<Store>, lease: &LeaseId, of: &[serde_json::Value]) -> DocumentRow {
    let json = serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": of});
    put(store, json.to_string().into_bytes(), "", lease, Durability::Full).await.unwrap()
}

fn entry(row: &DocumentRow) -> serde_json::Value {
    descriptor(&row.media_type, &row.digest, row.size)
}

async fn collect(store: &Arc<Store>) {
    gc::collect(store, Duration::ZERO).await.unwrap();
}

async fn is_there(store: &Arc<Store>, digest: &Digest) -> bool {
    store.catalog.blob(digest).await.is_ok()
}

#[tokio::test]
async fn a_name_keeps_all_below_its_target_and_nothing_else() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;
    let inner = manifest(&store, &lease, "{}", "layer", serde_json::json!({})).await;
    let outer = index(&store, &lease, &[entry(&inner)]).await;
    let loose = manifest(&store, &lease, "{ }", "loose", serde_json::json!({})).await;
    store.catalog.set_name(&name("a:1"), &outer.digest).await.unwrap();
    store.catalog.delete_lease(&lease).await.unwrap();

    collect(&store).await;

    for kept in [outer.digest, inner.digest, blob::digest(b"layer"), blob::digest(b"{}")] {
        assert!(is_there(&store, &kept).await, "{kept}");
    }
    for gone in [loose.digest, blob::digest(b"loose"), blob::digest(b"{ }")] {
        assert!(!is_there(&store, &gone).await, "{gone}");
    }
    assert_eq!(store.catalog.target(&name("a:1")).await.unwrap(), Some(outer));
    assert!(store.catalog.remove_name(&name("a:1")).await.unwrap());
    collect(&store).await;
    assert_eq!(store.catalog.totals().await.unwrap(), [0; 4]);
    assert!(matches!(store.catalog.document(&inner.digest).await, Err(Error::DocumentNotFound { .. })));
}

#[tokio::test]
async fn a_lease_on_a_document_holds_what_is_below_it() {
    let (_root, store) = fixture::store().await;
    let (first, second) = (fixture::lease(&store, "first").await, fixture::lease(&store, "second").await);
    let inner = manifest(&store, &first, "{}", "layer", serde_json::json!({})).await;
    let outer = index(&store, &first, &[entry(&inner)]).await;
    store.catalog.hold_document(&outer.digest, &second).await.unwrap().unwrap();
    store.catalog.delete_lease(&first).await.unwrap();

    collect(&store).await;

    assert!(is_there(&store, &blob::digest(b"layer")).await);
    assert!(store.catalog.document(&inner.digest).await.is_ok());
}

#[tokio::test]
async fn a_repository_keeps_what_was_pushed_by_digest_until_it_is_removed_with_its_names() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;
    let row = manifest(&store, &lease, "{}", "layer", serde_json::json!({})).await;
    store.catalog.add_to_repository("reg:5000/a", &row.digest).await.unwrap();
    store.catalog.set_name(&name("reg:5000/a:1"), &row.digest).await.unwrap();
    store.catalog.set_name(&name("reg:5000/b:1"), &row.digest).await.unwrap();
    store.catalog.delete_lease(&lease).await.unwrap();
    collect(&store).await;

    assert!(store.catalog.is_in_repository("reg:5000/a", &blob::digest(b"layer")).await.unwrap());
    assert!(!store.catalog.is_in_repository("reg:5000/c", &blob::digest(b"layer")).await.unwrap());
    assert!(store.catalog.remove_from_repository("reg:5000/a", &row.digest).await.unwrap());
    assert!(!store.catalog.remove_from_repository("reg:5000/a", &row.digest).await.unwrap());

    assert_eq!(store.catalog.target(&name("reg:5000/a:1")).await.unwrap(), None);
    assert!(!store.catalog.is_in_repository("reg:5000/a", &row.digest).await.unwrap());
    collect(&store).await;
    assert!(is_there(&store, &row.digest).await, "the other repository names it");
    store.catalog.remove_name(&name("reg:5000/b:1")).await.unwrap();
    collect(&store).await;
    assert_eq!(store.catalog.totals().await.unwrap(), [0; 4]);
}

#[tokio::test]
async fn names_and_repositories_come_in_pages_by_order() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;
    let row = manifest(&store, &lease, "{}", "layer", serde_json::json!({})).await;
    for text in ["reg:5000/a:2", "reg:5000/a:1", "reg:5000/a:10", "reg:5000/a/b:1", "c:1"] {
        store.catalog.set_name(&name(text), &row.digest).await.unwrap();
    }
    store.catalog.add_to_repository("reg:5000/z", &row.digest).await.unwrap();

    let first = store.catalog.names("reg:5000/a", "", 2).await.unwrap();
    let second = store.catalog.names("reg:5000/a", &first[1].name, 2).await.unwrap();
    let all: Vec<String> = first.into_iter().chain(second).map(|row| row.name).collect();

    assert_eq!(all, ["reg:5000/a:1", "reg:5000/a:10", "reg:5000/a:2"]);
    let repositories = store.catalog.repositories("", 10).await.unwrap();
    assert_eq!(repositories, ["docker.io/library/c", "reg:5000/a", "reg:5000/a/b", "reg:5000/z"]);
    assert_eq!(store.catalog.repositories("reg:5000/a", 1).await.unwrap(), ["reg:5000/a/b"]);
    assert_eq!(store.catalog.names("", "", 10).await.unwrap().len(), 5);
}

#[tokio::test]
async fn a_referrer_is_listed_lives_with_its_subject_and_goes_with_it() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;
    let subject = manifest(&store, &lease, "{}", "layer", serde_json::json!({})).await;
    let more = serde_json::json!({
        "subject": entry(&subject), "artifactType": "application/x-signature", "annotations": {"by": "me"}
    });
    let signature = manifest(&store, &lease, "{ }", "signature", more).await;
    store.catalog.set_name(&name("a:1"), &subject.digest).await.unwrap();
    store.catalog.delete_lease(&lease).await.unwrap();
    collect(&store).await;

    let all = store.catalog.referrers(&subject.digest, None, None, "", 10).await.unwrap();
    let other_type = store.catalog.referrers(&subject.digest, None, Some("x"), "", 10).await.unwrap();
    let of_type =
        store.catalog.referrers(&subject.digest, None, Some("application/x-signature"), "", 10).await.unwrap();
    let in_repository = store.catalog.referrers(&subject.digest, Some("reg/a"), None, "", 10).await.unwrap();
    let after = store.catalog.referrers(&subject.digest, None, None, &signature.digest.to_string(), 10).await.unwrap();

    assert_eq!(all, std::slice::from_ref(&signature));
    assert_eq!(all[0].annotations.get("by").map(String::as_str), Some("me"));
    assert_eq!((other_type.len(), of_type.len(), in_repository.len(), after.len()), (0, 1, 0, 0));
    store.catalog.remove_name(&name("a:1")).await.unwrap();
    collect(&store).await;
    assert!(!is_there(&store, &signature.digest).await);
}

#[tokio::test]
async fn a_sparse_index_tells_what_is_missing() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;
    let here = manifest(&store, &lease, "{}", "layer", serde_json::json!({})).await;
    let absent = Digest::from_sha256_bytes([7; 32]);
    let outer = index(&store, &lease, &[entry(&here), descriptor(media_type::OCI_MANIFEST, &absent, 9)]).await;

    let missing = missing(&store, &outer.digest).await.unwrap();

    assert_eq!(missing.iter().map(|found| found.digest).collect::<Vec<_>>(), [absent]);
}

#[tokio::test]
async fn what_two_readers_would_read_differently_is_refused_and_leaves_nothing() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;
    let confused = br#"{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}"#.to_vec();

    let refused = put(&store, confused, media_type::OCI_MANIFEST, &lease, Durability::Full).await;

    assert!(matches!(refused, Err(Error::Image(strata_image::Error::Confused { .. }))), "{refused:?}");
    assert_eq!(store.catalog.totals().await.unwrap(), [0; 4]);
}

#[tokio::test]
async fn a_name_is_not_set_over_what_may_be_lost_or_is_not_there() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;
    let json = serde_json::json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": []});
    let bytes = json.to_string().into_bytes();
    let relaxed = put(&store, bytes.clone(), "", &lease, Durability::Relaxed).await.unwrap();

    let unsynced = store.catalog.set_name(&name("a:1"), &relaxed.digest).await;
    let unknown = store.catalog.set_name(&name("a:1"), &Digest::from_sha256_bytes([1; 32])).await;
    put(&store, bytes, "", &lease, Durability::Full).await.unwrap();

    assert!(matches!(unsynced, Err(Error::BlobDamaged { .. })), "{unsynced:?}");
    assert!(matches!(unknown, Err(Error::DocumentNotFound { .. })), "{unknown:?}");
    assert_eq!(store.catalog.set_name(&name("a:1"), &relaxed.digest).await.unwrap(), None);
}

#[tokio::test]
async fn an_index_leads_to_its_unpacked_image_by_name_by_digest_and_for_tag_and_removal() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;
    let image = fixture::import(&store, "built:1", "content").await.unwrap().row;
    let unpacked = store.catalog.document(&image.manifest).await.unwrap();
    let absent = descriptor(media_type::OCI_MANIFEST, &Digest::from_sha256_bytes([7; 32]), 9);
    let outer = index(&store, &lease, &[absent, entry(&unpacked)]).await;
    store.catalog.set_name(&name("multi:1"), &outer.digest).await.unwrap();
    store.catalog.delete_lease(&lease).await.unwrap();

    let by_digest = format!("multi@{}", outer.digest);
    for text in ["multi:1", &by_digest, &outer.digest.as_hex(), &outer.digest.to_string()] {
        assert_eq!(image::get(&store, text, None).await.unwrap().row.id, image.id, "{text}");
    }
    image::tag(&store, "multi:1", "copy:1").await.unwrap();
    assert_eq!(store.catalog.target(&name("copy:1")).await.unwrap().unwrap().digest, outer.digest);
    let names = image::get(&store, "multi:1", None).await.unwrap().row.names;
    assert_eq!(names, ["docker.io/library/built:1", "docker.io/library/copy:1", "docker.io/library/multi:1"]);
    for text in ["built:1", "copy:1"] {
        assert_eq!(image::remove(&store, text, false).await.unwrap().deleted, [], "{text}");
    }
    assert_eq!(image::remove(&store, &by_digest, false).await.unwrap().deleted, [image.id]);
    collect(&store).await;
    assert_eq!(store.catalog.totals().await.unwrap(), [0; 4]);
}

#[tokio::test]
async fn a_name_whose_images_are_not_unpacked_says_so_and_can_be_removed() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;
    let mut entry = descriptor(media_type::OCI_MANIFEST, &Digest::from_sha256_bytes([7; 32]), 9);
    entry["platform"] = serde_json::json!({"os": "linux", "architecture": strata_types::Platform::host().architecture});
    let row = index(&store, &lease, &[entry]).await;
    store.catalog.set_name(&name("a:1"), &row.digest).await.unwrap();

    let refused = image::get(&store, "a:1", None).await;
    let removed = image::remove(&store, "a:1", false).await.unwrap();

    assert!(matches!(refused, Err(Error::ImageNotUnpacked { target, .. }) if target == row.digest), "{refused:?}");
    assert_eq!((removed.untagged.len(), removed.deleted.len()), (1, 0));
}
