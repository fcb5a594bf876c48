//! One set of names: what clients push is an image of the store, and the store's images are pulled by clients.

use bytes::Bytes;
use strata_proto::store::v1::{
    DeleteImageRequest, GetImageRequest, Image as Stored, ImportImageHeader, ImportImageRequest,
    SearchRepositoriesRequest, image_service_client::ImageServiceClient, import_image_request::Part,
    registry_service_client::RegistryServiceClient,
};
use tonic::{Status, transport::Channel};

use crate::{
    content::{Image, archive, put_manifest, sha256},
    subject::{Kind, Registry, over_ours},
};

over_ours!(
    what_a_client_pushes_is_an_image_of_the_store,
    an_image_of_the_store_is_pulled_compressed_and_always_the_same,
    a_tag_that_is_deleted_here_is_no_name_there,
    an_image_of_the_store_is_found_under_its_short_and_its_full_name,
    the_form_for_others_goes_when_no_name_leads_to_it,
    a_pushed_name_is_removed_before_anybody_used_it,
    what_is_here_is_found_by_a_search,
);

/// Runs calls of the store's own interface.
fn with_store<T>(registry: &Registry, calls: impl AsyncFnOnce(ImageServiceClient<Channel>) -> T) -> T {
    with_channel(registry, async |channel| calls(ImageServiceClient::new(channel)).await)
}

fn with_channel<T>(registry: &Registry, calls: impl AsyncFnOnce(Channel) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let endpoint = strata_rpc::Endpoint::Unix(registry.socket());
        calls(strata_rpc::connect(&endpoint, None).expect("the endpoint is one")).await
    })
}

fn get(registry: &Registry, reference: &str) -> Result<Stored, Status> {
    let request = GetImageRequest { reference: reference.to_owned(), ..Default::default() };
    with_store(registry, async |mut client| Ok(client.get_image(request).await?.into_inner().image.unwrap()))
}

/// Makes an image of the store from an archive of one file.
pub fn import(registry: &Registry, name: &str, seed: &str) -> Stored {
    let header = ImportImageHeader { name: name.to_owned(), ..Default::default() };
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let header = ImportImageHeader { config_json: config.to_vec().into(), ..header };
    let parts = vec![
        ImportImageRequest { part: Some(Part::Header(header)) },
        ImportImageRequest { part: Some(Part::Chunk(Bytes::from(archive(seed)))) },
    ];
    with_store(registry, async |mut client| {
        client.import_image(tokio_stream::iter(parts)).await.unwrap().into_inner().image.unwrap()
    })
}

fn what_a_client_pushes_is_an_image_of_the_store(registry: &Registry) {
    let image = Image::new("pushed");
    image.push(registry, "app", "v1");
    image.push(registry, "ghcr.io/me/app", "v2");

    for name in ["app:v1", "docker.io/library/app:v1", "ghcr.io/me/app:v2"] {
        let stored = get(registry, name).unwrap();
        assert_eq!(stored.id, sha256(&image.config), "{name}");
    }
}

fn an_image_of_the_store_is_pulled_compressed_and_always_the_same(registry: &Registry) {
    let second = Registry::start(Kind::Ours);
    let mut digests = Vec::new();
    for registry in [registry, &second] {
        let stored = import(registry, "mine:v1", "one content");
        let answer = registry.get("/v2/mine/manifests/v1").expect(200);
        let manifest = answer.json();
        let layer = &manifest["layers"][0];
        assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
        let blob = registry.get(format!("/v2/mine/blobs/{}", layer["digest"].as_str().unwrap())).expect(200);
        assert_eq!(sha256(&blob.body), layer["digest"].as_str().unwrap());
        assert_eq!(blob.body.len() as u64, layer["size"].as_u64().unwrap());
        let config = registry.get(format!("/v2/mine/blobs/{}", stored.id)).expect(200);
        assert_eq!(sha256(&config.body), stored.id);
        // By digest, and again by tag.
        let digest = answer.must("docker-content-digest").to_owned();
        assert_eq!(digest, sha256(&answer.body));
        assert_eq!(registry.get(format!("/v2/mine/manifests/{digest}")).expect(200).body, answer.body);
        assert_eq!(registry.head("/v2/mine/manifests/v1").expect(200).must("docker-content-digest"), digest);
        digests.push(layer["digest"].as_str().unwrap().to_owned());
        assert_eq!(registry.get("/v2/mine/tags/list").expect(200).json()["tags"], serde_json::json!(["v1"]));
    }
    assert_eq!(digests[0], digests[1]);
    second.stop();
    // It is a stranger's own now: what was pulled is pushed under another name, and is the same image.
    let answer = registry.get("/v2/mine/manifests/v1").expect(200);
    for digest in [&digests[0], answer.json()["config"]["digest"].as_str().unwrap()] {
        registry.post(format!("/v2/theirs/blobs/uploads/?mount={digest}&from=mine")).expect(201);
    }
    put_manifest(registry, "theirs", "v1", answer.must("content-type"), &answer.body).expect(201);
    assert_eq!(get(registry, "theirs:v1").unwrap().id, get(registry, "mine:v1").unwrap().id);
}

