//! Images: made by imports and from layers, found by name and id, removed when nobody needs them; and the store as a whole.

use bytes::Bytes;
use strata_proto::store::v1::{
    CreateImageRequest, DeleteImageRequest, GetImageRequest, Image, ImportImageHeader, ImportImageRequest,
    ListImagesRequest, PrepareSnapshotRequest, PruneRequest, RemoveSnapshotRequest, TagImageRequest, VerifyRequest,
    image_service_client::ImageServiceClient, import_image_request::Part,
    snapshot_service_client::SnapshotServiceClient, system_service_client::SystemServiceClient, verify_response::Event,
};
use strata_proto::types::v1::Platform;
use strata_tests::Tar;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};

use crate::{
    faults::{malformed, refused},
    leases::hold,
    node::{Node, STORE, eventually, nothing_left},
};

over_both!(STORE; an_import_is_found_by_name_id_and_prefix, an_image_is_made_from_layers_of_another,
    what_is_no_archive_is_refused_and_leaves_nothing, an_import_that_is_dropped_leaves_nothing,
    names_move_and_go, an_image_in_use_stays, what_is_for_a_platform_goes_or_nothing_does, images_are_listed_in_pages, malformed_names_are_refused,
    a_prune_before_what_is_no_time_is_refused_and_removes_nothing, a_sound_store_verifies);

fn header(name: &str) -> ImportImageRequest {
    let header = ImportImageHeader { name: name.to_owned(), ..Default::default() };
    ImportImageRequest { part: Some(Part::Header(header)) }
}

fn chunk(bytes: impl Into<Bytes>) -> ImportImageRequest {
    ImportImageRequest { part: Some(Part::Chunk(bytes.into())) }
}

/// Imports an archive.
pub async fn import(channel: Channel, name: &str, tar: Vec<u8>) -> Result<Image, Status> {
    let tar = Bytes::from(tar);
    let mut messages = vec![header(name)];
    messages.extend((0..tar.len()).step_by(262_144).map(|at| chunk(tar.slice(at..tar.len().min(at + 262_144)))));
    let mut client = ImageServiceClient::new(channel);
    Ok(client.import_image(tokio_stream::iter(messages)).await?.into_inner().image.unwrap())
}

/// An archive with one file of these words.
pub fn tar(words: &str) -> Vec<u8> {
    Tar::default().directory("etc", 0o755).file("etc/words", 0o644, words.as_bytes()).bytes()
}

async fn get(node: &Node, reference: &str) -> Result<Image, Status> {
    let request = GetImageRequest { reference: reference.to_owned(), ..Default::default() };
    let mut client = ImageServiceClient::new(node.channel("store"));
    Ok(client.get_image(request).await?.into_inner().image.unwrap())
}

async fn list(node: &Node) -> Vec<Image> {
    let mut client = ImageServiceClient::new(node.channel("store"));
    client.list_images(ListImagesRequest::default()).await.unwrap().into_inner().images
}

async fn an_import_is_found_by_name_id_and_prefix(node: &Node) {
    let made = import(node.channel("store"), "words:1", tar("one")).await.unwrap();

    let hex = made.id.strip_prefix("sha256:").unwrap();
    for reference in ["words:1", "docker.io/library/words:1", &made.id, hex, &hex[..12], &made.id[..19]] {
        assert_eq!(get(node, reference).await.unwrap().id, made.id, "{reference}");
    }
    let found = get(node, "words:1").await.unwrap();
    assert_eq!(found.names, ["docker.io/library/words:1"]);
    assert_eq!(found.layers.len(), 1);
    assert!(found.layers[0].diff_id.starts_with("sha256:"));
    let config: serde_json::Value = serde_json::from_slice(&found.config_json).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"][0], found.layers[0].diff_id);
    let absent = get(node, "words:2").await;
    let refusal = refused(absent, Code::NotFound, "FAULT_IMAGE_NOT_FOUND");
    assert_eq!(refusal.resource.unwrap().0, "image");
}

async fn an_image_is_made_from_layers_of_another(node: &Node) {
    let base = import(node.channel("store"), "base", tar("one")).await.unwrap();
    let lease = hold(node.channel("store")).await;
    let mut client = ImageServiceClient::new(node.channel("store"));
    let request = CreateImageRequest {
        config_json:
            r#"{"architecture":"amd64","os":"linux","config":{"Cmd":["/x"]},"rootfs":{"type":"layers","diff_ids":[]}}"#
                .into(),
        layer_ids: vec![base.layers[0].layer_id.clone()],
        names: vec!["made:1".into(), "made:2".into()],
        lease_id: lease.id.clone(),
    };

    let made = client.create_image(request.clone()).await.unwrap().into_inner().image.unwrap();

    assert_eq!(made.names, ["docker.io/library/made:1", "docker.io/library/made:2"]);
    let again = client.create_image(request.clone()).await.unwrap().into_inner().image.unwrap();
    assert_eq!(again.id, made.id);
    let config: serde_json::Value = serde_json::from_slice(&made.config_json).unwrap();
    assert_eq!(config["rootfs"]["diff_ids"][0], base.layers[0].diff_id);
    let absent = CreateImageRequest { layer_ids: vec!["zz9".into()], ..request.clone() };
    refused(client.create_image(absent).await, Code::NotFound, "FAULT_LAYER_NOT_FOUND").resource("layer", "zz9");
    let no_json = CreateImageRequest { config_json: "{".into(), ..request.clone() };
    malformed(client.create_image(no_json).await, "config_json");
    let no_layer = CreateImageRequest { layer_ids: vec!["../x".into()], ..request.clone() };
    malformed(client.create_image(no_layer).await, "layer_ids");
    let no_name = CreateImageRequest { names: vec!["UPPER".into()], ..request.clone() };
    malformed(client.create_image(no_name).await, "names");
    malformed(client.create_image(CreateImageRequest { lease_id: String::new(), ..request }).await, "lease_id");
}

