//! Claims about indexes that are made here: what they fetch, what a push sends of them. One store serves as the registry
//! of another.

use strata_image::{Format, layer_type};

use super::*;
use crate::remote::{Events, Form, Push, push};
use crate::{fixture, image};

/// A store that is a registry, and what it is called.
async fn registry() -> (tempfile::TempDir, Arc<Store>, String) {
    let (root, store) = fixture::store().await;
    let address = crate::serve::start(&store, Some("127.0.0.1:0"), None).await.unwrap().unwrap();
    (root, store, address.to_string())
}

fn name(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

async fn entries_of(store: &Arc<Store>, text: &str) -> Vec<Entry> {
    entries(store, text, Platforms::Host, &Identity::default()).await.unwrap()
}

fn index_of(entries: &[Entry]) -> Vec<u8> {
    let manifests: Vec<&Value> = entries.iter().map(|entry| &entry.json).collect();
    json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests }).to_string().into_bytes()
}

async fn send(store: &Arc<Store>, source: &str, to: &str, form: Option<Form>) -> Result<Descriptor> {
    let what = Push {
        reference: name(to),
        source: Some(name(source)),
        platform: None,
        compression: None,
        force: false,
        form,
        identity: Identity::default(),
    };
    push(store, what, &Events::channel().0).await.map(|pushed| pushed.target)
}

/// The document that a name of a store leads to, and its bytes.
async fn document_of(store: &Store, text: &str) -> (Descriptor, Value) {
    let row = store.catalog.target(&name(text)).await.unwrap().unwrap();
    let bytes = blob::read(store, &row.digest).await.unwrap();
    (row.descriptor(), serde_json::from_slice(&bytes).unwrap())
}

/// The compressed layer of an image that is at a registry.
async fn layer_of(store: &Arc<Store>, entry: &Entry) -> Descriptor {
    let (_, bytes) = document::read(store, &entry.descriptor.digest).await.unwrap();
    let parsed = Document::parse(bytes, &entry.descriptor.media_type, &Limits::default()).unwrap();
    let Kind::Manifest(manifest) = parsed.kind else { panic!("an entry of an image") };
    manifest.layers[0].descriptor.clone()
}

#[tokio::test]
async fn of_images_at_a_registry_documents_are_fetched_and_layers_mounted() {
    let (_there, at, host) = registry().await;
    fixture::import(&at, "docker.io/team/app:1", "content").await.unwrap();
    let (_root, store) = fixture::store().await;

    let found = entries_of(&store, &format!("{host}/team/app:1")).await;
    let list = format!("{host}/team/list:1");
    let kept = put(&store, &name(&list), index_of(&found), None).await.unwrap();
    let pushed = send(&store, &list, &list, None).await.unwrap();

    assert_eq!(found[0].json["platform"]["os"], "linux");
    let layer = layer_of(&store, &found[0]).await;
    assert!(matches!(store.catalog.blob(&layer.digest).await, Err(Error::BlobNotFound { .. })), "it was not needed");
    assert_eq!(pushed, kept, "what came from elsewhere goes as it came");
    assert_eq!(document_of(&at, "docker.io/team/list:1").await.0.digest, kept.digest);
    assert_eq!(registries(&store, &kept.digest).await.unwrap(), BTreeSet::from([host]));
}

#[tokio::test]
async fn a_registry_that_lacks_layers_gets_them_from_the_other_one() {
    let (_there, at, host) = registry().await;
    fixture::import(&at, "docker.io/team/app:1", "content").await.unwrap();
    let (_elsewhere, target, other) = registry().await;
    let (_root, store) = fixture::store().await;
    let found = entries_of(&store, &format!("{host}/team/app:1")).await;
    put(&store, &name("list:1"), index_of(&found), None).await.unwrap();

    let to = format!("{other}/copied:1");
    let pushed = send(&store, "list:1", &to, Some(Form::Docker)).await.unwrap();

    assert_eq!(pushed.media_type, media_type::DOCKER_INDEX);
    let (descriptor, index) = document_of(&target, "docker.io/library/copied:1").await;
    assert_eq!(descriptor, pushed);
    assert_eq!(index["manifests"][0]["mediaType"], media_type::DOCKER_MANIFEST);
    assert_eq!(index["manifests"][0]["platform"], found[0].json["platform"]);
    let layer = layer_of(&store, &found[0]).await;
    assert_eq!(target.catalog.blob(&layer.digest).await.unwrap().size, layer.size);
}

