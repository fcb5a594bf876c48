//! Contents: what a build context is made of, by blake3.

use bytes::Bytes;
use strata_proto::store::v1::{
    MissingContentsRequest, PutContentsHeader, PutContentsRequest, PutContentsResponse, ReadContentRequest,
    SmallContents, content_service_client::ContentServiceClient, put_contents_request::Part,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};

use crate::{
    faults::{malformed, refused},
    leases::hold,
    node::{Node, STORE, eventually, nothing_left},
};

over_both!(STORE; what_was_put_is_missing_no_more, contents_are_checked_against_their_digests, chunks_are_bounded,
    malformed_digests_and_leases_are_refused, a_transfer_that_is_dropped_leaves_no_half_content);

/// blake3 of bytes, as the protos want it.
pub fn digest(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(blake3::hash(bytes).as_bytes())
}

fn header(lease: &str, bytes: &[u8]) -> PutContentsRequest {
    let header =
        PutContentsHeader { lease_id: lease.to_owned(), blake3: digest(bytes), size_bytes: bytes.len() as u64 };
    PutContentsRequest { part: Some(Part::Header(header)) }
}

fn chunk(bytes: impl Into<Bytes>) -> PutContentsRequest {
    PutContentsRequest { part: Some(Part::Chunk(bytes.into())) }
}

fn small(lease: &str, contents: &[&'static [u8]]) -> PutContentsRequest {
    let contents = contents.iter().map(|&bytes| Bytes::from_static(bytes)).collect();
    PutContentsRequest { part: Some(Part::Small(SmallContents { lease_id: lease.to_owned(), contents })) }
}

async fn put(channel: Channel, messages: Vec<PutContentsRequest>) -> Result<PutContentsResponse, Status> {
    let mut client = ContentServiceClient::new(channel);
    client.put_contents(tokio_stream::iter(messages)).await.map(tonic::Response::into_inner)
}

/// Puts one content.
pub async fn put_one(channel: Channel, lease: &str, bytes: &'static [u8]) {
    put(channel, vec![small(lease, &[bytes])]).await.unwrap();
}

async fn missing(node: &Node, lease: &str, wanted: &[&[u8]]) -> Vec<u32> {
    let mut client = ContentServiceClient::new(node.channel("store"));
    let blake3 = wanted.iter().map(|bytes| digest(bytes)).collect();
    let request = MissingContentsRequest { lease_id: lease.to_owned(), blake3 };
    client.missing_contents(request).await.unwrap().into_inner().missing
}

async fn read(node: &Node, blake3: Bytes) -> Result<Vec<u8>, Status> {
    let mut client = ContentServiceClient::new(node.channel("store"));
    let mut stream = client.read_content(ReadContentRequest { blake3, is_decompressed: false }).await?.into_inner();
    let mut all = vec![];
    while let Some(message) = stream.message().await? {
        all.extend_from_slice(&message.chunk);
    }
    Ok(all)
}

async fn what_was_put_is_missing_no_more(node: &Node) {
    let lease = hold(node.channel("store")).await;
    let large: Vec<u8> = (0..600_000).map(|n| (n % 253) as u8).collect();
    let wanted: [&[u8]; 4] = [b"one", b"two", b"", &large];
    assert_eq!(missing(node, &lease.id, &wanted).await, [0, 1, 3], "nobody has to send nothing");

    let mut messages = vec![small(&lease.id, &[b"two", b""]), header("", &large)];
    messages.extend(large.chunks(262_144).map(|part| chunk(part.to_vec())));
    let stored = put(node.channel("store"), messages).await.unwrap().stored;

    assert_eq!(stored, 3);
    assert_eq!(missing(node, &lease.id, &wanted).await, [0]);
    assert_eq!(read(node, digest(&large)).await.unwrap(), large);
    let absent = read(node, digest(b"one")).await;
    refused(absent, Code::NotFound, "FAULT_CONTENT_NOT_FOUND").resource("content", &hex::encode(digest(b"one")));
}

async fn contents_are_checked_against_their_digests(node: &Node) {
    let lease = hold(node.channel("store")).await;
    let channel = || node.channel("store");

    let lying = put(channel(), vec![small(&lease.id, &[b"good"]), header("", b"right"), chunk("wrong")]).await;
    refused(lying, Code::DataLoss, "FAULT_DIGEST_MISMATCH");
    malformed(put(channel(), vec![header(&lease.id, b"right"), chunk("righ")]).await, "size_bytes");
    malformed(put(channel(), vec![header(&lease.id, b"right"), chunk("right and more")]).await, "chunk");

    let wanted: [&[u8]; 2] = [b"good", b"right"];
    assert_eq!(missing(node, &lease.id, &wanted).await, [1], "what came before a fault stays");
}

async fn chunks_are_bounded(node: &Node) {
    let lease = hold(node.channel("store")).await;
    let zeroes = vec![0; 262_145];

    malformed(put(node.channel("store"), vec![header(&lease.id, &zeroes), chunk(zeroes.clone())]).await, "chunk");
    malformed(put(node.channel("store"), vec![header(&lease.id, b""), chunk("")]).await, "chunk");
    malformed(put(node.channel("store"), vec![chunk("x")]).await, "chunk");
    let much = vec![0; (1 << 20) + 1].leak();
    malformed(put(node.channel("store"), vec![small(&lease.id, &[much])]).await, "small");
    malformed(put(node.channel("store"), vec![PutContentsRequest { part: None }]).await, "part");
}

async fn malformed_digests_and_leases_are_refused(node: &Node) {
    let lease = hold(node.channel("store")).await;
    let mut client = ContentServiceClient::new(node.channel("store"));
    let mut ask = async |lease: &str, blake3: Vec<Bytes>| {
        client.missing_contents(MissingContentsRequest { lease_id: lease.to_owned(), blake3 }).await
    };

    malformed(ask(&lease.id, vec![digest(b""), Bytes::from_static(&[1; 31])]).await, "blake3");
    malformed(ask(&lease.id, vec![digest(b""); 65_537]).await, "blake3");
    malformed(ask("", vec![]).await, "lease_id");
    refused(ask("unknown", vec![digest(b"")]).await, Code::NotFound, "FAULT_LEASE_NOT_FOUND");
    refused(put(node.channel("store"), vec![header("unknown", b"x")]).await, Code::NotFound, "FAULT_LEASE_NOT_FOUND");
    malformed(put(node.channel("store"), vec![header("", b"x"), chunk("x")]).await, "lease_id");
    malformed(read(node, Bytes::from_static(b"short")).await, "blake3");
}

async fn a_transfer_that_is_dropped_leaves_no_half_content(node: &Node) {
    let lease = hold(node.channel("store")).await;
    let files = node.files("store");
    let (sender, receiver) = mpsc::channel(4);
    sender.send(header(&lease.id, b"a whole content")).await.unwrap();
    sender.send(chunk("a whole")).await.unwrap();
    let mut client = ContentServiceClient::new(node.channel("store"));
    let transfer = tokio::spawn(async move { client.put_contents(ReceiverStream::new(receiver)).await });
    eventually("the transfer has begun", async || node.files("store") != files).await;

    transfer.abort();

    nothing_left(node, "store", &files).await;
    assert_eq!(missing(node, &lease.id, &[b"a whole content"]).await, [0]);
    drop(sender);
}
