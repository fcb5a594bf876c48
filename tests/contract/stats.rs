//! What containers use, look after look.

use std::time::Duration;

use strata_proto::runtime::v1::{
    ContainerSpec, ContainerStats, ContainerUsage, Limits, WatchStatsRequest, WatchStatsResponse,
    container_service_client::ContainerServiceClient,
};
use tonic::{Code, Status, Streaming};

use crate::{
    containers::{create, guest, import_guest, remove, start},
    faults::{malformed, refused},
    node::{Node, RUNNING, eventually},
};

over_both!(RUNNING; usage_is_told_again_and_again, those_that_run_are_looked_at_and_with_all_the_others_too,
    looks_at_nobody_or_too_often_are_refused);

async fn watch(node: &Node, names: &[&str], all: bool) -> Result<Streaming<WatchStatsResponse>, Status> {
    let containers = names.iter().map(|&name| name.to_owned()).collect();
    let interval = Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 });
    let request = WatchStatsRequest { containers, all, interval };
    Ok(ContainerServiceClient::new(node.channel("runtime")).watch_stats(request).await?.into_inner())
}

async fn next(looks: &mut Streaming<WatchStatsResponse>) -> Vec<ContainerStats> {
    looks.message().await.unwrap().expect("looks go on").containers
}

fn at(time: Option<prost_types::Duration>) -> Duration {
    time.unwrap().try_into().unwrap()
}

async fn usage_is_told_again_and_again(node: &Node) {
    import_guest(node).await;
    let limits = Some(Limits { memory_bytes: Some(64 << 20), ..Default::default() });
    let spec = ContainerSpec { name: "busy".into(), limits, ..guest(&["spin", "100000"]) };
    create(node, spec).await.unwrap();
    start(node, "busy").await.unwrap();
    let mut looks = watch(node, &["busy"], false).await.unwrap();

    let first = next(&mut looks).await.remove(0).usage.unwrap();

    let later = |usage: &ContainerUsage| at(usage.cpu_time).saturating_sub(at(first.cpu_time));
    let mut last = first;
    while later(&last) < Duration::from_millis(100) {
        last = next(&mut looks).await.remove(0).usage.unwrap();
    }
    assert!(at(last.taken_at) > at(first.taken_at));
    assert_eq!(last.memory_limit_bytes, 64 << 20);
    assert!(last.memory_bytes.is_some_and(|bytes| (4096..64 << 20).contains(&bytes)), "{last:?}");
    assert!(last.pids.is_some_and(|pids| pids > 0) && last.block_written_bytes.is_some(), "{last:?}");
    assert_eq!((last.received_bytes, last.sent_bytes), (Some(0), Some(0)), "there is no network but the own one");
    remove(node, "busy").await;
    eventually("its end is seen", async || next(&mut looks).await.remove(0).usage.is_none()).await;
}

async fn those_that_run_are_looked_at_and_with_all_the_others_too(node: &Node) {
    import_guest(node).await;
    for name in ["runs", "waits"] {
        create(node, ContainerSpec { name: name.into(), ..guest(&["sleep", "300"]) }).await.unwrap();
    }
    start(node, "runs").await.unwrap();
    let names = |look: Vec<ContainerStats>| {
        let mut names: Vec<_> = look.into_iter().map(|one| (one.name, one.usage.is_some())).collect();
        names.sort();
        names
    };
    let (runs, waits) = (("runs".to_owned(), true), ("waits".to_owned(), false));

    let mut running = watch(node, &[], false).await.unwrap();
    let mut all = watch(node, &[], true).await.unwrap();

    assert_eq!(names(next(&mut running).await), std::slice::from_ref(&runs));
    assert_eq!(names(next(&mut all).await), [runs, waits]);
    start(node, "waits").await.unwrap();
    eventually("one that was started later is looked at", async || next(&mut running).await.len() == 2).await;
    for name in ["runs", "waits"] {
        remove(node, name).await;
    }
    eventually("nobody is left", async || next(&mut running).await.is_empty()).await;
}

async fn looks_at_nobody_or_too_often_are_refused(node: &Node) {
    refused(watch(node, &["nobody"], false).await, Code::NotFound, "FAULT_CONTAINER_NOT_FOUND");
    for (seconds, nanos) in [(0, 0), (0, 99_999_999), (-1, 0)] {
        let interval = Some(prost_types::Duration { seconds, nanos });
        let request = WatchStatsRequest { interval, ..Default::default() };
        let mut client = ContainerServiceClient::new(node.channel("runtime"));
        malformed(client.watch_stats(request).await, "interval");
    }
}