#[tokio::test]
async fn images_made_here_leave_a_list_with_compressed_layers() {
    let (_there, at, host) = registry().await;
    let (_root, store) = fixture::store().await;
    let image = fixture::import(&store, "app:1", "content").await.unwrap();
    let found = entries_of(&store, "app:1").await;
    let kept = put(&store, &name("list:1"), index_of(&found), None).await.unwrap();

    let pushed = send(&store, "list:1", &format!("{host}/list:1"), None).await.unwrap();

    assert_eq!(found[0].descriptor.digest, image.row.manifest);
    assert_ne!(pushed.digest, kept.digest);
    let (_, index) = document_of(&at, "docker.io/library/list:1").await;
    assert_eq!(index["manifests"][0]["platform"], found[0].json["platform"]);
    let child = Digest::parse(index["manifests"][0]["digest"].as_str().unwrap()).unwrap();
    let manifest: Value = serde_json::from_slice(&blob::read(&at, &child).await.unwrap()).unwrap();
    let layer = layer_type(manifest["layers"][0]["mediaType"].as_str().unwrap()).unwrap();
    assert_eq!(layer.compression, strata_archive::Compression::Gzip);
    let row = store.catalog.document(&image.row.manifest).await.unwrap();
    assert!(row.is_made_here, "listing an image does not change what it is");
    let alone = send(&store, "app:1", &format!("{host}/app:1"), None).await.unwrap();
    assert_eq!(alone.digest, child, "it is the same image alone and in a list");
}

#[tokio::test]
async fn our_registry_serves_lists_in_the_form_for_others() {
    let (_there, at, host) = registry().await;
    fixture::import(&at, "docker.io/team/app:1", "content").await.unwrap();
    let found = entries_of(&at, "team/app:1").await;
    let kept = put(&at, &name("team/list:1"), index_of(&found), None).await.unwrap();
    let (_root, store) = fixture::store().await;

    let got = entries(&store, &format!("{host}/team/list:1"), Platforms::All, &Identity::default()).await.unwrap();
    let alone = entries_of(&store, &format!("{host}/team/app:1")).await;

    assert_ne!(got[0].descriptor.digest, found[0].descriptor.digest, "nobody else knows uncompressed layers");
    assert_eq!(got[0].descriptor, alone[0].descriptor);
    assert_eq!(document_of(&at, "team/list:1").await.0, kept, "the list stays what it is here");
    let what = image::Save {
        references: vec!["team/list:1".to_owned()],
        platforms: Platforms::All,
        format: Format::OciLayout,
        compression: strata_archive::Compression::Gzip,
    };
    let saved = image::save(&at, what).await.unwrap();
    saved.end().await.unwrap();
}

#[tokio::test]
async fn a_list_that_somebody_else_changed_is_not_overwritten() {
    let (_root, store) = fixture::store().await;
    fixture::import(&store, "one:1", "one").await.unwrap();
    fixture::import(&store, "two:1", "two").await.unwrap();
    let (one, two) = (entries_of(&store, "one:1").await, entries_of(&store, "two:1").await);
    let list = name("list:1");
    let first = put(&store, &list, index_of(&one), Some(None)).await.unwrap();
    put(&store, &list, index_of(&two), Some(Some(first.digest))).await.unwrap();

    for stale in [None, Some(first.digest)] {
        let refused = put(&store, &list, index_of(&one), Some(stale)).await;

        assert!(matches!(refused, Err(Error::NameMoved { .. })), "{refused:?}");
    }
    let names = store.catalog.own_indexes("", 10).await.unwrap();
    assert_eq!(names.len(), 1);
    assert_eq!((names[0].0.as_str(), names[0].1.digest), ("docker.io/library/list:1", blob::digest(&index_of(&two))));
}

#[tokio::test]
async fn a_list_points_only_at_what_is_here_and_as_it_is() {
    let (_root, store) = fixture::store().await;
    fixture::import(&store, "one:1", "one").await.unwrap();
    let one = entries_of(&store, "one:1").await.remove(0);
    let changed = |field: &str, value: Value| {
        let mut entry = one.clone();
        entry.json[field] = value;
        index_of(&[entry])
    };
    for (what, bytes) in [
        ("another size", changed("size", 1.into())),
        ("another type", changed("mediaType", media_type::OCI_INDEX.into())),
        ("another digest", changed("digest", blob::digest(b"nowhere").to_string().into())),
        ("a manifest", blob::read(&store, &one.descriptor.digest).await.unwrap()),
        ("no document", b"[]".to_vec()),
    ] {
        assert!(put(&store, &name("list:1"), bytes, None).await.is_err(), "{what}");
    }
    assert_eq!(store.catalog.target(&name("list:1")).await.unwrap(), None);
}

#[tokio::test]
async fn a_list_whose_layers_are_gone_is_not_pushed_as_one_of_its_images() {
    let (_there, _at, host) = registry().await;
    let (_root, store) = fixture::store().await;
    fixture::import(&store, "one:1", "one").await.unwrap();
    let two = fixture::import(&store, "two:1", "two").await.unwrap();
    let all = [entries_of(&store, "one:1").await, entries_of(&store, "two:1").await].concat();
    put(&store, &name("list:1"), index_of(&all), None).await.unwrap();
    store.catalog.remove_image(image::Wanted::parse(&two.row.id.to_string()).unwrap(), true).await.unwrap();
    put(&store, &name("list:1"), index_of(&all), None).await.unwrap();
    for id in store.catalog.lease_ids().await.unwrap() {
        store.catalog.delete_lease(&LeaseId::parse(id).unwrap()).await.unwrap();
    }
    crate::gc::collect(&store, std::time::Duration::ZERO).await.unwrap();

    let refused = send(&store, "list:1", &format!("{host}/list:1"), None).await;

    assert!(matches!(refused, Err(Error::ImageIncomplete { .. })), "{refused:?}");
}
