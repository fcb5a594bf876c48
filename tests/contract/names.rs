//! Names in requests: what no object can be called is refused as that, by every call that names one.

use std::fmt::Debug;

use strata_proto::store::v1::{
    AcquireSnapshotRequest, CacheRecord, CommitSnapshotRequest, CreateImageRequest, DeleteImageRequest,
    DeleteLeaseRequest, DescribeLayerRequest, GetBlobRequest, GetCacheRecordRequest, GetImageRequest,
    ListImagesRequest, ListTreeRequest, MissingContentsRequest, PrepareSnapshotRequest, PullImageRequest,
    PushImageRequest, PutCacheRecordRequest, ReadBlobRequest, ReadLayerEntriesRequest, ReadTagsRequest,
    ReadTreeFileRequest, ReleaseSnapshotRequest, RemoveSnapshotRequest, ResolveManifestRequest, SaveImagesRequest,
    TagImageRequest, archive_service_client::ArchiveServiceClient, blob_service_client::BlobServiceClient,
    cache_service_client::CacheServiceClient, content_service_client::ContentServiceClient,
    image_service_client::ImageServiceClient, layer_service_client::LayerServiceClient,
    lease_service_client::LeaseServiceClient, registry_service_client::RegistryServiceClient,
    snapshot_service_client::SnapshotServiceClient,
};
use tonic::{Code, Response, Status};

use crate::{
    faults::refused,
    images::{import, tar},
    leases::hold,
    node::{Node, STORE, nothing_left},
};

over_both!(STORE; what_no_image_can_be_called_is_refused, what_no_layer_blob_or_record_can_be_called_is_refused,
    what_no_lease_or_snapshot_can_be_called_is_refused);

/// Names that lead out of a directory, end a text, break a line, or are longer than any.
fn hostile() -> Vec<String> {
    let megabyte = 1 << 20;
    let texts =
        ["../x", "/etc/passwd", "a/../b", "./x", "..", ".", "a//b", "a\0b", "\0", "a\nb", "a b", "é", "-x/../y"];
    let digests = ["sha256:", "sha256:../../x", "sha256:\0", "a@sha256:../x"];
    let long = ["x", "/", "é", "\0", "sha256:", "../"].map(|part| part.repeat(megabyte / part.len()));
    let long_id = format!("sha256:{}", "x".repeat(megabyte));
    texts.into_iter().chain(digests).map(str::to_owned).chain(long).chain([long_id]).collect()
}

/// Insists that the name is what is wrong.
#[track_caller]
fn is_refused<T: Debug>(call: &str, name: &str, answer: Result<Response<T>, Status>) {
    if let Err(status) = &answer {
        let shown: String = name.chars().take(40).collect();
        assert_eq!(status.code(), Code::InvalidArgument, "{call} of {shown:?}: {status:?}");
    }
    let refusal = refused(answer, Code::InvalidArgument, "FAULT_INVALID_ARGUMENT");
    assert_eq!(refusal.fields.len(), 1, "{call}: {refusal:?}");
    assert!(refusal.message.len() <= 2048, "{call}: {} bytes came back", refusal.message.len());
}

/// CVE-2014-9358, CVE-2024-3727, rows 56 and 75.
async fn what_no_image_can_be_called_is_refused(node: &Node) {
    import(node.channel("store"), "good", tar("one")).await.unwrap();
    let lease = hold(node.channel("store")).await;
    let files = node.files("store");
    let mut images = ImageServiceClient::new(node.channel("store"));
    let mut registry = RegistryServiceClient::new(node.channel("store"));
    let mut archives = ArchiveServiceClient::new(node.channel("store"));
    let mut snapshots = SnapshotServiceClient::new(node.channel("store"));

    for name in hostile() {
        let reference = || name.clone();
        let get = GetImageRequest { reference: reference(), ..Default::default() };
        is_refused("GetImage", &name, images.get_image(get).await);
        let list = ListImagesRequest { reference: reference(), ..Default::default() };
        is_refused("ListImages", &name, images.list_images(list).await);
        let delete = DeleteImageRequest { reference: reference(), force: true, ..Default::default() };
        is_refused("DeleteImage", &name, images.delete_image(delete).await);
        let source = TagImageRequest { source: reference(), target: "new".into() };
        is_refused("TagImage from", &name, images.tag_image(source).await);
        let target = TagImageRequest { source: "good".into(), target: reference() };
        is_refused("TagImage to", &name, images.tag_image(target).await);
        let create = CreateImageRequest {
            config_json: r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#.into(),
            names: vec![reference()],
            lease_id: lease.id.clone(),
            ..Default::default()
        };
        is_refused("CreateImage", &name, images.create_image(create).await);
        let imported = import(node.channel("store"), &name, tar("one")).await.map(Response::new);
        is_refused("ImportImage", &name, imported);
        let save = SaveImagesRequest { references: vec![reference()], ..Default::default() };
        is_refused("SaveImages", &name, archives.save_images(save).await);
        let pull = PullImageRequest { reference: reference(), ..Default::default() };
        is_refused("PullImage", &name, registry.pull_image(pull).await);
        let push = PushImageRequest { reference: reference(), ..Default::default() };
        is_refused("PushImage", &name, registry.push_image(push).await);
        let resolve = ResolveManifestRequest { reference: reference(), ..Default::default() };
        is_refused("ResolveManifest", &name, registry.resolve_manifest(resolve).await);
        let tags = ReadTagsRequest { reference: reference(), ..Default::default() };
        is_refused("ReadTags", &name, registry.read_tags(tags).await);
        let prepare = PrepareSnapshotRequest { key: "k".into(), image: reference(), ..Default::default() };
        is_refused("PrepareSnapshot", &name, snapshots.prepare_snapshot(prepare).await);
    }

    nothing_left(node, "store", &files).await;
}

