//! Snapshots: prepared, held by one, committed or removed.

use strata_proto::store::v1::{
    AcquireSnapshotRequest, CommitSnapshotRequest, CopySnapshotRequest, DiffSnapshotRequest, ExportSnapshotRequest,
    ListSnapshotsRequest, MeasureSnapshotsRequest, MountStub, PrepareSnapshotRequest, PrepareSnapshotResponse,
    ReleaseSnapshotRequest, RemoveSnapshotRequest, Snapshot, SnapshotChangeKind, SnapshotState,
    snapshot_service_client::SnapshotServiceClient,
};
use tonic::{Code, Status, transport::Channel};

use crate::{
    faults::{malformed, refused},
    images::{import, tar},
    leases::hold,
    node::{Node, STORE, eventually},
};

over_both!(STORE; a_snapshot_is_held_by_one_at_a_time, preparing_again_is_the_same_or_refused,
    what_was_written_becomes_a_layer, what_was_written_is_told_measured_and_copied_while_it_is_held, a_snapshot_of_a_lease_dies_with_it, a_snapshot_is_exported_while_it_is_held,
    a_directory_of_a_snapshot_is_exported_and_links_stay_inside, snapshots_are_listed_in_pages,
    malformed_requests_name_the_field);

fn client(node: &Node) -> SnapshotServiceClient<Channel> {
    SnapshotServiceClient::new(node.channel("store"))
}

fn of_image(key: &str, image: &str) -> PrepareSnapshotRequest {
    PrepareSnapshotRequest { key: key.into(), image: image.into(), ..Default::default() }
}

async fn prepare(node: &Node, request: PrepareSnapshotRequest) -> Result<PrepareSnapshotResponse, Status> {
    client(node).prepare_snapshot(request).await.map(tonic::Response::into_inner)
}

fn acquire(key: &str, holder: &str) -> AcquireSnapshotRequest {
    AcquireSnapshotRequest { key: key.into(), holder: holder.into(), ..Default::default() }
}

async fn list(node: &Node) -> Vec<Snapshot> {
    client(node).list_snapshots(ListSnapshotsRequest::default()).await.unwrap().into_inner().snapshots
}

async fn a_snapshot_is_held_by_one_at_a_time(node: &Node) {
    import(node.channel("store"), "base", tar("one")).await.unwrap();
    let prepared = prepare(node, of_image("k", "base")).await.unwrap();
    assert!(serde_json::from_slice::<serde_json::Value>(&prepared.image_config_json).is_ok());
    assert_eq!(prepared.snapshot.unwrap().state(), SnapshotState::Free);
    let mut client = client(node);

    let mount = client.acquire_snapshot(acquire("k", "me")).await.unwrap().into_inner().mount.unwrap();

    assert_eq!(mount.kind, "overlay");
    assert_eq!(mount.lower_paths.len(), 1);
    assert!(std::path::Path::new(&mount.upper_path).is_dir() && std::path::Path::new(&mount.work_path).is_dir());
    client.acquire_snapshot(acquire("k", "me")).await.unwrap();
    let other = client.acquire_snapshot(acquire("k", "you")).await;
    refused(other, Code::FailedPrecondition, "FAULT_SNAPSHOT_HELD");
    let release = |holder: &str| ReleaseSnapshotRequest { key: "k".into(), holder: holder.into() };
    let stolen = client.release_snapshot(release("you")).await;
    refused(stolen, Code::FailedPrecondition, "FAULT_SNAPSHOT_HELD");
    let remove = |allow_missing| RemoveSnapshotRequest { key: "k".into(), allow_missing, holder: String::new() };
    refused(client.remove_snapshot(remove(true)).await, Code::FailedPrecondition, "FAULT_SNAPSHOT_HELD");
    client.release_snapshot(release("me")).await.unwrap();
    client.release_snapshot(release("me")).await.unwrap();
    client.acquire_snapshot(acquire("k", "me")).await.unwrap();
    let foreign = client.remove_snapshot(RemoveSnapshotRequest { holder: "you".into(), ..remove(false) }).await;
    refused(foreign, Code::FailedPrecondition, "FAULT_SNAPSHOT_HELD");
    client.remove_snapshot(RemoveSnapshotRequest { holder: "me".into(), ..remove(false) }).await.unwrap();
    client.remove_snapshot(remove(true)).await.unwrap();
    let gone = client.remove_snapshot(remove(false)).await;
    refused(gone, Code::NotFound, "FAULT_SNAPSHOT_NOT_FOUND").resource("snapshot", "k");
    refused(client.acquire_snapshot(acquire("k", "me")).await, Code::NotFound, "FAULT_SNAPSHOT_NOT_FOUND");
}