/// CVE-2021-20291, row 70.
async fn what_is_no_archive_is_refused_and_leaves_nothing(node: &Node) {
    let files = node.files("store");
    let whole = tar(&"long ".repeat(2000));
    let truncated = whole[..whole.len() / 2].to_vec();
    let mut lying = tar("one");
    lying[0] ^= 1;

    for (what, bytes) in
        [("text", b"not an archive at all, but a text".repeat(40)), ("half", truncated), ("sum", lying)]
    {
        let answer = import(node.channel("store"), "bad", bytes).await;
        let refusal = refused(answer, Code::InvalidArgument, "FAULT_ARCHIVE_INVALID");
        assert!(!refusal.message.is_empty(), "{what}");
    }

    assert!(list(node).await.is_empty());
    nothing_left(node, "store", &files).await;
}

async fn an_import_that_is_dropped_leaves_nothing(node: &Node) {
    let files = node.files("store");
    let (sender, receiver) = mpsc::channel(16);
    sender.send(header("half")).await.unwrap();
    let whole = tar(&"long ".repeat(400_000));
    for part in whole[..whole.len() / 2].chunks(262_144) {
        sender.send(chunk(part.to_vec())).await.unwrap();
    }
    let mut client = ImageServiceClient::new(node.channel("store"));
    let importing = tokio::spawn(async move { client.import_image(ReceiverStream::new(receiver)).await });
    eventually("the import has begun", async || node.files("store") != files).await;

    importing.abort();

    nothing_left(node, "store", &files).await;
    assert!(list(node).await.is_empty());
    drop(sender);
}

async fn names_move_and_go(node: &Node) {
    let one = import(node.channel("store"), "one", tar("one")).await.unwrap();
    let two = import(node.channel("store"), "two", tar("two")).await.unwrap();
    let mut client = ImageServiceClient::new(node.channel("store"));
    let tag = |source: &str| TagImageRequest { source: source.into(), target: "name:x".into() };

    let free = client.tag_image(tag("one")).await.unwrap().into_inner();
    assert_eq!((free.image.unwrap().id, free.previous_id.as_str()), (one.id.clone(), ""));
    let moved = client.tag_image(tag("two")).await.unwrap().into_inner();
    assert_eq!((moved.image.unwrap().id, moved.previous_id), (two.id.clone(), one.id.clone()));

    let delete =
        |reference: &str, force| DeleteImageRequest { reference: reference.into(), force, ..Default::default() };
    let several = client.delete_image(delete(&two.id, false)).await;
    refused(several, Code::FailedPrecondition, "FAULT_IMAGE_IN_USE");
    let untagged = client.delete_image(delete("name:x", false)).await.unwrap().into_inner();
    assert_eq!(untagged.untagged, ["docker.io/library/name:x"]);
    assert!(untagged.deleted.is_empty());
    let gone = client.delete_image(delete("two", false)).await.unwrap().into_inner();
    assert_eq!(gone.deleted, [two.id]);
    let again = client.delete_image(delete("two", false)).await;
    refused(again, Code::NotFound, "FAULT_IMAGE_NOT_FOUND");
    refused(client.tag_image(tag("two")).await, Code::NotFound, "FAULT_IMAGE_NOT_FOUND");
}

async fn an_image_in_use_stays(node: &Node) {
    let image = import(node.channel("store"), "used", tar("one")).await.unwrap();
    let mut snapshots = SnapshotServiceClient::new(node.channel("store"));
    let prepare = PrepareSnapshotRequest { key: "user".into(), image: "used".into(), ..Default::default() };
    snapshots.prepare_snapshot(prepare).await.unwrap();
    let mut client = ImageServiceClient::new(node.channel("store"));

    let answer = client
        .delete_image(DeleteImageRequest { reference: image.id.clone(), force: false, ..Default::default() })
        .await;

    refused(answer, Code::FailedPrecondition, "FAULT_IMAGE_IN_USE");
    assert_eq!(get(node, "used").await.unwrap().id, image.id);
    let remove = RemoveSnapshotRequest { key: "user".into(), ..Default::default() };
    snapshots.remove_snapshot(remove).await.unwrap();
    client.delete_image(DeleteImageRequest { reference: image.id, force: false, ..Default::default() }).await.unwrap();
    assert!(list(node).await.is_empty());
}

