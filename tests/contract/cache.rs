//! What the build cache holds, and what goes of it.

use strata_proto::store::v1::{
    CacheFilter, CacheRecord, CacheUsage, GetCacheRecordRequest, ListCacheRecordsRequest, PruneCacheRecordsRequest,
    PutCacheRecordRequest, TreeDirectory, cache_service_client::CacheServiceClient,
};
use tonic::transport::Channel;

use crate::{
    faults::malformed,
    leases::hold,
    node::{Node, STORE, eventually},
    trees::directory_layer,
};

over_both!(STORE; records_are_listed_in_pages_with_their_use, a_prune_takes_what_the_filter_chooses,
    what_a_lease_holds_is_not_pruned, malformed_questions_name_the_field);

fn key(number: u32) -> String {
    format!("{number:064x}")
}

/// Stores so many records, each over a layer of its own, which nobody holds.
async fn fill(node: &Node, count: u32) -> CacheServiceClient<Channel> {
    let lease = hold(node.channel("store")).await;
    let mut client = CacheServiceClient::new(node.channel("store"));
    for number in 0..count {
        let layer_id = directory_layer(node, &lease.id, &format!("/{number}"), TreeDirectory::default()).await;
        let description = format!("RUN step {number}");
        let record = CacheRecord { key: key(number), layer_id, description, ..Default::default() };
        client.put_cache_record(PutCacheRecordRequest { record: Some(record) }).await.unwrap();
    }
    client
}

async fn list(client: &mut CacheServiceClient<Channel>, filter: CacheFilter) -> Vec<CacheUsage> {
    let request = ListCacheRecordsRequest { filter: Some(filter), ..Default::default() };
    client.list_cache_records(request).await.unwrap().into_inner().records
}

/// Prunes until as many went as are expected: leases end a moment after their streams.
async fn prune(
    client: &mut CacheServiceClient<Channel>,
    request: PruneCacheRecordsRequest,
    expected: usize,
) -> Vec<String> {
    let gone = tokio::sync::Mutex::new((client.clone(), Vec::new()));
    eventually("it is pruned", async || {
        let (client, gone) = &mut *gone.lock().await;
        let mut replies = client.prune_cache_records(request.clone()).await.unwrap().into_inner();
        while let Some(reply) = replies.message().await.unwrap() {
            gone.extend(reply.records.into_iter().map(|record| record.description));
        }
        gone.len() >= expected
    })
    .await;
    let mut gone = gone.into_inner().1;
    gone.sort();
    gone
}

async fn records_are_listed_in_pages_with_their_use(node: &Node) {
    let mut client = fill(node, 5).await;
    let lease = hold(node.channel("store")).await;
    let get =
        GetCacheRecordRequest { key: key(3), family: String::new(), lease_id: lease.id.clone(), ..Default::default() };
    for _ in 0..2 {
        client.get_cache_record(get.clone()).await.unwrap();
    }

    let (mut found, mut page_token, mut pages) = (vec![], String::new(), 0);
    loop {
        let request = ListCacheRecordsRequest { page_size: 2, page_token, filter: None };
        let page = client.list_cache_records(request).await.unwrap().into_inner();
        assert!(page.records.len() <= 2);
        found.extend(page.records);
        (page_token, pages) = (page.next_page_token, pages + 1);
        if page_token.is_empty() {
            break;
        }
    }

    assert_eq!(pages, 3);
    assert_eq!(found.iter().map(|record| record.key.clone()).collect::<Vec<_>>(), (0..5).map(key).collect::<Vec<_>>());
    let used = &found[3];
    assert!(used.usage_count == 2 && used.last_used_at.is_some() && used.is_in_use && !used.is_shared, "{used:?}");
    assert!(found[0].usage_count == 0 && found[0].last_used_at.is_none() && found[0].created_at.is_some(), "{found:?}");
    drop(lease);
}

async fn a_prune_takes_what_the_filter_chooses(node: &Node) {
    let mut client = fill(node, 4).await;

    let filter = CacheFilter { description: "step 2".into(), ..Default::default() };
    let by_text = PruneCacheRecordsRequest { filter: Some(filter), ..Default::default() };
    assert_eq!(prune(&mut client, by_text, 1).await, ["RUN step 2"]);
    let filter = CacheFilter { keys: vec![key(1)], ..Default::default() };
    assert_eq!(list(&mut client, filter.clone()).await.len(), 1);
    let by_key = PruneCacheRecordsRequest { filter: Some(filter), ..Default::default() };
    assert_eq!(prune(&mut client, by_key, 1).await, ["RUN step 1"]);
    let young = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
    let old_only = PruneCacheRecordsRequest { keep_duration: young, ..Default::default() };
    assert!(prune(&mut client, old_only, 0).await.is_empty());
    let everything = prune(&mut client, PruneCacheRecordsRequest::default(), 2).await;

    assert_eq!(everything, ["RUN step 0", "RUN step 3"]);
    assert!(list(&mut client, CacheFilter::default()).await.is_empty());
}

async fn what_a_lease_holds_is_not_pruned(node: &Node) {
    let mut client = fill(node, 2).await;
    let lease = hold(node.channel("store")).await;
    let get =
        GetCacheRecordRequest { key: key(0), family: String::new(), lease_id: lease.id.clone(), ..Default::default() };
    client.get_cache_record(get).await.unwrap();

    let gone = prune(&mut client, PruneCacheRecordsRequest { all: true, ..Default::default() }, 1).await;

    assert_eq!(gone, ["RUN step 1"]);
    let in_use = CacheFilter { is_in_use: Some(true), ..Default::default() };
    assert_eq!(list(&mut client, in_use).await.len(), 1);
    drop(lease);
}

async fn malformed_questions_name_the_field(node: &Node) {
    let mut client = CacheServiceClient::new(node.channel("store"));
    let bad = || Some(CacheFilter { keys: vec!["XYZ".into()], ..Default::default() });

    let list = ListCacheRecordsRequest { filter: bad(), ..Default::default() };
    malformed(client.list_cache_records(list).await, "filter.keys");
    let token = ListCacheRecordsRequest { page_token: "mine".into(), ..Default::default() };
    malformed(client.list_cache_records(token).await, "page_token");
    let prune = PruneCacheRecordsRequest { filter: bad(), ..Default::default() };
    malformed(client.prune_cache_records(prune).await, "filter.keys");
    let past = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    let prune = PruneCacheRecordsRequest { keep_duration: past, ..Default::default() };
    malformed(client.prune_cache_records(prune).await, "keep_duration");
}