/// CVE-2014-9358 and CVE-2021-21285, rows 56 and 71.
async fn what_no_layer_blob_or_record_can_be_called_is_refused(node: &Node) {
    let lease = hold(node.channel("store")).await;
    let files = node.files("store");
    let mut blobs = BlobServiceClient::new(node.channel("store"));
    let mut contents = ContentServiceClient::new(node.channel("store"));
    let mut layers = LayerServiceClient::new(node.channel("store"));
    let mut records = CacheServiceClient::new(node.channel("store"));

    for name in hostile() {
        let text = || name.clone();
        is_refused("GetBlob", &name, blobs.get_blob(GetBlobRequest { digest: text() }).await);
        let read = ReadBlobRequest { digest: text(), offset_bytes: 0 };
        is_refused("ReadBlob", &name, blobs.read_blob(read).await);
        let missing = MissingContentsRequest { lease_id: lease.id.clone(), blake3: vec![text().into()] };
        is_refused("MissingContents", &name, contents.missing_contents(missing).await);
        is_refused("DescribeLayer", &name, layers.describe_layer(DescribeLayerRequest { layer_id: text() }).await);
        let entries = ReadLayerEntriesRequest { layer_id: text() };
        is_refused("ReadLayerEntries", &name, layers.read_layer_entries(entries).await);
        let list = ListTreeRequest { layer_ids: vec![text()], pattern: "*".into(), ..Default::default() };
        is_refused("ListTree", &name, layers.list_tree(list).await);
        let file = ReadTreeFileRequest { layer_ids: vec![text()], path: "/x".into(), ..Default::default() };
        is_refused("ReadTreeFile", &name, layers.read_tree_file(file).await);
        let get = GetCacheRecordRequest {
            key: text(),
            family: String::new(),
            lease_id: lease.id.clone(),
            ..Default::default()
        };
        is_refused("GetCacheRecord", &name, records.get_cache_record(get).await);
        let of = |key: String, layer_id, family| PutCacheRecordRequest {
            record: Some(CacheRecord { key, layer_id, family, ..Default::default() }),
        };
        let good = "a".repeat(64);
        let puts = [of(text(), String::new(), String::new()), of(good.clone(), text(), String::new())];
        for put in puts.into_iter().chain([of(good, String::new(), text())]) {
            is_refused("PutCacheRecord", &name, records.put_cache_record(put).await);
        }
    }

    nothing_left(node, "store", &files).await;
}

/// CVE-2014-9358, row 56.
async fn what_no_lease_or_snapshot_can_be_called_is_refused(node: &Node) {
    let lease = hold(node.channel("store")).await;
    let files = node.files("store");
    let mut leases = LeaseServiceClient::new(node.channel("store"));
    let mut snapshots = SnapshotServiceClient::new(node.channel("store"));
    let mut images = ImageServiceClient::new(node.channel("store"));

    for name in hostile() {
        let text = || name.clone();
        let delete = DeleteLeaseRequest { lease_id: text(), allow_missing: true };
        is_refused("DeleteLease", &name, leases.delete_lease(delete).await);
        let get = GetImageRequest { reference: "good".into(), lease_id: text(), ..Default::default() };
        is_refused("GetImage", &name, images.get_image(get).await);
        let prepare = PrepareSnapshotRequest { key: text(), ..Default::default() };
        is_refused("PrepareSnapshot", &name, snapshots.prepare_snapshot(prepare).await);
        let acquire = AcquireSnapshotRequest { key: text(), holder: "me".into(), ..Default::default() };
        is_refused("AcquireSnapshot", &name, snapshots.acquire_snapshot(acquire).await);
        let release = ReleaseSnapshotRequest { key: text(), holder: "me".into() };
        is_refused("ReleaseSnapshot", &name, snapshots.release_snapshot(release).await);
        let commit = CommitSnapshotRequest { key: text(), lease_id: lease.id.clone(), stubs: vec![], record: None };
        is_refused("CommitSnapshot", &name, snapshots.commit_snapshot(commit).await);
        let remove = RemoveSnapshotRequest { key: text(), allow_missing: true, holder: String::new() };
        is_refused("RemoveSnapshot", &name, snapshots.remove_snapshot(remove).await);
    }

    nothing_left(node, "store", &files).await;
}
