//! Floods of HTTP/2 on the socket of a service.

use std::os::unix::net::UnixStream;

use strata_proto::store::v1::{ListLeasesRequest, lease_service_client::LeaseServiceClient};
use strata_tests::flood::{Target, endure};

use crate::node::{Node, STORE, Transport, over};

/// CVE-2023-44487 and its kin, row 127.
#[test]
fn floods_of_http_2_cost_a_service_little_memory_and_others_are_served() {
    over(Transport::Unix, STORE, async |node: &Node| {
        let runtime = tokio::runtime::Handle::current();
        // One client that was there before, and one that comes in the middle.
        let known = LeaseServiceClient::new(node.channel("store"));
        let serve = || {
            for mut client in [known.clone(), LeaseServiceClient::new(node.channel("store"))] {
                runtime.block_on(client.list_leases(ListLeasesRequest::default())).expect("others are served");
            }
        };
        let target = Target {
            method: "POST",
            authority: "localhost".into(),
            path: "/strata.store.v1.LeaseService/HoldLease".into(),
        };
        let socket = node.house.socket("store");
        let connect = || Box::new(UnixStream::connect(&socket).expect("the service listens")) as Box<_>;

        tokio::task::block_in_place(|| endure(node.pid("store"), &target, connect, serve));
    });
}
