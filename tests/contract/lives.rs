//! The life of a service started by hand: one per root and socket, stopped in order, and back after a crash.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use bytes::Bytes;
use strata_proto::store::v1::{
    HoldLeaseRequest, ListLeasesRequest, PutBlobHeader, PutBlobRequest, blob_service_client::BlobServiceClient,
    lease_service_client::LeaseServiceClient, put_blob_request::Part,
};
use strata_tests::Running;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::{
    leases::hold,
    node::{ALL, Node, STORE, Transport, block_on, eventually},
};

const SOON: Duration = Duration::from_secs(20);

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// CVE-2014-3499, CVE-2021-4024 and others, row 127; row 96: a set-uid file of a layer is out of other users' reach.
#[test]
fn sockets_and_roots_are_for_their_owner_only() {
    let node = Node::start(Transport::Unix, ALL);

    for name in node.names() {
        assert_eq!(mode(&node.house.socket(name)), 0o600, "{name}");
        assert_eq!(mode(&node.root(name)), 0o700, "{name}");
    }
    assert_eq!(mode(&node.house.run_dir()), 0o700);
}

#[test]
fn a_second_service_on_a_root_is_refused_and_told_who_has_it() {
    for transport in [Transport::Unix, Transport::Tcp] {
        let node = Node::start(transport, ALL);
        for name in node.names() {
            let elsewhere = match transport {
                Transport::Unix => format!("unix:{}", node.house.path("other.sock").display()),
                Transport::Tcp => "tcp:127.0.0.1:0".to_owned(),
            };

            let refused = Running::spawn(node.command(name, &elsewhere)).finish_within(SOON).fails();

            refused.complains(&[node.root(name).to_str().unwrap(), &format!("process {},", node.pid(name))]);
            assert!(!node.house.path("other.sock").exists(), "a refusal leaves no socket");
        }
    }
}

#[test]
fn a_second_service_on_a_socket_is_refused() {
    let node = Node::start(Transport::Unix, STORE);
    let socket = node.house.socket("store");
    let mut command = node.house.command(strata_tests::binaries().join("strata-store"));
    command.arg("--listen").arg(format!("unix:{}", socket.display())).arg("--root").arg(node.house.path("other"));

    let refused = Running::spawn(command).finish_within(SOON).fails();

    refused.complains(&["another service listens on", socket.to_str().unwrap()]);
    block_on(async { drop(hold(node.channel("store")).await) });
}

#[test]
fn a_file_that_is_no_socket_is_never_replaced() {
    let node = Node::start(Transport::Unix, &[]);
    let precious = node.house.path("precious");
    std::fs::write(&precious, "text").unwrap();

    let command = node.command("store", &format!("unix:{}", precious.display()));
    Running::spawn(command).finish_within(SOON).fails().complains(&[precious.to_str().unwrap()]);

    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "text");
}

#[test]
fn what_a_crash_left_is_taken_over() {
    for transport in [Transport::Unix, Transport::Tcp] {
        let mut node = Node::start(transport, STORE);
        let held = block_on(async {
            let request = HoldLeaseRequest { holder: "before the crash".into(), grace: None };
            let mut client = LeaseServiceClient::new(node.channel("store"));
            let mut stream = client.hold_lease(request).await.unwrap().into_inner();
            stream.message().await.unwrap().unwrap().lease.unwrap().id
        });

        node.crash("store");
        if transport == Transport::Unix {
            assert!(node.house.socket("store").exists(), "a crash leaves the socket");
        }
        node.start_service("store");

        let leases = block_on(async {
            let mut client = LeaseServiceClient::new(node.channel("store"));
            client.list_leases(ListLeasesRequest::default()).await.unwrap().into_inner().leases
        });
        assert!(leases.iter().any(|lease| lease.id == held), "what was acknowledged is there: {leases:?}");
    }
}

#[test]
fn of_two_starts_at_once_one_serves() {
    for _ in 0..5 {
        let node = Node::start(Transport::Unix, &[]);
        let socket = node.house.socket("store");
        let listen = format!("unix:{}", socket.display());
        let mut both: Vec<Running> = (0..2).map(|_| Running::spawn(node.command("store", &listen))).collect();

        strata_tests::eventually("one is refused", SOON, || both.iter_mut().any(|one| !one.is_running()));
        let loser = both.iter_mut().position(|one| !one.is_running()).unwrap();
        let refused = both.remove(loser).finish_within(SOON).fails();
        let mut winner = both.remove(0);
        winner.wait_for("serving service=");

        refused.complains(&["another service"]);
        assert!(strata_rpc::socket::answers(&socket));
        winner.signal(nix::sys::signal::Signal::SIGTERM);
        winner.finish_within(SOON).ok();
    }
}

#[test]
fn a_service_that_is_told_to_stop_ends_what_it_has_begun() {
    for transport in [Transport::Unix, Transport::Tcp] {
        let mut node = Node::start(transport, STORE);
        block_on(async {
            let request = HoldLeaseRequest { holder: "an upload".into(), grace: None };
            let mut client = LeaseServiceClient::new(node.channel("store"));
            let mut held = client.hold_lease(request).await.unwrap().into_inner();
            let lease = held.message().await.unwrap().unwrap().lease.unwrap();
            let (sender, receiver) = mpsc::channel(4);
            let header = PutBlobHeader { expected_digest: None, lease_id: lease.id.clone() };
            sender.send(PutBlobRequest { part: Some(Part::Header(header)) }).await.unwrap();
            let chunk =
                |text: &'static str| PutBlobRequest { part: Some(Part::Chunk(Bytes::from_static(text.as_bytes()))) };
            sender.send(chunk("before")).await.unwrap();
            let before = node.files("store");
            let mut client = BlobServiceClient::new(node.channel("store"));
            let upload = tokio::spawn(async move { client.put_blob(ReceiverStream::new(receiver)).await });
            eventually("the upload has begun", async || node.files("store") != before).await;

            node.ask_to_stop("store");
            eventually("it drains", async || node.log("store").contains("draining")).await;
            if transport == Transport::Unix {
                eventually("the socket is gone", async || !node.house.socket("store").exists()).await;
            }
            sender.send(chunk(" and after")).await.unwrap();
            drop(sender);

            let blob = upload.await.unwrap().unwrap().into_inner().blob.unwrap();
            assert_eq!(blob.size_bytes, 16, "{transport:?}");
        });

        node.ended("store").ok();
    }
}

#[test]
fn a_stop_tells_those_who_wait_and_does_not_wait_for_them() {
    for transport in [Transport::Unix, Transport::Tcp] {
        let mut node = Node::start(transport, STORE);
        block_on(async {
            let request = HoldLeaseRequest { holder: "who waits".into(), grace: None };
            let mut client = LeaseServiceClient::new(node.channel("store"));
            let mut stream = client.hold_lease(request).await.unwrap().into_inner();
            stream.message().await.unwrap().unwrap();

            node.ask_to_stop("store");

            let told = stream.message().await.unwrap_err();
            assert_eq!(told.code(), Code::Unavailable, "{told:?}");
        });
        let ended = node.ended("store").ok();
        assert!(ended.took < Duration::from_secs(20), "it waited for nobody: {ended:?}");
    }
}
