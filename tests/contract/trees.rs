//! Trees: layers written from contents and other trees, looked into, and remembered in the build cache.

use bytes::Bytes;
use strata_proto::store::v1::{
    CacheRecord, DescribeLayerRequest, GetCacheRecordRequest, Layer, ListTreeRequest, PruneCacheRecordsRequest,
    PutCacheRecordRequest, ReadTreeFileRequest, TreeDirectory, TreeEntries, TreeEntry, TreeFile, TreeSymlink,
    WriteTreeHeader, WriteTreeRequest, cache_service_client::CacheServiceClient,
    layer_service_client::LayerServiceClient, tree_entry::Source, write_tree_request::Part,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::{
    contents::put_one,
    faults::{malformed, refused},
    images::{import, tar},
    leases::hold,
    node::{Node, STORE, eventually, nothing_left},
};

over_both!(STORE; a_tree_of_contents_becomes_a_layer, destinations_stay_inside_the_root,
    a_tree_that_is_cut_off_leaves_nothing, what_is_not_there_is_named, malformed_entries_name_the_field,
    cache_records_hold_their_layers, malformed_cache_records_name_the_field, a_record_comes_with_its_layer_or_not_at_all,
    a_step_of_other_layers_with_the_same_files_is_found);

fn header(lease: &str, parents: &[String]) -> WriteTreeRequest {
    let header =
        WriteTreeHeader { lease_id: lease.to_owned(), parent_layer_ids: parents.to_vec(), ..Default::default() };
    WriteTreeRequest { part: Some(Part::Header(header)) }
}

fn entries(entries: Vec<TreeEntry>) -> WriteTreeRequest {
    WriteTreeRequest { part: Some(Part::Entries(TreeEntries { entries })) }
}

fn entry(destination: &str, source: Source) -> TreeEntry {
    let destination = Bytes::copy_from_slice(destination.as_bytes());
    TreeEntry { destination, source: Some(source), ..Default::default() }
}

fn file(bytes: &[u8]) -> Source {
    let blake3 = blake3::hash(bytes).to_hex().to_string();
    Source::File(TreeFile { blake3, size_bytes: bytes.len() as u64, same_file: 0 })
}

async fn write(node: &Node, messages: Vec<WriteTreeRequest>) -> Result<Layer, Status> {
    let mut client = LayerServiceClient::new(node.channel("store"));
    Ok(client.write_tree(tokio_stream::iter(messages)).await?.into_inner().layer.unwrap())
}

/// Writes a layer with one directory.
pub async fn directory_layer(node: &Node, lease: &str, path: &str, directory: TreeDirectory) -> String {
    let one = entries(vec![entry(path, Source::Directory(directory))]);
    write(node, vec![header(lease, &[]), one]).await.unwrap().id
}

/// Waits for a layer's diff-id.
pub async fn describe(node: &Node, id: &str) -> Result<Layer, Status> {
    let mut client = LayerServiceClient::new(node.channel("store"));
    let request = DescribeLayerRequest { layer_id: id.to_owned() };
    Ok(client.describe_layer(request).await?.into_inner().layer.unwrap())
}

/// Reads a file of a merged view.
pub async fn read_file(node: &Node, layers: &[String], path: &str, max_bytes: u64) -> Result<Vec<u8>, Status> {
    let mut client = LayerServiceClient::new(node.channel("store"));
    let request = ReadTreeFileRequest { layer_ids: layers.to_vec(), path: path.to_owned(), max_bytes };
    let mut stream = client.read_tree_file(request).await?.into_inner();
    let mut all = vec![];
    while let Some(message) = stream.message().await? {
        all.extend_from_slice(&message.chunk);
    }
    Ok(all)
}

async fn paths(node: &Node, layers: &[String], pattern: &str, recursive: bool) -> Result<Vec<String>, Status> {
    let mut client = LayerServiceClient::new(node.channel("store"));
    let request = ListTreeRequest { layer_ids: layers.to_vec(), pattern: pattern.to_owned(), recursive };
    let mut stream = client.list_tree(request).await?.into_inner();
    let mut all = vec![];
    while let Some(message) = stream.message().await? {
        all.extend(message.entries.into_iter().map(|entry| String::from_utf8(entry.path.to_vec()).unwrap()));
    }
    Ok(all)
}

async fn a_tree_of_contents_becomes_a_layer(node: &Node) {
    let base = import(node.channel("store"), "base", tar("one")).await.unwrap();
    let parents = [base.layers[0].layer_id.clone()];
    let lease = hold(node.channel("store")).await;
    put_one(node.channel("store"), &lease.id, b"hello").await;
    let tree = vec![
        entry("/app", Source::Directory(TreeDirectory { explicit: true })),
        TreeEntry { mode: Some(0o600), uid: Some(7), ..entry("/app/file", file(b"hello")) },
        entry("/app/link", Source::Symlink(TreeSymlink { target: Bytes::from_static(b"file") })),
    ];

    let layer = write(node, vec![header(&lease.id, &parents), entries(tree)]).await.unwrap();

    let view = [parents[0].clone(), layer.id.clone()];
    assert_eq!(read_file(node, &view, "/app/file", 0).await.unwrap(), b"hello");
    assert_eq!(read_file(node, &view, "/app/link", 0).await.unwrap(), b"hello", "links resolve inside the root");
    assert_eq!(read_file(node, &view, "/etc/words", 0).await.unwrap(), b"one");
    assert_eq!(paths(node, &view, "/app", true).await.unwrap(), ["/app", "/app/file", "/app/link"]);
    assert_eq!(paths(node, &view, "/app/l*", false).await.unwrap(), ["/app/link"]);
    let described = describe(node, &layer.id).await.unwrap();
    assert!(described.diff_id.starts_with("sha256:"), "{described:?}");
    assert_eq!(describe(node, &layer.id).await.unwrap(), described);
}

async fn destinations_stay_inside_the_root(node: &Node) {
    let lease = hold(node.channel("store")).await;
    put_one(node.channel("store"), &lease.id, b"hello").await;
    let out = Source::Symlink(TreeSymlink { target: Bytes::from_static(b"/../../../../../../etc") });
    let base = write(node, vec![header(&lease.id, &[]), entries(vec![entry("/out", out)])]).await.unwrap();

    let parents = [base.id.clone()];
    let through = entries(vec![entry("/out/strata-escaped", file(b"hello"))]);
    let layer = write(node, vec![header(&lease.id, &parents), through]).await.unwrap();

    assert!(!std::path::Path::new("/etc/strata-escaped").exists());
    let view = [base.id, layer.id];
    assert_eq!(read_file(node, &view, "/etc/strata-escaped", 0).await.unwrap(), b"hello");
}

async fn a_tree_that_is_cut_off_leaves_nothing(node: &Node) {
    let lease = hold(node.channel("store")).await;
    put_one(node.channel("store"), &lease.id, b"hello").await;
    let files = node.files("store");
    let (sender, receiver) = mpsc::channel(4);
    sender.send(header(&lease.id, &[])).await.unwrap();
    sender.send(entries(vec![entry("/a", file(b"hello"))])).await.unwrap();
    let mut client = LayerServiceClient::new(node.channel("store"));
    let writing = tokio::spawn(async move { client.write_tree(ReceiverStream::new(receiver)).await });
    eventually("the layer is being written", async || node.files("store") != files).await;

    writing.abort();

    nothing_left(node, "store", &files).await;
    drop(sender);
}

async fn what_is_not_there_is_named(node: &Node) {
    let base = import(node.channel("store"), "base", tar("twelve bytes")).await.unwrap();
    let view = [base.layers[0].layer_id.clone()];
    let lease = hold(node.channel("store")).await;

    let unknown = ["zz9".to_owned()];
    refused(describe(node, "zz9").await, Code::NotFound, "FAULT_LAYER_NOT_FOUND").resource("layer", "zz9");
    refused(paths(node, &unknown, "/", false).await, Code::NotFound, "FAULT_LAYER_NOT_FOUND");
    refused(paths(node, &view, "/absent", false).await, Code::NotFound, "FAULT_PATH_NOT_FOUND");
    refused(read_file(node, &view, "/absent", 0).await, Code::NotFound, "FAULT_PATH_NOT_FOUND");
    refused(read_file(node, &view, "/etc", 0).await, Code::FailedPrecondition, "FAULT_NOT_A_FILE");
    refused(read_file(node, &view, "/etc/words", 11).await, Code::ResourceExhausted, "FAULT_TOO_LARGE");
    assert_eq!(read_file(node, &view, "/etc/words", 12).await.unwrap(), b"twelve bytes");
    let messages = |destination: &str| vec![header(&lease.id, &view), entries(vec![entry(destination, file(b"no"))])];
    refused(write(node, messages("/x")).await, Code::NotFound, "FAULT_CONTENT_NOT_FOUND");
    put_one(node.channel("store"), &lease.id, b"no").await;
    let below = write(node, messages("/etc/words/x")).await;
    refused(below, Code::FailedPrecondition, "FAULT_NOT_A_DIRECTORY");
    refused(write(node, vec![header("unknown", &[])]).await, Code::NotFound, "FAULT_LEASE_NOT_FOUND");
    refused(write(node, vec![header(&lease.id, &unknown)]).await, Code::NotFound, "FAULT_LAYER_NOT_FOUND");
}

async fn malformed_entries_name_the_field(node: &Node) {
    let lease = hold(node.channel("store")).await;
    let one = |entry: TreeEntry| vec![header(&lease.id, &[]), entries(vec![entry])];
    let directory = || entry("/d", Source::Directory(TreeDirectory { explicit: true }));

    malformed(write(node, vec![]).await, "header");
    malformed(write(node, vec![entries(vec![])]).await, "header");
    malformed(write(node, vec![header(&lease.id, &[]), header(&lease.id, &[])]).await, "entries");
    malformed(write(node, vec![header("", &[])]).await, "lease_id");
    malformed(write(node, vec![header(&lease.id, &["..".into()])]).await, "parent_layer_ids");
    malformed(write(node, one(TreeEntry { source: None, ..directory() })).await, "entries.source");
    malformed(write(node, one(TreeEntry { mode: Some(0o10000), ..directory() })).await, "entries.mode");
    let name = TreeEntry { name_in_directory: Bytes::from_static(b"../x"), ..directory() };
    malformed(write(node, one(name)).await, "entries.name_in_directory");
    let target = entry("/l", Source::Symlink(TreeSymlink { target: Bytes::from_static(b"a\0b") }));
    malformed(write(node, one(target)).await, "entries.symlink.target");
    let digest = entry("/f", Source::File(TreeFile { blake3: "xyz".into(), size_bytes: 1, same_file: 0 }));
    malformed(write(node, one(digest)).await, "entries.file.blake3");
    let many = (0..4097).map(|n| entry(&format!("/{n}"), Source::Directory(TreeDirectory::default()))).collect();
    malformed(write(node, vec![header(&lease.id, &[]), entries(many)]).await, "entries");
}

fn key(letter: &str) -> String {
    letter.repeat(64)
}

async fn cache_records_hold_their_layers(node: &Node) {
    let lease = hold(node.channel("store")).await;
    let layer = write(
        node,
        vec![header(&lease.id, &[]), entries(vec![entry("/d", Source::Directory(TreeDirectory::default()))])],
    );
    let layer = layer.await.unwrap().id;
    let mut client = CacheServiceClient::new(node.channel("store"));
    let record = CacheRecord {
        key: key("a"),
        layer_id: layer.clone(),
        description: "COPY . .".into(),
        family: key("f"),
        created_at: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5_000_000 }),
        operation: key("0"),
    };
    client.put_cache_record(PutCacheRecordRequest { record: Some(record.clone()) }).await.unwrap();
    drop(lease);
    let other = hold(node.channel("store")).await;
    let get = |letter: &str| GetCacheRecordRequest {
        key: key(letter),
        family: key("f"),
        lease_id: other.id.clone(),
        ..Default::default()
    };

    let hit = client.get_cache_record(get("a")).await.unwrap().into_inner();
    assert_eq!(hit.record, Some(record), "also when it was made: a cached build makes the same image");
    assert_eq!(hit.previous, None);
    describe(node, &layer).await.unwrap();
    let miss = client.get_cache_record(get("b")).await.unwrap().into_inner();
    assert_eq!((miss.record, miss.previous.map(|found| found.key)), (None, Some(key("a"))));
    drop(other);
    let request = PruneCacheRecordsRequest { all: true, ..Default::default() };
    eventually("the record is removed", async || {
        let mut removed = client.prune_cache_records(request.clone()).await.unwrap().into_inner();
        removed.message().await.unwrap().is_some_and(|message| message.records.iter().any(|one| one.key == key("a")))
    })
    .await;
    let other = hold(node.channel("store")).await;
    let get = |letter: &str| GetCacheRecordRequest {
        key: key(letter),
        family: key("f"),
        lease_id: other.id.clone(),
        ..Default::default()
    };
    let gone = client.get_cache_record(get("a")).await.unwrap().into_inner();
    assert_eq!((gone.record, gone.previous), (None, None));
    drop(other);
    eventually("the layer is gone", async || describe(node, &layer).await.is_err()).await;
}

