//! Claims about images: what they are made of, and Docker's rules for names.

use super::*;
use crate::fixture;

#[tokio::test]
async fn an_import_is_a_whole_oci_image() {
    let (_root, store) = fixture::store().await;

    let image = fixture::import(&store, "debian:bookworm", "x").await.unwrap();

    let manifest: Manifest = serde_json::from_slice(&blob::read(&store, &image.row.manifest).await.unwrap()).unwrap();
    let config: ImageConfig = serde_json::from_slice(&config_json(&store, &image.row).await.unwrap()).unwrap();
    assert_eq!(manifest.config.digest, image.row.id);
    assert_eq!(manifest.layers[0].digest, config.rootfs.diff_ids[0]);
    assert_eq!(config.history[0].comment.as_deref(), Some("Imported from -"));
    assert_eq!(image.row.names, ["docker.io/library/debian:bookworm"]);
    assert_eq!(image.layers[0].state, LayerState::Ready);
    assert!(store.catalog.leases("", 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_import_that_is_cut_off_leaves_nothing() {
    let (_root, store) = fixture::store().await;
    let mut archive = fixture::archive("file", &"x".repeat(5000));
    archive.truncate(1500);

    let refused = import(&store, Import::default(), std::io::Cursor::new(archive)).await;
    crate::gc::collect(&store, std::time::Duration::ZERO).await.unwrap();

    assert!(matches!(refused, Err(Error::Archive { .. })), "{refused:?}");
    assert_eq!(store.catalog.totals().await.unwrap(), [0; 4]);
    assert!(disk::names(&store.paths.layers()).unwrap().is_empty());
}

#[tokio::test]
async fn an_unknown_field_of_a_config_survives_and_the_same_parts_are_the_same_image() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;
    let layer = fixture::layer(&store, &lease, "x").await;

    let first = fixture::create(&store, &lease, std::slice::from_ref(&layer), &["a:1"]).await.unwrap();
    let second = fixture::create(&store, &lease, &[layer], &["b:1"]).await.unwrap();

    let json = config_json(&store, &first.row).await.unwrap();
    assert!(String::from_utf8(json).unwrap().contains(r#""x":1"#));
    assert_eq!(first.row.id, second.row.id);
    assert_eq!(second.row.names, ["docker.io/library/a:1", "docker.io/library/b:1"]);
}

#[tokio::test]
async fn an_image_that_is_made_again_is_there_whatever_became_of_it() {
    let (_root, store) = fixture::store().await;
    let lease = fixture::lease(&store, "l").await;
    let layer = fixture::layer(&store, &lease, "x").await;
    let make = || fixture::create(&store, &lease, std::slice::from_ref(&layer), &["a:1"]);
    let first = make().await.unwrap();
    fixture::import(&store, "other:1", "other").await.unwrap();

    let as_it_was = make().await.unwrap();
    tag(&store, "other:1", "a:1").await.unwrap();
    let without_its_name = make().await.unwrap();
    remove(&store, "a:1", true).await.unwrap();
    let removed = make().await.unwrap();

    for again in [as_it_was, without_its_name, removed] {
        assert_eq!((again.row.id, again.row.manifest), (first.row.id, first.row.manifest));
        assert_eq!(again.row.names, first.row.names);
    }
    assert_eq!(get(&store, "a:1", None).await.unwrap().row.id, first.row.id);
    assert!(make_with_an_ended_lease(&store, &layer).await.is_err(), "an image was held by nobody");
}

async fn make_with_an_ended_lease(store: &Arc<Store>, layer: &LayerId) -> Result<Image> {
    let lease = fixture::lease(store, "ended").await;
    store.catalog.delete_lease(&lease).await?;
    fixture::create(store, &lease, std::slice::from_ref(layer), &["a:1"]).await
}

#[tokio::test]
async fn an_image_is_found_by_name_id_and_prefix() {
    let (_root, store) = fixture::store().await;
    let image = fixture::import(&store, "debian", "x").await.unwrap().row;
    let hex = image.id.as_hex();

    for text in
        ["debian", "debian:latest", "docker.io/library/debian", &hex, &hex[..6], &format!("sha256:{}", &hex[..9])]
    {
        assert_eq!(get(&store, text, None).await.unwrap().row.id, image.id, "{text}");
    }
    let none = get(&store, "alpine", None).await;
    assert!(matches!(none, Err(Error::ImageNotFound { reference }) if reference == "alpine"));
}

#[tokio::test]
async fn a_prefix_of_several_ids_is_ambiguous() {
    let (_root, store) = fixture::store().await;
    let mut first_digits = std::collections::HashSet::new();
    let mut number = 0;
    // At most 17 images have two ids with the same first digit.
    let shared = loop {
        let image = fixture::import(&store, "a:1", &number.to_string()).await.unwrap().row;
        let digit = image.id.as_hex()[..1].to_owned();
        if !first_digits.insert(digit.clone()) {
            break digit;
        }
        number += 1;
    };

    let refused = get(&store, &format!("sha256:{shared}"), None).await;

    assert!(matches!(refused, Err(Error::ImageAmbiguous { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_name_that_moves_tells_whom_it_left() {
    let (_root, store) = fixture::store().await;
    let first = fixture::import(&store, "a:1", "one").await.unwrap().row;
    let second = fixture::import(&store, "b:1", "two").await.unwrap().row;

    let (tagged, previous) = tag(&store, "b:1", "a:1").await.unwrap();

    assert_eq!((tagged.id, previous), (second.id, Some(first.id)));
    assert!(get(&store, &first.id.to_string(), None).await.unwrap().row.names.is_empty());
    assert!(matches!(tag(&store, "b:1", "x@sha256:00").await, Err(Error::Invalid { .. })));
}

#[tokio::test]
async fn removal_follows_dockers_rules() {
    let (_root, store) = fixture::store().await;
    let image = fixture::import(&store, "a:1", "one").await.unwrap().row;
    tag(&store, "a:1", "b:1").await.unwrap();
    let id = image.id.as_hex();

    assert!(matches!(remove(&store, &id, false).await, Err(Error::ImageInUse { .. })));
    let untagged = remove(&store, "a:1", false).await.unwrap();
    assert_eq!((untagged.untagged.len(), untagged.deleted.len()), (1, 0));
    let key = strata_types::SnapshotKey::parse("container").unwrap();
    let new = crate::catalog::NewSnapshot {
        key: key.clone(),
        layer_ids: image.layers.clone(),
        image_id: Some(image.id),
        lease: None,
        durability: crate::catalog::Durability::Full,
    };
    store.catalog.prepare_snapshot(new).await.unwrap();
    assert!(matches!(remove(&store, "b:1", false).await, Err(Error::ImageInUse { .. })));
    store.catalog.acquire_snapshot(&key, "container").await.unwrap();
    assert!(matches!(remove(&store, "b:1", true).await, Err(Error::ImageInUse { .. })));
    store.catalog.release_snapshot(&key, "container").await.unwrap();
    store.catalog.remove_snapshot(&key, "").await.unwrap();
    let removed = remove(&store, "b:1", false).await.unwrap();
    assert_eq!(removed.deleted, [image.id]);
    assert!(matches!(remove(&store, "b:1", false).await, Err(Error::ImageNotFound { .. })));
}

#[tokio::test]
async fn what_arrives_is_waited_for_by_all_that_name_it_and_by_lists_once_a_container_has_it() {
    let (_root, store) = fixture::store().await;
    let image = fixture::import(&store, "here:1", "x").await.unwrap();
    let names = [Reference::parse("b:1").unwrap()];
    let announce = || arriving::Announced::new(&store, vec![image.clone()], &names, image.row.manifest);
    let for_container = async |is_volatile| get_for_container(&store, "b:1", Platforms::Host, None, is_volatile).await;

    let announced = announce();
    store.arriving.used_settled().await;
    assert_eq!(for_container(true).await.unwrap().row.id, image.row.id);
    let id = image.row.id.as_hex();
    let mut waits: Vec<futures_util::future::BoxFuture<'_, bool>> = vec![
        Box::pin(async { remove(&store, "b:1", false).await.is_err() }),
        Box::pin(async { tag(&store, "b:1", "c:1").await.is_err() }),
        Box::pin(async { get(&store, "b:1", None).await.is_err() }),
        Box::pin(async { get(&store, &id[..12], None).await.is_err() }),
        Box::pin(async { for_container(false).await.is_err() }),
        Box::pin(async {
            store.arriving.used_settled().await;
            false
        }),
    ];
    for wait in &mut waits {
        assert!(futures_util::poll!(wait).is_pending());
    }
    drop(announced);

    // It came to no good end: only the id is known, by what was here before.
    let refused = futures_util::future::join_all(waits).await;
    assert_eq!(refused, [true, true, true, false, true, false]);
}
