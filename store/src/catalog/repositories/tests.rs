//! What repositories hold, and how long.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use strata_types::{Digest, Reference, media_type};

use crate::catalog::Durability;
use crate::{Store, blob, document, fixture, gc};

const REPOSITORY: &str = "docker.io/library/app";

/// A stored document of a repository.
async fn push(store: &Arc<Store>, json: Value, media_type: &str) -> Digest {
    let lease = fixture::lease(store, &crate::lease::random_text(20)).await;
    let bytes = json.to_string().into_bytes();
    let row = document::put(store, bytes, media_type, &lease, Durability::Full).await.unwrap();
    store.catalog.keep_in_repository(REPOSITORY, &row.digest).await.unwrap();
    store.catalog.delete_lease(&lease).await.unwrap();
    row.digest
}

async fn manifest(store: &Arc<Store>, note: &str, subject: Option<&Digest>) -> Digest {
    let mut json = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "layers": [], "annotations": {"note": note},
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "size": 2, "digest": blob::digest(b"{}").to_string()}
    });
    if let Some(subject) = subject {
        json["subject"] = json!({"mediaType": media_type::OCI_MANIFEST, "size": 2, "digest": subject.to_string()});
    }
    push(store, json, media_type::OCI_MANIFEST).await
}

async fn name(store: &Arc<Store>, tag: &str, target: &Digest) {
    let name = Reference::parse(&format!("{REPOSITORY}:{tag}")).unwrap();
    store.catalog.set_name(&name, target).await.unwrap();
}

async fn is_held(store: &Arc<Store>, digest: &Digest) -> bool {
    store.catalog.is_in_repository(REPOSITORY, digest).await.unwrap()
}

#[tokio::test]
async fn documents_that_no_name_leads_to_are_let_go_after_their_time() {
    let (_root, store) = fixture::store().await;
    let tagged = manifest(&store, "tagged", None).await;
    let child = manifest(&store, "of an index", None).await;
    let index = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
        "manifests": [{"mediaType": media_type::OCI_MANIFEST, "size": 2, "digest": child.to_string()}]
    });
    let index = push(&store, index, media_type::OCI_INDEX).await;
    let signature = manifest(&store, "about the child", Some(&child)).await;
    let stray = manifest(&store, "stray", None).await;
    let about_stray = manifest(&store, "about the stray", Some(&stray)).await;
    name(&store, "one", &tagged).await;
    name(&store, "two", &index).await;

    // Young enough.
    assert_eq!(store.catalog.expire_untagged(3_600_000).await.unwrap(), 0);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(store.catalog.expire_untagged(10).await.unwrap(), 2);

    for (digest, expected) in
        [(tagged, true), (child, true), (index, true), (signature, true), (stray, false), (about_stray, false)]
    {
        assert_eq!(is_held(&store, &digest).await, expected, "{digest}");
    }
    gc::collect(&store, Duration::ZERO).await.unwrap();
    assert!(store.catalog.document(&stray).await.is_err());
    assert!(store.catalog.document(&signature).await.is_ok());
}

#[tokio::test]
async fn a_form_for_others_that_is_pushed_too_stays() {
    let (_root, store) = fixture::store().await;
    let (origin, form) = (manifest(&store, "made here", None).await, manifest(&store, "for others", None).await);
    let elsewhere = "docker.io/library/other";
    store.catalog.export_to_repository(elsewhere, &form, &origin).await.unwrap();
    assert_eq!(store.catalog.exported(elsewhere, &origin).await.unwrap(), Some(form));

    store.catalog.keep_in_repository(elsewhere, &form).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;

    assert_eq!(store.catalog.expire_exports(10).await.unwrap(), 0);
    assert!(store.catalog.is_in_repository(elsewhere, &form).await.unwrap());
}

#[tokio::test]
async fn a_blob_of_a_repository_is_no_garbage_until_it_is_let_go() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "test").await;
    let digest = fixture::blob(&store, &lease, "pushed").await;
    store.catalog.put_repository_blob(REPOSITORY, &digest.to_string(), &digest, 6).await.unwrap();
    store.catalog.delete_lease(&lease).await.unwrap();

    gc::collect(&store, Duration::ZERO).await.unwrap();
    let held = store.catalog.repository_blob(REPOSITORY, &digest.to_string()).await.unwrap().unwrap();
    assert_eq!((held.digest, held.size), (digest, 6));
    assert!(store.catalog.repository_blob("docker.io/library/other", &digest.to_string()).await.unwrap().is_none());
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(store.catalog.expire_repository_blobs(10).await.unwrap(), 1);
    gc::collect(&store, Duration::ZERO).await.unwrap();

    assert!(store.catalog.blob(&digest).await.is_err());
}
