//! The door of a service over TCP: who shows no certificate of the authority, or not a valid one, reaches no handler.

use strata_proto::store::v1::{HoldLeaseRequest, ListLeasesRequest, lease_service_client::LeaseServiceClient};
use strata_rpc::{Endpoint, identity::ClientTls};
use strata_tests::Running;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    certificates::{Authority, Valid},
    node::{ALL, Node, STORE, Transport, over},
};

fn address(endpoint: &Endpoint) -> String {
    let Endpoint::Tcp { host, port } = endpoint else { panic!("{endpoint} is not on TCP") };
    format!("{host}:{port}")
}

fn show(node: &Node, tls: &ClientTls) -> Channel {
    strata_rpc::connect(node.endpoint("store"), Some(tls)).unwrap()
}

/// Insists that a channel gets no lease, and that none was made.
async fn is_shut_out(node: &Node, what: &str, channel: Channel) {
    let ask = HoldLeaseRequest { holder: format!("who shows {what}"), grace: None };

    let answer = LeaseServiceClient::new(channel).hold_lease(ask).await;

    let status = answer.err().unwrap_or_else(|| panic!("who shows {what} was let in"));
    assert_eq!(strata_rpc::reason_of(&status), None, "{what}: a handler answered: {status:?}");
    let mut good = LeaseServiceClient::new(node.channel("store"));
    let leases = good.list_leases(ListLeasesRequest::default()).await.unwrap().into_inner().leases;
    assert!(leases.is_empty(), "{what}: a handler ran");
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    over(Transport::Tcp, STORE, async |node: &Node| {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(node.authority.pem()));
        let target = Channel::from_shared(format!("https://{}", address(node.endpoint("store")))).unwrap();

        is_shut_out(node, "nothing", target.tls_config(tls).unwrap().connect_lazy()).await;
    });
}

#[test]
fn a_client_without_tls_is_refused() {
    over(Transport::Tcp, STORE, async |node: &Node| {
        let target = Channel::from_shared(format!("http://{}", address(node.endpoint("store")))).unwrap();

        is_shut_out(node, "plain text", target.connect_lazy()).await;
    });
}

#[test]
fn a_certificate_that_is_not_valid_now_is_refused() {
    over(Transport::Tcp, STORE, async |node: &Node| {
        for (what, valid) in [("an expired certificate", Valid::Before), ("one of the future", Valid::Later)] {
            let pair = node.authority.client(valid);

            is_shut_out(node, what, show(node, &node.authority.tls(&pair))).await;
        }
    });
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    over(Transport::Tcp, STORE, async |node: &Node| {
        let pair = Authority::new().client(Valid::Now);

        // The client believes the service's authority, so that the service's refusal is what decides.
        is_shut_out(node, "a foreign certificate", show(node, &node.authority.tls(&pair))).await;
    });
}

#[test]
fn a_certificate_that_is_not_for_clients_is_refused() {
    over(Transport::Tcp, STORE, async |node: &Node| {
        let pair = node.authority.only_server();

        is_shut_out(node, "a certificate of a server", show(node, &node.authority.tls(&pair))).await;
    });
}

#[test]
fn a_client_refuses_a_service_of_another_authority() {
    over(Transport::Tcp, STORE, async |node: &Node| {
        let other = Authority::new();
        let pair = node.authority.client(Valid::Now);
        let tls = ClientTls::from_pem(other.pem(), pair.certificate, pair.key);

        strata_rpc::connect_eager(node.endpoint("store"), Some(&tls)).await.unwrap_err();
    });
}

/// CVE-2014-3499, CVE-2025-9074 and others, row 127.
#[test]
fn every_service_refuses_who_shows_nothing() {
    over(Transport::Tcp, ALL, async |node: &Node| {
        for name in node.names() {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(node.authority.pem()));
            let target = Channel::from_shared(format!("https://{}", address(node.endpoint(name)))).unwrap();
            let mut client = HealthClient::new(target.tls_config(tls).unwrap().connect_lazy());

            let answer = client.check(HealthCheckRequest { service: String::new() }).await;

            assert!(answer.is_err(), "{name} tells strangers how it is");
        }
    });
}

/// CVE-2014-3499 and others, row 127.
#[test]
fn tcp_without_certificates_is_refused_at_the_start() {
    let node = Node::start(Transport::Unix, &[]);
    for name in ALL {
        let command = node.command(name, "tcp:127.0.0.1:0");

        let refused = Running::spawn(command).finish_within(std::time::Duration::from_secs(20)).fails();

        refused.complains(&["--tls-ca", "--tls-cert", "--tls-key"]);
    }
}
