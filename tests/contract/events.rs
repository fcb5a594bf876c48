//! Events: what runtime and store tell of what happens, from now on, from a time on, and from a position on.

use std::collections::HashMap;
use std::time::SystemTime;

use strata_proto::runtime::v1::{
    self as runtime, ContainerSpec, CreateVolumeRequest, DeleteVolumeRequest, MountSpec, VolumeSource, mount_spec,
    volume_service_client::VolumeServiceClient,
};
use strata_proto::store::v1::{
    self as store, DeleteImageRequest, TagImageRequest, image_service_client::ImageServiceClient,
};
use strata_proto::types::v1::Event;

use crate::{
    containers::{create, guest, import_guest, remove, start, wait},
    faults::malformed,
    node::{Node, RUNNING},
};

over_both!(RUNNING; events_tell_the_whole_life, events_that_were_missed_are_told_behind_a_position,
    a_span_of_time_ends_by_itself, images_tell_their_names_and_their_end, volumes_tell_who_mounts_them,
    times_that_are_none_are_refused);

type Request = runtime::WatchEventsRequest;

/// What happens from now on, or since what the request says.
pub async fn watch(node: &Node, request: Request) -> tonic::Streaming<runtime::WatchEventsResponse> {
    let mut client = runtime::event_service_client::EventServiceClient::new(node.channel("runtime"));
    client.watch_events(request).await.unwrap().into_inner()
}

/// What happened until now since a time, or behind a position.
async fn past(node: &Node, request: Request) -> Vec<Event> {
    let mut events = watch(node, Request { until: Some(SystemTime::now().into()), ..request }).await;
    let mut found = vec![];
    while let Some(reply) = events.message().await.unwrap() {
        found.push(reply.event.unwrap());
    }
    found
}

fn since(at: SystemTime) -> Request {
    Request { since: Some(at.into()), ..Request::default() }
}

fn actions(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.action.as_str()).collect()
}

async fn events_tell_the_whole_life(node: &Node) {
    import_guest(node).await;
    let mut events = watch(node, Request::default()).await;
    let labels = HashMap::from([("tier".to_owned(), "back".to_owned())]);
    let spec = ContainerSpec { name: "lived".into(), labels, ..guest(&["exit", "3"]) };
    let container = create(node, spec).await.unwrap();
    start(node, "lived").await.unwrap();
    wait(node, "lived").await.unwrap();
    remove(node, "lived").await;

    let mut seen: Vec<Event> = vec![];
    while seen.last().is_none_or(|event| event.action != "destroy") {
        let event = events.message().await.unwrap().unwrap().event.unwrap();
        assert_eq!((event.kind.as_str(), event.id.as_str()), ("container", container.id.as_str()));
        for (key, value) in [("name", "lived"), ("image", "guest"), ("tier", "back")] {
            assert_eq!(event.attributes.get(key).map(String::as_str), Some(value), "{key}");
        }
        let code = event.attributes.get("exitCode").map(String::as_str);
        assert_eq!(code, (event.action == "die").then_some("3"));
        seen.push(event);
    }

    assert_eq!(actions(&seen), ["create", "start", "die", "destroy"]);
    assert!(seen.is_sorted_by(|one, next| one.position < next.position));
}

async fn events_that_were_missed_are_told_behind_a_position(node: &Node) {
    import_guest(node).await;
    let begin = SystemTime::now();
    create(node, ContainerSpec { name: "kept".into(), ..guest(&["noop"]) }).await.unwrap();
    let first = past(node, since(begin)).await;
    assert_eq!(actions(&first), ["create"]);

    remove(node, "kept").await;

    let behind = Request { after_position: Some(first[0].position), ..Request::default() };
    assert_eq!(actions(&past(node, behind).await), ["destroy"]);
    assert_eq!(actions(&past(node, since(begin)).await), ["create", "destroy"]);
}

