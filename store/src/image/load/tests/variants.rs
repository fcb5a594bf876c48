//! Claims about single platforms of an image: what is removed of it, and what stays.

use strata_image::Error as ImageError;

use super::*;

/// An archive with one index over images for this host and for another machine, under this name.
fn archive(name: &str) -> Vec<u8> {
    let mut layout = Layout::default();
    let foreign = layout.image(FOREIGN, "foreign", Some(Codec::Gzip(1)));
    let own = layout.image(&host(), "own", Some(Codec::Gzip(1)));
    let index = layout.index(&[(&foreign, FOREIGN), (&own, &host())]);
    layout.tar(index, name)
}

fn platform(architecture: &str) -> Platform {
    Platform::parse(&format!("linux/{architecture}")).unwrap()
}

async fn remove(store: &Arc<Store>, name: &str, architectures: &[&str], force: bool) -> Result<(Vec<String>, usize)> {
    let platforms: Vec<Platform> = architectures.iter().map(|architecture| platform(architecture)).collect();
    let removed = image::remove_platforms(store, name, &platforms, force).await?;
    Ok((removed.untagged, removed.deleted.len()))
}

async fn has(store: &Arc<Store>, name: &str, architecture: &str) -> Result<image::Image> {
    image::get_on(store, name, Platforms::Only(platform(architecture)), None).await
}

#[tokio::test]
async fn a_platform_goes_with_its_content_and_the_others_stay_under_the_name() {
    let (_root, store) = fixture::store().await;
    let bytes = archive("multi:1");
    let target = load_all(&store, &bytes).await.unwrap()[0].target.digest;
    let foreign = has(&store, "multi:1", FOREIGN).await.unwrap().row;
    let before = store.catalog.totals().await.unwrap();

    assert_eq!(remove(&store, "multi:1", &[FOREIGN], false).await.unwrap(), (vec![], 1));
    gc::collect(&store, Duration::ZERO).await.unwrap();

    let gone = has(&store, "multi:1", FOREIGN).await;
    assert!(
        matches!(&gone, Err(Error::PlatformNotHere { available, .. }) if available == &[platform(&host())]),
        "{gone:?}"
    );
    for digest in [foreign.id, foreign.manifest] {
        assert!(store.catalog.blob(&digest).await.is_err(), "{digest}");
        assert!(!disk::exists(&store.paths.blob(&digest)), "{digest}");
    }
    let after = store.catalog.totals().await.unwrap();
    assert_eq!((after[1], after[2]), (before[1] - 1, before[2] - 1), "a layer and an image are gone");
    assert!(store.catalog.blob(&target).await.is_ok());
    assert_eq!(has(&store, "multi:1", &host()).await.unwrap().row.names, ["docker.io/library/multi:1"]);
    image::tag(&store, "multi:1", "copy:1").await.unwrap();
    let left = save(&store, &["multi:1"], Format::OciLayout, Platforms::All).await;
    let again = remove(&store, "multi:1", &[FOREIGN], true).await;
    assert!(matches!(again, Err(Error::Image(ImageError::NoPlatform { .. }))), "{again:?}");
    load_all(&store, &bytes).await.unwrap();
    assert_eq!(has(&store, "multi:1", FOREIGN).await.unwrap().row.id, foreign.id);
    image::remove(&store, "copy:1", true).await.unwrap();
    forget(&store, "multi:1").await;
    assert_eq!(load_all(&store, &left).await.unwrap()[0].target.digest, target);
}

#[tokio::test]
async fn what_was_never_unpacked_goes_too_and_the_name_with_the_last() {
    let (_root, store) = fixture::store().await;
    load_all(&store, &archive("multi:1")).await.unwrap();

    assert_eq!(remove(&store, "multi:1", &[FOREIGN], false).await.unwrap(), (vec![], 1));
    let untagged = vec!["docker.io/library/multi:1".to_owned()];
    assert_eq!(remove(&store, "multi:1", &[&host()], false).await.unwrap(), (untagged, 1));

    gc::collect(&store, Duration::ZERO).await.unwrap();
    assert_eq!(store.catalog.totals().await.unwrap(), [0; 4]);
}

#[tokio::test]
async fn nothing_goes_where_one_is_not_there_or_other_names_lead_there_too() {
    let (_root, store) = fixture::store().await;
    load_all(&store, &archive("multi:1")).await.unwrap();

    let absent = remove(&store, "multi:1", &[FOREIGN, "riscv64"], false).await;
    assert!(
        matches!(&absent, Err(Error::Image(ImageError::NoPlatform { wanted, available, .. }))
            if *wanted == platform("riscv64") && available.len() == 2),
        "{absent:?}"
    );
    image::tag(&store, "multi:1", "copy:1").await.unwrap();
    let shared = remove(&store, "multi:1", &[FOREIGN], false).await;
    assert!(matches!(&shared, Err(Error::ImageInUse { reason, .. }) if reason.contains("copy:1")), "{shared:?}");
    assert!(has(&store, "multi:1", FOREIGN).await.is_ok());
    let lease = fixture::lease(&store, "l").await;
    let only = Platforms::Only(platform(FOREIGN));
    image::get_on(&store, "multi:1", only, Some(lease.clone())).await.unwrap();
    let held = remove(&store, "multi:1", &[FOREIGN], true).await;
    assert!(matches!(&held, Err(Error::ImageInUse { .. })), "{held:?}");
    store.catalog.delete_lease(&lease).await.unwrap();

    assert_eq!(remove(&store, "multi:1", &[FOREIGN], true).await.unwrap(), (vec![], 1));

    assert!(has(&store, "copy:1", FOREIGN).await.is_err());
    assert!(has(&store, "copy:1", &host()).await.is_ok());
}
