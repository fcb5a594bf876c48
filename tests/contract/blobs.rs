//! Blobs: bytes under their digest, whole or not at all.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use strata_proto::store::v1::{
    GetBlobRequest, ListBlobsRequest, PutBlobHeader, PutBlobRequest, PutBlobResponse, ReadBlobRequest,
    blob_service_client::BlobServiceClient, put_blob_request::Part,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::{
    faults::{malformed, refused},
    leases::hold,
    node::{Node, STORE, eventually, nothing_left},
};

/// Most bytes in one chunk.
const MOST: usize = 262_144;

over_both!(STORE; a_blob_is_read_back_from_any_offset, storing_a_blob_twice_changes_nothing,
    bytes_without_their_digest_are_refused, chunks_are_bounded, a_header_comes_first_and_once,
    a_lease_is_needed, an_upload_that_is_dropped_leaves_nothing, blobs_are_listed_in_pages, an_absent_blob_is_named);

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn header(lease: &str, expected: Option<String>) -> PutBlobRequest {
    let header = PutBlobHeader { expected_digest: expected, lease_id: lease.to_owned() };
    PutBlobRequest { part: Some(Part::Header(header)) }
}

fn chunk(bytes: impl Into<Bytes>) -> PutBlobRequest {
    PutBlobRequest { part: Some(Part::Chunk(bytes.into())) }
}

async fn put(node: &Node, messages: Vec<PutBlobRequest>) -> Result<PutBlobResponse, Status> {
    let mut client = BlobServiceClient::new(node.channel("store"));
    client.put_blob(tokio_stream::iter(messages)).await.map(tonic::Response::into_inner)
}

async fn read(node: &Node, digest: &str, offset_bytes: u64) -> Result<Vec<u8>, Status> {
    let mut client = BlobServiceClient::new(node.channel("store"));
    let mut stream = client.read_blob(ReadBlobRequest { digest: digest.to_owned(), offset_bytes }).await?.into_inner();
    let mut all = vec![];
    while let Some(message) = stream.message().await? {
        assert!((1..=MOST).contains(&message.chunk.len()), "a chunk of {} bytes", message.chunk.len());
        all.extend_from_slice(&message.chunk);
    }
    Ok(all)
}

async fn a_blob_is_read_back_from_any_offset(node: &Node) {
    let lease = hold(node.channel("store")).await;
    let bytes: Vec<u8> = (0..MOST * 2 + 17).map(|n| (n % 251) as u8).collect();
    let mut messages = vec![header(&lease.id, Some(digest(&bytes)))];
    messages.extend(bytes.chunks(MOST).map(|part| chunk(part.to_vec())));

    let blob = put(node, messages).await.unwrap().blob.unwrap();

    assert_eq!((blob.digest.as_str(), blob.size_bytes), (digest(&bytes).as_str(), bytes.len() as u64));
    for offset in [0, 1, MOST, bytes.len()] {
        assert_eq!(read(node, &blob.digest, offset as u64).await.unwrap(), bytes[offset..], "from {offset}");
    }
    malformed(read(node, &blob.digest, bytes.len() as u64 + 1).await, "offset_bytes");
    malformed(read(node, &blob.digest, u64::MAX).await, "offset_bytes");
}

async fn storing_a_blob_twice_changes_nothing(node: &Node) {
    let lease = hold(node.channel("store")).await;
    let messages = || vec![header(&lease.id, None), chunk("same"), chunk(" bytes")];

    let first = put(node, messages()).await.unwrap();
    let files = node.files("store");
    let second = put(node, messages()).await.unwrap();

    assert_eq!(first, second);
    assert_eq!(files, node.files("store"));
    let empty = put(node, vec![header(&lease.id, None)]).await.unwrap().blob.unwrap();
    assert_eq!((empty.digest, empty.size_bytes), (digest(b""), 0));
}

async fn bytes_without_their_digest_are_refused(node: &Node) {
    let lease = hold(node.channel("store")).await;
    let files = node.files("store");

    let lying = put(node, vec![header(&lease.id, Some(digest(b"one"))), chunk("other")]).await;

    refused(lying, Code::DataLoss, "FAULT_DIGEST_MISMATCH");
    for bad in ["", "sha256:", "sha256:AB", &digest(b"x").to_uppercase(), &digest(b"x").replace("256", "512")] {
        let answer = put(node, vec![header(&lease.id, Some(bad.to_owned())), chunk("x")]).await;
        malformed(answer, "header.expected_digest");
    }
    nothing_left(node, "store", &files).await;
}

