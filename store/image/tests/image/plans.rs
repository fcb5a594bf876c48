//! Plans: what they take from documents, and what they refuse before anything is moved.

use serde_json::{Value, json};
use strata_image::{BlobKind, Codec, Error, Limits, Plan, Platforms, digest};
use strata_types::{Descriptor, Platform, media_type};

use crate::memory::{Memory, config, manifest, root, transfer};

fn plan(memory: &Memory, descriptor: &Descriptor, platforms: &Platforms) -> Result<Plan, Error> {
    Plan::new(memory, &[root(descriptor, &["a:1"])], platforms, &Limits::default())
}

fn only(platform: &str) -> Platforms {
    Platforms::Only(Platform::parse(platform).unwrap())
}

#[test]
fn blobs_stand_once_and_before_what_they_refer_to() {
    let mut memory = Memory::default();
    let layer = memory.layer("x", None);
    let amd64 = memory.image("linux/amd64", &[layer.clone(), layer.clone()]);
    let arm64 = memory.image("linux/arm64", &[layer]);
    let index = memory.index(&[(&amd64, "linux/amd64"), (&arm64, "linux/arm64"), (&amd64, "linux/amd64")]);

    let plan = plan(&memory, &index, &Platforms::All).unwrap();

    let kinds: Vec<_> = plan.blobs().iter().map(|blob| blob.kind).collect();
    use BlobKind::{Config, Index, Layer, Manifest};
    assert_eq!(kinds, [Index, Manifest, Manifest, Config, Config, Layer]);
    assert_eq!(plan.roots()[0].images.len(), 2);
}

#[test]
fn the_platform_is_found_in_nested_indexes_and_in_configs() {
    let mut memory = Memory::default();
    let layer = memory.layer("x", None);
    let v6 = memory.image("linux/arm/v6", std::slice::from_ref(&layer));
    let v7 = memory.image("linux/arm/v7", std::slice::from_ref(&layer));
    let inner = memory.index(&[(&v6, "linux/arm/v6"), (&v7, "")]);
    let index = memory.index(&[(&inner, "")]);

    let chosen = |platform| plan(&memory, &index, &only(platform)).map(|plan| plan.roots()[0].descriptor.digest);
    assert_eq!(chosen("linux/arm/v7").unwrap(), v7.digest);
    assert_eq!(chosen("linux/arm/v6").unwrap(), v6.digest);
    assert_eq!(chosen("linux/arm/v8").unwrap(), v7.digest);
    let refused = chosen("linux/amd64");
    assert!(matches!(&refused, Err(Error::NoPlatform { available, .. }) if available.len() == 2), "{refused:?}");
    assert!(refused.unwrap_err().to_string().contains("linux/arm/v6, linux/arm/v7"));
}

#[test]
fn inner_indexes_stand_behind_those_that_hold_them() {
    let mut memory = Memory::default();
    let image = memory.image("linux/amd64", &[]);
    let inner = memory.index(&[(&image, "linux/amd64")]);
    let outer = memory.index(&[(&inner, ""), (&image, "linux/amd64")]);
    // The inner one is a root as well, and so is a second that holds it: whichever comes first.
    let second = memory.index(&[(&inner, "")]);
    for roots in [[&inner, &outer, &second], [&second, &inner, &outer], [&outer, &second, &inner]] {
        let roots = roots.map(|descriptor| root(descriptor, &[]));
        let plan = Plan::new(&memory, &roots, &Platforms::All, &Limits::default()).unwrap();
        let position =
            |wanted: &Descriptor| plan.blobs().iter().position(|blob| blob.descriptor.digest == wanted.digest).unwrap();
        assert!(position(&outer) < position(&inner) && position(&second) < position(&inner));
        let mut copy = Memory::default();
        // It refuses what comes before what it refers to.
        transfer(&plan, &memory, &mut copy).unwrap();
        assert_eq!(copy, memory);
    }
}

#[test]
fn a_single_image_is_taken_unless_another_platform_was_asked_for() {
    let mut memory = Memory::default();
    let layer = memory.layer("x", None);
    let image = memory.image("linux/s390x", &[layer]);

    assert!(plan(&memory, &image, &Platforms::Host).is_ok());
    assert!(plan(&memory, &image, &only("linux/s390x")).is_ok());
    assert!(matches!(plan(&memory, &image, &only("linux/amd64")), Err(Error::NoPlatform { .. })));
}

/// CVE-2014-8178, row 57: layers are those that the config names, in its order.
#[test]
fn layers_that_are_not_those_of_the_config_are_refused() {
    let mut memory = Memory::default();
    let (one, two) = (memory.layer("one", None), memory.layer("two", None));
    let mut with = |config_layers: &[_], layers: &[_]| {
        let config = memory.put_json(media_type::OCI_CONFIG, &config("linux/amd64", config_layers));
        let image = memory.put_json(media_type::OCI_MANIFEST, &manifest(&config, layers));
        plan(&memory, &image, &Platforms::Host)
    };

    assert!(with(&[one.clone(), two.clone()], &[one.clone(), two.clone()]).is_ok());
    let fewer = with(&[one.clone(), two.clone()], std::slice::from_ref(&one));
    assert!(matches!(fewer, Err(Error::Document { .. })), "{fewer:?}");
    let swapped = with(&[two.clone(), one.clone()], &[one.clone(), two]);
    assert!(matches!(swapped, Err(Error::DigestMismatch { .. })), "{swapped:?}");
    let mut strange = one.clone();
    strange.0.media_type = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted".into();
    let encrypted = with(&[one], &[strange]);
    assert!(matches!(encrypted, Err(Error::LayerType { .. })), "{encrypted:?}");
}