async fn what_is_for_a_platform_goes_or_nothing_does(node: &Node) {
    let image = import(node.channel("store"), "one", tar("one")).await.unwrap();
    let own = image.platform.clone().unwrap();
    let other = Platform { architecture: "riscv64".into(), ..own.clone() };
    let malformed_one = Platform { os: "a/b".into(), ..Default::default() };
    let mut client = ImageServiceClient::new(node.channel("store"));
    let delete = |platforms: &[&Platform]| DeleteImageRequest {
        reference: "one".into(),
        platforms: platforms.iter().map(|platform| (*platform).clone()).collect(),
        ..Default::default()
    };

    let absent = client.delete_image(delete(&[&own, &other])).await;
    refused(absent, Code::NotFound, "FAULT_PLATFORM_NOT_FOUND");
    malformed(client.delete_image(delete(&[&malformed_one])).await, "platforms");
    assert_eq!(get(node, "one").await.unwrap().id, image.id);
    let gone = client.delete_image(delete(&[&own])).await.unwrap().into_inner();

    // It was the last that the name led to.
    assert_eq!((gone.untagged, gone.deleted), (vec!["docker.io/library/one:latest".to_owned()], vec![image.id]));
    refused(client.delete_image(delete(&[&own])).await, Code::NotFound, "FAULT_IMAGE_NOT_FOUND");
}

async fn images_are_listed_in_pages(node: &Node) {
    let mut expected = vec![];
    for n in 0..5 {
        expected.push(import(node.channel("store"), &format!("image{n}"), tar(&n.to_string())).await.unwrap().id);
    }
    expected.sort();
    let mut client = ImageServiceClient::new(node.channel("store"));

    let (mut ids, mut page_token) = (vec![], String::new());
    loop {
        let request = ListImagesRequest { page_size: 2, page_token, reference: String::new() };
        let page = client.list_images(request).await.unwrap().into_inner();
        assert!((1..=2).contains(&page.images.len()));
        ids.extend(page.images.into_iter().map(|image| image.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }

    assert_eq!(ids, expected);
    let one = ListImagesRequest { reference: "image3".into(), ..Default::default() };
    let found = client.list_images(one).await.unwrap().into_inner().images;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].names, ["docker.io/library/image3:latest"]);
    let foreign = ListImagesRequest { page_token: "0".into(), ..Default::default() };
    malformed(client.list_images(foreign).await, "page_token");
}

async fn malformed_names_are_refused(node: &Node) {
    let mut client = ImageServiceClient::new(node.channel("store"));
    for bad in ["UPPER", "a b", "x:", "a//b", &"x".repeat(300)] {
        malformed(import(node.channel("store"), bad, tar("one")).await, "header.name");
    }
    import(node.channel("store"), "good", tar("one")).await.unwrap();

    for bad in ["", "UPPER", "x:y:z"] {
        let answer = client.tag_image(TagImageRequest { source: "good".into(), target: bad.into() }).await;
        malformed(answer, "target");
    }
    malformed(
        client.list_images(ListImagesRequest { reference: "A B".into(), ..Default::default() }).await,
        "reference",
    );
    let no_header = client.import_image(tokio_stream::once(chunk("x"))).await;
    malformed(no_header, "header");
    let long = client.import_image(tokio_stream::iter([header("x"), chunk(vec![0; 262_145])])).await;
    malformed(long, "chunk");
}

async fn a_prune_before_what_is_no_time_is_refused_and_removes_nothing(node: &Node) {
    import(node.channel("store"), "", tar("one")).await.unwrap();
    let mut client = SystemServiceClient::new(node.channel("store"));

    for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, 2_000_000_000), (0, i32::MIN)] {
        let before = Some(prost_types::Timestamp { seconds, nanos });
        malformed(client.prune(PruneRequest { before, ..Default::default() }).await, "before");
    }

    assert_eq!(list(node).await.len(), 1);
}

async fn a_sound_store_verifies(node: &Node) {
    import(node.channel("store"), "one", tar("one")).await.unwrap();
    let nameless = import(node.channel("store"), "", tar("two")).await.unwrap();
    let mut client = SystemServiceClient::new(node.channel("store"));

    let mut events = client.verify(VerifyRequest {}).await.unwrap().into_inner();

    let Some(Event::Completed(end)) = events.message().await.unwrap().unwrap().event else { panic!("damage") };
    assert_eq!((end.images, end.layers, end.damaged), (2, 2, 0));
    assert!(events.message().await.unwrap().is_none());
    let pruned = client.prune(PruneRequest::default()).await.unwrap().into_inner();
    assert_eq!(pruned.deleted_images, [nameless.id]);
    assert_eq!(list(node).await.len(), 1);
}
