//! Manifests and indexes as documents: entries are made, indexes put together, named, listed and pushed.

use strata_proto::{
    store::v1::{
        FetchEntriesRequest, FetchEntriesResponse, GetManifestRequest, GetManifestResponse, IndexEntry,
        ListIndexesRequest, ManifestFormat, PushImageRequest, PutIndexRequest, PutIndexResponse,
        manifest_service_client::ManifestServiceClient, push_image_response::Event,
        registry_service_client::RegistryServiceClient,
    },
    types::v1::Platform,
};
use strata_tests::DockerRegistry;
use tonic::{Code, Status, transport::Channel};

use crate::{
    faults::{malformed, refused},
    images::{import, tar},
    node::{Node, STORE},
};

over_both!(STORE; an_index_of_images_of_the_store_is_kept_and_pushed, an_index_is_replaced_only_as_it_was_seen,
    indexes_are_listed_in_pages, malformed_requests_about_indexes_are_refused);

fn client(node: &Node) -> ManifestServiceClient<Channel> {
    ManifestServiceClient::new(node.channel("store"))
}

async fn entries(node: &Node, reference: &str) -> Result<Vec<IndexEntry>, Status> {
    let request = FetchEntriesRequest { reference: reference.into(), ..Default::default() };
    client(node)
        .fetch_entries(request)
        .await
        .map(|reply: tonic::Response<FetchEntriesResponse>| reply.into_inner().entries)
}

async fn get(node: &Node, reference: &str) -> Result<GetManifestResponse, Status> {
    let request = GetManifestRequest { reference: reference.into() };
    client(node).get_manifest(request).await.map(tonic::Response::into_inner)
}

fn index(entries: &[IndexEntry]) -> Vec<u8> {
    let entries: Vec<&str> = entries.iter().map(|entry| std::str::from_utf8(&entry.entry_json).unwrap()).collect();
    let media_type = "application/vnd.oci.image.index.v1+json";
    format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{}]}}"#, entries.join(",")).into_bytes()
}

async fn put(node: &Node, name: &str, document: Vec<u8>, expected: Option<&str>) -> Result<PutIndexResponse, Status> {
    let expected_digest = expected.map(str::to_owned);
    let request = PutIndexRequest { name: name.into(), document_json: document.into(), expected_digest };
    client(node).put_index(request).await.map(tonic::Response::into_inner)
}

async fn an_index_of_images_of_the_store_is_kept_and_pushed(node: &Node) {
    let registry = DockerRegistry::open();
    import(node.channel("store"), "one", tar("one")).await.unwrap();
    import(node.channel("store"), "two", tar("two")).await.unwrap();
    let all = [entries(node, "one").await.unwrap(), entries(node, "two").await.unwrap()].concat();

    let kept = put(node, "list", index(&all), Some("")).await.unwrap().descriptor.unwrap();
    let found = get(node, "list").await.unwrap();

    assert_eq!((found.descriptor.unwrap(), found.is_made_here), (kept.clone(), true));
    assert_eq!(found.document_json, index(&all));
    assert_eq!(found.layer_registries, Vec::<String>::new());
    let image = get(node, "one").await.unwrap();
    assert_eq!(image.descriptor, all[0].descriptor);
    let request = PushImageRequest {
        reference: registry.image("list:1"),
        source: "list".into(),
        manifest_format: ManifestFormat::Docker.into(),
        ..Default::default()
    };
    let mut events = RegistryServiceClient::new(node.channel("store")).push_image(request).await.unwrap().into_inner();
    let mut completed = None;
    while let Some(event) = events.message().await.unwrap() {
        if let Some(Event::Completed(end)) = event.event {
            completed = Some(end);
        }
    }
    let target = completed.unwrap().target.unwrap();
    assert_eq!(target.media_type, "application/vnd.docker.distribution.manifest.list.v2+json");
    assert_eq!(entries(node, &registry.image("list:1")).await.unwrap().len(), 1, "of an index the one for this host");
}

async fn an_index_is_replaced_only_as_it_was_seen(node: &Node) {
    import(node.channel("store"), "one", tar("one")).await.unwrap();
    let one = entries(node, "one").await.unwrap();
    let first = put(node, "list", index(&[]), Some("")).await.unwrap().descriptor.unwrap();

    let taken = put(node, "list", index(&one), Some("")).await;
    refused(taken, Code::Aborted, "FAULT_NAME_MOVED");
    let second = put(node, "list", index(&one), Some(&first.digest)).await.unwrap().descriptor.unwrap();
    refused(put(node, "list", index(&[]), Some(&first.digest)).await, Code::Aborted, "FAULT_NAME_MOVED");

    assert_eq!(get(node, "list").await.unwrap().descriptor.unwrap(), second);
    put(node, "list", index(&[]), None).await.unwrap();
}

async fn indexes_are_listed_in_pages(node: &Node) {
    import(node.channel("store"), "one", tar("one")).await.unwrap();
    let one = entries(node, "one").await.unwrap();
    for name in ["c", "a", "b"] {
        put(node, name, index(&one), None).await.unwrap();
    }

    let (mut names, mut page_token) = (vec![], String::new());
    loop {
        let page =
            client(node).list_indexes(ListIndexesRequest { page_size: 2, page_token }).await.unwrap().into_inner();
        assert!(page.indexes.len() <= 2);
        names.extend(page.indexes.into_iter().map(|index| {
            assert_eq!(index.platforms[0].os, "linux");
            index.name
        }));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }

    assert_eq!(names, ["a", "b", "c"].map(|name| format!("docker.io/library/{name}:latest")));
}

async fn malformed_requests_about_indexes_are_refused(node: &Node) {
    import(node.channel("store"), "one", tar("one")).await.unwrap();
    let platform = Some(Platform { os: "linux".into(), architecture: "amd64".into(), variant: String::new() });

    refused(get(node, "none").await, Code::NotFound, "FAULT_IMAGE_NOT_FOUND").resource("image", "none");
    malformed(get(node, "UPPER").await, "reference");
    let both = FetchEntriesRequest { reference: "one".into(), platform, all: true, ..Default::default() };
    malformed(client(node).fetch_entries(both).await, "platform");
    refused(entries(node, "sha256:0123").await, Code::NotFound, "FAULT_IMAGE_NOT_FOUND");
    malformed(put(node, "list@sha256:0", index(&[]), None).await, "name");
    malformed(put(node, "list", index(&[]), Some("sha256:0")).await, "expected_digest");
    let image = get(node, "one").await.unwrap().document_json.to_vec();
    malformed(put(node, "list", image, None).await, "document_json");
    refused(put(node, "list", b"{}".to_vec(), None).await, Code::InvalidArgument, "FAULT_IMAGE_INVALID");
    let mut entry = entries(node, "one").await.unwrap().remove(0);
    let json = String::from_utf8(entry.entry_json.to_vec()).unwrap();
    let digest = entry.descriptor.unwrap().digest;
    entry.entry_json = json.replace(&digest, &format!("sha256:{}", "0".repeat(64))).into();
    entry.descriptor = None;
    refused(put(node, "list", index(&[entry]), None).await, Code::NotFound, "FAULT_IMAGE_NOT_FOUND");
    let format = PushImageRequest { reference: "one".into(), manifest_format: 9, ..Default::default() };
    malformed(RegistryServiceClient::new(node.channel("store")).push_image(format).await, "manifest_format");
    let source = PushImageRequest { reference: "one".into(), source: "UPPER".into(), ..Default::default() };
    malformed(RegistryServiceClient::new(node.channel("store")).push_image(source).await, "source");
}