#[test]
fn sizes_that_lie_are_found_before_anything_is_moved() {
    let mut memory = Memory::default();
    let mut layer = memory.layer("x", Some(Codec::Gzip(6)));
    layer.0.size += 1;
    let image = memory.image("linux/amd64", &[layer]);
    assert!(matches!(plan(&memory, &image, &Platforms::Host), Err(Error::SizeMismatch { .. })));

    let mut longer = memory.image("linux/amd64", &[]);
    longer.size += 1;
    assert!(matches!(plan(&memory, &longer, &Platforms::Host), Err(Error::SizeMismatch { .. })));
}

#[test]
fn missing_blobs_are_named_and_foreign_ones_may_be_missing() {
    let mut memory = Memory::default();
    let layer = memory.layer("x", Some(Codec::Gzip(6)));
    let image = memory.image("linux/amd64", std::slice::from_ref(&layer));
    memory.0.remove(&layer.0.digest);
    let refused = plan(&memory, &image, &Platforms::Host);
    assert!(matches!(refused, Err(Error::BlobMissing { digest, .. }) if digest == layer.0.digest));

    let mut foreign = layer;
    foreign.0.media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
    let image = memory.image("linux/amd64", &[foreign]);
    let plan = plan(&memory, &image, &Platforms::Host).unwrap();
    assert_eq!((plan.blobs().len(), plan.roots()[0].images[0].layers.len()), (2, 1));
}

/// CVE-2021-41190, row 72.
#[test]
fn a_blob_that_is_manifest_here_and_index_there_is_refused() {
    let mut memory = Memory::default();
    let image = memory.image("linux/amd64", &[]);
    let mut as_index = image.clone();
    as_index.media_type = media_type::OCI_INDEX.into();
    let index = memory.index(&[(&as_index, "")]);

    assert!(matches!(plan(&memory, &index, &Platforms::All), Err(Error::Confused { .. })));
}

#[test]
fn indexes_that_are_too_deep_are_refused_and_shared_ones_are_entered_once() {
    let mut memory = Memory::default();
    let mut inner = memory.image("linux/amd64", &[]);
    let mut depths = vec![];
    for _ in 0..6 {
        // Twice each: without care the walk would double with every level.
        inner = memory.index(&[(&inner, ""), (&inner, "")]);
        depths.push(inner.clone());
    }
    for platforms in [Platforms::All, only("linux/amd64")] {
        assert!(plan(&memory, &depths[3], &platforms).is_ok());
        let refused = plan(&memory, &depths[4], &platforms);
        assert!(matches!(refused, Err(Error::Limit { unit: "levels of indexes", .. })), "{refused:?}");
    }
}

/// CVE-2014-8179, row 58: a document is what its digest says.
#[test]
fn an_index_that_holds_itself_ends() {
    // Only a source that lies can have one: its digest cannot be right.
    let mut memory = Memory::default();
    let digest = digest(b"no document has this");
    let text = |size| {
        let entry = json!({"mediaType": media_type::OCI_INDEX, "digest": digest, "size": size});
        json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry]}).to_string()
    };
    let size = text(100).len();
    memory.0.insert(digest, text(size).into_bytes());
    let own = Descriptor::new(media_type::OCI_INDEX, digest, size as u64);
    assert!(matches!(plan(&memory, &own, &Platforms::All), Err(Error::DigestMismatch { .. })));
}

/// CVE-2023-25153, row 74.
#[test]
fn documents_beyond_the_limits_are_refused_by_what_is_announced() {
    let mut memory = Memory::default();
    let image = memory.image("linux/amd64", &[]);
    // 100 MB are announced and never read: the source does not even have them.
    let huge = Descriptor::new(media_type::OCI_MANIFEST, image.digest, 100 << 20);
    assert!(matches!(plan(&memory, &huge, &Platforms::Host), Err(Error::Limit { unit: "bytes", .. })));

    let config = Descriptor::new(media_type::OCI_CONFIG, digest(b"config"), 2 << 30);
    let image = memory.put_json(media_type::OCI_MANIFEST, &manifest(&config, &[]));
    assert!(matches!(plan(&memory, &image, &Platforms::Host), Err(Error::Limit { unit: "bytes", .. })));

    let image = memory.image("linux/amd64", &[]);
    let limits = Limits { max_documents: image.size, ..Limits::default() };
    let refused = Plan::new(&memory, &[root(&image, &[])], &Platforms::Host, &limits);
    assert!(matches!(refused, Err(Error::Limit { .. })), "{refused:?}");
}

#[test]
fn an_index_without_images_is_an_error_and_not_an_empty_success() {
    let mut memory = Memory::default();
    let empty = memory.index(&[]);
    assert!(matches!(plan(&memory, &empty, &Platforms::All), Err(Error::NoImage { .. })));
    assert!(matches!(plan(&memory, &empty, &Platforms::Host), Err(Error::NoPlatform { .. })));
    let document: Value = serde_json::from_slice(&memory.0[&empty.digest]).unwrap();
    assert_eq!(document["manifests"], json!([]));
}
