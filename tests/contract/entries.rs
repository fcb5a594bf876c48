//! Entries of layers: what a table of contents says of each name, for those who may look but not read.

use std::collections::BTreeMap;

use bytes::Bytes;
use strata_proto::store::v1::{
    LayerEntry, LayerEntryKind as Kind, ReadLayerEntriesRequest, ReadLayerEntriesResponse, TreeDirectory, TreeEntries,
    TreeEntry, TreeFile, WriteTreeHeader, WriteTreeRequest, layer_service_client::LayerServiceClient,
    tree_entry::Source, write_tree_request::Part,
};
use strata_tests::Tar;
use tonic::{Code, Status};

use crate::{
    contents::{digest, put_one},
    faults::{malformed, refused},
    images::import,
    leases::hold,
    node::{Node, STORE},
};

over_both!(STORE; a_layer_lists_what_its_archive_says, a_layer_that_was_just_built_is_waited_for,
    many_entries_come_in_order_in_messages_of_a_bounded_size, layers_that_are_not_there_are_refused,
    a_damaged_table_of_contents_is_told);

async fn messages(node: &Node, layer_id: &str) -> Result<Vec<ReadLayerEntriesResponse>, Status> {
    let mut client = LayerServiceClient::new(node.channel("store"));
    let request = ReadLayerEntriesRequest { layer_id: layer_id.to_owned() };
    let mut stream = client.read_layer_entries(request).await?.into_inner();
    let mut all = vec![];
    while let Some(message) = stream.message().await? {
        all.push(message);
    }
    Ok(all)
}

async fn entries(node: &Node, layer_id: &str) -> Vec<LayerEntry> {
    messages(node, layer_id).await.unwrap().into_iter().flat_map(|message| message.entries).collect()
}

/// Imports an archive; its layer.
async fn layer(node: &Node, tar: Tar) -> String {
    import(node.channel("store"), "", tar.bytes()).await.unwrap().layers[0].layer_id.clone()
}

async fn a_layer_lists_what_its_archive_says(node: &Node) {
    let tar = Tar::default()
        .directory("etc", 0o750)
        .owned_by(1000, 50)
        .file("etc/words", 0o4755, b"hello")
        .owned_by(0, 0)
        .hard_link("etc/again", "etc/words")
        .file("empty", 0o600, b"")
        .symlink("link", "etc/words")
        .file("deep/down/file", 0o644, b"x")
        .file("gone/.wh..wh..opq", 0o644, b"")
        .file("etc/.wh.hidden", 0o644, b"");
    let id = layer(node, tar).await;

    let found: BTreeMap<Vec<u8>, LayerEntry> =
        entries(node, &id).await.into_iter().map(|entry| (entry.path.to_vec(), entry)).collect();

    let at = |path: &str| found.get(path.as_bytes()).unwrap_or_else(|| panic!("no {path} in {:?}", found.keys()));
    let etc = at("/etc");
    assert_eq!((etc.kind(), etc.mode, etc.is_implied, etc.is_opaque), (Kind::Directory, 0o750, false, false));
    assert_eq!(etc.modified_at.map(|time| time.seconds), Some(1_600_000_000));
    let (words, again) = (at("/etc/words"), at("/etc/again"));
    assert_eq!((words.kind(), words.mode, words.size_bytes), (Kind::Regular, 0o4755, 5));
    assert_eq!((words.uid, words.gid), (1000, 50));
    assert_eq!(words.blake3, digest(b"hello"));
    // The first in order of paths is the one that others point to.
    assert_eq!((again.hard_link.as_ref(), words.hard_link.as_ref()), (&b""[..], &b"/etc/again"[..]));
    assert_eq!((again.blake3.clone(), again.size_bytes), (words.blake3.clone(), 5));
    assert_eq!((at("/empty").size_bytes, at("/empty").blake3.len()), (0, 0));
    assert_eq!((at("/link").kind(), at("/link").target.as_ref()), (Kind::Symlink, &b"etc/words"[..]));
    assert!(at("/deep").is_implied && at("/deep/down").is_implied && at("/deep").modified_at.is_none());
    assert!(at("/gone").is_opaque);
    let hidden = at("/etc/hidden");
    assert_eq!((hidden.kind(), hidden.modified_at), (Kind::Whiteout, None));
    assert!(!found.keys().any(|path| path.windows(4).any(|part| part == b".wh.")), "{:?}", found.keys());
    assert_eq!(found.values().filter(|entry| entry.kind() == Kind::Unspecified).count(), 0);
}