fn a_tag_that_is_deleted_here_is_no_name_there(registry: &Registry) {
    let image = Image::new("deleted");
    image.push(registry, "app", "v1");
    import(registry, "mine:v1", "mine");
    get(registry, "app:v1").unwrap();

    registry.delete("/v2/app/manifests/v1").expect(202);
    let digest = registry.head("/v2/mine/manifests/v1").expect(200).must("docker-content-digest").to_owned();
    registry.delete(format!("/v2/mine/manifests/{digest}")).expect(202);

    for name in ["app:v1", "mine:v1"] {
        assert_eq!(get(registry, name).unwrap_err().code(), tonic::Code::NotFound, "{name}");
    }
    registry.get("/v2/mine/manifests/v1").expect(404);
    import(registry, "gone:v1", "gone");
    let request = DeleteImageRequest { reference: "gone:v1".to_owned(), ..Default::default() };
    with_store(registry, async |mut client| drop(client.delete_image(request).await.unwrap()));
    registry.get("/v2/gone/manifests/v1").expect(404);
}

fn an_image_of_the_store_is_found_under_its_short_and_its_full_name(registry: &Registry) {
    import(registry, "mine:v1", "short");
    import(registry, "registry.example:5000/team/app:v1", "with a port");

    let of = |target: &str| registry.get(target).expect(200).must("docker-content-digest").to_owned();
    let digest = of("/v2/mine/manifests/v1");
    assert_eq!(of("/v2/library/mine/manifests/v1"), digest);
    assert_eq!(of("/v2/docker.io/library/mine/manifests/v1"), digest);
    assert_eq!(of("/v2/library/mine/manifests/v1?ns=docker.io"), digest);
    assert_ne!(of("/v2/team/app/manifests/v1?ns=registry.example:5000"), digest);
    registry.get("/v2/team/app/manifests/v1").expect(404);
    assert_eq!(registry.get("/v2/_catalog").expect(200).json()["repositories"], serde_json::json!(["mine"]));
}

fn the_form_for_others_goes_when_no_name_leads_to_it(_: &Registry) {
    let settings = "garbage_grace_seconds = 0\ngarbage_delay_seconds = 0\n\
        [registry]\nunused_blob_seconds = 0\nupload_idle_seconds = 1\n";
    let registry = Registry::configured(settings);
    import(&registry, "mine:v1", "old");
    let manifest = registry.get("/v2/mine/manifests/v1").expect(200);
    let layer = manifest.json()["layers"][0]["digest"].as_str().unwrap().to_owned();
    let hex = layer.trim_start_matches("sha256:").to_owned();
    let file = registry.state().join("blobs/sha256").join(&hex[..2]).join(hex);
    assert!(file.exists());

    import(&registry, "mine:v1", "new");

    let is_gone = || !file.exists();
    strata_tests::eventually("the old layer is gone", std::time::Duration::from_secs(30), is_gone);
    registry.get(format!("/v2/mine/manifests/{}", sha256(&manifest.body))).expect(404);
    registry.get("/v2/mine/manifests/v1").expect(200);
    registry.stop();
}

fn a_pushed_name_is_removed_before_anybody_used_it(registry: &Registry) {
    let image = Image::new("never run");
    image.push(registry, "app", "v1");

    let request = DeleteImageRequest { reference: "app:v1".to_owned(), ..Default::default() };
    let removed = with_store(registry, async |mut client| client.delete_image(request).await.unwrap().into_inner());

    assert_eq!(removed.untagged, ["docker.io/library/app:v1"]);
    registry.get("/v2/app/manifests/v1").expect(404);
    // Whoever pushed it may still know it by its digest, until it is deleted, or forgotten.
    registry.get(format!("/v2/app/manifests/{}", image.digest())).expect(200);
}

fn what_is_here_is_found_by_a_search(registry: &Registry) {
    for (name, seed) in [("app", "one"), ("team/app", "two"), ("team/other", "three")] {
        Image::new(seed).push(registry, name, "v1");
    }
    let host = registry.address.to_string();
    let search = |term: &str| {
        let request = SearchRepositoriesRequest { registry: host.clone(), term: term.into(), ..Default::default() };
        with_channel(registry, async |channel| {
            let found = RegistryServiceClient::new(channel).search_repositories(request).await.unwrap().into_inner();
            found.repositories.into_iter().map(|found| found.name).collect::<Vec<_>>()
        })
    };

    assert_eq!(search("app"), [format!("{host}/app"), format!("{host}/team/app")]);
    assert_eq!(search("").len(), 3);
    assert!(search("elsewhere").is_empty());
}