async fn preparing_again_is_the_same_or_refused(node: &Node) {
    for name in ["one", "two"] {
        import(node.channel("store"), name, tar(name)).await.unwrap();
    }

    let first = prepare(node, of_image("k", "one")).await.unwrap();
    let second = prepare(node, of_image("k", "one")).await.unwrap();
    let other = prepare(node, of_image("k", "two")).await;

    assert_eq!(first, second);
    refused(other, Code::AlreadyExists, "FAULT_SNAPSHOT_EXISTS").resource("snapshot", "k");
    refused(prepare(node, of_image("l", "none")).await, Code::NotFound, "FAULT_IMAGE_NOT_FOUND");
    let layers = PrepareSnapshotRequest { key: "l".into(), layer_ids: vec!["zz9".into()], ..Default::default() };
    refused(prepare(node, layers).await, Code::NotFound, "FAULT_LAYER_NOT_FOUND").resource("layer", "zz9");
}

async fn what_was_written_becomes_a_layer(node: &Node) {
    import(node.channel("store"), "base", tar("one")).await.unwrap();
    prepare(node, of_image("k", "base")).await.unwrap();
    let lease = hold(node.channel("store")).await;
    let mut client = client(node);
    let mount = client.acquire_snapshot(acquire("k", "me")).await.unwrap().into_inner().mount.unwrap();
    std::fs::write(std::path::Path::new(&mount.upper_path).join("new"), "written").unwrap();
    let commit = || CommitSnapshotRequest { key: "k".into(), lease_id: lease.id.clone(), stubs: vec![], record: None };
    refused(client.commit_snapshot(commit()).await, Code::FailedPrecondition, "FAULT_SNAPSHOT_HELD");
    client.release_snapshot(ReleaseSnapshotRequest { key: "k".into(), holder: "me".into() }).await.unwrap();

    let layer = client.commit_snapshot(commit()).await.unwrap().into_inner().layer.unwrap();

    assert!((1..=8).contains(&layer.id.len()), "{layer:?}");
    assert!(list(node).await.is_empty());
    refused(client.commit_snapshot(commit()).await, Code::NotFound, "FAULT_SNAPSHOT_NOT_FOUND");
    let found = crate::trees::read_file(node, std::slice::from_ref(&layer.id), "/new", 0).await.unwrap();
    assert_eq!(found, b"written");
    let described = crate::trees::describe(node, &layer.id).await.unwrap();
    assert!(described.diff_id.starts_with("sha256:") && described.size_bytes == 7, "{described:?}");
}

