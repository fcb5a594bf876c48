//! Claims about blobs and their files.

use super::*;
use crate::fixture;

async fn upload(store: &Arc<Store>, lease: &LeaseId, expected: Option<Digest>, content: &str) -> Result<BlobRow> {
    let mut upload = Upload::begin(store, lease, expected).await?;
    for piece in content.as_bytes().chunks(3) {
        upload.write(bytes::Bytes::copy_from_slice(piece)).await?;
    }
    upload.finish().await
}

#[tokio::test]
async fn an_upload_is_read_back_and_leaves_no_temporary() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;

    let row = upload(&store, &lease, Some(digest(b"hello world")), "hello world").await.unwrap();

    assert_eq!(read(&store, &row.digest).await.unwrap(), b"hello world");
    assert!(crate::disk::names(&store.paths.ingest()).unwrap().is_empty());
}

#[tokio::test]
async fn bytes_of_another_digest_leave_nothing() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;

    let refused = upload(&store, &lease, Some(digest(b"other")), "hello").await;

    assert!(matches!(refused, Err(Error::DigestMismatch { .. })));
    assert!(crate::disk::names(&store.paths.ingest()).unwrap().is_empty());
    assert!(store.catalog.blobs("", 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_second_upload_of_the_same_bytes_is_held_by_its_own_lease() {
    let (_root, store) = fixture::store().await;
    let (first, second) = (fixture::lease(&store, "a").await, fixture::lease(&store, "b").await);
    let row = upload(&store, &first, None, "x").await.unwrap();
    upload(&store, &second, None, "x").await.unwrap();

    store.catalog.delete_lease(&first).await.unwrap();
    crate::gc::collect(&store, std::time::Duration::ZERO).await.unwrap();

    assert_eq!(read(&store, &row.digest).await.unwrap(), b"x");
}

#[tokio::test]
async fn a_damaged_file_is_never_handed_out_whole() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;
    let digest = fixture::blob(&store, &lease, "abc").await;

    std::fs::write(store.paths.blob(&digest), "abd").unwrap();

    assert!(matches!(read(&store, &digest).await, Err(Error::BlobDamaged { .. })));
}
