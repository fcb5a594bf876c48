//! Volumes: made, found, used by containers, removed, and as archives.

use std::collections::HashMap;

use strata_proto::runtime::v1::{
    BytesSource, ContainerSpec, CreateVolumeRequest, DeleteContainerRequest, DeleteVolumeRequest, ExportVolumeRequest,
    GetVolumeRequest, ImportVolumeHeader, ImportVolumeRequest, ListVolumesRequest, MountInContainerRequest, MountSpec,
    PruneVolumesRequest, UnmountInContainerRequest, Volume, VolumeOption, VolumeSource, VolumesFrom,
    container_service_client::ContainerServiceClient, import_volume_request::Part, mount_spec,
    volume_service_client::VolumeServiceClient,
};
use strata_proto::types::v1::LabelCondition;
use strata_tests::Tar;
use tonic::{Code, Status, transport::Channel};

use crate::{
    containers::{create, get, guest, import_guest, remove, start},
    faults::{malformed, refused},
    node::{Node, RUNNING, Transport, block_on, eventually, nothing_left},
};

over_both!(RUNNING; a_volume_is_made_once_and_found_by_its_name, names_drivers_and_options_are_checked,
    volumes_are_listed_in_pages, a_volume_that_a_container_uses_stays, an_anonymous_volume_goes_when_that_is_asked_for,
    volumes_that_nobody_uses_are_pruned, a_volume_goes_out_and_comes_in_as_an_archive,
    half_of_an_archive_leaves_nothing, a_mount_comes_to_a_running_container_and_goes);

fn client(node: &Node) -> VolumeServiceClient<Channel> {
    VolumeServiceClient::new(node.channel("runtime"))
}

async fn make(node: &Node, request: CreateVolumeRequest) -> Result<Volume, Status> {
    Ok(client(node).create_volume(request).await?.into_inner().volume.unwrap())
}

fn named(name: &str) -> CreateVolumeRequest {
    CreateVolumeRequest { name: name.into(), ..Default::default() }
}

async fn find(node: &Node, name: &str) -> Result<Volume, Status> {
    Ok(client(node).get_volume(GetVolumeRequest { name: name.into() }).await?.into_inner().volume.unwrap())
}

async fn delete(node: &Node, name: &str) -> Result<(), Status> {
    let request = DeleteVolumeRequest { name: name.into(), allow_missing: false };
    client(node).delete_volume(request).await.map(drop)
}

async fn names(node: &Node) -> Vec<String> {
    let list = client(node).list_volumes(ListVolumesRequest::default()).await.unwrap().into_inner();
    list.volumes.into_iter().map(|volume| volume.name).collect()
}

/// A container of the guest with a volume at /data.
fn with_volume(name: &str, words: &[&str]) -> ContainerSpec {
    let source = VolumeSource { name: name.into(), ..Default::default() };
    let mount =
        MountSpec { target: "/data".into(), source: Some(mount_spec::Source::Volume(source)), ..Default::default() };
    ContainerSpec { mounts: vec![mount], ..guest(words) }
}

async fn a_volume_is_made_once_and_found_by_its_name(node: &Node) {
    let labels = HashMap::from([("env".to_owned(), "test ../\0".to_owned())]);
    let made = make(node, CreateVolumeRequest { labels: labels.clone(), ..named("data") }).await.unwrap();

    assert_eq!((made.name.as_str(), made.driver.as_str()), ("data", "local"));
    assert_eq!(made.labels, labels, "labels are inert");
    assert!(made.host_path.starts_with(node.root("runtime").to_str().unwrap()) && made.created_at.is_some());
    assert!(std::path::Path::new(&made.host_path).is_dir());
    assert_eq!(make(node, named("data")).await.unwrap(), made, "one that is there is the answer");
    assert_eq!(find(node, "data").await.unwrap(), made);
    let anonymous = make(node, named("")).await.unwrap();
    assert!(anonymous.name.len() == 64 && anonymous.labels.contains_key("com.docker.volume.anonymous"));
    delete(node, "data").await.unwrap();
    assert!(!std::path::Path::new(&made.host_path).exists());
    refused(find(node, "data").await, Code::NotFound, "FAULT_VOLUME_NOT_FOUND").resource("volume", "data");
    refused(delete(node, "data").await, Code::NotFound, "FAULT_VOLUME_NOT_FOUND");
    let missing = DeleteVolumeRequest { name: "data".into(), allow_missing: true };
    client(node).delete_volume(missing).await.unwrap();
}