async fn what_was_written_is_told_measured_and_copied_while_it_is_held(node: &Node) {
    import(node.channel("store"), "base", tar("one")).await.unwrap();
    prepare(node, of_image("k", "base")).await.unwrap();
    let lease = hold(node.channel("store")).await;
    let mut client = client(node);
    let mount = client.acquire_snapshot(acquire("k", "me")).await.unwrap().into_inner().mount.unwrap();
    let upper = std::path::Path::new(&mount.upper_path);
    std::fs::write(upper.join("new"), vec![1; 10_000]).unwrap();
    std::fs::write(upper.join("stub"), "").unwrap();
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(upper.join("stub")).unwrap());
    let stubs = vec![MountStub { path: "/stub".into(), inode }];

    let request = DiffSnapshotRequest { key: "k".into(), stubs: stubs.clone() };
    let changes = client.diff_snapshot(request).await.unwrap().into_inner().message().await.unwrap().unwrap().changes;
    let request = MeasureSnapshotsRequest { keys: vec!["k".into(), "gone".into()] };
    let sizes = client.measure_snapshots(request).await.unwrap().into_inner().sizes;
    let copy = |key: &str| CopySnapshotRequest { key: key.into(), lease_id: lease.id.clone(), stubs: stubs.clone() };
    let layer = client.copy_snapshot(copy("k")).await.unwrap().into_inner().layer.unwrap();

    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!((changes[0].kind(), &changes[0].path[..]), (SnapshotChangeKind::Added, &b"/new"[..]));
    assert_eq!(sizes.iter().map(|size| size.key.as_str()).collect::<Vec<_>>(), ["k"]);
    assert!((10_000..100_000).contains(&sizes[0].size_bytes), "{sizes:?}");
    assert_eq!(crate::trees::read_file(node, std::slice::from_ref(&layer.id), "/new", 0).await.unwrap().len(), 10_000);
    assert!(crate::trees::read_file(node, std::slice::from_ref(&layer.id), "/stub", 0).await.is_err());
    assert_eq!(list(node).await[0].holder, "me", "it is as it was");
    refused(client.copy_snapshot(copy("none")).await, Code::NotFound, "FAULT_SNAPSHOT_NOT_FOUND");
    let gone = client.diff_snapshot(DiffSnapshotRequest { key: "none".into(), stubs: vec![] }).await;
    refused(gone.map(drop), Code::NotFound, "FAULT_SNAPSHOT_NOT_FOUND");
}

async fn a_snapshot_of_a_lease_dies_with_it(node: &Node) {
    import(node.channel("store"), "base", tar("one")).await.unwrap();
    let lease = hold(node.channel("store")).await;
    let request = PrepareSnapshotRequest { lease_id: lease.id.clone(), ..of_image("step", "base") };
    assert_eq!(prepare(node, request).await.unwrap().snapshot.unwrap().lease_id, lease.id);

    drop(lease);

    eventually("the snapshot is gone", async || list(node).await.is_empty()).await;
}

/// The archive of a snapshot.
async fn export(node: &Node, key: &str) -> Result<Vec<u8>, Status> {
    export_below(node, key, "").await
}