fn step(lease: &str, parents: &[String], record: CacheRecord) -> WriteTreeRequest {
    let (lease_id, parent_layer_ids) = (lease.to_owned(), parents.to_vec());
    let header = WriteTreeHeader { lease_id, parent_layer_ids, record: Some(record), ..Default::default() };
    WriteTreeRequest { part: Some(Part::Header(header)) }
}

/// A directory with a time of its own.
fn directory(path: &str, seconds: i64) -> WriteTreeRequest {
    let modified_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
    entries(vec![TreeEntry { modified_at, ..entry(path, Source::Directory(TreeDirectory::default())) }])
}

async fn a_record_comes_with_its_layer_or_not_at_all(node: &Node) {
    let lease = hold(node.channel("store")).await;
    let mut client = CacheServiceClient::new(node.channel("store"));
    let mut find = async |letter: &str| {
        let get = GetCacheRecordRequest { key: key(letter), lease_id: lease.id.clone(), ..Default::default() };
        client.get_cache_record(get).await.unwrap().into_inner().record
    };
    let record = |letter: &str| CacheRecord { key: key(letter), ..Default::default() };

    let made = write(node, vec![step(&lease.id, &[], record("a")), directory("/d", 1)]).await.unwrap();
    let missing = entries(vec![entry("/f", file(b"nobody has sent it"))]);
    write(node, vec![step(&lease.id, &[], record("b")), missing]).await.unwrap_err();
    let named = CacheRecord { layer_id: made.id.clone(), ..record("c") };
    malformed(write(node, vec![step(&lease.id, &[], named), directory("/d", 1)]).await, "record.layer_id");
    malformed(write(node, vec![step(&lease.id, &[], CacheRecord::default())]).await, "record.key");

    assert_eq!(find("a").await.map(|found| found.layer_id), Some(made.id));
    assert_eq!((find("b").await, find("c").await), (None, None));
}