async fn names_drivers_and_options_are_checked(node: &Node) {
    let files = node.files("runtime");
    for name in ["..", "../x", "a/b", "/etc", "-x", ".x", "a b", "a\0b", &"v".repeat(256)] {
        malformed(make(node, named(name)).await, "name");
        refused(find(node, name).await, Code::NotFound, "FAULT_VOLUME_NOT_FOUND");
    }
    let driver = CreateVolumeRequest { driver: "nfs".into(), ..named("data") };
    refused(make(node, driver).await, Code::Unimplemented, "FAULT_UNSUPPORTED");
    let with = |pairs: &[(&str, &str)]| CreateVolumeRequest {
        options: pairs
            .iter()
            .map(|(name, value)| VolumeOption { name: (*name).into(), value: (*value).into() })
            .collect(),
        ..named("data")
    };
    malformed(make(node, with(&[("colour", "red")])).await, "options");
    malformed(make(node, with(&[("type", "none"), ("o", "bind"), ("device", "x")])).await, "options");
    malformed(make(node, with(&[("type", "nfs")])).await, "options");
    nothing_left(node, "runtime", &files).await;
    let bind = [("type", "none"), ("o", "bind"), ("device", "/srv")];
    let made = make(node, with(&bind)).await.unwrap();
    assert_eq!(made.options.len(), 3);
    let other = [("type", "none"), ("o", "bind"), ("device", "/opt")];
    refused(make(node, with(&other)).await, Code::AlreadyExists, "FAULT_NAME_TAKEN");
}