/// The archive of a directory in a snapshot.
async fn export_below(node: &Node, key: &str, path: &str) -> Result<Vec<u8>, Status> {
    let request = ExportSnapshotRequest { key: key.into(), path: path.into() };
    let mut stream = client(node).export_snapshot(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await? {
        assert!((1..=262_144).contains(&message.chunk.len()));
        bytes.extend_from_slice(&message.chunk);
    }
    Ok(bytes)
}

async fn a_snapshot_is_exported_while_it_is_held(node: &Node) {
    import(node.channel("store"), "base", tar("one")).await.unwrap();
    prepare(node, of_image("k", "base")).await.unwrap();
    let mut client = client(node);
    let before = export(node, "k").await.unwrap();
    let mount = client.acquire_snapshot(acquire("k", "me")).await.unwrap().into_inner().mount.unwrap();
    std::fs::write(std::path::Path::new(&mount.upper_path).join("new"), "written").unwrap();

    let held = export(node, "k").await.unwrap();

    let names = |bytes: &[u8]| -> Vec<String> {
        let mut archive = ::tar::Archive::new(bytes);
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
    };
    let (before, held) = (names(&before), names(&held));
    assert!(!before.contains(&"new".to_owned()) && held.contains(&"new".to_owned()), "{before:?} {held:?}");
    assert_eq!(held.len(), before.len() + 1);
    assert_eq!(list(node).await[0].state(), SnapshotState::Held);
    refused(export(node, "l").await, Code::NotFound, "FAULT_SNAPSHOT_NOT_FOUND").resource("snapshot", "l");
    malformed(export(node, "a/b").await, "key");
}

async fn a_directory_of_a_snapshot_is_exported_and_links_stay_inside(node: &Node) {
    import(node.channel("store"), "base", tar("one")).await.unwrap();
    prepare(node, of_image("k", "base")).await.unwrap();
    let mount = client(node).acquire_snapshot(acquire("k", "me")).await.unwrap().into_inner().mount.unwrap();
    let upper = std::path::Path::new(&mount.upper_path);
    std::fs::create_dir_all(upper.join("etc")).unwrap();
    std::fs::write(upper.join("etc/of-the-snapshot"), "x").unwrap();
    std::os::unix::fs::symlink("/etc", upper.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../../../../etc", upper.join("upwards")).unwrap();

    for path in ["etc", "/etc", "absolute", "/upwards/.", "../etc"] {
        let bytes = export_below(node, "k", path).await.unwrap();
        let mut archive = ::tar::Archive::new(bytes.as_slice());
        let names = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string());
        let names: Vec<String> = names.collect();
        assert!(names.iter().any(|name| name.ends_with("of-the-snapshot")), "{path}: {names:?}");
        assert!(!names.iter().any(|name| name.ends_with("passwd")), "{path}: {names:?}");
    }
    refused(export_below(node, "k", "/none").await, Code::NotFound, "FAULT_PATH_NOT_FOUND");
    let file = export_below(node, "k", "/etc/of-the-snapshot").await;
    refused(file, Code::FailedPrecondition, "FAULT_NOT_A_DIRECTORY");
    malformed(export_below(node, "k", "a\0b").await, "path");
}

async fn snapshots_are_listed_in_pages(node: &Node) {
    import(node.channel("store"), "base", tar("one")).await.unwrap();
    for key in ["e", "c", "a", "d", "b"] {
        prepare(node, of_image(key, "base")).await.unwrap();
    }

    let (mut keys, mut page_token) = (vec![], String::new());
    loop {
        let request = ListSnapshotsRequest { page_size: 2, page_token };
        let page = client(node).list_snapshots(request).await.unwrap().into_inner();
        keys.extend(page.snapshots.into_iter().map(|snapshot| snapshot.key));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }

    assert_eq!(keys, ["a", "b", "c", "d", "e"]);
    let foreign = ListSnapshotsRequest { page_size: 2, page_token: "b".into() };
    malformed(client(node).list_snapshots(foreign).await, "page_token");
}

async fn malformed_requests_name_the_field(node: &Node) {
    let image = import(node.channel("store"), "base", tar("one")).await.unwrap();
    for bad in ["", "a/b", "..", "a b", &"k".repeat(129)] {
        malformed(prepare(node, of_image(bad, "base")).await, "key");
    }
    let both = PrepareSnapshotRequest { layer_ids: vec![image.layers[0].layer_id.clone()], ..of_image("k", "base") };
    malformed(prepare(node, both).await, "layer_ids");
    let platform = Some(strata_proto::types::v1::Platform { os: "a/b".into(), ..Default::default() });
    malformed(prepare(node, PrepareSnapshotRequest { platform, ..of_image("k", "base") }).await, "platform");
    let lease = PrepareSnapshotRequest { lease_id: "A".into(), ..of_image("k", "base") };
    malformed(prepare(node, lease).await, "lease_id");
    prepare(node, of_image("k", "base")).await.unwrap();

    malformed(client(node).acquire_snapshot(acquire("k", "")).await, "holder");
    let no_lease = CommitSnapshotRequest { key: "k".into(), lease_id: String::new(), stubs: vec![], record: None };
    malformed(client(node).commit_snapshot(no_lease).await, "lease_id");
}