async fn a_step_of_other_layers_with_the_same_files_is_found(node: &Node) {
    let lease = hold(node.channel("store")).await;
    let mut client = CacheServiceClient::new(node.channel("store"));
    let operation = "0123456789abcdef".repeat(4);
    let one = write(node, vec![header(&lease.id, &[]), directory("/d", 1)]).await.unwrap().id;
    let two = write(node, vec![header(&lease.id, &[]), directory("/d", 2)]).await.unwrap().id;
    let record = CacheRecord { key: key("a"), operation: operation.clone(), ..Default::default() };
    let made = write(node, vec![step(&lease.id, &[one], record), directory("/e", 1)]).await.unwrap().id;
    let get = |by_content, operation: &str| GetCacheRecordRequest {
        key: key("b"),
        operation: operation.to_owned(),
        layer_ids: vec![two.clone()],
        by_content,
        lease_id: lease.id.clone(),
        ..Default::default()
    };

    let met = client.get_cache_record(get(true, &operation)).await.unwrap().into_inner();
    let by_key = client.get_cache_record(get(false, &operation)).await.unwrap().into_inner();
    let other = client.get_cache_record(get(true, &key("c"))).await.unwrap().into_inner();

    assert_eq!(met.record.map(|found| (found.key, found.layer_id)), Some((key("a"), made)));
    assert_eq!((by_key.record, by_key.is_operation_known), (None, true));
    assert_eq!((other.record, other.is_operation_known), (None, false));
    malformed(client.get_cache_record(get(true, "x")).await, "operation");
    let no_layer = GetCacheRecordRequest { layer_ids: vec!["../x".into()], ..get(true, &operation) };
    malformed(client.get_cache_record(no_layer).await, "layer_ids");
}