/// CVE-2024-41110 and CVE-2026-34040, row 124: what is too large is refused, never judged by a part.
async fn chunks_are_bounded(node: &Node) {
    let lease = hold(node.channel("store")).await;

    put(node, vec![header(&lease.id, None), chunk(vec![1; MOST])]).await.unwrap();
    for size in [0, MOST + 1, 1 << 20] {
        malformed(put(node, vec![header(&lease.id, None), chunk(vec![1; size])]).await, "chunk");
    }
    // Above the limit of a message nothing is read at all.
    let huge = put(node, vec![header(&lease.id, None), chunk(vec![1; 5 << 20])]).await.unwrap_err();
    assert_eq!(huge.code(), Code::OutOfRange, "{huge:?}");
}

async fn a_header_comes_first_and_once(node: &Node) {
    let lease = hold(node.channel("store")).await;

    malformed(put(node, vec![]).await, "header");
    malformed(put(node, vec![chunk("x")]).await, "header");
    malformed(put(node, vec![PutBlobRequest { part: None }]).await, "header");
    let twice = vec![header(&lease.id, None), chunk("x"), header(&lease.id, None)];
    malformed(put(node, twice).await, "chunk");
}

async fn a_lease_is_needed(node: &Node) {
    for bad in ["", "Upper", "a b", "../x", &"x".repeat(65)] {
        malformed(put(node, vec![header(bad, None), chunk("x")]).await, "lease_id");
    }
    let unknown = put(node, vec![header("no-such-lease", None), chunk("x")]).await;
    refused(unknown, Code::NotFound, "FAULT_LEASE_NOT_FOUND").resource("lease", "no-such-lease");
}

async fn an_upload_that_is_dropped_leaves_nothing(node: &Node) {
    let lease = hold(node.channel("store")).await;
    let files = node.files("store");
    let (sender, receiver) = mpsc::channel(4);
    sender.send(header(&lease.id, None)).await.unwrap();
    sender.send(chunk(vec![7; 1000])).await.unwrap();
    let mut client = BlobServiceClient::new(node.channel("store"));
    let upload = tokio::spawn(async move { client.put_blob(ReceiverStream::new(receiver)).await });
    eventually("the upload has begun", async || node.files("store") != files).await;

    upload.abort();

    nothing_left(node, "store", &files).await;
    let mut client = BlobServiceClient::new(node.channel("store"));
    assert!(client.list_blobs(ListBlobsRequest::default()).await.unwrap().into_inner().blobs.is_empty());
    drop(sender);
}

async fn blobs_are_listed_in_pages(node: &Node) {
    let lease = hold(node.channel("store")).await;
    let mut expected = vec![];
    for n in 0..5u8 {
        put(node, vec![header(&lease.id, None), chunk(vec![n; 3])]).await.unwrap();
        expected.push(digest(&[n; 3]));
    }
    expected.sort();
    let mut client = BlobServiceClient::new(node.channel("store"));

    let (mut found, mut page_token) = (vec![], String::new());
    loop {
        let page = client.list_blobs(ListBlobsRequest { page_size: 2, page_token }).await.unwrap().into_inner();
        found.extend(page.blobs.into_iter().map(|blob| blob.digest));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }

    assert_eq!(found, expected);
    let foreign = ListBlobsRequest { page_size: 0, page_token: "1zz".into() };
    malformed(client.list_blobs(foreign).await, "page_token");
}

async fn an_absent_blob_is_named(node: &Node) {
    let mut client = BlobServiceClient::new(node.channel("store"));
    let absent = digest(b"nobody stored this");

    let got = client.get_blob(GetBlobRequest { digest: absent.clone() }).await;
    refused(got, Code::NotFound, "FAULT_BLOB_NOT_FOUND").resource("blob", &absent);
    refused(read(node, &absent, 0).await, Code::NotFound, "FAULT_BLOB_NOT_FOUND").resource("blob", &absent);
    for bad in ["", "latest", "sha256:../../etc/passwd"] {
        malformed(client.get_blob(GetBlobRequest { digest: bad.into() }).await, "digest");
    }
}