async fn volumes_are_listed_in_pages(node: &Node) {
    for name in ["e", "c", "a", "d", "b"] {
        make(node, named(name)).await.unwrap();
    }

    let (mut found, mut page_token) = (vec![], String::new());
    loop {
        let request = ListVolumesRequest { page_size: 2, page_token, ..Default::default() };
        let page = client(node).list_volumes(request).await.unwrap().into_inner();
        assert!(page.volumes.len() <= 2);
        found.extend(page.volumes.into_iter().map(|volume| volume.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }

    assert_eq!(found, ["a", "b", "c", "d", "e"]);
    let foreign = ListVolumesRequest { page_size: 2, page_token: "b".into(), ..Default::default() };
    malformed(client(node).list_volumes(foreign).await, "page_token");
}

async fn a_volume_that_a_container_uses_stays(node: &Node) {
    import_guest(node).await;
    let first = create(node, ContainerSpec { name: "first".into(), ..with_volume("data", &["noop"]) }).await.unwrap();
    let second = create(node, with_volume("data", &["noop"])).await.unwrap();

    let refusal = refused(delete(node, "data").await, Code::FailedPrecondition, "FAULT_VOLUME_IN_USE");

    let mut ids = [first.id.clone(), second.id.clone()];
    ids.sort();
    assert_eq!(refusal.metadata["holders"], ids.join(","));
    assert_eq!(find(node, "data").await.unwrap().container_ids, ids);
    remove(node, &first.id).await;
    refused(delete(node, "data").await, Code::FailedPrecondition, "FAULT_VOLUME_IN_USE");
    remove(node, &second.id).await;
    assert!(find(node, "data").await.unwrap().container_ids.is_empty(), "it outlives its containers");
    delete(node, "data").await.unwrap();
}

async fn an_anonymous_volume_goes_when_that_is_asked_for(node: &Node) {
    import_guest(node).await;
    let rm = async |id: &str, volumes: bool| {
        let request = DeleteContainerRequest { container: id.into(), force: false, allow_missing: false, volumes };
        ContainerServiceClient::new(node.channel("runtime")).delete_container(request).await.unwrap();
    };
    let made = create(node, with_volume("", &["noop"])).await.unwrap();
    let Some(mount_spec::Source::Volume(volume)) = made.spec.unwrap().mounts.remove(0).source else { panic!() };
    assert!(volume.is_anonymous && volume.name.len() == 64 && !volume.host_path.is_empty());
    let from = vec![VolumesFrom { container: made.id.clone(), is_read_only: true }];
    let other = create(node, ContainerSpec { volumes_from: from, ..guest(&["noop"]) }).await.unwrap();
    let inherited = &other.spec.as_ref().unwrap().mounts[0];
    assert!(inherited.is_read_only && inherited.target == "/data");

    rm(&made.id, true).await;
    assert_eq!(names(node).await, [volume.name.as_str()], "another container has it");
    rm(&other.id, true).await;
    assert!(names(node).await.is_empty());

    let kept = create(node, with_volume("", &["noop"])).await.unwrap();
    rm(&kept.id, false).await;
    assert_eq!(names(node).await.len(), 1);
    let named = create(node, with_volume("named", &["noop"])).await.unwrap();
    rm(&named.id, true).await;
    assert!(names(node).await.contains(&"named".to_owned()), "a name was given: it stays");
    let nobody = vec![VolumesFrom { container: "nobody".into(), is_read_only: false }];
    let lost = create(node, ContainerSpec { volumes_from: nobody, ..guest(&["noop"]) }).await;
    refused(lost, Code::NotFound, "FAULT_CONTAINER_NOT_FOUND");
}

async fn volumes_that_nobody_uses_are_pruned(node: &Node) {
    import_guest(node).await;
    let label = |value: &str| HashMap::from([("env".to_owned(), value.to_owned())]);
    make(node, CreateVolumeRequest { labels: label("test"), ..named("one") }).await.unwrap();
    make(node, CreateVolumeRequest { labels: label("live"), ..named("two") }).await.unwrap();
    make(node, named("three")).await.unwrap();
    let anonymous = make(node, named("")).await.unwrap();
    std::fs::write(format!("{}/file", anonymous.host_path), vec![7; 100_000]).unwrap();
    let user = create(node, with_volume("used", &["noop"])).await.unwrap();
    let prune = async |all: bool, labels: Vec<LabelCondition>| {
        client(node).prune_volumes(PruneVolumesRequest { all, labels }).await.map(tonic::Response::into_inner)
    };
    let condition = |key: &str, value: Option<&str>, is_negated| {
        vec![LabelCondition { key: key.into(), value: value.map(str::to_owned), is_negated }]
    };

    let pruned = prune(false, vec![]).await.unwrap();
    assert_eq!(pruned.deleted, [anonymous.name]);
    assert!(pruned.reclaimed_bytes >= 100_000, "{pruned:?}");
    assert_eq!(prune(true, condition("env", Some("test"), false)).await.unwrap().deleted, ["one"]);
    assert_eq!(prune(true, condition("env", None, true)).await.unwrap().deleted, ["three"]);
    assert_eq!(prune(true, vec![]).await.unwrap().deleted, ["two"]);
    assert_eq!(names(node).await, ["used"]);
    malformed(prune(true, condition("", None, false)).await, "labels");
    remove(node, &user.id).await;
}

async fn export(node: &Node, name: &str) -> Result<Vec<u8>, Status> {
    let request = ExportVolumeRequest { name: name.into() };
    let mut stream = client(node).export_volume(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await? {
        assert!((1..=262_144).contains(&message.chunk.len()));
        bytes.extend_from_slice(&message.chunk);
    }
    Ok(bytes)
}

async fn import(node: &Node, name: &str, replace: bool, archive: &[u8]) -> Result<Volume, Status> {
    let header = Part::Header(ImportVolumeHeader { name: name.into(), replace });
    let chunks = archive.chunks(100_000).map(|chunk| Part::Chunk(chunk.to_vec().into()));
    let parts: Vec<_> = std::iter::once(header).chain(chunks).collect();
    import_parts(node, parts).await
}

async fn import_parts(node: &Node, parts: Vec<Part>) -> Result<Volume, Status> {
    let messages = parts.into_iter().map(|part| ImportVolumeRequest { part: Some(part) });
    let messages = tokio_stream::iter(messages.collect::<Vec<_>>());
    Ok(client(node).import_volume(messages).await?.into_inner().volume.unwrap())
}

async fn a_volume_goes_out_and_comes_in_as_an_archive(node: &Node) {
    import_guest(node).await;
    let volume = make(node, named("data")).await.unwrap();
    std::fs::write(format!("{}/large", volume.host_path), vec![7; 600_000]).unwrap();
    std::fs::hard_link(format!("{}/large", volume.host_path), format!("{}/twin", volume.host_path)).unwrap();

    let archive = export(node, "data").await.unwrap();
    let copy = import(node, "copy", false, &archive).await.unwrap();

    assert_eq!(std::fs::read(format!("{}/twin", copy.host_path)).unwrap(), vec![7; 600_000]);
    assert!(export(node, "copy").await.unwrap() == archive, "the same bytes come out again");
    refused(import(node, "copy", false, &archive).await, Code::FailedPrecondition, "FAULT_VOLUME_NOT_EMPTY");
    std::fs::write(format!("{}/later", copy.host_path), "x").unwrap();
    import(node, "copy", true, &archive).await.unwrap();
    assert!(export(node, "copy").await.unwrap() == archive, "what was there before is gone");
    let user = create(node, with_volume("copy", &["sleep", "60"])).await.unwrap();
    start(node, &user.id).await.unwrap();
    refused(import(node, "copy", true, &archive).await, Code::FailedPrecondition, "FAULT_VOLUME_IN_USE");
    remove(node, &user.id).await;
    refused(export(node, "nobody").await, Code::NotFound, "FAULT_VOLUME_NOT_FOUND");
}

async fn half_of_an_archive_leaves_nothing(node: &Node) {
    let files = node.files("runtime");
    let tar = Tar::of_guest().bytes();

    let half = import(node, "data", false, &tar[..tar.len() / 2]).await;
    refused(half, Code::InvalidArgument, "FAULT_ARCHIVE_INVALID");
    let nonsense = import(node, "data", false, &[b'x'; 5000]).await;
    refused(nonsense, Code::InvalidArgument, "FAULT_ARCHIVE_INVALID");
    malformed(import_parts(node, vec![Part::Chunk(vec![1].into())]).await, "header");
    malformed(import_parts(node, vec![]).await, "header");
    malformed(import(node, "", false, &tar).await, "header.name");
    malformed(import(node, "../data", false, &tar).await, "header.name");
    let header = || Part::Header(ImportVolumeHeader { name: "data".into(), replace: false });
    malformed(import_parts(node, vec![header(), Part::Chunk(vec![].into())]).await, "chunk");
    malformed(import_parts(node, vec![header(), header()]).await, "chunk");

    assert!(names(node).await.is_empty());
    nothing_left(node, "runtime", &files).await;
}

/// A crash leaves a volume as a whole or not at all; what is half made or half removed is swept.
#[test]
fn volumes_survive_a_crash_of_the_service() {
    for transport in [Transport::Unix, Transport::Tcp] {
        let mut node = Node::start(transport, RUNNING);
        let (data, user, anonymous) = block_on(async {
            import_guest(&node).await;
            let data = make(&node, named("data")).await.unwrap();
            let user = create(&node, with_volume("data", &["write", "/data/file", "kept"])).await.unwrap();
            start(&node, &user.id).await.unwrap();
            eventually("it has written", async || std::fs::read(format!("{}/file", data.host_path)).is_ok()).await;
            (data, user, create(&node, with_volume("", &["noop"])).await.unwrap())
        });
        node.crash("runtime");
        let volumes = node.root("runtime").join("volumes");
        std::fs::create_dir_all(volumes.join(".new-half/_data")).unwrap();
        std::fs::create_dir_all(volumes.join(".gone-half/_data")).unwrap();

        node.start_service("runtime");

        block_on(async {
            let found = find(&node, "data").await.unwrap();
            assert_eq!((&found.created_at, &found.container_ids), (&data.created_at, &vec![user.id.clone()]));
            assert_eq!(std::fs::read_to_string(format!("{}/file", found.host_path)).unwrap(), "kept");
            assert_eq!(get(&node, &anonymous.id).await.unwrap().spec, anonymous.spec);
            eventually("what was half made is gone", async || {
                let mut left = std::fs::read_dir(&volumes).unwrap().flatten();
                !left.any(|entry| entry.file_name().to_string_lossy().starts_with('.'))
            })
            .await;
            remove(&node, &user.id).await;
            remove(&node, &anonymous.id).await;
        });
    }
}

async fn a_mount_comes_to_a_running_container_and_goes(node: &Node) {
    import_guest(node).await;
    let container = create(node, guest(&["sleep", "300"])).await.unwrap();
    start(node, &container.id).await.unwrap();
    let mut client = ContainerServiceClient::new(node.channel("runtime"));
    let spec = with_volume("late", &[]).mounts.remove(0);
    let mount = |mount: MountSpec| MountInContainerRequest { container: container.id.clone(), mount: Some(mount) };
    let unmount =
        |target: &str| UnmountInContainerRequest { container: container.id.clone(), target: target.to_owned() };

    let shown = client.mount_in_container(mount(spec.clone())).await.unwrap().into_inner().container.unwrap();
    assert_eq!(shown.spec.unwrap().mounts[0].target, "/data");
    refused(delete(node, "late").await, Code::FailedPrecondition, "FAULT_VOLUME_IN_USE");
    let twice = client.mount_in_container(mount(spec.clone())).await;
    refused(twice, Code::AlreadyExists, "FAULT_ALREADY_MOUNTED");
    let bytes = MountSpec { source: Some(mount_spec::Source::Bytes(BytesSource::default())), ..spec };
    malformed(client.mount_in_container(mount(MountSpec { target: "/x".into(), ..bytes })).await, "mount.source");
    let nothing = MountInContainerRequest { container: container.id.clone(), mount: None };
    malformed(client.mount_in_container(nothing).await, "mount");
    malformed(client.unmount_in_container(unmount("data")).await, "target");
    refused(client.unmount_in_container(unmount("/other")).await, Code::NotFound, "FAULT_NOT_MOUNTED");
    client.unmount_in_container(unmount("/data/")).await.unwrap();
    assert!(get(node, &container.id).await.unwrap().spec.unwrap().mounts.is_empty());
    refused(client.unmount_in_container(unmount("/data")).await, Code::NotFound, "FAULT_NOT_MOUNTED");
    remove(node, &container.id).await;
    delete(node, "late").await.unwrap();
}