async fn a_span_of_time_ends_by_itself(node: &Node) {
    import_guest(node).await;
    create(node, ContainerSpec { name: "early".into(), ..guest(&["noop"]) }).await.unwrap();
    let between = SystemTime::now();
    remove(node, "early").await;

    let early = Request { until: Some(between.into()), ..since(SystemTime::UNIX_EPOCH) };
    let mut events = watch(node, early).await;

    let created = events.message().await.unwrap().unwrap().event.unwrap();
    assert_eq!(created.action, "create");
    assert!(events.message().await.unwrap().is_none());
}

async fn images_tell_their_names_and_their_end(node: &Node) {
    let mut client = store::event_service_client::EventServiceClient::new(node.channel("store"));
    let mut events = client.watch_events(store::WatchEventsRequest::default()).await.unwrap().into_inner();
    let mut images = ImageServiceClient::new(node.channel("store"));
    import_guest(node).await;
    let tag = TagImageRequest { source: "guest".into(), target: "docker.io/library/other:1".into() };
    let id = images.tag_image(tag).await.unwrap().into_inner().image.unwrap().id;
    for reference in ["other:1", "guest"] {
        let delete = DeleteImageRequest { reference: reference.into(), force: false, ..Default::default() };
        images.delete_image(delete).await.unwrap();
    }

    let mut told: Vec<(String, String, String)> = vec![];
    while told.last().is_none_or(|(action, ..)| action != "delete") {
        let event = events.message().await.unwrap().unwrap().event.unwrap();
        assert_eq!(event.kind, "image");
        told.push((event.action, event.id, event.attributes["name"].clone()));
    }

    let expected = [
        ("tag", id.as_str(), "guest:latest"),
        ("import", id.as_str(), id.as_str()),
        ("tag", id.as_str(), "other:1"),
        ("untag", "other:1", "other:1"),
        ("untag", "guest:latest", "guest:latest"),
        ("delete", id.as_str(), id.as_str()),
    ];
    let told: Vec<_> = told.iter().map(|(action, id, name)| (action.as_str(), id.as_str(), name.as_str())).collect();
    assert_eq!(told, expected);
}

async fn volumes_tell_who_mounts_them(node: &Node) {
    import_guest(node).await;
    let begin = SystemTime::now();
    let mut volumes = VolumeServiceClient::new(node.channel("runtime"));
    let new = CreateVolumeRequest { name: "state".into(), ..Default::default() };
    volumes.create_volume(new).await.unwrap();
    let mount = MountSpec {
        target: "/data".into(),
        source: Some(mount_spec::Source::Volume(VolumeSource { name: "state".into(), ..Default::default() })),
        ..Default::default()
    };
    let container = create(node, ContainerSpec { name: "user".into(), mounts: vec![mount], ..guest(&["noop"]) });
    let container = container.await.unwrap();
    start(node, "user").await.unwrap();
    wait(node, "user").await.unwrap();
    remove(node, "user").await;
    volumes.delete_volume(DeleteVolumeRequest { name: "state".into(), ..Default::default() }).await.unwrap();

    let mut told = past(node, since(begin)).await;
    told.retain(|event| event.kind == "volume");

    assert_eq!(actions(&told), ["create", "mount", "unmount", "destroy"]);
    assert!(told.iter().all(|event| event.id == "state" && event.attributes["driver"] == "local"));
    assert_eq!(told[1].attributes["container"], container.id);
    assert_eq!(told[1].attributes["destination"], "/data");
    assert_eq!(told[1].attributes["read/write"], "true");
}

async fn times_that_are_none_are_refused(node: &Node) {
    let wrong = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
    let mut containers = runtime::event_service_client::EventServiceClient::new(node.channel("runtime"));
    let mut images = store::event_service_client::EventServiceClient::new(node.channel("store"));

    malformed(containers.watch_events(Request { since: wrong, ..Default::default() }).await, "since");
    let request = store::WatchEventsRequest { until: wrong, ..Default::default() };
    malformed(images.watch_events(request).await, "until");
}
