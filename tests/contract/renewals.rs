//! Certificates that are renewed under a service and its clients: new connections get them, and those that are there go on.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use strata_proto::store::v1::{ListLeasesRequest, lease_service_client::LeaseServiceClient};
use strata_rpc::identity::ClientTls;
use tonic::{Status, transport::Channel};

use crate::{
    certificates::{Authority, Pair, Valid},
    node::{Node, STORE, Transport, eventually, over},
};

/// Puts a file in the place of another, as programs that renew certificates do.
fn replace(node: &Node, name: &str, text: &str) {
    let new = node.house.path(&format!("{name}.new"));
    fs::write(&new, text).expect("a temporary directory");
    fs::rename(new, node.house.path(name)).expect("a temporary directory");
}

/// Gives the service a certificate of another authority, whose clients it lets in from then on.
fn renew(node: &Node, authority: &Authority) {
    let Pair { certificate, key } = authority.server();
    for (name, text) in [("ca.pem", authority.pem()), ("server.pem", certificate), ("server.key", key)] {
        replace(node, name, &text);
    }
}

/// A connection of its own.
async fn come(node: &Node, tls: &ClientTls) -> Result<Channel, strata_rpc::endpoint::Error> {
    strata_rpc::connect_eager(node.endpoint("store"), Some(tls)).await
}

async fn ask(channel: Channel) -> Result<(), Status> {
    LeaseServiceClient::new(channel).list_leases(ListLeasesRequest::default()).await.map(drop)
}

/// Whether a client gets in by a connection of its own. TLS 1.3 tells a client of the refusal when it is done.
async fn gets_in(node: &Node, tls: &ClientTls) -> bool {
    match come(node, tls).await {
        Ok(channel) => ask(channel).await.is_ok(),
        Err(_) => false,
    }
}

#[test]
fn renewed_certificates_are_for_new_connections_and_old_ones_go_on() {
    over(Transport::Tcp, STORE, async |node: &Node| {
        let before = node.channel("store");
        ask(before.clone()).await.expect("the old certificate is good");
        let other = Authority::new();
        let old = node.authority.client(Valid::Now);

        renew(node, &other);

        assert!(gets_in(node, &other.tls(&other.client(Valid::Now))).await, "the new authority signed it");
        // It believes the new authority, so that the service's refusal is what decides.
        assert!(!gets_in(node, &other.tls(&old)).await, "the old authority is nobody any more");
        assert!(!gets_in(node, &node.authority.tls(&old)).await, "the service shows the new certificate");
        // Were it another connection, it would be refused.
        ask(before).await.expect("who was there before is served");
    });
}

#[test]
fn a_broken_file_is_told_of_and_what_was_before_stays() {
    over(Transport::Tcp, STORE, async |node: &Node| {
        let client = node.authority.tls(&node.authority.client(Valid::Now));
        let told = |what: &str| node.log("store").matches(what).count();

        replace(node, "server.key", "no key");
        assert!(gets_in(node, &client).await, "the certificate from before stays");
        assert!(gets_in(node, &client).await);

        eventually("the file is named", async || node.log("store").contains("server.key")).await;
        assert_eq!(told("not renewed"), 1, "a state is told of once: {}", node.log("store"));

        // A key of another certificate is as bad.
        replace(node, "server.key", &node.authority.server().key);
        assert!(gets_in(node, &client).await);
        eventually("the pair is refused", async || told("not renewed") == 2).await;

        // Who asks is told, though nobody connects.
        hang_up(node);
        eventually("it is told again", async || told("not renewed") == 3).await;
        renew(node, &node.authority);
        hang_up(node);
        eventually("it is read", async || told("read again") == 1).await;
        assert!(gets_in(node, &client).await);
    });
}

fn hang_up(node: &Node) {
    kill(Pid::from_raw(node.pid("store")), Signal::SIGHUP).expect("the service runs");
}

#[test]
fn a_client_reads_its_files_when_it_connects() {
    over(Transport::Tcp, STORE, async |node: &Node| {
        let write = |authority: &Authority| {
            let Pair { certificate, key } = authority.client(Valid::Now);
            for (name, text) in [("mine-ca.pem", authority.pem()), ("mine.pem", certificate), ("mine.key", key)] {
                replace(node, name, &text);
            }
        };
        write(&node.authority);
        let file = |name: &str| node.house.path(name);
        let tls = ClientTls::load(&file("mine-ca.pem"), &file("mine.pem"), &file("mine.key")).unwrap();
        assert!(gets_in(node, &tls).await);
        let other = Authority::new();

        renew(node, &other);
        assert!(!gets_in(node, &tls).await, "its files are not renewed yet");
        write(&other);

        assert!(gets_in(node, &tls).await, "its files are renewed");
        replace(node, "mine.key", "no key");
        let refused = come(node, &tls).await.err().map(|error| strata_rpc::fault::chain(&error)).unwrap_or_default();
        assert!(refused.contains("mine.key"), "it says which file: {refused}");
    });
}
