//! Leases: what keeps things while their session lives, and what other tests of the store hold things by.

use strata_proto::store::v1::{
    DeleteLeaseRequest, HoldLeaseRequest, HoldLeaseResponse, Lease, ListLeasesRequest,
    lease_service_client::LeaseServiceClient,
};
use tonic::{Code, Streaming, transport::Channel};

use crate::{
    faults::{malformed, refused},
    node::{Node, STORE, eventually},
};

over_both!(STORE; a_lease_lives_as_long_as_its_stream, a_deleted_lease_is_gone, leases_are_listed_in_pages,
    a_lease_without_holder_or_with_a_wrong_grace_is_refused);

/// A session lease; its end is the end of the value.
pub struct Held {
    /// The lease.
    pub id: String,
    _stream: Streaming<HoldLeaseResponse>,
}

/// Holds a lease that ends with its stream.
pub async fn hold(channel: Channel) -> Held {
    let request =
        HoldLeaseRequest { holder: "a test".into(), grace: Some(prost_types::Duration { seconds: 0, nanos: 0 }) };
    let mut stream = LeaseServiceClient::new(channel).hold_lease(request).await.unwrap().into_inner();
    let lease = stream.message().await.unwrap().unwrap().lease.unwrap();
    Held { id: lease.id, _stream: stream }
}

async fn list(node: &Node) -> Vec<Lease> {
    let mut client = LeaseServiceClient::new(node.channel("store"));
    client.list_leases(ListLeasesRequest::default()).await.unwrap().into_inner().leases
}

async fn a_lease_lives_as_long_as_its_stream(node: &Node) {
    let held = hold(node.channel("store")).await;

    let found = list(node).await;
    assert_eq!((found[0].id.as_str(), found[0].holder.as_str()), (held.id.as_str(), "a test"));
    assert!(found[0].created_at.is_some());
    drop(held);

    eventually("the lease is gone", async || list(node).await.is_empty()).await;
}

async fn a_deleted_lease_is_gone(node: &Node) {
    let mut client = LeaseServiceClient::new(node.channel("store"));
    let held = hold(node.channel("store")).await;
    let delete = |allow_missing| DeleteLeaseRequest { lease_id: held.id.clone(), allow_missing };

    client.delete_lease(delete(false)).await.unwrap();

    assert!(list(node).await.is_empty());
    client.delete_lease(delete(true)).await.unwrap();
    let again = client.delete_lease(delete(false)).await;
    refused(again, Code::NotFound, "FAULT_LEASE_NOT_FOUND").resource("lease", &held.id);
    let bad = DeleteLeaseRequest { lease_id: "Not A Lease".into(), allow_missing: true };
    malformed(client.delete_lease(bad).await, "lease_id");
}

async fn leases_are_listed_in_pages(node: &Node) {
    let mut client = LeaseServiceClient::new(node.channel("store"));
    let mut held = vec![];
    for _ in 0..5 {
        held.push(hold(node.channel("store")).await);
    }
    let mut expected: Vec<_> = held.iter().map(|held| held.id.clone()).collect();
    expected.sort();

    let (mut ids, mut page_token) = (vec![], String::new());
    loop {
        let page = client.list_leases(ListLeasesRequest { page_size: 2, page_token }).await.unwrap().into_inner();
        assert!((1..=2).contains(&page.leases.len()));
        ids.extend(page.leases.into_iter().map(|lease| lease.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }

    assert_eq!(ids, expected);
    let foreign = ListLeasesRequest { page_size: 2, page_token: "not ours".into() };
    malformed(client.list_leases(foreign).await, "page_token");
}

async fn a_lease_without_holder_or_with_a_wrong_grace_is_refused(node: &Node) {
    let mut client = LeaseServiceClient::new(node.channel("store"));

    malformed(client.hold_lease(HoldLeaseRequest { holder: String::new(), grace: None }).await, "holder");
    for seconds in [-1, 3601] {
        let grace = Some(prost_types::Duration { seconds, nanos: 0 });
        malformed(client.hold_lease(HoldLeaseRequest { holder: "x".into(), grace }).await, "grace");
    }
}