async fn malformed_cache_records_name_the_field(node: &Node) {
    let lease = hold(node.channel("store")).await;
    let mut client = CacheServiceClient::new(node.channel("store"));
    let good = CacheRecord { key: key("a"), ..Default::default() };
    let mut put = async |record| client.put_cache_record(PutCacheRecordRequest { record }).await;

    malformed(put(None).await, "record");
    malformed(put(Some(CacheRecord { key: "abc".into(), ..good.clone() })).await, "record.key");
    malformed(put(Some(CacheRecord { family: key("X"), ..good.clone() })).await, "record.family");
    malformed(put(Some(CacheRecord { layer_id: "../x".into(), ..good.clone() })).await, "record.layer_id");
    let absent = put(Some(CacheRecord { layer_id: "zz9".into(), ..good })).await;
    refused(absent, Code::NotFound, "FAULT_LAYER_NOT_FOUND");
    let get = |key: String, lease: &str| GetCacheRecordRequest {
        key,
        family: String::new(),
        lease_id: lease.into(),
        ..Default::default()
    };
    malformed(client.get_cache_record(get("g".into(), &lease.id)).await, "key");
    malformed(client.get_cache_record(get(key("a"), "")).await, "lease_id");
    refused(client.get_cache_record(get(key("a"), "unknown")).await, Code::NotFound, "FAULT_LEASE_NOT_FOUND");
}
