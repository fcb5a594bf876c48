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

#[tokio::test]
async fn a_blob_in_pieces_is_continued_where_it_was_left() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;
    let name = PartialName::Blob(digest(b"hello world"));
    assert_eq!(partial_size(&store, &name).await.unwrap(), None);
    let mut partial = Partial::open(&store, &name).await.unwrap();
    partial.append(bytes::Bytes::from_static(b"hello ")).await.unwrap();
    drop(partial);
    assert_eq!(partial_size(&store, &name).await.unwrap(), Some(6));

    let mut partial = Partial::open(&store, &name).await.unwrap();
    assert_eq!(partial.offset(), 6);
    assert!(matches!(store.catalog.blob(&digest(b"hello world")).await, Err(Error::BlobNotFound { .. })));
    partial.append(bytes::Bytes::from_static(b"world")).await.unwrap();
    let row = partial.finish(&digest(b"hello world"), &lease, Durability::Full).await.unwrap();

    assert_eq!((row.size, row.is_durable), (11, true));
    assert_eq!(read(&store, &row.digest).await.unwrap(), b"hello world");
    assert_eq!(partial_size(&store, &name).await.unwrap(), None);
}

#[tokio::test]
async fn a_blob_in_pieces_that_ends_wrong_is_thrown_away() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;
    let name = PartialName::upload("a-1").unwrap();
    let mut partial = Partial::open(&store, &name).await.unwrap();
    partial.append(bytes::Bytes::from_static(b"hello")).await.unwrap();

    let refused = partial.finish(&digest(b"other"), &lease, Durability::Full).await;

    assert!(matches!(refused, Err(Error::DigestMismatch { .. })), "{refused:?}");
    assert_eq!(partial_size(&store, &name).await.unwrap(), None);
    assert_eq!(store.catalog.totals().await.unwrap()[0], 0);
    assert_eq!(Partial::open(&store, &name).await.unwrap().offset(), 0);
}

#[tokio::test]
async fn only_one_writer_has_a_blob_in_pieces() {
    let (_root, store) = fixture::store().await;
    let name = PartialName::upload("a").unwrap();
    let first = Partial::open(&store, &name).await.unwrap();

    let second = Partial::open(&store, &name).await;
    assert!(matches!(second, Err(Error::PartialBusy { .. })), "{second:?}");
    drop(first);

    Partial::open(&store, &name).await.unwrap().discard().await.unwrap();
    assert_eq!(partial_size(&store, &name).await.unwrap(), None);
}

#[tokio::test]
async fn pieces_that_nobody_continues_go_but_not_from_under_a_writer() {
    let (_root, store) = fixture::store().await;
    let (idle, busy) = (PartialName::upload("idle").unwrap(), PartialName::upload("busy").unwrap());
    let mut partial = Partial::open(&store, &idle).await.unwrap();
    partial.append(bytes::Bytes::from_static(b"12345")).await.unwrap();
    drop(partial);
    let writer = Partial::open(&store, &busy).await.unwrap();

    assert_eq!(sweep_partials(&store, std::time::Duration::from_secs(60)).unwrap(), 0);
    let freed = sweep_partials(&store, std::time::Duration::ZERO).unwrap();

    assert_eq!(freed, 5);
    assert_eq!(partial_size(&store, &idle).await.unwrap(), None);
    assert_eq!(partial_size(&store, &busy).await.unwrap(), Some(0));
    drop(writer);
}

/// CVE-2014-9358, row 56.
#[test]
fn an_id_of_an_upload_is_never_a_path() {
    for bad in ["", "..", "a/b", "a.b", "ä", &"x".repeat(65)] {
        assert!(PartialName::upload(bad).is_err(), "{bad}");
    }
}
