//! Paths of calls: the one of a method is right, and nothing that only looks like it leads to a handler. The frames are
//! made here, since no client library sends such paths.

use strata_proto::store::v1::{ListLeasesRequest, lease_service_client::LeaseServiceClient};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use crate::node::{Node, STORE, Transport, eventually, over};

const METHOD: &str = "/strata.store.v1.LeaseService/HoldLease";

/// Types of frames (RFC 9113, 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
/// Flags of frames: the sender's last of a stream, and all headers are in this one.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[0, length[0], length[1], kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A header as RFC 7541, 6.2.2 writes it plainly: no index, no table, no Huffman code.
fn header(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        assert!(text.len() < 127, "{text} needs a longer length");
        [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    };
    [vec![0], text(name), text(value)].concat()
}

/// Asks for a lease by a path, and returns when the service has ended the stream, or has begun to answer.
async fn ask(node: &Node, path: &str) -> UnixStream {
    let mut stream = UnixStream::connect(node.house.socket("store")).await.unwrap();
    let headers = [(":method", "POST"), (":scheme", "http"), (":authority", "localhost"), (":path", path)];
    let headers = headers.into_iter().chain([("content-type", "application/grpc"), ("te", "trailers")]);
    let block: Vec<u8> = headers.flat_map(|(name, value)| header(name, value)).collect();
    // HoldLeaseRequest { holder: "raw" } behind the five bytes of gRPC.
    let body = b"\0\0\0\0\x05\x0a\x03raw";
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let settings = frame(SETTINGS, 0, 0, &[]);
    let request = [frame(HEADERS, END_HEADERS, 1, &block), frame(DATA, END_STREAM, 1, body)].concat();
    stream.write_all(&[preface, settings, request].concat()).await.unwrap();
    loop {
        let mut head = [0; 9];
        // Whoever sends what is no HTTP is hung up on.
        if stream.read_exact(&mut head).await.is_err() {
            return stream;
        }
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).await.unwrap();
        let is_ours = head[8] == 1 && matches!(head[3], HEADERS | DATA | RST_STREAM);
        if is_ours || head[3] == GOAWAY {
            return stream;
        }
    }
}

async fn holders(node: &Node) -> Vec<String> {
    let mut client = LeaseServiceClient::new(node.channel("store"));
    let leases = client.list_leases(ListLeasesRequest::default()).await.unwrap().into_inner().leases;
    leases.into_iter().map(|lease| lease.holder).collect()
}

/// CVE-2026-33186, row 125: what decides who may call a method, and what calls it, read the same path.
#[test]
fn only_the_path_of_a_method_leads_to_it() {
    over(Transport::Unix, STORE, async |node: &Node| {
        let bare = METHOD.trim_start_matches('/');
        let (service, method) = bare.split_once('/').unwrap();
        let paths = [
            bare.to_owned(),
            format!("/{METHOD}"),
            format!("{METHOD}/"),
            format!("{METHOD}//"),
            format!("/{service}//{method}"),
            format!("/./{bare}"),
            format!("/x/../{bare}"),
            format!("/{service}/%48oldLease"),
            format!("/{service}%2f{method}"),
            format!("/%73trata.store.v1.LeaseService/{method}"),
            METHOD.to_lowercase(),
            METHOD.to_uppercase(),
            format!("/{service}/holdLease"),
            format!("/{service}/HoldLease%00"),
            format!("/{service}/HoldLease "),
            format!("/{service}/HoldLease;x"),
            format!("/LeaseService/{method}"),
            format!("/{service}"),
            format!("http://localhost{METHOD}x"),
            "*".to_owned(),
            "/".to_owned(),
            String::new(),
        ];
        for path in paths {
            let _open = ask(node, &path).await;
            assert_eq!(holders(node).await, Vec::<String>::new(), "{path:?} led to the handler");
        }

        // Such a request is answered where its path is right: it is the path alone that was wrong.
        let right = ask(node, METHOD).await;
        eventually("the lease is there", async || holders(node).await == ["raw"]).await;
        drop(right);
    });
}