async fn a_layer_that_was_just_built_is_waited_for(node: &Node) {
    let lease = hold(node.channel("store")).await;
    put_one(node.channel("store"), &lease.id, b"hello").await;
    let header = WriteTreeHeader { lease_id: lease.id.clone(), ..Default::default() };
    let blake3 = blake3::hash(b"hello").to_hex().to_string();
    let entry = |destination: &str, source| TreeEntry {
        destination: Bytes::copy_from_slice(destination.as_bytes()),
        source: Some(source),
        mode: Some(0o711),
        ..Default::default()
    };
    let placed = vec![
        entry("/app", Source::Directory(TreeDirectory { explicit: true })),
        entry("/app/file", Source::File(TreeFile { blake3, size_bytes: 5, same_file: 0 })),
    ];
    let parts = [Part::Header(header), Part::Entries(TreeEntries { entries: placed })];
    let messages = parts.map(|part| WriteTreeRequest { part: Some(part) });
    let mut client = LayerServiceClient::new(node.channel("store"));
    let written = client.write_tree(tokio_stream::iter(messages)).await.unwrap().into_inner().layer.unwrap();

    let found = entries(node, &written.id).await;

    let file = found.iter().find(|entry| entry.path == "/app/file").unwrap();
    assert_eq!((file.kind(), file.mode, file.blake3.clone()), (Kind::Regular, 0o711, digest(b"hello")));
    assert_eq!(entries(node, &written.id).await, found);
}

async fn many_entries_come_in_order_in_messages_of_a_bounded_size(node: &Node) {
    let names: Vec<String> = (0..5000).map(|n| format!("d{}/{n:060}", n % 7)).collect();
    let tar = names.iter().fold(Tar::default(), |tar, name| tar.file(name, 0o644, b"x"));
    let id = layer(node, tar).await;

    let all = messages(node, &id).await.unwrap();

    assert!(all.len() > 1);
    for message in &all {
        let bytes = prost::Message::encoded_len(message);
        assert!(!message.entries.is_empty() && message.entries.len() <= 4096 && bytes < 512 << 10, "{bytes} bytes");
    }
    let paths: Vec<Bytes> = all.into_iter().flat_map(|message| message.entries).map(|entry| entry.path).collect();
    assert!(paths.is_sorted());
    assert_eq!(paths.iter().filter(|path| path.len() > 60).count(), 5000);
}

async fn layers_that_are_not_there_are_refused(node: &Node) {
    refused(messages(node, "zz9").await, Code::NotFound, "FAULT_LAYER_NOT_FOUND").resource("layer", "zz9");
    malformed(messages(node, "").await, "layer_id");
    malformed(messages(node, "../etc").await, "layer_id");
}

async fn a_damaged_table_of_contents_is_told(node: &Node) {
    let id = layer(node, Tar::default().file("words", 0o644, b"one")).await;
    let files = node.files("store");
    let tables = files.iter().filter(|path| std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"STRATOC")));
    let mut damaged = 0;
    for path in tables {
        let mut bytes = std::fs::read(path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(path, bytes).unwrap();
        damaged += 1;
    }
    assert_eq!(damaged, 1, "one layer, one table of contents");

    refused(messages(node, &id).await, Code::DataLoss, "FAULT_CORRUPT");
}
